//! What a seed chooses: how large the world is, and what goes wrong in it.

use super::members::Crew;
use super::net::Lines;
use super::process::Pace;
use super::quorum::Manners;
use crate::base::disk_sim::SimRandom;

/// Sets apart what is drawn for clients that commit offsets.
const COMMITTERS: u64 = 0x0000_6772_6f75_7073;

/// Sets apart what is drawn for who deletes records.
const DELETIONS: u64 = 0x6465_6c65_7469_6f6e;

/// Something that goes wrong, or is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A process is gone.
    Kill,
    /// A machine loses power.
    PowerCut,
    /// All machines do.
    PowerCutOfAll,
    /// A machine gets a new disk.
    Wipe,
    /// Two groups do not hear each other, or one not the other.
    Part,
    /// One broker hears nobody.
    Isolate,
    /// A disk does nothing for a while.
    Hang,
    /// A process does nothing for a while.
    Pause,
    /// Another node leads the metadata log.
    Depose,
    /// A sync fails, and with it a data directory.
    FailSync,
    /// A wall clock jumps.
    ClockJump,
    /// A broker is stopped in good order, and started again.
    Shutdown,
    /// Replicas move.
    Reassign,
    /// What moves is cancelled.
    Cancel,
    /// Preferred leaders are put back.
    Elect,
    /// A topic is deleted, and made again.
    Recreate,
    /// Settings of a topic change.
    Configure,
    /// A broker that was not there before joins.
    Join,
}

/// All of them, some several times: those that are common.
const FAULTS: [Fault; 22] = [
    Fault::Kill,
    Fault::Kill,
    Fault::PowerCut,
    Fault::PowerCut,
    Fault::PowerCutOfAll,
    Fault::Wipe,
    Fault::Part,
    Fault::Part,
    Fault::Isolate,
    Fault::Isolate,
    Fault::Hang,
    Fault::Pause,
    Fault::Depose,
    Fault::FailSync,
    Fault::ClockJump,
    Fault::Shutdown,
    Fault::Reassign,
    Fault::Cancel,
    Fault::Elect,
    Fault::Recreate,
    Fault::Configure,
    Fault::Join,
];

/// A topic of a world.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    pub(super) partitions: i32,
    pub(super) replicas: i16,
    /// None for the default.
    pub(super) min_in_sync: Option<i16>,
    pub(super) is_os: bool,
}

/// Times are in milliseconds.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    pub(super) brokers: i32,
    pub(super) voters: usize,
    pub(super) topics: Vec<Subject>,
    pub(super) producers: u32,
    /// Groups that offsets are committed for.
    pub(super) committers: u64,
    /// A group with members.
    pub(super) crew: Option<Crew>,
    /// Somebody deletes records, and does it by this.
    pub(super) deletions: Option<u64>,
    pub(super) write_every: u64,
    pub(super) faults: Vec<Fault>,
    pub(super) fault_every: u64,
    pub(super) away_max: u64,
    pub(super) lines: Lines,
    pub(super) pace: Pace,
    pub(super) manners: Manners,
}

impl Weather {
    pub(super) fn of(random: &mut SimRandom) -> Self {
        let mut one_of = |choices: &[u64]| {
            let count = u64::try_from(choices.len()).unwrap_or(1);
            let at = usize::try_from(random.below(count)).unwrap_or(0);
            choices.get(at).copied().unwrap_or(0)
        };
        let brokers = i32::try_from(one_of(&[3, 3, 3, 4, 5])).unwrap_or(3);
        let is_kind_to_disks = one_of(&[0, 0, 0, 0, 0, 0, 0, 1]) == 1;
        let topics = (0..one_of(&[1, 1, 2]))
            .map(|_| {
                let replicas = i16::try_from(one_of(&[3, 3, 3, 3, 2, 1])).unwrap_or(3);
                Subject {
                    partitions: i32::try_from(one_of(&[1, 1, 2, 3])).unwrap_or(1),
                    replicas,
                    min_in_sync: (replicas == 3 && one_of(&[0, 1]) == 1).then_some(2),
                    is_os: is_kind_to_disks && one_of(&[0, 1]) == 1,
                }
            })
            .collect();
        let mut weather = Self {
            brokers,
            voters: if brokers == 5 && one_of(&[0, 1]) == 1 { 5 } else { 3 },
            topics,
            producers: u32::try_from(one_of(&[2, 3, 4])).unwrap_or(2),
            committers: 0,
            crew: None,
            deletions: None,
            write_every: one_of(&[20, 50, 100]),
            faults: Vec::new(),
            fault_every: one_of(&[300, 600, 1200, 2400]),
            away_max: one_of(&[100, 1000, 4000]),
            lines: Lines {
                delay: (0, one_of(&[1, 2, 5, 20])),
                late: one_of(&[0, 5, 20, 100]),
                late_max: one_of(&[20, 100, 500, 3000]),
                lost: one_of(&[0, 0, 2, 20]),
            },
            pace: Pace {
                gather: (0, 1),
                sync: (0, one_of(&[1, 4, 20, 100])),
                decide: (0, one_of(&[1, 5, 50])),
                hiccup: (one_of(&[0, 1]) == 1)
                    .then_some((one_of(&[20, 200]), one_of(&[100, 1000]))),
            },
            manners: Manners {
                lag: (0, one_of(&[2, 20, 200, 1500])),
                election: one_of(&[300, 1000]),
                deposed: one_of(&[0, 5, 50]),
                snapshot_every: one_of(&[10, 40, 1000]),
            },
        };
        for fault in FAULTS {
            let is_harmless = !matches!(
                fault,
                Fault::PowerCut | Fault::PowerCutOfAll | Fault::Wipe | Fault::FailSync
            );
            if random.below(3) > 0 && (is_harmless || !is_kind_to_disks) {
                weather.faults.push(fault);
            }
        }
        weather
    }

    /// What came into worlds later is drawn on its own: who has a seed of before has its world, but for
    /// what was added.
    pub(super) fn add_later(&mut self, seed: u64) {
        self.committers = SimRandom::new(seed ^ COMMITTERS).below(3);
        self.crew = Crew::of(seed);
        let mut random = SimRandom::new(seed ^ DELETIONS);
        let deletes = self.crew.is_none() && random.below(2) == 0;
        self.deletions = deletes.then(|| random.bits());
    }

    /// Nothing goes wrong any more.
    pub(super) fn clear_up(&mut self) {
        (self.lines.late, self.lines.lost) = (0, 0);
        self.lines.delay.1 = self.lines.delay.1.min(5);
        self.pace.hiccup = None;
        self.pace.sync.1 = self.pace.sync.1.min(10);
        self.manners.deposed = 0;
        self.manners.lag.1 = self.manners.lag.1.min(50);
        self.faults.clear();
    }
}
