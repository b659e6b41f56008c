//! When a member tries again, and when it tells its reader that it does so for long.

use std::time::{Duration, Instant};

use crate::backoff::{Backoff, Random};
use crate::error::ClientError;

/// Pause after the broker refused for good: a person may change what it refused for.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// Failures in a row, and what follows from them.
#[derive(Debug)]
pub(crate) struct Retries {
    backoff: Backoff,
    random: Random,
    /// From when on a failure that lasts is told.
    patience: Duration,
    failures: u32,
    not_before: Option<Instant>,
    failing_since: Option<Instant>,
}

impl Retries {
    pub(crate) fn new(backoff: Backoff, random: Random, patience: Duration) -> Self {
        Self { backoff, random, patience, failures: 0, not_before: None, failing_since: None }
    }

    /// Nothing is tried before then.
    pub(crate) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    pub(crate) fn may_try(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }

    pub(crate) fn succeeded(&mut self) {
        (self.failures, self.not_before, self.failing_since) = (0, None, None);
    }

    /// Notes a failure that may pass; returns it if it lasts so long that the reader should know.
    pub(crate) fn failed(&mut self, error: ClientError, now: Instant) -> Option<ClientError> {
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + self.backoff.pause(self.failures, &mut self.random));
        let since = *self.failing_since.get_or_insert(now);
        if now.saturating_duration_since(since) < self.patience {
            return None;
        }
        self.failing_since = Some(now);
        Some(error)
    }

    /// Notes a refusal that will not pass by itself.
    pub(crate) fn refused(&mut self, now: Instant) {
        self.failures = 0;
        self.not_before = Some(now + REFUSED_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_when_it_lasts_and_forgotten_on_success() {
        let backoff =
            Backoff { first: Duration::from_millis(10), longest: Duration::from_millis(100) };
        let patience = Duration::from_secs(1);
        let mut retries = Retries::new(backoff, Random::seeded(1), patience);
        let start = Instant::now();
        assert!(retries.may_try(start));
        assert_eq!(retries.failed(ClientError::Closed, start), None);
        assert!(!retries.may_try(start));
        assert!(retries.may_try(start + Duration::from_millis(10)));
        let told = retries.failed(ClientError::Closed, start + patience);
        assert_eq!(told, Some(ClientError::Closed));
        assert_eq!(retries.failed(ClientError::Closed, start + patience), None, "once");
        retries.succeeded();
        assert!(retries.may_try(start));
        assert_eq!(retries.failed(ClientError::Closed, start + patience * 9), None);
    }
}
