//! Record batches, format version 2: the unit in which records are sent, stored and fetched.
//!
//! A broker reads the header, checks the checksum and the structure, and stores the bytes as they
//! came; only clients and tools look inside compressed batches. Nothing here panics on or allocates
//! from the bytes it is given, and inflating stops at the limit of the caller.
//!
//! Message sets v0 and v1 are recognised by their magic byte and refused.

mod builder;
mod check;
mod compression;
mod control;
mod crc;
mod error;
mod header;
mod iter;
mod lz4;
mod record;
mod snappy;
mod stored;
mod varint;

#[cfg(test)]
mod tests;

pub use builder::BatchBuilder;
pub use check::{Inspection, check_crc, check_structure, inspect, inspect_inflated};
pub use compression::{Compression, TimestampType, decompress};
pub use control::{ControlType, EndTransactionMarker, control_type, coordinator_epoch};
pub use crc::crc32c;
pub use error::{BatchError, BatchFault, RecordFault};
pub use header::{
    BATCH_OVERHEAD, BatchHeader, increment_sequence, patched_prefix, set_log_append_time,
    set_max_timestamp,
};
pub use iter::{Batch, Record, Records, Split, split};
pub use stored::{StoredBatch, StoredRecord, StoredRecords, emptied};
