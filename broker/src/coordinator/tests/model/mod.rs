//! Seeded lives of a group: members come, go, die and hang, requests and replies are lost, late and
//! doubled, the coordinator restarts and loses what was not committed.
//!
//! Checked all the way: what [`Oracle`] lists, that the log gives the core back, that every request
//! is waiting or has been answered. At the end the faults stop, and the group must come to rest with
//! every partition read by exactly one member.
//!
//! `SAWLOG_GROUP_SEEDS` sets how many seeds are tried, `SAWLOG_GROUP_SEED` tries one.

mod clients;
mod oracle;
#[cfg(feature = "planted-bugs")]
mod planted;
mod world;

use world::World;

/// Seeds in the gate.
const SEEDS: u64 = 2_000;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn lives(seeds: impl Iterator<Item = u64>) -> oracle::Totals {
    let mut totals = oracle::Totals::default();
    for seed in seeds {
        let lived = std::panic::catch_unwind(|| World::new(seed).run());
        totals.add(&lived.unwrap_or_else(|_| panic!("SAWLOG_GROUP_SEED={seed} shows it again")));
    }
    totals
}

#[test]
fn groups_keep_their_promises_through_restarts_and_losses() {
    if let Some(seed) = setting("SAWLOG_GROUP_SEED") {
        World::new(seed).run();
        return;
    }
    let seeds = setting("SAWLOG_GROUP_SEEDS").unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let threads = u64::try_from(threads).unwrap();
    let totals = std::thread::scope(|scope| {
        let share =
            |thread| move || lives((thread..seeds).step_by(usize::try_from(threads).unwrap()));
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(share(thread))).collect();
        let mut totals = oracle::Totals::default();
        for thread in running {
            totals.add(&thread.join().expect("no promise is broken"));
        }
        totals
    });
    println!("{seeds} seeds: {totals:?}");
    assert!(totals.is_telling(seeds), "too little happened: {totals:?}");
}

#[test]
fn one_seed_gives_one_history() {
    for seed in 0..20 {
        assert_eq!(World::new(seed).run(), World::new(seed).run(), "seed {seed}");
    }
}
