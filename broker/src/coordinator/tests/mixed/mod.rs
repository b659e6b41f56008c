//! Seeded lives of a group whose members speak either protocol: they come, go, die, hang, move from
//! one protocol to the other; requests and replies are lost and late, topics grow, the coordinator
//! restarts and loses what was not committed, assignments take their time.
//!
//! Checked all the way (RELIABILITY P12): no partition is read by two members at once, commits never
//! take a partition back and never come from a stale epoch, epochs do not fall, the log gives the core
//! back, every request is answered or waits. At the end the faults stop, and every partition must be
//! read by exactly one member; `classic::Unseen` tells the one exception, which Apache Kafka has, too.
//!
//! The network is one of connections: the requests of a process arrive in the order they were sent,
//! and none after a newer one. The consumer protocol relies on that: its heartbeats have no numbers.
//!
//! `SAWLOG_MIXED_SEEDS` sets how many seeds are tried, `SAWLOG_MIXED_SEED` tries one, and with
//! `SAWLOG_MIXED_TRACE` it tells all that happens.

mod classic;
mod client;
#[cfg(feature = "planted-bugs")]
mod planted;
mod watch;
mod world;

use std::panic::catch_unwind;

use watch::Totals;
use world::World;

/// Seeds in the gate.
const SEEDS: u64 = 2_000;

/// Seeds beyond these that once failed.
const KEPT: [u64; 1] = [9_858];

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn lives(seeds: impl Iterator<Item = u64>) -> Totals {
    let mut totals = Totals::default();
    for seed in seeds {
        let lived = catch_unwind(|| World::new(seed).run());
        totals.add(&lived.unwrap_or_else(|_| panic!("SAWLOG_MIXED_SEED={seed} shows it again")));
    }
    totals
}

#[test]
fn members_of_both_protocols_never_read_a_partition_at_once() {
    if let Some(seed) = setting("SAWLOG_MIXED_SEED") {
        World::new(seed).run();
        return;
    }
    let seeds = setting("SAWLOG_MIXED_SEEDS").unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let totals = std::thread::scope(|scope| {
        let first = |thread: usize| u64::try_from(thread).unwrap();
        let share = |thread| move || lives((first(thread)..seeds).step_by(threads));
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(share(thread))).collect();
        let mut totals = Totals::default();
        for thread in running {
            totals.add(&thread.join().expect("no promise is broken"));
        }
        totals
    });
    lives(KEPT.into_iter());
    println!("{seeds} seeds: {totals:?}");
    assert!(totals.is_telling(seeds), "too little happened: {totals:?}");
}

#[test]
fn one_seed_gives_one_history() {
    for seed in 0..20 {
        assert_eq!(World::new(seed).run(), World::new(seed).run(), "seed {seed}");
    }
}
