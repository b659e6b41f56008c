//! DescribeConfigs: settings in force, with their sources. Resource type 2 is a topic, 4 a broker.
//!
//! - 1: sources and synonyms
//! - 3: types and documentation
//! - 4: flexible

use crate::ErrorCode;

wire! {
    /// Which settings of which resources.
    DescribeConfigsRequest<'a> {
        resources: Vec<DescribeConfigsResource<'a>>,
        include_synonyms: bool,
        include_documentation: bool [3..],
    }

    /// Part of [`DescribeConfigsRequest`]: `resources`.
    DescribeConfigsResource<'a> {
        resource_type: i8,
        resource_name: &'a str,
        configuration_keys: Option<Vec<&'a str>>,
    }

    /// The settings.
    DescribeConfigsResponse<'a> {
        throttle_time_ms: i32,
        results: Vec<DescribeConfigsResult<'a>>,
    }

    /// Part of [`DescribeConfigsResponse`]: `results`.
    DescribeConfigsResult<'a> {
        error_code: ErrorCode,
        error_message: Option<&'a str>,
        resource_type: i8,
        resource_name: &'a str,
        configs: Vec<DescribeConfigsResourceResult<'a>>,
    }

    /// Part of [`DescribeConfigsResult`]: `configs`.
    DescribeConfigsResourceResult<'a> {
        name: &'a str,
        value: Option<&'a str>,
        read_only: bool,
        config_source: i8 = -1,
        is_sensitive: bool,
        synonyms: Vec<DescribeConfigsSynonym<'a>>,
        config_type: i8 [3..],
        documentation: Option<&'a str> [3..],
    }

    /// Part of [`DescribeConfigsResourceResult`]: `synonyms`.
    DescribeConfigsSynonym<'a> {
        name: &'a str,
        value: Option<&'a str>,
        source: i8,
    }
}
