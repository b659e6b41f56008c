//! SyncGroup and Heartbeat: a member gets its partitions, and keeps them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::group::ClassicGroup;
use crate::coordinator::core::{Reply, RequestId};
use crate::coordinator::timeline::EventKind;
use crate::coordinator::turn::Turn;
use crate::coordinator::types::{
    Generation, GroupError, GroupState, Heartbeat, InstanceId, MemberId, SyncGroup, Synced,
};

impl ClassicGroup {
    /// Handles a SyncGroup.
    pub(in crate::coordinator) fn sync(
        &mut self,
        turn: &mut Turn<'_>,
        id: RequestId,
        request: SyncGroup,
    ) {
        if let Err(error) = self.validate_sync(&request) {
            return turn.reply_at_once(id, Reply::Sync(Err(error)));
        }
        match self.state {
            GroupState::PreparingRebalance => {
                turn.reply_at_once(id, Reply::Sync(Err(GroupError::RebalanceInProgress)));
            }
            GroupState::CompletingRebalance => self.wait_to_sync(turn, id, request),
            GroupState::Stable => {
                self.has_synced(&request.member);
                let member = self.members.get(&request.member);
                let assignment = member.map(|known| known.assignment.clone()).unwrap_or_default();
                let synced = Synced {
                    protocol_type: self.protocol_type.clone(),
                    protocol: self.protocol.clone(),
                    assignment,
                };
                turn.reply(id, Reply::Sync(Ok(synced)));
            }
            GroupState::Empty
            | GroupState::Dead
            | GroupState::Assigning
            | GroupState::Reconciling => {
                turn.reply_at_once(id, Reply::Sync(Err(GroupError::UnknownMember)));
            }
        }
    }

    fn validate_sync(&self, request: &SyncGroup) -> Result<(), GroupError> {
        self.validate_generation(&request.member, request.instance.as_ref(), request.generation)?;
        if differs(request.protocol_type.as_ref(), self.protocol_type.as_ref())
            || differs(request.protocol.as_ref(), self.protocol.as_ref())
        {
            return Err(GroupError::InconsistentProtocol);
        }
        Ok(())
    }

    /// Whether the member is one, of this generation.
    fn validate_generation(
        &self,
        member: &MemberId,
        instance: Option<&InstanceId>,
        generation: Generation,
    ) -> Result<(), GroupError> {
        self.validate(member, instance)?;
        if generation == self.generation || planted!(AcceptStaleGeneration) {
            Ok(())
        } else {
            Err(GroupError::IllegalGeneration)
        }
    }

    /// The member waits for the assignment. The leader brings it, and ends everybody's wait.
    fn wait_to_sync(&mut self, turn: &mut Turn<'_>, id: RequestId, request: SyncGroup) {
        self.has_synced(&request.member);
        if let Some(member) = self.members.get_mut(&request.member)
            && let Some(old) = member.syncing.replace(id)
        {
            // The client has given up waiting for that one.
            turn.reply_at_once(old, Reply::Sync(Err(GroupError::RebalanceInProgress)));
        }
        if self.leader.as_ref() != Some(&request.member) {
            return;
        }
        if planted!(WriteBeforeAssignment) {
            turn.write(self.record());
        }
        let mut assignments: BTreeMap<_, _> = request.assignments.into_iter().collect();
        for member in self.members.values_mut() {
            member.assignment = assignments.remove(&member.id).unwrap_or_default();
        }
        self.transition(turn, GroupState::Stable);
        let generation = self.generation;
        self.timeline.note(turn.now.wall, EventKind::Assigned { generation });
        if !planted!(WriteBeforeAssignment) {
            turn.write(self.record());
        }
        self.answer_syncs(turn, Ok(()));
    }

    fn has_synced(&mut self, member: &MemberId) {
        self.unsynced.remove(member);
        if self.unsynced.is_empty() {
            self.sync_timer.cancel();
        }
    }

    /// Handles a Heartbeat.
    ///
    /// # Errors
    /// What the member has to do instead of going on.
    pub(in crate::coordinator) fn heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        request: &Heartbeat,
    ) -> Result<(), GroupError> {
        let Heartbeat { member, instance, generation, .. } = request;
        self.validate_generation(member, instance.as_ref(), *generation)?;
        self.refresh(turn, member);
        match self.state {
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
            GroupState::Empty
            | GroupState::Dead
            | GroupState::Assigning
            | GroupState::Reconciling => Err(GroupError::UnknownMember),
        }
    }

    /// Whether offsets may be committed.
    ///
    /// # Errors
    /// Why not.
    pub(in crate::coordinator) fn validate_commit(
        &self,
        member: Option<&MemberId>,
        instance: Option<&InstanceId>,
        generation: Generation,
    ) -> Result<(), GroupError> {
        if generation.0 < 0 && self.state == GroupState::Empty {
            // A consumer that only keeps its offsets here.
            return Ok(());
        }
        if generation.0 < 0 && member.is_none() && instance.is_none() {
            return if self.state == GroupState::Empty {
                Ok(())
            } else {
                Err(GroupError::UnknownMember)
            };
        }
        let member = member.cloned().unwrap_or_else(|| "".into());
        self.validate_generation(&member, instance, generation)?;
        if self.state == GroupState::CompletingRebalance {
            // Who has joined and not yet learned what it reads has nothing to commit.
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }
}

/// Whether both are known and not the same.
fn differs(asked: Option<&Arc<str>>, known: Option<&Arc<str>>) -> bool {
    asked.zip(known).is_some_and(|(asked, known)| asked != known)
}
