//! The simulation against itself: bugs put in on purpose, each of which it must find.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::simulation::{setting, simulate};
use crate::base::planted::{Bug, switch};

/// Seeds tried for each bug; others with `SAWLOG_PLANTED_SEEDS`.
const SEEDS_MAX: u64 = 5_000;

#[test]
#[allow(clippy::print_stdout, reason = "how long each took to find is worth knowing")]
fn every_planted_bug_of_compaction_is_found() {
    let seeds = setting("SAWLOG_PLANTED_SEEDS").unwrap_or(SEEDS_MAX);
    let mut missed = Vec::new();
    let mut table = String::from("bug of compaction: seeds until it was found\n");
    for bug in Bug::COMPACTION {
        let found = (0..seeds).find(|seed| {
            switch(Some(*bug));
            let found = catch_unwind(AssertUnwindSafe(|| simulate(*seed))).is_err();
            switch(None);
            found
        });
        match found {
            Some(seed) => table.push_str(&format!("  {bug:?}: {}\n", seed + 1)),
            None => missed.push(bug),
        }
    }
    println!("{table}");
    assert!(missed.is_empty(), "not found in {seeds} seeds: {missed:?}");
}
