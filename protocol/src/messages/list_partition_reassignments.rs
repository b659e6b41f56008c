//! ListPartitionReassignments (KIP-455): which replicas are moving.
//!
//! - 0: the first

use crate::ErrorCode;

wire! {
    /// Of which partitions; `None` is all of them.
    ListPartitionReassignmentsRequest<'a> {
        timeout_ms: i32 = 60_000,
        topics: Option<Vec<ListPartitionReassignmentsTopics<'a>>>,
    }

    /// Part of [`ListPartitionReassignmentsRequest`]: `topics`.
    ListPartitionReassignmentsTopics<'a> {
        name: &'a str,
        partition_indexes: Vec<i32>,
    }

    /// Those under way.
    ListPartitionReassignmentsResponse<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<&'a str>,
        topics: Vec<OngoingTopicReassignment<'a>>,
    }

    /// Part of [`ListPartitionReassignmentsResponse`]: `topics`.
    OngoingTopicReassignment<'a> {
        name: &'a str,
        partitions: Vec<OngoingPartitionReassignment>,
    }

    /// Part of [`OngoingTopicReassignment`]: `partitions`.
    OngoingPartitionReassignment {
        partition_index: i32,
        replicas: Vec<i32>,
        adding_replicas: Vec<i32>,
        removing_replicas: Vec<i32>,
    }
}
