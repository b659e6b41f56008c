//! ListConfigResources: what has settings.
//!
//! - 0: the first, for client metrics only (KIP-714)
//! - 1: every type of resource (KIP-1142)

use crate::ErrorCode;

/// Resource type of client metrics, the only one version 0 knows.
pub const CLIENT_METRICS: i8 = 16;

wire! {
    /// Which types of resources; none means all.
    ListConfigResourcesRequest {
        resource_types: Vec<i8> [1..],
    }

    /// The resources.
    ListConfigResourcesResponse<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        config_resources: Vec<ConfigResource<'a>>,
    }

    /// Part of [`ListConfigResourcesResponse`]: `config_resources`.
    ConfigResource<'a> {
        resource_name: &'a str,
        resource_type: i8 [1..] = CLIENT_METRICS,
    }
}
