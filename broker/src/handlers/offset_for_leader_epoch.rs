//! OffsetForLeaderEpoch: where an epoch ended, so that a client can tell a truncated log
//! (KIP-101, KIP-320).

use sawlog_protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::{RequestContext, absent_error, epoch_error};
use crate::base::LeaderEpoch;

/// Answers for each partition with the largest epoch not above the one asked for, and its end.
pub(crate) fn handle(ctx: &RequestContext<'_>, request: OffsetForLeaderEpochRequest<'_>) -> Rope {
    let topics = request
        .topics
        .iter()
        .map(|topic| OffsetForLeaderTopicResult {
            topic: topic.topic,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| end_offset(ctx, topic.topic, partition))
                .collect(),
        })
        .collect();
    ctx.reply(&OffsetForLeaderEpochResponse { topics, ..Default::default() })
}

fn end_offset(
    ctx: &RequestContext<'_>,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> EpochEndOffset {
    let answer = |error_code, leader_epoch, end_offset| EpochEndOffset {
        error_code,
        partition: asked.partition,
        leader_epoch,
        end_offset,
    };
    let Some(partition) = ctx.node.partitions.by_name(topic, asked.partition) else {
        let topic = ctx.node.partitions.topic_by_name(topic);
        return answer(absent_error(topic.as_deref(), asked.partition), -1, -1);
    };
    if let Err(mismatch) = partition.check_epoch(LeaderEpoch(asked.current_leader_epoch)) {
        return answer(epoch_error(mismatch), -1, -1);
    }
    let wanted = LeaderEpoch(asked.leader_epoch);
    match partition.inspect(|core| core.end_offset_for(wanted)) {
        Some((epoch, end)) => answer(ErrorCode::NONE, epoch.0, end.0),
        None => answer(ErrorCode::NONE, -1, -1),
    }
}
