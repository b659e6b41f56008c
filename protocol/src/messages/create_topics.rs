//! CreateTopics.
//!
//! - 4: -1 asks for the default partition count and replication factor (KIP-464)
//! - 5: flexible, effective settings in the reply (KIP-525)
//! - 6: may be throttled (KIP-599)
//! - 7: topic ids (KIP-516)

use crate::{ErrorCode, Uuid};

wire! {
    /// Topics to create.
    CreateTopicsRequest<'a> {
        topics: Vec<CreatableTopic<'a>>,
        timeout_ms: i32 = 60000,
        validate_only: bool,
    }

    /// Part of [`CreateTopicsRequest`]: `topics`.
    CreatableTopic<'a> {
        name: &'a str,
        num_partitions: i32,
        replication_factor: i16,
        assignments: Vec<CreatableReplicaAssignment>,
        configs: Vec<CreatableTopicConfig<'a>>,
    }

    /// Part of [`CreatableTopic`]: `assignments`.
    CreatableReplicaAssignment {
        partition_index: i32,
        broker_ids: Vec<i32>,
    }

    /// Part of [`CreatableTopic`]: `configs`.
    CreatableTopicConfig<'a> {
        name: &'a str,
        value: Option<&'a str>,
    }

    /// What became of each topic.
    CreateTopicsResponse<'a> {
        throttle_time_ms: i32,
        topics: Vec<CreatableTopicResult<'a>>,
    }

    /// Part of [`CreateTopicsResponse`]: `topics`.
    CreatableTopicResult<'a> {
        name: &'a str,
        topic_id: Uuid [7..],
        error_code: ErrorCode,
        error_message: Option<&'a str>,
        num_partitions: i32 [5..] = -1,
        replication_factor: i16 [5..] = -1,
        configs: Option<Vec<CreatableTopicConfigs<'a>>> [5..],
        topic_config_error_code: ErrorCode [5.., tag 0],
    }

    /// Part of [`CreatableTopicResult`]: `configs`.
    CreatableTopicConfigs<'a> {
        name: &'a str [5..],
        value: Option<&'a str> [5..],
        read_only: bool [5..],
        config_source: i8 [5..] = -1,
        is_sensitive: bool [5..],
    }
}
