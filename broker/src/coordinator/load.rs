//! Reading a partition of `__consumer_offsets` from its start.

use sawlog_protocol::records::{Batch, BatchError, split};
use sawlog_protocol::wire::VersionedError;
use tracing::warn;

use super::core::GroupCore;
use super::stored;
use crate::base::Offset;
use crate::base::limits::BATCH_INFLATED_BYTES_MAX;
use crate::replication::Partition;
use crate::storage::ReadError;

/// Bytes read at once.
const READ_BYTES: usize = 1024 * 1024;

/// Why the groups of a partition are not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("batch behind offset {0}: {1}")]
    Batch(Offset, BatchError),
    #[error("offset {0}: {1}")]
    Content(Offset, VersionedError),
    #[error("nothing can be read at offset {0}, and the log goes on to {1}")]
    Hole(Offset, Offset),
}

/// Brings all records below `until` to `core`, in order. Blocks on the disk.
///
/// # Errors
/// What is in the log cannot be read, or is of a version that is not known: a group must not come
/// back with part of what it has committed.
pub(super) fn load(
    partition: &Partition,
    until: Offset,
    core: &mut GroupCore,
) -> Result<usize, LoadError> {
    let mut at = partition.log_start();
    let mut count = 0;
    while at < until {
        let bytes = partition.read_whole(at, until, READ_BYTES)?;
        let before = at;
        for batch in split(&bytes) {
            let (header, bytes) = batch.map_err(|error| LoadError::Batch(at, error))?;
            if !header.is_control() {
                count += replay(&Batch { header, bytes }, at, core)?;
            }
            at = Offset(header.next_offset());
        }
        if at <= before {
            return Err(LoadError::Hole(at, until));
        }
    }
    Ok(count)
}

fn replay(batch: &Batch, from: Offset, core: &mut GroupCore) -> Result<usize, LoadError> {
    let records =
        batch.records(BATCH_INFLATED_BYTES_MAX).map_err(|error| LoadError::Batch(from, error))?;
    let mut count = 0;
    for record in records {
        let record = record.map_err(|error| LoadError::Batch(from, error))?;
        let offset = Offset(record.offset);
        let Some(key) = record.key else { continue };
        match stored::decode(&key, record.value.as_ref()) {
            Ok(Some(known)) => {
                core.replay(known, offset);
                count += 1;
            }
            Ok(None) => {}
            // The batch is whole, so nobody damaged it: whoever may write the topic wrote this. It
            // says nothing about a group, and must not keep all the others from being served.
            Err(VersionedError::Malformed(error)) => {
                warn!(%offset, %error, "groups: a record that is not one of groups is passed over");
            }
            Err(error) => return Err(LoadError::Content(offset, error)),
        }
    }
    Ok(count)
}
