//! AlterPartitionReassignments (KIP-455): replicas are to move, or to stay where they are.
//!
//! - 1: whether the number of replicas may change (KIP-860)

use crate::ErrorCode;

wire! {
    /// Which partitions, and where to; no replicas cancels what is under way.
    AlterPartitionReassignmentsRequest<'a> {
        timeout_ms: i32 = 60_000,
        allow_replication_factor_change: bool [1..] = true,
        topics: Vec<ReassignableTopic<'a>>,
    }

    /// Part of [`AlterPartitionReassignmentsRequest`]: `topics`.
    ReassignableTopic<'a> {
        name: &'a str,
        partitions: Vec<ReassignablePartition>,
    }

    /// Part of [`ReassignableTopic`]: `partitions`.
    ReassignablePartition {
        partition_index: i32,
        replicas: Option<Vec<i32>>,
    }

    /// What became of each partition.
    AlterPartitionReassignmentsResponse<'a> {
        throttle_time_ms: i32,
        allow_replication_factor_change: bool [1..] = true,
        error_code: ErrorCode,
        error_message: Option<&'a str>,
        responses: Vec<ReassignableTopicResponse<'a>>,
    }

    /// Part of [`AlterPartitionReassignmentsResponse`]: `responses`.
    ReassignableTopicResponse<'a> {
        name: &'a str,
        partitions: Vec<ReassignablePartitionResponse<'a>>,
    }

    /// Part of [`ReassignableTopicResponse`]: `partitions`.
    ReassignablePartitionResponse<'a> {
        partition_index: i32,
        error_code: ErrorCode,
        error_message: Option<&'a str>,
    }
}
