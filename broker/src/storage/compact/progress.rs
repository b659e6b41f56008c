//! How far a log has been compacted: the file `compaction` of a partition.
//!
//! Written before the first segment of a pass is replaced and after the last. Without it a log is
//! taken for dirty from its start on, which costs one pass.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::envelope::{self, Fields};
use super::super::error::StorageError;
use crate::base::Offset;
use crate::base::disk::{Disk, read_whole, write_atomically};

const NAME: &str = "compaction";
const MAGIC: [u8; 4] = *b"SLCO";
const VERSION: u16 = 1;

/// Longest file taken for one.
const BYTES_MAX: u64 = 4096;

/// The content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::storage) struct Progress {
    /// Everything below was compacted: of each key at most one record is left.
    pub(in crate::storage) clean_upto: Offset,
    /// Below, offsets may be missing inside segments.
    pub(in crate::storage) gaps_upto: Offset,
}

/// The file of one log.
#[derive(Debug)]
pub(in crate::storage) struct ProgressStore {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    content: Mutex<Progress>,
}

impl ProgressStore {
    /// Reads what there is in `directory`, which may not exist.
    ///
    /// # Errors
    /// The file cannot be read, or is of a later version.
    pub(in crate::storage) fn load(
        disk: Arc<dyn Disk>,
        directory: &Path,
    ) -> Result<Self, StorageError> {
        let path = directory.join(NAME);
        let bytes =
            read_whole(&*disk, &path, BYTES_MAX).map_err(StorageError::io("cannot read", &path))?;
        let content = match &bytes {
            None if !disk.exists(&path) => Progress::default(),
            None => Progress::UNKNOWN,
            Some(bytes) => match envelope::version(MAGIC, bytes) {
                Some(found) if found > VERSION => {
                    return Err(StorageError::UnsupportedFormat {
                        path,
                        found,
                        supported: VERSION,
                    });
                }
                Some(_) | None => decode(bytes).unwrap_or(Progress::UNKNOWN),
            },
        };
        Ok(Self { disk, path, content: Mutex::new(content) })
    }

    pub(in crate::storage) fn content(&self) -> Progress {
        *self.content.lock()
    }

    /// What lies beyond `end` is gone: what comes in its place is not compacted. Where there were
    /// gaps there may be some until a cut is complete.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub(in crate::storage) fn forget_beyond(&self, end: Offset) -> Result<(), StorageError> {
        let end = end.max(Offset::ZERO);
        self.update(|progress| progress.clean_upto = progress.clean_upto.min(end))
    }

    /// Offsets below `upto` may be missing.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub(in crate::storage) fn allow_gaps(&self, upto: Offset) -> Result<(), StorageError> {
        self.update(|progress| progress.gaps_upto = progress.gaps_upto.max(upto))
    }

    /// Changes the content, durably.
    ///
    /// # Errors
    /// It could not be written; the next start sees the content from before or the new one.
    pub(super) fn update(&self, change: impl FnOnce(&mut Progress)) -> Result<(), StorageError> {
        let mut content = self.content.lock();
        let mut changed = *content;
        change(&mut changed);
        if changed != *content {
            write_atomically(&*self.disk, &self.path, &encode(changed))
                .map_err(StorageError::io("cannot write", &self.path))?;
            *content = changed;
        }
        Ok(())
    }
}

impl Progress {
    /// Of a damaged file: there may be gaps anywhere.
    const UNKNOWN: Self = Self { clean_upto: Offset::ZERO, gaps_upto: Offset(i64::MAX) };
}

fn encode(progress: Progress) -> Vec<u8> {
    let mut content = Vec::new();
    content.extend(progress.clean_upto.0.to_be_bytes());
    content.extend(progress.gaps_upto.0.to_be_bytes());
    envelope::seal(MAGIC, VERSION, &content)
}

fn decode(bytes: &[u8]) -> Option<Progress> {
    let mut fields = Fields(envelope::open(MAGIC, VERSION, bytes)?);
    let progress = Progress { clean_upto: Offset(fields.i64()?), gaps_upto: Offset(fields.i64()?) };
    fields.is_empty().then_some(progress)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::disk::Create;
    use crate::base::disk_sim::SimDisk;

    fn load(disk: &SimDisk) -> Result<ProgressStore, StorageError> {
        ProgressStore::load(Arc::new(disk.clone()), Path::new("/"))
    }

    #[test]
    fn progress_is_read_back_and_damage_is_taken_for_gaps_everywhere() {
        let disk = SimDisk::new();
        let store = load(&disk).unwrap();
        assert_eq!(store.content(), Progress::default());
        let written = Progress { clean_upto: Offset(5), gaps_upto: Offset(9) };
        store.update(|progress| *progress = written).unwrap();
        assert_eq!(load(&disk).unwrap().content(), written);
        disk.flip_bit(Path::new("/compaction"), 15, 1);
        assert_eq!(load(&disk).unwrap().content(), Progress::UNKNOWN);
    }

    #[test]
    fn a_later_version_is_refused() {
        let disk = SimDisk::new();
        let bytes = envelope::seal(MAGIC, VERSION + 1, b"whatever");
        write_atomically(&disk, Path::new("/compaction"), &bytes).unwrap();
        assert!(disk.open(Path::new("/compaction"), Create::Never).is_ok());
        assert!(matches!(load(&disk), Err(StorageError::UnsupportedFormat { found: 2, .. })));
    }
}
