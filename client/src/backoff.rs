//! How long to wait before trying again, and how often to try at all.
//!
//! Pauses grow exponentially and are drawn at random between nothing and that bound ("full
//! jitter"), so that clients which failed together do not return together. A [`RetryBudget`] keeps
//! repeats a small share of what succeeds: once it is used up, repeats go at the slowest pace only.

use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

/// A small generator of random numbers (splitmix64). Not for secrets.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Seeded from the randomness of the process's hash maps.
    pub(crate) fn new() -> Self {
        Self(std::hash::RandomState::new().build_hasher().finish())
    }

    #[cfg(test)]
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The bias of the remainder is beyond measure for bounds this small.
        self.next().checked_rem(bound).unwrap_or(0)
    }
}

/// Bounds of pauses between repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// Bound of the first pause.
    pub(crate) first: Duration,
    /// Bound of every later one.
    pub(crate) longest: Duration,
}

impl Backoff {
    /// The pause after `failures` failures in a row: random, at most `first` doubled for each
    /// failure after the first, and never above `longest`.
    pub(crate) fn pause(self, failures: u32, random: &mut Random) -> Duration {
        let doubled = failures.saturating_sub(1).min(20);
        let bound = self.first.saturating_mul(1 << doubled).min(self.longest);
        let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        // Never nothing at all: a failure that comes at once must not become a busy loop.
        Duration::from_micros(random.below(micros).max(PAUSE_MICROS_MIN))
    }
}

const PAUSE_MICROS_MIN: u64 = 500;

/// Repeats that may be made at their own pace: a full bucket at the start, refilled by success.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    /// In tenths of a repeat.
    tenths: u32,
}

impl RetryBudget {
    /// Repeats a full bucket holds.
    const REPEATS_MAX: u32 = 100;

    pub(crate) fn new() -> Self {
        Self { tenths: Self::REPEATS_MAX * 10 }
    }

    /// Notes a success: a tenth of a repeat.
    pub(crate) fn earn(&mut self) {
        self.tenths = self.tenths.saturating_add(1).min(Self::REPEATS_MAX * 10);
    }

    /// Takes one repeat; false if there is none left.
    pub(crate) fn spend(&mut self) -> bool {
        let left = self.tenths.checked_sub(10);
        self.tenths = left.unwrap_or(self.tenths);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff =
        Backoff { first: Duration::from_millis(20), longest: Duration::from_secs(1) };

    #[test]
    fn pauses_stay_within_bounds_that_double_up_to_the_longest() {
        let mut random = Random::seeded(1);
        for (failures, bound_ms) in [(1, 20), (2, 40), (4, 160), (7, 1000), (4_000_000_000, 1000)] {
            let pauses: Vec<_> = (0..500).map(|_| BACKOFF.pause(failures, &mut random)).collect();
            let longest = pauses.iter().max().copied().unwrap_or_default();
            let bound = Duration::from_millis(bound_ms);
            assert!(longest <= bound, "{longest:?} after {failures}");
            assert!(longest > bound * 9 / 10, "{longest:?} is not the whole range");
            assert!(pauses.iter().any(|pause| *pause < bound / 10), "no jitter towards zero");
        }
    }

    #[test]
    fn a_budget_allows_one_repeat_in_ten_after_its_reserve() {
        let mut budget = RetryBudget::new();
        let reserve = std::iter::from_fn(|| budget.spend().then_some(())).take(1000).count();
        assert_eq!(reserve, 100);
        let mut repeats = 0;
        for _ in 0..1000 {
            budget.earn();
            repeats += u32::from(budget.spend());
        }
        assert_eq!(repeats, 100);
    }
}
