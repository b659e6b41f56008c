//! OffsetDelete (KIP-496): a group forgets offsets of topics it does not read.

use sawlog_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::groups::{code, outcome};
use crate::base::TopicPartition;
use crate::coordinator::{GroupId, OffsetDelete};

/// Forgets them.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: OffsetDeleteRequest<'_>) -> Rope {
    let image = ctx.node.images.load();
    let group = GroupId::from(request.group_id);
    let known = request.topics.iter().filter_map(|topic| Some((topic, image.topic(topic.name)?)));
    let partitions = known.flat_map(|(topic, known)| {
        topic.partitions.iter().map(|partition| TopicPartition {
            topic: known.name.clone(),
            partition: partition.partition_index,
        })
    });
    let asked = OffsetDelete { group: group.clone(), partitions: partitions.collect() };
    let mut results = match ctx.node.groups.ask(&group, asked).await {
        Ok(results) => results.into_iter(),
        Err(error) => {
            return ctx
                .reply(&OffsetDeleteResponse { error_code: code(error), ..Default::default() });
        }
    };
    let topics = request.topics.iter().map(|topic| {
        let is_known = image.topic(topic.name).is_some();
        let partitions = topic.partitions.iter().map(|partition| OffsetDeleteResponsePartition {
            partition_index: partition.partition_index,
            error_code: if is_known {
                results.next().map_or(ErrorCode::UNKNOWN_SERVER_ERROR, |result| outcome(&result))
            } else {
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            },
        });
        OffsetDeleteResponseTopic { name: topic.name, partitions: partitions.collect() }
    });
    let topics = topics.collect();
    ctx.reply(&OffsetDeleteResponse { topics, ..Default::default() })
}
