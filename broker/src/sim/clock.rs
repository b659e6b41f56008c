//! The clock of a simulated process: virtual time, and a wall clock that may be wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::base::{Clock, Timestamp};

/// What wall clocks show when a world begins.
const BEGIN_MS: i64 = 1_700_000_000_000;

/// How far the wall clock of a machine is off, in milliseconds.
pub(super) type Skew = Arc<AtomicI64>;

/// A process's clock.
#[derive(Debug)]
pub(super) struct SimClock {
    world: Instant,
    process: Instant,
    skew: Skew,
}

impl SimClock {
    pub(super) fn new(world: Instant, skew: Skew) -> Self {
        Self { world, process: Instant::now(), skew }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let since = i64::try_from(self.world.elapsed().as_millis()).unwrap_or(i64::MAX);
        Timestamp(BEGIN_MS + since + self.skew.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.process.elapsed()
    }
}
