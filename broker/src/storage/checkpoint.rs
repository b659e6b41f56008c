//! What a log says of itself for the next start: how far it is durable, where it begins, whether it
//! was closed cleanly, and its leader epochs.
//!
//! One small file, replaced as a whole. A missing or damaged one costs a longer recovery, and the
//! log start falls back to the first segment.

use std::path::Path;

use super::envelope::{self, Fields};
use super::epochs::EpochCache;
use super::error::StorageError;
use crate::base::Offset;
use crate::base::disk::{Disk, read_whole, write_atomically};

pub(super) const FILE: &str = "checkpoint";

const MAGIC: [u8; 4] = *b"SLCP";
const VERSION: u16 = 1;

/// Longest file taken for a checkpoint.
const BYTES_MAX: u64 = 1024 * 1024;

/// The content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// Everything below was synced. Damage below is never a torn write.
    pub(super) durable_end: Offset,
    /// First offset that may be read.
    pub(super) log_start: Offset,
    /// Closed by a clean stop, and not appended to since.
    pub(super) clean: bool,
    pub(super) epochs: EpochCache,
}

impl Checkpoint {
    pub(super) fn write(&self, disk: &dyn Disk, directory: &Path) -> Result<(), StorageError> {
        let mut content = Vec::new();
        content.extend(self.durable_end.0.to_be_bytes());
        content.extend(self.log_start.0.to_be_bytes());
        content.push(u8::from(self.clean));
        self.epochs.encode(&mut content);
        let path = directory.join(FILE);
        write_atomically(disk, &path, &envelope::seal(MAGIC, VERSION, &content))
            .map_err(StorageError::io("cannot write", &path))
    }

    pub(super) fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<Self>, StorageError> {
        let path = directory.join(FILE);
        let bytes =
            read_whole(disk, &path, BYTES_MAX).map_err(StorageError::io("cannot read", &path))?;
        Ok(bytes.and_then(|bytes| Self::decode(&bytes)))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(envelope::open(MAGIC, VERSION, bytes)?);
        Some(Self {
            durable_end: Offset(fields.i64()?),
            log_start: Offset(fields.i64()?),
            clean: fields.u8()? == 1,
            epochs: EpochCache::decode(&mut fields)?,
        })
    }
}
