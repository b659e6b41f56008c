//! One segment: a file of record batches, mapped for reading, with its indexes.
//!
//! Shared between the writer and readers. The writer publishes the end after the bytes and the
//! index entry are in place; readers never look beyond the end they see.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use sawlog_protocol::records::{BATCH_OVERHEAD, BatchHeader};

use super::error::StorageError;
use super::index::{Index, Sealed};
use crate::base::disk::{Create, Disk, DiskFile, Mapping, write_atomically};
use crate::base::{Offset, Timestamp};

/// Ending of the files that hold record batches.
pub(super) const LOG_SUFFIX: &str = "log";

/// A segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) base: Offset,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    mapping: Arc<dyn Mapping>,
    /// Bytes of whole batches; everything below may be read.
    end: AtomicU64,
    next_offset: AtomicI64,
    first_timestamp: AtomicI64,
    pub(super) index: RwLock<Index>,
}

/// A batch found in a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Located {
    pub(super) header: BatchHeader,
    pub(super) position: u64,
}

impl Segment {
    /// Opens or creates the file of the segment at `base`, with room for `capacity` bytes.
    pub(super) fn open(
        disk: &dyn Disk,
        directory: &Path,
        base: Offset,
        capacity: u64,
        create: Create,
    ) -> Result<Self, StorageError> {
        let path = directory.join(file_name(base, LOG_SUFFIX));
        let file = disk.open(&path, create).map_err(StorageError::io("cannot open", &path))?;
        let mapping = file.map(capacity).map_err(StorageError::io("cannot map", &path))?;
        Ok(Self {
            base,
            path,
            file,
            mapping,
            end: AtomicU64::new(0),
            next_offset: AtomicI64::new(base.0),
            first_timestamp: AtomicI64::new(-1),
            index: RwLock::new(Index::default()),
        })
    }

    /// Bytes of whole batches.
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Offset of the first record behind this segment.
    pub(super) fn next_offset(&self) -> Offset {
        Offset(self.next_offset.load(Ordering::Acquire))
    }

    pub(super) fn capacity(&self) -> u64 {
        self.mapping.len()
    }

    /// Timestamp of the first batch, -1 while empty.
    pub(super) fn first_timestamp(&self) -> Timestamp {
        Timestamp(self.first_timestamp.load(Ordering::Relaxed))
    }

    pub(super) fn max_timestamp(&self) -> Timestamp {
        self.index.read().max().map_or(Timestamp::NONE, |max| max.timestamp)
    }

    /// Whether `offset` fits the 32-bit relative offsets of the index.
    pub(super) fn takes(&self, last_offset: Offset) -> bool {
        last_offset.minus(self.base) <= i64::from(i32::MAX)
    }

    /// Publishes a batch that is in the file at the end.
    pub(super) fn publish(&self, header: &BatchHeader, base_offset: Offset, interval: u32) {
        let end = self.end.load(Ordering::Relaxed);
        let length = header.total_len();
        let relative = u32::try_from(base_offset.minus(self.base)).unwrap_or(u32::MAX);
        self.index.write().add(
            relative,
            u32::try_from(end).unwrap_or(u32::MAX),
            u32::try_from(length).unwrap_or(u32::MAX),
            Timestamp(header.max_timestamp),
            interval,
        );
        if end == 0 {
            self.first_timestamp.store(header.max_timestamp, Ordering::Relaxed);
        }
        let next = base_offset.plus(i64::from(header.last_offset_delta) + 1);
        self.next_offset.store(next.0, Ordering::Release);
        let end = end + u64::try_from(length).unwrap_or(u64::MAX);
        self.end.store(end, Ordering::Release);
    }

    /// Takes over what valid index files say: nothing is read from the log.
    pub(super) fn trust(&self, index: Index, sealed: Sealed) {
        *self.index.write() = index;
        self.first_timestamp.store(sealed.first_timestamp.0, Ordering::Relaxed);
        let next = self.base.plus(i64::from(sealed.offsets));
        self.next_offset.store(next.0, Ordering::Release);
        self.end.store(sealed.log_bytes, Ordering::Release);
    }

    /// Makes a full segment durable and self-describing: log synced and cut to its length, index
    /// files written. Called once no more batches come.
    pub(super) fn seal(&self, disk: &dyn Disk) -> Result<(), StorageError> {
        let end = self.end();
        self.file.sync_data().map_err(StorageError::io("cannot sync", &self.path))?;
        self.file.set_len(end).map_err(StorageError::io("cannot trim", &self.path))?;
        let sealed = Sealed {
            log_bytes: end,
            offsets: u32::try_from(self.next_offset().minus(self.base)).unwrap_or(u32::MAX),
            first_timestamp: self.first_timestamp(),
        };
        let (offsets, times) = self.index.read().encode(sealed);
        for (suffix, content) in [("index", offsets), ("timeindex", times)] {
            let path = self.path.with_extension(suffix);
            write_atomically(disk, &path, &content)
                .map_err(StorageError::io("cannot write", &path))?;
        }
        Ok(())
    }

    /// The bytes `[from, to)`, which must have been published.
    pub(super) fn slice(&self, from: u64, to: u64) -> Bytes {
        self.mapping.slice(from, to)
    }

    /// The first batch at or behind `position` for which `found` holds, below `end`.
    pub(super) fn walk(
        &self,
        position: u64,
        end: u64,
        mut found: impl FnMut(&Located) -> bool,
    ) -> Result<Option<Located>, StorageError> {
        let bytes = self.slice(position, end);
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= BATCH_OVERHEAD) {
            let here = position + u64::try_from(at).unwrap_or(u64::MAX);
            let header = BatchHeader::parse(rest).map_err(|error| StorageError::Corrupt {
                path: self.path.clone(),
                position: here,
                offset: self.base,
                reason: error.to_string(),
            })?;
            let located = Located { header, position: here };
            if found(&located) {
                return Ok(Some(located));
            }
            at += header.total_len();
        }
        Ok(None)
    }

    /// The batch that holds `offset`, or the first behind it.
    pub(super) fn locate(&self, offset: Offset) -> Result<Option<Located>, StorageError> {
        let relative = u32::try_from(offset.minus(self.base)).unwrap_or(0);
        let from = u64::from(self.index.read().position_before(relative));
        self.walk(from, self.end(), |located| located.header.last_offset() >= offset.0)
    }
}

/// The name of a segment's file: its base offset in twenty digits, as Kafka's tools expect.
pub(super) fn file_name(base: Offset, suffix: &str) -> String {
    format!("{:020}.{suffix}", base.0)
}

/// The base offset in a segment's file name.
pub(super) fn base_of(name: &str, suffix: &str) -> Option<Offset> {
    let digits = name.strip_suffix(suffix)?.strip_suffix('.')?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().ok().map(Offset)).flatten()
}
