//! Seeded lives of a log on a disk that loses power, fails, fills up and lies, against a model.
//!
//! After every life the log is opened again, and must hold what was acknowledged byte for byte,
//! what was not at most as a prefix, and producer state and epochs as a recomputation has them.
//! Where the disk has lied, what is served must still be what was written.
//!
//! A seed that has failed once is kept in `seeds`, next to this, and run every time.

mod crash_points;
mod cut;
mod life;
mod medium;
mod model;
#[cfg(feature = "planted-bugs")]
mod planted;
mod runner;

use life::Life;
use medium::Medium;
use model::Model;

use super::*;
use crate::base::disk::{Create, read_whole};
use crate::base::disk_sim::SimRandom;
use crate::storage::checkpoint::{CheckpointStore, Found};
use crate::storage::{FlushTicket, RecoveryReport, Sequence, StorageError};

/// Lives of one log.
const LIVES: i32 = 5;

/// Of this many seeds one has a disk that rots. By its number, not by its first random one: the
/// lives of all others stay what they were.
const ROTS_ONE_IN: u64 = 8;

/// What a seed chooses for all of its lives.
#[derive(Clone, Copy)]
struct Weather {
    /// Nobody waits for the disk.
    lazy: bool,
    /// The disk may lie.
    lies: bool,
    /// It does: records that were written lose bits between lives, and so do their index files, so
    /// that the start has to read them.
    rots: bool,
}

impl Weather {
    fn of(seed: u64, random: &mut SimRandom) -> Self {
        let (lazy, lies) = (random.below(4) == 0, random.below(3) == 0);
        let rots = seed % ROTS_ONE_IN == 2;
        Self { lazy, lies: lies || rots, rots }
    }
}

/// Some lives of one log. Returns what there is to tell two runs apart.
fn simulate(seed: u64) -> String {
    let mut random = SimRandom::new(seed);
    let mut disk = disk();
    let mut model = Model::default();
    let mut trace = String::new();
    let weather = Weather::of(seed, &mut random);
    let mut killed = false;
    for epoch in 0..LIVES {
        let (opened, restarted) = open_after_faults(seed, &mut disk, &mut random, &mut model.media);
        let cut_short = std::mem::take(&mut model.cut_short);
        if killed && !restarted && !cut_short {
            // kill -9: what was written is in the page cache, also what is not so on the medium.
            model.acknowledged = model.end;
        } else if disk.lies() > model.lies_read {
            (model.unread_lies, model.lies_read) = (true, disk.lies());
        }
        let Some(opened) = opened else {
            // Two lies at once, and nothing to say where the log ends.
            assert!(disk.has_lied(), "seed {seed}: not opened");
            return trace;
        };
        let life = Life::begin((seed, epoch), weather, &disk, (random, model), opened);
        (random, model) = live(life);
        // Also after a failed write or sync: the page cache shows more than the disk has.
        killed = random.below(4) == 0 && !disk.has_crashed();
        trace.push_str(&format!("{} {} {killed};", model.end, disk.operations()));
        if !killed {
            disk = disk.restart(random.bits());
        }
        if weather.lies && random.below(3) == 0 {
            decay(&disk, &mut random);
            model.unread_lies = true;
        }
        if weather.rots && random.below(2) == 0 {
            rot(&disk, &mut random);
            model.unread_lies = true;
        }
    }
    // The last look.
    model.unread_lies |= disk.has_lied();
    if let (Some(opened), _) = open_after_faults(seed, &mut disk, &mut random, &mut model.media) {
        let life = Life::begin((seed, LIVES), weather, &disk, (random, model), opened);
        delete(life);
    }
    trace
}

/// One life, with one fault in it.
fn live(mut life: Life) -> (SimRandom, Model) {
    let mut faults =
        vec![Fault::Crash, Fault::Crash, Fault::Crash, Fault::Io, Fault::NoSpace, Fault::Full];
    if life.weather.lies {
        faults.extend([Fault::Lost, Fault::Lost, Fault::Misdirected, Fault::Misdirected]);
    }
    let which = life.random.bits() % u64::try_from(faults.len()).unwrap();
    life.disk.plan(1 + life.random.below(120), faults[usize::try_from(which).unwrap()]);
    life.run(100);
    life.disk.fill_up(false);
    life.disk.slow_down(0);
    // Found on a full disk, and lost with the power: it has to be found again.
    life.model.unread_lies |= !life.log.is_quarantine_written();
    let close = life.ticket.is_none() && life.random.below(4) == 0;
    let Life { log, producers, epochs, mut model, random, disk, .. } = life;
    if close && super::close(&disk, log, (&producers, &epochs)).is_ok() {
        model.acknowledged = model.end;
    }
    disk.cancel_plan();
    (random, model)
}

/// Opens the log, which may need several attempts: the power goes again, or a read fails. Returns
/// also whether it went.
fn open_after_faults(
    seed: u64,
    disk: &mut SimDisk,
    random: &mut SimRandom,
    media: &mut Vec<Medium>,
) -> (Option<Recovered>, bool) {
    let mut restarted = false;
    let mut look = |disk: &SimDisk| disk.has_lied().then(|| media.push(Medium::of(disk)));
    for _ in 0..random.below(3) {
        look(disk);
        if random.below(2) == 0 {
            disk.plan(1 + random.below(12), Fault::Crash);
        } else {
            disk.plan_read(1 + random.below(8));
        }
        match try_open(disk) {
            Ok(opened) if !disk.has_crashed() => {
                disk.cancel_plan();
                return (Some(opened), restarted);
            }
            Ok(_) => {}
            Err(StorageError::Corrupt { .. }) => {}
            Err(error) => assert!(matches!(error, StorageError::Io { .. }), "seed {seed}: {error}"),
        }
        disk.cancel_plan();
        *disk = disk.restart(random.bits());
        restarted = true;
    }
    look(disk);
    match try_open(disk) {
        Ok(opened) => (Some(opened), restarted),
        Err(error) => {
            let shared: Arc<dyn Disk> = Arc::new(disk.clone());
            let found = CheckpointStore::load(shared, Path::new(DIRECTORY)).map(|(_, found)| found);
            let lost = matches!(found, Ok(Found::Damaged | Found::Nothing));
            assert!(lost, "seed {seed}: the checkpoint is there, and still: {error}");
            (None, restarted)
        }
    }
}

/// Something on the medium is no longer what it was.
fn decay(disk: &SimDisk, random: &mut SimRandom) {
    let names = disk.list(Path::new(DIRECTORY)).unwrap_or_default();
    if names.is_empty() {
        return;
    }
    let which = random.bits() % u64::try_from(names.len()).unwrap();
    let name = &names[usize::try_from(which).unwrap()];
    let path = Path::new(DIRECTORY).join(name);
    let length = disk.open(&path, Create::Never).and_then(|file| file.len()).unwrap_or(0);
    if name.ends_with("index") && random.below(2) == 0 {
        // As a preallocated index has after a crash.
        disk.zero_from(&path, usize::try_from(random.below(length.min(70))).unwrap());
    } else {
        disk.flip_bit(&path, usize::try_from(random.below(length)).unwrap(), 6);
    }
}

/// A bit that was written is no longer what it was, and the index of its segment may be gone, too.
fn rot(disk: &SimDisk, random: &mut SimRandom) {
    let names = disk.list(Path::new(DIRECTORY)).unwrap_or_default();
    let segments: Vec<&String> = names.iter().filter(|name| name.ends_with(".log")).collect();
    let which = random.bits() % u64::try_from(segments.len().max(1)).unwrap();
    let Some(name) = segments.get(usize::try_from(which).unwrap()) else { return };
    let path = Path::new(DIRECTORY).join(name);
    let bytes = read_whole(disk, &path, 1 << 30).ok().flatten().unwrap_or_default();
    let Some(last) = bytes.iter().rposition(|byte| *byte != 0) else { return };
    let byte = random.below(u64::try_from(last + 1).unwrap());
    let bit = u8::try_from(random.below(8)).unwrap();
    disk.flip_bit(&path, usize::try_from(byte).unwrap(), bit);
    if random.below(2) == 0 {
        disk.zero_from(&path.with_extension("index"), 0);
    }
}

/// A deleted log is gone, or, after a crash, there as it was.
fn delete(life: Life) {
    let Life { seed, epoch, mut weather, mut random, disk, model, log, .. } = life;
    if disk.has_lied() {
        return;
    }
    if random.below(2) == 0 {
        disk.plan(1 + random.below(4), Fault::Crash);
    }
    let deleted = log.delete().is_ok();
    disk.cancel_plan();
    assert!(!deleted || !disk.exists(Path::new(DIRECTORY)), "seed {seed}: deleted and there");
    let disk = disk.restart(random.bits());
    if disk.exists(Path::new(DIRECTORY)) {
        let opened = try_open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        weather.lazy = true;
        Life::begin((seed, epoch + 1), weather, &disk, (random, model), opened);
    }
}

#[test]
fn a_seed_run_twice_does_the_same() {
    for seed in 0..50 {
        assert_eq!(simulate(seed), simulate(seed));
    }
}
