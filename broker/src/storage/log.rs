//! The writer of one partition's log.
//!
//! An append is one positioned write of the batch as it came, behind sixteen new bytes of header.
//! Space is allocated ahead in growing steps; files appear with the first append. What makes
//! appends durable runs outside the caller's lock, as a [`FlushTicket`].

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use sawlog_protocol::records::{BatchHeader, patched_prefix};

use super::checkpoint::Checkpoint;
use super::epochs::EpochCache;
use super::error::StorageError;
use super::producers::ProducerTable;
use super::reader::{LogReader, Segments};
use super::segment::{Segment, file_name};
use crate::base::disk::{Create, Disk, write_atomically};
use crate::base::{LeaderEpoch, Offset, Timestamp};

/// Bytes of a batch that are written anew: base offset, length, leader epoch.
const PREFIX_BYTES: usize = 16;

/// First and largest step in which a segment file grows.
const ALLOCATION_STEP_MIN: u64 = 1024 * 1024;
const ALLOCATION_STEP_MAX: u64 = 64 * 1024 * 1024;

/// Producer snapshots kept: the newest, and one to fall back to.
const SNAPSHOTS_KEPT: usize = 2;

/// Ending of producer snapshots.
pub(super) const SNAPSHOT_SUFFIX: &str = "snapshot";

/// Ending of a partition directory on its way out.
const DELETED_SUFFIX: &str = "deleted";

/// The settings a log goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Size at which a new segment is begun.
    pub segment_bytes: u64,
    /// Age at which a new segment is begun, in milliseconds, by record time.
    pub segment_ms: i64,
    /// Bytes of log between two index entries.
    pub index_interval_bytes: u32,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: 1 << 30, segment_ms: i64::MAX, index_interval_bytes: 4096 }
    }
}

/// A batch that is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// A new segment was begun for it: the producer state from before it is due to be saved.
    pub rolled: bool,
}

/// The writer.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    options: LogOptions,
    segments: Segments,
    /// The segment that takes appends; none before the first append and after a roll.
    active: Option<Active>,
    start: Offset,
    end: Offset,
    durable_end: Offset,
    /// Full segments that are not sealed on disk yet.
    unsealed: Vec<Arc<Segment>>,
    /// Producer state to be written with the next flush.
    snapshot: Option<(Offset, Vec<u8>)>,
    /// The producer state on disk is as of this offset: batches below may be removed.
    snapshot_at: Offset,
    /// The directory has entries that are not durable.
    entries_dirty: bool,
    /// The checkpoint on disk says "clean".
    marked_clean: bool,
    poisoned: bool,
}

#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    allocated: u64,
}

/// What is on disk when a log is opened, found by recovery.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) segments: Vec<Arc<Segment>>,
    /// The last segment takes appends again.
    pub(super) reuse_last: bool,
    pub(super) unsealed: Vec<Arc<Segment>>,
    pub(super) start: Offset,
    pub(super) end: Offset,
    pub(super) marked_clean: bool,
    /// Where the producer state on disk ends.
    pub(super) snapshot_at: Offset,
    /// Producer state as of the end, if that is further.
    pub(super) snapshot: Option<Vec<u8>>,
}

impl Log {
    pub(super) fn assemble(
        disk: Arc<dyn Disk>,
        directory: PathBuf,
        options: LogOptions,
        opened: Opened,
    ) -> Self {
        let active = opened
            .segments
            .last()
            .filter(|_| opened.reuse_last)
            .map(|segment| Active { segment: segment.clone(), allocated: segment.end() });
        Self {
            disk,
            directory,
            options,
            segments: Arc::new(ArcSwap::from_pointee(opened.segments)),
            active,
            start: opened.start,
            end: opened.end,
            durable_end: opened.end,
            unsealed: opened.unsealed,
            snapshot: opened.snapshot.map(|content| (opened.end, content)),
            snapshot_at: opened.snapshot_at,
            entries_dirty: false,
            marked_clean: opened.marked_clean,
            poisoned: false,
        }
    }

    /// A reader beside this writer.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.segments.clone())
    }

    /// First offset that may be read.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.start
    }

    /// Offset of the next record.
    #[must_use]
    pub fn log_end(&self) -> Offset {
        self.end
    }

    /// Everything below is on disk.
    #[must_use]
    pub fn durable_end(&self) -> Offset {
        self.durable_end
    }

    /// Bytes of record batches on disk.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.segments.load().iter().map(|segment| segment.end()).sum()
    }

    /// Goes by other settings from the next append on.
    pub fn set_options(&mut self, options: LogOptions) {
        self.options = options;
    }

    /// Writes one batch at the end, with this base offset and leader epoch in its header. `header`
    /// is the batch's own.
    ///
    /// # Errors
    /// `NoSpace` leaves the log as it was; any other error is final.
    pub fn append(
        &mut self,
        batch: &[u8],
        header: &BatchHeader,
        base_offset: Offset,
        leader_epoch: LeaderEpoch,
    ) -> Result<Appended, StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        assert_eq!(base_offset, self.end, "a batch goes to the end of the log");
        let length = u64::try_from(header.total_len()).unwrap_or(u64::MAX);
        let last_offset = base_offset.plus(i64::from(header.last_offset_delta));
        let rolled = self.must_roll(length, last_offset, Timestamp(header.max_timestamp));
        if rolled {
            self.roll();
        }
        if self.marked_clean {
            self.unmark_clean()?;
        }
        let result = self.write(batch, header, base_offset, leader_epoch, length);
        self.poisoned |= result.as_ref().is_err_and(StorageError::is_fatal);
        let segment = result?;
        segment.publish(header, base_offset, self.options.index_interval_bytes);
        self.end = last_offset.plus(1);
        Ok(Appended { rolled })
    }

    fn must_roll(&self, length: u64, last_offset: Offset, timestamp: Timestamp) -> bool {
        let Some(active) = &self.active else { return false };
        let segment = &active.segment;
        let end = segment.end();
        if end == 0 {
            return false;
        }
        let limit = self.options.segment_bytes.min(segment.capacity());
        let old = segment.first_timestamp() >= Timestamp(0)
            && timestamp.since(segment.first_timestamp()) > self.options.segment_ms;
        end + length > limit || !segment.takes(last_offset) || old
    }

    fn write(
        &mut self,
        batch: &[u8],
        header: &BatchHeader,
        base_offset: Offset,
        leader_epoch: LeaderEpoch,
        length: u64,
    ) -> Result<Arc<Segment>, StorageError> {
        if self.active.is_none() {
            self.begin_segment(length)?;
        }
        let Some(active) = &mut self.active else { return Err(StorageError::Poisoned) };
        let end = active.segment.end();
        let needed = end + length;
        if needed > active.allocated {
            let step = active.allocated.clamp(ALLOCATION_STEP_MIN, ALLOCATION_STEP_MAX);
            let wanted = (active.allocated + step).min(active.segment.capacity()).max(needed);
            let file = &active.segment.file;
            file.allocate(wanted)
                .map_err(StorageError::io("cannot extend", &active.segment.path))?;
            active.allocated = wanted;
        }
        let prefix = patched_prefix(header, base_offset.0, leader_epoch.0);
        let rest = batch.get(PREFIX_BYTES..header.total_len()).unwrap_or_default();
        let written =
            active.segment.file.write_at(&[IoSlice::new(&prefix), IoSlice::new(rest)], end);
        written.map_err(|source| StorageError::Io {
            // A failed write is final even if it failed for space: what is there is unknown.
            doing: "cannot write",
            path: active.segment.path.clone(),
            source,
        })?;
        Ok(active.segment.clone())
    }

    /// Begins the segment at the log end, large enough for one batch of `length` bytes.
    fn begin_segment(&mut self, length: u64) -> Result<(), StorageError> {
        if !self.disk.exists(&self.directory) {
            self.create_directory()?;
        }
        let capacity = self.options.segment_bytes.max(length);
        let segment = Arc::new(Segment::open(
            &*self.disk,
            &self.directory,
            self.end,
            capacity,
            Create::IfMissing,
        )?);
        self.entries_dirty = true;
        let mut segments = self.segments.load().as_ref().clone();
        segments.push(segment.clone());
        self.segments.store(Arc::new(segments));
        self.active = Some(Active { segment, allocated: 0 });
        Ok(())
    }

    fn create_directory(&self) -> Result<(), StorageError> {
        let create = || {
            self.disk.create_dir_all(&self.directory)?;
            // The directory's own entry, and its parent's: both are new on a first start.
            for parent in self.directory.ancestors().skip(1).take(2) {
                self.disk.sync_dir(parent)?;
            }
            Ok(())
        };
        create().map_err(StorageError::io("cannot create", &self.directory))?;
        Checkpoint { durable_end: self.end, log_start: self.start, ..Checkpoint::default() }
            .write(&*self.disk, &self.directory)
    }

    /// The marker goes before the first append after a start: from here on a crash is unclean.
    fn unmark_clean(&mut self) -> Result<(), StorageError> {
        let mut checkpoint = Checkpoint::read(&*self.disk, &self.directory)?.unwrap_or_default();
        checkpoint.clean = false;
        checkpoint.write(&*self.disk, &self.directory)?;
        self.marked_clean = false;
        Ok(())
    }

    /// Ends the active segment; the next append begins another. Its files are completed by the
    /// next flush.
    pub fn roll(&mut self) {
        if let Some(active) = self.active.take() {
            self.unsealed.push(active.segment);
        }
    }

    /// Whether the active segment is due to end without a further append: its first record is
    /// older than `segment.ms`, or all its records than `retention_ms`.
    #[must_use]
    pub fn is_roll_due(&self, now: Timestamp, retention_ms: Option<i64>) -> bool {
        self.active.as_ref().filter(|active| active.segment.end() > 0).is_some_and(|active| {
            let (first, last) = (active.segment.first_timestamp(), active.segment.max_timestamp());
            let aged = first >= Timestamp(0) && now.since(first) > self.options.segment_ms;
            let expired = retention_ms
                .is_some_and(|retention| last >= Timestamp(0) && now.since(last) > retention);
            aged || expired
        })
    }

    /// Keeps the producer state as of `at`, the log end, to be written with the next flush.
    pub fn save_producers(&mut self, producers: &ProducerTable, at: Offset) {
        self.snapshot = Some((at, producers.encode()));
    }

    /// What has to be synced, if anything. `epochs` goes into the checkpoint that follows a roll.
    pub fn begin_flush(&mut self, epochs: &EpochCache) -> Option<FlushTicket> {
        if self.poisoned || (self.durable_end == self.end && self.unsealed.is_empty()) {
            return None;
        }
        let sealing = std::mem::take(&mut self.unsealed);
        let checkpoint = (!sealing.is_empty()).then(|| Checkpoint {
            durable_end: self.end,
            log_start: self.start,
            clean: false,
            epochs: epochs.clone(),
        });
        Some(FlushTicket {
            disk: self.disk.clone(),
            directory: self.directory.clone(),
            upto: self.end,
            sealing,
            active: self.active.as_ref().map(|active| active.segment.clone()),
            entries_dirty: std::mem::take(&mut self.entries_dirty),
            snapshot: self.snapshot.take(),
            checkpoint,
        })
    }

    /// Takes note of a finished flush; returns the new durable end.
    ///
    /// # Errors
    /// The flush's own: final for this log.
    pub fn end_flush(
        &mut self,
        result: Result<Flushed, StorageError>,
    ) -> Result<Offset, StorageError> {
        match result {
            Ok(flushed) => {
                self.durable_end = self.durable_end.max(flushed.upto);
                self.snapshot_at = self.snapshot_at.max(flushed.snapshot_at);
                Ok(self.durable_end)
            }
            Err(error) => {
                self.poisoned = true;
                Err(error)
            }
        }
    }

    /// The log start that retention asks for: behind full segments whose records are all older
    /// than `retention_ms`, and while more than `retention_bytes` remain, but never beyond `upto`.
    #[must_use]
    pub fn expired_by_retention(
        &self,
        now: Timestamp,
        retention_ms: Option<i64>,
        retention_bytes: Option<u64>,
        upto: Offset,
    ) -> Option<Offset> {
        let segments = self.segments.load();
        let full = segments.len() - usize::from(self.active.is_some());
        let mut remaining: u64 = segments.iter().map(|segment| segment.end()).sum();
        let mut start = None;
        for segment in segments.iter().take(full) {
            if segment.next_offset() > upto {
                break;
            }
            let last = segment.max_timestamp();
            let expired = retention_ms
                .is_some_and(|retention| last >= Timestamp(0) && now.since(last) > retention);
            let size = segment.end();
            let surplus = retention_bytes.is_some_and(|bytes| remaining - size >= bytes);
            if !expired && !surplus {
                break;
            }
            remaining -= size;
            start = Some(segment.next_offset());
        }
        start
    }

    /// Moves the log start forward, durably, and removes the segments that lie wholly below it.
    ///
    /// # Errors
    /// The new start could not be written down; nothing was removed.
    pub fn advance_start(&mut self, to: Offset, epochs: &EpochCache) -> Result<(), StorageError> {
        if to <= self.start {
            return Ok(());
        }
        self.start = to;
        if !self.disk.exists(&self.directory) {
            return Ok(());
        }
        // The durable end is what the last flush found, whatever was appended since.
        Checkpoint {
            durable_end: self.durable_end.min(self.sealed_end()),
            log_start: to,
            clean: self.marked_clean,
            epochs: epochs.clone(),
        }
        .write(&*self.disk, &self.directory)?;
        self.remove_below(to)
    }

    /// The end of what is sealed: appends behind it may still be torn by a crash.
    fn sealed_end(&self) -> Offset {
        match (&self.active, self.unsealed.first()) {
            (_, Some(first)) => first.base,
            (Some(active), None) if !self.marked_clean => active.segment.base,
            _ => self.end,
        }
    }

    fn remove_below(&mut self, start: Offset) -> Result<(), StorageError> {
        let segments = self.segments.load_full();
        let full = segments.len() - usize::from(self.active.is_some());
        let below = |end: Offset| {
            segments.iter().take(full).take_while(move |segment| segment.next_offset() <= end)
        };
        if below(start).count() == 0 {
            return Ok(());
        }
        // What a producer wrote last may be in a segment on its way out: the state on disk must
        // know it first, or a crash would bring back an older state. One that runs ahead of what
        // is durable must not be written; its segments stay for the next time.
        if let Some((at, content)) = self.snapshot.take_if(|(at, _)| *at <= self.durable_end) {
            write_snapshot(&*self.disk, &self.directory, at, &content)?;
            self.snapshot_at = self.snapshot_at.max(at);
        }
        let gone = below(start.min(self.snapshot_at)).count();
        if gone == 0 {
            return Ok(());
        }
        let (removed, kept) = segments.split_at(gone);
        self.segments.store(Arc::new(kept.to_vec()));
        self.unsealed.retain(|segment| kept.iter().any(|other| other.base == segment.base));
        for segment in removed {
            // The log goes first: index files alone mean nothing.
            for suffix in [super::segment::LOG_SUFFIX, "index", "timeindex"] {
                let path = segment.path.with_extension(suffix);
                match self.disk.remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(StorageError::io("cannot remove", &path)(error));
                    }
                    Ok(()) | Err(_) => {}
                }
            }
        }
        self.entries_dirty = true;
        Ok(())
    }

    /// Syncs everything, seals the last segment and marks the log clean.
    ///
    /// # Errors
    /// What could not be written; the next start recovers by reading.
    pub fn close(
        mut self,
        producers: &ProducerTable,
        epochs: &EpochCache,
    ) -> Result<(), StorageError> {
        if self.poisoned || self.marked_clean || !self.disk.exists(&self.directory) {
            return if self.poisoned { Err(StorageError::Poisoned) } else { Ok(()) };
        }
        self.save_producers(producers, self.end);
        self.roll();
        if let Some(mut ticket) = self.begin_flush(epochs) {
            ticket.checkpoint = None;
            ticket.sync()?;
        } else if let Some((at, content)) = self.snapshot.take() {
            write_snapshot(&*self.disk, &self.directory, at, &content)?;
        }
        Checkpoint {
            durable_end: self.end,
            log_start: self.start,
            clean: true,
            epochs: epochs.clone(),
        }
        .write(&*self.disk, &self.directory)
    }

    /// Removes the log and its directory.
    ///
    /// # Errors
    /// What could not be removed; the next start tries again.
    pub fn delete(self) -> Result<(), StorageError> {
        if !self.disk.exists(&self.directory) {
            return Ok(());
        }
        let mut renamed = self.directory.clone().into_os_string();
        renamed.push(".");
        renamed.push(DELETED_SUFFIX);
        let renamed = PathBuf::from(renamed);
        self.disk
            .rename(&self.directory, &renamed)
            .and_then(|()| self.disk.remove_dir_all(&renamed))
            .map_err(StorageError::io("cannot remove", &self.directory))
    }
}

/// What one flush makes durable. Runs without the log's lock.
#[derive(Debug)]
pub struct FlushTicket {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    upto: Offset,
    sealing: Vec<Arc<Segment>>,
    active: Option<Arc<Segment>>,
    entries_dirty: bool,
    snapshot: Option<(Offset, Vec<u8>)>,
    checkpoint: Option<Checkpoint>,
}

/// A finished flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flushed {
    upto: Offset,
    snapshot_at: Offset,
}

impl FlushTicket {
    /// Syncs. The order matters: a checkpoint is written after what it vouches for.
    ///
    /// # Errors
    /// The first failure. It is final: a sync that failed must not be repeated, the next one would
    /// claim success for pages the kernel has dropped.
    pub fn sync(self) -> Result<Flushed, StorageError> {
        for segment in &self.sealing {
            segment.seal(&*self.disk)?;
        }
        if let Some(segment) = &self.active {
            segment.file.sync_data().map_err(StorageError::io("cannot sync", &segment.path))?;
        }
        if self.entries_dirty {
            self.disk
                .sync_dir(&self.directory)
                .map_err(StorageError::io("cannot sync", &self.directory))?;
        }
        if let Some((at, content)) = &self.snapshot {
            write_snapshot(&*self.disk, &self.directory, *at, content)?;
        }
        if let Some(checkpoint) = &self.checkpoint {
            let sealed_end = self.sealing.last().map_or(self.upto, |last| last.next_offset());
            let durable_end = checkpoint.durable_end.min(sealed_end);
            Checkpoint { durable_end, ..checkpoint.clone() }.write(&*self.disk, &self.directory)?;
        }
        let snapshot_at = self.snapshot.map_or(Offset::ZERO, |(at, _)| at);
        Ok(Flushed { upto: self.upto, snapshot_at })
    }
}

/// Writes a producer snapshot and removes those no longer needed.
fn write_snapshot(
    disk: &dyn Disk,
    directory: &Path,
    at: Offset,
    content: &[u8],
) -> Result<(), StorageError> {
    let path = directory.join(file_name(at, SNAPSHOT_SUFFIX));
    write_atomically(disk, &path, content).map_err(StorageError::io("cannot write", &path))?;
    let names = disk.list(directory).map_err(StorageError::io("cannot list", directory))?;
    let mut old: Vec<String> = names
        .into_iter()
        .filter(|name| super::segment::base_of(name, SNAPSHOT_SUFFIX).is_some())
        .collect();
    old.truncate(old.len().saturating_sub(SNAPSHOTS_KEPT));
    for name in old {
        let path = directory.join(name);
        disk.remove_file(&path).map_err(StorageError::io("cannot remove", &path))?;
    }
    Ok(())
}
