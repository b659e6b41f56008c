//! The suite against itself: each rule taken away, which it must find.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::setting;
use super::sim::World;
use crate::base::planted::{Bug, switch};

/// Seeds tried for each bug; others with `SAWLOG_PLANTED_SEEDS`.
const SEEDS_MAX: u64 = 4_000;

/// The first seed that shows `bug`.
fn seeds_to_detect(bug: Bug, seeds: u64) -> Option<u64> {
    (0..seeds).find(|seed| {
        switch(Some(bug));
        let found = catch_unwind(AssertUnwindSafe(|| World::new(*seed).run())).is_err();
        switch(None);
        found
    })
}

#[test]
fn every_planted_bug_of_replication_is_found() {
    let seeds = setting("SAWLOG_PLANTED_SEEDS").unwrap_or(SEEDS_MAX);
    // The findings themselves are of no interest, and many.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    let mut table = String::from("bug: seeds until it was found\n");
    for bug in Bug::REPLICATION {
        match seeds_to_detect(*bug, seeds) {
            Some(seed) => table.push_str(&format!("  {bug:?}: {}\n", seed + 1)),
            None => missed.push(bug),
        }
    }
    for bug in Bug::IMPLIED {
        let found = seeds_to_detect(*bug, seeds / 20);
        table.push_str(&format!("  {bug:?}, which other rules imply: {found:?}\n"));
    }
    drop(std::panic::take_hook());
    println!("{table}");
    assert!(missed.is_empty(), "not found in {seeds} seeds: {missed:?}");
}
