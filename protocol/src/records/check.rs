//! What is checked of a batch before it is appended.
//!
//! The checksum and the structure. Not checked here: what depends on who sent the batch (base
//! offset 0, no control batch, exactly one batch, codecs by request version) and on the partition
//! (sizes, sequence numbers, timestamps in range).

use super::header::{CRC_START, whole_batch};
use super::record::RawRecord;
use super::{
    BATCH_OVERHEAD, BatchError, BatchHeader, Compression, Inflater, RecordFault, TimestampType,
    crc32c,
};

/// What a look at all of a batch found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inspection {
    /// The largest timestamp of the records. The header's own where records were not looked at or
    /// do not count (compressed batches, append time).
    pub max_timestamp: i64,
    /// The smallest, which is -1 if a record has none; as `max_timestamp` where that is the
    /// header's own.
    pub min_timestamp: i64,
    /// Whether a record without a key was seen.
    pub has_null_key: bool,
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
            let header_timestamp = header.max_timestamp;
            Ok(Inspection {
                max_timestamp: header_timestamp,
                min_timestamp: header_timestamp,
                has_null_key: false,
            })
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
    inspect_with(batch, header, limit, &mut Inflater::default()).map(|(inspection, _)| inspection)
}

/// [`inspect_inflated`] with the buffer of `inflater`; also returns the records it walked,
/// inflated.
///
/// # Errors
/// As [`inspect_inflated`].
pub fn inspect_with<'a>(
    batch: &'a [u8],
    header: &BatchHeader,
    limit: usize,
    inflater: &'a mut Inflater,
) -> Result<(Inspection, &'a [u8]), BatchError> {
    check_counts(batch, header)?;
    let records = batch.get(BATCH_OVERHEAD..).unwrap_or_default();
    let records = match header.compression()? {
        Compression::None => records,
        codec => inflater.inflate(codec, records, limit)?,
    };
    Ok((walk(records, header)?, records))
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
    let mut seen =
        Inspection { max_timestamp: i64::MIN, min_timestamp: i64::MAX, has_null_key: false };
    for index in 0..header.records_count {
        let record = check_record(&mut records, index)
            .map_err(|fault| BatchError::InvalidRecord { index, fault })?;
        let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
        seen.max_timestamp = seen.max_timestamp.max(timestamp);
        seen.min_timestamp = seen.min_timestamp.min(timestamp);
        seen.has_null_key |= record.key.is_none();
    }
    if !records.is_empty() {
        let (index, fault) = (header.records_count - 1, RecordFault::TrailingRecords);
        return Err(BatchError::InvalidRecord { index, fault });
    }
    if header.timestamp_type() == TimestampType::LogAppendTime {
        seen.max_timestamp = header.max_timestamp;
        seen.min_timestamp = header.max_timestamp;
    }
    Ok(seen)
}

/// What rules about single records look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordFacts {
    /// Index within the batch.
    pub index: i32,
    /// The record's own timestamp, -1 for none.
    pub timestamp: i64,
    /// Whether it has a key, be it an empty one.
    pub has_key: bool,
}

/// The facts of inflated `records` of the batch with `header`, which have been inspected: ends
/// early at one that is malformed.
pub fn record_facts(mut records: &[u8], header: &BatchHeader) -> impl Iterator<Item = RecordFacts> {
    let base_timestamp = header.base_timestamp;
    (0..header.records_count).map_while(move |index| {
        let record = RawRecord::parse(&mut records).ok()?;
        let timestamp = base_timestamp.wrapping_add(record.timestamp_delta);
        Some(RecordFacts { index, timestamp, has_key: record.key.is_some() })
    })
}

/// Checks the record at the start of `records` and moves past it.
#[inline]
fn check_record<'a>(records: &mut &'a [u8], index: i32) -> Result<RawRecord<'a>, RecordFault> {
    if records.is_empty() {
        return Err(RecordFault::Missing);
    }
    let record = RawRecord::parse(records)?;
    if record.offset_delta != index {
        return Err(RecordFault::OffsetDelta { actual: record.offset_delta });
    }
    record.check_headers()?;
    Ok(record)
}
