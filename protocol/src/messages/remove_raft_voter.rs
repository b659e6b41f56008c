//! RemoveRaftVoter (KIP-853): a node is not to vote about the metadata log any more.
//!
//! - 0: the first

use crate::{ErrorCode, Uuid};

wire! {
    /// Which node, by its id and that of its directory.
    RemoveRaftVoterRequest<'a> {
        cluster_id: Option<&'a str>,
        voter_id: i32,
        voter_directory_id: Uuid,
    }

    /// What became of it.
    RemoveRaftVoterResponse<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<&'a str>,
    }
}
