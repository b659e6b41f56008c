//! Metadata: brokers, topics, partitions and their leaders. In version 0 no topics means all, from
//! 1 null does.
//!
//! - 1: controller, racks, internal topics
//! - 2: cluster id
//! - 4: whether topics may be created
//! - 5: offline replicas
//! - 7: leader epochs
//! - 8: authorized operations (KIP-430)
//! - 9: flexible
//! - 10: topic ids (KIP-516)
//! - 11: cluster operations go to DescribeCluster
//! - 12: topics by id
//! - 13: an error for the whole reply (KIP-1102)

use crate::{ErrorCode, Uuid};

wire! {
    /// Which topics to describe.
    MetadataRequest<'a> {
        topics: Option<Vec<MetadataRequestTopic<'a>>> [0.., null 1..],
        allow_auto_topic_creation: bool [4..] = true,
        include_cluster_authorized_operations: bool [8..=10],
        include_topic_authorized_operations: bool [8..],
    }

    /// Part of [`MetadataRequest`]: `topics`.
    MetadataRequestTopic<'a> {
        topic_id: Uuid [10..],
        name: Option<&'a str> [0.., null 10..],
    }

    /// The cluster as a client sees it.
    MetadataResponse<'a> {
        throttle_time_ms: i32 [3..],
        brokers: Vec<MetadataResponseBroker<'a>>,
        cluster_id: Option<&'a str> [2..],
        controller_id: i32 [1..] = -1,
        topics: Vec<MetadataResponseTopic<'a>>,
        cluster_authorized_operations: i32 [8..=10] = i32::MIN,
        error_code: ErrorCode [13..],
    }

    /// Part of [`MetadataResponse`]: `brokers`.
    MetadataResponseBroker<'a> {
        node_id: i32,
        host: &'a str,
        port: i32,
        rack: Option<&'a str> [1..],
    }

    /// Part of [`MetadataResponse`]: `topics`.
    MetadataResponseTopic<'a> {
        error_code: ErrorCode,
        name: Option<&'a str> [0.., null 12..],
        topic_id: Uuid [10..],
        is_internal: bool [1..],
        partitions: Vec<MetadataResponsePartition>,
        topic_authorized_operations: i32 [8..] = i32::MIN,
    }

    /// Part of [`MetadataResponseTopic`]: `partitions`.
    MetadataResponsePartition {
        error_code: ErrorCode,
        partition_index: i32,
        leader_id: i32,
        leader_epoch: i32 [7..] = -1,
        replica_nodes: Vec<i32>,
        isr_nodes: Vec<i32>,
        offline_replicas: Vec<i32> [5..],
    }
}
