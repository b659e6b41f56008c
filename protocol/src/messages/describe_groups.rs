//! DescribeGroups: state and members of groups.
//!
//! - 1: throttle time
//! - 3: authorized operations (KIP-430)
//! - 4: static members (KIP-345)
//! - 5: flexible
//! - 6: an error message; unknown groups are GROUP_ID_NOT_FOUND instead of dead (KIP-1043)

use bytes::Bytes;

use crate::ErrorCode;

wire! {
    /// Which groups.
    DescribeGroupsRequest<'a> {
        groups: Vec<&'a str>,
        include_authorized_operations: bool [3..],
    }

    /// The groups.
    DescribeGroupsResponse<'a> {
        throttle_time_ms: i32 [1..],
        groups: Vec<DescribedGroup<'a>>,
    }

    /// Part of [`DescribeGroupsResponse`]: `groups`.
    DescribedGroup<'a> {
        error_code: ErrorCode,
        error_message: Option<&'a str> [6..],
        group_id: &'a str,
        group_state: &'a str,
        protocol_type: &'a str,
        /// The protocol the members go by.
        protocol_data: &'a str,
        members: Vec<DescribedGroupMember<'a>>,
        authorized_operations: i32 [3..] = i32::MIN,
    }

    /// Part of [`DescribedGroup`]: `members`.
    DescribedGroupMember<'a> {
        member_id: &'a str,
        group_instance_id: Option<&'a str> [4..],
        client_id: &'a str,
        client_host: &'a str,
        member_metadata: Bytes,
        member_assignment: Bytes,
    }
}
