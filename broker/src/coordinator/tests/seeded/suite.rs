//! How a suite of seeded lives is run: many seeds on all cores, one alone, and against planted bugs.

use std::panic::catch_unwind;

/// How much happened in some lives.
pub(in crate::coordinator::tests) trait Totals:
    Default + std::fmt::Debug + Send
{
    fn add(&mut self, other: &Self);

    /// Whether each kind of thing has happened, and often enough to mean something.
    fn is_telling(&self, seeds: u64) -> bool;
}

/// Seeded lives of one kind. `NAME_SEEDS` in the environment says how many are tried, `NAME_FIRST_SEED`
/// where they begin, and with `NAME_SEED` it is one alone.
pub(in crate::coordinator::tests) struct Suite<T> {
    pub(in crate::coordinator::tests) name: &'static str,
    /// How many seeds are tried unless it is said otherwise.
    pub(in crate::coordinator::tests) seeds: u64,
    /// Seeds beyond these that once failed.
    pub(in crate::coordinator::tests) kept: &'static [u64],
    /// Lives through a seed. Panics where a promise is broken.
    pub(in crate::coordinator::tests) live: fn(u64) -> T,
}

impl<T: Totals> Suite<T> {
    /// Tries all seeds.
    pub(in crate::coordinator::tests) fn run(&self) {
        if let Some(seed) = self.setting("SEED") {
            (self.live)(seed);
            return;
        }
        let count = self.setting("SEEDS").unwrap_or(self.seeds);
        let first = self.setting("FIRST_SEED").unwrap_or(0);
        let totals = self.live_on_all_cores(first, count);
        self.lives(self.kept.iter().copied());
        println!("{count} seeds from {first} on: {totals:?}");
        assert!(totals.is_telling(count), "too little happened: {totals:?}");
    }

    fn live_on_all_cores(&self, first: u64, count: u64) -> T {
        let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
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
            let lived = catch_unwind(|| live(seed));
            totals.add(&lived.unwrap_or_else(|_| panic!("{name}_SEED={seed} shows it again")));
        }
        totals
    }

    /// The suite against itself: bugs put in on purpose, each of which it must find in `most` seeds, or
    /// those that are kept.
    #[cfg(feature = "planted-bugs")]
    pub(in crate::coordinator::tests) fn find_planted(
        &self,
        bugs: &[crate::base::planted::Bug],
        most: u64,
    ) {
        use crate::base::planted::switch;
        let live = self.live;
        let seeds = setting("SAWLOG_PLANTED_SEEDS").unwrap_or(most);
        // The findings themselves are of no interest, and many.
        std::panic::set_hook(Box::new(|_| {}));
        let mut missed = Vec::new();
        let mut table = String::from("bug: the first seed that finds it\n");
        for bug in bugs {
            let found = self.kept.iter().copied().chain(0..seeds).find(|seed| {
                switch(Some(*bug));
                let found = catch_unwind(|| live(*seed)).is_err();
                switch(None);
                found
            });
            match found {
                Some(seed) => table.push_str(&format!("  {bug:?}: {seed}\n")),
                None => missed.push(bug),
            }
        }
        drop(std::panic::take_hook());
        println!("{table}");
        assert!(missed.is_empty(), "not found in {seeds} seeds: {missed:?}");
    }

    fn setting(&self, what: &str) -> Option<u64> {
        setting(&format!("{}_{what}", self.name))
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
