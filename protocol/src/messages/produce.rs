//! Produce: record batches into partitions. Versions 0-2 carried message sets; they are advertised
//! (librdkafka before 2.11.1 judges compression by it) and never served.
//!
//! - 3: record batches v2, transactional id
//! - 5: log start offset in the reply
//! - 7: zstd (KIP-110)
//! - 8: record errors and messages (KIP-467)
//! - 9: flexible
//! - 10: leader hints (KIP-951)
//! - 12: implicit transaction enlistment (KIP-890)
//! - 13: topics by id (KIP-516)

use bytes::Bytes;

use crate::{ErrorCode, Uuid};

wire! {
    /// Batches to append, one per partition.
    ProduceRequest<'a> {
        transactional_id: Option<&'a str>,
        acks: i16,
        timeout_ms: i32,
        topic_data: Vec<TopicProduceData<'a>>,
    }

    /// Part of [`ProduceRequest`]: `topic_data`.
    TopicProduceData<'a> {
        name: &'a str [0..=12],
        topic_id: Uuid [13..],
        partition_data: Vec<PartitionProduceData>,
    }

    /// Part of [`TopicProduceData`]: `partition_data`.
    PartitionProduceData {
        index: i32,
        records: Option<Bytes>,
    }

    /// What became of each batch.
    ProduceResponse<'a> {
        responses: Vec<TopicProduceResponse<'a>>,
        throttle_time_ms: i32,
        node_endpoints: Vec<NodeEndpoint<'a>> [10.., tag 0],
    }

    /// Part of [`ProduceResponse`]: `responses`.
    TopicProduceResponse<'a> {
        name: &'a str [0..=12],
        topic_id: Uuid [13..],
        partition_responses: Vec<PartitionProduceResponse<'a>>,
    }

    /// Part of [`TopicProduceResponse`]: `partition_responses`.
    PartitionProduceResponse<'a> {
        index: i32,
        error_code: ErrorCode,
        base_offset: i64,
        log_append_time_ms: i64 = -1,
        log_start_offset: i64 [5..] = -1,
        record_errors: Vec<BatchIndexAndErrorMessage<'a>> [8..],
        error_message: Option<&'a str> [8..],
        current_leader: LeaderIdAndEpoch [10.., tag 0],
    }

    /// Part of [`PartitionProduceResponse`]: `record_errors`.
    BatchIndexAndErrorMessage<'a> {
        batch_index: i32 [8..],
        batch_index_error_message: Option<&'a str> [8..],
    }

    /// Part of [`PartitionProduceResponse`]: `current_leader`.
    LeaderIdAndEpoch {
        leader_id: i32 [10..] = -1,
        leader_epoch: i32 [10..] = -1,
    }

    /// Part of [`ProduceResponse`]: `node_endpoints`.
    NodeEndpoint<'a> {
        node_id: i32 [10..],
        host: &'a str [10..],
        port: i32 [10..],
        rack: Option<&'a str> [10..],
    }
}
