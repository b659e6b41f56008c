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
//! `SAWLOG_WORLD_SEEDS` sets how many seeds are tried, from `SAWLOG_WORLD_FIRST_SEED` on;
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

use oracle::Totals;
use sim::World;

use crate::base::seeds::Suite;

const SUITE: Suite<Totals> = Suite { name: "SAWLOG_WORLD", seeds: 2_000, kept: &[], live };

fn live(seed: u64, is_telling: bool) -> Totals {
    let mut world = World::new(seed);
    if is_telling {
        println!("{:?}", world.weather);
    }
    world.is_telling = is_telling;
    world.run()
}

#[test]
fn acknowledged_records_survive_whatever_brokers_disks_and_networks_do() {
    SUITE.run();
}

#[test]
fn one_seed_gives_one_history() {
    for seed in 0..20 {
        assert_eq!(World::new(seed).run(), World::new(seed).run(), "seed {seed}");
    }
}
