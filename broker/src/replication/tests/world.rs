//! Seeded worlds of three to five brokers: the real cores, the real decisions of the controller, and
//! between them a network, disks and processes that do what they do at their worst.
//!
//! Messages are lost, late, doubled and overtake each other; processes are killed, paused and shut
//! down in order; power fails on one broker or on all, disks are replaced, hang, or lose what they
//! had confirmed; metadata lags, the controller fails over, replicas move. Idempotent producers
//! write with acks=all all the while, and one without a care with acks=1. What must hold is checked
//! after every step ([`oracle`]); then everything comes back, and the world must come to rest with
//! all replicas in sync and equal.
//!
//! Not here: the brokers' logs are models, not files, and the metadata log is one that all agree on.
//!
//! `SAWLOG_WORLD_SEEDS` sets how many seeds are tried, from `SAWLOG_WORLD_FIRST` on;
//! `SAWLOG_WORLD_SEED` tries one and tells what happens.

mod broker;
mod clients;
mod controller;
mod disk;
mod event;
mod faults;
mod node;
mod oracle;
#[cfg(feature = "planted-bugs")]
mod planted;
mod sim;
mod weather;

use std::time::Instant;

use oracle::Totals;
use sim::World;

/// Seeds in the gate.
const SEEDS: u64 = 2_000;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn lives(seeds: impl Iterator<Item = u64>) -> Totals {
    let mut totals = Totals::default();
    for seed in seeds {
        let lived = std::panic::catch_unwind(|| World::new(seed).run());
        totals.add(&lived.unwrap_or_else(|_| panic!("SAWLOG_WORLD_SEED={seed} shows it again")));
    }
    totals
}

#[test]
fn acknowledged_records_survive_whatever_brokers_disks_and_networks_do() {
    if let Some(seed) = setting("SAWLOG_WORLD_SEED") {
        let mut world = World::new(seed);
        world.is_telling = true;
        println!("{:?}", world.weather);
        println!("{:?}", world.run());
        return;
    }
    let first = setting("SAWLOG_WORLD_FIRST").unwrap_or(0);
    let seeds = setting("SAWLOG_WORLD_SEEDS").unwrap_or(SEEDS);
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
    assert!(seeds < 500 || totals.is_telling(seeds), "too little happened: {totals:?}");
}

#[test]
fn one_seed_gives_one_history() {
    for seed in 0..20 {
        assert_eq!(World::new(seed).run(), World::new(seed).run(), "seed {seed}");
    }
}
