//! OffsetCommit: how far a group has read.
//!
//! - 2: the oldest; a retention time, until 4
//! - 3: throttle time
//! - 6: leader epochs (KIP-320)
//! - 7: static members (KIP-345)
//! - 8: flexible
//! - 9: groups of the consumer protocol (KIP-848): STALE_MEMBER_EPOCH, GROUP_ID_NOT_FOUND
//! - 10: topics by id (KIP-848)

use crate::{ErrorCode, Uuid};

wire! {
    /// Offsets of a group, and the member that commits them.
    OffsetCommitRequest<'a> {
        group_id: &'a str,
        /// Generation of a classic group, epoch of the member in one of the consumer protocol; -1
        /// from outside a group.
        generation_id_or_member_epoch: i32 = -1,
        member_id: &'a str,
        group_instance_id: Option<&'a str> [7..],
        retention_time_ms: i64 [2..=4] = -1,
        topics: Vec<OffsetCommitRequestTopic<'a>>,
    }

    /// Part of [`OffsetCommitRequest`]: `topics`.
    OffsetCommitRequestTopic<'a> {
        name: &'a str [0..=9],
        topic_id: Uuid [10..],
        partitions: Vec<OffsetCommitRequestPartition<'a>>,
    }

    /// Part of [`OffsetCommitRequestTopic`]: `partitions`.
    OffsetCommitRequestPartition<'a> {
        partition_index: i32,
        /// The offset to go on from.
        committed_offset: i64,
        committed_leader_epoch: i32 [6..] = -1,
        committed_metadata: Option<&'a str>,
    }

    /// What became of it, per partition.
    OffsetCommitResponse<'a> {
        throttle_time_ms: i32 [3..],
        topics: Vec<OffsetCommitResponseTopic<'a>>,
    }

    /// Part of [`OffsetCommitResponse`]: `topics`.
    OffsetCommitResponseTopic<'a> {
        name: &'a str [0..=9],
        topic_id: Uuid [10..],
        partitions: Vec<OffsetCommitResponsePartition>,
    }

    /// Part of [`OffsetCommitResponseTopic`]: `partitions`.
    OffsetCommitResponsePartition {
        partition_index: i32,
        error_code: ErrorCode,
    }
}
