//! Requests about members, brought to their group.

use super::classic::ClassicGroup;
use super::core::{Groups, Reply, RequestId};
use super::group::{Group, Members};
use super::record::Record;
use super::timeline::Timeline;
use super::turn::Turn;
use super::types::{
    Generation, GroupError, GroupId, GroupState, Heartbeat, JoinGroup, JoinRefused, LeaveGroup,
    LeftMember, SyncGroup,
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
        group.make_classic_if_empty(turn, &group_id);
        match &mut group.members {
            Members::Classic(members) => members.join(turn, id, request),
            Members::Consumer(members) => members.join(turn, id, &request),
        }
        group.go_back_if_due(turn);
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
            Ok(Group { members: Members::Classic(members), .. }) => members.sync(turn, id, request),
            Ok(Group { members: Members::Consumer(members), .. }) => {
                let synced = members.sync(turn, &request);
                turn.reply(id, Reply::Sync(synced));
            }
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
        match &mut group.members {
            Members::Classic(members) => members.heartbeat(turn, request),
            Members::Consumer(members) => members.classic_heartbeat(turn, request),
        }
    }

    pub(super) fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        request: LeaveGroup,
    ) -> Result<Vec<LeftMember>, GroupError> {
        check_group_id(&request.group)?;
        let group = self.find_mut(turn, &request.group).ok_or(GroupError::UnknownMember)?;
        let left = match &mut group.members {
            Members::Classic(members) => members.leave(turn, request.members),
            Members::Consumer(members) => members.leave_classic(turn, request.members),
        };
        group.go_back_if_due(turn);
        if turn.out.records.is_empty() {
            self.forget_if_nothing(&request.group);
        }
        Ok(left)
    }

    /// Removes a group without members, with its offsets.
    pub(super) fn delete(&mut self, turn: &mut Turn<'_>, id: &GroupId) -> Result<(), GroupError> {
        check_group_id(id)?;
        let group = self.find_mut(turn, id).ok_or(GroupError::GroupIdNotFound)?;
        if group.state() != GroupState::Empty {
            return Err(GroupError::NonEmptyGroup);
        }
        let known = group.offsets.keys().filter(|_| !planted!(ForgetTombstones));
        for partition in known {
            let (group, partition) = (id.clone(), partition.clone());
            turn.write(Record::Offset { group, partition, value: None });
        }
        group.write_tombstones(turn, id);
        // Clients that were told to join again find another group.
        group.members = Members::Classic(ClassicGroup::new(id.clone(), Timeline::default()));
        Ok(())
    }
}

impl Group {
    /// An empty group takes up the protocol of whoever joins first.
    fn make_classic_if_empty(&mut self, turn: &mut Turn<'_>, id: &GroupId) {
        let Members::Consumer(members) = &mut self.members else { return };
        if members.is_empty() {
            members.write_tombstones(turn);
            let timeline = std::mem::take(members.timeline());
            let generation = Generation(members.epoch());
            self.members = Members::Classic(ClassicGroup::after(id.clone(), generation, timeline));
        }
    }
}

/// Only offsets may be kept under the empty id, for very old clients.
fn check_group_id(id: &GroupId) -> Result<(), GroupError> {
    if id.as_str().is_empty() { Err(GroupError::InvalidGroupId) } else { Ok(()) }
}
