//! SyncGroup: the leader hands in the assignments, every member gets its own.
//!
//! - 1: throttle time
//! - 3: static members (KIP-345)
//! - 4: flexible
//! - 5: protocol type and name (KIP-559)

use bytes::Bytes;

use crate::ErrorCode;

wire! {
    /// Who asks, of which generation; from the leader, what it assigned.
    SyncGroupRequest<'a> {
        group_id: &'a str,
        generation_id: i32,
        member_id: &'a str,
        group_instance_id: Option<&'a str> [3..],
        protocol_type: Option<&'a str> [5..],
        protocol_name: Option<&'a str> [5..],
        assignments: Vec<SyncGroupRequestAssignment<'a>>,
    }

    /// Part of [`SyncGroupRequest`]: `assignments`.
    SyncGroupRequestAssignment<'a> {
        member_id: &'a str,
        /// Opaque to the broker; of consumers, see [`crate::consumer_protocol`].
        assignment: Bytes,
    }

    /// What the member is assigned.
    SyncGroupResponse<'a> {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode,
        protocol_type: Option<&'a str> [5..],
        protocol_name: Option<&'a str> [5..],
        assignment: Bytes,
    }
}
