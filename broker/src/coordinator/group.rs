//! One group: its members, by either protocol, and its offsets.

use std::collections::BTreeMap;
use std::time::Duration;

use super::classic::ClassicGroup;
use super::consumer::ConsumerGroup;
use super::core::RequestId;
use super::record::{OffsetRecord, Record};
use super::timeline::{Event, EventKind, Timeline};
use super::timers::TimerKey;
use super::turn::Turn;
use super::types::{
    DescribedGroup, GroupError, GroupId, GroupState, GroupType, ListedGroup, OffsetCommit,
    OffsetFetch,
};
use crate::base::{Offset, Timestamp, TopicPartition};

/// The members of a group, by the protocol it uses.
#[derive(Debug)]
pub(super) enum Members {
    /// They assign to each other.
    Classic(ClassicGroup),
    /// The broker assigns.
    Consumer(ConsumerGroup),
}

/// One group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) members: Members,
    pub(super) offsets: BTreeMap<TopicPartition, OffsetRecord>,
    /// The last record that is about this group.
    pub(super) written_at: Option<Offset>,
}

impl Group {
    pub(super) fn new(members: Members) -> Self {
        Self { members, offsets: BTreeMap::new(), written_at: None }
    }

    /// A group of which nothing is known: it is of the classic protocol until somebody joins.
    pub(super) fn empty(id: GroupId) -> Self {
        Self::new(Members::Classic(ClassicGroup::new(id, Timeline::default())))
    }

    pub(super) fn state(&self) -> GroupState {
        match &self.members {
            Members::Classic(members) => members.state(),
            Members::Consumer(members) => members.state(),
        }
    }

    pub(super) fn is_consumer(&self) -> bool {
        matches!(self.members, Members::Consumer(_))
    }

    /// Whether nothing of it is worth keeping but its offsets.
    pub(super) fn is_unused(&self) -> bool {
        match &self.members {
            Members::Classic(members) => members.is_unused(),
            Members::Consumer(members) => members.is_empty(),
        }
    }

    /// Whether nothing would be lost with it.
    pub(super) fn is_nothing(&self) -> bool {
        self.is_unused() && self.offsets.is_empty() && self.written_at.is_none()
    }

    /// Whether it is only there because a client was told to join again: no list shows it.
    pub(super) fn is_invisible(&self) -> bool {
        self.state() == GroupState::Empty && self.offsets.is_empty() && self.written_at.is_none()
    }

    pub(super) fn waiting_requests(&self) -> impl Iterator<Item = RequestId> {
        let classic = match &self.members {
            Members::Classic(members) => Some(members),
            // Everything is answered at once.
            Members::Consumer(_) => None,
        };
        classic.into_iter().flat_map(ClassicGroup::waiting_requests)
    }

    /// The group has been read from the log.
    pub(super) fn on_loaded(&mut self, turn: &mut Turn<'_>) {
        let members = match &mut self.members {
            Members::Classic(members) => members.on_loaded(turn),
            Members::Consumer(members) => members.on_loaded(turn),
        };
        self.note(turn, EventKind::Loaded { members });
    }

    pub(super) fn on_timer(&mut self, turn: &mut Turn<'_>, entry: Duration, key: &TimerKey) {
        match (&mut self.members, key) {
            (Members::Classic(members), TimerKey::Join(_)) => {
                if members.is_join_over(turn, entry) {
                    members.on_join_timeout(turn);
                }
            }
            (Members::Classic(members), TimerKey::Sync(_)) => {
                if members.is_sync_over(turn, entry) {
                    members.on_sync_timeout(turn);
                }
            }
            (Members::Classic(members), TimerKey::Session(_, member)) => {
                members.on_session_timeout(turn, member, entry);
            }
            (Members::Consumer(members), TimerKey::Session(_, member)) => {
                members.on_session_timeout(turn, member, entry);
                self.go_back_if_due(turn);
            }
            (Members::Consumer(members), TimerKey::Progress(_, member)) => {
                members.on_progress_timeout(turn, member, entry);
                self.go_back_if_due(turn);
            }
            // Of the protocol the group used before.
            (Members::Classic(_), TimerKey::Progress(..) | TimerKey::Expiry)
            | (Members::Consumer(_), TimerKey::Join(_) | TimerKey::Sync(_) | TimerKey::Expiry) => {}
        }
    }

    /// As DescribeGroups shows it.
    ///
    /// # Errors
    /// The group uses the consumer protocol.
    pub(super) fn describe(&self) -> Result<DescribedGroup, GroupError> {
        match &self.members {
            Members::Classic(members) => Ok(members.describe()),
            Members::Consumer(_) => Err(GroupError::OtherProtocol),
        }
    }

    pub(super) fn listed(&self, id: &GroupId) -> ListedGroup {
        let (protocol_type, group_type) = match &self.members {
            Members::Classic(members) => (members.protocol_type().cloned(), GroupType::Classic),
            Members::Consumer(_) => (Some("consumer".into()), GroupType::Consumer),
        };
        ListedGroup {
            group: id.clone(),
            protocol_type: protocol_type.unwrap_or_else(|| "".into()),
            state: self.state(),
            group_type,
        }
    }

    /// Tombstones for all of it but its offsets.
    pub(super) fn write_tombstones(&self, turn: &mut Turn<'_>, id: &GroupId) {
        match &self.members {
            Members::Classic(_) => turn.write(Record::Group { group: id.clone(), value: None }),
            Members::Consumer(members) => members.write_tombstones(turn),
        }
    }

    fn timeline(&mut self) -> &mut Timeline {
        match &mut self.members {
            Members::Classic(members) => members.timeline(),
            Members::Consumer(members) => members.timeline(),
        }
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        self.timeline().events()
    }

    pub(super) fn note(&mut self, turn: &Turn<'_>, kind: EventKind) {
        self.timeline().note(turn.now.wall, kind);
    }

    /// Whether these offsets may be committed. In a classic group the member has shown that it lives.
    pub(super) fn accept_commit(
        &mut self,
        turn: &mut Turn<'_>,
        request: &OffsetCommit,
    ) -> Result<(), GroupError> {
        let OffsetCommit { member, instance, generation, .. } = request;
        match &mut self.members {
            Members::Classic(members) => {
                members.validate_commit(member.as_ref(), instance.as_ref(), *generation)?;
                if let Some(member) = member {
                    members.refresh(turn, member);
                }
                Ok(())
            }
            // A consumer that only keeps its offsets here.
            Members::Consumer(members) if generation.0 < 0 && members.is_empty() => Ok(()),
            Members::Consumer(members) => {
                let member = member.as_ref().ok_or(GroupError::UnknownMember)?;
                members.validate_epoch(member, generation.0)?;
                if request.knows_member_epochs || members.is_classic(member) {
                    Ok(())
                } else {
                    Err(GroupError::VersionTooOld)
                }
            }
        }
    }

    /// Whether offsets may be told.
    pub(super) fn accept_fetch(&self, request: &OffsetFetch) -> Result<(), GroupError> {
        match (&self.members, &request.member) {
            (Members::Consumer(members), Some(member)) => {
                members.validate_epoch(member, request.member_epoch)
            }
            (Members::Consumer(_), None) if request.member_epoch >= 0 => {
                Err(GroupError::UnknownMember)
            }
            (Members::Consumer(_), None) | (Members::Classic(_), _) => Ok(()),
        }
    }

    /// Whether a member may read `topic`.
    pub(super) fn reads(&self, topic: &str) -> bool {
        match &self.members {
            Members::Classic(members) => members.reads(topic),
            Members::Consumer(members) => members.reads(topic),
        }
    }

    /// Whether it can be told which topics members read.
    pub(super) fn is_of_consumers(&self) -> bool {
        match &self.members {
            Members::Classic(members) => members.is_of_consumers(),
            Members::Consumer(_) => true,
        }
    }

    /// From when on an offset that nobody reads by grows old; None: not while the group is as it is.
    pub(super) fn offsets_age_from(&self) -> Option<OffsetAge> {
        let members = match &self.members {
            Members::Classic(members) => members,
            // What its members read is known at any time.
            Members::Consumer(_) => return Some(OffsetAge::Committed),
        };
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
        match &self.members {
            Members::Classic(members) => members.check(),
            Members::Consumer(members) => members.check(),
        }
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
