//! OffsetForLeaderEpoch: where an epoch ended (KIP-101).
//!
//! - 2: current leader epoch (KIP-320)
//! - 3: replica id
//! - 4: flexible

use crate::ErrorCode;

wire! {
    /// An epoch for each partition.
    OffsetForLeaderEpochRequest<'a> {
        replica_id: i32 [3..] = -2,
        topics: Vec<OffsetForLeaderTopic<'a>>,
    }

    /// Part of [`OffsetForLeaderEpochRequest`]: `topics`.
    OffsetForLeaderTopic<'a> {
        topic: &'a str,
        partitions: Vec<OffsetForLeaderPartition>,
    }

    /// Part of [`OffsetForLeaderTopic`]: `partitions`.
    OffsetForLeaderPartition {
        partition: i32,
        current_leader_epoch: i32 = -1,
        leader_epoch: i32,
    }

    /// The end of the largest epoch not above it.
    OffsetForLeaderEpochResponse<'a> {
        throttle_time_ms: i32,
        topics: Vec<OffsetForLeaderTopicResult<'a>>,
    }

    /// Part of [`OffsetForLeaderEpochResponse`]: `topics`.
    OffsetForLeaderTopicResult<'a> {
        topic: &'a str,
        partitions: Vec<EpochEndOffset>,
    }

    /// Part of [`OffsetForLeaderTopicResult`]: `partitions`.
    EpochEndOffset {
        error_code: ErrorCode,
        partition: i32,
        leader_epoch: i32 = -1,
        end_offset: i64 = -1,
    }
}
