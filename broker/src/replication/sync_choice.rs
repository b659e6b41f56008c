//! How a set of dirty files is made durable: each for itself, or the whole file system at once.
//!
//! Every `fdatasync` of an ext4 file that grew commits the journal, one after another; one `syncfs`
//! commits it once. So the whole is cheaper from two files on, as long as nobody else writes to the
//! file system: what others have dirty is written too, and waited for. Hence the choice is made by
//! what both have cost lately, and the whole is tried again now and then once it was expensive.
//! Figures in `docs/adr/0004`.
//!
//! Pure: costs go in, a choice comes out.

use std::time::Duration;

/// How a set of files is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// One `fdatasync` a file.
    Each,
    /// One `syncfs`.
    Whole,
}

/// Fewer files than this are synced each, in parallel: that takes little longer, and does not wait
/// for what others have written.
const WHOLE_FILES_MIN: usize = 4;

/// Sets after which an expensive whole is tried again.
const RETRY_AFTER: u32 = 64;

/// Costs before the first measurement.
const EACH: Duration = Duration::from_micros(100);
const WHOLE: Duration = Duration::from_micros(200);

/// A measurement counts one eighth.
const WEIGHT: u32 = 8;

/// What both methods have cost lately.
#[derive(Debug)]
pub(super) struct SyncChoice {
    /// Whether the file system can be synced as a whole.
    can_whole: bool,
    each: Duration,
    whole: Duration,
    passed_over: u32,
}

impl SyncChoice {
    pub(super) fn new(can_whole: bool) -> Self {
        Self { can_whole, each: EACH, whole: WHOLE, passed_over: 0 }
    }

    /// Chooses for a set of `files`.
    pub(super) fn choose(&mut self, files: usize) -> Method {
        if !self.can_whole || files < WHOLE_FILES_MIN {
            return Method::Each;
        }
        let each = self.each.saturating_mul(u32::try_from(files).unwrap_or(u32::MAX));
        if self.whole <= each || self.passed_over >= RETRY_AFTER {
            self.passed_over = 0;
            return Method::Whole;
        }
        self.passed_over += 1;
        Method::Each
    }

    /// One file took `cost`.
    pub(super) fn each_took(&mut self, cost: Duration) {
        self.each = (self.each * (WEIGHT - 1) + cost) / WEIGHT;
    }

    /// The whole file system took `cost`.
    pub(super) fn whole_took(&mut self, cost: Duration) {
        self.whole = (self.whole * (WEIGHT - 1) + cost) / WEIGHT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_files_are_synced_each_and_many_at_once() {
        let mut choice = SyncChoice::new(true);
        let chosen: Vec<Method> = (1..6).map(|files| choice.choose(files)).collect();
        let (each, whole) = (Method::Each, Method::Whole);
        assert_eq!(chosen, [each, each, each, whole, whole]);
        assert_eq!(SyncChoice::new(false).choose(1000), each, "where the whole means nothing");
    }

    #[test]
    fn a_whole_made_slow_by_others_is_avoided_and_tried_again() {
        let mut choice = SyncChoice::new(true);
        choice.whole_took(Duration::from_secs(1));
        let tries = |choice: &mut SyncChoice| {
            (0..1000).filter(|_| choice.choose(8) == Method::Whole).count()
        };
        assert_eq!(tries(&mut choice), 1000 / 65);
        // More files than it costs: worth it all the same.
        assert_eq!(choice.choose(10_000), Method::Whole);
        for _ in 0..60 {
            choice.whole_took(Duration::from_micros(150));
        }
        assert_eq!(tries(&mut choice), 1000, "the others have stopped");
    }

    #[test]
    fn a_slow_disk_is_slow_for_both() {
        let mut choice = SyncChoice::new(true);
        for _ in 0..50 {
            choice.each_took(Duration::from_millis(5));
            choice.whole_took(Duration::from_millis(12));
        }
        assert_eq!(choice.choose(4), Method::Whole);
    }
}
