//! DescribeQuorum (KIP-595): voters and observers of the metadata log.
//!
//! - 1: when each replica last asked, and last had everything (KIP-836)
//! - 2: error texts, directory ids, where the nodes are (KIP-853)

use crate::{ErrorCode, Uuid};

wire! {
    /// Of which partitions; there is one, `__cluster_metadata` 0.
    DescribeQuorumRequest<'a> {
        topics: Vec<TopicRequest<'a>>,
    }

    /// Part of [`DescribeQuorumRequest`]: `topics`.
    TopicRequest<'a> {
        topic_name: &'a str,
        partitions: Vec<PartitionRequest>,
    }

    /// Part of [`TopicRequest`]: `partitions`.
    PartitionRequest {
        partition_index: i32,
    }

    /// The quorum as its leader sees it.
    DescribeQuorumResponse<'a> {
        error_code: ErrorCode,
        error_message: Option<&'a str> [2..],
        topics: Vec<TopicResponse<'a>>,
        nodes: Vec<Node<'a>> [2..],
    }

    /// Part of [`DescribeQuorumResponse`]: `topics`.
    TopicResponse<'a> {
        topic_name: &'a str,
        partitions: Vec<PartitionResponse<'a>>,
    }

    /// Part of [`TopicResponse`]: `partitions`.
    PartitionResponse<'a> {
        partition_index: i32,
        error_code: ErrorCode,
        error_message: Option<&'a str> [2..],
        leader_id: i32,
        leader_epoch: i32,
        high_watermark: i64,
        current_voters: Vec<ReplicaState>,
        observers: Vec<ReplicaState>,
    }

    /// Part of [`PartitionResponse`]: `current_voters` and `observers`.
    ReplicaState {
        replica_id: i32,
        replica_directory_id: Uuid [2..],
        log_end_offset: i64,
        last_fetch_timestamp: i64 [1..] = -1,
        last_caught_up_timestamp: i64 [1..] = -1,
    }

    /// Part of [`DescribeQuorumResponse`]: `nodes`.
    Node<'a> {
        node_id: i32,
        listeners: Vec<Listener<'a>>,
    }

    /// Part of [`Node`]: `listeners`.
    Listener<'a> {
        name: &'a str,
        host: &'a str,
        port: u16,
    }
}
