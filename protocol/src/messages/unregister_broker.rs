//! UnregisterBroker (KIP-631): a broker that will not come back is forgotten.
//!
//! - 0: the first

use crate::ErrorCode;

wire! {
    /// Which one.
    UnregisterBrokerRequest {
        broker_id: i32,
    }

    /// What became of it.
    UnregisterBrokerResponse<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<&'a str>,
    }
}
