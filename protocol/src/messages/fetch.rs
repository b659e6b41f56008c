//! Fetch: record batches out of partitions.
//!
//! - 4: isolation level, aborted transactions
//! - 5: log start offset
//! - 7: sessions (KIP-227)
//! - 9: current leader epoch (KIP-320)
//! - 10: zstd (KIP-110)
//! - 11: racks, preferred read replica (KIP-392)
//! - 12: flexible, diverging epoch
//! - 13: topics by id (KIP-516)
//! - 15: replica state instead of replica id (KIP-903)
//! - 16: node endpoints (KIP-951)
//! - 17: replica directory id (KIP-853)
//! - 18: a follower's high watermark (KIP-1166)

use bytes::Bytes;

use crate::{ErrorCode, Uuid};

wire! {
    /// What to read, from where, and how long to wait.
    FetchRequest<'a> {
        replica_id: i32 [0..=14] = -1,
        max_wait_ms: i32,
        min_bytes: i32,
        max_bytes: i32 = i32::MAX,
        isolation_level: i8,
        session_id: i32 [7..],
        session_epoch: i32 [7..] = -1,
        topics: Vec<FetchTopic<'a>>,
        forgotten_topics_data: Vec<ForgottenTopic<'a>> [7..],
        rack_id: &'a str [11..],
        cluster_id: Option<&'a str> [12.., tag 0],
        replica_state: ReplicaState [15.., tag 1],
    }

    /// Part of [`FetchRequest`]: `topics`.
    FetchTopic<'a> {
        topic: &'a str [0..=12],
        topic_id: Uuid [13..],
        partitions: Vec<FetchPartition>,
    }

    /// Part of [`FetchTopic`]: `partitions`.
    FetchPartition {
        partition: i32,
        current_leader_epoch: i32 [9..] = -1,
        fetch_offset: i64,
        last_fetched_epoch: i32 [12..] = -1,
        log_start_offset: i64 [5..] = -1,
        partition_max_bytes: i32,
        replica_directory_id: Uuid [17.., tag 0],
        high_watermark: i64 [18.., tag 1] = i64::MAX,
    }

    /// Part of [`FetchRequest`]: `forgotten_topics_data`.
    ForgottenTopic<'a> {
        topic: &'a str [7..=12],
        topic_id: Uuid [13..],
        partitions: Vec<i32> [7..],
    }

    /// Part of [`FetchRequest`]: `replica_state`.
    ReplicaState {
        replica_id: i32 [15..] = -1,
        replica_epoch: i64 [15..] = -1,
    }

    /// Record batches, as they are in the log.
    FetchResponse<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode [7..],
        session_id: i32 [7..],
        responses: Vec<FetchableTopicResponse<'a>>,
        node_endpoints: Vec<NodeEndpoint<'a>> [16.., tag 0],
    }

    /// Part of [`FetchResponse`]: `responses`.
    FetchableTopicResponse<'a> {
        topic: &'a str [0..=12],
        topic_id: Uuid [13..],
        partitions: Vec<PartitionData>,
    }

    /// Part of [`FetchableTopicResponse`]: `partitions`.
    PartitionData {
        partition_index: i32,
        error_code: ErrorCode,
        high_watermark: i64,
        last_stable_offset: i64 = -1,
        log_start_offset: i64 [5..] = -1,
        aborted_transactions: Option<Vec<AbortedTransaction>>,
        preferred_read_replica: i32 [11..] = -1,
        records: Option<Bytes>,
        diverging_epoch: EpochEndOffset [12.., tag 0],
        current_leader: LeaderIdAndEpoch [12.., tag 1],
        snapshot_id: SnapshotId [12.., tag 2],
    }

    /// Part of [`PartitionData`]: `aborted_transactions`.
    AbortedTransaction {
        producer_id: i64,
        first_offset: i64,
    }

    /// Part of [`PartitionData`]: `diverging_epoch`.
    EpochEndOffset {
        epoch: i32 [12..] = -1,
        end_offset: i64 [12..] = -1,
    }

    /// Part of [`PartitionData`]: `current_leader`.
    LeaderIdAndEpoch {
        leader_id: i32 [12..] = -1,
        leader_epoch: i32 [12..] = -1,
    }

    /// Part of [`PartitionData`]: `snapshot_id`.
    SnapshotId {
        end_offset: i64 = -1,
        epoch: i32 = -1,
    }

    /// Part of [`FetchResponse`]: `node_endpoints`.
    NodeEndpoint<'a> {
        node_id: i32 [16..],
        host: &'a str [16..],
        port: i32 [16..],
        rack: Option<&'a str> [16..],
    }
}
