//! Whether this process has run all the while.
//!
//! A process that was stopped finds, when it goes on, what others sent before and meanwhile, and takes it
//! for news: a follower that has long had another leader seems to have spoken just now. Who looks at what was
//! heard asks from when on it counts.
//!
//! Beats come from whoever looks after followers; while there are none, nothing is known and nothing asked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A beat that is this late finds a process that was stopped. They come twice a second.
const STOPPED_AFTER: Duration = Duration::from_millis(1500);

/// How long it takes until what had come meanwhile is read.
const OLD_NEWS: Duration = Duration::from_millis(500);

/// The beats of a process.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// The last one, in milliseconds of the monotonic clock; 0 while there are none.
    beat_ms: AtomicU64,
    counts_from_ms: AtomicU64,
}

impl Pulse {
    /// It runs.
    pub(super) fn beat(&self, now: Duration) {
        self.counts_from_ms.store(millis(self.counts_from(now)), Ordering::Relaxed);
        self.beat_ms.store(millis(now).max(1), Ordering::Relaxed);
    }

    /// There will be no beats for a while.
    pub(super) fn rest(&self) {
        self.beat_ms.store(0, Ordering::Relaxed);
    }

    /// From when on what is heard was said while this process ran.
    pub(super) fn counts_from(&self, now: Duration) -> Duration {
        let beat = self.beat_ms.load(Ordering::Relaxed);
        if beat != 0 && now.saturating_sub(Duration::from_millis(beat)) > STOPPED_AFTER {
            return now + OLD_NEWS;
        }
        Duration::from_millis(self.counts_from_ms.load(Ordering::Relaxed))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_was_heard_just_after_a_stop_does_not_count() {
        let pulse = Pulse::default();
        assert_eq!(pulse.counts_from(at(9_000)), at(0), "nothing is known yet");
        pulse.beat(at(10_000));
        pulse.beat(at(10_500));
        assert_eq!(pulse.counts_from(at(11_900)), at(0), "late, but it ran");
        assert_eq!(pulse.counts_from(at(20_000)), at(20_500), "before the next beat");
        pulse.beat(at(20_001));
        assert_eq!(pulse.counts_from(at(20_400)), at(20_501), "and after it");
        pulse.beat(at(20_501));
        assert_eq!(pulse.counts_from(at(21_500)), at(20_501));
    }

    #[test]
    fn a_pulse_that_rested_was_not_stopped() {
        let pulse = Pulse::default();
        pulse.beat(at(10_000));
        pulse.rest();
        assert_eq!(pulse.counts_from(at(99_000)), at(0));
        pulse.beat(at(99_001));
        assert_eq!(pulse.counts_from(at(99_002)), at(0));
    }
}
