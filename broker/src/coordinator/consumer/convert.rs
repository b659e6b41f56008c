//! Groups that go over to the other protocol while they have members (KIP-848): up with the first
//! member of the consumer protocol, down when the last of these has gone.
//!
//! Both go on from the epoch, or generation, the group had, so that members which have not noticed are
//! told to join again instead of having to start anew.

use std::collections::BTreeSet;

use sawlog_protocol::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription,
};

use super::classic::{assignment, by_id};
use super::group::ConsumerGroup;
use super::member::Member;
use crate::base::TopicId;
use crate::coordinator::classic::{ClassicGroup, Convert};
use crate::coordinator::record::{
    ClassicMemberRecord, ClassicSide, ConsumerPart, CurrentRecord, MemberRecord, Step,
    TopicPartitions,
};
use crate::coordinator::timeline::Timeline;
use crate::coordinator::topics::Topics;
use crate::coordinator::turn::Turn;
use crate::coordinator::types::{Generation, GroupError, GroupId};

impl ConsumerGroup {
    /// The group that the members of a classic one make.
    ///
    /// # Errors
    /// What a member says of itself is not what consumers say.
    pub(in crate::coordinator) fn from_classic(
        topics: &Topics,
        id: GroupId,
        classic: &ClassicGroup,
    ) -> Result<Self, GroupError> {
        let generation = classic.generation().0.max(0);
        let mut group = Self::new(id, generation, Timeline::default());
        group.assignment_epoch = generation;
        let converts = classic.converts();
        let mut members = Vec::with_capacity(converts.len());
        for convert in &converts {
            members.push((convert, Told::read(topics, convert)?));
        }
        let mut taken: BTreeSet<(TopicId, i32)> = BTreeSet::new();
        // What a member was assigned is more than what it says it has: that may be long ago.
        for (convert, told) in &mut members {
            told.assigned = untaken(&told.assigned, &mut taken);
            group.say(&convert.member.member, told.said.clone());
        }
        for (convert, told) in members {
            let mut assigned = told.assigned;
            for (topic, set) in untaken(&told.owned, &mut taken) {
                assigned.entry(topic).or_default().extend(set);
            }
            let Some(member) = group.members.get_mut(&convert.member.member) else { continue };
            member.target.clone_from(&assigned);
            member.has = CurrentRecord {
                epoch: generation,
                previous_epoch: generation,
                step: Step::Stable,
                assigned,
                revoking: TopicPartitions::new(),
            };
            for partition in member.held() {
                group.holders.insert(partition, member.id.clone());
            }
        }
        Ok(group)
    }

    /// Writes all of the group, and begins the sessions of its members.
    pub(in crate::coordinator) fn begin(&mut self, turn: &mut Turn<'_>) {
        for member in self.members.values() {
            let said = ConsumerPart::Member(member.id.clone(), Some(member.said.clone()));
            self.write(turn, said);
        }
        self.write_epoch(turn);
        for member in self.members.values() {
            let target = ConsumerPart::Target(member.id.clone(), Some(member.target.clone()));
            self.write(turn, target);
        }
        self.write(turn, ConsumerPart::TargetEpoch(Some(self.assignment_epoch)));
        for member in self.members.values() {
            let has = ConsumerPart::Current(member.id.clone(), Some(member.has.clone()));
            self.write(turn, has);
        }
        let members: Vec<_> = self.members.keys().cloned().collect();
        for id in members {
            self.refresh(turn, &id);
        }
    }

    /// Whether only members of the classic protocol are left, and may have their group back.
    pub(in crate::coordinator) fn is_to_go_back(&self, turn: &Turn<'_>) -> bool {
        turn.options.migration.downgrades()
            && !self.members.is_empty()
            && self.members.len() <= turn.options.size_max
            && self.members.values().all(|member| member.classic().is_some())
    }

    /// The classic group that the members make; it is written down, and rebalances.
    pub(in crate::coordinator) fn become_classic(&mut self, turn: &mut Turn<'_>) -> ClassicGroup {
        self.write_tombstones(turn);
        let convert = |member: &Member| convert(turn.topics, member);
        let converts = self.members.values().filter_map(convert).collect();
        let timeline = std::mem::take(&mut self.timeline);
        let after = (Generation(self.epoch), timeline);
        let mut group = ClassicGroup::from_converts(turn, self.id.clone(), after, converts);
        group.prepare(turn, "no member of the consumer protocol is left");
        group
    }
}

/// What is known of a member of a classic group.
#[derive(Debug)]
struct Told {
    said: MemberRecord,
    assigned: TopicPartitions,
    /// What it says it has. Members that keep reading through a rebalance have more than they have
    /// been assigned while that is not over.
    owned: TopicPartitions,
}

impl Told {
    fn read(topics: &Topics, convert: &Convert) -> Result<Self, GroupError> {
        let unreadable = |_| GroupError::GroupIdNotFound;
        let member = &convert.member;
        let bytes = convert.subscription();
        let subscription = ConsumerProtocolSubscription::from_bytes(&bytes).map_err(unreadable)?;
        let assigned =
            ConsumerProtocolAssignment::from_bytes(&member.assignment).map_err(unreadable)?;
        let said = MemberRecord {
            instance: member.instance.clone(),
            rack: subscription.rack_id.filter(|rack| !rack.is_empty()).map(Into::into),
            client: member.client.clone(),
            topics: subscription.topics.iter().map(|topic| (*topic).into()).collect(),
            pattern: None,
            rebalance_timeout: member.rebalance_timeout,
            assignor: None,
            classic: Some(ClassicSide {
                session_timeout: member.session_timeout,
                protocols: convert.protocols.clone(),
            }),
        };
        Ok(Self {
            said,
            assigned: by_id(topics, &assigned.assigned_partitions),
            owned: by_id(topics, &subscription.owned_partitions),
        })
    }
}

/// What nobody has taken yet; from now on it is.
fn untaken(partitions: &TopicPartitions, taken: &mut BTreeSet<(TopicId, i32)>) -> TopicPartitions {
    let mut untaken = TopicPartitions::new();
    for (topic, partition) in super::member::each(partitions) {
        if taken.insert((topic, partition)) {
            untaken.entry(topic).or_default().insert(partition);
        }
    }
    untaken
}

fn convert(topics: &Topics, member: &Member) -> Option<Convert> {
    let classic = member.classic()?;
    let subscription = classic.protocols.first()?.metadata.clone();
    // What it has been asked to give back it may use still.
    let mut held = TopicPartitions::new();
    for (topic, partition) in member.held() {
        held.entry(topic).or_default().insert(partition);
    }
    Some(Convert {
        member: ClassicMemberRecord {
            member: member.id.clone(),
            instance: member.said.instance.clone(),
            client: member.said.client.clone(),
            rebalance_timeout: member.said.rebalance_timeout,
            session_timeout: classic.session_timeout,
            assignment: assignment(topics, &held, &subscription),
            subscription,
        },
        protocols: classic.protocols.clone(),
    })
}
