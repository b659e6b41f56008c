//! JoinGroup: who is let in, and what it sets off.

use std::time::Duration;

use super::group::{ClassicGroup, refuse_join};
use super::member::Member;
use crate::base::limits::{GROUP_PENDING_MEMBERS_MAX, GROUP_PENDING_SECONDS_MAX};
use crate::coordinator::core::{Reply, RequestId};
use crate::coordinator::timeline::EventKind;
use crate::coordinator::timers::{Timer, TimerKey};
use crate::coordinator::turn::Turn;
use crate::coordinator::types::{
    GroupError, GroupState, InstanceId, JoinGroup, JoinRefused, Joined, MemberId,
};

impl ClassicGroup {
    /// Handles a JoinGroup whose group id and session timeout are in order.
    pub(in crate::coordinator) fn join(
        &mut self,
        turn: &mut Turn<'_>,
        id: RequestId,
        request: JoinGroup,
    ) {
        if !self.accepts(turn, request.member.as_ref()) {
            if let Some(member) = &request.member {
                self.remove(turn, member, GroupError::GroupMaxSizeReached);
                self.complete_if_all_joined(turn);
            }
            return refuse_join(turn, id, GroupError::GroupMaxSizeReached, None);
        }
        if !self.supports(&request.protocol_type, &request.protocols) {
            return refuse_join(turn, id, GroupError::InconsistentProtocol, request.member);
        }
        match request.member.clone() {
            None => self.join_unknown(turn, id, request),
            Some(member) => self.join_known(turn, id, member, request),
        }
    }

    /// `group.max.size`. A rebalance admits as many as it can end with, the first to join.
    fn accepts(&self, turn: &Turn<'_>, id: Option<&MemberId>) -> bool {
        let member = id.and_then(|id| self.members.get(id));
        match self.state {
            GroupState::PreparingRebalance => {
                member.is_some_and(|member| member.joining.is_some())
                    || self.waiting < turn.options.size_max
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                member.is_some() || self.members.len() < turn.options.size_max
            }
            GroupState::Empty
            | GroupState::Dead
            | GroupState::Assigning
            | GroupState::Reconciling => true,
        }
    }

    fn join_unknown(&mut self, turn: &mut Turn<'_>, id: RequestId, request: JoinGroup) {
        if let Some(instance) = request.instance.clone() {
            return match self.instances.get(&instance).cloned() {
                Some(old) => self.replace(turn, id, (instance, old), request),
                None => self.add(turn, id, request.fresh_member.clone(), &request),
            };
        }
        if !request.knows_member_id_required {
            return self.add(turn, id, request.fresh_member.clone(), &request);
        }
        if self.pending.len() >= GROUP_PENDING_MEMBERS_MAX {
            return refuse_join(turn, id, GroupError::GroupMaxSizeReached, None);
        }
        let member = request.fresh_member;
        let mut timer = Timer::default();
        let patience = Duration::from_secs(GROUP_PENDING_SECONDS_MAX);
        let at = turn.now.monotonic + request.session_timeout.min(patience);
        turn.timers.set(&mut timer, at, || TimerKey::Session(self.id.clone(), member.clone()));
        self.pending.insert(member.clone(), timer);
        refuse_join(turn, id, GroupError::MemberIdRequired, Some(member));
    }

    fn join_known(
        &mut self,
        turn: &mut Turn<'_>,
        id: RequestId,
        member: MemberId,
        request: JoinGroup,
    ) {
        if self.pending.contains_key(&member) && request.instance.is_none() {
            return self.add(turn, id, member, &request);
        }
        if let Err(error) = self.validate(&member, request.instance.as_ref()) {
            return refuse_join(turn, id, error, Some(member));
        }
        let is_leader = self.leader.as_ref() == Some(&member);
        let known = self.members.get(&member);
        let is_changed = known.is_none_or(|known| known.protocols != request.protocols);
        match self.state {
            GroupState::PreparingRebalance => self.rejoin(turn, id, &member, request, "joins"),
            // A repeated request: the reply was lost.
            GroupState::CompletingRebalance if !is_changed => self.tell_again(turn, id, &member),
            GroupState::CompletingRebalance => {
                self.rejoin(turn, id, &member, request, "changed its metadata");
            }
            GroupState::Stable if is_leader => {
                self.rejoin(turn, id, &member, request, "leads the group and joins again");
            }
            GroupState::Stable if is_changed => {
                self.rejoin(turn, id, &member, request, "changed its metadata");
            }
            // A follower that missed the end of the rebalance.
            GroupState::Stable => self.tell_again(turn, id, &member),
            GroupState::Empty
            | GroupState::Dead
            | GroupState::Assigning
            | GroupState::Reconciling => {
                refuse_join(turn, id, GroupError::UnknownMember, Some(member));
            }
        }
    }

    /// Takes in a member the group does not have.
    fn add(&mut self, turn: &mut Turn<'_>, id: RequestId, member: MemberId, request: &JoinGroup) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        if self.state == GroupState::PreparingRebalance && self.previous_state == GroupState::Empty
        {
            self.has_new_member = true;
        }
        let mut joining = Member::new(member.clone(), request);
        joining.joining = Some(id);
        self.insert(joining);
        self.expect_within(turn, &member, turn.options.first_join_timeout);
        let event = EventKind::Joined {
            member: member.clone(),
            instance: request.instance.clone(),
            client: request.client.clone(),
            reason: request.reason.clone(),
        };
        self.timeline.note(turn.now.wall, event);
        self.rebalance_or_complete(turn, &because(&member, "is new", request));
    }

    /// A member joins again; the group rebalances unless it does already.
    fn rejoin(
        &mut self,
        turn: &mut Turn<'_>,
        id: RequestId,
        member: &MemberId,
        request: JoinGroup,
        why: &str,
    ) {
        let reason = because(member, why, &request);
        self.wait_to_join(turn, member, id, |known| update(known, request));
        self.rebalance_or_complete(turn, &reason);
    }

    /// The generation as it stands.
    fn tell_again(&mut self, turn: &mut Turn<'_>, id: RequestId, member: &MemberId) {
        let mut joined = self.joined(member);
        if self.state == GroupState::Stable {
            joined.members.clear();
        }
        turn.reply(id, Reply::Join(Ok(joined)));
    }

    /// The generation as `member` is told of it: all members for the leader.
    pub(super) fn joined(&self, member: &MemberId) -> Joined {
        let is_leader = self.leader.as_ref() == Some(member);
        let protocol = self.protocol.as_deref();
        let everyone = || self.members.values().map(|known| known.joined(protocol)).collect();
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_else(|| member.clone()),
            member: member.clone(),
            members: if is_leader { everyone() } else { Vec::new() },
            skip_assignment: false,
        }
    }

    /// A static member is back under a new id (its process was restarted). The old id is fenced. In
    /// a stable group whose protocol stays the same nobody else notices (KIP-345).
    fn replace(
        &mut self,
        turn: &mut Turn<'_>,
        id: RequestId,
        (instance, old): (InstanceId, MemberId),
        request: JoinGroup,
    ) {
        let new = request.fresh_member.clone();
        let leader_before = self.leader.clone();
        self.rename(turn, (&instance, &old), &new);
        let knows_skip = request.knows_skip_assignment;
        let reason = because(&new, "takes the place of its instance", &request);
        self.wait_to_join(turn, &new, id, |known| update(known, request));
        self.refresh(turn, &new);
        match self.state {
            GroupState::Stable if self.select_protocol() == self.protocol => {
                self.take_joining(&new);
                if !planted!(ForgetReplacement) {
                    turn.write(self.record());
                }
                let mut joined = self.joined(&new);
                if knows_skip {
                    // The leader gets everyone, but shall leave the assignment alone (KIP-814).
                    joined.skip_assignment = joined.leader == new;
                } else {
                    // An old client would assign if it were told that it leads.
                    joined.members.clear();
                    joined.leader = leader_before.unwrap_or(joined.leader);
                }
                turn.reply(id, Reply::Join(Ok(joined)));
            }
            GroupState::Stable => self.rebalance_or_complete(turn, &reason),
            GroupState::CompletingRebalance => self.prepare(turn, &reason),
            GroupState::PreparingRebalance => self.complete_if_all_joined(turn),
            GroupState::Empty
            | GroupState::Dead
            | GroupState::Assigning
            | GroupState::Reconciling => {
                refuse_join(turn, id, GroupError::UnknownMember, None);
            }
        }
    }

    /// The member `old` is called `new` from now on. What the process behind `old` still waits for
    /// is refused.
    fn rename(
        &mut self,
        turn: &mut Turn<'_>,
        (instance, old): (&InstanceId, &MemberId),
        new: &MemberId,
    ) {
        let joining = self.take_joining(old);
        let Some(mut member) = self.members.remove(old) else { return };
        if let Some(request) = joining {
            let refused =
                JoinRefused { error: GroupError::FencedInstance, member: Some(old.clone()) };
            turn.reply_at_once(request, Reply::Join(Err(refused)));
        }
        if let Some(request) = member.syncing.take() {
            turn.reply_at_once(request, Reply::Sync(Err(GroupError::FencedInstance)));
        }
        member.id = new.clone();
        member.session = Timer::default();
        self.members.insert(new.clone(), member);
        self.instances.insert(instance.clone(), new.clone());
        if self.unsynced.remove(old) {
            self.unsynced.insert(new.clone());
        }
        if self.leader.as_ref() == Some(old) {
            self.leader = Some(new.clone());
        }
        let (instance, old, new) = (instance.clone(), old.clone(), new.clone());
        self.timeline.note(turn.now.wall, EventKind::Replaced { instance, old, new });
    }
}

/// What a member says of itself when it joins again. Where it connects from may have changed.
fn update(member: &mut Member, request: JoinGroup) {
    member.protocols = request.protocols;
    member.session_timeout = request.session_timeout;
    member.rebalance_timeout = request.rebalance_timeout;
    member.client = request.client;
}

fn because(member: &MemberId, why: &str, request: &JoinGroup) -> String {
    match &request.reason {
        Some(reason) => format!("member {member} {why}; it says: {reason}"),
        None => format!("member {member} {why}"),
    }
}
