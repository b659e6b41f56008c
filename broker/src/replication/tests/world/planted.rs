//! The suite against itself: each rule taken away, which it must find.

use super::{SUITE, live};
use crate::base::seeds::planted::{Bug, missed, seeds};

/// Seeds tried for each bug.
const SEEDS_MAX: u64 = 4_000;

#[test]
fn every_planted_bug_of_replication_is_found() {
    SUITE.must_find(Bug::REPLICATION, SEEDS_MAX);
    // Other rules imply these: with all of those in force they show by chance, or never.
    let candidates: Vec<u64> = (0..seeds(SUITE.name, SEEDS_MAX) / 20).collect();
    let implied = missed(Bug::IMPLIED, &candidates, |seed| {
        let _totals = live(seed, false);
    });
    println!("not found, which other rules imply: {implied:?}");
}
