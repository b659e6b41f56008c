//! DescribeLogDirs: sizes on disk.
//!
//! - 2: flexible
//! - 3: an error for the whole reply
//! - 4: total and usable bytes (KIP-827)
//! - 5: cordoned directories (KIP-1066)
//!
//! One tagged field is Sawlog's own: records of a partition that are damaged.

use crate::ErrorCode;

wire! {
    /// Which partitions; null for all.
    DescribeLogDirsRequest<'a> {
        topics: Option<Vec<DescribableLogDirTopic<'a>>>,
    }

    /// Part of [`DescribeLogDirsRequest`]: `topics`.
    DescribableLogDirTopic<'a> {
        topic: &'a str,
        partitions: Vec<i32>,
    }

    /// Each data directory.
    DescribeLogDirsResponse<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode [3..],
        results: Vec<DescribeLogDirsResult<'a>>,
    }

    /// Part of [`DescribeLogDirsResponse`]: `results`.
    DescribeLogDirsResult<'a> {
        error_code: ErrorCode,
        log_dir: &'a str,
        topics: Vec<DescribeLogDirsTopic<'a>>,
        total_bytes: i64 [4..] = -1,
        usable_bytes: i64 [4..] = -1,
        is_cordoned: bool [5..],
    }

    /// Part of [`DescribeLogDirsResult`]: `topics`.
    DescribeLogDirsTopic<'a> {
        name: &'a str,
        partitions: Vec<DescribeLogDirsPartition>,
    }

    /// Part of [`DescribeLogDirsTopic`]: `partitions`.
    DescribeLogDirsPartition {
        partition_index: i32,
        partition_size: i64,
        offset_lag: i64,
        is_future_key: bool,
        /// Records that are damaged and not served: an extension of Sawlog, which others pass over.
        quarantined_records: i64 [2.., tag 10_000],
    }
}
