//! A member joins, lives, says what it wants and what it uses, and learns what is its.

use std::time::Duration;

use super::group::ConsumerGroup;
use super::member::{AWAY, Awaited, JOIN, Member};
use super::reconcile::{self, Goal, is_within};
use crate::coordinator::record::{
    ConsumerPart, CurrentRecord, MemberRecord, Step, TopicPartitions,
};
use crate::coordinator::timeline::EventKind;
use crate::coordinator::timers::{Timer, TimerKey};
use crate::coordinator::turn::Turn;
use crate::coordinator::types::{Beat, ConsumerHeartbeat, GroupError, InstanceId, MemberId};

/// Who sends a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// Somebody new.
    New,
    /// The member of that id.
    Known,
    /// A static member that comes back, from under this id.
    Returns(MemberId),
}

impl ConsumerGroup {
    /// Whether a heartbeat can be taken: then [`Self::heartbeat`] cannot fail.
    ///
    /// # Errors
    /// Why not.
    pub(in crate::coordinator) fn admit(
        &self,
        turn: &Turn<'_>,
        request: &ConsumerHeartbeat,
    ) -> Result<(), GroupError> {
        let sender = self.sender(request, caller(request))?;
        let is_full = self.members.len() >= turn.options.consumer_size_max;
        if sender == Sender::New && is_full {
            return Err(GroupError::GroupMaxSizeReached);
        }
        request.pattern.as_ref().map_or(Ok(()), |pattern| self.validate_pattern(pattern))
    }

    /// Handles a heartbeat that joins or goes on.
    ///
    /// # Errors
    /// What the member has to do instead of going on; nothing has changed.
    pub(in crate::coordinator) fn heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        request: &ConsumerHeartbeat,
    ) -> Result<Beat, GroupError> {
        self.admit(turn, request)?;
        if let Some(beat) = self.beat_at_rest(turn, request) {
            return Ok(beat);
        }
        let id = caller(request).clone();
        let sender = self.sender(request, &id)?;
        if let Sender::Returns(old) = &sender {
            self.rename(turn, old, &id);
        }
        let before = self.members.get(&id).map(|member| member.has.clone()).unwrap_or_default();
        let said = self.members.get(&id).map(|member| member.said.clone());
        let said = updated(said.unwrap_or_else(|| Member::new(id.clone()).said), request);
        self.note_sender(turn, &sender, &id, &said);
        self.update(turn, (&id, &sender), said);
        if let (Some(charge), Some(member)) = (&request.charge, self.members.get_mut(&id)) {
            member.charge = Some(charge.clone());
        }
        self.assign_if_needed(turn);
        self.reconcile(turn, &id, request.owned.as_ref());
        self.refresh(turn, &id);
        let has = self.members.get(&id).map(|member| member.has.clone()).unwrap_or_default();
        let is_told = is_full(request) || has.assigned != before.assigned;
        Ok(Beat {
            member: id,
            epoch: has.epoch,
            heartbeat_interval: self.heartbeat_interval(turn),
            assignment: (is_told || request.epoch != has.epoch).then_some(has.assigned),
        })
    }

    fn heartbeat_interval(&self, turn: &Turn<'_>) -> Duration {
        let settings = turn.topics.settings(self.id.as_str());
        Duration::from_millis(settings.consumer_heartbeat_interval_ms)
    }

    /// The answer to most heartbeats there are: of a member that says nothing new and has what it shall
    /// have. Nothing but its session moves, and nothing is copied. What topics and targets become shows
    /// in the epochs.
    fn beat_at_rest(&mut self, turn: &mut Turn<'_>, request: &ConsumerHeartbeat) -> Option<Beat> {
        let member = self.members.get(caller(request))?;
        let epoch = member.has.epoch;
        let is_there = member.has.step == Step::Stable
            && [request.epoch, self.epoch, self.assignment_epoch] == [epoch; 3]
            && !self.is_outdated(turn);
        if !is_there || !says_nothing(&member.said, request) {
            return None;
        }
        let id = member.id.clone();
        self.refresh(turn, &id);
        let heartbeat_interval = self.heartbeat_interval(turn);
        Some(Beat { member: id, epoch, heartbeat_interval, assignment: None })
    }

    fn sender(&self, request: &ConsumerHeartbeat, id: &MemberId) -> Result<Sender, GroupError> {
        let joins = request.epoch == JOIN;
        let holder = match &request.instance {
            Some(instance) => self.instances.get(instance),
            None => None,
        };
        match (holder, self.members.get(id)) {
            (Some(holder), None) if holder != id => self.takes_over(request, holder),
            (Some(holder), Some(_)) if holder != id => Err(GroupError::FencedInstance),
            (_, Some(member)) if joins && member.has.epoch == AWAY => {
                Ok(Sender::Returns(id.clone()))
            }
            (None, Some(_)) if request.instance.is_some() && !joins => {
                Err(GroupError::UnknownMember)
            }
            (_, Some(member)) => validate_epoch(member, request).map(|()| Sender::Known),
            (_, None) if joins => Ok(Sender::New),
            (_, None) => Err(GroupError::UnknownMember),
        }
    }

    /// Whether somebody else may take the place of `holder`'s instance: only once that has left, or if
    /// it speaks the classic protocol, in which the newest process wins.
    fn takes_over(
        &self,
        request: &ConsumerHeartbeat,
        holder: &MemberId,
    ) -> Result<Sender, GroupError> {
        let is_left = self
            .members
            .get(holder)
            .is_some_and(|member| member.has.epoch == AWAY || member.classic().is_some());
        if request.epoch != JOIN {
            Err(GroupError::FencedInstance)
        } else if is_left {
            Ok(Sender::Returns(holder.clone()))
        } else {
            Err(GroupError::UnreleasedInstance)
        }
    }

    /// The member `old` comes back as `new`, at the beginning of its way. It keeps what it had.
    pub(super) fn rename(&mut self, turn: &mut Turn<'_>, old: &MemberId, new: &MemberId) {
        let Some(mut member) = self.members.get(old).cloned() else { return };
        self.unsay(old);
        self.members.remove(old);
        for partition in member.held() {
            self.holders.remove(&partition);
        }
        if old != new {
            self.write_member_tombstones(turn, old);
        }
        if let Some(computing) = &mut self.computing {
            let first = computing.renamed.iter().find(|(_, now)| *now == old);
            let first = first.map_or_else(|| old.clone(), |(first, _)| first.clone());
            computing.renamed.insert(first, new.clone());
        }
        member.id = new.clone();
        (member.session, member.progress) = (Timer::default(), Timer::default());
        let assigned = std::mem::take(&mut member.has.assigned);
        member.has = CurrentRecord { assigned, ..CurrentRecord::default() };
        for partition in member.held() {
            self.holders.insert(partition, new.clone());
        }
        let said = member.said.clone();
        self.write(turn, ConsumerPart::Member(new.clone(), Some(said.clone())));
        self.write(turn, ConsumerPart::Target(new.clone(), Some(member.target.clone())));
        self.write(turn, ConsumerPart::Current(new.clone(), Some(member.has.clone())));
        let placeholder = Member { said: Member::new(new.clone()).said, ..member };
        self.members.insert(new.clone(), placeholder);
        self.say(new, said);
    }

    pub(super) fn note_sender(
        &mut self,
        turn: &Turn<'_>,
        sender: &Sender,
        id: &MemberId,
        said: &MemberRecord,
    ) {
        let event = match (sender, &said.instance) {
            (Sender::Known, _) => return,
            (Sender::Returns(old), Some(instance)) => EventKind::Replaced {
                instance: InstanceId::clone(instance),
                old: old.clone(),
                new: id.clone(),
            },
            (Sender::New | Sender::Returns(_), instance) => EventKind::Joined {
                member: id.clone(),
                instance: instance.clone(),
                client: said.client.clone(),
                reason: None,
            },
        };
        self.timeline.note(turn.now.wall, event);
    }

    /// Takes in what a member says of itself, and what the topics look like now. Either can begin an
    /// epoch.
    pub(super) fn update(
        &mut self,
        turn: &mut Turn<'_>,
        (id, sender): (&MemberId, &Sender),
        said: MemberRecord,
    ) {
        let known = self.members.get(id).map(|member| &member.said);
        let is_new = *sender == Sender::New;
        let is_changed = known != Some(&said);
        let subscribes_anew =
            known.is_none_or(|known| known.topics != said.topics || known.pattern != said.pattern);
        if is_changed || is_new {
            self.write(turn, ConsumerPart::Member(id.clone(), Some(said.clone())));
            self.say(id, said);
        }
        if !(subscribes_anew || is_new || self.is_outdated(turn)) {
            return;
        }
        let topics_differ = self.review(turn);
        if is_new {
            self.bump(turn, &format!("member {id} is new"));
        } else if subscribes_anew {
            self.bump(turn, &format!("member {id} subscribes to other topics"));
        } else if topics_differ {
            self.bump(turn, "topics have changed");
        }
    }

    /// Takes the member as far towards its target as it can go.
    pub(super) fn reconcile(
        &mut self,
        turn: &mut Turn<'_>,
        id: &MemberId,
        owned: Option<&TopicPartitions>,
    ) {
        let Some(member) = self.members.get(id) else { return };
        let wanted = self.wanted(turn.topics, member);
        let goal = Goal { epoch: self.assignment_epoch, wanted: &wanted };
        let is_free = |topic, partition| {
            let holder = self.holders.get(&(topic, partition));
            holder.is_none_or(|holder| holder == id)
        };
        let next = reconcile::next(&member.has, goal, owned, is_free);
        if next != member.has {
            self.set_current(turn, id, next);
        }
    }

    /// The member has this from now on.
    pub(super) fn set_current(&mut self, turn: &mut Turn<'_>, id: &MemberId, next: CurrentRecord) {
        let Some(member) = self.members.get_mut(id) else { return };
        for partition in member.held() {
            self.holders.remove(&partition);
        }
        member.has = next;
        for partition in member.held() {
            self.holders.insert(partition, id.clone());
        }
        if member.has.step == Step::Unrevoked && member.classic().is_none() {
            let at = turn.now.monotonic + member.said.rebalance_timeout;
            let key = || TimerKey::Progress(self.id.clone(), id.clone());
            turn.timers.set(&mut member.progress, at, key);
            member.awaited = Awaited::Revocation;
        } else if member.awaited == Awaited::Revocation {
            member.progress.cancel();
        }
        let record = member.has.clone();
        if !planted!(ForgetCurrent) {
            self.write(turn, ConsumerPart::Current(id.clone(), Some(record)));
        }
        self.note_if_reconciled(turn);
    }

    fn note_if_reconciled(&mut self, turn: &Turn<'_>) {
        let epoch = self.assignment_epoch;
        if self.epoch == epoch && self.reconciled_epoch != epoch && self.is_reconciled() {
            self.reconciled_epoch = epoch;
            self.timeline.note(turn.now.wall, EventKind::Reconciled { epoch });
        }
    }
}

/// The member a heartbeat is of, or is to be of.
fn caller(request: &ConsumerHeartbeat) -> &MemberId {
    request.member.as_ref().unwrap_or(&request.fresh_member)
}

/// The epoch it is at, or the one before: then the reply that said so was lost, and the member cannot
/// use more than it has now.
fn validate_epoch(member: &Member, request: &ConsumerHeartbeat) -> Result<(), GroupError> {
    let CurrentRecord { epoch, previous_epoch, assigned, .. } = &member.has;
    let uses_no_more = || request.owned.as_ref().is_some_and(|owned| is_within(owned, assigned));
    let is_late = request.epoch < *epoch && request.epoch == *previous_epoch && uses_no_more();
    if request.epoch == *epoch || is_late || planted!(AcceptStaleMemberEpoch) {
        Ok(())
    } else {
        Err(GroupError::FencedMemberEpoch)
    }
}

/// Whether the member has said everything: it does when it joins and after errors, and wants to hear
/// everything.
fn is_full(request: &ConsumerHeartbeat) -> bool {
    request.epoch == JOIN
        || (request.rebalance_timeout.is_some()
            && (request.topics.is_some() || request.pattern.is_some())
            && request.owned.is_some())
}

/// Whether `request` leaves everything as the member has said it before.
fn says_nothing(said: &MemberRecord, request: &ConsumerHeartbeat) -> bool {
    let ConsumerHeartbeat { instance, client, rack, assignor, topics, pattern, owned, .. } =
        request;
    let is_silent = topics.is_none() && pattern.is_none() && owned.is_none() && rack.is_none();
    is_silent
        && request.rebalance_timeout.is_none()
        && request.charge.is_none()
        && assignor.is_none()
        && *client == said.client
        && said.classic.is_none()
        && (instance.is_none() || *instance == said.instance)
}

/// What the member says of itself with `request`, on top of what it has said before.
fn updated(said: MemberRecord, request: &ConsumerHeartbeat) -> MemberRecord {
    let pattern = match &request.pattern {
        None => said.pattern,
        Some(pattern) => Some(pattern.clone()).filter(|pattern| !pattern.is_empty()),
    };
    MemberRecord {
        instance: request.instance.clone().or(said.instance),
        rack: request.rack.clone().or(said.rack),
        client: request.client.clone(),
        topics: request.topics.clone().unwrap_or(said.topics),
        pattern,
        rebalance_timeout: request.rebalance_timeout.unwrap_or(said.rebalance_timeout),
        assignor: request.assignor.clone().or(said.assignor),
        classic: None,
    }
}
