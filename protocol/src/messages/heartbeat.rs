//! Heartbeat: a member lives.
//!
//! - 1: throttle time
//! - 3: static members (KIP-345)
//! - 4: flexible

use crate::ErrorCode;

wire! {
    /// Who lives, in which generation.
    HeartbeatRequest<'a> {
        group_id: &'a str,
        generation_id: i32,
        member_id: &'a str,
        group_instance_id: Option<&'a str> [3..],
    }

    /// Whether the generation goes on.
    HeartbeatResponse {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode,
    }
}
