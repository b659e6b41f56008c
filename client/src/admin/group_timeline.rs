//! What happened to a group lately. Served by Sawlog alone.

use std::time::Duration;

use sawlog_protocol::decode_response;
use sawlog_protocol::messages::group_timeline::{GroupTimelineRequest, TimelineEvent, kind};

use crate::cluster::Client;
use crate::coordinator::GroupCall;
use crate::error::{ClientError, check};

/// What can happen to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupEventKind {
    /// The coordinator read the group from its log, with `count` members.
    Loaded,
    /// A member came.
    Joined,
    /// A static member came back under a new member id.
    Replaced,
    /// A member said goodbye, or an operator removed it.
    Left,
    /// A member was removed: no heartbeat within its session timeout.
    SessionTimedOut,
    /// A member was removed: it did not join again within the rebalance timeout.
    RejoinTimedOut,
    /// A member was removed: it did not fetch its assignment within the rebalance timeout.
    SyncTimedOut,
    /// A client was given a member id and did not join with it.
    FirstJoinTimedOut,
    /// Members have to join again.
    RebalanceStarted,
    /// A generation of `count` members began.
    GenerationStarted,
    /// The generation's assignment is made.
    Assigned,
    /// The last member has gone.
    Emptied,
    /// `count` offsets nobody needs were removed.
    OffsetsExpired,
    /// Consumer protocol: who shall have what has to be decided anew, for a new epoch.
    EpochStarted,
    /// Consumer protocol: who shall have what was decided for the epoch, over `count` members.
    TargetAssigned,
    /// Consumer protocol: every member has what it shall have.
    Reconciled,
    /// A member was removed: it did not give partitions back within the rebalance timeout.
    RevokeTimedOut,
    /// The group went over to the protocol that `assignor` names.
    Converted,
    /// Something this client has no word for: the broker's number of it.
    Other(i8),
}

impl GroupEventKind {
    fn of(code: i8) -> Self {
        match code {
            kind::LOADED => Self::Loaded,
            kind::JOINED => Self::Joined,
            kind::REPLACED => Self::Replaced,
            kind::LEFT => Self::Left,
            kind::SESSION_TIMED_OUT => Self::SessionTimedOut,
            kind::REJOIN_TIMED_OUT => Self::RejoinTimedOut,
            kind::SYNC_TIMED_OUT => Self::SyncTimedOut,
            kind::FIRST_JOIN_TIMED_OUT => Self::FirstJoinTimedOut,
            kind::REBALANCE_STARTED => Self::RebalanceStarted,
            kind::GENERATION_STARTED => Self::GenerationStarted,
            kind::ASSIGNED => Self::Assigned,
            kind::EMPTIED => Self::Emptied,
            kind::OFFSETS_EXPIRED => Self::OffsetsExpired,
            kind::EPOCH_STARTED => Self::EpochStarted,
            kind::TARGET_ASSIGNED => Self::TargetAssigned,
            kind::RECONCILED => Self::Reconciled,
            kind::REVOKE_TIMED_OUT => Self::RevokeTimedOut,
            kind::CONVERTED => Self::Converted,
            other => Self::Other(other),
        }
    }
}

/// Something that happened to a group. What does not belong to its kind is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEvent {
    /// When, in milliseconds since the Unix epoch, by the coordinator's clock.
    pub timestamp: i64,
    /// What.
    pub kind: GroupEventKind,
    /// The member it happened to.
    pub member_id: Option<String>,
    /// Its `group.instance.id`, if it is a static member.
    pub instance_id: Option<String>,
    /// The `client.id` of its program.
    pub client_id: Option<String>,
    /// Where it connects from.
    pub host: Option<String>,
    /// The member id that was replaced.
    pub former_member_id: Option<String>,
    /// Why: in the client's words for members, in the coordinator's for rebalances.
    pub reason: Option<String>,
    /// The limit that was overrun.
    pub timeout: Option<Duration>,
    /// The generation, or the epoch.
    pub generation: Option<i32>,
    /// How many members, or offsets.
    pub count: Option<u32>,
    /// The assignor chosen, or the protocol gone over to.
    pub assignor: Option<String>,
}

impl GroupEvent {
    fn from_wire(event: &TimelineEvent<'_>) -> Self {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let host = event.client_host.map(|host| host.strip_prefix('/').unwrap_or(host));
        Self {
            timestamp: event.timestamp_ms,
            kind: GroupEventKind::of(event.kind),
            member_id: owned(event.member_id),
            instance_id: owned(event.group_instance_id),
            client_id: owned(event.client_id),
            host: owned(host),
            former_member_id: owned(event.former_member_id),
            reason: owned(event.reason),
            timeout: u64::try_from(event.timeout_ms).ok().map(Duration::from_millis),
            generation: Some(event.generation).filter(|generation| *generation >= 0),
            count: u32::try_from(event.count).ok(),
            assignor: owned(event.protocol_name),
        }
    }
}

impl Client {
    /// What happened to a group lately, oldest first: the newest events its coordinator remembers, in
    /// memory only.
    ///
    /// # Errors
    /// [`ClientError::Unsupported`] by any broker but Sawlog, [`ClientError::Broker`] with
    /// `GROUP_ID_NOT_FOUND`, or no coordinator answers.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// for event in client.group_timeline("billing").await? {
    ///     println!("{event:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn group_timeline(&self, group: &str) -> Result<Vec<GroupEvent>, ClientError> {
        let request = GroupTimelineRequest { group_id: group };
        self.ask_coordinator(GroupCall::to(group), &request, |reply| {
            let (_, response) =
                decode_response::<GroupTimelineRequest<'_>>(&reply.frame, reply.version)?;
            check(response.error_code, response.error_message)?;
            Ok(response.events.iter().map(GroupEvent::from_wire).collect())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_none_and_new_kinds_keep_their_number() {
        let event = TimelineEvent { kind: 99, client_host: Some("/::1"), ..Default::default() };
        let read = GroupEvent::from_wire(&event);
        assert_eq!(read.kind, GroupEventKind::Other(99));
        assert_eq!((read.timeout, read.generation, read.count), (None, None, None));
        assert_eq!(read.host.as_deref(), Some("::1"));
    }
}
