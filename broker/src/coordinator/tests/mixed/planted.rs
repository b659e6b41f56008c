//! The suite against itself: bugs put in on purpose, each of which it must find.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::setting;
use super::world::World;
use crate::base::planted::{Bug, switch};

/// Seeds tried for each bug; others with `SAWLOG_PLANTED_SEEDS`.
const SEEDS_MAX: u64 = 1_500;

#[test]
fn every_planted_bug_of_consumer_groups_is_found() {
    let seeds = setting("SAWLOG_PLANTED_SEEDS").unwrap_or(SEEDS_MAX);
    // The findings themselves are of no interest, and many.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    let mut table = String::from("bug: seeds until it was found\n");
    for bug in Bug::CONSUMER_GROUPS {
        let found = (0..seeds).find(|seed| {
            switch(Some(*bug));
            let found = catch_unwind(AssertUnwindSafe(|| World::new(*seed).run())).is_err();
            switch(None);
            found
        });
        match found {
            Some(seed) => table.push_str(&format!("  {bug:?}: {}\n", seed + 1)),
            None => missed.push(bug),
        }
    }
    drop(std::panic::take_hook());
    println!("{table}");
    assert!(missed.is_empty(), "not found in {seeds} seeds: {missed:?}");
}
