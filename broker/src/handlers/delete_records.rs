//! DeleteRecords: moves the log start forward, up to the high watermark, and answers once all in-sync
//! replicas have it, so that nothing comes back with the next leader.

use std::sync::Arc;
use std::time::Duration;

use sawlog_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use sawlog_protocol::{ErrorCode, Rope};

use tokio::time::Instant;

use super::{RequestContext, absent_error};
use crate::base::Offset;
use crate::replication::{DeleteError, Partition};

/// "Up to the high watermark", as the protocol writes it.
const HIGH_WATERMARK: i64 = -1;

/// No low watermark, as the protocol writes it.
const NONE: i64 = -1;

/// A partition on its way to what was asked for.
type Begun = Result<(Arc<Partition>, Offset), ErrorCode>;

/// Deletes and answers with the new low watermarks.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: DeleteRecordsRequest<'_>) -> Rope {
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let deadline = Instant::now() + timeout;
    // All of them are begun before any is waited for.
    let begun: Vec<Vec<Begun>> = request
        .topics
        .iter()
        .map(|topic| topic.partitions.iter().map(|it| begin(ctx, topic.name, it)).collect())
        .collect();
    let mut topics = Vec::with_capacity(begun.len());
    for (topic, begun) in request.topics.iter().zip(begun) {
        let mut partitions = Vec::with_capacity(begun.len());
        for (asked, begun) in topic.partitions.iter().zip(begun) {
            let low_watermark = match begun {
                Ok((partition, to)) => {
                    let deleted = partition.deleted(to, deadline).await;
                    deleted.map_err(|error| refusal(&partition, &error))
                }
                Err(code) => Err(code),
            };
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark: low_watermark.map_or(NONE, |low| low.0),
                error_code: low_watermark.err().unwrap_or(ErrorCode::NONE),
            });
        }
        topics.push(DeleteRecordsTopicResult { name: topic.name, partitions });
    }
    ctx.reply(&DeleteRecordsResponse { topics, ..Default::default() })
}

fn begin(ctx: &RequestContext<'_>, topic: &str, asked: &DeleteRecordsPartition) -> Begun {
    let Some(partition) = ctx.node.partitions.by_name(topic, asked.partition_index) else {
        let topic = ctx.node.partitions.topic_by_name(topic);
        return Err(absent_error(topic.as_deref(), asked.partition_index));
    };
    let to = (asked.offset != HIGH_WATERMARK).then_some(Offset(asked.offset));
    match partition.delete_records(to) {
        Ok(to) => Ok((partition, to)),
        Err(error) => Err(refusal(&partition, &error)),
    }
}

fn refusal(partition: &Partition, error: &DeleteError) -> ErrorCode {
    match error {
        DeleteError::OutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        DeleteError::Offline => ErrorCode::KAFKA_STORAGE_ERROR,
        DeleteError::NotLeader => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        DeleteError::TimedOut => ErrorCode::REQUEST_TIMED_OUT,
        DeleteError::Storage(error) => {
            tracing::error!(partition = %partition.name, %error, "cannot delete records");
            ErrorCode::KAFKA_STORAGE_ERROR
        }
    }
}
