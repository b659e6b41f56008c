//! CreatePartitions: more partitions for existing topics.
//!
//! - 2: flexible
//! - 3: may be throttled (KIP-599)

use crate::ErrorCode;

wire! {
    /// The counts to grow to.
    CreatePartitionsRequest<'a> {
        topics: Vec<CreatePartitionsTopic<'a>>,
        timeout_ms: i32,
        validate_only: bool,
    }

    /// Part of [`CreatePartitionsRequest`]: `topics`.
    CreatePartitionsTopic<'a> {
        name: &'a str,
        count: i32,
        assignments: Option<Vec<CreatePartitionsAssignment>>,
    }

    /// Part of [`CreatePartitionsTopic`]: `assignments`.
    CreatePartitionsAssignment {
        broker_ids: Vec<i32>,
    }

    /// What became of each topic.
    CreatePartitionsResponse<'a> {
        throttle_time_ms: i32,
        results: Vec<CreatePartitionsTopicResult<'a>>,
    }

    /// Part of [`CreatePartitionsResponse`]: `results`.
    CreatePartitionsTopicResult<'a> {
        name: &'a str,
        error_code: ErrorCode,
        error_message: Option<&'a str>,
    }
}
