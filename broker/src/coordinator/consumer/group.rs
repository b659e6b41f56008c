//! The members of a group of the consumer protocol and what they have in common.
//!
//! Always holds, see [`ConsumerGroup::check`]:
//! - a partition is held by one member at most, and `holders` says by whom;
//! - every instance names the member that carries it, and no two members carry the same;
//! - `names` and `patterns` count who subscribes;
//! - no member is ahead of the assignment epoch, nor that of the group epoch;
//! - every member is waited for: by its session, and while it gives partitions back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::member::{AWAY, Member};
use super::subscription::Pattern;
use super::target::Computing;
use crate::base::TopicId;
use crate::coordinator::assignor::Assignor;
use crate::coordinator::options::GroupOptions;
use crate::coordinator::record::{ConsumerPart, EpochRecord, Record, Step};
use crate::coordinator::timeline::{EventKind, Timeline};
use crate::coordinator::timers::TimerKey;
use crate::coordinator::turn::Turn;
use crate::coordinator::types::{
    DescribedConsumerGroup, GroupError, GroupId, GroupState, InstanceId, MemberId,
};

/// A group of the consumer protocol.
#[derive(Debug)]
pub(in crate::coordinator) struct ConsumerGroup {
    pub(super) id: GroupId,
    pub(super) epoch: i32,
    /// Of the topics `epoch` is for.
    pub(super) topics_hash: i64,
    /// The epoch the targets are for.
    pub(super) assignment_epoch: i32,
    pub(super) members: BTreeMap<MemberId, Member>,
    pub(super) instances: BTreeMap<InstanceId, MemberId>,
    /// By topic named, how many members do.
    pub(super) names: BTreeMap<Arc<str>, usize>,
    pub(super) patterns: BTreeMap<Arc<str>, Pattern>,
    /// Who holds a partition.
    pub(super) holders: BTreeMap<(TopicId, i32), MemberId>,
    /// The version of the topics that has been looked at.
    pub(super) topics_version: u64,
    /// The assignment that is being computed elsewhere.
    pub(super) computing: Option<Computing>,
    /// The assignment epoch of which the timeline says that everyone has come to it.
    pub(super) reconciled_epoch: i32,
    pub(super) timeline: Timeline,
}

impl ConsumerGroup {
    /// A group nobody has joined, whose epochs go on from `epoch`.
    pub(in crate::coordinator) fn new(id: GroupId, epoch: i32, timeline: Timeline) -> Self {
        Self {
            id,
            epoch,
            topics_hash: 0,
            assignment_epoch: 0,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            names: BTreeMap::new(),
            patterns: BTreeMap::new(),
            holders: BTreeMap::new(),
            topics_version: 0,
            computing: None,
            reconciled_epoch: 0,
            timeline,
        }
    }

    pub(in crate::coordinator) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The group's epoch.
    pub(in crate::coordinator) fn epoch(&self) -> i32 {
        self.epoch
    }

    pub(in crate::coordinator) fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.epoch > self.assignment_epoch {
            GroupState::Assigning
        } else if self.is_reconciled() {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    pub(super) fn is_reconciled(&self) -> bool {
        self.members.values().all(|member| member.is_settled(self.assignment_epoch))
    }

    pub(in crate::coordinator) fn timeline(&mut self) -> &mut Timeline {
        &mut self.timeline
    }

    /// Whether a member reads `topic`.
    pub(in crate::coordinator) fn reads(&self, topic: &str) -> bool {
        self.names.contains_key(topic)
            || self.patterns.values().any(|pattern| pattern.topics.contains(topic))
    }

    pub(in crate::coordinator) fn describe(
        &self,
        options: &GroupOptions,
    ) -> DescribedConsumerGroup {
        DescribedConsumerGroup {
            state: self.state(),
            epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            assignor: self.assignor(options).name(),
            members: self.members.values().map(Member::described).collect(),
        }
    }

    /// What most members that ask for an assignor ask for.
    pub(super) fn assignor(&self, options: &GroupOptions) -> Assignor {
        let votes = |assignor: &Assignor| {
            let asks = |member: &&Member| member.said.assignor.as_deref() == Some(assignor.name());
            self.members.values().filter(asks).count()
        };
        let first = options.assignors.first().copied().unwrap_or(Assignor::Uniform);
        let mut best = (votes(&first), first);
        for assignor in options.assignors.iter().skip(1) {
            let count = votes(assignor);
            if count > best.0 {
                best = (count, *assignor);
            }
        }
        best.1
    }

    /// Whether offsets may be committed by, or told to, a member at this epoch.
    ///
    /// # Errors
    /// Why not.
    pub(in crate::coordinator) fn validate_epoch(
        &self,
        id: &MemberId,
        epoch: i32,
    ) -> Result<(), GroupError> {
        let member = self.members.get(id).ok_or(GroupError::UnknownMember)?;
        if epoch == member.has.epoch || planted!(AcceptStaleMemberEpoch) {
            Ok(())
        } else if member.classic().is_some() {
            Err(GroupError::IllegalGeneration)
        } else {
            Err(GroupError::StaleMemberEpoch)
        }
    }

    /// Whether a member speaks the classic protocol.
    pub(in crate::coordinator) fn is_classic(&self, id: &MemberId) -> bool {
        self.members.get(id).is_some_and(|member| member.classic().is_some())
    }

    /// Raises the group's epoch: who shall have what has to be decided anew.
    pub(super) fn bump(&mut self, turn: &mut Turn<'_>, reason: &str) {
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        let reason: Arc<str> = reason.into();
        let event = EventKind::EpochStarted { epoch: self.epoch, reason };
        self.timeline.note(turn.now.wall, event);
        self.write_epoch(turn);
    }

    pub(super) fn write_epoch(&self, turn: &mut Turn<'_>) {
        let record = EpochRecord { epoch: self.epoch, topics_hash: self.topics_hash };
        self.write(turn, ConsumerPart::Epoch(Some(record)));
    }

    pub(super) fn write(&self, turn: &mut Turn<'_>, part: ConsumerPart) {
        turn.write(Record::Consumer { group: self.id.clone(), part });
    }

    /// Tombstones for all of the group but its offsets. The epoch's comes last: without it there is
    /// no such group.
    pub(in crate::coordinator) fn write_tombstones(&self, turn: &mut Turn<'_>) {
        for id in self.members.keys() {
            self.write_member_tombstones(turn, id);
        }
        for pattern in self.patterns.keys() {
            self.write(turn, ConsumerPart::Pattern(pattern.clone(), None));
        }
        self.write(turn, ConsumerPart::TargetEpoch(None));
        self.write(turn, ConsumerPart::Epoch(None));
    }

    pub(super) fn write_member_tombstones(&self, turn: &mut Turn<'_>, id: &MemberId) {
        self.write(turn, ConsumerPart::Current(id.clone(), None));
        self.write(turn, ConsumerPart::Target(id.clone(), None));
        self.write(turn, ConsumerPart::Member(id.clone(), None));
    }

    /// A sign of life: the session of `id` begins anew.
    pub(super) fn refresh(&mut self, turn: &mut Turn<'_>, id: &MemberId) {
        let settings = turn.topics.settings(self.id.as_str());
        let common = Duration::from_millis(settings.consumer_session_timeout_ms);
        let Some(member) = self.members.get_mut(id) else { return };
        let timeout = member.classic().map_or(common, |classic| classic.session_timeout);
        let at = turn.now.monotonic + timeout;
        let key = || TimerKey::Session(self.id.clone(), id.clone());
        turn.timers.set(&mut member.session, at, key);
    }

    /// Asserts what always holds.
    pub(in crate::coordinator) fn check(&self) {
        let id = &self.id;
        assert!(self.assignment_epoch <= self.epoch, "{id}: assigned ahead of the group");
        let mut holders = BTreeMap::new();
        let mut instances = BTreeMap::new();
        let mut names: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        let mut patterns: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            for partition in member.held() {
                let other = holders.insert(partition, member.id.clone());
                assert_eq!(other, None, "{id}: {partition:?} is held twice, by {}", member.id);
            }
            if let Some(instance) = member.instance() {
                let other = instances.insert(instance.clone(), member.id.clone());
                assert_eq!(other, None, "{id}: {instance} twice");
            }
            for name in &member.said.topics {
                *names.entry(name.clone()).or_default() += 1;
            }
            if let Some(pattern) = &member.said.pattern {
                *patterns.entry(pattern.clone()).or_default() += 1;
            }
            self.check_member(member);
        }
        assert_eq!(holders, self.holders, "{id}: holders");
        assert_eq!(instances, self.instances, "{id}: instances");
        assert_eq!(names, self.names, "{id}: names");
        let known = self.patterns.iter().map(|(text, it)| (text.clone(), it.subscribers));
        assert_eq!(patterns, known.collect(), "{id}: patterns");
    }

    fn check_member(&self, member: &Member) {
        let (id, name) = (&self.id, &member.id);
        let has = &member.has;
        assert!(
            has.epoch == AWAY || (0..=self.assignment_epoch).contains(&has.epoch),
            "{id}: {name} is at {}, the assignment at {}",
            has.epoch,
            self.assignment_epoch
        );
        assert!(member.session.is_set(), "{id}: nobody notices when {name} dies");
        assert_eq!(
            has.step == Step::Unrevoked,
            !has.revoking.is_empty(),
            "{id}: {name} gives back {:?}, its step is {:?}",
            has.revoking,
            has.step
        );
        assert!(
            has.step != Step::Unrevoked || member.classic().is_some() || member.progress.is_set(),
            "{id}: {name} may give back whenever it likes"
        );
    }
}
