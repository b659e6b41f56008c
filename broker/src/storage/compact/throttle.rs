//! How fast compaction may read and write, and when it has to end.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::super::error::StorageError;
use crate::base::Clock;

/// Pauses shorter than this are saved up: waking costs more than they slow.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// Time not used for reading is not made up for beyond this.
const CREDIT_MAX: Duration = Duration::from_millis(200);

/// Why a compaction ended before it was done.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    /// It was told to.
    #[error("stopped")]
    Stopped,
    /// A file could not be read or written, or is damaged.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Tells whoever waits or works that it is time to stop.
#[derive(Debug, Default)]
pub struct StopSignal {
    stopped: Mutex<bool>,
    wake: Condvar,
}

impl StopSignal {
    /// Stops.
    pub fn stop(&self) {
        *self.stopped.lock() = true;
        self.wake.notify_all();
    }

    /// Whether it is time to stop.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        *self.stopped.lock()
    }

    /// Waits for `duration`, or until it is time to stop. Returns whether it is.
    pub fn wait(&self, duration: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        if !*stopped {
            self.wake.wait_for(&mut stopped, duration);
        }
        *stopped
    }
}

/// The pace of one thread that compacts.
#[derive(Debug)]
pub struct Throttle {
    clock: Arc<dyn Clock>,
    stop: Arc<StopSignal>,
    /// Bytes read and written together; none for as fast as it goes.
    bytes_per_second: Option<u64>,
    /// When everything spent so far is paid for.
    paid_at: Duration,
}

impl Throttle {
    /// A pace of `bytes_per_second`, if any.
    #[must_use]
    pub fn new(
        clock: Arc<dyn Clock>,
        stop: Arc<StopSignal>,
        bytes_per_second: Option<u64>,
    ) -> Self {
        let paid_at = clock.monotonic();
        Self { clock, stop, bytes_per_second, paid_at }
    }

    /// Takes note of `bytes` read or written, and waits as long as they must take.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), CompactionError> {
        let Some(rate) = self.bytes_per_second else {
            return self.go_on(self.stop.is_stopped());
        };
        let now = self.clock.monotonic();
        let micros = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(1_000_000);
        let cost = Duration::from_micros(micros / rate.max(1));
        self.paid_at = self.paid_at.max(now.saturating_sub(CREDIT_MAX)) + cost;
        let ahead = self.paid_at.saturating_sub(now);
        let stopped =
            if ahead < PAUSE_MIN { self.stop.is_stopped() } else { self.stop.wait(ahead) };
        self.go_on(stopped)
    }

    fn go_on(&self, stopped: bool) -> Result<(), CompactionError> {
        if stopped { Err(CompactionError::Stopped) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ManualClock, SystemClock, Timestamp};

    #[test]
    fn reading_takes_as_long_as_the_rate_says() {
        let clock = Arc::new(SystemClock::new());
        let mut throttle = Throttle::new(clock.clone(), Arc::default(), Some(1_000_000));
        for _ in 0..10 {
            throttle.spend(50_000).unwrap();
        }
        // Half a megabyte at one per second, less the credit and a pause saved up.
        let least = Duration::from_millis(500) - CREDIT_MAX - PAUSE_MIN;
        assert!(clock.monotonic() >= least, "{:?}", clock.monotonic());
    }

    #[test]
    fn a_stop_ends_a_pause() {
        let stop = Arc::new(StopSignal::default());
        let clock = Arc::new(ManualClock::at(Timestamp(0)));
        let mut throttle = Throttle::new(clock, stop.clone(), Some(1));
        std::thread::scope(|scope| {
            scope.spawn(|| stop.stop());
            assert!(matches!(throttle.spend(1 << 40), Err(CompactionError::Stopped)));
        });
        assert!(matches!(throttle.spend(0), Err(CompactionError::Stopped)));
    }
}
