//! ApiVersions: what a broker serves. Its response header is version 0 in every version (KIP-511).
//!
//! - 1: throttle time
//! - 3: flexible, client software, features (KIP-584)
//! - 4: features with minimum 0

use crate::ErrorCode;

wire! {
    /// Who the client is.
    ApiVersionsRequest<'a> {
        client_software_name: &'a str [3..],
        client_software_version: &'a str [3..],
    }

    /// Served APIs and features.
    ApiVersionsResponse<'a> {
        error_code: ErrorCode,
        api_keys: Vec<ApiVersion>,
        throttle_time_ms: i32 [1..],
        supported_features: Vec<SupportedFeatureKey<'a>> [3.., tag 0],
        finalized_features_epoch: i64 [3.., tag 1] = -1,
        finalized_features: Vec<FinalizedFeatureKey<'a>> [3.., tag 2],
        zk_migration_ready: bool [3.., tag 3],
    }

    /// Part of [`ApiVersionsResponse`]: `api_keys`.
    ApiVersion {
        api_key: i16,
        min_version: i16,
        max_version: i16,
    }

    /// Part of [`ApiVersionsResponse`]: `supported_features`.
    SupportedFeatureKey<'a> {
        name: &'a str [3..],
        min_version: i16 [3..],
        max_version: i16 [3..],
    }

    /// Part of [`ApiVersionsResponse`]: `finalized_features`.
    FinalizedFeatureKey<'a> {
        name: &'a str [3..],
        max_version_level: i16 [3..],
        min_version_level: i16 [3..],
    }
}
