//! DescribeLogDirs: sizes on disk, by data directory.
//!
//! A directory that is offline is named with KAFKA_STORAGE_ERROR and nothing else, as in Kafka. A
//! directory without any of the partitions asked for is listed too: its space is of interest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sawlog_protocol::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use crate::replication::{LogDirectory, Partition};

/// The partitions asked for.
type Wanted<'a> = Option<BTreeMap<&'a str, BTreeSet<i32>>>;

/// One directory as it is now.
struct Described {
    path: String,
    error: ErrorCode,
    topics: BTreeMap<Arc<str>, Vec<Arc<Partition>>>,
    /// Total and usable bytes of its file system; -1 if it does not tell.
    total_bytes: i64,
    usable_bytes: i64,
}

/// Answers for the partitions asked for, or for all.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: DescribeLogDirsRequest<'_>) -> Rope {
    let wanted: Wanted<'_> = request.topics.as_ref().map(|topics| {
        let mut wanted: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
        for topic in topics {
            wanted.entry(topic.topic).or_default().extend(&topic.partitions);
        }
        wanted
    });
    let mut partitions = ctx.node.partitions.all();
    partitions.retain(|partition| {
        wanted.as_ref().is_none_or(|wanted| {
            let indexes = wanted.get(&*partition.name.topic);
            indexes.is_some_and(|indexes| indexes.contains(&partition.name.partition))
        })
    });
    partitions.sort_unstable_by_key(|partition| partition.name.partition);
    let directories = ctx.node.partitions.directories();
    let described: Vec<Described> =
        directories.iter().map(|directory| describe(directory, &partitions)).collect();
    let results = described.iter().map(result).collect();
    ctx.reply(&DescribeLogDirsResponse {
        error_code: ErrorCode::NONE,
        results,
        ..Default::default()
    })
}

fn describe(directory: &Arc<LogDirectory>, partitions: &[Arc<Partition>]) -> Described {
    let data = directory.data();
    let path = data.path().display().to_string();
    let mut topics: BTreeMap<Arc<str>, Vec<Arc<Partition>>> = BTreeMap::new();
    if !data.is_online() {
        let error = ErrorCode::KAFKA_STORAGE_ERROR;
        return Described { path, error, topics, total_bytes: -1, usable_bytes: -1 };
    }
    for partition in partitions.iter().filter(|one| Arc::ptr_eq(one.directory(), directory)) {
        topics.entry(partition.name.topic.clone()).or_default().push(partition.clone());
    }
    let space = data.disk().space(data.path()).ok();
    let bytes =
        |bytes: Option<u64>| bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    Described {
        path,
        error: ErrorCode::NONE,
        topics,
        total_bytes: bytes(space.map(|space| space.total)),
        usable_bytes: bytes(space.map(|space| space.free)),
    }
}

fn result(directory: &Described) -> DescribeLogDirsResult<'_> {
    let topics = directory.topics.iter();
    DescribeLogDirsResult {
        error_code: directory.error,
        log_dir: &directory.path,
        topics: topics
            .map(|(name, partitions)| DescribeLogDirsTopic {
                name,
                partitions: partitions.iter().map(|partition| size(partition)).collect(),
            })
            .collect(),
        total_bytes: directory.total_bytes,
        usable_bytes: directory.usable_bytes,
        ..Default::default()
    }
}

/// The lag is how far the log is behind the high watermark, which a leader's never is.
fn size(partition: &Partition) -> DescribeLogDirsPartition {
    let lag = partition.high_watermark().minus(partition.log_end());
    DescribeLogDirsPartition {
        partition_index: partition.name.partition,
        partition_size: i64::try_from(partition.size_bytes()).unwrap_or(i64::MAX),
        offset_lag: lag.max(0),
        is_future_key: false,
        quarantined_records: partition.quarantined_records(),
    }
}
