//! ListOffsets: the offsets at the ends of a log, and the offset for a time.

use std::collections::HashSet;
use std::sync::Arc;

use sawlog_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::{READ_COMMITTED, RequestContext, absent_error, epoch_error};
use crate::base::{LeaderEpoch, Offset, Timestamp};
use crate::replication::Partition;
use crate::storage::StorageError;

/// The special timestamps of the protocol and the first version that knows each.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: (i64, i16) = (-3, 7);
const EARLIEST_LOCAL: (i64, i16) = (-4, 8);
const LATEST_TIERED: (i64, i16) = (-5, 9);
const EARLIEST_PENDING_UPLOAD: (i64, i16) = (-6, 11);

/// First version with an error of its own for an end that is not known yet.
const OFFSET_NOT_AVAILABLE_VERSION_MIN: i16 = 5;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Latest,
    Earliest,
    MaxTimestamp,
    /// Tiers this broker does not have: "no such offset".
    Tiered,
    At(Timestamp),
}

/// What was found; `None` is "no such record", which is not an error.
type Found = Option<(Offset, Timestamp, LeaderEpoch)>;

/// Answers each partition.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: ListOffsetsRequest<'_>) -> Rope {
    let mut seen = HashSet::new();
    let mut topics = Vec::with_capacity(request.topics.len().min(64));
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len().min(1024));
        for asked in &topic.partitions {
            let result = if seen.insert((topic.name, asked.partition_index)) {
                list(ctx, topic.name, asked, request.isolation_level).await
            } else {
                Err(ErrorCode::INVALID_REQUEST)
            };
            partitions.push(response(asked.partition_index, result));
        }
        topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
    }
    ctx.reply(&ListOffsetsResponse { topics, ..Default::default() })
}

async fn list(
    ctx: &RequestContext<'_>,
    topic: &str,
    asked: &ListOffsetsPartition,
    isolation_level: i8,
) -> Result<Found, ErrorCode> {
    let wanted = wanted(asked.timestamp, ctx.version).ok_or(ErrorCode::UNSUPPORTED_VERSION)?;
    let partitions = &ctx.node.partitions;
    let partition = partitions.by_name(topic, asked.partition_index).ok_or_else(|| {
        absent_error(partitions.topic_by_name(topic).as_deref(), asked.partition_index)
    })?;
    let current =
        partition.check_epoch(LeaderEpoch(asked.current_leader_epoch)).map_err(epoch_error)?;
    let until = if isolation_level == READ_COMMITTED {
        partition.last_stable_offset()
    } else {
        partition.high_watermark()
    };
    // A new leader does not know yet how much of what it took over is committed (KIP-207).
    let needs_end = !matches!(wanted, Wanted::Earliest | Wanted::Tiered);
    if needs_end && partition.inspect(|core| core.latest_offset().is_none()) {
        return Err(if ctx.version >= OFFSET_NOT_AVAILABLE_VERSION_MIN {
            ErrorCode::OFFSET_NOT_AVAILABLE
        } else {
            ErrorCode::LEADER_NOT_AVAILABLE
        });
    }
    // Another may lead by now, and have committed more.
    if wanted == Wanted::Latest && !partition.is_heard_lately() {
        return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
    match wanted {
        Wanted::Latest => Ok(Some((until, Timestamp::NONE, current))),
        Wanted::Earliest => {
            let start = partition.log_start();
            let epoch = partition.inspect(|core| core.epochs().epoch_at(start)).unwrap_or(current);
            Ok(Some((start, Timestamp::NONE, epoch)))
        }
        Wanted::Tiered => Ok(None),
        Wanted::MaxTimestamp => search(partition, move |p| p.reader().max_timestamp(until)).await,
        Wanted::At(time) => {
            search(partition, move |p| p.reader().offset_for_timestamp(time, until)).await
        }
    }
}

/// Looks records up off the reactor: the pages may be cold, the batch compressed.
async fn search(
    partition: Arc<Partition>,
    look: impl FnOnce(&Partition) -> Result<Found, StorageError> + Send + 'static,
) -> Result<Found, ErrorCode> {
    let searched = partition.clone();
    match crate::base::tasks::blocking(move || look(&searched)).await {
        Ok(Ok(found)) => {
            let start = partition.log_start();
            // A record below a start advanced by DeleteRecords is gone, if its bytes are not.
            Ok(found.map(|(offset, time, epoch)| (offset.max(start), time, epoch)))
        }
        Ok(Err(error)) => {
            tracing::error!(partition = %partition.name, %error, "cannot search by time");
            Err(ErrorCode::KAFKA_STORAGE_ERROR)
        }
        Err(_) => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
    }
}

fn wanted(timestamp: i64, version: i16) -> Option<Wanted> {
    let since = |(special, first): (i64, i16)| timestamp == special && version >= first;
    if timestamp >= 0 {
        Some(Wanted::At(Timestamp(timestamp)))
    } else if timestamp == LATEST {
        Some(Wanted::Latest)
    } else if timestamp == EARLIEST || since(EARLIEST_LOCAL) {
        Some(Wanted::Earliest)
    } else if since(MAX_TIMESTAMP) {
        Some(Wanted::MaxTimestamp)
    } else if since(LATEST_TIERED) || since(EARLIEST_PENDING_UPLOAD) {
        Some(Wanted::Tiered)
    } else {
        None
    }
}

fn response(index: i32, result: Result<Found, ErrorCode>) -> ListOffsetsPartitionResponse {
    let none = (Offset(-1), Timestamp::NONE, LeaderEpoch::NONE);
    let (error_code, (offset, timestamp, epoch)) = match result {
        Ok(found) => (ErrorCode::NONE, found.unwrap_or(none)),
        Err(code) => (code, none),
    };
    ListOffsetsPartitionResponse {
        partition_index: index,
        error_code,
        timestamp: timestamp.0,
        offset: offset.0,
        leader_epoch: epoch.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_timestamps_need_their_version() {
        assert_eq!(wanted(-1, 1), Some(Wanted::Latest));
        assert_eq!(wanted(-2, 1), Some(Wanted::Earliest));
        assert_eq!(wanted(-3, 6), None);
        assert_eq!(wanted(-3, 7), Some(Wanted::MaxTimestamp));
        assert_eq!(wanted(-4, 7), None);
        assert_eq!(wanted(-4, 8), Some(Wanted::Earliest));
        assert_eq!(wanted(-5, 9), Some(Wanted::Tiered));
        assert_eq!(wanted(-6, 10), None);
        assert_eq!(wanted(-6, 11), Some(Wanted::Tiered));
        assert_eq!(wanted(-7, 11), None);
        assert_eq!(wanted(0, 1), Some(Wanted::At(Timestamp(0))));
    }
}
