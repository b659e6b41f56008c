//! Writes the file that takes the place of segments.
//!
//! It is a segment in all but its name until it is complete and synced; the index is made on the
//! way, in memory, and written when the segment has its place.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sawlog_protocol::records::BatchHeader;

use super::super::error::StorageError;
use super::super::index::{MemoryIndex, Span};
use super::super::segment::{LOG_SUFFIX, Segment, file_name, remove_if_there};
use super::swap::Place;
use super::throttle::{CompactionError, Throttle};
use crate::base::disk::{Create, Disk, DiskFile};
use crate::base::{Offset, Timestamp};

/// Bytes written at once.
const WRITE_BYTES: usize = 512 * 1024;

/// A segment being written.
#[derive(Debug)]
pub(super) struct Output {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    path: PathBuf,
    place: Place,
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    /// Bytes of batches, written or in the buffer.
    length: u64,
    index: MemoryIndex,
    index_interval_bytes: u32,
    next_offset: Offset,
    first_timestamp: Timestamp,
}

/// A finished segment, as its constructor takes it.
#[derive(Debug)]
pub(in crate::storage) struct Written {
    pub(in crate::storage) path: PathBuf,
    pub(in crate::storage) file: Arc<dyn DiskFile>,
    pub(in crate::storage) base: Offset,
    pub(in crate::storage) length: u64,
    pub(in crate::storage) next_offset: Offset,
    pub(in crate::storage) first_timestamp: Timestamp,
    pub(in crate::storage) index: MemoryIndex,
}

impl Output {
    /// Begins the file that is to take `place`.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(super) fn create(
        disk: &Arc<dyn Disk>,
        directory: &Path,
        place: Place,
        index_interval_bytes: u32,
    ) -> Result<Self, StorageError> {
        let path = directory.join(place.cleaned());
        let failed = |source| StorageError::io("cannot write", &path)(source);
        let file = disk.open_bounded(&path, Create::IfMissing).map_err(failed)?;
        // It is renamed twice on the way to its place.
        file.keep_open().map_err(failed)?;
        // What a run before left behind.
        file.set_len(0).map_err(failed)?;
        Ok(Self {
            disk: disk.clone(),
            directory: directory.to_owned(),
            place,
            file,
            buffer: Vec::new(),
            length: 0,
            index: MemoryIndex::default(),
            index_interval_bytes,
            next_offset: place.base,
            first_timestamp: Timestamp::NONE,
            path,
        })
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// It cannot be written, or it is time to stop.
    pub(super) fn append(
        &mut self,
        batch: &[u8],
        throttle: &mut Throttle,
    ) -> Result<(), CompactionError> {
        let header = BatchHeader::parse(batch).map_err(|error| self.refused(error.to_string()))?;
        let position = u32::try_from(self.length)
            .map_err(|_| self.refused("grows beyond what positions can say".to_owned()))?;
        let next = Offset(header.next_offset());
        let relative = |offset: Offset| {
            u32::try_from(offset.minus(self.place.base).max(0)).unwrap_or(u32::MAX)
        };
        let span = Span {
            relative: relative(Offset(header.base_offset)),
            last: relative(next.plus(-1)),
            position,
        };
        let length = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        let max_timestamp = Timestamp(header.max_timestamp);
        self.index.add(span, length, max_timestamp, self.index_interval_bytes);
        if self.length == 0 {
            self.first_timestamp = max_timestamp;
        }
        self.next_offset = next;
        self.length += u64::from(length);
        self.buffer.extend_from_slice(batch);
        if self.buffer.len() >= WRITE_BYTES { self.write(throttle) } else { Ok(()) }
    }

    /// Bytes of batches so far.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Where the last batch ends.
    pub(super) fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// It is to stand for offsets up to `end` only.
    ///
    /// # Errors
    /// The file cannot get the name that says so.
    pub(super) fn end_at(&mut self, end: Offset) -> Result<(), StorageError> {
        let place = Place { end, ..self.place };
        let path = self.directory.join(place.cleaned());
        let renamed = self.disk.rename(&self.path, &path);
        renamed.map_err(StorageError::io("cannot rename", &self.path))?;
        (self.place, self.path) = (place, path);
        Ok(())
    }

    /// Makes all of it durable. The segment is to be found under its final name, which it does not
    /// have yet.
    ///
    /// # Errors
    /// It cannot be written, or it is time to stop.
    pub(super) fn finish(&mut self, throttle: &mut Throttle) -> Result<Segment, CompactionError> {
        self.write(throttle)?;
        if !planted!(SwapBeforeSync) {
            self.file.sync_data().map_err(StorageError::io("cannot sync", &self.path))?;
        }
        let segment = Segment::adopt(
            &self.disk,
            Written {
                path: self.directory.join(file_name(self.place.base, LOG_SUFFIX)),
                file: self.file.clone(),
                base: self.place.base,
                length: self.length,
                next_offset: self.next_offset,
                first_timestamp: self.first_timestamp,
                index: std::mem::take(&mut self.index),
            },
        )?;
        Ok(segment)
    }

    /// Gives it up.
    pub(super) fn discard(self) -> Result<(), StorageError> {
        remove_if_there(&*self.disk, &self.path)
    }

    fn write(&mut self, throttle: &mut Throttle) -> Result<(), CompactionError> {
        let written = u64::try_from(self.buffer.len()).unwrap_or(0);
        self.file
            .write_at(&[IoSlice::new(&self.buffer)], self.length - written)
            .map_err(StorageError::io("cannot write", &self.path))?;
        let spent = self.buffer.len();
        self.buffer.clear();
        throttle.spend(spent)
    }

    fn refused(&self, reason: String) -> StorageError {
        StorageError::Io {
            doing: "cannot compact into",
            path: self.path.clone(),
            source: std::io::Error::other(reason),
        }
    }
}
