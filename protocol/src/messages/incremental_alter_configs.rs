//! IncrementalAlterConfigs (KIP-339): 0 sets, 1 deletes, 2 appends to a list, 3 subtracts from one.
//!
//! - 1: flexible

use crate::ErrorCode;

wire! {
    /// Changes to each resource.
    IncrementalAlterConfigsRequest<'a> {
        resources: Vec<AlterConfigsResource<'a>>,
        validate_only: bool,
    }

    /// Part of [`IncrementalAlterConfigsRequest`]: `resources`.
    AlterConfigsResource<'a> {
        resource_type: i8,
        resource_name: &'a str,
        configs: Vec<AlterableConfig<'a>>,
    }

    /// Part of [`AlterConfigsResource`]: `configs`.
    AlterableConfig<'a> {
        name: &'a str,
        config_operation: i8,
        value: Option<&'a str>,
    }

    /// What became of each resource.
    IncrementalAlterConfigsResponse<'a> {
        throttle_time_ms: i32,
        responses: Vec<AlterConfigsResourceResponse<'a>>,
    }

    /// Part of [`IncrementalAlterConfigsResponse`]: `responses`.
    AlterConfigsResourceResponse<'a> {
        error_code: ErrorCode,
        error_message: Option<&'a str>,
        resource_type: i8,
        resource_name: &'a str,
    }
}
