//! Seeded lives of a group: members come, go, die and hang, requests and replies are lost, late and
//! doubled, the coordinator restarts and loses what was not committed.
//!
//! Checked all the way: what [`Oracle`] lists, that the log gives the core back, that every request
//! is waiting or has been answered. At the end the faults stop, and the group must come to rest with
//! every partition read by exactly one member.
//!
//! `SAWLOG_GROUP_SEEDS` sets how many seeds are tried and `SAWLOG_GROUP_FIRST_SEED` which is the first;
//! `SAWLOG_GROUP_SEED` tries one. Seeds 0 to 59,999 were lived through on 2026-11-21
//! (`SAWLOG_GROUP_SEEDS=60000 cargo test -p sawlog-broker --lib coordinator::tests::model`, in parts).

mod clients;
mod oracle;
mod world;

use crate::base::seeds::Suite;
use oracle::Totals;
use world::World;

const SUITE: Suite<Totals> =
    Suite { name: "SAWLOG_GROUP", seeds: 2_000, kept: &[], live: |seed, _| World::new(seed).run() };

#[test]
fn groups_keep_their_promises_through_restarts_and_losses() {
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
fn every_planted_bug_of_groups_is_found() {
    SUITE.must_find(crate::base::planted::Bug::GROUPS, 2_000);
}
