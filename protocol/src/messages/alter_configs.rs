//! AlterConfigs: replaces all settings of a resource at once. Superseded by
//! IncrementalAlterConfigs.
//!
//! - 2: flexible

use crate::ErrorCode;

wire! {
    /// All settings of each resource.
    AlterConfigsRequest<'a> {
        resources: Vec<AlterConfigsResource<'a>>,
        validate_only: bool,
    }

    /// Part of [`AlterConfigsRequest`]: `resources`.
    AlterConfigsResource<'a> {
        resource_type: i8,
        resource_name: &'a str,
        configs: Vec<AlterableConfig<'a>>,
    }

    /// Part of [`AlterConfigsResource`]: `configs`.
    AlterableConfig<'a> {
        name: &'a str,
        value: Option<&'a str>,
    }

    /// What became of each resource.
    AlterConfigsResponse<'a> {
        throttle_time_ms: i32,
        responses: Vec<AlterConfigsResourceResponse<'a>>,
    }

    /// Part of [`AlterConfigsResponse`]: `responses`.
    AlterConfigsResourceResponse<'a> {
        error_code: ErrorCode,
        error_message: Option<&'a str>,
        resource_type: i8,
        resource_name: &'a str,
    }
}
