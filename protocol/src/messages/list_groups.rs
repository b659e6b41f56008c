//! ListGroups: the groups a broker coordinates.
//!
//! - 1: throttle time
//! - 3: flexible
//! - 4: states (KIP-518)
//! - 5: types (KIP-848)

use crate::ErrorCode;

wire! {
    /// Which groups; no filter means all.
    ListGroupsRequest<'a> {
        states_filter: Vec<&'a str> [4..],
        types_filter: Vec<&'a str> [5..],
    }

    /// The groups.
    ListGroupsResponse<'a> {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode,
        groups: Vec<ListedGroup<'a>>,
    }

    /// Part of [`ListGroupsResponse`]: `groups`.
    ListedGroup<'a> {
        group_id: &'a str,
        protocol_type: &'a str,
        group_state: &'a str [4..],
        group_type: &'a str [5..],
    }
}
