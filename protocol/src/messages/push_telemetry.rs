//! PushTelemetry (KIP-714): metrics of a client.
//!
//! - 0: the first

use bytes::Bytes;

use crate::{ErrorCode, Uuid};

wire! {
    /// The metrics.
    PushTelemetryRequest {
        client_instance_id: Uuid,
        subscription_id: i32,
        /// Whether the client is about to end.
        terminating: bool,
        compression_type: i8,
        /// OpenTelemetry's MetricsData v1, compressed.
        metrics: Bytes,
    }

    /// What became of it.
    PushTelemetryResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode,
    }
}
