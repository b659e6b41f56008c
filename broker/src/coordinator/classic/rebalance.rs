//! From one generation to the next: members are waited for, a protocol is chosen, a leader leads.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::group::{ClassicGroup, JoinWait};
use super::members_in_words;
use crate::coordinator::core::Reply;
use crate::coordinator::timeline::{EventKind, Timeout};
use crate::coordinator::timers::TimerKey;
use crate::coordinator::turn::Turn;
use crate::coordinator::types::{Generation, GroupError, GroupState, MemberId, Synced};

impl ClassicGroup {
    /// Starts a rebalance, or ends the one under way if this was what it waited for.
    pub(super) fn rebalance_or_complete(&mut self, turn: &mut Turn<'_>, reason: &str) {
        match self.state {
            GroupState::PreparingRebalance => self.complete_if_all_joined(turn),
            GroupState::Empty
            | GroupState::CompletingRebalance
            | GroupState::Stable
            | GroupState::Dead
            | GroupState::Assigning
            | GroupState::Reconciling => self.prepare(turn, reason),
        }
    }

    /// Everyone has to join again.
    pub(in crate::coordinator) fn prepare(&mut self, turn: &mut Turn<'_>, reason: &str) {
        if self.state == GroupState::CompletingRebalance {
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
            }
            self.answer_syncs(turn, Err(GroupError::RebalanceInProgress));
        }
        self.unsynced.clear();
        self.sync_timer.cancel();
        let is_initial = self.state == GroupState::Empty;
        self.transition(turn, GroupState::PreparingRebalance);
        let reason: Arc<str> = reason.into();
        self.timeline.note(turn.now.wall, EventKind::RebalanceStarted { reason });
        if is_initial {
            let delay = turn.options.initial_rebalance_delay;
            let remaining = self.rebalance_timeout().saturating_sub(delay);
            self.has_new_member = false;
            self.wait_for_joins(turn, delay, JoinWait::Initial { delay, remaining });
        } else if self.has_all_joined() {
            self.complete_join(turn);
        } else {
            self.wait_for_joins(turn, self.rebalance_timeout(), JoinWait::Rejoin);
        }
    }

    fn wait_for_joins(&mut self, turn: &mut Turn<'_>, timeout: Duration, wait: JoinWait) {
        self.join_wait = wait;
        let at = turn.now.monotonic + timeout;
        turn.timers.set(&mut self.join_timer, at, || TimerKey::Join(self.id.clone()));
    }

    /// Ends the rebalance if nobody is waited for. The first one of a group always lasts as long as
    /// the delay says: more members are likely to come.
    pub(super) fn complete_if_all_joined(&mut self, turn: &mut Turn<'_>) {
        if self.state == GroupState::PreparingRebalance
            && self.previous_state != GroupState::Empty
            && self.has_all_joined()
        {
            self.complete_join(turn);
        }
    }

    /// The join timer is over.
    pub(in crate::coordinator) fn on_join_timeout(&mut self, turn: &mut Turn<'_>) {
        if self.state != GroupState::PreparingRebalance {
            return;
        }
        match self.join_wait {
            JoinWait::Initial { delay, remaining }
                if self.has_new_member && !remaining.is_zero() =>
            {
                self.has_new_member = false;
                let next = turn.options.initial_rebalance_delay.min(remaining);
                let remaining = remaining.saturating_sub(delay);
                self.wait_for_joins(turn, next, JoinWait::Initial { delay: next, remaining });
            }
            JoinWait::Initial { .. } | JoinWait::Rejoin => self.complete_join(turn),
        }
    }

    /// Begins the next generation with those who have joined. Static members that have not are
    /// given until their session ends; others are out.
    fn complete_join(&mut self, turn: &mut Turn<'_>) {
        self.join_timer.cancel();
        self.remove_absent(turn);
        if !self.elect_leader() && !self.members.is_empty() {
            // Only static members are left, and none has joined: they are still waited for.
            return self.wait_for_joins(turn, self.rebalance_timeout(), JoinWait::Rejoin);
        }
        if !planted!(RepeatGeneration) {
            self.generation = Generation(self.generation.0.checked_add(1).unwrap_or(1));
        }
        self.unsynced.clear();
        if self.members.is_empty() {
            self.protocol = None;
            self.topics = self.subscribed_topics();
            self.transition(turn, GroupState::Empty);
            self.timeline.note(turn.now.wall, EventKind::Emptied);
            turn.write(self.record());
            return;
        }
        self.protocol = self.select_protocol();
        self.topics = self.subscribed_topics();
        self.transition(turn, GroupState::CompletingRebalance);
        let event = EventKind::GenerationStarted {
            generation: self.generation,
            members: self.members.len(),
            protocol: self.protocol.clone(),
        };
        self.timeline.note(turn.now.wall, event);
        self.answer_joins(turn);
        let at = turn.now.monotonic + self.rebalance_timeout();
        turn.timers.set(&mut self.sync_timer, at, || TimerKey::Sync(self.id.clone()));
    }

    fn remove_absent(&mut self, turn: &mut Turn<'_>) {
        let is_absent =
            |member: &&super::member::Member| member.joining.is_none() && member.instance.is_none();
        let absent: Vec<MemberId> =
            self.members.values().filter(is_absent).map(|member| member.id.clone()).collect();
        let limit = self.rebalance_timeout();
        for member in absent {
            self.remove_late(turn, member, Timeout::Rejoin, limit);
        }
    }

    /// Lets a member go that overran `limit`.
    fn remove_late(
        &mut self,
        turn: &mut Turn<'_>,
        member: MemberId,
        timeout: Timeout,
        limit: Duration,
    ) {
        let client = self.client_of(&member);
        self.remove(turn, &member, GroupError::UnknownMember);
        let event = EventKind::TimedOut { member, client, timeout, limit: Some(limit) };
        self.timeline.note(turn.now.wall, event);
    }

    /// Keeps the leader if it has joined, else takes the first that has. Whether there is one.
    fn elect_leader(&mut self) -> bool {
        let has_joined =
            |id: &MemberId| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let next = self.members.keys().find(|id| has_joined(id)).cloned();
        let found = next.is_some();
        self.leader = next.or(self.leader.take());
        found
    }

    fn answer_joins(&mut self, turn: &mut Turn<'_>) {
        let members: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in members {
            if let Some(request) = self.take_joining(&id) {
                turn.reply(request, Reply::Join(Ok(self.joined(&id))));
            }
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
            }
            self.refresh(turn, &id);
            self.unsynced.insert(id);
        }
    }

    /// Answers every SyncGroup that waits: with its assignment, or with why there is none.
    pub(super) fn answer_syncs(&mut self, turn: &mut Turn<'_>, outcome: Result<(), GroupError>) {
        let members: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in members {
            let Some(member) = self.members.get_mut(&id) else { continue };
            let Some(request) = member.syncing.take() else { continue };
            let assignment = member.assignment.clone();
            let reply = outcome.map(|()| Synced {
                protocol_type: self.protocol_type.clone(),
                protocol: self.protocol.clone(),
                assignment,
            });
            turn.reply(request, Reply::Sync(reply));
            self.refresh(turn, &id);
        }
    }

    /// The sync timer is over: who has not fetched its assignment is out.
    pub(in crate::coordinator) fn on_sync_timeout(&mut self, turn: &mut Turn<'_>) {
        let is_running = matches!(self.state, GroupState::CompletingRebalance | GroupState::Stable);
        if !is_running || self.unsynced.is_empty() {
            return;
        }
        let late: Vec<MemberId> = self.unsynced.iter().cloned().collect();
        let count = late.len();
        let limit = self.rebalance_timeout();
        for member in late {
            self.remove_late(turn, member, Timeout::Sync, limit);
        }
        self.prepare(turn, &format!("{} did not fetch their assignment", members_in_words(count)));
    }

    /// The group has been read from the log. Returns how many members it has.
    pub(in crate::coordinator) fn on_loaded(&mut self, turn: &mut Turn<'_>) -> usize {
        let members: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in &members {
            self.refresh(turn, id);
        }
        if members.len() > turn.options.size_max {
            self.prepare(turn, "group.max.size has become less than the group has members");
        } else if std::mem::take(&mut self.is_leaderless) && !planted!(ForgetPendingRebalance) {
            self.prepare(turn, "nobody has led the generation that was read from the log");
        }
        members.len()
    }

    /// The session of a member, or of a client that has not joined yet, may be over.
    pub(in crate::coordinator) fn on_session_timeout(
        &mut self,
        turn: &mut Turn<'_>,
        id: &MemberId,
        entry: Duration,
    ) {
        let key = || TimerKey::Session(self.id.clone(), id.clone());
        let now = turn.now.monotonic;
        if let Some(timer) = self.pending.get_mut(id) {
            if turn.timers.is_over(timer, entry, now, key) {
                self.pending.remove(id);
                let event = EventKind::TimedOut {
                    member: id.clone(),
                    client: None,
                    timeout: Timeout::FirstJoin,
                    limit: None,
                };
                self.timeline.note(turn.now.wall, event);
                self.complete_if_all_joined(turn);
            }
            return;
        }
        let Some(member) = self.members.get_mut(id) else { return };
        if !turn.timers.is_over(&mut member.session, entry, now, key) || member.is_excused() {
            return;
        }
        if planted!(ForgetSessions) {
            return self.refresh(turn, id);
        }
        let limit = member.session_timeout;
        self.remove_late(turn, id.clone(), Timeout::Session, limit);
        self.rebalance_or_complete(turn, &format!("member {id} was not heard of in time"));
    }

    /// Whether an entry of the join or sync timer means that it is over.
    pub(in crate::coordinator) fn is_join_over(
        &mut self,
        turn: &mut Turn<'_>,
        entry: Duration,
    ) -> bool {
        let key = || TimerKey::Join(self.id.clone());
        turn.timers.is_over(&mut self.join_timer, entry, turn.now.monotonic, key)
    }

    /// As [`Self::is_join_over`], for the sync timer.
    pub(in crate::coordinator) fn is_sync_over(
        &mut self,
        turn: &mut Turn<'_>,
        entry: Duration,
    ) -> bool {
        let key = || TimerKey::Sync(self.id.clone());
        turn.timers.is_over(&mut self.sync_timer, entry, turn.now.monotonic, key)
    }
}
