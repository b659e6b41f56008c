//! The simulator against itself: rules taken away one at a time, which it must find.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use super::live;
use super::tests::setting;
use crate::base::planted::{Bug, switch};

/// Seeds tried for each bug; others with `SAWLOG_SIM_PLANTED_SEEDS`.
const SEEDS_MAX: u64 = 200;

/// Rules that need a rarer accident than the gate has time for. Looked for only in longer runs; the
/// smaller worlds of `replication/tests` find the first two every time.
const RARE: &[Bug] = &[
    Bug::IgnoreBrokerEpoch,
    Bug::KeepEmptyEpochs,
    Bug::ForgetEpochOfCut,
    Bug::KeepProducersOfTail,
    Bug::CountFlushOfBefore,
    Bug::AcceptStaleAlter,
    Bug::UseOldAnswers,
    Bug::ForgetToSettle,
    Bug::ForgetEligible,
];

/// The first seed that shows `bug`; all threads look for it.
fn seeds_to_detect(bug: Bug, seeds: u64) -> Option<u64> {
    let (next, found) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let look = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds || found.load(Ordering::Relaxed) < seed {
            return;
        }
        switch(Some(bug));
        let violated = catch_unwind(AssertUnwindSafe(|| live(seed, false))).is_err();
        switch(None);
        if violated {
            found.fetch_min(seed, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |count| count.get()) {
            scope.spawn(look);
        }
    });
    Some(found.into_inner()).filter(|seed| *seed < u64::MAX)
}

#[test]
fn every_planted_bug_of_a_cluster_is_found() {
    let seeds = setting("SAWLOG_SIM_PLANTED_SEEDS").unwrap_or(SEEDS_MAX);
    // The findings themselves are of no interest, and many.
    std::panic::set_hook(Box::new(|_| {}));
    let (mut missed, mut count) = (Vec::new(), 0);
    let mut table = String::from("bug: seeds until it was found\n");
    for bug in Bug::REPLICATION.iter().chain(Bug::CLUSTER) {
        if RARE.contains(bug) && seeds <= SEEDS_MAX {
            continue;
        }
        match seeds_to_detect(*bug, seeds) {
            Some(seed) => {
                count += 1;
                table.push_str(&format!("  {bug:?}: {}\n", seed + 1));
            }
            None if RARE.contains(bug) => table.push_str(&format!("  {bug:?}: not in {seeds}\n")),
            None => missed.push(bug),
        }
    }
    drop(std::panic::take_hook());
    println!("{table}");
    assert!(missed.is_empty(), "not found in {seeds} seeds: {missed:?}");
    assert!(count >= 20, "{count} found");
}
