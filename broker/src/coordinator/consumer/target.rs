//! Who shall have what: deciding it anew when the group's epoch has risen.
//!
//! A small group is assigned on the spot. A large one is handed out as an [`AssignJob`], to be run
//! where it holds up nobody; until it is done members go on towards the targets there are. One job of a
//! group runs at a time: what has changed meanwhile is the matter of the next.

use std::collections::BTreeMap;

use super::group::ConsumerGroup;
use super::member::Member;
use crate::coordinator::assignor::{Assignment, Assignor, GroupSpec, MemberSpec};
use crate::coordinator::record::{ConsumerPart, TopicPartitions};
use crate::coordinator::timeline::EventKind;
use crate::coordinator::turn::Turn;
use crate::coordinator::types::{GroupId, MemberId};

/// An assignment to be computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignJob {
    /// The group.
    pub group: GroupId,
    /// Its epoch.
    epoch: i32,
    assignor: Assignor,
    spec: GroupSpec,
}

/// An assignment that has been computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignDone {
    /// The group.
    pub group: GroupId,
    epoch: i32,
    assignor: Assignor,
    assignment: Assignment,
}

impl AssignJob {
    /// Computes it; takes time.
    #[must_use]
    pub fn run(self) -> AssignDone {
        let Self { group, epoch, assignor, spec } = self;
        AssignDone { group, epoch, assignor, assignment: assignor.assign(&spec) }
    }
}

/// What is known of a job that runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Computing {
    /// Of the group when it began.
    epoch: i32,
    /// Static members whose id has changed since, by the old one.
    pub(super) renamed: BTreeMap<MemberId, MemberId>,
}

impl ConsumerGroup {
    /// Assigns anew if the epoch has risen.
    pub(super) fn assign_if_needed(&mut self, turn: &mut Turn<'_>) {
        if self.epoch <= self.assignment_epoch
            || self.members.is_empty()
            || self.computing.is_some()
            || planted!(ForgetTarget)
        {
            return;
        }
        let spec = self.spec(turn);
        let partitions: i32 = spec.topics.values().map(|topic| topic.partitions).sum();
        let size = spec.members.len().saturating_add(usize::try_from(partitions).unwrap_or(0));
        let assignor = self.assignor(turn.options);
        let job = AssignJob { group: self.id.clone(), epoch: self.epoch, assignor, spec };
        // Without any target there is no epoch a member could be told.
        if self.assignment_epoch == 0 || size <= turn.options.assign_at_once_max {
            self.take_target(turn, job.run());
        } else {
            self.computing = Some(Computing { epoch: self.epoch, renamed: BTreeMap::new() });
            turn.out.jobs.push(job);
        }
    }

    fn spec(&self, turn: &Turn<'_>) -> GroupSpec {
        let spec = |member: &Member| MemberSpec {
            instance: member.said.instance.clone(),
            rack: member.said.rack.clone(),
            topics: self.topics_of(member).filter_map(|name| turn.topics.id_of(name)).collect(),
            owned: member.target.clone(),
        };
        GroupSpec {
            members: self.members.iter().map(|(id, member)| (id.clone(), spec(member))).collect(),
            topics: turn.topics.specs(self.subscribed().into_iter()),
        }
    }

    /// A job is done.
    pub(in crate::coordinator) fn on_assigned(&mut self, turn: &mut Turn<'_>, done: AssignDone) {
        let is_it = |computing: &Computing| computing.epoch == done.epoch;
        if let Some(computing) = self.computing.take_if(|computing| is_it(computing)) {
            let AssignDone { group, epoch, assignor, assignment } = done;
            let now_called = |id: MemberId| computing.renamed.get(&id).cloned().unwrap_or(id);
            let assignment = assignment.into_iter().map(|(id, it)| (now_called(id), it)).collect();
            self.take_target(turn, AssignDone { group, epoch, assignor, assignment });
        }
    }

    fn take_target(&mut self, turn: &mut Turn<'_>, mut done: AssignDone) {
        let mut changed = Vec::new();
        for (id, member) in &mut self.members {
            // Who has come since the job began has none yet.
            let target: TopicPartitions = done.assignment.remove(id).unwrap_or_default();
            if member.target != target {
                member.target.clone_from(&target);
                changed.push((id.clone(), target));
            }
        }
        for (id, target) in changed {
            self.write(turn, ConsumerPart::Target(id, Some(target)));
        }
        self.assignment_epoch = done.epoch;
        self.write(turn, ConsumerPart::TargetEpoch(Some(done.epoch)));
        let event = EventKind::TargetAssigned {
            epoch: done.epoch,
            members: self.members.len(),
            assignor: done.assignor.name().into(),
        };
        self.timeline.note(turn.now.wall, event);
    }
}
