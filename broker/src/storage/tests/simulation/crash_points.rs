//! Small histories, with a crash at every operation of the disk.

use std::sync::atomic::{AtomicU64, Ordering};

use super::runner::failing;
use super::*;
use crate::base::seeds::setting;

/// Histories run by default; others with `SAWLOG_STORAGE_HISTORIES`.
const HISTORIES: u64 = 40;

/// Operations on the log in one history.
const STEPS: u64 = 40;

/// More operations of the disk than a history has.
const CRASH_POINTS_MAX: u64 = 10_000;

/// Lives the history, loses power at the operation `at` of the disk, and looks. False if the
/// history was over before.
fn crash_at(history: u64, at: u64) -> bool {
    let weather = Weather { lazy: history.is_multiple_of(4), lies: false, rots: false };
    let disk = disk();
    let open = |disk: &SimDisk| {
        try_open(disk).unwrap_or_else(|error| panic!("history {history} at {at}: {error}"))
    };
    let state = (SimRandom::new(history), Model::default());
    let mut life = Life::begin((history, 0), weather, &disk, state, open(&disk));
    disk.plan(at, Fault::Crash);
    life.run(STEPS);
    let crashed = disk.has_crashed();
    disk.fill_up(false);
    let Life { random, model, .. } = life;
    // The first start loses power too, and the second finds what both have left.
    let disk = disk.restart(history ^ at);
    disk.plan(1 + at % 5, Fault::Crash);
    drop(try_open(&disk));
    let disk = disk.restart(at);
    Life::begin((history, 1), weather, &disk, (random, model), open(&disk));
    crashed
}

#[test]
fn a_crash_at_every_disk_operation_of_small_histories_loses_nothing_acknowledged() {
    let histories = setting("SAWLOG_STORAGE_HISTORIES").unwrap_or(HISTORIES);
    let points = AtomicU64::new(0);
    let failed = failing(
        0..histories,
        1,
        || {},
        |history| {
            let crashes = (1..CRASH_POINTS_MAX).take_while(|at| crash_at(history, *at)).count();
            points.fetch_add(u64::try_from(crashes).unwrap(), Ordering::Relaxed);
        },
    );
    assert_eq!(failed, Vec::<u64>::new());
    let points = points.into_inner();
    assert!(points > histories * 30, "{points} crash points in {histories} histories");
}
