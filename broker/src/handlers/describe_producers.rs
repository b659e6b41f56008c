//! DescribeProducers: the idempotent producers a partition remembers (KIP-664).

use sawlog_protocol::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState,
    TopicResponse,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;

/// Lists them.
pub(crate) fn handle(ctx: &RequestContext<'_>, request: DescribeProducersRequest<'_>) -> Rope {
    let topics = request
        .topics
        .iter()
        .map(|topic| TopicResponse {
            name: topic.name,
            partitions: topic
                .partition_indexes
                .iter()
                .map(|index| describe(ctx, topic.name, *index))
                .collect(),
        })
        .collect();
    ctx.reply(&DescribeProducersResponse { topics, ..Default::default() })
}

fn describe<'r>(ctx: &RequestContext<'_>, topic: &str, index: i32) -> PartitionResponse<'r> {
    let Some(partition) = ctx.node.partitions.by_name(topic, index) else {
        return PartitionResponse {
            partition_index: index,
            error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            error_message: Some("no such partition"),
            ..Default::default()
        };
    };
    let active_producers = partition.inspect(|core| {
        core.producers()
            .iter()
            .map(|producer| ProducerState {
                producer_id: producer.producer_id,
                producer_epoch: i32::from(producer.producer_epoch),
                last_sequence: producer.last_sequence,
                last_timestamp: producer.last_timestamp.0,
                coordinator_epoch: -1,
                current_txn_start_offset: -1,
            })
            .collect()
    });
    PartitionResponse { partition_index: index, active_producers, ..Default::default() }
}
