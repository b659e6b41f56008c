//! Record batches, format version 2: the unit in which records are sent, stored and fetched.
//!
//! A broker checks the checksum and walks over all records, inflated where they are compressed, and
//! stores the bytes as they came. Nothing here panics on or allocates from the bytes it is given,
//! and inflating stops at the limit of the caller.
//!
//! Message sets v0 and v1 are recognised by their magic byte and refused.

mod builder;
mod check;
mod compression;
mod control;
mod crc;
mod error;
mod header;
mod inflate;
mod iter;
mod lz4;
mod recompress;
mod record;
mod snappy;
mod stored;
mod varint;

#[cfg(test)]
mod tests;

pub use builder::BatchBuilder;
pub use check::{
    Inspection, RecordFacts, check_crc, check_structure, inspect, inspect_inflated, inspect_with,
    record_facts,
};
pub use compression::{Compression, TimestampType, compress};
pub use control::{
    ControlType, EndTransactionMarker, control_type, control_type_of, coordinator_epoch,
};
pub use crc::crc32c;
pub use error::{BatchError, BatchFault, RecordFault};
pub use header::{
    BATCH_OVERHEAD, BatchHeader, increment_sequence, patched_prefix, set_log_append_time,
    set_max_timestamp, set_producer,
};
pub use inflate::{Inflater, decompress};
pub use iter::{Batch, Record, Records, Split, split};
pub use recompress::{Codec, recompress};
pub use stored::{StoredBatch, StoredRecord, StoredRecords, emptied};
