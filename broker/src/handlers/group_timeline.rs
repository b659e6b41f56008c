//! GroupTimeline: what happened to a group lately. Sawlog's own: no part of Kafka's protocol.

use std::time::Duration;

use sawlog_protocol::messages::group_timeline::{
    GroupTimelineRequest, GroupTimelineResponse, TimelineEvent, kind,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::groups::code;
use crate::coordinator::{
    Client, Event, EventKind, GroupError, GroupId, GroupTimeline, MemberId, Timeout,
};

/// Answers with the events the coordinator remembers.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: GroupTimelineRequest<'_>) -> Rope {
    let group = GroupId::from(request.group_id);
    let answer = if request.group_id.is_empty() {
        Err(GroupError::InvalidGroupId)
    } else {
        ctx.node.groups.ask(&group, GroupTimeline { group: group.clone() }).await
    };
    let refused =
        |error_code| ctx.reply(&GroupTimelineResponse { error_code, ..Default::default() });
    match answer {
        Ok(Some(events)) => ctx.reply(&GroupTimelineResponse {
            events: events.iter().map(told).collect(),
            ..Default::default()
        }),
        Ok(None) => refused(ErrorCode::GROUP_ID_NOT_FOUND),
        Err(error) => refused(code(error)),
    }
}

fn told(event: &Event) -> TimelineEvent<'_> {
    let told = match &event.kind {
        EventKind::Loaded { members } => counted(kind::LOADED, *members),
        EventKind::Joined { member, instance, client, reason } => TimelineEvent {
            group_instance_id: instance.as_ref().map(|instance| instance.as_str()),
            reason: reason.as_deref(),
            ..of_member(kind::JOINED, member, Some(client))
        },
        EventKind::Replaced { instance, old, new } => TimelineEvent {
            group_instance_id: Some(instance.as_str()),
            former_member_id: Some(old.as_str()),
            ..of_member(kind::REPLACED, new, None)
        },
        EventKind::Left { member, client, reason } => TimelineEvent {
            reason: reason.as_deref(),
            ..of_member(kind::LEFT, member, client.as_ref())
        },
        EventKind::TimedOut { member, client, timeout, limit } => TimelineEvent {
            timeout_ms: limit.map_or(-1, milliseconds),
            ..of_member(timed_out(*timeout), member, client.as_ref())
        },
        EventKind::RebalanceStarted { reason } => TimelineEvent {
            kind: kind::REBALANCE_STARTED,
            reason: Some(reason),
            ..Default::default()
        },
        EventKind::GenerationStarted { generation, members, protocol } => TimelineEvent {
            generation: generation.0,
            protocol_name: protocol.as_deref(),
            ..counted(kind::GENERATION_STARTED, *members)
        },
        EventKind::Assigned { generation } => {
            TimelineEvent { kind: kind::ASSIGNED, generation: generation.0, ..Default::default() }
        }
        EventKind::EpochStarted { epoch, reason } => {
            TimelineEvent { reason: Some(reason), ..of_epoch(kind::EPOCH_STARTED, *epoch) }
        }
        EventKind::TargetAssigned { epoch, members, assignor } => TimelineEvent {
            generation: *epoch,
            protocol_name: Some(assignor),
            ..counted(kind::TARGET_ASSIGNED, *members)
        },
        EventKind::Reconciled { epoch } => of_epoch(kind::RECONCILED, *epoch),
        EventKind::Converted { to } => TimelineEvent {
            kind: kind::CONVERTED,
            protocol_name: Some(to.name()),
            ..Default::default()
        },
        EventKind::Emptied => TimelineEvent { kind: kind::EMPTIED, ..Default::default() },
        EventKind::OffsetsExpired { count } => counted(kind::OFFSETS_EXPIRED, *count),
    };
    TimelineEvent { timestamp_ms: event.at.0, ..told }
}

fn of_member<'a>(kind: i8, member: &'a MemberId, client: Option<&'a Client>) -> TimelineEvent<'a> {
    TimelineEvent {
        kind,
        member_id: Some(member.as_str()),
        client_id: client.map(|client| &*client.id),
        client_host: client.map(|client| &*client.host),
        ..Default::default()
    }
}

fn of_epoch(kind: i8, epoch: i32) -> TimelineEvent<'static> {
    TimelineEvent { kind, generation: epoch, ..Default::default() }
}

fn counted(kind: i8, count: usize) -> TimelineEvent<'static> {
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    TimelineEvent { kind, count, ..Default::default() }
}

fn timed_out(timeout: Timeout) -> i8 {
    match timeout {
        Timeout::Session => kind::SESSION_TIMED_OUT,
        Timeout::Rejoin => kind::REJOIN_TIMED_OUT,
        Timeout::Sync => kind::SYNC_TIMED_OUT,
        Timeout::FirstJoin => kind::FIRST_JOIN_TIMED_OUT,
        Timeout::Revoke => kind::REVOKE_TIMED_OUT,
    }
}

fn milliseconds(limit: Duration) -> i64 {
    i64::try_from(limit.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;

    #[test]
    fn who_was_late_is_told_with_the_limit_and_its_client() {
        let client = Client { id: "c".into(), host: "/10.0.0.1".into() };
        let event = Event {
            at: Timestamp(7),
            kind: EventKind::TimedOut {
                member: "m".into(),
                client: Some(client),
                timeout: Timeout::Session,
                limit: Some(Duration::from_secs(45)),
            },
        };
        let told = told(&event);
        assert_eq!((told.timestamp_ms, told.kind), (7, kind::SESSION_TIMED_OUT));
        assert_eq!((told.member_id, told.timeout_ms), (Some("m"), 45_000));
        assert_eq!((told.client_id, told.client_host), (Some("c"), Some("/10.0.0.1")));
        assert_eq!((told.generation, told.count, told.reason), (-1, -1, None));
    }
}
