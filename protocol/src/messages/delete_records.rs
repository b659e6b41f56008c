//! DeleteRecords: moves the start of logs forward. Offset -1 means the high watermark.
//!
//! - 2: flexible

use crate::ErrorCode;

wire! {
    /// The offsets to delete up to.
    DeleteRecordsRequest<'a> {
        topics: Vec<DeleteRecordsTopic<'a>>,
        timeout_ms: i32,
    }

    /// Part of [`DeleteRecordsRequest`]: `topics`.
    DeleteRecordsTopic<'a> {
        name: &'a str,
        partitions: Vec<DeleteRecordsPartition>,
    }

    /// Part of [`DeleteRecordsTopic`]: `partitions`.
    DeleteRecordsPartition {
        partition_index: i32,
        offset: i64,
    }

    /// The new log start offsets.
    DeleteRecordsResponse<'a> {
        throttle_time_ms: i32,
        topics: Vec<DeleteRecordsTopicResult<'a>>,
    }

    /// Part of [`DeleteRecordsResponse`]: `topics`.
    DeleteRecordsTopicResult<'a> {
        name: &'a str,
        partitions: Vec<DeleteRecordsPartitionResult>,
    }

    /// Part of [`DeleteRecordsTopicResult`]: `partitions`.
    DeleteRecordsPartitionResult {
        partition_index: i32,
        low_watermark: i64,
        error_code: ErrorCode,
    }
}
