//! Members that go: with a word, for a while, or because they are late.

use std::time::Duration;

use super::group::ConsumerGroup;
use super::member::{AWAY, Awaited, LEAVE, Member};
use crate::coordinator::record::{CurrentRecord, Step, TopicPartitions};
use crate::coordinator::timeline::{EventKind, Timeout};
use crate::coordinator::timers::TimerKey;
use crate::coordinator::turn::Turn;
use crate::coordinator::types::{Beat, ConsumerHeartbeat, GroupError, MemberId};

impl ConsumerGroup {
    /// Handles a heartbeat that leaves.
    ///
    /// # Errors
    /// It is no member.
    pub(in crate::coordinator) fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        request: &ConsumerHeartbeat,
    ) -> Result<Beat, GroupError> {
        let id = request.member.clone().ok_or(GroupError::UnknownMember)?;
        if let Some(instance) = &request.instance {
            let holder = self.instances.get(instance).ok_or(GroupError::UnknownMember)?;
            if *holder != id {
                return Err(GroupError::FencedInstance);
            }
        }
        let member = self.members.get(&id).ok_or(GroupError::UnknownMember)?;
        if request.epoch == LEAVE || member.instance().is_none() {
            let client = Some(member.said.client.clone());
            self.remove(turn, &id, EventKind::Left { member: id.clone(), client, reason: None });
        } else {
            self.go_away(turn, &id);
        }
        Ok(Beat {
            member: id,
            epoch: request.epoch,
            heartbeat_interval: Duration::ZERO,
            assignment: None,
        })
    }

    /// A static member is away until its session is over. What it has waits for it; what it was to
    /// give back it uses no longer.
    fn go_away(&mut self, turn: &mut Turn<'_>, id: &MemberId) {
        let Some(member) = self.members.get(id) else { return };
        let away = CurrentRecord {
            epoch: AWAY,
            step: Step::Stable,
            revoking: TopicPartitions::new(),
            ..member.has.clone()
        };
        let client = Some(member.said.client.clone());
        self.set_current(turn, id, away);
        let event = EventKind::Left {
            member: id.clone(),
            client,
            reason: Some("a static member that comes back".into()),
        };
        self.timeline.note(turn.now.wall, event);
    }

    /// A member is gone, and what it had is free.
    pub(super) fn remove(&mut self, turn: &mut Turn<'_>, id: &MemberId, event: EventKind) {
        self.unsay(id);
        let Some(member) = self.members.remove(id) else { return };
        for partition in member.held() {
            self.holders.remove(&partition);
        }
        self.timeline.note(turn.now.wall, event);
        self.write_member_tombstones(turn, id);
        if self.is_to_go_back(turn) {
            // The classic group goes on from the epoch its members know.
            return;
        }
        self.review(turn);
        self.bump(turn, &format!("member {id} is gone"));
        if self.members.is_empty() {
            self.timeline.note(turn.now.wall, EventKind::Emptied);
        }
    }

    /// The session of a member may be over.
    pub(in crate::coordinator) fn on_session_timeout(
        &mut self,
        turn: &mut Turn<'_>,
        id: &MemberId,
        entry: Duration,
    ) {
        let key = || TimerKey::Session(self.id.clone(), id.clone());
        let Some(member) = self.members.get_mut(id) else { return };
        if !turn.timers.is_over(&mut member.session, entry, turn.now.monotonic, key) {
            return;
        }
        if planted!(ForgetSessions) {
            return self.refresh(turn, id);
        }
        let settings = turn.topics.settings(self.id.as_str());
        let common = Duration::from_millis(settings.consumer_session_timeout_ms);
        let limit = member.classic().map_or(common, |classic| classic.session_timeout);
        let event = timed_out(member, Timeout::Session, limit);
        self.remove(turn, id, event);
    }

    /// A member may have taken too long to do its part.
    pub(in crate::coordinator) fn on_progress_timeout(
        &mut self,
        turn: &mut Turn<'_>,
        id: &MemberId,
        entry: Duration,
    ) {
        let key = || TimerKey::Progress(self.id.clone(), id.clone());
        let Some(member) = self.members.get_mut(id) else { return };
        if !turn.timers.is_over(&mut member.progress, entry, turn.now.monotonic, key) {
            return;
        }
        let timeout = match member.awaited {
            Awaited::Revocation => Timeout::Revoke,
            Awaited::Join => Timeout::Rejoin,
            Awaited::Sync => Timeout::Sync,
        };
        let event = timed_out(member, timeout, member.said.rebalance_timeout);
        self.remove(turn, id, event);
    }
}

fn timed_out(member: &Member, timeout: Timeout, limit: Duration) -> EventKind {
    EventKind::TimedOut {
        member: member.id.clone(),
        client: Some(member.said.client.clone()),
        timeout,
        limit: Some(limit),
    }
}
