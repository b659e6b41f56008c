//! ElectLeaders: the preferred replica is to lead, or whichever is left (KIP-183, KIP-460).
//!
//! - 1: the kind of election, an error for the whole reply
//! - 2: flexible

use crate::ErrorCode;

wire! {
    /// Which partitions, and how; `None` is all of them.
    ElectLeadersRequest<'a> {
        election_type: i8 [1..],
        topic_partitions: Option<Vec<TopicPartitions<'a>>>,
        timeout_ms: i32 = 60_000,
    }

    /// Part of [`ElectLeadersRequest`]: `topic_partitions`.
    TopicPartitions<'a> {
        topic: &'a str,
        partitions: Vec<i32>,
    }

    /// What became of each partition.
    ElectLeadersResponse<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode [1..],
        replica_election_results: Vec<ReplicaElectionResult<'a>>,
    }

    /// Part of [`ElectLeadersResponse`]: `replica_election_results`.
    ReplicaElectionResult<'a> {
        topic: &'a str,
        partition_result: Vec<PartitionResult<'a>>,
    }

    /// Part of [`ReplicaElectionResult`]: `partition_result`.
    PartitionResult<'a> {
        partition_id: i32,
        error_code: ErrorCode,
        error_message: Option<&'a str>,
    }
}
