//! Members of the classic protocol in a group of the consumer protocol, while the group moves from
//! one to the other (KIP-848).
//!
//! To them the group looks like a classic one in which they never lead: their member epoch is the
//! generation, JoinGroup is answered at once, SyncGroup brings what they may use, and Heartbeat says
//! REBALANCE_IN_PROGRESS whenever they can or must go a step further. What they use is what their
//! subscription says when they join.

use bytes::Bytes;
use sawlog_protocol::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicPartition,
};

use super::group::ConsumerGroup;
use super::heartbeat::Sender;
use super::member::{Awaited, Member};
use crate::coordinator::core::{Reply, RequestId};
use crate::coordinator::record::{ClassicSide, MemberRecord, Step, TopicPartitions};
use crate::coordinator::timeline::EventKind;
use crate::coordinator::timers::TimerKey;
use crate::coordinator::topics::Topics;
use crate::coordinator::turn::Turn;
use crate::coordinator::types::{
    Generation, GroupError, Heartbeat, InstanceId, JoinGroup, JoinRefused, Joined, LeavingMember,
    LeftMember, MemberId, SyncGroup, Synced,
};

/// Protocol type of groups of consumers.
const CONSUMER: &str = "consumer";

/// The newest version of an assignment.
const ASSIGNMENT_VERSION_MAX: i16 = 3;

/// What a member says of itself with JoinGroup.
#[derive(Debug)]
struct Joining {
    said: MemberRecord,
    owned: TopicPartitions,
}

impl ConsumerGroup {
    /// Handles a JoinGroup whose group id and session timeout are in order.
    pub(in crate::coordinator) fn join(
        &mut self,
        turn: &mut Turn<'_>,
        id: RequestId,
        request: &JoinGroup,
    ) {
        match self.join_classic(turn, request) {
            Ok(joined) => turn.reply(id, Reply::Join(Ok(joined))),
            Err(refused) => turn.reply_at_once(id, Reply::Join(Err(refused))),
        }
    }

    fn join_classic(
        &mut self,
        turn: &mut Turn<'_>,
        request: &JoinGroup,
    ) -> Result<Joined, JoinRefused> {
        let refuse = |error| JoinRefused { error, member: request.member.clone() };
        let id = request.member.clone().unwrap_or_else(|| request.fresh_member.clone());
        let sender = self.joining_sender(request, &id).map_err(refuse)?;
        if sender == Sender::New && self.members.len() >= turn.options.consumer_size_max {
            return Err(GroupError::GroupMaxSizeReached.into());
        }
        let joining = self.joining(turn.topics, request, &id).map_err(refuse)?;
        if sender == Sender::New && request.member.is_some() && !joining.owned.is_empty() {
            // It was a member and does not know that it is none: what it uses is others' by now.
            return Err(refuse(GroupError::UnknownMember));
        }
        if request.member.is_none()
            && request.instance.is_none()
            && request.knows_member_id_required
        {
            return Err(JoinRefused { error: GroupError::MemberIdRequired, member: Some(id) });
        }
        if let Sender::Returns(old) = &sender {
            self.rename(turn, old, &id);
        }
        self.note_sender(turn, &sender, &id, &joining.said);
        self.update(turn, (&id, &sender), joining.said);
        self.assign_if_needed(turn);
        self.reconcile(turn, &id, Some(&joining.owned));
        self.refresh(turn, &id);
        self.expect(turn, &id, Awaited::Sync);
        let epoch = self.members.get(&id).map_or(0, |member| member.has.epoch);
        Ok(Joined {
            generation: Generation(epoch),
            protocol_type: Some(CONSUMER.into()),
            protocol: request.protocols.first().map(|protocol| protocol.name.clone()),
            // Nobody: the broker assigns.
            leader: MemberId::from(""),
            member: id,
            members: Vec::new(),
            skip_assignment: false,
        })
    }

    /// Who joins. As in classic groups the newest process of an instance wins.
    fn joining_sender(&self, request: &JoinGroup, id: &MemberId) -> Result<Sender, GroupError> {
        let known = self.members.get(id);
        let Some(instance) = &request.instance else {
            return match known {
                None => Ok(Sender::New),
                Some(member) if member.classic().is_some() => Ok(Sender::Known),
                Some(_) => Err(GroupError::UnknownMember),
            };
        };
        match (self.instances.get(instance), &request.member) {
            (Some(holder), Some(member)) if holder == member => Ok(Sender::Known),
            (Some(_), Some(_)) => Err(GroupError::FencedInstance),
            (None, Some(_)) => Err(GroupError::UnknownMember),
            (Some(holder), None) => Ok(Sender::Returns(holder.clone())),
            (None, None) => Ok(Sender::New),
        }
    }

    /// What the request says, if the group can make something of it.
    fn joining(
        &self,
        topics: &Topics,
        request: &JoinGroup,
        id: &MemberId,
    ) -> Result<Joining, GroupError> {
        let is_known_to_all = |name: &str| {
            let others = self.members.values().filter(|member| member.id != *id);
            others
                .filter_map(Member::classic)
                .all(|other| other.protocols.iter().any(|protocol| &*protocol.name == name))
        };
        let fits = &*request.protocol_type == CONSUMER
            && request.protocols.iter().any(|protocol| is_known_to_all(&protocol.name));
        let first = request.protocols.first().filter(|_| fits);
        let first = first.ok_or(GroupError::InconsistentProtocol)?;
        let subscription = ConsumerProtocolSubscription::from_bytes(&first.metadata)
            .map_err(|_| GroupError::InconsistentProtocol)?;
        let said = MemberRecord {
            instance: request.instance.clone(),
            rack: subscription.rack_id.filter(|rack| !rack.is_empty()).map(Into::into),
            client: request.client.clone(),
            topics: subscription.topics.iter().map(|topic| (*topic).into()).collect(),
            pattern: None,
            rebalance_timeout: request.rebalance_timeout,
            assignor: None,
            classic: Some(ClassicSide {
                session_timeout: request.session_timeout,
                protocols: request.protocols.clone(),
            }),
        };
        Ok(Joining { said, owned: by_id(topics, &subscription.owned_partitions) })
    }

    /// Handles a SyncGroup.
    ///
    /// # Errors
    /// What the member has to do instead of reading.
    pub(in crate::coordinator) fn sync(
        &mut self,
        turn: &mut Turn<'_>,
        request: &SyncGroup,
    ) -> Result<Synced, GroupError> {
        let (id, instance) = (&request.member, request.instance.as_ref());
        self.validate_classic(id, instance, request.generation)?;
        let member = self.members.get(id).ok_or(GroupError::UnknownMember)?;
        let first = member.classic().and_then(|classic| classic.protocols.first());
        let first = first.ok_or(GroupError::InconsistentProtocol)?;
        let differs = |asked: Option<&std::sync::Arc<str>>, is: &str| {
            asked.is_some_and(|asked| &**asked != is)
        };
        if differs(request.protocol_type.as_ref(), CONSUMER)
            || differs(request.protocol.as_ref(), &first.name)
        {
            return Err(GroupError::InconsistentProtocol);
        }
        if member.has.epoch < self.assignment_epoch && member.has.step != Step::Unrevoked {
            self.expect(turn, id, Awaited::Join);
            return Err(GroupError::RebalanceInProgress);
        }
        let synced = Synced {
            protocol_type: Some(CONSUMER.into()),
            protocol: Some(first.name.clone()),
            assignment: assignment(turn.topics, &member.has.assigned, &first.metadata),
        };
        self.refresh(turn, id);
        if let Some(member) = self.members.get_mut(id).filter(|it| it.awaited == Awaited::Sync) {
            member.progress.cancel();
        }
        Ok(synced)
    }

    /// Handles a Heartbeat of the classic protocol.
    ///
    /// # Errors
    /// What the member has to do instead of going on.
    pub(in crate::coordinator) fn classic_heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        request: &Heartbeat,
    ) -> Result<(), GroupError> {
        let id = &request.member;
        self.validate_classic(id, request.instance.as_ref(), request.generation)?;
        self.refresh(turn, id);
        let Some(member) = self.members.get(id) else { return Err(GroupError::UnknownMember) };
        if self.can_go_on(turn.topics, member) {
            self.expect(turn, id, Awaited::Join);
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// Whether the member can or must go a step further, for which it has to join.
    fn can_go_on(&self, topics: &Topics, member: &Member) -> bool {
        let is_behind = member.has.epoch < self.assignment_epoch
            || (self.epoch > self.assignment_epoch && self.computing.is_none());
        let is_free = |partition: (crate::base::TopicId, i32)| {
            self.holders.get(&partition).is_none_or(|holder| *holder == member.id)
        };
        let is_released = || super::member::each(&self.wanted(topics, member)).all(is_free);
        match member.has.step {
            Step::Unrevoked => true,
            Step::Unreleased => is_behind || is_released(),
            Step::Stable => is_behind,
        }
    }

    /// Whether `id` is a member of the classic protocol, of this generation.
    fn validate_classic(
        &self,
        id: &MemberId,
        instance: Option<&InstanceId>,
        generation: Generation,
    ) -> Result<(), GroupError> {
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                None => return Err(GroupError::UnknownMember),
                Some(holder) if holder != id => return Err(GroupError::FencedInstance),
                Some(_) => {}
            }
        }
        let member = self.members.get(id).filter(|member| member.classic().is_some());
        let member = member.ok_or(GroupError::UnknownMember)?;
        if member.has.epoch == generation.0 { Ok(()) } else { Err(GroupError::IllegalGeneration) }
    }

    /// Gives a member its rebalance timeout to join again, unless it has been told before, or to fetch
    /// its assignment.
    fn expect(&mut self, turn: &mut Turn<'_>, id: &MemberId, awaited: Awaited) {
        let Some(member) = self.members.get_mut(id) else { return };
        if awaited == Awaited::Join && member.awaited == awaited && member.progress.is_set() {
            return;
        }
        member.awaited = awaited;
        let at = turn.now.monotonic + member.said.rebalance_timeout;
        let key = || TimerKey::Progress(self.id.clone(), id.clone());
        turn.timers.set(&mut member.progress, at, key);
    }

    /// Handles a LeaveGroup.
    pub(in crate::coordinator) fn leave_classic(
        &mut self,
        turn: &mut Turn<'_>,
        members: Vec<LeavingMember>,
    ) -> Vec<LeftMember> {
        let leave = |leaving: LeavingMember| {
            let result = self.leave_one(turn, &leaving);
            LeftMember { member: leaving.member, instance: leaving.instance, result }
        };
        members.into_iter().map(leave).collect()
    }

    fn leave_one(
        &mut self,
        turn: &mut Turn<'_>,
        leaving: &LeavingMember,
    ) -> Result<(), GroupError> {
        let id = match (&leaving.instance, &leaving.member) {
            (None, None) => return Err(GroupError::UnknownMember),
            (None, Some(id)) => id.clone(),
            (Some(instance), member) => {
                let holder = self.instances.get(instance).ok_or(GroupError::UnknownMember)?;
                if member.as_ref().is_some_and(|member| member != holder) {
                    return Err(GroupError::FencedInstance);
                }
                holder.clone()
            }
        };
        let member = self.members.get(&id).filter(|member| member.classic().is_some());
        let member = member.ok_or(GroupError::UnknownMember)?;
        let event = EventKind::Left {
            member: id.clone(),
            client: Some(member.said.client.clone()),
            reason: leaving.reason.clone(),
        };
        self.remove(turn, &id, event);
        Ok(())
    }
}

/// Partitions of topics that exist, by the ids of these.
pub(super) fn by_id(topics: &Topics, partitions: &[TopicPartition<'_>]) -> TopicPartitions {
    let mut by_id = TopicPartitions::new();
    for owned in partitions.iter().filter(|owned| !owned.partitions.is_empty()) {
        if let Some(topic) = topics.id_of(owned.topic) {
            by_id.entry(topic).or_default().extend(&owned.partitions);
        }
    }
    by_id
}

/// An assignment as consumers read it, in the version of the subscription.
pub(super) fn assignment(
    topics: &Topics,
    partitions: &TopicPartitions,
    subscription: &[u8],
) -> Bytes {
    let assigned = partitions.iter().filter_map(|(topic, set)| {
        let topic = topics.name_of(*topic)?;
        Some(TopicPartition { topic, partitions: set.iter().copied().collect() })
    });
    let version = subscription.first_chunk().map_or(0, |bytes| i16::from_be_bytes(*bytes));
    let version = version.clamp(0, ASSIGNMENT_VERSION_MAX);
    let assigned =
        ConsumerProtocolAssignment { assigned_partitions: assigned.collect(), user_data: None };
    assigned.to_bytes(version)
}
