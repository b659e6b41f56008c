//! One compaction, with the power gone at every one of its disk operations.

use super::history::History;
use super::*;
use crate::base::disk_sim::{Fault, SimRandom};

/// How the disk is left by each crash.
const OUTCOMES: u64 = 3;

/// A log of several segments, everything in it durable, and its history.
fn written(seed: u64) -> (SimDisk, Opened, History) {
    let disk = disk();
    let mut opened = open(&disk);
    let mut random = SimRandom::new(seed);
    let mut history = History::default();
    for n in 0..50 {
        let draft = history.draft(&mut random, n);
        let base = opened.append(&draft.bytes).unwrap();
        history.wrote(&draft, base.0);
        if n % 12 == 11 {
            opened.roll();
        }
    }
    opened.flush().unwrap();
    (disk, opened, history)
}

fn pass(opened: &mut Opened, history: &mut History, now: i64) -> Result<(), CompactionError> {
    history.passed(opened.log.durable_end().0, now);
    opened.compact(options(now, 1 << 20)).map(|_| ())
}

#[test]
fn a_crash_at_any_operation_of_a_pass_loses_nothing_and_leaves_nothing_behind() {
    for seed in 0..3 {
        let (disk, mut opened, mut history) = written(seed);
        let before = disk.operations();
        pass(&mut opened, &mut history, 0).unwrap();
        let operations = disk.operations() - before;
        // What a pass leaves after a start, which takes no segment for active.
        let (disk, opened, mut history) = written(seed);
        drop(opened);
        let mut opened = open(&disk.restart(0));
        opened.flush().unwrap();
        pass(&mut opened, &mut history, 0).unwrap();
        let expected = seen(&opened);
        assert!(operations > 15, "{operations}");
        for at in 1..=operations {
            for outcome in 0..OUTCOMES {
                let (disk, mut opened, mut history) = written(seed);
                disk.plan(at, Fault::Crash);
                let end = opened.log.log_end();
                pass(&mut opened, &mut history, 0).unwrap_err();
                drop(opened);
                let disk = disk.restart(outcome);
                let mut opened = open(&disk);
                let id = seed * 1_000_000 + at * 1000 + outcome;
                assert_eq!(opened.log.log_end(), end, "{id}");
                assert!(opened.log.quarantined().is_empty(), "{id}");
                history.check(&opened, 0, id);
                let names = disk.list(Path::new(DIRECTORY)).unwrap();
                let litter = [".cleaned", ".swap", ".tmp"];
                let left = names.iter().find(|name| litter.iter().any(|end| name.ends_with(end)));
                assert_eq!(left, None, "{id}");
                // And the next pass ends where the first would have.
                opened.flush().unwrap();
                pass(&mut opened, &mut history, 0).unwrap();
                assert_eq!(seen(&opened), expected, "{id}");
            }
        }
    }
}

#[test]
fn a_crash_while_a_start_finishes_a_swap_is_finished_by_the_next() {
    let (disk, mut opened, mut history) = written(1);
    // After the replacement is complete, before the log has its place: of all operations those at
    // which a `.swap` is there.
    let before = disk.operations();
    pass(&mut opened, &mut history, 0).unwrap();
    let operations = disk.operations() - before;
    let mut swaps = 0;
    for at in 1..=operations {
        let (disk, mut opened, mut history) = written(1);
        disk.plan(at, Fault::Crash);
        pass(&mut opened, &mut history, 0).unwrap_err();
        drop(opened);
        let disk = disk.restart(at);
        let names = disk.list(Path::new(DIRECTORY)).unwrap();
        if !names.iter().any(|name| name.ends_with(".swap")) {
            continue;
        }
        swaps += 1;
        for again in 1..12 {
            let disk = disk.restart(0);
            disk.plan(again, Fault::Crash);
            let _failed = try_open(&disk);
            let opened = open(&disk.restart(again));
            history.check(&opened, 0, at * 100 + again);
        }
    }
    assert!(swaps > 3, "{swaps}");
}

#[test]
fn a_failed_operation_of_a_swap_is_final_and_the_next_start_sorts_it_out() {
    for at in 1..60 {
        let (disk, mut opened, mut history) = written(2);
        disk.plan(at, Fault::Io);
        let end = opened.log.log_end();
        let failed = pass(&mut opened, &mut history, 0).is_err();
        disk.cancel_plan();
        history.check(&opened, 0, at);
        drop(opened);
        let opened = open(&disk.restart(at));
        assert_eq!(opened.log.log_end(), end, "operation {at}, failed {failed}");
        history.check(&opened, 0, at);
    }
}

#[test]
fn a_damaged_replacement_is_reported_and_nothing_removed_for_it() {
    let (disk, mut opened, mut history) = written(1);
    let before = disk.operations();
    pass(&mut opened, &mut history, 0).unwrap();
    let operations = disk.operations() - before;
    for at in 1..=operations {
        let (disk, mut opened, mut history) = written(1);
        disk.plan(at, Fault::Crash);
        pass(&mut opened, &mut history, 0).unwrap_err();
        drop(opened);
        let disk = disk.restart(at);
        let names = disk.list(Path::new(DIRECTORY)).unwrap();
        let Some(swap) = names.iter().find(|name| name.ends_with(".swap")) else { continue };
        disk.flip_bit(&Path::new(DIRECTORY).join(swap), 40, 1);
        let error = try_open(&disk).err().expect("the replacement is damaged");
        assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
        assert_eq!(disk.list(Path::new(DIRECTORY)).unwrap(), names);
        return;
    }
    panic!("no crash left a replacement");
}

/// The records a consumer sees.
fn seen(opened: &Opened) -> Vec<Record> {
    let batches = opened.batches().into_iter().filter(|(header, _)| !header.is_control());
    batches.flat_map(|(_, records)| records).collect()
}
