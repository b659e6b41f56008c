//! What makes appends durable, outside the lock under which they are made.
//!
//! A flush syncs first what was written, then completes what is beside it: index files of segments
//! that ended, producer state, checkpoint. Only the first is needed for an acknowledgement; where
//! the disk is full the rest waits for the next flush, and nothing is lost by it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::checkpoint::CheckpointStore;
use super::compact::ProgressStore;
use super::epochs::EpochCache;
use super::error::StorageError;
use super::log::SNAPSHOT_SUFFIX;
use super::quarantine::Quarantine;
use super::segment::{Segment, base_of, file_name, remove_if_there};
use crate::base::Offset;
use crate::base::disk::{Aside, Disk, Syncs, write_atomically};

/// Producer snapshots kept: the newest, and one to fall back to.
const SNAPSHOTS_KEPT: usize = 2;

/// The files beside the segments of one log. The flush and the writer both change them.
#[derive(Debug)]
pub(super) struct Side {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    pub(super) checkpoint: CheckpointStore,
    pub(super) quarantine: Arc<Quarantine>,
    /// How far the log is compacted.
    pub(super) progress: ProgressStore,
    /// Index files and snapshots are written and removed one after another: two writers of one name
    /// would mix, and an index written beside a removal would outlive its segment.
    files: Mutex<()>,
}

/// Producer state as of an offset, as it goes into a file.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) at: Offset,
    pub(super) content: Vec<u8>,
}

impl Side {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        directory: PathBuf,
        checkpoint: CheckpointStore,
        progress: ProgressStore,
        quarantine: Arc<Quarantine>,
    ) -> Self {
        Self { disk, directory, checkpoint, progress, quarantine, files: Mutex::new(()) }
    }

    /// The directory they are in.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes a producer snapshot and removes those no longer needed.
    pub(super) fn write_snapshot(&self, snapshot: &Snapshot) -> Result<(), StorageError> {
        let _one_at_a_time = self.files.lock();
        if planted!(StaleProducerSnapshot) {
            return Ok(());
        }
        let path = self.directory.join(file_name(snapshot.at, SNAPSHOT_SUFFIX));
        write_atomically(&*self.disk, &path, &snapshot.content)
            .map_err(StorageError::io("cannot write", &path))?;
        self.remove_old_snapshots()
    }

    /// Writes a producer snapshot under another name.
    pub(super) fn write_snapshot_aside(
        &self,
        snapshot: &Snapshot,
        syncs: Syncs,
    ) -> Result<Aside, StorageError> {
        let _one_at_a_time = self.files.lock();
        let path = self.directory.join(file_name(snapshot.at, SNAPSHOT_SUFFIX));
        Aside::write(&*self.disk, path.clone(), &snapshot.content, syncs)
            .map_err(StorageError::io("cannot write", &path))
    }

    /// Removes all snapshots but those that are kept, of which the newest must be durable.
    pub(super) fn remove_old_snapshots(&self) -> Result<(), StorageError> {
        let names = self.disk.list(&self.directory);
        let mut old = names.map_err(StorageError::io("cannot list", &self.directory))?;
        old.retain(|name| base_of(name, SNAPSHOT_SUFFIX).is_some());
        old.truncate(old.len().saturating_sub(SNAPSHOTS_KEPT));
        for name in old {
            remove_if_there(&*self.disk, &self.directory.join(name))?;
        }
        Ok(())
    }

    /// Removes the files of segments.
    pub(super) fn remove(&self, segments: &[Arc<Segment>]) -> Result<(), StorageError> {
        let _one_at_a_time = self.files.lock();
        segments.iter().try_for_each(|segment| segment.remove())
    }

    /// Replaces segments, with `run`: no other file changes meanwhile.
    pub(super) fn swap(
        &self,
        run: impl FnOnce(&dyn Disk, &Path) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let _one_at_a_time = self.files.lock();
        run(&*self.disk, &self.directory)
    }

    /// Makes the entries of the directory durable.
    pub(super) fn sync_entries(&self) -> Result<(), StorageError> {
        let synced = self.disk.sync_dir(&self.directory);
        synced.map_err(StorageError::io("cannot sync", &self.directory))
    }

    /// Gives files their names.
    pub(super) fn put_in_place(&self, files: Vec<Aside>) -> Result<(), StorageError> {
        let _one_at_a_time = self.files.lock();
        let renamed = files.into_iter().try_for_each(|file| file.take_place(&*self.disk));
        renamed.map_err(StorageError::io("cannot rename a file in", &self.directory))
    }

    fn seal(&self, segment: &Segment) -> Result<(), StorageError> {
        let _one_at_a_time = self.files.lock();
        // A sealed segment is not read again at a start: what is damaged of it must be known.
        self.quarantine.persist()?;
        segment.seal()
    }
}

/// The leader epochs for the checkpoint.
#[derive(Debug)]
pub(super) struct Epochs {
    pub(super) now: EpochCache,
    /// Those the checkpoint had when the flush began: if it has others by its end, they are later.
    pub(super) written: EpochCache,
}

/// What one flush makes durable. Runs without the log's lock. The log waits for its result, given
/// to [`super::Log::end_flush`], before it begins another.
#[derive(Debug)]
#[must_use = "a flush that is not carried out blocks every later one"]
pub struct FlushTicket {
    pub(super) side: Arc<Side>,
    pub(super) upto: Offset,
    pub(super) sealing: Vec<Arc<Segment>>,
    pub(super) active: Option<Arc<Segment>>,
    pub(super) entries_dirty: bool,
    pub(super) snapshot: Option<Snapshot>,
    /// The checkpoint is due.
    pub(super) epochs: Option<Epochs>,
    /// Instead of it, a note of how far this flush got.
    pub(super) notes: bool,
}

/// A finished flush.
#[derive(Debug)]
pub struct Flushed {
    pub(super) upto: Offset,
    pub(super) snapshot_at: Offset,
    /// Segments and producer state the full disk had no space for.
    pub(super) unsealed: Vec<Arc<Segment>>,
    pub(super) snapshot: Option<Snapshot>,
    /// Something found no space.
    pub(super) full: bool,
}

impl Flushed {
    /// Whether something beside the records found no space; it is tried again with the next flush.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Whether something was written, or the disk is full or no more files may be open.
    fn fits(&mut self, result: Result<(), StorageError>) -> Result<bool, StorageError> {
        match result {
            Ok(()) => Ok(true),
            Err(error) if !error.is_fatal() => {
                self.full |= matches!(error, StorageError::NoSpace { .. });
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

impl FlushTicket {
    /// Carries out all of it.
    ///
    /// # Errors
    /// As [`Self::sync_files`].
    pub fn sync(self) -> Result<Flushed, StorageError> {
        self.sync_files()?;
        self.complete()
    }

    /// Everything below is durable after [`Self::sync_files`].
    #[must_use]
    pub fn upto(&self) -> Offset {
        self.upto
    }

    /// The log's directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.side.directory
    }

    /// Whether [`Self::complete`] has more to do than to say so.
    #[must_use]
    pub fn has_side_files(&self) -> bool {
        !self.sealing.is_empty() || self.snapshot.is_some() || self.epochs.is_some()
    }

    /// What has to precede a sync of the whole file system that stands for [`Self::sync_files`].
    ///
    /// # Errors
    /// As there.
    pub fn prepare(&self) -> Result<(), StorageError> {
        self.sealing.iter().try_for_each(|segment| segment.trim())?;
        self.sealing
            .iter()
            .chain(&self.active)
            .for_each(|segment| segment.file.begin_shared_sync());
        Ok(())
    }

    /// Makes the records durable.
    ///
    /// # Errors
    /// The first failure. It is final: a sync that failed must not be repeated, the next one would
    /// claim success for pages the kernel has dropped.
    pub fn sync_files(&self) -> Result<(), StorageError> {
        if planted!(CheckpointAheadOfSync) && self.epochs.is_some() {
            self.side.checkpoint.update(|checkpoint| checkpoint.durable_end = self.upto)?;
        }
        for segment in &self.sealing {
            segment.finish()?;
        }
        if let Some(segment) = &self.active {
            segment.sync()?;
        }
        if self.entries_dirty && !planted!(ForgetDirectorySync) {
            self.side.sync_entries()?;
        }
        Ok(())
    }

    /// What has to follow a sync of the whole file system that stands for [`Self::sync_files`].
    ///
    /// # Errors
    /// As there.
    pub fn check(&self) -> Result<(), StorageError> {
        self.sealing.iter().chain(&self.active).try_for_each(|segment| {
            segment.file.check_synced().map_err(StorageError::io("cannot sync", &segment.path))
        })
    }

    /// Writes what is beside the records, once they are durable. The order matters: a checkpoint is
    /// written after what it vouches for.
    ///
    /// # Errors
    /// As [`Self::sync_files`].
    pub fn complete(self) -> Result<Flushed, StorageError> {
        let mut flushed = Flushed {
            upto: self.upto,
            snapshot_at: Offset::ZERO,
            unsealed: Vec::new(),
            snapshot: None,
            full: false,
        };
        for segment in self.sealing {
            if !flushed.fits(self.side.seal(&segment))? {
                flushed.unsealed.push(segment);
            }
        }
        if let Some(snapshot) = self.snapshot {
            if flushed.fits(self.side.write_snapshot(&snapshot))? {
                flushed.snapshot_at = snapshot.at;
            } else {
                flushed.snapshot = Some(snapshot);
            }
        }
        // What was found on a full disk, and is still not written down.
        flushed.fits(self.side.quarantine.persist())?;
        if let Some(epochs) = self.epochs {
            let upto = self.upto;
            let written = self.side.checkpoint.update(|checkpoint| {
                // Beside this flush the log start may have been advanced, with later epochs.
                checkpoint.durable_end = checkpoint.durable_end.max(upto);
                if checkpoint.epochs == epochs.written {
                    checkpoint.epochs = epochs.now;
                }
            });
            flushed.fits(written)?;
        } else if self.notes {
            // Without space for it the next start has more to do.
            match self.side.checkpoint.note_synced(self.upto) {
                Err(error) if error.is_fatal() => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(flushed)
    }
}
