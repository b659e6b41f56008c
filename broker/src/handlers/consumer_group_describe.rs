//! ConsumerGroupDescribe (KIP-848): groups of the consumer protocol, their members, and how far
//! these are on the way to what they shall have.

use sawlog_protocol::messages::consumer_group_describe::{
    Assignment, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribedGroup,
    Member, TopicPartitions as Wire,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::consumer_group_heartbeat::is_turned_off;
use super::groups::{OPERATIONS, code};
use crate::coordinator::{
    DescribeConsumerGroup, DescribedConsumer, DescribedConsumerGroup, GroupError, GroupId,
    GroupType, TopicPartitions,
};
use crate::metadata::Image;

/// Describes each on its own.
pub(crate) async fn handle(
    ctx: &RequestContext<'_>,
    request: ConsumerGroupDescribeRequest<'_>,
) -> Rope {
    if is_turned_off(ctx) {
        let refused = request.group_ids.iter().map(|group_id| DescribedGroup {
            error_code: ErrorCode::UNSUPPORTED_VERSION,
            group_id,
            ..Default::default()
        });
        let groups = refused.collect();
        return ctx.reply(&ConsumerGroupDescribeResponse { groups, ..Default::default() });
    }
    let image = ctx.node.images.load();
    let mut described = Vec::with_capacity(request.group_ids.len());
    for name in &request.group_ids {
        let group = GroupId::from(*name);
        let asked = DescribeConsumerGroup { group: group.clone() };
        let answer = match ctx.node.groups.ask(&group, asked).await {
            _ if name.is_empty() => {
                Err((GroupError::InvalidGroupId, "the group id is empty".into()))
            }
            Ok(Some(group)) => Ok(group),
            Ok(None) => Err((GroupError::GroupIdNotFound, format!("Group {name} not found."))),
            Err(error @ GroupError::OtherProtocol) => {
                Err((error, format!("Group {name} is not a consumer group.")))
            }
            Err(error) => Err((error, error.to_string())),
        };
        described.push((*name, answer));
    }
    let operations = if request.include_authorized_operations { OPERATIONS } else { i32::MIN };
    let groups = described.iter().map(|(name, answer)| match answer {
        Ok(group) => {
            DescribedGroup { authorized_operations: operations, ..describe(&image, name, group) }
        }
        Err((error, message)) => DescribedGroup {
            error_code: code(*error),
            error_message: Some(message),
            group_id: name,
            ..Default::default()
        },
    });
    ctx.reply(&ConsumerGroupDescribeResponse { groups: groups.collect(), ..Default::default() })
}

fn describe<'a>(
    image: &'a Image,
    name: &'a str,
    group: &'a DescribedConsumerGroup,
) -> DescribedGroup<'a> {
    DescribedGroup {
        error_code: ErrorCode::NONE,
        group_id: name,
        group_state: group.state.name(),
        group_epoch: group.epoch,
        assignment_epoch: group.assignment_epoch,
        assignor_name: group.assignor,
        members: group.members.iter().map(|known| member(image, known)).collect(),
        ..Default::default()
    }
}

fn member<'a>(image: &'a Image, known: &'a DescribedConsumer) -> Member<'a> {
    Member {
        member_id: known.member.as_str(),
        instance_id: known.instance.as_ref().map(|instance| instance.as_str()),
        rack_id: known.rack.as_deref(),
        member_epoch: known.epoch,
        client_id: &known.client.id,
        client_host: &known.client.host,
        subscribed_topic_names: known.topics.iter().map(|topic| &**topic).collect(),
        subscribed_topic_regex: known.pattern.as_deref(),
        assignment: assignment(image, &known.assigned),
        target_assignment: assignment(image, &known.target),
        member_type: match known.speaks {
            GroupType::Classic => 0,
            GroupType::Consumer => 1,
        },
    }
}

/// Topics that are gone have no name, and are left out.
fn assignment<'a>(image: &'a Image, partitions: &TopicPartitions) -> Assignment<'a> {
    let topics = partitions.iter().filter_map(|(topic, set)| {
        Some(Wire {
            topic_id: *topic,
            topic_name: &image.topic_by_id(*topic)?.name,
            partitions: set.iter().copied().collect(),
        })
    });
    Assignment { topic_partitions: topics.collect() }
}
