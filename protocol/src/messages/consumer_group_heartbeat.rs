//! ConsumerGroupHeartbeat (KIP-848): a member of a group of the consumer protocol lives, joins,
//! leaves, says what it wants and owns, and learns what is its.
//!
//! - 0: the first; the coordinator makes up member ids
//! - 1: a regular expression for topics; members bring their own ids (KIP-1082)

use crate::{ErrorCode, Uuid};

wire! {
    /// What the member says. `None`, and -1, mean: as in the heartbeat before.
    ConsumerGroupHeartbeatRequest<'a> {
        group_id: &'a str,
        member_id: &'a str,
        /// 0 joins, -1 leaves, -2 leaves as a static member that comes back.
        member_epoch: i32,
        instance_id: Option<&'a str>,
        rack_id: Option<&'a str>,
        rebalance_timeout_ms: i32 = -1,
        subscribed_topic_names: Option<Vec<&'a str>>,
        subscribed_topic_regex: Option<&'a str> [1..],
        server_assignor: Option<&'a str>,
        /// What it owns.
        topic_partitions: Option<Vec<TopicPartitions>>,
    }

    /// Part of [`ConsumerGroupHeartbeatRequest`] and [`Assignment`]: `topic_partitions`.
    TopicPartitions {
        topic_id: Uuid,
        partitions: Vec<i32>,
    }

    /// What the member is told.
    ConsumerGroupHeartbeatResponse<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<&'a str>,
        member_id: Option<&'a str>,
        member_epoch: i32,
        heartbeat_interval_ms: i32,
        /// `None`: as before.
        assignment: Option<Assignment>,
    }

    /// Part of [`ConsumerGroupHeartbeatResponse`]: `assignment`, what the member may use at once.
    Assignment {
        topic_partitions: Vec<TopicPartitions>,
    }
}
