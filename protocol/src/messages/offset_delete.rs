//! OffsetDelete (KIP-496): offsets a group is to forget. Never flexible.
//!
//! - 0: the first

use crate::ErrorCode;

wire! {
    /// Which offsets.
    OffsetDeleteRequest<'a> {
        group_id: &'a str,
        topics: Vec<OffsetDeleteRequestTopic<'a>>,
    }

    /// Part of [`OffsetDeleteRequest`]: `topics`.
    OffsetDeleteRequestTopic<'a> {
        name: &'a str,
        partitions: Vec<OffsetDeleteRequestPartition>,
    }

    /// Part of [`OffsetDeleteRequestTopic`]: `partitions`.
    OffsetDeleteRequestPartition {
        partition_index: i32,
    }

    /// What became of it. The error comes before the throttle time, other than elsewhere.
    OffsetDeleteResponse<'a> {
        error_code: ErrorCode,
        throttle_time_ms: i32,
        topics: Vec<OffsetDeleteResponseTopic<'a>>,
    }

    /// Part of [`OffsetDeleteResponse`]: `topics`.
    OffsetDeleteResponseTopic<'a> {
        name: &'a str,
        partitions: Vec<OffsetDeleteResponsePartition>,
    }

    /// Part of [`OffsetDeleteResponseTopic`]: `partitions`.
    OffsetDeleteResponsePartition {
        partition_index: i32,
        error_code: ErrorCode,
    }
}
