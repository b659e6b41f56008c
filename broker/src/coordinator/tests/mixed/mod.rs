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
//! `SAWLOG_MIXED_SEEDS` sets how many seeds are tried and `SAWLOG_MIXED_FIRST_SEED` which is the first;
//! `SAWLOG_MIXED_SEED` tries one, and with `SAWLOG_MIXED_TRACE` it tells all that happens. Seeds 0 to 59,999
//! were lived through on 2026-11-21 (`SAWLOG_MIXED_SEEDS=60000 cargo test -p sawlog-broker --lib
//! coordinator::tests::mixed`, in parts).

mod classic;
mod client;
mod watch;
mod world;

use crate::base::seeds::Suite;
use watch::Totals;
use world::World;

const SUITE: Suite<Totals> = Suite {
    name: "SAWLOG_MIXED",
    seeds: 2_000,
    kept: &[9_858, 25_203],
    live: |seed, _| World::new(seed).run(),
};

#[test]
fn members_of_both_protocols_never_read_a_partition_at_once() {
    SUITE.run();
}

#[test]
fn one_seed_gives_one_history() {
    for seed in 0..20 {
        assert_eq!(World::new(seed).run(), World::new(seed).run(), "seed {seed}");
    }
}

#[cfg(feature = "planted-bugs")]
#[test]
fn every_planted_bug_of_consumer_groups_is_found() {
    SUITE.must_find(crate::base::planted::Bug::CONSUMER_GROUPS, 1_500);
}
