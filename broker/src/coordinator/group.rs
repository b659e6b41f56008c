//! One group: its members, by either protocol, and its offsets.

use std::collections::BTreeMap;
use std::time::Duration;

use super::classic::ClassicGroup;
use super::core::RequestId;
use super::record::OffsetRecord;
use super::timeline::{Event, EventKind};
use super::timers::TimerKey;
use super::turn::Turn;
use super::types::{
    DescribedGroup, GroupError, GroupId, GroupState, GroupType, InstanceId, ListedGroup, MemberId,
    OffsetCommit,
};
use crate::base::{Offset, Timestamp, TopicPartition};

/// One group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) members: ClassicGroup,
    pub(super) offsets: BTreeMap<TopicPartition, OffsetRecord>,
    /// The last record that is about this group.
    pub(super) written_at: Option<Offset>,
}

impl Group {
    pub(super) fn new(members: ClassicGroup) -> Self {
        Self { members, offsets: BTreeMap::new(), written_at: None }
    }

    /// Whether nothing would be lost with it.
    pub(super) fn is_nothing(&self) -> bool {
        self.members.is_unused() && self.offsets.is_empty() && self.written_at.is_none()
    }

    /// Whether it is only there because a client was told to join again: no list shows it.
    pub(super) fn is_invisible(&self) -> bool {
        self.members.state() == GroupState::Empty
            && self.offsets.is_empty()
            && self.written_at.is_none()
    }

    pub(super) fn waiting_requests(&self) -> impl Iterator<Item = RequestId> {
        self.members.waiting_requests()
    }

    /// The group has been read from the log.
    pub(super) fn on_loaded(&mut self, turn: &mut Turn<'_>) {
        let members = self.members.on_loaded(turn);
        self.note(turn, EventKind::Loaded { members });
    }

    pub(super) fn on_timer(&mut self, turn: &mut Turn<'_>, entry: Duration, key: &TimerKey) {
        match key {
            TimerKey::Join(_) if self.members.is_join_over(turn, entry) => {
                self.members.on_join_timeout(turn);
            }
            TimerKey::Sync(_) if self.members.is_sync_over(turn, entry) => {
                self.members.on_sync_timeout(turn);
            }
            TimerKey::Session(_, member) => self.members.on_session_timeout(turn, member, entry),
            TimerKey::Join(_) | TimerKey::Sync(_) | TimerKey::Expiry => {}
        }
    }

    pub(super) fn describe(&self) -> Option<DescribedGroup> {
        Some(self.members.describe())
    }

    pub(super) fn listed(&self, id: &GroupId) -> ListedGroup {
        ListedGroup {
            group: id.clone(),
            protocol_type: self.members.protocol_type().cloned().unwrap_or_else(|| "".into()),
            state: self.members.state(),
            group_type: GroupType::Classic,
        }
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        self.members.timeline().events()
    }

    pub(super) fn note(&mut self, turn: &Turn<'_>, kind: EventKind) {
        self.members.timeline().note(turn.now.wall, kind);
    }

    /// Whether these offsets may be committed; if so the member has shown that it lives.
    pub(super) fn accept_commit(
        &mut self,
        turn: &mut Turn<'_>,
        request: &OffsetCommit,
    ) -> Result<(), GroupError> {
        let OffsetCommit { member, instance, generation, .. } = request;
        let instance: Option<&InstanceId> = instance.as_ref();
        self.members.validate_commit(member.as_ref(), instance, *generation)?;
        if let Some(member) = member {
            self.refresh(turn, member);
        }
        Ok(())
    }

    fn refresh(&mut self, turn: &mut Turn<'_>, member: &MemberId) {
        self.members.refresh(turn, member);
    }

    /// Whether a member may read `topic`.
    pub(super) fn reads(&self, topic: &str) -> bool {
        self.members.reads(topic)
    }

    /// From when on an offset that nobody reads by grows old; None: not while the group is as it is.
    pub(super) fn offsets_age_from(&self) -> Option<OffsetAge> {
        let members = &self.members;
        if members.protocol_type().is_none() {
            return Some(OffsetAge::Committed);
        }
        match members.state() {
            GroupState::Empty => {
                Some(members.state_since().map_or(OffsetAge::Committed, OffsetAge::Since))
            }
            GroupState::Stable if members.is_of_consumers() && members.topics().is_some() => {
                Some(OffsetAge::Committed)
            }
            // Who joins may still subscribe to anything: nothing grows old during a rebalance.
            GroupState::Stable
            | GroupState::PreparingRebalance
            | GroupState::CompletingRebalance
            | GroupState::Assigning
            | GroupState::Reconciling
            | GroupState::Dead => None,
        }
    }

    pub(super) fn check(&self) {
        self.members.check();
    }
}

/// What the age of an offset is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OffsetAge {
    /// Its commit.
    Committed,
    /// When the group became empty.
    Since(Timestamp),
}
