//! ConsumerGroupHeartbeat (KIP-848): a member of a group of the consumer protocol lives, joins,
//! leaves, says what it wants and uses, and learns what is its.

use std::collections::BTreeSet;

use sawlog_protocol::messages::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    TopicPartitions as Wire,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::groups::{client, code, member, milliseconds};
use crate::controller::features::{self, GROUP_VERSION};
use crate::coordinator::{
    Beat, ConsumerHeartbeat, GroupError, GroupId, MemberId, TopicPartitions, TopicPattern,
};

/// First version in which members bring their own ids (KIP-1082).
const OWN_ID: i16 = 1;

/// What a topic's name in a subscription takes besides its bytes: in the member and in the group's
/// count of who wants it.
const NAME_BYTES: usize = 128;

/// Tells the coordinator, and the member what the coordinator says.
pub(crate) async fn handle(
    ctx: &RequestContext<'_>,
    request: ConsumerGroupHeartbeatRequest<'_>,
) -> Rope {
    if is_turned_off(ctx) {
        let error_code = ErrorCode::UNSUPPORTED_VERSION;
        return ctx.reply(&ConsumerGroupHeartbeatResponse { error_code, ..Default::default() });
    }
    let group = GroupId::from(request.group_id);
    let has_no_id = ctx.version >= OWN_ID && request.member_id.is_empty();
    let answer = if has_no_id || group.as_str().is_empty() {
        Err(GroupError::InvalidRequest)
    } else {
        match wanted(ctx, &request) {
            Ok(asked) => ctx.node.groups.ask(&group, asked).await,
            Err(error) => Err(error),
        }
    };
    match answer {
        Ok(beat) => ctx.reply(&told(&beat)),
        Err(error) => {
            let message = message(&request, error);
            ctx.reply(&ConsumerGroupHeartbeatResponse {
                error_code: code(error),
                error_message: Some(&message),
                ..Default::default()
            })
        }
    }
}

/// Whether the cluster has no groups of this protocol.
pub(super) fn is_turned_off(ctx: &RequestContext<'_>) -> bool {
    features::level(&ctx.node.images.peek(), &GROUP_VERSION) == 0
}

/// What the frame says; what is kept of it is charged.
fn wanted(
    ctx: &RequestContext<'_>,
    request: &ConsumerGroupHeartbeatRequest<'_>,
) -> Result<ConsumerHeartbeat, GroupError> {
    let topics = request.subscribed_topic_names.as_ref();
    Ok(ConsumerHeartbeat {
        charge: match kept_bytes(request) {
            0 => None,
            bytes => Some(ctx.node.groups.memory().keep(bytes, &[])?),
        },
        group: request.group_id.into(),
        member: member(request.member_id),
        fresh_member: if request.member_id.is_empty() {
            MemberId::from(&*ctx.node.member_ids.next_uuid().to_string())
        } else {
            MemberId::from("")
        },
        epoch: request.member_epoch,
        instance: request.instance_id.map(Into::into),
        client: client(ctx),
        rack: request.rack_id.map(Into::into),
        rebalance_timeout: (request.rebalance_timeout_ms >= 0)
            .then(|| milliseconds(request.rebalance_timeout_ms)),
        topics: topics.map(|names| names.iter().map(|name| (*name).into()).collect()),
        pattern: request.subscribed_topic_regex.map(Into::into),
        assignor: request.server_assignor.map(Into::into),
        owned: request.topic_partitions.as_deref().map(owned),
    })
}

/// Bytes the member's subscription takes; none where it stays as it is.
fn kept_bytes(request: &ConsumerGroupHeartbeatRequest<'_>) -> usize {
    let names = request.subscribed_topic_names.iter().flatten();
    let names: usize = names.map(|name| NAME_BYTES + name.len()).sum();
    let pattern = request.subscribed_topic_regex.map_or(0, |pattern| NAME_BYTES + pattern.len());
    names + pattern
}

fn owned(topics: &[Wire]) -> TopicPartitions {
    let mut owned = TopicPartitions::new();
    for topic in topics.iter().filter(|topic| !topic.partitions.is_empty()) {
        let partitions: &mut BTreeSet<i32> = owned.entry(topic.topic_id).or_default();
        partitions.extend(&topic.partitions);
    }
    owned
}

fn told(beat: &Beat) -> ConsumerGroupHeartbeatResponse<'_> {
    let topics = |assigned: &TopicPartitions| {
        let topics = assigned.iter().map(|(topic, partitions)| Wire {
            topic_id: *topic,
            partitions: partitions.iter().copied().collect(),
        });
        Assignment { topic_partitions: topics.collect() }
    };
    ConsumerGroupHeartbeatResponse {
        error_code: ErrorCode::NONE,
        member_id: Some(beat.member.as_str()),
        member_epoch: beat.epoch,
        heartbeat_interval_ms: i32::try_from(beat.heartbeat_interval.as_millis())
            .unwrap_or(i32::MAX),
        assignment: beat.assignment.as_ref().map(topics),
        ..Default::default()
    }
}

/// Why, for whoever reads the client's log.
fn message(request: &ConsumerGroupHeartbeatRequest<'_>, error: GroupError) -> String {
    match error {
        GroupError::InvalidRegularExpression => {
            let text = request.subscribed_topic_regex.unwrap_or_default();
            match TopicPattern::new(text) {
                Err(why) => format!("{text:?} is not a regular expression for topics: {why}"),
                Ok(_) => "the group subscribes by too many patterns".to_owned(),
            }
        }
        GroupError::UnsupportedAssignor => {
            let name = request.server_assignor.unwrap_or_default();
            format!("the broker has no assignor {name:?}; see group.consumer.assignors")
        }
        GroupError::FencedMemberEpoch | GroupError::UnknownMember => {
            format!("{error}; the member has to let go of its partitions and join again")
        }
        error => error.to_string(),
    }
}
