//! LeaveGroup: members leave a group.
//!
//! - 1: throttle time
//! - 3: several members, by id or instance id (KIP-345)
//! - 4: flexible
//! - 5: why they leave (KIP-800)

use crate::ErrorCode;

wire! {
    /// Who leaves.
    LeaveGroupRequest<'a> {
        group_id: &'a str,
        member_id: &'a str [0..=2],
        members: Vec<MemberIdentity<'a>> [3..],
    }

    /// Part of [`LeaveGroupRequest`]: `members`.
    MemberIdentity<'a> {
        member_id: &'a str [3..],
        group_instance_id: Option<&'a str> [3..],
        reason: Option<&'a str> [5..],
    }

    /// What became of it.
    LeaveGroupResponse<'a> {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode,
        members: Vec<MemberResponse<'a>> [3..],
    }

    /// Part of [`LeaveGroupResponse`]: `members`.
    MemberResponse<'a> {
        member_id: &'a str [3..],
        group_instance_id: Option<&'a str> [3..],
        error_code: ErrorCode [3..],
    }
}
