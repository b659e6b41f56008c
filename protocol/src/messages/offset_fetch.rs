//! OffsetFetch: how far groups have read.
//!
//! - 1: the oldest
//! - 2: null topics are all; an error for the group
//! - 3: throttle time
//! - 5: leader epochs (KIP-320)
//! - 6: flexible
//! - 7: whether to wait for transactions that commit offsets (KIP-447)
//! - 8: several groups (KIP-709)
//! - 9: members of groups of the consumer protocol (KIP-848)
//! - 10: topics by id (KIP-848)

use crate::{ErrorCode, Uuid};

wire! {
    /// Which offsets: of one group until version 7, of several from 8.
    OffsetFetchRequest<'a> {
        group_id: &'a str [0..=7],
        topics: Option<Vec<OffsetFetchRequestTopic<'a>>> [0..=7, null 2..=7],
        groups: Vec<OffsetFetchRequestGroup<'a>> [8..],
        require_stable: bool [7..],
    }

    /// Part of [`OffsetFetchRequest`]: `topics`.
    OffsetFetchRequestTopic<'a> {
        name: &'a str,
        partition_indexes: Vec<i32>,
    }

    /// Part of [`OffsetFetchRequest`]: `groups`.
    OffsetFetchRequestGroup<'a> {
        group_id: &'a str,
        member_id: Option<&'a str> [9..],
        member_epoch: i32 [9..] = -1,
        topics: Option<Vec<OffsetFetchRequestTopics<'a>>>,
    }

    /// Part of [`OffsetFetchRequestGroup`]: `topics`.
    OffsetFetchRequestTopics<'a> {
        name: &'a str [0..=9],
        topic_id: Uuid [10..],
        partition_indexes: Vec<i32>,
    }

    /// The offsets.
    OffsetFetchResponse<'a> {
        throttle_time_ms: i32 [3..],
        topics: Vec<OffsetFetchResponseTopic<'a>> [0..=7],
        error_code: ErrorCode [2..=7],
        groups: Vec<OffsetFetchResponseGroup<'a>> [8..],
    }

    /// Part of [`OffsetFetchResponse`]: `topics`.
    OffsetFetchResponseTopic<'a> {
        name: &'a str,
        partitions: Vec<OffsetFetchResponsePartition<'a>>,
    }

    /// Part of [`OffsetFetchResponseTopic`] and [`OffsetFetchResponseTopics`]: `partitions`.
    OffsetFetchResponsePartition<'a> {
        partition_index: i32,
        /// -1 if there is none.
        committed_offset: i64,
        committed_leader_epoch: i32 [5..] = -1,
        metadata: Option<&'a str>,
        error_code: ErrorCode,
    }

    /// Part of [`OffsetFetchResponse`]: `groups`.
    OffsetFetchResponseGroup<'a> {
        group_id: &'a str,
        topics: Vec<OffsetFetchResponseTopics<'a>>,
        error_code: ErrorCode,
    }

    /// Part of [`OffsetFetchResponseGroup`]: `topics`.
    OffsetFetchResponseTopics<'a> {
        name: &'a str [0..=9],
        topic_id: Uuid [10..],
        partitions: Vec<OffsetFetchResponsePartition<'a>>,
    }
}
