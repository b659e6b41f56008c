//! DeleteTopics.
//!
//! - 4: flexible
//! - 5: error messages
//! - 6: topics by id (KIP-516)

use crate::{ErrorCode, Uuid};

wire! {
    /// Topics to delete.
    DeleteTopicsRequest<'a> {
        topics: Vec<DeleteTopicState<'a>> [6..],
        topic_names: Vec<&'a str> [0..=5],
        timeout_ms: i32,
    }

    /// Part of [`DeleteTopicsRequest`]: `topics`.
    DeleteTopicState<'a> {
        name: Option<&'a str> [6..],
        topic_id: Uuid [6..],
    }

    /// What became of each topic.
    DeleteTopicsResponse<'a> {
        throttle_time_ms: i32,
        responses: Vec<DeletableTopicResult<'a>>,
    }

    /// Part of [`DeleteTopicsResponse`]: `responses`.
    DeletableTopicResult<'a> {
        name: Option<&'a str> [0.., null 6..],
        topic_id: Uuid [6..],
        error_code: ErrorCode,
        error_message: Option<&'a str> [5..],
    }
}
