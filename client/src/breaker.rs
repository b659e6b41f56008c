//! A circuit breaker: a broker that failed is left alone for a while.
//!
//! Closed, everything passes. A failure opens it for a jittered pause that grows with each failure
//! in a row; meanwhile attempts are refused at once, so that a broker that is down costs its callers
//! no timeout each. After the pause one attempt decides.

use std::time::{Duration, Instant};

use crate::backoff::{Backoff, Random};

/// The state of one broker.
#[derive(Debug)]
pub(crate) struct Breaker {
    backoff: Backoff,
    random: Random,
    failures: u32,
    /// Refuses until then.
    open_until: Option<Instant>,
    /// Of the last failure.
    reason: String,
}

impl Breaker {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            random: Random::new(),
            failures: 0,
            open_until: None,
            reason: String::new(),
        }
    }

    /// How long attempts are refused from `now` on; `None` if one may be made.
    pub(crate) fn refuses_for(&self, now: Instant) -> Option<Duration> {
        let left = self.open_until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Failures in a row, and what the last one said.
    pub(crate) fn failures(&self) -> (u32, &str) {
        (self.failures, &self.reason)
    }

    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
        self.open_until = None;
    }

    pub(crate) fn failed(&mut self, now: Instant, reason: String) {
        self.reason = reason;
        self.failures = self.failures.saturating_add(1);
        self.open_until = Some(now + self.backoff.pause(self.failures, &mut self.random));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_refuses_for_a_bounded_pause_and_a_success_closes() {
        let longest = Duration::from_secs(1);
        let mut breaker = Breaker::new(Backoff { first: Duration::from_millis(50), longest });
        let now = Instant::now();
        assert_eq!(breaker.refuses_for(now), None);
        for failures in 1..50 {
            breaker.failed(now, "refused".into());
            assert_eq!(breaker.failures(), (failures, "refused"));
            let pause = breaker.refuses_for(now).expect("open after a failure");
            assert!(pause <= longest, "{pause:?}");
            assert_eq!(breaker.refuses_for(now + pause), None, "one attempt after the pause");
        }
        breaker.succeeded();
        assert_eq!((breaker.failures().0, breaker.refuses_for(now)), (0, None));
    }
}
