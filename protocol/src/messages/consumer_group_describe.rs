//! ConsumerGroupDescribe (KIP-848): state and members of groups of the consumer protocol.
//!
//! - 0: the first
//! - 1: by which protocol a member speaks (KIP-1099)

use crate::{ErrorCode, Uuid};

wire! {
    /// Which groups.
    ConsumerGroupDescribeRequest<'a> {
        group_ids: Vec<&'a str>,
        include_authorized_operations: bool,
    }

    /// The groups.
    ConsumerGroupDescribeResponse<'a> {
        throttle_time_ms: i32,
        groups: Vec<DescribedGroup<'a>>,
    }

    /// Part of [`ConsumerGroupDescribeResponse`]: `groups`.
    DescribedGroup<'a> {
        error_code: ErrorCode,
        error_message: Option<&'a str>,
        group_id: &'a str,
        group_state: &'a str,
        group_epoch: i32,
        assignment_epoch: i32,
        assignor_name: &'a str,
        members: Vec<Member<'a>>,
        authorized_operations: i32 = i32::MIN,
    }

    /// Part of [`DescribedGroup`]: `members`.
    Member<'a> {
        member_id: &'a str,
        instance_id: Option<&'a str>,
        rack_id: Option<&'a str>,
        member_epoch: i32,
        client_id: &'a str,
        client_host: &'a str,
        subscribed_topic_names: Vec<&'a str>,
        subscribed_topic_regex: Option<&'a str>,
        assignment: Assignment<'a>,
        target_assignment: Assignment<'a>,
        /// 0 classic, 1 consumer, -1 unknown.
        member_type: i8 [1..] = -1,
    }

    /// Part of [`Member`]: `assignment`, `target_assignment`.
    Assignment<'a> {
        topic_partitions: Vec<TopicPartitions<'a>>,
    }

    /// Part of [`Assignment`]: `topic_partitions`.
    TopicPartitions<'a> {
        topic_id: Uuid,
        topic_name: &'a str,
        partitions: Vec<i32>,
    }
}
