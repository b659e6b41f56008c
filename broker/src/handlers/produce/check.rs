//! Everything that can be wrong with a produced batch by itself, and the form it is stored in.
//!
//! Always holds: what is stored has as many records as it says, with consecutive offset deltas,
//! also inside a compressed batch; its largest timestamp is the true one. A batch is stored as it
//! was sent unless a timestamp or the codec has to change.
//!
//! Looking into compressed batches can take long: on the connection's own thread only as much is
//! done as an [`Allowance`] permits, the rest has to be done elsewhere.

use std::borrow::Cow;
use std::cell::RefCell;

use bytes::Bytes;
use sawlog_protocol::ErrorCode;
use sawlog_protocol::records::{
    self, BatchError, BatchFault, BatchHeader, Codec, Compression, Inflater, Inspection,
    TimestampType,
};

use super::Rejected;
use crate::base::Timestamp;
use crate::base::limits::{BATCH_INFLATED_BYTES_MAX, RECORD_ERRORS_MAX};
use crate::config::{MessageTimestampType, TopicConfig};

/// First version that takes zstd (KIP-110).
const ZSTD_VERSION_MIN: i16 = 7;

/// Position of the magic byte, the same in all three generations of the record format.
const MAGIC_AT: usize = 16;

/// The timestamp of a record that has none.
const NO_TIMESTAMP: i64 = -1;

/// Memory for inflating that a thread keeps from one batch to the next.
const BUFFER_BYTES_KEPT: usize = 1024 * 1024;

/// Cost of what one request may do on its connection's thread, in the unit of [`inflate_cost`]:
/// about half a millisecond, many times what handing it to another thread costs.
const ALLOWANCE: usize = 3 * 512 * 1024;

/// What compressed bytes inflate to more often than not.
const USUAL_RATIO: usize = 3;

thread_local! {
    static INFLATER: RefCell<Inflater> = RefCell::default();
}

/// What a batch is checked against besides its own consistency.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) config: &'a TopicConfig,
    /// Version of the Produce request.
    pub(super) version: i16,
    pub(super) now: Timestamp,
}

/// How much may still be done here and now.
#[derive(Debug)]
pub(super) struct Allowance(usize);

impl Allowance {
    /// What a thread that serves connections may do for one request.
    pub(super) fn of_connections() -> Self {
        Self(ALLOWANCE)
    }

    /// Anything: nobody waits for this thread.
    pub(super) fn unlimited() -> Self {
        Self(usize::MAX)
    }

    /// Bytes that `records` may inflate to; at once an error if they usually would exceed that.
    fn inflated_max(&self, codec: Compression, records: usize) -> Result<usize, Refusal> {
        let permitted = self.0 / inflate_cost(codec);
        if records.saturating_mul(USUAL_RATIO) > permitted {
            return Err(Refusal::TooMuch);
        }
        Ok(permitted.min(BATCH_INFLATED_BYTES_MAX))
    }

    fn spend(&mut self, cost: usize) -> Result<(), Refusal> {
        if self.0 == usize::MAX {
            return Ok(());
        }
        self.0 = self.0.checked_sub(cost).ok_or(Refusal::TooMuch)?;
        Ok(())
    }
}

/// Time to inflate and walk a byte, in thirds of a nanosecond.
fn inflate_cost(codec: Compression) -> usize {
    match codec {
        Compression::None | Compression::Lz4 => 1,
        Compression::Snappy => 2,
        Compression::Zstd => 3,
        Compression::Gzip => 8,
    }
}

/// Time to compress a byte at the usual levels, in the same unit.
fn compress_cost(codec: Compression) -> usize {
    match codec {
        Compression::None => 0,
        Compression::Snappy | Compression::Lz4 => 6,
        Compression::Zstd => 12,
        Compression::Gzip => 60,
    }
}

/// Why a batch is not stored now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is wrong.
    Rejected(Rejected),
    /// It has not been looked at: that would take more than the allowance.
    TooMuch,
}

impl From<Rejected> for Refusal {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

/// Going on takes more than the allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMuch;

/// A batch as it goes into the log.
#[derive(Debug)]
pub(super) struct Checked<'b> {
    pub(super) header: BatchHeader,
    pub(super) bytes: Cow<'b, [u8]>,
}

/// Checks one batch and brings it into the form it is stored in.
pub(super) fn check<'b>(
    batch: Option<&'b Bytes>,
    rules: &Rules<'_>,
    allowance: &mut Allowance,
) -> Result<Checked<'b>, Refusal> {
    let (header, bytes) = check_outside(batch, rules)?;
    let sent = check_attributes(&header, rules.version)?;
    let recompression = rules.config.recompression(sent);
    if sent == Compression::None && recompression.is_none() {
        let inspection = records::inspect(bytes, &header).map_err(rejected_batch)?;
        let records = bytes.get(records::BATCH_OVERHEAD..).unwrap_or_default();
        check_records(&header, records, inspection, rules)?;
        return Ok(stamp(Checked { header, bytes: Cow::Borrowed(bytes) }, inspection, rules)?);
    }
    INFLATER.with_borrow_mut(|inflater| {
        let whole = Whole { header, bytes, sent, recompression };
        let checked = check_inside(&whole, rules, allowance, inflater);
        inflater.shrink_to(BUFFER_BYTES_KEPT);
        checked
    })
}

/// A batch whose records have not been looked at.
struct Whole<'b> {
    header: BatchHeader,
    bytes: &'b Bytes,
    sent: Compression,
    recompression: Option<Codec>,
}

/// Inflates and checks the records; compresses them again where the topic wants another codec.
fn check_inside<'b>(
    whole: &Whole<'b>,
    rules: &Rules<'_>,
    allowance: &mut Allowance,
    inflater: &mut Inflater,
) -> Result<Checked<'b>, Refusal> {
    let Whole { header, bytes, sent, recompression } = whole;
    let limit = allowance.inflated_max(*sent, bytes.len())?;
    let (inspection, records) =
        records::inspect_with(bytes, header, limit, inflater).map_err(|error| match error {
            BatchError::InflatedTooLarge { .. } if limit < BATCH_INFLATED_BYTES_MAX => {
                Refusal::TooMuch
            }
            error => rejected_batch(error).into(),
        })?;
    allowance.spend(records.len().saturating_mul(inflate_cost(*sent)))?;
    check_records(header, records, inspection, rules)?;
    let Some(codec) = recompression else {
        let checked = Checked { header: *header, bytes: Cow::Borrowed(*bytes) };
        return Ok(stamp(checked, inspection, rules)?);
    };
    allowance.spend(records.len().saturating_mul(compress_cost(codec.compression)))?;
    let (header, bytes) = records::recompress(header, records, *codec).map_err(rejected_batch)?;
    check_size(header.total_len(), rules)?;
    Ok(stamp(Checked { header, bytes: Cow::Owned(bytes) }, inspection, rules)?)
}

/// What can be said of a batch without its records.
fn check_outside<'b>(
    batch: Option<&'b Bytes>,
    rules: &Rules<'_>,
) -> Result<(BatchHeader, &'b Bytes), Rejected> {
    let Some(bytes) = batch.filter(|bytes| !bytes.is_empty()) else {
        return Err(invalid("the request has no record batch for this partition"));
    };
    if let Some(magic) = bytes.get(MAGIC_AT).filter(|magic| **magic < 2) {
        return Err(invalid(format!(
            "message format {magic} is not accepted, only record batches (format 2): use a client \
             of Kafka 0.11 or newer"
        )));
    }
    let header = BatchHeader::parse(bytes).map_err(rejected_batch)?;
    let length = header.total_len();
    if length > bytes.len() {
        return Err(Rejected::new(
            ErrorCode::CORRUPT_MESSAGE,
            format!("batch claims {length} bytes, {} were sent", bytes.len()),
        ));
    }
    if length < bytes.len() {
        return Err(invalid("a partition takes exactly one batch per request"));
    }
    check_size(length, rules)?;
    records::check_crc(bytes, &header).map_err(rejected_batch)?;
    Ok((header, bytes))
}

/// As in Kafka, the limit holds for a batch as it comes, and again as it is stored.
fn check_size(length: usize, rules: &Rules<'_>) -> Result<(), Rejected> {
    let limit = rules.config.max_message_bytes;
    if length <= usize::try_from(limit).unwrap_or(usize::MAX) {
        return Ok(());
    }
    Err(Rejected::new(
        ErrorCode::MESSAGE_TOO_LARGE,
        format!("batch of {length} bytes exceeds max.message.bytes={limit} of the topic"),
    ))
}

fn check_attributes(header: &BatchHeader, version: i16) -> Result<Compression, Rejected> {
    if header.base_offset != 0 {
        return Err(invalid("the base offset of a produced batch must be 0"));
    }
    if header.is_control() {
        return Err(invalid("clients may not write control batches"));
    }
    if header.has_delete_horizon() {
        return Err(invalid("a delete horizon is the broker's to set"));
    }
    if header.is_transactional() {
        return Err(Rejected::new(
            ErrorCode::INVALID_TXN_STATE,
            "transactions are not served by this version of the broker",
        ));
    }
    if header.producer_id >= 0 && (header.base_sequence < 0 || header.producer_epoch < 0) {
        return Err(invalid("a batch with a producer id needs a producer epoch and a sequence"));
    }
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Err(Rejected::new(
            ErrorCode::INVALID_TIMESTAMP,
            "a producer may not claim log append time",
        ));
    }
    let compression = header.compression().map_err(rejected_batch)?;
    if compression == Compression::Zstd && version < ZSTD_VERSION_MIN {
        return Err(Rejected::new(
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            "zstd needs Produce version 7 or newer",
        ));
    }
    Ok(compression)
}

/// Keys and timestamps as the topic wants them. What the walk over the records found clears the
/// usual case; only the records of a batch that fails are looked at one by one.
fn check_records(
    header: &BatchHeader,
    records: &[u8],
    inspection: Inspection,
    rules: &Rules<'_>,
) -> Result<(), Rejected> {
    let config = rules.config;
    let now = rules.now.0;
    let latest = now.saturating_add_unsigned(config.message_timestamp_after_max_ms);
    let earliest = now.saturating_sub_unsigned(config.message_timestamp_before_max_ms);
    let times_count = config.message_timestamp_type == MessageTimestampType::CreateTime;
    let in_time = inspection.max_timestamp <= latest && inspection.min_timestamp >= earliest;
    // A log that keeps the last record of each key could not take one without.
    let needs_keys = config.cleanup_policy.compacts();
    if (in_time || !times_count) && !(needs_keys && inspection.has_null_key) {
        return Ok(());
    }
    let mut faults = Faults::default();
    for record in records::record_facts(records, header) {
        let in_range = (earliest..=latest).contains(&record.timestamp);
        if needs_keys && !record.has_key {
            faults.add(record.index, ErrorCode::INVALID_RECORD, || {
                "a compacted topic takes no record without a key".to_owned()
            });
        } else if times_count && record.timestamp != NO_TIMESTAMP && !in_range {
            faults.add(record.index, ErrorCode::INVALID_TIMESTAMP, || {
                let time = record.timestamp;
                format!("timestamp {time} is outside the allowed [{earliest}, {latest}]")
            });
        }
    }
    faults.into_result()
}

/// The records at fault in a batch, the first of them by name.
#[derive(Debug, Default)]
struct Faults {
    count: usize,
    /// As in Kafka, one wrong timestamp decides the code of all.
    timestamps: bool,
    named: Vec<(i32, String)>,
}

impl Faults {
    fn add(&mut self, index: i32, code: ErrorCode, reason: impl FnOnce() -> String) {
        self.count += 1;
        self.timestamps |= code == ErrorCode::INVALID_TIMESTAMP;
        // A reply with a text for each of millions of tiny records would be larger than the batch.
        if self.named.len() < RECORD_ERRORS_MAX {
            self.named.push((index, reason()));
        }
    }

    fn into_result(self) -> Result<(), Rejected> {
        let Self { count, timestamps, named: records } = self;
        if count == 0 {
            return Ok(());
        }
        let (code, why) = if timestamps {
            (ErrorCode::INVALID_TIMESTAMP, "invalid timestamps")
        } else {
            (ErrorCode::INVALID_RECORD, "missing keys")
        };
        let message = format!("{count} of the batch's records have been rejected due to {why}");
        Err(Rejected { code, message, records })
    }
}

/// Sets the timestamps that are the broker's to set. They lie under the checksum, so a batch that
/// changes is copied.
fn stamp<'b>(
    checked: Checked<'b>,
    inspection: Inspection,
    rules: &Rules<'_>,
) -> Result<Checked<'b>, Rejected> {
    let restamped = match rules.config.message_timestamp_type {
        MessageTimestampType::LogAppendTime => {
            let mut copy = checked.bytes.into_owned();
            records::set_log_append_time(&mut copy, rules.now.0).map(|header| (header, copy))
        }
        // Some clients leave the largest timestamp out of the header, and lookups by time trust it.
        MessageTimestampType::CreateTime
            if inspection.max_timestamp != checked.header.max_timestamp =>
        {
            let mut copy = checked.bytes.into_owned();
            records::set_max_timestamp(&mut copy, inspection.max_timestamp)
                .map(|header| (header, copy))
        }
        MessageTimestampType::CreateTime => return Ok(checked),
    };
    let (header, copy) = restamped.map_err(rejected_batch)?;
    Ok(Checked { header, bytes: Cow::Owned(copy) })
}

fn invalid(message: impl Into<String>) -> Rejected {
    Rejected::new(ErrorCode::INVALID_RECORD, message)
}

/// The one place where a malformed batch becomes a protocol error.
fn rejected_batch(error: BatchError) -> Rejected {
    let message = error.to_string();
    let code = match error.fault() {
        BatchFault::Corrupt => ErrorCode::CORRUPT_MESSAGE,
        BatchFault::OldMessageFormat | BatchFault::Invalid => ErrorCode::INVALID_RECORD,
        BatchFault::UnsupportedCompression => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        BatchFault::TooLarge => ErrorCode::MESSAGE_TOO_LARGE,
    };
    let records = error.record_index().map(|index| (index, message.clone())).into_iter().collect();
    Rejected { code, message, records }
}

#[cfg(test)]
mod tests;
