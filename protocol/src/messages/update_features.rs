//! UpdateFeatures (KIP-584): levels of what the cluster as a whole can do.
//!
//! - 1: the kind of the change, and whether only to check it (KIP-778)
//! - 2: the reply has no results for single features (KIP-1022)

use crate::ErrorCode;

wire! {
    /// Which features, and to which levels.
    UpdateFeaturesRequest<'a> {
        timeout_ms: i32 = 60_000,
        feature_updates: Vec<FeatureUpdateKey<'a>>,
        validate_only: bool [1..],
    }

    /// Part of [`UpdateFeaturesRequest`]: `feature_updates`.
    FeatureUpdateKey<'a> {
        feature: &'a str,
        max_version_level: i16,
        allow_downgrade: bool [0],
        upgrade_type: i8 [1..] = 1,
    }

    /// What became of it.
    UpdateFeaturesResponse<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<&'a str>,
        results: Vec<UpdatableFeatureResult<'a>> [0..=1],
    }

    /// Part of [`UpdateFeaturesResponse`]: `results`.
    UpdatableFeatureResult<'a> {
        feature: &'a str,
        error_code: ErrorCode,
        error_message: Option<&'a str>,
    }
}
