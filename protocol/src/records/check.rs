//! What is checked of a batch before it is appended.
//!
//! The checksum and the structure. Not checked here: what depends on who sent the batch (base
//! offset 0, no control batch, exactly one batch, codecs by request version) and on the partition
//! (sizes, sequence numbers, timestamps in range).

use super::header::{CRC_START, whole_batch};
use super::record::RawRecord;
use super::{
    BATCH_OVERHEAD, BatchError, BatchHeader, Compression, RecordFault, TimestampType, crc32c,
    decompress,
};

/// What a look at all of a batch found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inspection {
    /// The largest timestamp of the records. The header's own where records were not looked at or
    /// do not count (compressed batches, append time).
    pub max_timestamp: i64,
}

/// Checks the checksum of exactly one batch.
///
/// # Errors
/// `CrcMismatch`; `Truncated` or `TrailingBytes` if the length is not the header's.
pub fn check_crc(batch: &[u8], header: &BatchHeader) -> Result<(), BatchError> {
    whole_batch(batch, header)?;
    let computed = crc32c(batch.get(CRC_START..).unwrap_or_default());
    if computed == header.crc {
        Ok(())
    } else {
        Err(BatchError::CrcMismatch { stored: header.crc, computed })
    }
}

/// Checks that the batch is what a producer may write: at least one record, as many offsets as
/// records, a known codec; in an uncompressed batch also every record, its offset delta, and that
/// nothing follows the last one.
///
/// # Errors
/// The first fault found.
pub fn check_structure(batch: &[u8], header: &BatchHeader) -> Result<(), BatchError> {
    inspect(batch, header).map(|_| ())
}

/// [`check_structure`], and what it found on the way.
///
/// Some clients leave `max_timestamp` out of the header (-1); the walk finds the true one.
///
/// # Errors
/// As [`check_structure`].
pub fn inspect(batch: &[u8], header: &BatchHeader) -> Result<Inspection, BatchError> {
    check_counts(batch, header)?;
    match header.compression()? {
        Compression::None => walk(batch.get(BATCH_OVERHEAD..).unwrap_or_default(), header),
        Compression::Gzip | Compression::Snappy | Compression::Lz4 | Compression::Zstd => {
            Ok(Inspection { max_timestamp: header.max_timestamp })
        }
    }
}

/// [`inspect`] that also inflates compressed records, up to `limit` bytes, and walks them.
///
/// # Errors
/// As [`check_structure`]; `Undecodable`; `InflatedTooLarge`.
pub fn inspect_inflated(
    batch: &[u8],
    header: &BatchHeader,
    limit: usize,
) -> Result<Inspection, BatchError> {
    check_counts(batch, header)?;
    let records = batch.get(BATCH_OVERHEAD..).unwrap_or_default();
    match header.compression()? {
        Compression::None => walk(records, header),
        codec => walk(&decompress(codec, records, limit)?, header),
    }
}

fn check_counts(batch: &[u8], header: &BatchHeader) -> Result<(), BatchError> {
    whole_batch(batch, header)?;
    let records_count = header.records_count;
    if records_count < 1 {
        return Err(BatchError::InvalidCount(records_count));
    }
    let last_offset_delta = header.last_offset_delta;
    if last_offset_delta != records_count - 1 {
        return Err(BatchError::InvalidOffsetRange { records_count, last_offset_delta });
    }
    Ok(())
}

fn walk(mut records: &[u8], header: &BatchHeader) -> Result<Inspection, BatchError> {
    let mut delta_max = i64::MIN;
    for index in 0..header.records_count {
        let delta = check_record(&mut records, index)
            .map_err(|fault| BatchError::InvalidRecord { index, fault })?;
        delta_max = delta_max.max(delta);
    }
    if !records.is_empty() {
        let (index, fault) = (header.records_count - 1, RecordFault::TrailingRecords);
        return Err(BatchError::InvalidRecord { index, fault });
    }
    let max_timestamp = match header.timestamp_type() {
        TimestampType::CreateTime => header.base_timestamp.wrapping_add(delta_max),
        TimestampType::LogAppendTime => header.max_timestamp,
    };
    Ok(Inspection { max_timestamp })
}

/// Checks the record at the start of `records`, moves past it, returns its timestamp delta.
#[inline]
fn check_record(records: &mut &[u8], index: i32) -> Result<i64, RecordFault> {
    if records.is_empty() {
        return Err(RecordFault::Missing);
    }
    let record = RawRecord::parse(records)?;
    if record.offset_delta != index {
        return Err(RecordFault::OffsetDelta { actual: record.offset_delta });
    }
    record.check_headers()?;
    Ok(record.timestamp_delta)
}
