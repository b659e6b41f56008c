//! Reading: consecutive batches of a byte range, and the records of one batch.
//!
//! Batches are slices of the bytes they came in; records are slices of their (inflated) batch. Any
//! offsets are accepted inside a batch, since compaction leaves gaps; [`check_structure`] is the
//! strict look at what producers send.
//!
//! [`check_structure`]: super::check_structure

use std::iter::FusedIterator;

use bytes::Bytes;

use super::header::whole_batch;
use super::record::{RawRecord, headers_end, next_header};
use super::{
    BATCH_OVERHEAD, BatchError, BatchHeader, Compression, RecordFault, TimestampType, decompress,
};

/// The whole batches of `bytes`, one after the other, without copying.
///
/// A batch cut off by the end of the bytes ends the iteration silently: a fetch may return a part
/// of the last one. After an error the iteration ends.
#[must_use]
pub fn split(bytes: &Bytes) -> Split {
    Split { rest: bytes.clone() }
}

/// Iterator of [`split`].
#[derive(Debug, Clone)]
pub struct Split {
    rest: Bytes,
}

impl Split {
    /// What was not yielded: the cut-off batch at the end, once the iteration ended without error.
    #[must_use]
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }
}

impl Iterator for Split {
    type Item = Result<(BatchHeader, Bytes), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let header = match BatchHeader::parse(&self.rest) {
            Ok(header) => header,
            Err(BatchError::Truncated { .. }) => return None,
            Err(error) => {
                self.rest = Bytes::new();
                return Some(Err(error));
            }
        };
        let length = header.total_len();
        if length > self.rest.len() {
            return None;
        }
        Some(Ok((header, self.rest.split_to(length))))
    }
}

impl FusedIterator for Split {}

/// One whole batch and its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The header at the start of `bytes`.
    pub header: BatchHeader,
    /// The batch as on the wire.
    pub bytes: Bytes,
}

impl Batch {
    /// Takes exactly one batch. The checksum is not looked at, see [`check_crc`].
    ///
    /// # Errors
    /// As [`BatchHeader::parse`]; `Truncated` or `TrailingBytes` if it is not exactly one batch.
    ///
    /// [`check_crc`]: super::check_crc
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(&bytes)?;
        whole_batch(&bytes, &header)?;
        Ok(Self { header, bytes })
    }

    /// The records. Compressed ones are inflated here, to at most `limit` bytes.
    ///
    /// # Errors
    /// `UnsupportedCompression`, `Undecodable`, `InflatedTooLarge`, `InvalidCount` if negative.
    pub fn records(&self, limit: usize) -> Result<Records, BatchError> {
        if self.header.records_count < 0 {
            return Err(BatchError::InvalidCount(self.header.records_count));
        }
        let records = self.bytes.get(BATCH_OVERHEAD..).unwrap_or_default();
        let data = match self.header.compression()? {
            Compression::None => self.bytes.slice_ref(records),
            codec => Bytes::from(decompress(codec, records, limit)?),
        };
        Ok(Records { header: self.header, data, index: 0 })
    }
}

/// One record, sharing the bytes of its batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Offset in the partition.
    pub offset: i64,
    /// Milliseconds since the Unix epoch, -1 for none; the append time if the batch has it.
    pub timestamp: i64,
    /// Reserved by the format, 0.
    pub attributes: i8,
    /// Key, which may be null.
    pub key: Option<Bytes>,
    /// Value; null is a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// Headers in order, keys may repeat. Keys are UTF-8 by the format, which is not checked.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// The records of a batch, in order. Ends after an error.
#[derive(Debug, Clone)]
pub struct Records {
    header: BatchHeader,
    /// Inflated records that were not yielded yet.
    data: Bytes,
    /// Index of the next record within the batch.
    index: i32,
}

impl Records {
    /// Bytes of the records not yielded yet, inflated.
    #[must_use]
    pub fn remaining_bytes(&self) -> usize {
        self.data.len()
    }

    fn next_record(&mut self) -> Result<Record, RecordFault> {
        if self.data.is_empty() {
            return Err(RecordFault::Missing);
        }
        let mut rest = &*self.data;
        let raw = RawRecord::parse(&mut rest)?;
        let shared = |slice: &[u8]| self.data.slice_ref(slice);
        // A header takes two bytes or more, so the count is bounded by the bytes that are there.
        let mut headers = Vec::with_capacity(raw.header_count.min(64));
        let mut header_bytes = raw.headers;
        for _ in 0..raw.header_count {
            let (key, value) = next_header(&mut header_bytes)?;
            headers.push((shared(key), value.map(shared)));
        }
        headers_end(header_bytes)?;
        let record = Record {
            offset: self.header.base_offset.wrapping_add(i64::from(raw.offset_delta)),
            timestamp: match self.header.timestamp_type() {
                TimestampType::CreateTime => {
                    self.header.base_timestamp.wrapping_add(raw.timestamp_delta)
                }
                TimestampType::LogAppendTime => self.header.max_timestamp,
            },
            attributes: raw.attributes,
            key: raw.key.map(shared),
            value: raw.value.map(shared),
            headers,
        };
        let consumed = self.data.len() - rest.len();
        bytes::Buf::advance(&mut self.data, consumed);
        Ok(record)
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let count = self.header.records_count;
        if self.index >= count {
            if self.data.is_empty() {
                return None;
            }
            self.data = Bytes::new();
            let (index, fault) = (count.saturating_sub(1), RecordFault::TrailingRecords);
            return Some(Err(BatchError::InvalidRecord { index, fault }));
        }
        let index = self.index;
        match self.next_record() {
            Ok(record) => {
                self.index += 1;
                Some(Ok(record))
            }
            Err(fault) => {
                self.index = count;
                self.data = Bytes::new();
                Some(Err(BatchError::InvalidRecord { index, fault }))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The smallest record has 7 bytes, and an error may follow the last one.
        let counted = usize::try_from(self.header.records_count - self.index).unwrap_or(0);
        (0, Some(counted.saturating_add(1)))
    }
}

impl FusedIterator for Records {}
