//! How long ago this broker heard from the controller.
//!
//! The controller fences who it does not hear of for a session, and has others lead in its place. A
//! broker that has not heard from the controller for as long has to expect that: it still serves what
//! it can, but stops waiting for replicas that do not answer either.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::controller::SESSION_TIMEOUT;

/// The controller is this broker itself.
const HERE: i64 = i64::MAX;

/// When the controller last answered.
#[derive(Debug)]
pub(crate) struct Contact {
    began: Instant,
    /// When what it answered was asked, in milliseconds since `began`.
    heard_ms: AtomicI64,
}

impl Contact {
    /// It has answered just now.
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), heard_ms: AtomicI64::new(0) }
    }

    /// It answered what was asked then.
    pub(crate) fn heard(&self, asked: Instant) {
        let ms = asked.saturating_duration_since(self.began).as_millis();
        self.heard_ms.store(i64::try_from(ms).unwrap_or(HERE), Ordering::Relaxed);
    }

    /// It is this broker.
    pub(crate) fn is_here(&self) {
        self.heard_ms.store(HERE, Ordering::Relaxed);
    }

    /// It was this broker, until a majority was silent for too long.
    pub(crate) fn was_here(&self, now: Instant) {
        if self.heard_ms.load(Ordering::Relaxed) == HERE {
            let session = i64::try_from(SESSION_TIMEOUT.as_millis()).unwrap_or(HERE);
            self.heard(now);
            self.heard_ms.fetch_sub(session, Ordering::Relaxed);
        }
    }

    /// Whether others may lead in this broker's place by now.
    pub(crate) fn is_lost(&self, now: impl FnOnce() -> Instant) -> bool {
        // Asked for every write: without a look at the clock where there is no need.
        self.heard_ms.load(Ordering::Relaxed) != HERE && self.lost_in(now()).is_zero()
    }

    /// How long until that, if nothing is heard; a session if the controller is here.
    pub(crate) fn lost_in(&self, now: Instant) -> Duration {
        let heard_ms = self.heard_ms.load(Ordering::Relaxed);
        if heard_ms == HERE {
            return SESSION_TIMEOUT;
        }
        let now_ms = i64::try_from(now.saturating_duration_since(self.began).as_millis());
        let silent_ms = now_ms.unwrap_or(HERE).saturating_sub(heard_ms);
        SESSION_TIMEOUT.saturating_sub(Duration::from_millis(silent_ms.max(0).unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contact_is_lost_a_session_after_the_last_answer_was_asked_for() {
        let contact = Contact::new();
        let at = |seconds| contact.began + Duration::from_secs(seconds);
        assert!(!contact.is_lost(|| at(1)) && contact.is_lost(|| at(1000)));
        contact.is_here();
        assert!(!contact.is_lost(|| at(1000)), "alone it has none to lose");
        contact.heard(at(10));
        assert_eq!(contact.lost_in(at(12)), SESSION_TIMEOUT - Duration::from_secs(2));
        assert!(contact.is_lost(|| at(10) + SESSION_TIMEOUT));
        contact.heard(at(20));
        assert!(!contact.is_lost(|| at(21)));
    }

    #[test]
    fn a_controller_that_is_cut_off_has_lost_contact_until_another_answers() {
        let contact = Contact::new();
        let at = |seconds| contact.began + Duration::from_secs(seconds);
        contact.was_here(at(1));
        assert!(!contact.is_lost(|| at(1)), "it was not");
        contact.is_here();
        contact.was_here(at(2));
        assert!(contact.is_lost(|| at(2)));
        contact.heard(at(3));
        contact.was_here(at(4));
        assert!(!contact.is_lost(|| at(4)), "it was another");
    }
}
