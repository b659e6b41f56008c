//! FindCoordinator: who coordinates a group (key type 0), a transaction (1) or a share group (2).
//!
//! - 1: key type, error message
//! - 3: flexible
//! - 4: several keys (KIP-699)
//! - 6: share groups (KIP-932)

use crate::ErrorCode;

wire! {
    /// The keys to look up.
    FindCoordinatorRequest<'a> {
        key: &'a str [0..=3],
        key_type: i8 [1..],
        coordinator_keys: Vec<&'a str> [4..],
    }

    /// The coordinators.
    FindCoordinatorResponse<'a> {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode [0..=3],
        error_message: Option<&'a str> [1..=3],
        node_id: i32 [0..=3],
        host: &'a str [0..=3],
        port: i32 [0..=3],
        coordinators: Vec<Coordinator<'a>> [4..],
    }

    /// Part of [`FindCoordinatorResponse`]: `coordinators`.
    Coordinator<'a> {
        key: &'a str [4..],
        node_id: i32 [4..],
        host: &'a str [4..],
        port: i32 [4..],
        error_code: ErrorCode [4..],
        error_message: Option<&'a str> [4..],
    }
}
