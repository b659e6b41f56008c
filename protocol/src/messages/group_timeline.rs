//! GroupTimeline: what happened to a group lately, as its coordinator remembers. Sawlog's own, no part
//! of Kafka's protocol; `docs/formats/group-timeline.md` says what the bytes are.
//!
//! - 0: the first

use crate::ErrorCode;

wire! {
    /// Which group.
    GroupTimelineRequest<'a> {
        group_id: &'a str,
    }

    /// What happened to it.
    GroupTimelineResponse<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<&'a str>,
        /// Oldest first.
        events: Vec<TimelineEvent<'a>>,
    }

    /// Part of [`GroupTimelineResponse`]: `events`. What does not belong to the kind of event, or is
    /// not known, is null or -1.
    TimelineEvent<'a> {
        /// Milliseconds since the Unix epoch.
        timestamp_ms: i64,
        /// One of [`kind`]; newer brokers may send others.
        kind: i8,
        member_id: Option<&'a str>,
        group_instance_id: Option<&'a str>,
        client_id: Option<&'a str>,
        /// As DescribeGroups has it: a slash and the address.
        client_host: Option<&'a str>,
        /// The member id that was replaced.
        former_member_id: Option<&'a str>,
        /// In the client's words, or the coordinator's.
        reason: Option<&'a str>,
        /// The limit that was overrun.
        timeout_ms: i64 = -1,
        /// Generation of a classic group, epoch of one of the consumer protocol.
        generation: i32 = -1,
        /// How many members, or how many offsets.
        count: i32 = -1,
        /// The assignor chosen, or the protocol gone over to.
        protocol_name: Option<&'a str>,
    }
}

/// What can happen to a group.
pub mod kind {
    /// The coordinator read it from its log: `count` members.
    pub const LOADED: i8 = 0;
    /// A member came.
    pub const JOINED: i8 = 1;
    /// A static member came back under a new member id.
    pub const REPLACED: i8 = 2;
    /// A member said goodbye, or was removed by an operator.
    pub const LEFT: i8 = 3;
    /// A member was removed: no heartbeat within its session timeout.
    pub const SESSION_TIMED_OUT: i8 = 4;
    /// A member was removed: it did not join again within the rebalance timeout.
    pub const REJOIN_TIMED_OUT: i8 = 5;
    /// A member was removed: it did not fetch its assignment within the rebalance timeout.
    pub const SYNC_TIMED_OUT: i8 = 6;
    /// Somebody was given a member id and did not join with it.
    pub const FIRST_JOIN_TIMED_OUT: i8 = 7;
    /// Members have to join again.
    pub const REBALANCE_STARTED: i8 = 8;
    /// A generation of `count` members began.
    pub const GENERATION_STARTED: i8 = 9;
    /// The generation's assignment is made.
    pub const ASSIGNED: i8 = 10;
    /// The last member has gone.
    pub const EMPTIED: i8 = 11;
    /// `count` offsets nobody needs any more were removed.
    pub const OFFSETS_EXPIRED: i8 = 12;
    /// Consumer protocol: something changed who shall have what; an epoch of the group began.
    pub const EPOCH_STARTED: i8 = 13;
    /// Consumer protocol: who shall have what was decided for the epoch, over `count` members.
    pub const TARGET_ASSIGNED: i8 = 14;
    /// Consumer protocol: every member has what it shall have.
    pub const RECONCILED: i8 = 15;
    /// A member was removed: it did not give partitions back within the rebalance timeout.
    pub const REVOKE_TIMED_OUT: i8 = 16;
    /// The group went over to the protocol `protocol_name`: `classic` or `consumer`.
    pub const CONVERTED: i8 = 17;
}
