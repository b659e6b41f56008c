//! Writing a record batch.
//!
//! Records are encoded as they come, behind room for the header; an uncompressed batch is finished
//! in place, a compressed one is compressed as a whole at the end. A batch always has base offset 0
//! and leader epoch -1: its place in the log is the broker's to give ([`patched_prefix`]).
//!
//! [`patched_prefix`]: super::patched_prefix

use bytes::Bytes;

use super::compression::compress;
use super::header::{CRC_START, NO_PRODUCER, attributes};
use super::varint::{varint_len, varlong_len, write_varint, write_varlong};
use super::{BATCH_OVERHEAD, BatchError, BatchHeader, Compression, crc32c};

/// A record batch under construction.
///
/// ```
/// use sawlog_protocol::records::{Batch, BatchBuilder, Compression};
///
/// let mut builder = BatchBuilder::new(Compression::Zstd);
/// builder.append(1_700_000_000_000, Some(b"key"), Some(b"value"), &[("h", None)])?;
/// let batch = Batch::parse(builder.build())?;
/// let record = batch.records(1 << 20)?.next().expect("one record")?;
/// assert_eq!(record.value.as_deref(), Some(&b"value"[..]));
/// # Ok::<(), sawlog_protocol::records::BatchError>(())
/// ```
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    compression: Compression,
    level: Option<i32>,
    transactional: bool,
    control: bool,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    /// Room for the header, then the encoded records.
    buffer: Vec<u8>,
}

impl BatchBuilder {
    /// An empty batch whose records will be compressed with `compression`.
    #[must_use]
    pub fn new(compression: Compression) -> Self {
        Self {
            compression,
            level: None,
            transactional: false,
            control: false,
            producer_id: i64::from(NO_PRODUCER),
            producer_epoch: i16::from(NO_PRODUCER),
            base_sequence: i32::from(NO_PRODUCER),
            count: 0,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            buffer: vec![0; BATCH_OVERHEAD],
        }
    }

    /// Makes room for `bytes` of encoded records at once.
    #[must_use]
    pub fn with_capacity(mut self, bytes: usize) -> Self {
        self.buffer.reserve(bytes);
        self
    }

    /// Compression level of gzip (0–9) or zstd (1–22) instead of the codec's default.
    #[must_use]
    pub fn with_level(mut self, level: i32) -> Self {
        self.level = Some(level);
        self
    }

    /// Marks the batch as written by an idempotent producer; `base_sequence` is the sequence
    /// number of the first record.
    pub fn producer(&mut self, id: i64, epoch: i16, base_sequence: i32) -> &mut Self {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// Marks the batch as part of a transaction.
    pub fn transactional(&mut self) -> &mut Self {
        self.transactional = true;
        self
    }

    pub(super) fn control(&mut self) -> &mut Self {
        self.control = true;
        self
    }

    /// Adds a record; `timestamp` is in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// `TooLarge` when the batch would exceed what its length field can say; the batch is then as
    /// it was before.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<(), BatchError> {
        let base_timestamp = if self.count == 0 { timestamp } else { self.base_timestamp };
        let offset_delta = self.count;
        let timestamp_delta = timestamp.wrapping_sub(base_timestamp);

        let mut length = 1 + varlong_len(timestamp_delta) + varint_len(offset_delta);
        length = length.saturating_add(nullable_len(key)?).saturating_add(nullable_len(value)?);
        let header_count = int(headers.len())?;
        length = length.saturating_add(varint_len(header_count));
        for (name, content) in headers {
            length = length.saturating_add(nullable_len(Some(name.as_bytes()))?);
            length = length.saturating_add(nullable_len(*content)?);
        }
        let record_length = int(length)?;
        // Leaves room for a codec that cannot shrink the records.
        let total = self.buffer.len().saturating_add(length).saturating_add(varint_len(i32::MAX));
        if total > BATCH_LEN_MAX || self.count == i32::MAX {
            return Err(BatchError::TooLarge);
        }

        let output = &mut self.buffer;
        output.reserve(length + varint_len(record_length));
        write_varint(output, record_length);
        output.push(0);
        write_varlong(output, timestamp_delta);
        write_varint(output, offset_delta);
        write_nullable(output, key)?;
        write_nullable(output, value)?;
        write_varint(output, header_count);
        for (name, content) in headers {
            write_nullable(output, Some(name.as_bytes()))?;
            write_nullable(output, *content)?;
        }
        self.max_timestamp =
            if self.count == 0 { timestamp } else { self.max_timestamp.max(timestamp) };
        self.base_timestamp = base_timestamp;
        self.count += 1;
        Ok(())
    }

    /// Records so far.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::try_from(self.count).unwrap_or(0)
    }

    /// Whether there is no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the batch without compression.
    #[must_use]
    pub fn estimated_len(&self) -> usize {
        self.buffer.len()
    }

    /// The finished batch with its checksum. Without a record it is an empty batch, which a broker
    /// refuses.
    #[must_use]
    pub fn build(self) -> Bytes {
        let records = self.buffer.get(BATCH_OVERHEAD..).unwrap_or_default();
        if self.compression == Compression::None {
            return self.finish(Compression::None, None);
        }
        let mut batch = Vec::with_capacity(BATCH_OVERHEAD + records.len() / 2);
        batch.resize(BATCH_OVERHEAD, 0);
        let codec = self.compression;
        match compress(codec, self.level, records, &mut batch) {
            Ok(()) if batch.len() <= BATCH_LEN_MAX + SLACK => self.finish(codec, Some(batch)),
            // A codec without memory or with a wrong level: the batch is valid as it is.
            Ok(()) | Err(_) => self.finish(Compression::None, None),
        }
    }

    fn finish(self, compression: Compression, compressed: Option<Vec<u8>>) -> Bytes {
        let mut batch = compressed.unwrap_or(self.buffer);
        let mut header = BatchHeader {
            base_offset: 0,
            batch_length: int(batch.len().saturating_sub(12)).unwrap_or(i32::MAX),
            partition_leader_epoch: -1,
            magic: 2,
            crc: 0,
            attributes: attributes(compression, self.transactional, self.control),
            last_offset_delta: self.count.saturating_sub(1).max(0),
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            records_count: self.count,
        };
        write_header(&mut batch, &header);
        header.crc = crc32c(batch.get(CRC_START..).unwrap_or_default());
        write_header(&mut batch, &header);
        Bytes::from(batch)
    }
}

/// Of a batch without records.
const NO_TIMESTAMP: i64 = -1;
/// Room left for the overhead of a codec on incompressible records (zstd: 1/256).
const SLACK: usize = 16 << 20;
/// Uncompressed bytes of the largest batch that can be built.
const BATCH_LEN_MAX: usize = (1 << 31) - 1 - SLACK;

fn write_header(batch: &mut [u8], header: &BatchHeader) {
    if let Some(place) = batch.first_chunk_mut() {
        *place = header.to_bytes();
    }
}

fn int(length: usize) -> Result<i32, BatchError> {
    i32::try_from(length).map_err(|_| BatchError::TooLarge)
}

fn nullable_len(bytes: Option<&[u8]>) -> Result<usize, BatchError> {
    match bytes {
        None => Ok(1),
        Some(bytes) => Ok(bytes.len().saturating_add(varint_len(int(bytes.len())?))),
    }
}

fn write_nullable(output: &mut Vec<u8>, bytes: Option<&[u8]>) -> Result<(), BatchError> {
    match bytes {
        None => write_varint(output, -1),
        Some(bytes) => {
            write_varint(output, int(bytes.len())?);
            output.extend_from_slice(bytes);
        }
    }
    Ok(())
}
