//! Control batches: the markers that end a transaction in each of its partitions.
//!
//! A marker is a batch of one record with the control and transactional bits set, no sequence
//! number, uncompressed. Key: version i16, type i16. Value of a marker: version i16, epoch of the
//! coordinator i32. Consumers take their offset and skip their content.

use bytes::Bytes;

use super::{BatchBuilder, BatchError, Compression, Record, StoredBatch};

/// Version of keys and values that we write; later versions may only add fields at the end.
const VERSION: i16 = 0;

/// Inflated bytes of the largest control batch that is looked into.
const CONTROL_BYTES_MAX: usize = 64 * 1024;

/// What a control record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlType {
    /// The transaction's records are to be skipped by read-committed consumers.
    Abort,
    /// The transaction's records are valid.
    Commit,
    /// A type of another log or of a later version, to be skipped.
    Other(i16),
}

impl ControlType {
    /// The number in the record key.
    #[must_use]
    pub fn id(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::Other(id) => id,
        }
    }

    fn from_id(id: i16) -> Self {
        match id {
            0 => Self::Abort,
            1 => Self::Commit,
            other => Self::Other(other),
        }
    }
}

/// The end of a producer's transaction in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndTransactionMarker {
    /// Commit or abort.
    pub control: ControlType,
    /// Producer whose transaction ends.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Epoch of the transaction coordinator, which fences older coordinators.
    pub coordinator_epoch: i32,
    /// When it was decided, milliseconds since the Unix epoch.
    pub timestamp: i64,
}

impl EndTransactionMarker {
    /// The control batch, ready to be appended.
    #[must_use]
    pub fn build(&self) -> Bytes {
        let [v0, v1] = VERSION.to_be_bytes();
        let [t0, t1] = self.control.id().to_be_bytes();
        let [e0, e1, e2, e3] = self.coordinator_epoch.to_be_bytes();
        let mut builder = BatchBuilder::new(Compression::None);
        builder.producer(self.producer_id, self.producer_epoch, -1).transactional().control();
        let key = [v0, v1, t0, t1];
        let value = [v0, v1, e0, e1, e2, e3];
        builder
            .append(self.timestamp, Some(&key), Some(&value), &[])
            .expect("a record of 10 bytes fits");
        builder.build()
    }
}

/// What the key of a control record says.
///
/// # Errors
/// `InvalidControlRecord` without a key of at least 4 bytes, or with a negative version.
pub fn control_type(record: &Record) -> Result<ControlType, BatchError> {
    let key = record.key.as_deref().and_then(|key| key.first_chunk());
    let Some(&[v0, v1, t0, t1]) = key else { return Err(BatchError::InvalidControlRecord) };
    if i16::from_be_bytes([v0, v1]) < VERSION {
        return Err(BatchError::InvalidControlRecord);
    }
    Ok(ControlType::from_id(i16::from_be_bytes([t0, t1])))
}

/// What a control batch says, as far as it can be told: a later version may hold several records or
/// compress them, and none of its types is one of ours.
#[must_use]
pub fn control_type_of(batch: &[u8]) -> ControlType {
    let unknown = ControlType::Other(-1);
    let Ok(batch) = StoredBatch::open(batch, CONTROL_BYTES_MAX) else { return unknown };
    let Some(Ok(record)) = batch.records().next() else { return unknown };
    let key = record.key.map(Bytes::copy_from_slice);
    control_type(&Record { key, ..Record::default() }).unwrap_or(unknown)
}

/// The coordinator epoch in the value of a commit or abort marker.
///
/// # Errors
/// `InvalidControlRecord` without a value of at least 6 bytes, or with a negative version.
pub fn coordinator_epoch(record: &Record) -> Result<i32, BatchError> {
    let value = record.value.as_deref().and_then(|value| value.first_chunk());
    let Some(&[v0, v1, e0, e1, e2, e3]) = value else {
        return Err(BatchError::InvalidControlRecord);
    };
    if i16::from_be_bytes([v0, v1]) < VERSION {
        return Err(BatchError::InvalidControlRecord);
    }
    Ok(i32::from_be_bytes([e0, e1, e2, e3]))
}
