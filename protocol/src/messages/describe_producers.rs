//! DescribeProducers (KIP-664): the producers partitions remember.
//!
//! - 0: the first

use crate::ErrorCode;

wire! {
    /// Which partitions.
    DescribeProducersRequest<'a> {
        topics: Vec<TopicRequest<'a>>,
    }

    /// Part of [`DescribeProducersRequest`]: `topics`.
    TopicRequest<'a> {
        name: &'a str,
        partition_indexes: Vec<i32>,
    }

    /// Their producers.
    DescribeProducersResponse<'a> {
        throttle_time_ms: i32,
        topics: Vec<TopicResponse<'a>>,
    }

    /// Part of [`DescribeProducersResponse`]: `topics`.
    TopicResponse<'a> {
        name: &'a str,
        partitions: Vec<PartitionResponse<'a>>,
    }

    /// Part of [`TopicResponse`]: `partitions`.
    PartitionResponse<'a> {
        partition_index: i32,
        error_code: ErrorCode,
        error_message: Option<&'a str>,
        active_producers: Vec<ProducerState>,
    }

    /// Part of [`PartitionResponse`]: `active_producers`.
    ProducerState {
        producer_id: i64,
        producer_epoch: i32,
        last_sequence: i32 = -1,
        last_timestamp: i64 = -1,
        coordinator_epoch: i32,
        current_txn_start_offset: i64 = -1,
    }
}
