//! AddRaftVoter (KIP-853): a node is to vote about the metadata log.
//!
//! - 1: whether to answer when it is committed, or at once

use crate::{ErrorCode, Uuid};

wire! {
    /// Which node, by its id and that of its directory.
    AddRaftVoterRequest<'a> {
        cluster_id: Option<&'a str>,
        timeout_ms: i32,
        voter_id: i32,
        voter_directory_id: Uuid,
        listeners: Vec<Listener<'a>>,
        ack_when_committed: bool [1..] = true,
    }

    /// Part of [`AddRaftVoterRequest`]: `listeners`.
    Listener<'a> {
        name: &'a str,
        host: &'a str,
        port: u16,
    }

    /// What became of it.
    AddRaftVoterResponse<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<&'a str>,
    }
}
