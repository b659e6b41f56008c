//! The thread that reads full segments again, all of them once in a period, at a bounded rate.
//!
//! Damage it finds goes into the quarantine of its log and is logged there. A pass takes the
//! partitions by name and is not remembered: after a restart the next one begins at the first.
//! Reads go through the page cache; the rate is what keeps that harmless.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing::{info, warn};

use super::partition::Partition;
use super::partitions::Partitions;
use crate::base::Clock;
use crate::storage::Pace;

/// From the start of the broker to its first pass: a start has other things to do.
const FIRST_PASS_DELAY: Duration = Duration::from_secs(60);

/// What the scrubber goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScrubOptions {
    /// Bytes read in a second, at most. Zero: nothing is read.
    pub(crate) bytes_per_second: u64,
    /// From the start of one pass to that of the next.
    pub(crate) interval: Duration,
}

/// What the scrubber has done since the start of the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubTotals {
    /// Passes over all partitions that came to their end.
    pub passes: u64,
    /// Segments read.
    pub segments: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Damaged ranges found.
    pub damaged: u64,
    /// Segments that could not be read or whose damage could not be written down.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    passes: AtomicU64,
    segments: AtomicU64,
    bytes: AtomicU64,
    damaged: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug, Default)]
struct Shared {
    counters: Counters,
    stopped: Mutex<bool>,
    wake: Condvar,
}

/// The running scrubber.
#[derive(Debug)]
pub(crate) struct Scrubber {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Counters {
    fn totals(&self) -> ScrubTotals {
        let Self { passes, segments, bytes, damaged, failed } = self;
        ScrubTotals {
            passes: passes.load(Ordering::Relaxed),
            segments: segments.load(Ordering::Relaxed),
            bytes: bytes.load(Ordering::Relaxed),
            damaged: damaged.load(Ordering::Relaxed),
            failed: failed.load(Ordering::Relaxed),
        }
    }
}

impl Scrubber {
    /// Starts the thread, unless there is nothing to do at no rate.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn start(
        partitions: Arc<Partitions>,
        clock: Arc<dyn Clock>,
        options: ScrubOptions,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        if options.bytes_per_second == 0 {
            return Ok(Self { shared, thread: None });
        }
        let worker = Worker { shared: shared.clone(), clock, options };
        let run = move || worker.run(&partitions);
        let thread = std::thread::Builder::new().name("scrub".into()).spawn(run)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(crate) fn totals(&self) -> ScrubTotals {
        self.shared.counters.totals()
    }

    /// Tells the totals, whenever it is asked.
    pub(crate) fn reporter(&self) -> impl Fn() -> ScrubTotals + Send + Sync + 'static {
        let shared = self.shared.clone();
        move || shared.counters.totals()
    }

    pub(crate) fn stop(&mut self) {
        *self.shared.stopped.lock() = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been reported by its hook.
            let _panicked = thread.join();
        }
    }
}

/// Reads all full segments once, as fast as it goes, in this thread.
#[cfg(any(test, feature = "sim"))]
pub(crate) fn scrub_once(partitions: &Partitions, clock: Arc<dyn Clock>) -> ScrubTotals {
    let options = ScrubOptions { bytes_per_second: u64::MAX, interval: Duration::ZERO };
    let worker = Worker { shared: Arc::default(), clock, options };
    worker.pass(partitions);
    worker.shared.counters.totals()
}

struct Worker {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    options: ScrubOptions,
}

impl Worker {
    fn run(&self, partitions: &Partitions) {
        let mut due = self.clock.monotonic() + FIRST_PASS_DELAY.min(self.options.interval);
        while self.wait_until(due) == Pace::On {
            due += self.options.interval;
            let before = self.shared.counters.bytes.load(Ordering::Relaxed);
            if self.pass(partitions) == Pace::Stop {
                return;
            }
            let bytes = self.shared.counters.bytes.load(Ordering::Relaxed) - before;
            info!(bytes, "all full segments were read again");
        }
    }

    fn pass(&self, partitions: &Partitions) -> Pace {
        let mut all = partitions.all();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        let mut rate = Rate::new(self.options.bytes_per_second, self.clock.monotonic());
        for partition in all {
            if self.scrub(&partition, &mut rate) == Pace::Stop {
                return Pace::Stop;
            }
        }
        self.shared.counters.passes.fetch_add(1, Ordering::Relaxed);
        Pace::On
    }

    fn scrub(&self, partition: &Partition, rate: &mut Rate) -> Pace {
        let Some(scrubber) = partition.scrubber() else { return Pace::On };
        let counters = &self.shared.counters;
        let mut after = None;
        loop {
            let mut pace = |bytes| {
                counters.bytes.fetch_add(bytes, Ordering::Relaxed);
                self.wait_until(rate.due(bytes, self.clock.monotonic()))
            };
            match scrubber.scrub_next(after, self.clock.now(), &mut pace) {
                Ok(Some(scrubbed)) => {
                    after = Some(scrubbed.segment);
                    let found = u64::try_from(scrubbed.found.len()).unwrap_or(u64::MAX);
                    counters.segments.fetch_add(1, Ordering::Relaxed);
                    counters.damaged.fetch_add(found, Ordering::Relaxed);
                    if planted!(ForgetDamage) {
                        continue;
                    }
                    // Also where nothing is new: what was damaged may be whole by now.
                    if found > 0 || partition.is_holed() != partition.has_damage() {
                        partition.on_damaged();
                    }
                }
                Ok(None) => {
                    return if *self.shared.stopped.lock() { Pace::Stop } else { Pace::On };
                }
                Err(failed) => {
                    counters.failed.fetch_add(1, Ordering::Relaxed);
                    let error = &failed.error;
                    warn!(partition = %partition.name, %error, "cannot read a segment again");
                    after = Some(failed.segment);
                }
            }
        }
    }

    fn wait_until(&self, due: Duration) -> Pace {
        let mut stopped = self.shared.stopped.lock();
        while !*stopped {
            let left = due.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                return Pace::On;
            }
            self.shared.wake.wait_for(&mut stopped, left);
        }
        Pace::Stop
    }
}

/// When the next bytes may be read. What was missed while something else took time is not made up.
#[derive(Debug)]
struct Rate {
    bytes_per_second: u64,
    next: Duration,
}

impl Rate {
    fn new(bytes_per_second: u64, now: Duration) -> Self {
        Self { bytes_per_second, next: now }
    }

    /// Takes `bytes` that were read; returns when to go on.
    fn due(&mut self, bytes: u64, now: Duration) -> Duration {
        let micros = u128::from(bytes) * 1_000_000 / u128::from(self.bytes_per_second.max(1));
        let takes = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        self.next = self.next.max(now.saturating_sub(takes)) + takes;
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_on_average_and_pauses_are_not_made_up() {
        let ms = Duration::from_millis;
        let mut rate = Rate::new(1000, ms(0));
        assert_eq!(rate.due(500, ms(0)), ms(500));
        assert_eq!(rate.due(500, ms(500)), ms(1000));
        // The read itself took longer than its share: it may go on at once, and no faster.
        assert_eq!(rate.due(100, ms(5000)), ms(5000));
        assert_eq!(rate.due(100, ms(5000)), ms(5100));
    }
}
