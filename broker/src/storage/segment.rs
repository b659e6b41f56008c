//! One segment: a file of record batches, mapped for sending, with its indexes.
//!
//! Shared between the writer and readers. The writer publishes the end after the bytes and the
//! index entry are in place; readers never look beyond the end they see.
//!
//! Mapped bytes are only handed out, never looked into: a page that cannot be read would kill the
//! process here, and is an error there. Headers are read through the file.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::RwLock;
use sawlog_protocol::records::{BATCH_OVERHEAD, BatchHeader};

use super::compact::{SegmentFacts, Written};
use super::error::StorageError;
use super::first_read::Checked;
use super::index::{
    self, MemoryIndex, Recent, Span, TimeEntry, boundary_before, position_before, relative_before,
};
use super::index_file::{self, FileIndex, INDEX_SUFFIX, Summary, TIME_INDEX_SUFFIX};
use super::recency::Recency;
use crate::base::disk::{Aside, Create, Disk, DiskFile, Mapping, Syncs, write_again};
use crate::base::waiting::{may_wait, would_block};
use crate::base::{Offset, Timestamp};

/// Ending of the files that hold record batches.
pub(super) const LOG_SUFFIX: &str = "log";

/// Bytes read at once in search of headers: one index interval.
const WALK_BYTES: usize = 4096;

/// A segment.
#[derive(Debug)]
pub(super) struct Segment {
    disk: Arc<dyn Disk>,
    pub(super) base: Offset,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    mapping: Arc<dyn Mapping>,
    /// Bytes of whole batches; everything below may be read.
    end: AtomicU64,
    next_offset: AtomicI64,
    first_timestamp: AtomicI64,
    index: RwLock<Index>,
    /// Bytes in quarantine, in order: from, to. Nothing looks into them.
    damage: ArcSwap<Vec<(u64, u64)>>,
    /// No more batches come.
    closed: AtomicBool,
    recency: Recency,
    /// What of it this process has looked at.
    pub(super) checked: Checked,
    /// The files are gone, or going: nothing is written for it any more.
    removed: AtomicBool,
}

#[derive(Debug)]
enum Index {
    Memory(MemoryIndex),
    File(FileIndex),
}

/// A batch found in a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Located {
    pub(super) header: BatchHeader,
    pub(super) position: u64,
}

/// Where the batch with an offset begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Boundary {
    pub(super) base_offset: Offset,
    pub(super) position: u64,
}

impl Segment {
    /// Opens or creates the file of the segment at `base`, with room for `capacity` bytes.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        directory: &Path,
        base: Offset,
        capacity: u64,
        create: Create,
    ) -> Result<Self, StorageError> {
        let path = directory.join(file_name(base, LOG_SUFFIX));
        let file =
            disk.open_bounded(&path, create).map_err(StorageError::io("cannot open", &path))?;
        let mapping = file.map(capacity).map_err(StorageError::io("cannot map", &path))?;
        Ok(Self {
            disk: disk.clone(),
            base,
            path,
            file,
            mapping,
            end: AtomicU64::new(0),
            next_offset: AtomicI64::new(base.0),
            first_timestamp: AtomicI64::new(-1),
            index: RwLock::new(Index::Memory(MemoryIndex::default())),
            damage: ArcSwap::default(),
            closed: AtomicBool::new(false),
            recency: Recency::default(),
            checked: Checked::default(),
            removed: AtomicBool::new(false),
        })
    }

    /// Takes over a file written as a whole, under the name it is going to have.
    pub(super) fn adopt(disk: &Arc<dyn Disk>, written: Written) -> Result<Self, StorageError> {
        let Written { path, file, base, length, next_offset, first_timestamp, index } = written;
        let mapping = file.map(length).map_err(StorageError::io("cannot map", &path))?;
        Ok(Self {
            disk: disk.clone(),
            base,
            path,
            file,
            mapping,
            end: AtomicU64::new(length),
            next_offset: AtomicI64::new(next_offset.0),
            first_timestamp: AtomicI64::new(first_timestamp.0),
            index: RwLock::new(Index::Memory(index)),
            damage: ArcSwap::default(),
            closed: AtomicBool::new(true),
            recency: Recency::default(),
            checked: Checked::default(),
            removed: AtomicBool::new(false),
        })
    }

    /// The file it took over has its name now.
    pub(super) fn on_moved(&self) {
        self.file.on_moved(&self.path);
    }

    /// What planning a compaction asks.
    pub(super) fn facts(&self) -> SegmentFacts {
        SegmentFacts {
            base: self.base,
            next: self.next_offset(),
            bytes: self.end(),
            first_timestamp: self.first_timestamp(),
            max_timestamp: self.max_timestamp(),
        }
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

    /// The largest timestamp, and the batch that brought it; none while empty.
    pub(super) fn max(&self) -> Option<TimeEntry> {
        match &*self.index.read() {
            Index::Memory(index) => index.max(),
            Index::File(files) => Some(files.summary.max),
        }
    }

    pub(super) fn max_timestamp(&self) -> Timestamp {
        self.max().map_or(Timestamp::NONE, |max| max.timestamp)
    }

    /// Whether `offset` fits the 32-bit relative offsets of the index.
    pub(super) fn takes(&self, last_offset: Offset) -> bool {
        last_offset.minus(self.base) <= i64::from(i32::MAX)
    }

    /// Writes a batch at the end, `prefix` in place of its first bytes. Not to be read before it is
    /// published.
    pub(super) fn write(&self, prefix: &[u8], rest: &[u8]) -> io::Result<()> {
        self.file.write_at(&[IoSlice::new(prefix), IoSlice::new(rest)], self.end())
    }

    /// Publishes a batch that is in the file at the end.
    pub(super) fn publish(&self, header: &BatchHeader, base_offset: Offset, interval: u32) {
        let end = self.end.load(Ordering::Relaxed);
        let length = header.total_len();
        let next = base_offset.plus(i64::from(header.last_offset_delta) + 1);
        let span = Span {
            relative: self.relative(base_offset),
            last: self.relative(next.plus(-1)),
            position: u32::try_from(end).unwrap_or(u32::MAX),
        };
        self.recency.on_written(end, u64::try_from(length).unwrap_or(u64::MAX));
        let max_timestamp = Timestamp(header.max_timestamp);
        let length_indexed = u32::try_from(length).unwrap_or(u32::MAX);
        if let Index::Memory(index) = &mut *self.index.write() {
            index.add(span, length_indexed, max_timestamp, interval);
        }
        if end == 0 || self.first_timestamp() == Timestamp::NONE {
            self.first_timestamp.store(header.max_timestamp, Ordering::Relaxed);
        }
        self.next_offset.store(next.0, Ordering::Release);
        let end = end + u64::try_from(length).unwrap_or(u64::MAX);
        self.end.store(end, Ordering::Release);
    }

    /// Passes over damaged bytes at the end, up to `end`, where the batch with `next` begins.
    pub(super) fn skip(&self, end: u64, next: Offset) {
        self.next_offset.store(next.0, Ordering::Release);
        self.end.store(end, Ordering::Release);
    }

    /// No more batches come.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Bytes not to be touched from now on.
    pub(super) fn set_damage(&self, spans: Vec<(u64, u64)>) {
        self.damage.store(Arc::new(spans));
    }

    /// Whether something of it is in quarantine.
    pub(super) fn is_damaged(&self) -> bool {
        !self.damage.load().is_empty()
    }

    /// Where the first damaged bytes behind `position` begin, or `end`.
    pub(super) fn whole_upto(&self, position: u64, end: u64) -> u64 {
        let damage = self.damage.load();
        let behind = damage.partition_point(|(from, _)| *from < position);
        damage.get(behind).map_or(end, |(from, _)| end.min(*from))
    }

    /// Takes over what valid index files say: nothing is read from the log.
    pub(super) fn trust(&self, files: FileIndex) {
        let summary = files.summary;
        self.checked.nothing();
        *self.index.write() = Index::File(files);
        self.first_timestamp.store(summary.first_timestamp.0, Ordering::Relaxed);
        let next = self.base.plus(i64::from(summary.offsets));
        self.next_offset.store(next.0, Ordering::Release);
        self.end.store(summary.log_bytes, Ordering::Release);
    }

    /// Whether the index files are written.
    pub(super) fn is_sealed(&self) -> bool {
        matches!(&*self.index.read(), Index::File(_))
    }

    /// Makes a full segment durable, cut to its length. Called once no more batches come; what is
    /// cut off was allocated and never written, or never published.
    pub(super) fn finish(&self) -> Result<(), StorageError> {
        self.trim()?;
        if planted!(SealBeforeSync) { Ok(()) } else { self.sync() }
    }

    /// Makes durable what was written. A failure is final.
    pub(super) fn sync(&self) -> Result<(), StorageError> {
        if planted!(AcknowledgeBeforeSync) {
            return Ok(());
        }
        let mut synced = self.file.sync_data();
        if planted!(RetryFailedSync) && synced.is_err() {
            synced = self.file.sync_data();
        }
        synced.map_err(StorageError::io("cannot sync", &self.path))
    }

    /// Writes the bytes from `position` on once more, as [`write_again`] does.
    pub(super) fn write_again(&self, position: u64) -> Result<(), StorageError> {
        let written = write_again(&*self.file, position, self.end());
        written.map_err(StorageError::io("cannot write again", &self.path))
    }

    /// Cuts a full segment to its length.
    pub(super) fn trim(&self) -> Result<(), StorageError> {
        self.file.set_len(self.end()).map_err(StorageError::io("cannot trim", &self.path))
    }

    /// Writes the index files of a finished segment, and lets go of the index in memory.
    pub(super) fn seal(&self) -> Result<(), StorageError> {
        if self.removed.load(Ordering::Acquire) {
            return Ok(());
        }
        {
            let index = self.index.read();
            let Some((summary, index)) = self.unwritten(&index) else { return Ok(()) };
            index_file::write(&*self.disk, &self.path, &summary, index)
                .map_err(StorageError::io("cannot write the index of", &self.path))?;
        }
        let files = FileIndex::open(self.disk.clone(), &self.path)?;
        if let Some(files) = files {
            *self.index.write() = Index::File(files);
        }
        Ok(())
    }

    /// Writes the index files of a finished segment under other names; none if they are written.
    pub(super) fn seal_aside(&self, syncs: Syncs) -> Result<Vec<Aside>, StorageError> {
        let index = self.index.read();
        let Some(index) = self.unwritten(&index) else { return Ok(Vec::new()) };
        let (summary, index) = index;
        let written = index_file::write_aside(&*self.disk, &self.path, (&summary, index), syncs);
        written.map(Vec::from).map_err(StorageError::io("cannot write the index of", &self.path))
    }

    /// What the index files have to say; none if they are written, or there is nothing to say.
    fn unwritten<'index>(&self, index: &'index Index) -> Option<(Summary, &'index MemoryIndex)> {
        let Index::Memory(index) = index else { return None };
        let summary = Summary {
            base: self.base,
            log_bytes: self.end(),
            offsets: self.relative(self.next_offset()),
            first_timestamp: self.first_timestamp(),
            max: index.max()?,
        };
        Some((summary, index))
    }

    /// Removes the files. Readers that have the segment go on reading it.
    pub(super) fn remove(&self) -> Result<(), StorageError> {
        // The log goes first: index files alone mean nothing.
        self.remove_files(&[LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX])
    }

    /// Removes the index files of a segment whose log is about to be replaced under its name.
    /// Readers that have the segment go on reading it.
    pub(super) fn remove_index(&self) -> Result<(), StorageError> {
        self.remove_files(&[INDEX_SUFFIX, TIME_INDEX_SUFFIX])
    }

    fn remove_files(&self, suffixes: &[&str]) -> Result<(), StorageError> {
        // Before they go: what is found under their names later is not this segment's.
        self.removed.store(true, Ordering::SeqCst);
        // For readers that have the segment and come back for more. Where even that finds no
        // descriptor, they are told that the file is gone.
        let _gone = self.file.keep_open();
        for suffix in suffixes {
            remove_if_there(&*self.disk, &self.path.with_extension(suffix))?;
        }
        Ok(())
    }

    /// The bytes `[from, to)`, which must have been published.
    pub(super) fn slice(&self, from: u64, to: u64) -> Result<Bytes, StorageError> {
        self.mapping.slice(from, to).map_err(StorageError::io("cannot map", &self.path))
    }

    /// Sees to it that the bytes `[from, to)` can be sent without waiting for the disk.
    pub(super) fn load(&self, from: u64, to: u64) -> Result<(), StorageError> {
        let loaded = if self.recency.is_recent(from) {
            Ok(())
        } else if may_wait() {
            self.mapping.load(from, to)
        } else {
            match self.mapping.is_in_memory(from, to) {
                Ok(true) => Ok(()),
                Ok(false) => Err(would_block()),
                Err(error) => Err(error),
            }
        };
        loaded.map_err(StorageError::io("cannot read", &self.path))
    }

    /// The first batch at or behind `position` for which `found` holds, below `end`.
    pub(super) fn walk(
        &self,
        position: u64,
        end: u64,
        mut found: impl FnMut(&Located) -> bool,
    ) -> Result<Option<Located>, StorageError> {
        let mut buffer = [0; WALK_BYTES];
        let (mut start, mut filled) = (position, 0);
        let mut at = position;
        let damage = self.damage.load();
        while at < end {
            let behind = damage.partition_point(|(_, to)| *to <= at);
            if let Some((_, to)) = damage.get(behind).filter(|(from, _)| *from <= at) {
                at = *to;
                continue;
            }
            let skip = usize::try_from(at - start).unwrap_or(usize::MAX);
            let mut bytes = buffer.get(skip..filled).unwrap_or_default();
            if bytes.len() < BATCH_OVERHEAD {
                let read = self.file.read_at(&mut buffer, at);
                filled = read.map_err(StorageError::io("cannot read", &self.path))?;
                start = at;
                bytes = buffer.get(..filled).unwrap_or_default();
            }
            let header =
                BatchHeader::parse(bytes).map_err(|error| self.corrupt(at, error.to_string()))?;
            let located = Located { header, position: at };
            if found(&located) {
                return Ok(Some(located));
            }
            at += located.length();
        }
        Ok(None)
    }

    /// The batch that holds `offset`, or the first behind it.
    pub(super) fn locate(&self, offset: Offset) -> Result<Option<Boundary>, StorageError> {
        let relative = self.relative(offset);
        if let Index::Memory(index) = &*self.index.read() {
            match index.recent(relative) {
                Recent::At(span) => {
                    let base_offset = self.base.plus(i64::from(span.relative));
                    let position = u64::from(span.position);
                    return Ok(Some(Boundary { base_offset, position }));
                }
                Recent::Behind => return Ok(None),
                Recent::Older => {}
            }
        }
        let located = self.walk(self.position_before(offset)?, self.end(), |located| {
            located.header.last_offset() >= offset.0
        })?;
        Ok(located.map(|located| Boundary {
            base_offset: Offset(located.header.base_offset),
            position: located.position,
        }))
    }

    /// The header at `position`, where a batch begins.
    pub(super) fn header_at(&self, position: u64) -> Result<Located, StorageError> {
        let found = self.walk(position, self.end(), |_| true)?;
        found.ok_or_else(|| self.corrupt(position, "no batch begins here".to_owned()))
    }

    /// A position at or before the batch that holds `offset`.
    pub(super) fn position_before(&self, offset: Offset) -> Result<u64, StorageError> {
        let relative = self.relative(offset);
        self.look(
            |index| position_before(index.offsets(), relative),
            |files| position_before(&files.offset_entries()?, relative),
        )
        .map(u64::from)
    }

    /// The last indexed batch boundary not beyond `position`.
    pub(super) fn boundary_before(&self, position: u64) -> Result<u64, StorageError> {
        self.look(
            |index| boundary_before(index.offsets(), position),
            |files| boundary_before(&files.offset_entries()?, position),
        )
        .map(u64::from)
    }

    /// A position at or before the first record with a timestamp of at least `timestamp`.
    pub(super) fn position_before_time(&self, timestamp: Timestamp) -> Result<u64, StorageError> {
        let relative = self.look(
            |index| relative_before(index.times(), timestamp),
            |files| relative_before(&files.time_entries()?, timestamp),
        )?;
        self.position_before(self.base.plus(i64::from(relative)))
    }

    /// Looks into the index, wherever it is. Files are checked before they are used the first time,
    /// and rebuilt in memory if they are not as written.
    fn look(
        &self,
        memory: impl Fn(&MemoryIndex) -> io::Result<u32>,
        files: impl Fn(&FileIndex) -> io::Result<u32>,
    ) -> Result<u32, StorageError> {
        let found = match &*self.index.read() {
            Index::Memory(index) => Some(memory(index)),
            Index::File(index) if index.checked => Some(files(index)),
            Index::File(_) => None,
        };
        // Asked after the files were: removed ones may have been another segment's by then.
        let is_ours = || !self.removed.load(Ordering::SeqCst);
        if let Some(Ok(found)) = found
            && is_ours()
        {
            return Ok(found);
        }
        if !may_wait() {
            let doing = "cannot look into the index of";
            return Err(StorageError::io(doing, &self.path)(would_block()));
        }
        let unchecked = match &*self.index.read() {
            Index::File(index) if !index.checked => Some(index.clone()),
            Index::File(_) | Index::Memory(_) => None,
        };
        if let Some(mut index) = unchecked
            && matches!(index.check(), Ok(true))
            && let Ok(found) = files(&index)
            && is_ours()
        {
            index.checked = true;
            *self.index.write() = Index::File(index);
            return Ok(found);
        }
        // Not there any more, unreadable, or not as written: the log itself knows.
        let rebuilt = self.rebuild()?;
        let found = memory(&rebuilt).map_err(StorageError::io("cannot search", &self.path))?;
        *self.index.write() = Index::Memory(rebuilt);
        Ok(found)
    }

    fn rebuild(&self) -> Result<MemoryIndex, StorageError> {
        let mut index = MemoryIndex::default();
        self.walk(0, self.end(), |located| {
            let header = &located.header;
            let span = Span {
                relative: self.relative(Offset(header.base_offset)),
                last: self.relative(Offset(header.last_offset())),
                position: u32::try_from(located.position).unwrap_or(u32::MAX),
            };
            let length = u32::try_from(header.total_len()).unwrap_or(u32::MAX);
            index.add(span, length, Timestamp(header.max_timestamp), index::INTERVAL_BYTES);
            false
        })?;
        Ok(index)
    }

    fn relative(&self, offset: Offset) -> u32 {
        u32::try_from(offset.minus(self.base).max(0)).unwrap_or(u32::MAX)
    }

    /// Damage found in the batch at `position`.
    pub(super) fn corrupt(&self, position: u64, reason: String) -> StorageError {
        StorageError::Corrupt { path: self.path.clone(), position, offset: self.base, reason }
    }
}

impl Located {
    /// Bytes of the batch.
    pub(super) fn length(&self) -> u64 {
        u64::try_from(self.header.total_len()).unwrap_or(u64::MAX)
    }
}

/// Removes a file, if there is one.
pub(super) fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), StorageError> {
    match disk.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StorageError::io("cannot remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
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
