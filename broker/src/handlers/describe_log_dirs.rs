//! DescribeLogDirs: sizes on disk, by data directory.

use std::collections::BTreeMap;
use std::sync::Arc;

use sawlog_protocol::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use crate::replication::Partition;

/// Answers for the partitions asked for, or for all.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: DescribeLogDirsRequest<'_>) -> Rope {
    let mut partitions = ctx.node.partitions.all();
    if let Some(wanted) = &request.topics {
        partitions.retain(|partition| {
            wanted.iter().any(|topic| {
                *partition.name.topic == *topic.topic
                    && topic.partitions.contains(&partition.name.partition)
            })
        });
    }
    let mut by_topic: BTreeMap<Arc<str>, Vec<Arc<Partition>>> = BTreeMap::new();
    for partition in partitions {
        by_topic.entry(partition.name.topic.clone()).or_default().push(partition);
    }
    let topics = by_topic
        .iter()
        .map(|(name, partitions)| DescribeLogDirsTopic {
            name,
            partitions: partitions.iter().map(|partition| size(partition)).collect(),
        })
        .collect();
    let directory = ctx.node.partitions.directory();
    let space = ctx.node.partitions.space();
    let log_dir = directory.display().to_string();
    let results = vec![DescribeLogDirsResult {
        log_dir: &log_dir,
        topics,
        total_bytes: space.map_or(-1, |space| i64::try_from(space.total).unwrap_or(i64::MAX)),
        usable_bytes: space.map_or(-1, |space| i64::try_from(space.free).unwrap_or(i64::MAX)),
        ..Default::default()
    }];
    ctx.reply(&DescribeLogDirsResponse {
        error_code: ErrorCode::NONE,
        results,
        ..Default::default()
    })
}

fn size(partition: &Partition) -> DescribeLogDirsPartition {
    DescribeLogDirsPartition {
        partition_index: partition.name.partition,
        partition_size: i64::try_from(partition.size_bytes()).unwrap_or(i64::MAX),
        offset_lag: 0,
        is_future_key: false,
    }
}
