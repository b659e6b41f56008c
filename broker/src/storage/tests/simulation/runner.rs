//! Runs many seeds on all processors, and those that have failed before.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::*;
use crate::base::seeds::setting;

/// Seeds run by default; others with `SAWLOG_STORAGE_SEEDS`, from `SAWLOG_STORAGE_FIRST_SEED` on.
const SEEDS: u64 = 5_000;

/// Seeds that have failed once.
const KEPT: &str = include_str!("../seeds");

/// Failing seeds that are named before a run gives up.
const FAILURES_MAX: usize = 10;

/// Runs `seeds` on all processors; returns those that failed. `prepare` runs once in each thread.
pub(super) fn failing(
    seeds: std::ops::Range<u64>,
    failures_max: usize,
    prepare: impl Fn() + Sync,
    run: impl Fn(u64) + Sync,
) -> Vec<u64> {
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                prepare();
                while failed.lock().len() < failures_max {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    if catch_unwind(AssertUnwindSafe(|| run(seed))).is_err() {
                        failed.lock().push(seed);
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner();
    failed.sort_unstable();
    failed
}

#[test]
fn acknowledged_batches_survive_a_fault_at_any_disk_operation() {
    let first = setting("SAWLOG_STORAGE_FIRST_SEED").unwrap_or(0);
    let count = setting("SAWLOG_STORAGE_SEEDS").unwrap_or(SEEDS);
    let failed = failing(first..first + count, FAILURES_MAX, || {}, |seed| drop(simulate(seed)));
    assert_eq!(
        failed,
        Vec::<u64>::new(),
        "fix them, and keep them in broker/src/storage/tests/seeds"
    );
}

#[test]
fn seeds_that_have_failed_once_do_not_fail_again() {
    for line in KEPT.lines() {
        let seed = line.split('#').next().unwrap_or_default().trim();
        if !seed.is_empty() {
            simulate(seed.parse().expect("a seed a line, and what it found behind a #"));
        }
    }
}
