//! What a seed chooses: how large the world is, and what goes wrong in it.

use crate::base::disk_sim::SimRandom;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Kill,
    PowerCut,
    PowerCutOfAll,
    Wipe,
    Damage,
    /// A log fails under a running process, which says so.
    Fail,
    Partition,
    Isolate,
    Hang,
    Pause,
    ControllerFailover,
    Shutdown,
    Reassign,
}

/// All of them, some several times: those that are common.
const FAULTS: [Fault; 16] = [
    Fault::Kill,
    Fault::Kill,
    Fault::PowerCut,
    Fault::PowerCut,
    Fault::PowerCutOfAll,
    Fault::Wipe,
    Fault::Damage,
    Fault::Fail,
    Fault::Partition,
    Fault::Isolate,
    Fault::Isolate,
    Fault::Hang,
    Fault::Pause,
    Fault::ControllerFailover,
    Fault::Shutdown,
    Fault::Reassign,
];

/// Times are in microseconds, chances in thousandths.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    pub(super) nodes: usize,
    pub(super) replicas: usize,
    pub(super) min_in_sync: usize,
    pub(super) partitions: usize,
    /// Nobody waits for disks, and none loses power.
    pub(super) lazy: bool,
    pub(super) clients: usize,
    pub(super) write_every: u64,
    pub(super) faults: Vec<Fault>,
    pub(super) fault_every: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    /// Chance that a message takes long, and how long then.
    pub(super) late: u64,
    pub(super) late_max: u64,
    pub(super) flush_max: u64,
    pub(super) metadata_max: u64,
    /// How long a broker that died stays away.
    pub(super) away_max: u64,
}

impl Weather {
    pub(super) fn of(random: &mut SimRandom) -> Self {
        let nodes = 3 + usize::try_from(random.below(3)).unwrap();
        let wide = nodes == 5 && random.below(3) == 0;
        let lazy = random.below(10) == 0;
        let mut one_of = |choices: &[u64]| {
            choices[usize::try_from(random.below(choices.len().try_into().unwrap())).unwrap()]
        };
        let mut weather = Self {
            nodes,
            replicas: if wide { 5 } else { 3 },
            min_in_sync: if wide { 3 } else { 2 },
            partitions: usize::try_from(one_of(&[1, 1, 1, 2])).unwrap(),
            lazy,
            clients: usize::try_from(one_of(&[1, 2, 2, 3])).unwrap(),
            write_every: one_of(&[50_000, 100_000, 200_000]),
            faults: Vec::new(),
            fault_every: one_of(&[150_000, 300_000, 600_000, 1_200_000]),
            lost: one_of(&[0, 0, 5, 50]),
            doubled: one_of(&[0, 5, 50]),
            late: one_of(&[0, 10, 50, 200]),
            late_max: one_of(&[5_000, 50_000, 500_000, 3_000_000]),
            flush_max: one_of(&[2_000, 10_000, 100_000]),
            metadata_max: one_of(&[5_000, 50_000, 500_000, 2_000_000]),
            away_max: one_of(&[100_000, 1_000_000, 4_000_000]),
        };
        for fault in FAULTS {
            let harmless = !matches!(
                fault,
                Fault::PowerCut | Fault::PowerCutOfAll | Fault::Wipe | Fault::Damage
            );
            if random.below(3) > 0 && (harmless || !lazy) {
                weather.faults.push(fault);
            }
        }
        weather
    }

    /// Nothing goes wrong any more.
    pub(super) fn clear_up(&mut self) {
        (self.lost, self.doubled, self.late) = (0, 0, 0);
        self.flush_max = self.flush_max.min(10_000);
        self.metadata_max = self.metadata_max.min(50_000);
        self.faults.clear();
    }
}
