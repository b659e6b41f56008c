//! A batch of a log, looked at record by record and written again with fewer of them: compaction.
//!
//! A rewritten batch keeps its place and what it says of its producer: base offset, last offset
//! delta, leader epoch, producer id, epoch and sequence, codec, flags. Records keep their offsets
//! and timestamps; kept records are copied as they are. So offsets inside may have gaps, and a batch
//! may be left with no record at all.
//!
//! A *delete horizon* (KIP-534) is the time from which a later pass may drop the tombstones, or the
//! marker, of the batch. It takes the place of the base timestamp, and the records' deltas count
//! from it.

use std::borrow::Cow;

use super::compression::compress;
use super::header::{CRC_START, clear_delete_horizon, set_delete_horizon, set_uncompressed};
use super::record::RawRecord;
use super::varint::{
    read_varint, read_varlong, varint_len, varlong_len, write_varint, write_varlong,
};
use super::{
    BATCH_OVERHEAD, BatchError, BatchHeader, Compression, RecordFault, TimestampType, crc32c,
    decompress,
};

/// A whole batch with its records inflated.
#[derive(Debug)]
pub struct StoredBatch<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
    records: Cow<'a, [u8]>,
}

/// What compaction asks of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredRecord<'a> {
    /// Offset in the partition.
    pub offset: i64,
    /// Milliseconds since the Unix epoch, -1 for none.
    pub timestamp: i64,
    /// Key, which may be null.
    pub key: Option<&'a [u8]>,
    /// Whether the value is not null: a record without one is a tombstone.
    pub has_value: bool,
}

impl<'a> StoredBatch<'a> {
    /// Inflates exactly one batch, to at most `limit` bytes. The checksum is not looked at.
    ///
    /// # Errors
    /// `Truncated` or `TrailingBytes` if it is not exactly one batch; `InvalidCount` if negative;
    /// what inflating reports.
    pub fn open(bytes: &'a [u8], limit: usize) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        super::header::whole_batch(bytes, &header)?;
        if header.records_count < 0 {
            return Err(BatchError::InvalidCount(header.records_count));
        }
        let stored = bytes.get(BATCH_OVERHEAD..).unwrap_or_default();
        let records = match header.compression()? {
            Compression::None => Cow::Borrowed(stored),
            codec => Cow::Owned(decompress(codec, stored, limit)?),
        };
        Ok(Self { header, bytes, records })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The records, in order. Ends after an error.
    #[must_use]
    pub fn records(&self) -> StoredRecords<'_> {
        StoredRecords { header: self.header, rest: &self.records, index: 0 }
    }

    /// The batch with the records for which `keep`, asked in order, says so, and with
    /// `delete_horizon` if it has none yet. A batch left as it is, is returned as it is.
    ///
    /// # Errors
    /// A record is damaged.
    pub fn retain(
        &self,
        delete_horizon: Option<i64>,
        mut keep: impl FnMut(&StoredRecord<'_>) -> bool,
    ) -> Result<Cow<'a, [u8]>, BatchError> {
        let mut header = self.header;
        let horizon = delete_horizon.filter(|_| !header.has_delete_horizon());
        let base_timestamp = horizon.unwrap_or(header.base_timestamp);
        let mut kept = Vec::with_capacity(self.records.len());
        let (mut count, mut max_timestamp) = (0, -1);
        let mut records = self.records();
        loop {
            let before = records.rest;
            let Some(record) = records.next().transpose()? else { break };
            if !keep(&record) {
                continue;
            }
            let length = before.len() - records.rest.len();
            let bytes = before.get(..length).unwrap_or_default();
            match header.timestamp_type() {
                TimestampType::CreateTime if horizon.is_some() => {
                    let delta = record.timestamp.wrapping_sub(base_timestamp);
                    let redated = redate(bytes, delta, &mut kept);
                    redated.map_err(|fault| records.fault(fault))?;
                }
                TimestampType::CreateTime | TimestampType::LogAppendTime => {
                    kept.extend_from_slice(bytes);
                }
            }
            count += 1;
            max_timestamp = record.timestamp.max(max_timestamp);
        }
        if count == self.header.records_count && horizon.is_none() {
            return Ok(Cow::Borrowed(self.bytes));
        }
        if count == 0 {
            return Ok(Cow::Owned(emptied(&self.header).to_vec()));
        }
        if let Some(horizon) = horizon {
            set_delete_horizon(&mut header, horizon);
        }
        if header.timestamp_type() == TimestampType::CreateTime {
            header.max_timestamp = max_timestamp;
        }
        header.records_count = count;
        finish(header, &kept).map(Cow::Owned)
    }
}

/// The batch without its records: what is left to say of its producer and its offsets.
#[must_use]
pub fn emptied(header: &BatchHeader) -> [u8; BATCH_OVERHEAD] {
    let mut header = *header;
    // No codec has an encoding of nothing that all clients read.
    set_uncompressed(&mut header);
    clear_delete_horizon(&mut header);
    header.base_timestamp = header.max_timestamp;
    header.records_count = 0;
    header.batch_length = LENGTH_OF_EMPTY;
    header.crc = crc32c(header.to_bytes().get(CRC_START..).unwrap_or_default());
    header.to_bytes()
}

/// `batch_length` of a batch that ends with its header.
const LENGTH_OF_EMPTY: i32 = 49;

/// Puts the header before the records, which are compressed as it says.
fn finish(mut header: BatchHeader, records: &[u8]) -> Result<Vec<u8>, BatchError> {
    let mut batch = Vec::with_capacity(BATCH_OVERHEAD + records.len());
    batch.resize(BATCH_OVERHEAD, 0);
    if compress(header.compression()?, None, records, &mut batch).is_err() {
        // A codec without memory: the batch is valid without it.
        set_uncompressed(&mut header);
        batch.truncate(BATCH_OVERHEAD);
        batch.extend_from_slice(records);
    }
    header.batch_length =
        i32::try_from(batch.len().saturating_sub(12)).map_err(|_| BatchError::TooLarge)?;
    write_header(&mut batch, &header);
    header.crc = crc32c(batch.get(CRC_START..).unwrap_or_default());
    write_header(&mut batch, &header);
    Ok(batch)
}

fn write_header(batch: &mut [u8], header: &BatchHeader) {
    if let Some(place) = batch.first_chunk_mut() {
        *place = header.to_bytes();
    }
}

/// Copies a record with another timestamp delta.
fn redate(mut record: &[u8], delta: i64, output: &mut Vec<u8>) -> Result<(), RecordFault> {
    let input = &mut record;
    read_varint(input).ok_or(RecordFault::Length)?;
    let (&attributes, after) = input.split_first().ok_or(RecordFault::Prefix)?;
    *input = after;
    read_varlong(input).ok_or(RecordFault::Prefix)?;
    let offset_delta = read_varint(input).ok_or(RecordFault::Prefix)?;
    let length = 1 + varlong_len(delta) + varint_len(offset_delta) + input.len();
    write_varint(output, i32::try_from(length).map_err(|_| RecordFault::Length)?);
    output.push(attributes);
    write_varlong(output, delta);
    write_varint(output, offset_delta);
    output.extend_from_slice(input);
    Ok(())
}

/// Iterator of [`StoredBatch::records`].
#[derive(Debug, Clone)]
pub struct StoredRecords<'a> {
    header: BatchHeader,
    rest: &'a [u8],
    index: i32,
}

impl StoredRecords<'_> {
    fn fault(&self, fault: RecordFault) -> BatchError {
        BatchError::InvalidRecord { index: self.index, fault }
    }

    fn fail(&mut self, fault: RecordFault) -> BatchError {
        let error = self.fault(fault);
        self.index = self.header.records_count;
        self.rest = &[];
        error
    }
}

impl<'a> Iterator for StoredRecords<'a> {
    type Item = Result<StoredRecord<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.header.records_count {
            let trailing = !self.rest.is_empty();
            return trailing.then(|| Err(self.fail(RecordFault::TrailingRecords)));
        }
        if self.rest.is_empty() {
            return Some(Err(self.fail(RecordFault::Missing)));
        }
        let raw = match RawRecord::parse(&mut self.rest) {
            Ok(raw) => raw,
            Err(fault) => return Some(Err(self.fail(fault))),
        };
        self.index += 1;
        let header = &self.header;
        Some(Ok(StoredRecord {
            offset: header.base_offset.wrapping_add(i64::from(raw.offset_delta)),
            timestamp: match header.timestamp_type() {
                TimestampType::CreateTime => {
                    header.base_timestamp.wrapping_add(raw.timestamp_delta)
                }
                TimestampType::LogAppendTime => header.max_timestamp,
            },
            key: raw.key,
            has_value: raw.value.is_some(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::records::{Batch, BatchBuilder, Record, check_crc, set_log_append_time};

    const LIMIT: usize = 1 << 20;

    /// Keys `k0`, `k1`, ...; every third record is a tombstone.
    fn batch(codec: Compression, count: u8) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec);
        builder.producer(7, 2, 40);
        for n in 0..count {
            let key = [b'k', n];
            let value = (n % 3 != 0).then_some(&b"value"[..]);
            builder
                .append(1000 + i64::from(n), Some(&key), value, &[("h", Some(b"x")), ("n", None)])
                .unwrap();
        }
        builder.build().to_vec()
    }

    fn records(bytes: &[u8]) -> Vec<Record> {
        let header = BatchHeader::parse(bytes).unwrap();
        check_crc(bytes, &header).unwrap();
        let batch = Batch::parse(Bytes::copy_from_slice(bytes)).unwrap();
        batch.records(LIMIT).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn kept_records_and_the_place_of_the_batch_are_as_before() {
        for codec in Compression::ALL {
            let bytes = batch(codec, 9);
            let all = records(&bytes);
            let stored = StoredBatch::open(&bytes, LIMIT).unwrap();
            let rewritten = stored.retain(None, |record| record.offset % 2 == 1).unwrap();
            let kept: Vec<_> = all.iter().filter(|record| record.offset % 2 == 1).collect();
            assert_eq!(records(&rewritten).iter().collect::<Vec<_>>(), kept, "{codec}");
            let before = BatchHeader::parse(&bytes).unwrap();
            let after = BatchHeader::parse(&rewritten).unwrap();
            let expected = BatchHeader {
                records_count: 4,
                max_timestamp: 1007,
                crc: after.crc,
                batch_length: after.batch_length,
                ..before
            };
            assert_eq!(after, expected, "{codec}");
        }
    }

    #[test]
    fn a_delete_horizon_moves_no_timestamp_and_is_set_once() {
        for codec in Compression::ALL {
            let bytes = batch(codec, 5);
            let stored = StoredBatch::open(&bytes, LIMIT).unwrap();
            let dated = stored.retain(Some(90_000), |_| true).unwrap();
            assert_eq!(records(&dated), records(&bytes), "{codec}");
            let header = BatchHeader::parse(&dated).unwrap();
            assert!(header.has_delete_horizon());
            assert_eq!((header.base_timestamp, header.max_timestamp), (90_000, 1004));
            let stored = StoredBatch::open(&dated, LIMIT).unwrap();
            let again = stored.retain(Some(95_000), |_| true).unwrap();
            assert_eq!(again, dated, "{codec}: the first horizon holds");
            let fewer = stored.retain(Some(95_000), |record| record.offset < 2).unwrap();
            assert_eq!(BatchHeader::parse(&fewer).unwrap().base_timestamp, 90_000);
            assert_eq!(records(&fewer), records(&bytes)[..2]);
        }
    }

    #[test]
    fn append_time_stays_the_time_of_every_record() {
        let mut bytes = batch(Compression::None, 4);
        set_log_append_time(&mut bytes, 5555).unwrap();
        let stored = StoredBatch::open(&bytes, LIMIT).unwrap();
        let rewritten = stored.retain(Some(90_000), |record| record.offset == 2).unwrap();
        assert_eq!(records(&rewritten), records(&bytes)[2..3]);
        assert_eq!(records(&rewritten)[0].timestamp, 5555);
    }

    #[test]
    fn an_untouched_batch_is_returned_as_it_is() {
        let bytes = batch(Compression::Lz4, 4);
        let stored = StoredBatch::open(&bytes, LIMIT).unwrap();
        assert!(matches!(stored.retain(None, |_| true).unwrap(), Cow::Borrowed(_)));
    }

    #[test]
    fn an_emptied_batch_keeps_its_offsets_and_its_producer() {
        for codec in Compression::ALL {
            let bytes = batch(codec, 6);
            let stored = StoredBatch::open(&bytes, LIMIT).unwrap();
            let empty = stored.retain(Some(1), |_| false).unwrap();
            assert_eq!(empty.len(), BATCH_OVERHEAD);
            assert_eq!(records(&empty), []);
            let header = BatchHeader::parse(&empty).unwrap();
            assert_eq!((header.last_offset(), header.last_sequence()), (5, 45));
            assert_eq!((header.producer_id, header.producer_epoch), (7, 2));
            assert_eq!(header.max_timestamp, 1005);
            assert!(!header.has_delete_horizon());
            let again = StoredBatch::open(&empty, LIMIT).unwrap();
            assert_eq!(again.records().count(), 0);
        }
    }

    #[test]
    fn damaged_records_are_an_error_not_a_loss() {
        let bytes = batch(Compression::None, 3);
        for at in BATCH_OVERHEAD..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x55;
            let Ok(stored) = StoredBatch::open(&changed, LIMIT) else { continue };
            let seen: Result<Vec<_>, _> = stored.records().collect();
            if seen.is_err() {
                assert!(stored.retain(None, |_| true).is_err(), "byte {at}");
            }
        }
    }
}
