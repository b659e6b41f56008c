//! Heartbeats of the consumer protocol, brought to their group.

use super::group::ConsumerGroup;
use super::member::{AWAY, JOIN, LEAVE};
use super::target::AssignDone;
use crate::coordinator::assignor::Assignor;
use crate::coordinator::classic::ClassicGroup;
use crate::coordinator::core::Groups;
use crate::coordinator::group::{Group, Members};
use crate::coordinator::record::{ConsumerPart, Record};
use crate::coordinator::timeline::{EventKind, Timeline};
use crate::coordinator::turn::Turn;
use crate::coordinator::types::{
    Beat, ConsumerHeartbeat, DescribeConsumerGroup, DescribedConsumerGroup, GroupError, GroupId,
    GroupState, GroupType, MemberId,
};

impl Groups {
    pub(in crate::coordinator) fn consumer_heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        request: &ConsumerHeartbeat,
    ) -> Result<Beat, GroupError> {
        validate(turn, request)?;
        if request.epoch == JOIN {
            let group = self.get_or_create(&request.group);
            turn.after = group.written_at;
            let result = group.consumer_join(turn, request);
            if turn.out.records.is_empty() {
                self.forget_if_nothing(&request.group);
            }
            return result;
        }
        let group = self.find_mut(turn, &request.group).ok_or(GroupError::UnknownMember)?;
        let Members::Consumer(members) = &mut group.members else {
            return Err(GroupError::UnknownMember);
        };
        let beat = match request.epoch {
            LEAVE | AWAY => members.leave(turn, request),
            _ => members.heartbeat(turn, request),
        };
        group.go_back_if_due(turn);
        beat
    }

    pub(in crate::coordinator) fn describe_consumer(
        &self,
        turn: &mut Turn<'_>,
        request: &DescribeConsumerGroup,
    ) -> Result<Option<DescribedConsumerGroup>, GroupError> {
        match self.find(turn, &request.group).map(|group| &group.members) {
            None => Ok(None),
            Some(Members::Classic(_)) => Err(GroupError::OtherProtocol),
            Some(Members::Consumer(members)) => Ok(Some(members.describe(turn.options))),
        }
    }

    /// A part of a group of the consumer protocol, read from the log.
    pub(in crate::coordinator) fn replay_consumer(&mut self, id: &GroupId, part: ConsumerPart) {
        let group = self.get_or_create(id);
        if let Members::Classic(_) = &group.members {
            group.members =
                Members::Consumer(ConsumerGroup::new(id.clone(), 0, Default::default()));
        }
        if let Members::Consumer(members) = &mut group.members {
            members.replay(part);
        }
    }

    /// An assignment has been computed.
    pub(in crate::coordinator) fn on_assigned(&mut self, turn: &mut Turn<'_>, done: AssignDone) {
        if let Some(group) = self.find_mut(turn, &done.group)
            && let Members::Consumer(members) = &mut group.members
        {
            members.on_assigned(turn, done);
        }
    }
}

impl Group {
    /// If only classic members are left, they have their kind of group back.
    pub(in crate::coordinator) fn go_back_if_due(&mut self, turn: &mut Turn<'_>) {
        if let Members::Consumer(members) = &mut self.members
            && members.is_to_go_back(turn)
        {
            let event = EventKind::Converted { to: GroupType::Classic };
            members.timeline().note(turn.now.wall, event);
            self.members = Members::Classic(members.become_classic(turn));
        }
    }

    fn consumer_join(
        &mut self,
        turn: &mut Turn<'_>,
        request: &ConsumerHeartbeat,
    ) -> Result<Beat, GroupError> {
        if let Members::Classic(classic) = &mut self.members {
            let mut members = taken_over(turn, request, classic)?;
            members.admit(turn, request)?;
            classic.dissolve(turn);
            std::mem::swap(members.timeline(), classic.timeline());
            if self.written_at.is_some() {
                turn.write(Record::Group { group: request.group.clone(), value: None });
            }
            if !members.is_empty() {
                members.begin(turn);
                let event = EventKind::Converted { to: GroupType::Consumer };
                members.timeline().note(turn.now.wall, event);
            }
            self.members = Members::Consumer(members);
        }
        match &mut self.members {
            Members::Consumer(members) => members.heartbeat(turn, request),
            Members::Classic(_) => Err(GroupError::GroupIdNotFound),
        }
    }
}

/// The members of a classic group, as those of a group of the consumer protocol.
fn taken_over(
    turn: &Turn<'_>,
    request: &ConsumerHeartbeat,
    classic: &ClassicGroup,
) -> Result<ConsumerGroup, GroupError> {
    let id = request.group.clone();
    if classic.state() == GroupState::Empty {
        return Ok(ConsumerGroup::new(id, classic.generation().0.max(0), Timeline::default()));
    }
    if !turn.options.migration.upgrades() || !classic.is_convertible() {
        return Err(GroupError::OtherProtocol);
    }
    ConsumerGroup::from_classic(turn.topics, id, classic)
}

/// What a request has to be, whatever the group.
fn validate(turn: &Turn<'_>, request: &ConsumerHeartbeat) -> Result<(), GroupError> {
    let is_empty = |text: Option<&str>| text.is_some_and(str::is_empty);
    if request.group.as_str().is_empty()
        || is_empty(request.instance.as_ref().map(|instance| instance.as_str()))
        || is_empty(request.rack.as_deref())
    {
        return Err(GroupError::InvalidRequest);
    }
    let has_id = request.member.as_ref().is_some_and(|id: &MemberId| !id.as_str().is_empty());
    let is_valid = match request.epoch {
        JOIN => {
            request.rebalance_timeout.is_some()
                && request.owned.as_ref().is_some_and(|owned| owned.is_empty())
                && (request.topics.is_some() || request.pattern.is_some())
        }
        LEAVE => has_id,
        // franz-go names only the member here; whether it is static, the group knows.
        AWAY => has_id,
        epoch => epoch > 0 && has_id,
    };
    if !is_valid {
        return Err(GroupError::InvalidRequest);
    }
    let is_known = |name: &str| {
        Assignor::by_name(name).is_some_and(|assignor| turn.options.assignors.contains(&assignor))
    };
    if request.assignor.as_deref().is_some_and(|name| !is_known(name)) {
        return Err(GroupError::UnsupportedAssignor);
    }
    Ok(())
}
