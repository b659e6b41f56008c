//! Tests that live through many seeds: which ones, on all processors, and with bugs put in on purpose.
//!
//! `NAME_SEEDS` in the environment says how many seeds of a suite are tried, `NAME_FIRST_SEED` where they begin;
//! with `NAME_SEED` it is one alone, which tells what happens where it can. `NAME_PLANTED_SEEDS` says how
//! many are tried for each planted bug.

use std::fmt::Debug;
use std::panic::catch_unwind;
use std::time::Instant;

/// A number in the environment.
pub(crate) fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How much happened in some lives.
pub(crate) trait Totals: Default + Debug + Send {
    fn add(&mut self, other: &Self);

    /// Whether each kind of thing has happened, and often enough to mean something.
    fn is_telling(&self, seeds: u64) -> bool;
}

/// Seeded lives of one kind.
pub(crate) struct Suite<T> {
    pub(crate) name: &'static str,
    /// How many seeds are tried unless it is said otherwise.
    pub(crate) seeds: u64,
    /// Seeds beyond these that once failed.
    pub(crate) kept: &'static [u64],
    /// Lives through a seed, and tells of it if it is to. Panics where a promise is broken.
    pub(crate) live: fn(u64, bool) -> T,
}

impl<T: Totals> Suite<T> {
    /// Tries all seeds.
    pub(crate) fn run(&self) {
        if let Some(seed) = self.setting("SEED") {
            println!("{:?}", (self.live)(seed, true));
            return;
        }
        let count = self.setting("SEEDS").unwrap_or(self.seeds);
        let first = self.setting("FIRST_SEED").unwrap_or(0);
        let started = Instant::now();
        let totals = self.live_on_all_processors(first, count);
        let per_hour = count as f64 * 3600.0 / started.elapsed().as_secs_f64();
        self.lives(self.kept.iter().copied());
        println!("{count} seeds from {first} on, {per_hour:.0} an hour: {totals:?}");
        assert!(totals.is_telling(count), "too little happened: {totals:?}");
    }

    fn live_on_all_processors(&self, first: u64, count: u64) -> T {
        let threads = processors();
        let share = |thread: usize| {
            let from = first + u64::try_from(thread).unwrap();
            move || self.lives((from..first + count).step_by(threads))
        };
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|thread| scope.spawn(share(thread))).collect();
            let mut totals = T::default();
            for thread in running {
                totals.add(&thread.join().expect("no promise is broken"));
            }
            totals
        })
    }

    fn lives(&self, seeds: impl Iterator<Item = u64>) -> T {
        let (name, live) = (self.name, self.live);
        let mut totals = T::default();
        for seed in seeds {
            let lived = catch_unwind(|| live(seed, false));
            totals.add(&lived.unwrap_or_else(|_| panic!("{name}_SEED={seed} shows it again")));
        }
        totals
    }

    fn setting(&self, what: &str) -> Option<u64> {
        setting(&format!("{}_{what}", self.name))
    }

    /// The suite against itself: each of these bugs must show in a kept seed or one of the first `most`.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn must_find(&self, bugs: &[planted::Bug], most: u64) {
        let seeds = planted::seeds(self.name, most);
        let candidates: Vec<u64> = self.kept.iter().copied().chain(0..seeds).collect();
        let missed = planted::missed(bugs, &candidates, |seed| drop((self.live)(seed, false)));
        assert!(missed.is_empty(), "not found in {seeds} seeds: {missed:?}");
    }
}

/// Bugs put in on purpose, and the seeds that show them.
#[cfg(feature = "planted-bugs")]
pub(crate) mod planted {
    use std::panic::AssertUnwindSafe;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    pub(crate) use crate::base::planted::Bug;
    use crate::base::planted::switch;

    /// How many seeds are tried for a bug.
    pub(crate) fn seeds(suite: &str, most: u64) -> u64 {
        setting(&format!("{suite}_PLANTED_SEEDS")).unwrap_or(most)
    }

    /// The bugs that none of these seeds shows, where `live` panics if something is wrong. Prints the first
    /// seed that shows each of the others.
    pub(crate) fn missed(bugs: &[Bug], seeds: &[u64], live: impl Fn(u64) + Sync) -> Vec<Bug> {
        // The findings themselves are of no interest, and many.
        std::panic::set_hook(Box::new(|_| {}));
        let mut missed = Vec::new();
        let mut table = String::from("bug: the first seed that finds it\n");
        for bug in bugs {
            match first_to_find(*bug, seeds, &live) {
                Some(seed) => table.push_str(&format!("  {bug:?}: {seed}\n")),
                None => missed.push(*bug),
            }
        }
        drop(std::panic::take_hook());
        println!("{table}");
        missed
    }

    fn first_to_find(bug: Bug, seeds: &[u64], live: &(impl Fn(u64) + Sync)) -> Option<u64> {
        let (next, found) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
        let look = || loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(seed) = seeds.get(at).filter(|_| at < found.load(Ordering::Relaxed)) else {
                return;
            };
            switch(Some(bug));
            let is_shown = catch_unwind(AssertUnwindSafe(|| live(*seed))).is_err();
            switch(None);
            if is_shown {
                found.fetch_min(at, Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..processors() {
                scope.spawn(look);
            }
        });
        seeds.get(found.into_inner()).copied()
    }
}
