//! The simulator against itself: rules taken away one at a time, which it must find.

use super::tests::SUITE;
use super::{GROUP_BUGS, live};
use crate::base::seeds::planted::{Bug, missed, seeds};

/// Seeds tried for each bug.
const SEEDS_MAX: u64 = 200;

/// Rules that need a rarer accident than the gate has time for. Looked for only in longer runs; the
/// smaller worlds of `replication/tests` find the first two every time.
const RARE: &[Bug] = &[
    Bug::IgnoreBrokerEpoch,
    Bug::KeepEmptyEpochs,
    Bug::ForgetEpochOfCut,
    Bug::CountFlushOfBefore,
    Bug::AcceptStaleAlter,
    Bug::BelieveOneRefusal,
    Bug::UseOldAnswers,
    Bug::ForgetEligible,
    Bug::TakeDamaged,
];

#[test]
fn every_planted_bug_of_a_cluster_is_found() {
    let seeds = seeds(SUITE.name, SEEDS_MAX);
    let all = Bug::REPLICATION.iter().chain(Bug::CLUSTER).copied();
    let bugs: Vec<Bug> = all.filter(|bug| !RARE.contains(bug)).collect();
    assert!(bugs.len() >= 20, "{} are looked for", bugs.len());
    SUITE.must_find(&bugs, SEEDS_MAX);
    if seeds > SEEDS_MAX {
        let candidates: Vec<u64> = (0..seeds).collect();
        let missed = missed(RARE, &candidates, |seed| {
            let _totals = live(seed, false);
        });
        println!("rare ones that were not found: {missed:?}");
    }
}

#[test]
fn every_planted_bug_of_a_coordinator_is_found() {
    SUITE.must_find(GROUP_BUGS, SEEDS_MAX);
}
