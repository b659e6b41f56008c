//! DescribeTopicPartitions (KIP-966): topics in pages, with eligible leader replicas.
//!
//! - 0: the first

use crate::{ErrorCode, Uuid};

wire! {
    /// Which topics, and where the last page ended.
    DescribeTopicPartitionsRequest<'a> {
        topics: Vec<TopicRequest<'a>>,
        response_partition_limit: i32 = 2000,
        cursor: Option<Cursor<'a>>,
    }

    /// Part of [`DescribeTopicPartitionsRequest`]: `topics`.
    TopicRequest<'a> {
        name: &'a str,
    }

    /// Part of [`DescribeTopicPartitionsRequest`]: `cursor`.
    Cursor<'a> {
        topic_name: &'a str,
        partition_index: i32,
    }

    /// One page, and where it ends.
    DescribeTopicPartitionsResponse<'a> {
        throttle_time_ms: i32,
        topics: Vec<DescribeTopicPartitionsResponseTopic<'a>>,
        next_cursor: Option<Cursor<'a>>,
    }

    /// Part of [`DescribeTopicPartitionsResponse`]: `topics`.
    DescribeTopicPartitionsResponseTopic<'a> {
        error_code: ErrorCode,
        name: Option<&'a str>,
        topic_id: Uuid,
        is_internal: bool,
        partitions: Vec<DescribeTopicPartitionsResponsePartition>,
        topic_authorized_operations: i32 = i32::MIN,
    }

    /// Part of [`DescribeTopicPartitionsResponseTopic`]: `partitions`.
    DescribeTopicPartitionsResponsePartition {
        error_code: ErrorCode,
        partition_index: i32,
        leader_id: i32,
        leader_epoch: i32 = -1,
        replica_nodes: Vec<i32>,
        isr_nodes: Vec<i32>,
        eligible_leader_replicas: Option<Vec<i32>>,
        last_known_elr: Option<Vec<i32>>,
        offline_replicas: Vec<i32>,
    }
}
