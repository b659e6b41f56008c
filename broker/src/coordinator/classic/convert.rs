//! A classic group of consumers on its way to the consumer protocol, and back (KIP-848).

use bytes::Bytes;

use super::group::{CONSUMER, ClassicGroup, refuse_join};
use super::member::Member;
use crate::coordinator::core::Reply;
use crate::coordinator::record::ClassicMemberRecord;
use crate::coordinator::timeline::Timeline;
use crate::coordinator::turn::Turn;
use crate::coordinator::types::{Generation, GroupError, GroupId, GroupState, Protocol};

/// A member that goes over with its group.
#[derive(Clone, Debug)]
pub(in crate::coordinator) struct Convert {
    /// As it would be written down.
    pub(in crate::coordinator) member: ClassicMemberRecord,
    /// All that it sent with JoinGroup, the most wanted first.
    pub(in crate::coordinator) protocols: Vec<Protocol>,
}

impl ClassicGroup {
    /// Whether members of the consumer protocol can be told what members of this group read.
    pub(in crate::coordinator) fn is_convertible(&self) -> bool {
        self.state != GroupState::Empty && self.is_of_consumers()
    }

    /// The members that have been through a rebalance.
    pub(in crate::coordinator) fn converts(&self) -> Vec<Convert> {
        let settled = self.members.values().filter(|member| !member.is_new);
        let convert = |member: &Member| Convert {
            member: member.to_record(self.protocol.as_deref()),
            protocols: member.protocols.clone(),
        };
        settled.map(convert).collect()
    }

    /// The group is no more. Requests that wait are answered: members have to join again, new ones
    /// as somebody new.
    pub(in crate::coordinator) fn dissolve(&mut self, turn: &mut Turn<'_>) {
        for member in self.members.values_mut() {
            let error = if member.is_new {
                GroupError::UnknownMember
            } else {
                GroupError::RebalanceInProgress
            };
            if let Some(request) = member.joining.take() {
                refuse_join(turn, request, error, Some(member.id.clone()));
            }
            if let Some(request) = member.syncing.take() {
                turn.reply_at_once(request, Reply::Sync(Err(error)));
            }
        }
    }

    /// A stable group of these members, whose generations go on from `generation`. It is written down as
    /// one that the caller is about to rebalance.
    pub(in crate::coordinator) fn from_converts(
        turn: &mut Turn<'_>,
        id: GroupId,
        (generation, timeline): (Generation, Timeline),
        converts: Vec<Convert>,
    ) -> Self {
        let mut group = Self::after(id, generation, timeline);
        group.protocol_type = Some(CONSUMER.into());
        for Convert { member, protocols } in converts {
            let mut member = Member::from_record(member, None);
            member.protocols = protocols;
            group.insert(member);
        }
        group.protocol = group.select_protocol();
        group.topics = group.subscribed_topics();
        group.transition(turn, GroupState::Stable);
        let members: Vec<_> = group.members.keys().cloned().collect();
        for member in members {
            group.refresh(turn, &member);
        }
        turn.write(group.record_to_be_rebalanced());
        group
    }
}

impl Convert {
    /// Its metadata for the protocol it wants most.
    pub(in crate::coordinator) fn subscription(&self) -> Bytes {
        let first = self.protocols.first().map(|protocol| protocol.metadata.clone());
        first.unwrap_or_else(|| self.member.subscription.clone())
    }
}
