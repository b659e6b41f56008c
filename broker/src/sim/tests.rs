//! Seeds among the tests.

use std::time::Instant;

use super::world::World;
use super::{Totals, history, live};

/// Seeds among the tests; the gate lives through many more with `sawlog-sim run`.
const SEEDS: u64 = 60;

pub(super) fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn lives(seeds: impl Iterator<Item = u64>) -> Totals {
    let mut totals = Totals::default();
    for seed in seeds {
        let lived = std::panic::catch_unwind(|| live(seed, false));
        totals.add(&lived.unwrap_or_else(|_| panic!("SAWLOG_SIM_SEED={seed} shows it again")));
    }
    totals
}

#[test]
fn clusters_keep_their_promises_whatever_machines_disks_and_networks_do() {
    if let Some(seed) = setting("SAWLOG_SIM_SEED") {
        println!("{:?}", live(seed, true));
        return;
    }
    let first = setting("SAWLOG_SIM_FIRST").unwrap_or(0);
    let seeds = setting("SAWLOG_SIM_SEEDS").unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let started = Instant::now();
    let totals = std::thread::scope(|scope| {
        let share = |thread: usize| {
            let start = first + u64::try_from(thread).unwrap();
            move || lives((start..first + seeds).step_by(threads))
        };
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(share(thread))).collect();
        let mut totals = Totals::default();
        for thread in running {
            totals.add(&thread.join().expect("every promise is kept"));
        }
        totals
    });
    let per_hour = seeds as f64 * 3600.0 / started.elapsed().as_secs_f64();
    println!("{seeds} seeds, {per_hour:.0} an hour: {totals:?}");
    assert!(seeds < 100 || totals.is_telling(seeds), "too little happened: {totals:?}");
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
    for seed in 0..5 {
        assert_eq!(history(|| World::new(seed, false)).1, 0, "processes of seed {seed} are left");
    }
}
