//! How fast replicas are copied that are not in sync yet, where that is limited.
//!
//! A rate over all replicas it applies to, once as the leader of what is copied and once as the
//! follower. Records are copied in pieces; after each the next waits until the pieces so far have
//! taken the time they must. Replicas that are in sync are never held up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::config::BrokerConfig;

/// Time not used for copying is not made up for beyond this.
const CREDIT_MAX: Duration = Duration::from_millis(500);

/// Bytes of a piece: at most what may be copied in a fraction of a second, and not too little.
const PIECES_PER_SECOND: u64 = 8;
const PIECE_MIN: usize = 16 * 1024;

/// A rate.
#[derive(Debug)]
pub(super) struct Throttle {
    bytes_per_second: AtomicU64,
    /// When everything copied so far is paid for.
    paid_at: Mutex<Duration>,
}

/// The rates of one broker.
#[derive(Debug, Default)]
pub(super) struct Throttles {
    pub(super) leader: Throttle,
    pub(super) follower: Throttle,
}

impl Throttles {
    pub(super) fn set(&self, config: &BrokerConfig) {
        self.leader.set(config.leader_replication_throttled_rate);
        self.follower.set(config.follower_replication_throttled_rate);
    }
}

impl Default for Throttle {
    fn default() -> Self {
        let bytes_per_second = AtomicU64::new(u64::MAX);
        Self { bytes_per_second, paid_at: Mutex::default() }
    }
}

impl Throttle {
    fn set(&self, bytes_per_second: u64) {
        self.bytes_per_second.store(bytes_per_second, Ordering::Relaxed);
    }

    fn rate(&self) -> u64 {
        self.bytes_per_second.load(Ordering::Relaxed)
    }

    /// Takes note of bytes that were copied.
    pub(super) fn spend(&self, bytes: usize, now: Duration) {
        let micros = u128::from(crate::metrics::count(bytes)) * 1_000_000;
        let cost = micros / u128::from(self.rate().max(1));
        let cost = Duration::from_micros(u64::try_from(cost).unwrap_or(u64::MAX));
        let mut paid_at = self.paid_at.lock();
        *paid_at = (*paid_at).max(now.saturating_sub(CREDIT_MAX)).saturating_add(cost);
    }

    /// When more may be copied, if not now.
    pub(super) fn held_until(&self, now: Duration) -> Option<Duration> {
        Some(*self.paid_at.lock()).filter(|paid_at| *paid_at > now)
    }

    /// Most bytes to copy at once.
    pub(super) fn piece(&self) -> usize {
        usize::try_from(self.rate() / PIECES_PER_SECOND).unwrap_or(usize::MAX).max(PIECE_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_takes_the_time_the_rate_says() {
        let throttle = Throttle::default();
        throttle.spend(1 << 40, Duration::from_secs(5));
        assert_eq!(throttle.held_until(Duration::from_secs(5)), None, "there is no rate");
        throttle.set(1_000_000);
        let (mut now, mut copied) = (Duration::from_secs(100), 0);
        while now < Duration::from_secs(110) {
            match throttle.held_until(now) {
                Some(at) => now = at,
                None => {
                    throttle.spend(throttle.piece(), now);
                    copied += throttle.piece();
                }
            }
        }
        assert!((10_000_000..=10_700_000).contains(&copied), "{copied} bytes in ten seconds");
    }

    #[test]
    fn another_rate_holds_from_now_on() {
        let throttle = Throttle::default();
        throttle.set(1000);
        throttle.spend(10_000, Duration::from_secs(1));
        throttle.set(u64::MAX);
        assert!(throttle.piece() > 1 << 40);
        throttle.spend(1 << 30, Duration::from_secs(12));
        assert_eq!(throttle.held_until(Duration::from_secs(12)), None);
    }
}
