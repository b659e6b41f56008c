//! One member of a group of the consumer protocol.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::coordinator::record::{ClassicSide, CurrentRecord, MemberRecord, Step, TopicPartitions};
use crate::coordinator::timers::Timer;
use crate::coordinator::types::{Client, DescribedConsumer, GroupType, InstanceId, MemberId};

/// The epoch of a request that joins.
pub(super) const JOIN: i32 = 0;
/// The epoch of a request that leaves.
pub(super) const LEAVE: i32 = -1;
/// The epoch of a static member that leaves and will come back; also while it is away.
pub(super) const AWAY: i32 = -2;

/// What the member's progress timer waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Awaited {
    /// It gives partitions back.
    #[default]
    Revocation,
    /// Classic: it joins again.
    Join,
    /// Classic: it fetches its assignment.
    Sync,
}

/// One member.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) id: MemberId,
    /// What it said of itself.
    pub(super) said: MemberRecord,
    /// Charged for that; None after a restart.
    pub(super) charge: Option<bytes::Bytes>,
    /// What it has.
    pub(super) has: CurrentRecord,
    /// What it shall have, as of the group's assignment epoch.
    pub(super) target: TopicPartitions,
    pub(super) session: Timer,
    pub(super) progress: Timer,
    pub(super) awaited: Awaited,
}

impl Member {
    /// Somebody who has said nothing yet and has nothing.
    pub(super) fn new(id: MemberId) -> Self {
        Self {
            id,
            said: nothing_said(),
            charge: None,
            has: CurrentRecord::default(),
            target: TopicPartitions::new(),
            session: Timer::default(),
            progress: Timer::default(),
            awaited: Awaited::Revocation,
        }
    }

    pub(super) fn instance(&self) -> Option<&InstanceId> {
        self.said.instance.as_ref()
    }

    pub(super) fn classic(&self) -> Option<&ClassicSide> {
        self.said.classic.as_ref()
    }

    /// Whether it is where `epoch` leads to.
    pub(super) fn is_settled(&self, epoch: i32) -> bool {
        self.has.step == Step::Stable && self.has.epoch == epoch
    }

    /// Partitions nobody else may have: what it uses, and what it has not given back.
    pub(super) fn held(&self) -> impl Iterator<Item = (crate::base::TopicId, i32)> {
        each(&self.has.assigned).chain(each(&self.has.revoking))
    }

    pub(super) fn described(&self) -> DescribedConsumer {
        let said = &self.said;
        DescribedConsumer {
            member: self.id.clone(),
            instance: said.instance.clone(),
            rack: said.rack.clone(),
            epoch: self.has.epoch,
            client: said.client.clone(),
            topics: said.topics.iter().cloned().collect(),
            pattern: said.pattern.clone(),
            assigned: self.has.assigned.clone(),
            target: self.target.clone(),
            speaks: if said.classic.is_some() { GroupType::Classic } else { GroupType::Consumer },
        }
    }
}

/// Each partition on its own.
pub(super) fn each(
    partitions: &TopicPartitions,
) -> impl Iterator<Item = (crate::base::TopicId, i32)> {
    partitions.iter().flat_map(|(topic, set)| set.iter().map(|index| (*topic, *index)))
}

fn nothing_said() -> MemberRecord {
    MemberRecord {
        instance: None,
        rack: None,
        client: Client { id: Arc::from(""), host: Arc::from("") },
        topics: BTreeSet::new(),
        pattern: None,
        rebalance_timeout: Duration::ZERO,
        assignor: None,
        classic: None,
    }
}
