//! Requests about members, brought to their group.

use super::classic::ClassicGroup;
use super::core::{Groups, Reply, RequestId};
use super::record::Record;
use super::timeline::Timeline;
use super::turn::Turn;
use super::types::{
    GroupError, GroupId, GroupState, Heartbeat, JoinGroup, JoinRefused, LeaveGroup, LeftMember,
    SyncGroup,
};

impl Groups {
    pub(super) fn join(&mut self, turn: &mut Turn<'_>, id: RequestId, request: JoinGroup) {
        if let Err(error) = self.validate_join(turn, &request) {
            let refused = JoinRefused { error, member: request.member };
            return turn.reply_at_once(id, Reply::Join(Err(refused)));
        }
        let group_id = request.group.clone();
        let group = self.get_or_create(&group_id);
        turn.after = group.written_at;
        group.members.join(turn, id, request);
        if turn.out.records.is_empty() {
            self.forget_if_nothing(&group_id);
        }
    }

    fn validate_join(&self, turn: &Turn<'_>, request: &JoinGroup) -> Result<(), GroupError> {
        check_group_id(&request.group)?;
        let (least, most) = (turn.options.session_timeout_min, turn.options.session_timeout_max);
        if request.session_timeout < least || request.session_timeout > most {
            return Err(GroupError::InvalidSessionTimeout);
        }
        if request.member.is_some() && !self.by_id.contains_key(&request.group) {
            return Err(GroupError::UnknownMember);
        }
        Ok(())
    }

    pub(super) fn sync(&mut self, turn: &mut Turn<'_>, id: RequestId, request: SyncGroup) {
        let found = check_group_id(&request.group)
            .and_then(|()| self.find_mut(turn, &request.group).ok_or(GroupError::UnknownMember));
        match found {
            Ok(group) => group.members.sync(turn, id, request),
            Err(error) => turn.reply_at_once(id, Reply::Sync(Err(error))),
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        request: &Heartbeat,
    ) -> Result<(), GroupError> {
        check_group_id(&request.group)?;
        let group = self.find_mut(turn, &request.group).ok_or(GroupError::UnknownMember)?;
        group.members.heartbeat(turn, request)
    }

    pub(super) fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        request: LeaveGroup,
    ) -> Result<Vec<LeftMember>, GroupError> {
        check_group_id(&request.group)?;
        let group = self.find_mut(turn, &request.group).ok_or(GroupError::UnknownMember)?;
        let left = group.members.leave(turn, request.members);
        if turn.out.records.is_empty() {
            self.forget_if_nothing(&request.group);
        }
        Ok(left)
    }

    /// Removes a group without members, with its offsets.
    pub(super) fn delete(&mut self, turn: &mut Turn<'_>, id: &GroupId) -> Result<(), GroupError> {
        check_group_id(id)?;
        let group = self.find_mut(turn, id).ok_or(GroupError::GroupIdNotFound)?;
        if group.members.state() != GroupState::Empty {
            return Err(GroupError::NonEmptyGroup);
        }
        let known = group.offsets.keys().filter(|_| !planted!(ForgetTombstones));
        for partition in known {
            let (group, partition) = (id.clone(), partition.clone());
            turn.write(Record::Offset { group, partition, value: None });
        }
        turn.write(Record::Group { group: id.clone(), value: None });
        // Clients that were told to join again find another group.
        group.members = ClassicGroup::new(id.clone(), Timeline::default());
        Ok(())
    }
}

/// Only offsets may be kept under the empty id, for very old clients.
fn check_group_id(id: &GroupId) -> Result<(), GroupError> {
    if id.as_str().is_empty() { Err(GroupError::InvalidGroupId) } else { Ok(()) }
}
