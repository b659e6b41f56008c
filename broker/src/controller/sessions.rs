//! Who is heard of: the sessions of brokers, as the controller keeps them.
//!
//! Pure, and in memory only: whoever takes over gives everybody a fresh session (P10). A broker that
//! is silent for a session is fenced; one that is silent for more than a beat is asked after, and
//! fenced at once where its machine says that nobody listens there any more.
//!
//! Always: a session belongs to one registration; the broker that is the controller itself is never
//! found silent, because its own thread is the one that looks.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::BrokerId;
use crate::metadata::{Broker, Image, MetadataOffset};

/// How often a broker says that it is there.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// A broker that is silent for this long is fenced.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(6);

/// Silence after which a broker is asked after: a beat was missed.
const SUSPICIOUS_AFTER: Duration = Duration::from_millis(1300);

/// The same for one that the controller has never heard itself: a new controller asks after everybody,
/// and the one before is most likely gone.
const SUSPICIOUS_UNHEARD: Duration = Duration::ZERO;

/// How often the same broker is asked after.
const ASK_AGAIN: Duration = Duration::from_millis(300);

/// How often sessions are looked at while there are any.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// A look that comes this late finds its own thread, or machine, to have been stopped: who was
/// silent meanwhile nobody knows.
const LATE_LOOK: Duration = Duration::from_secs(2);

/// The sessions of all brokers.
#[derive(Debug)]
pub struct Sessions {
    own: BrokerId,
    brokers: BTreeMap<BrokerId, Session>,
    /// Time of the last look.
    looked_at: Duration,
}

#[derive(Debug)]
struct Session {
    /// Whose it is: the registration.
    epoch: i64,
    heard_at: Duration,
    asked_after_at: Option<Duration>,
    /// This controller heard it, and does not just give it the benefit of the doubt.
    is_heard: bool,
    /// How far it had applied the metadata.
    applied: MetadataOffset,
    /// The entry by which it began to leave.
    leaving_since: Option<MetadataOffset>,
}

impl Sessions {
    /// No sessions, kept by the controller on broker `own`.
    #[must_use]
    pub fn new(own: BrokerId) -> Self {
        Self { own, brokers: BTreeMap::new(), looked_at: Duration::ZERO }
    }

    /// This node became the controller: everybody who is not fenced gets a fresh session.
    pub fn begin(&mut self, image: &Image, now: Duration) {
        let fresh = |broker: &Broker| (broker.id, Session::new(broker.epoch, now, false));
        self.brokers = image.live_brokers().map(fresh).collect();
        self.looked_at = now;
    }

    /// The broker that keeps them.
    #[must_use]
    pub fn own(&self) -> BrokerId {
        self.own
    }

    /// A registration was heard of.
    pub fn hear(&mut self, broker: BrokerId, epoch: i64, applied: MetadataOffset, now: Duration) {
        let session = self.brokers.entry(broker).or_insert_with(|| Session::new(epoch, now, true));
        if session.epoch != epoch {
            *session = Session::new(epoch, now, true);
        }
        session.heard_at = session.heard_at.max(now);
        session.is_heard = true;
        session.asked_after_at = None;
        session.applied = session.applied.max(applied);
    }

    /// Whether the registration a broker has now was heard of lately, by this controller.
    #[must_use]
    pub fn is_alive(&self, broker: &Broker, now: Duration) -> bool {
        let is_recent = |session: &Session| {
            session.is_heard && now.saturating_sub(session.heard_at) < SESSION_TIMEOUT
        };
        broker.id == self.own || self.of(broker).is_some_and(is_recent)
    }

    /// How long nothing was heard of a broker that this controller has heard.
    #[must_use]
    pub fn silence(&self, broker: BrokerId, now: Duration) -> Option<Duration> {
        let session = self.brokers.get(&broker).filter(|session| session.is_heard)?;
        Some(now.saturating_sub(session.heard_at))
    }

    /// A broker began to leave with the entry at `since`, unless it had before.
    pub fn leave(&mut self, broker: BrokerId, since: MetadataOffset) {
        if let Some(session) = self.brokers.get_mut(&broker) {
            session.leaving_since.get_or_insert(since);
        }
    }

    /// Whether every broker that is not fenced knows that `broker` leaves. One that leaves without
    /// this controller having seen it begin is known to all once they know all there is.
    #[must_use]
    pub fn all_know(&self, image: &Image, broker: BrokerId) -> bool {
        let since = self.brokers.get(&broker).and_then(|session| session.leaving_since);
        let since = since.unwrap_or(image.offset());
        let knows = |other: &Broker| {
            other.id == self.own || self.of(other).is_some_and(|session| session.applied >= since)
        };
        image.live_brokers().all(knows)
    }

    /// The brokers whose session is over.
    pub fn expired(&mut self, image: &Image, now: Duration) -> Vec<BrokerId> {
        if now.saturating_sub(self.looked_at) > LATE_LOOK {
            for session in self.brokers.values_mut() {
                session.heard_at = now;
            }
        }
        self.looked_at = now;
        let is_over = |broker: &&Broker| {
            let session = self.of(broker);
            broker.id != self.own
                && session.is_none_or(|one| now.saturating_sub(one.heard_at) >= SESSION_TIMEOUT)
        };
        image.live_brokers().filter(is_over).map(|broker| broker.id).collect()
    }

    /// The brokers to ask after now, with their registrations.
    pub fn suspects(&mut self, image: &Image, now: Duration) -> Vec<(BrokerId, i64)> {
        let mut found = Vec::new();
        for broker in image.live_brokers().filter(|broker| broker.id != self.own) {
            let session = self.brokers.get_mut(&broker.id);
            let Some(session) = session.filter(|session| session.epoch == broker.epoch) else {
                continue;
            };
            let patience = if session.is_heard { SUSPICIOUS_AFTER } else { SUSPICIOUS_UNHEARD };
            let is_silent = now.saturating_sub(session.heard_at) >= patience;
            let again = |at| now.saturating_sub(at) >= ASK_AGAIN;
            if is_silent && session.asked_after_at.is_none_or(again) {
                session.asked_after_at = Some(now);
                found.push((broker.id, broker.epoch));
            }
        }
        found
    }

    /// Whether a registration that was asked after is still silent: it may have spoken meanwhile.
    #[must_use]
    pub fn is_suspect(&self, broker: &Broker) -> bool {
        self.of(broker).is_some_and(|session| session.asked_after_at.is_some())
    }

    /// Whether it is time to look.
    pub(super) fn is_due(&self, now: Duration, interval: Duration) -> bool {
        now.saturating_sub(self.looked_at) >= interval
    }

    /// When to look again; never if there is nobody but this broker.
    pub(super) fn look_again(&self, image: &Image) -> Option<Duration> {
        let others = image.live_brokers().any(|broker| broker.id != self.own);
        others.then_some(LOOK_INTERVAL)
    }

    fn of(&self, broker: &Broker) -> Option<&Session> {
        self.brokers.get(&broker.id).filter(|session| session.epoch == broker.epoch)
    }
}

impl Session {
    fn new(epoch: i64, now: Duration, is_heard: bool) -> Self {
        Self {
            epoch,
            heard_at: now,
            asked_after_at: None,
            is_heard,
            applied: MetadataOffset::NONE,
            leaving_since: None,
        }
    }
}
