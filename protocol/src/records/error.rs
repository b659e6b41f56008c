//! What can be wrong with a record batch, and which kind of answer each fault deserves.

use std::fmt;

use super::Compression;

/// Why bytes are not a record batch that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchError {
    /// Fewer bytes than the header, or than the length in it.
    Truncated { needed: usize, available: usize },
    /// More bytes than the batch says it has, where exactly one batch was expected.
    TrailingBytes { batch: usize, available: usize },
    /// The length field is smaller than the header it counts.
    InvalidLength(i32),
    /// Not format version 2: 0 and 1 are the message sets of old clients, others are no version.
    UnsupportedMagic(i8),
    /// The checksum does not match the bytes.
    CrcMismatch { stored: u32, computed: u32 },
    /// The attributes name a codec that does not exist.
    UnsupportedCompression(i16),
    /// A record count that is not positive.
    InvalidCount(i32),
    /// The offsets are not as many as the records.
    InvalidOffsetRange { records_count: i32, last_offset_delta: i32 },
    /// One record, counted from 0 within its batch, is malformed.
    InvalidRecord { index: i32, fault: RecordFault },
    /// Compressed bytes that the codec does not understand.
    Undecodable { codec: Compression, reason: &'static str },
    /// The records inflate to more than `limit` bytes.
    InflatedTooLarge { limit: usize },
    /// A batch under construction would exceed what its length field can say.
    TooLarge,
    /// A control record whose key or value is not of a known version.
    InvalidControlRecord,
}

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordFault {
    /// The batch ends before this record: it holds fewer than it counts.
    Missing,
    /// Its length is no varint, negative, or beyond the end of the batch.
    Length,
    /// It is too short for its attributes and deltas.
    Prefix,
    /// Its offset delta is not its index.
    OffsetDelta { actual: i32 },
    /// Its key length is below -1 or beyond the record.
    KeyLength,
    /// Its value length is below -1 or beyond the record.
    ValueLength,
    /// Its header count is negative or more than the record can hold.
    HeaderCount,
    /// A header key is null or beyond the record.
    HeaderKeyLength,
    /// A header value length is below -1 or beyond the record.
    HeaderValueLength,
    /// It is longer than its fields.
    TrailingBytes,
    /// It is the last one counted, and bytes follow it in the batch.
    TrailingRecords,
}

/// The answer a fault deserves; handlers map each to one error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchFault {
    /// Damaged on the way or on disk, a repeated send may help: `CORRUPT_MESSAGE`.
    Corrupt,
    /// A message set v0 or v1. Apache Kafka 4 answers `INVALID_RECORD` to a produce request
    /// carrying one (its check that every batch has magic 2), not
    /// `UNSUPPORTED_FOR_MESSAGE_FORMAT`, which is for conversions that no longer exist.
    OldMessageFormat,
    /// No such codec: `UNSUPPORTED_COMPRESSION_TYPE`.
    UnsupportedCompression,
    /// Well transmitted but wrong, a repeated send is wrong again: `INVALID_RECORD`.
    Invalid,
    /// Beyond a limit of ours: `MESSAGE_TOO_LARGE`.
    TooLarge,
}

impl BatchError {
    /// The kind of answer this error deserves.
    #[must_use]
    pub fn fault(&self) -> BatchFault {
        match self {
            Self::UnsupportedMagic(0 | 1) => BatchFault::OldMessageFormat,
            Self::Truncated { .. }
            | Self::InvalidLength(_)
            | Self::UnsupportedMagic(_)
            | Self::CrcMismatch { .. } => BatchFault::Corrupt,
            Self::UnsupportedCompression(_) => BatchFault::UnsupportedCompression,
            // Undecodable bytes under a matching checksum were sent that way: not retriable.
            Self::TrailingBytes { .. }
            | Self::InvalidCount(_)
            | Self::InvalidOffsetRange { .. }
            | Self::InvalidRecord { .. }
            | Self::Undecodable { .. }
            | Self::InvalidControlRecord => BatchFault::Invalid,
            Self::InflatedTooLarge { .. } | Self::TooLarge => BatchFault::TooLarge,
        }
    }

    /// Index within the batch of the record at fault, for the record errors of a produce response.
    #[must_use]
    pub fn record_index(&self) -> Option<i32> {
        match self {
            Self::InvalidRecord { index, .. } => Some(*index),
            _ => None,
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, available } => {
                write!(f, "record batch is cut off: {available} of {needed} bytes")
            }
            Self::TrailingBytes { batch, available } => {
                write!(f, "{available} bytes where one record batch of {batch} bytes was expected")
            }
            Self::InvalidLength(length) => {
                write!(f, "record batch length {length} is less than its header of 49 bytes")
            }
            Self::UnsupportedMagic(magic) => {
                write!(f, "record batch has magic {magic}; only version 2 is supported")
            }
            Self::CrcMismatch { stored, computed } => {
                write!(f, "record batch has checksum {stored:08x}, its bytes have {computed:08x}")
            }
            Self::UnsupportedCompression(id) => write!(f, "record batch has unknown codec {id}"),
            Self::InvalidCount(count) => write!(f, "record batch has a record count of {count}"),
            Self::InvalidOffsetRange { records_count, last_offset_delta } => write!(
                f,
                "record batch of {records_count} records has last offset delta {last_offset_delta}"
            ),
            Self::InvalidRecord { index, fault } => write!(f, "record {index}: {fault}"),
            Self::Undecodable { codec, reason } => write!(f, "invalid {codec} data: {reason}"),
            Self::InflatedTooLarge { limit } => {
                write!(f, "record batch inflates to more than {limit} bytes")
            }
            Self::TooLarge => write!(f, "record batch would exceed 2147483647 bytes"),
            Self::InvalidControlRecord => write!(f, "control record has an unknown form"),
        }
    }
}

impl std::error::Error for BatchError {}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing, the batch ends before it",
            Self::Length => "length is invalid or beyond the batch",
            Self::Prefix => "too short for attributes and deltas",
            Self::OffsetDelta { actual } => {
                return write!(f, "offset delta is {actual} instead of its index");
            }
            Self::KeyLength => "key length is invalid or beyond the record",
            Self::ValueLength => "value length is invalid or beyond the record",
            Self::HeaderCount => "header count is invalid or beyond the record",
            Self::HeaderKeyLength => "header key length is invalid or beyond the record",
            Self::HeaderValueLength => "header value length is invalid or beyond the record",
            Self::TrailingBytes => "length is more than its fields",
            Self::TrailingRecords => "bytes follow it though it is the last one counted",
        })
    }
}
