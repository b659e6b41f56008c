//! GetTelemetrySubscriptions (KIP-714): which metrics a client is to send, and how often.
//!
//! - 0: the first

use crate::{ErrorCode, Uuid};

wire! {
    /// Who asks.
    GetTelemetrySubscriptionsRequest {
        /// Zero in the first request of a client.
        client_instance_id: Uuid,
    }

    /// What it is to send.
    GetTelemetrySubscriptionsResponse<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        client_instance_id: Uuid,
        subscription_id: i32,
        /// By the numbers of record batches, preferred ones first.
        accepted_compression_types: Vec<i8>,
        push_interval_ms: i32,
        telemetry_max_bytes: i32,
        delta_temporality: bool,
        /// Prefixes of names. None: no metrics; an empty one: all.
        requested_metrics: Vec<&'a str>,
    }
}
