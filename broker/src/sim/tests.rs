//! Seeds among the tests.

use super::world::World;
use super::{Totals, history, live};
use crate::base::seeds::{self, Suite};

/// The gate lives through many more with `sawlog-sim run`.
pub(super) const SUITE: Suite<Totals> = Suite { name: "SAWLOG_SIM", seeds: 60, kept: &[], live };

impl seeds::Totals for Totals {
    fn add(&mut self, other: &Self) {
        Self::add(self, other);
    }

    fn is_telling(&self, seeds: u64) -> bool {
        seeds < 100 || Self::is_telling(self, seeds)
    }
}

#[test]
fn clusters_keep_their_promises_whatever_machines_disks_and_networks_do() {
    SUITE.run();
}

#[test]
fn one_seed_gives_one_history() {
    for seed in 0..5 {
        assert_eq!(live(seed, false), live(seed, false), "seed {seed}");
    }
}

/// Seeds whose worlds have shown something once, when they were plain, and what.
const SHOWN: [(u64, &str); 9] = [
    (5178, "a broker alone led, committed what it had and left, between two looks"),
    (7641, "as 5178, with more than one topic"),
    (8348, "as 5178, after a power cut"),
    (7086, "a partition's directory made again lost what was synced in it with the one before"),
    (55651, "as 7086"),
    (
        24564,
        "a write behind a lost one to the same sector survived a power cut, which no disk does",
    ),
    (
        8243,
        "a replica nobody counted on followed a leader of the past, and was said to cut too much",
    ),
    (25035, "no session ended while somebody asked the controller more often than it looked"),
    (79795, "an epoch that was led without a write had a replica cut what is committed"),
];

#[test]
fn seeds_that_have_shown_something_once_do_not_show_it_again() {
    for (seed, what) in SHOWN {
        let (lived, _) = history(|| World::plain(seed, false));
        assert_eq!(lived.err(), None, "seed {seed}, which has shown: {what}");
    }
}

#[test]
fn nothing_is_left_of_a_world() {
    for seed in 0..8 {
        assert_eq!(history(|| World::new(seed, false)).1, 0, "something of seed {seed} is left");
    }
}
