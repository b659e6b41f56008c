//! The fixed header of a record batch, format version 2.
//!
//! ```text
//!  0 base_offset i64 | 8 batch_length i32 | 12 partition_leader_epoch i32 | 16 magic i8
//! 17 crc u32 | 21 attributes i16 | 23 last_offset_delta i32 | 27 base_timestamp i64
//! 35 max_timestamp i64 | 43 producer_id i64 | 51 producer_epoch i16 | 53 base_sequence i32
//! 57 records_count i32 | 61 records, compressed as a whole
//! ```
//!
//! `batch_length` counts from byte 12. The checksum covers byte 21 to the end, so a broker may set
//! the base offset and the leader epoch without touching it. A header that was parsed has magic 2
//! and a length of at least the header; nothing else about it is trusted here.

use super::{BatchError, Compression, TimestampType, crc32c};

/// Bytes before the first record.
pub const BATCH_OVERHEAD: usize = 61;

/// Bytes before the part that `batch_length` counts.
const LENGTH_START: usize = 12;
/// What `batch_length` is at least: the header after the length field.
const LENGTH_MIN: i32 = 49;
const MAGIC_POSITION: usize = 16;
const CRC_POSITION: usize = 17;
/// Where the checksummed part starts.
pub(super) const CRC_START: usize = 21;
const MAGIC: i8 = 2;

const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const DELETE_HORIZON: i16 = 0x40;

/// No producer id, epoch or sequence number.
pub(super) const NO_PRODUCER: i8 = -1;

/// The header fields as they are on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record, also after compaction removed that record.
    pub base_offset: i64,
    /// Bytes of the batch after this field's end, at least 49.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch; what a client writes here means nothing.
    pub partition_leader_epoch: i32,
    /// Format version, 2.
    pub magic: i8,
    /// CRC-32C from the attributes to the end.
    pub crc: u32,
    /// Codec in bits 0–2, then timestamp type, transactional, control, delete horizon.
    pub attributes: i16,
    /// Last offset of the batch minus the base offset.
    pub last_offset_delta: i32,
    /// Timestamp the deltas of the records count from; milliseconds since the Unix epoch.
    pub base_timestamp: i64,
    /// Largest timestamp of the batch, or the append time; -1 where a client left it out.
    pub max_timestamp: i64,
    /// -1 for a producer that is not idempotent.
    pub producer_id: i64,
    /// -1 for a producer that is not idempotent.
    pub producer_epoch: i16,
    /// Sequence number of the first record, -1 for a producer that is not idempotent.
    pub base_sequence: i32,
    /// Records in the batch.
    pub records_count: i32,
}

impl BatchHeader {
    /// Bytes at the start that `batch_length` does not count.
    pub(super) const UNCOUNTED: usize = LENGTH_START;

    /// Reads the header at the start of `bytes`, which may end before the batch does.
    ///
    /// # Errors
    /// `UnsupportedMagic`, found even in an old message shorter than this header; `InvalidLength`;
    /// `Truncated` below 61 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        // The magic byte stands at the same place in all versions, so it is looked at first.
        if let Some(&[magic]) = bytes.get(MAGIC_POSITION..).and_then(|b| b.first_chunk()) {
            let magic = magic.cast_signed();
            if magic != MAGIC {
                return Err(BatchError::UnsupportedMagic(magic));
            }
        }
        let header = Self::read(bytes)
            .ok_or(BatchError::Truncated { needed: BATCH_OVERHEAD, available: bytes.len() })?;
        if header.batch_length < LENGTH_MIN {
            return Err(BatchError::InvalidLength(header.batch_length));
        }
        Ok(header)
    }

    fn read(mut bytes: &[u8]) -> Option<Self> {
        let input = &mut bytes;
        Some(Self {
            base_offset: i64::from_be_bytes(take(input)?),
            batch_length: i32::from_be_bytes(take(input)?),
            partition_leader_epoch: i32::from_be_bytes(take(input)?),
            magic: i8::from_be_bytes(take(input)?),
            crc: u32::from_be_bytes(take(input)?),
            attributes: i16::from_be_bytes(take(input)?),
            last_offset_delta: i32::from_be_bytes(take(input)?),
            base_timestamp: i64::from_be_bytes(take(input)?),
            max_timestamp: i64::from_be_bytes(take(input)?),
            producer_id: i64::from_be_bytes(take(input)?),
            producer_epoch: i16::from_be_bytes(take(input)?),
            base_sequence: i32::from_be_bytes(take(input)?),
            records_count: i32::from_be_bytes(take(input)?),
        })
    }

    /// The header as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; BATCH_OVERHEAD] {
        let mut bytes = [0; BATCH_OVERHEAD];
        let mut rest = bytes.as_mut_slice();
        let output = &mut rest;
        put(output, self.base_offset.to_be_bytes());
        put(output, self.batch_length.to_be_bytes());
        put(output, self.partition_leader_epoch.to_be_bytes());
        put(output, self.magic.to_be_bytes());
        put(output, self.crc.to_be_bytes());
        put(output, self.attributes.to_be_bytes());
        put(output, self.last_offset_delta.to_be_bytes());
        put(output, self.base_timestamp.to_be_bytes());
        put(output, self.max_timestamp.to_be_bytes());
        put(output, self.producer_id.to_be_bytes());
        put(output, self.producer_epoch.to_be_bytes());
        put(output, self.base_sequence.to_be_bytes());
        put(output, self.records_count.to_be_bytes());
        bytes
    }

    /// Bytes of the whole batch, header included.
    #[must_use]
    pub fn total_len(&self) -> usize {
        LENGTH_START.saturating_add(usize::try_from(self.batch_length).unwrap_or(0))
    }

    /// Offset of the last record (inclusive).
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Offset after the last record: the base offset of the batch that follows.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Codec of the records.
    ///
    /// # Errors
    /// `UnsupportedCompression` for the codec numbers 5, 6 and 7.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        let id = self.attributes & COMPRESSION_MASK;
        Compression::from_id(id).ok_or(BatchError::UnsupportedCompression(id))
    }

    /// Whether the timestamps are the producer's or the broker's.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether the batch holds a control record, which only brokers write.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Whether `base_timestamp` is the time from which compaction may drop the batch's tombstones.
    #[must_use]
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes & DELETE_HORIZON != 0
    }

    /// Whether an idempotent or transactional producer wrote the batch.
    #[must_use]
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > i64::from(NO_PRODUCER)
    }

    /// Sequence number of the last record; after 2^31-1 comes 0. -1 without sequence numbers.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return i32::from(NO_PRODUCER);
        }
        increment_sequence(self.base_sequence, self.last_offset_delta)
    }
}

/// The sequence number `by` records after `sequence`; after 2^31-1 comes 0.
#[must_use]
pub fn increment_sequence(sequence: i32, by: i32) -> i32 {
    let wrapped = (i64::from(sequence) + i64::from(by)).rem_euclid(1 << 31);
    i32::try_from(wrapped).unwrap_or(0)
}

/// The first 16 bytes of the batch with its place in the log: base offset, length, leader epoch.
///
/// They lie outside the checksum, so an append writes these and then the received bytes from 16 on.
#[must_use]
pub fn patched_prefix(header: &BatchHeader, base_offset: i64, leader_epoch: i32) -> [u8; 16] {
    let mut prefix = [0; 16];
    let mut rest = prefix.as_mut_slice();
    put(&mut rest, base_offset.to_be_bytes());
    put(&mut rest, header.batch_length.to_be_bytes());
    put(&mut rest, leader_epoch.to_be_bytes());
    prefix
}

/// Makes `timestamp` the append time of every record of the batch: sets the timestamp type and the
/// max timestamp, and recomputes the checksum. Returns the header as it is now.
///
/// # Errors
/// As [`BatchHeader::parse`], and `Truncated` or `TrailingBytes` unless `batch` is one whole batch;
/// then nothing was changed.
pub fn set_log_append_time(batch: &mut [u8], timestamp: i64) -> Result<BatchHeader, BatchError> {
    rewrite(batch, |header| {
        header.attributes |= LOG_APPEND_TIME;
        header.max_timestamp = timestamp;
    })
}

/// Sets the max timestamp and recomputes the checksum, for batches of clients that leave it out.
/// Returns the header as it is now.
///
/// # Errors
/// As [`set_log_append_time`].
pub fn set_max_timestamp(batch: &mut [u8], timestamp: i64) -> Result<BatchHeader, BatchError> {
    rewrite(batch, |header| header.max_timestamp = timestamp)
}

/// Makes the batch one of an idempotent producer, whose first record has sequence number
/// `base_sequence`, and recomputes the checksum: a producer may build a batch before it knows, and
/// number it again under a new epoch. Returns the header as it is now.
///
/// # Errors
/// As [`set_log_append_time`].
pub fn set_producer(
    batch: &mut [u8],
    (producer_id, producer_epoch): (i64, i16),
    base_sequence: i32,
) -> Result<BatchHeader, BatchError> {
    rewrite(batch, |header| {
        header.producer_id = producer_id;
        header.producer_epoch = producer_epoch;
        header.base_sequence = base_sequence;
    })
}

fn rewrite(
    batch: &mut [u8],
    change: impl FnOnce(&mut BatchHeader),
) -> Result<BatchHeader, BatchError> {
    let mut header = BatchHeader::parse(batch)?;
    whole_batch(batch, &header)?;
    change(&mut header);
    put_at(batch, 0, header.to_bytes());
    header.crc = crc32c(batch.get(CRC_START..).unwrap_or_default());
    put_at(batch, CRC_POSITION, header.crc.to_be_bytes());
    Ok(header)
}

/// Checks that `batch` is as long as its header says.
pub(super) fn whole_batch(batch: &[u8], header: &BatchHeader) -> Result<(), BatchError> {
    let needed = header.total_len();
    let available = batch.len();
    match available.cmp(&needed) {
        std::cmp::Ordering::Less => Err(BatchError::Truncated { needed, available }),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(BatchError::TrailingBytes { batch: needed, available }),
    }
}

/// The header with the bits of another codec.
pub(super) fn with_compression(header: &BatchHeader, compression: Compression) -> BatchHeader {
    let attributes = (header.attributes & !COMPRESSION_MASK) | compression.id();
    BatchHeader { attributes, ..*header }
}

/// The attribute bits of a batch under construction.
pub(super) fn attributes(compression: Compression, transactional: bool, control: bool) -> i16 {
    compression.id()
        | if transactional { TRANSACTIONAL } else { 0 }
        | if control { CONTROL } else { 0 }
}

/// Takes the codec out of the attributes.
pub(super) fn set_uncompressed(header: &mut BatchHeader) {
    header.attributes &= !COMPRESSION_MASK;
}

/// Makes `horizon` the time from which compaction may drop the batch's tombstones; the records'
/// timestamp deltas count from it.
pub(super) fn set_delete_horizon(header: &mut BatchHeader, horizon: i64) {
    header.attributes |= DELETE_HORIZON;
    header.base_timestamp = horizon;
}

/// Takes the delete horizon out of the attributes.
pub(super) fn clear_delete_horizon(header: &mut BatchHeader) {
    header.attributes &= !DELETE_HORIZON;
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (field, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*field)
}

/// Writes `field` and moves past it; the caller's buffer holds all its fields.
fn put<const N: usize>(output: &mut &mut [u8], field: [u8; N]) {
    if let Some((place, rest)) = std::mem::take(output).split_first_chunk_mut() {
        *place = field;
        *output = rest;
    }
}

fn put_at<const N: usize>(bytes: &mut [u8], position: usize, field: [u8; N]) {
    if let Some(mut place) = bytes.get_mut(position..) {
        put(&mut place, field);
    }
}
