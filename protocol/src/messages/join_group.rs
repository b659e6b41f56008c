//! JoinGroup: a member enters a group, or a new generation of it.
//!
//! - 1: rebalance timeout; before, it is the session timeout
//! - 2: throttle time
//! - 4: a member without an id is sent away with one (KIP-394)
//! - 5: static members (KIP-345)
//! - 6: flexible
//! - 7: protocol type in the response (KIP-559)
//! - 8: why the member joins (KIP-800)
//! - 9: whether the leader is to skip the assignment (KIP-814)

use bytes::Bytes;

use crate::ErrorCode;

wire! {
    /// Who joins, and the protocols it can go by.
    JoinGroupRequest<'a> {
        group_id: &'a str,
        session_timeout_ms: i32,
        rebalance_timeout_ms: i32 [1..] = -1,
        member_id: &'a str,
        group_instance_id: Option<&'a str> [5..],
        protocol_type: &'a str,
        protocols: Vec<JoinGroupRequestProtocol<'a>>,
        reason: Option<&'a str> [8..],
    }

    /// Part of [`JoinGroupRequest`]: `protocols`, the preferred ones first.
    JoinGroupRequestProtocol<'a> {
        name: &'a str,
        /// Opaque to the broker; of consumers, see [`crate::consumer_protocol`].
        metadata: Bytes,
    }

    /// The generation joined. Only the leader is told of all members.
    JoinGroupResponse<'a> {
        throttle_time_ms: i32 [2..],
        error_code: ErrorCode,
        generation_id: i32 = -1,
        protocol_type: Option<&'a str> [7..],
        protocol_name: Option<&'a str> [0.., null 7..],
        leader: &'a str,
        skip_assignment: bool [9..],
        member_id: &'a str,
        members: Vec<JoinGroupResponseMember<'a>>,
    }

    /// Part of [`JoinGroupResponse`]: `members`.
    JoinGroupResponseMember<'a> {
        member_id: &'a str,
        group_instance_id: Option<&'a str> [5..],
        metadata: Bytes,
    }
}
