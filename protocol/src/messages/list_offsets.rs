//! ListOffsets: offsets by timestamp. -1 is the end, -2 the start, -3 the record with the largest
//! timestamp (7), -4 the local start (8), -5 the tiered end (9), -6 the first to be tiered (11).
//!
//! - 1: one offset per partition
//! - 2: isolation level
//! - 4: leader epochs (KIP-320)
//! - 6: flexible
//! - 10: timeout (KIP-1075)

use crate::ErrorCode;

wire! {
    /// A timestamp for each partition.
    ListOffsetsRequest<'a> {
        replica_id: i32,
        isolation_level: i8 [2..],
        topics: Vec<ListOffsetsTopic<'a>>,
        timeout_ms: i32 [10..],
    }

    /// Part of [`ListOffsetsRequest`]: `topics`.
    ListOffsetsTopic<'a> {
        name: &'a str,
        partitions: Vec<ListOffsetsPartition>,
    }

    /// Part of [`ListOffsetsTopic`]: `partitions`.
    ListOffsetsPartition {
        partition_index: i32,
        current_leader_epoch: i32 [4..] = -1,
        timestamp: i64,
    }

    /// The first offset at or after each timestamp.
    ListOffsetsResponse<'a> {
        throttle_time_ms: i32 [2..],
        topics: Vec<ListOffsetsTopicResponse<'a>>,
    }

    /// Part of [`ListOffsetsResponse`]: `topics`.
    ListOffsetsTopicResponse<'a> {
        name: &'a str,
        partitions: Vec<ListOffsetsPartitionResponse>,
    }

    /// Part of [`ListOffsetsTopicResponse`]: `partitions`.
    ListOffsetsPartitionResponse {
        partition_index: i32,
        error_code: ErrorCode,
        timestamp: i64 = -1,
        offset: i64 = -1,
        leader_epoch: i32 [4..] = -1,
    }
}
