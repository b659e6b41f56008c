//! DeleteRecords: moves the log start forward, up to the high watermark.

use sawlog_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::{RequestContext, absent_error};
use crate::base::Offset;
use crate::replication::DeleteError;

/// "Up to the high watermark", as the protocol writes it.
const HIGH_WATERMARK: i64 = -1;

/// Deletes and answers with the new log start offsets (low watermarks).
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: DeleteRecordsRequest<'_>) -> Rope {
    let topics = request
        .topics
        .iter()
        .map(|topic| DeleteRecordsTopicResult {
            name: topic.name,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| delete(ctx, topic.name, partition))
                .collect(),
        })
        .collect();
    ctx.reply(&DeleteRecordsResponse { topics, ..Default::default() })
}

fn delete(
    ctx: &RequestContext<'_>,
    topic: &str,
    asked: &DeleteRecordsPartition,
) -> DeleteRecordsPartitionResult {
    let answer = |error_code, low_watermark| DeleteRecordsPartitionResult {
        partition_index: asked.partition_index,
        low_watermark,
        error_code,
    };
    let Some(partition) = ctx.node.partitions.by_name(topic, asked.partition_index) else {
        let topic = ctx.node.partitions.topic_by_name(topic);
        return answer(absent_error(topic.as_deref(), asked.partition_index), -1);
    };
    let to = (asked.offset != HIGH_WATERMARK).then_some(Offset(asked.offset));
    match partition.delete_records(to) {
        Ok(start) => answer(ErrorCode::NONE, start.0),
        Err(DeleteError::OutOfRange { .. }) => answer(ErrorCode::OFFSET_OUT_OF_RANGE, -1),
        Err(DeleteError::Offline) => answer(ErrorCode::KAFKA_STORAGE_ERROR, -1),
        Err(DeleteError::NotLeader) => answer(ErrorCode::NOT_LEADER_OR_FOLLOWER, -1),
        Err(DeleteError::Storage(error)) => {
            tracing::error!(partition = %partition.name, %error, "cannot delete records");
            answer(ErrorCode::KAFKA_STORAGE_ERROR, -1)
        }
    }
}
