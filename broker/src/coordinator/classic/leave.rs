//! LeaveGroup: members that say goodbye, or are shown the door by an operator.

use super::group::ClassicGroup;
use super::members_in_words;
use crate::coordinator::timeline::EventKind;
use crate::coordinator::turn::Turn;
use crate::coordinator::types::{GroupError, GroupState, LeavingMember, LeftMember, MemberId};

impl ClassicGroup {
    /// Lets `members` go; the rest rebalances once.
    pub(in crate::coordinator) fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        members: Vec<LeavingMember>,
    ) -> Vec<LeftMember> {
        let left: Vec<LeftMember> = members
            .into_iter()
            .map(|member| {
                let result = self.leave_one(turn, &member);
                LeftMember { member: member.member, instance: member.instance, result }
            })
            .collect();
        if planted!(ForgetRebalanceOnLeave) && !self.members.is_empty() {
            return left;
        }
        let count = left.iter().filter(|member| member.result.is_ok()).count();
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance if count > 0 => {
                self.prepare(turn, &format!("{} left", members_in_words(count)));
            }
            GroupState::PreparingRebalance if count > 0 => self.complete_if_all_joined(turn),
            GroupState::Stable
            | GroupState::CompletingRebalance
            | GroupState::PreparingRebalance
            | GroupState::Empty
            | GroupState::Dead
            | GroupState::Assigning
            | GroupState::Reconciling => {}
        }
        left
    }

    fn leave_one(
        &mut self,
        turn: &mut Turn<'_>,
        leaving: &LeavingMember,
    ) -> Result<(), GroupError> {
        let member = self.member_leaving(leaving)?;
        let client = self.client_of(&member);
        self.remove(turn, &member, GroupError::UnknownMember);
        let reason = leaving.reason.clone();
        self.timeline.note(turn.now.wall, EventKind::Left { member, client, reason });
        Ok(())
    }

    /// Who is meant: an instance alone means whoever carries it (an operator removes it).
    fn member_leaving(&self, leaving: &LeavingMember) -> Result<MemberId, GroupError> {
        let instance = leaving.instance.as_ref();
        match &leaving.member {
            None => instance
                .and_then(|instance| self.instances.get(instance))
                .cloned()
                .ok_or(GroupError::UnknownMember),
            Some(member) if self.pending.contains_key(member) => Ok(member.clone()),
            Some(member) => self.validate(member, instance).map(|()| member.clone()),
        }
    }
}
