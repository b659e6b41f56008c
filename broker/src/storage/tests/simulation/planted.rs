//! The suite against itself: bugs put in on purpose, each of which it must find.

use super::*;
use crate::base::seeds::planted::{Bug, missed, seeds};

/// Seeds tried for each bug.
const SEEDS_MAX: u64 = 5_000;

#[test]
fn every_planted_bug_is_found() {
    let candidates: Vec<u64> = (0..seeds("SAWLOG_STORAGE", SEEDS_MAX)).collect();
    let missed = missed(Bug::ALL, &candidates, |seed| drop(simulate(seed)));
    assert!(missed.is_empty(), "not found: {missed:?}");
}
