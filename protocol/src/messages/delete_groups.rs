//! DeleteGroups: groups, and their offsets, to delete.
//!
//! - 0: the first
//! - 2: flexible

use crate::ErrorCode;

wire! {
    /// Which groups.
    DeleteGroupsRequest<'a> {
        groups_names: Vec<&'a str>,
    }

    /// What became of it.
    DeleteGroupsResponse<'a> {
        throttle_time_ms: i32,
        results: Vec<DeletableGroupResult<'a>>,
    }

    /// Part of [`DeleteGroupsResponse`]: `results`.
    DeletableGroupResult<'a> {
        group_id: &'a str,
        error_code: ErrorCode,
    }
}
