//! DescribeCluster (KIP-700).
//!
//! - 1: endpoint type: 1 brokers, 2 controllers (KIP-919)
//! - 2: fenced brokers (KIP-1073)

use crate::ErrorCode;

wire! {
    /// What to tell besides the brokers.
    DescribeClusterRequest {
        include_cluster_authorized_operations: bool,
        endpoint_type: i8 [1..] = 1,
        include_fenced_brokers: bool [2..],
    }

    /// The brokers.
    DescribeClusterResponse<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<&'a str>,
        endpoint_type: i8 [1..] = 1,
        cluster_id: &'a str,
        controller_id: i32 = -1,
        brokers: Vec<DescribeClusterBroker<'a>>,
        cluster_authorized_operations: i32 = i32::MIN,
    }

    /// Part of [`DescribeClusterResponse`]: `brokers`.
    DescribeClusterBroker<'a> {
        broker_id: i32,
        host: &'a str,
        port: i32,
        rack: Option<&'a str>,
        is_fenced: bool [2..],
    }
}
