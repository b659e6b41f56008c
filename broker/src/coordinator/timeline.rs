//! What happened to a group lately: who came, who went, why, and which timeout was over.
//!
//! In memory only and bounded: the newest events of each group since this broker began to
//! coordinate it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::types::{Client, Generation, GroupType, InstanceId, MemberId};
use crate::base::Timestamp;
use crate::base::limits::GROUP_TIMELINE_EVENTS_MAX;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
}

/// A limit of time that a member overran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timeout {
    /// `session.timeout.ms`: no heartbeat.
    Session,
    /// The rebalance timeout (`max.poll.interval.ms`): it did not join again.
    Rejoin,
    /// The rebalance timeout: it joined and did not fetch its assignment.
    Sync,
    /// The session timeout: it was given a member id and did not join with it.
    FirstJoin,
    /// The rebalance timeout: it did not give partitions back.
    Revoke,
}

/// What can happen to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The coordinator read the group from its log.
    Loaded {
        /// Members it had.
        members: usize,
    },
    /// A member came.
    Joined {
        /// Who.
        member: MemberId,
        /// Its instance, if it is static.
        instance: Option<InstanceId>,
        /// Whose it is.
        client: Client,
        /// Why, in the client's words.
        reason: Option<Arc<str>>,
    },
    /// A static member came back under a new member id.
    Replaced {
        /// Which.
        instance: InstanceId,
        /// The id that is fenced now.
        old: MemberId,
        /// The id that counts.
        new: MemberId,
    },
    /// A member said goodbye.
    Left {
        /// Who.
        member: MemberId,
        /// Whose it was, if it had joined.
        client: Option<Client>,
        /// Why, in the client's words.
        reason: Option<Arc<str>>,
    },
    /// A member was removed because it was late.
    TimedOut {
        /// Who.
        member: MemberId,
        /// Whose it was, if it had joined.
        client: Option<Client>,
        /// For what.
        timeout: Timeout,
        /// How long that may take, where known.
        limit: Option<Duration>,
    },
    /// Members have to join again.
    RebalanceStarted {
        /// Why.
        reason: Arc<str>,
    },
    /// All members that counted joined, and a generation began.
    GenerationStarted {
        /// Its number.
        generation: Generation,
        /// Its members.
        members: usize,
        /// The protocol chosen.
        protocol: Option<Arc<str>>,
    },
    /// The generation's assignment is made.
    Assigned {
        /// Its number.
        generation: Generation,
    },
    /// Consumer protocol: something changed who shall have what.
    EpochStarted {
        /// The group's epoch from now on.
        epoch: i32,
        /// What it was.
        reason: Arc<str>,
    },
    /// Consumer protocol: it is decided who shall have what.
    TargetAssigned {
        /// The epoch of the group it is for.
        epoch: i32,
        /// Members at that time.
        members: usize,
        /// Who decided.
        assignor: Arc<str>,
    },
    /// Consumer protocol: every member has what it shall have.
    Reconciled {
        /// The epoch of the group.
        epoch: i32,
    },
    /// The group goes over to another protocol.
    Converted {
        /// The protocol from now on.
        to: GroupType,
    },
    /// The last member has gone.
    Emptied,
    /// Offsets nobody needs any more were removed.
    OffsetsExpired {
        /// How many.
        count: usize,
    },
}

/// The newest events of one group.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline {
    events: VecDeque<Event>,
}

impl Timeline {
    /// Notes `kind`.
    pub(super) fn note(&mut self, at: Timestamp, kind: EventKind) {
        if self.events.len() >= GROUP_TIMELINE_EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(Event { at, kind });
    }

    /// The events, oldest first.
    pub(super) fn events(&self) -> Vec<Event> {
        self.events.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_events_are_kept() {
        let mut timeline = Timeline::default();
        for count in 0..GROUP_TIMELINE_EVENTS_MAX + 3 {
            timeline.note(Timestamp(0), EventKind::OffsetsExpired { count });
        }
        let events = timeline.events();
        assert_eq!(events.len(), GROUP_TIMELINE_EVENTS_MAX);
        assert_eq!(events[0].kind, EventKind::OffsetsExpired { count: 3 });
    }
}
