//! The writer of one partition's log.
//!
//! An append is one positioned write of the batch as it came, behind sixteen new bytes of header.
//! Space is allocated ahead in growing steps; files appear with the first append. What makes
//! appends durable runs outside the caller's lock, as a [`FlushTicket`].

mod compaction;
mod cut;
mod follow;
mod repair;

pub use compaction::CompactionScope;
pub use cut::Cut;
pub use repair::RepairScope;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use sawlog_protocol::records::{BatchHeader, patched_prefix};

use super::checkpoint::{Checkpoint, CheckpointStore};
use super::closing::Closing;
use super::compact::ProgressStore;
use super::epochs::EpochCache;
use super::error::StorageError;
use super::flush::{Epochs, FlushTicket, Flushed, Side, Snapshot};
use super::producers::ProducerTable;
use super::quarantine::{Quarantine, QuarantinedRange};
use super::reader::{LogReader, Segments};
use super::scrub::LogScrubber;
use super::segment::Segment;
use crate::base::disk::{Create, Disk, Syncs};
use crate::base::{LeaderEpoch, Offset, Timestamp};

/// Bytes of a batch that are written anew: base offset, length, leader epoch.
const PREFIX_BYTES: usize = 16;

/// First and largest step in which a segment file grows.
const ALLOCATION_STEP_MIN: u64 = 1024 * 1024;
const ALLOCATION_STEP_MAX: u64 = 64 * 1024 * 1024;

/// Bytes of log after which a flush writes down how far it got, besides every end of a segment.
/// Below that, damage is told from a torn write.
const CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes of log, or a part of a small segment, after which a flush notes how far it got: what a start
/// after kill -9 writes once more.
const NOTE_BYTES: u64 = 1024 * 1024;
const NOTE_SEGMENT_PART: u64 = 4;

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
///
/// Always holds: `start <= end`, `durable_end <= end`; the active segment is the last of the list;
/// at most one flush is under way.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    options: LogOptions,
    segments: Segments,
    /// The segment that takes appends; none before the first append and after a roll.
    active: Option<Active>,
    start: Offset,
    /// `start`, for readers.
    published_start: Arc<AtomicI64>,
    end: Offset,
    durable_end: Offset,
    /// Full segments whose index files are not written yet, oldest first.
    unsealed: Vec<Arc<Segment>>,
    /// Producer state to be written with the next flush.
    snapshot: Option<Snapshot>,
    /// A segment has ended since producer state was last saved.
    snapshot_due: bool,
    /// The producer state on disk is as of this offset: batches below may be removed.
    snapshot_at: Offset,
    /// The directory has entries that are not durable.
    entries_dirty: bool,
    /// What must not be served; shared with readers and the scrubber.
    quarantine: Arc<Quarantine>,
    /// The files beside the segments; shared with the flush.
    side: Arc<Side>,
    /// Bytes appended since the checkpoint was written.
    unchecked_bytes: u64,
    /// Bytes appended since the checkpoint or a note of how far it got was written.
    unnoted_bytes: u64,
    /// The directory is there, and both checkpoints say where the log begins.
    prepared: bool,
    /// The checkpoint on disk says "clean".
    marked_clean: bool,
    flushing: bool,
    /// Segments whose index files the flush under way writes.
    sealing: Vec<Arc<Segment>>,
    /// Offsets whose segments are being replaced; none of their files is removed meanwhile.
    swapping: Option<Range<Offset>>,
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
    pub(super) store: CheckpointStore,
    pub(super) quarantine: Arc<Quarantine>,
    pub(super) progress: ProgressStore,
    /// The directory is there, and both files of the checkpoint say where the log begins, or the
    /// first segment does.
    pub(super) prepared: bool,
    pub(super) segments: Vec<Arc<Segment>>,
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
        let Opened {
            store, progress, prepared, segments, unsealed, start, end, marked_clean, ..
        } = opened;
        let quarantine = opened.quarantine;
        let side = Side::new(disk.clone(), directory.clone(), store, progress, quarantine.clone());
        Self {
            side: Arc::new(side),
            quarantine,
            disk,
            directory,
            options,
            segments: Arc::new(ArcSwap::from_pointee(segments)),
            active: None,
            start,
            published_start: Arc::new(AtomicI64::new(start.0)),
            end,
            durable_end: end,
            unsealed,
            snapshot: opened.snapshot.map(|content| Snapshot { at: end, content }),
            snapshot_due: false,
            snapshot_at: opened.snapshot_at,
            entries_dirty: false,
            unchecked_bytes: 0,
            unnoted_bytes: 0,
            prepared,
            marked_clean,
            flushing: false,
            sealing: Vec::new(),
            swapping: None,
            poisoned: false,
        }
    }

    /// Whether segments were read whose index files are not written yet.
    pub(super) fn has_unsealed(&self) -> bool {
        !self.unsealed.is_empty()
    }

    /// Writes once more what a start has found and nothing says was ever synced: all from `synced_upto`
    /// on. Where a sync has failed before, that is in the page cache alone, and counts as written.
    pub(super) fn write_found_again(&self, synced_upto: Offset) -> Result<(), StorageError> {
        if planted!(TrustPageCache) {
            return Ok(());
        }
        for segment in self.unsealed.iter().filter(|it| it.next_offset() > synced_upto) {
            let whole = segment.base >= synced_upto;
            let position = if whole { 0 } else { segment.position_before(synced_upto)? };
            segment.write_again(position)?;
        }
        self.side.checkpoint.write_again()
    }

    /// Makes durable what a start has found in segments that were not sealed, and what it has cut.
    pub(super) fn sync_found(&self) -> Result<(), StorageError> {
        for segment in &self.unsealed {
            segment.sync()?;
        }
        self.side.checkpoint.sync_again()?;
        self.disk
            .sync_dir(&self.directory)
            .map_err(StorageError::io("cannot sync", &self.directory))
    }

    /// A reader beside this writer.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.segments.clone(), self.published_start.clone(), self.quarantine.clone())
    }

    /// What reads its sealed segments again, from any thread.
    #[must_use]
    pub fn scrubber(&self) -> LogScrubber {
        LogScrubber::new(self.segments.clone(), self.side.clone())
    }

    /// The ranges that are damaged and not served, in order.
    #[must_use]
    pub fn quarantined(&self) -> Arc<Vec<QuarantinedRange>> {
        self.quarantine.ranges()
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
        assert_eq!(base_offset, self.end, "a batch goes to the end of the log");
        self.append_at(batch, header, base_offset, leader_epoch)
    }

    fn append_at(
        &mut self,
        batch: &[u8],
        header: &BatchHeader,
        base_offset: Offset,
        leader_epoch: LeaderEpoch,
    ) -> Result<Appended, StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        assert_eq!(batch.len(), header.total_len(), "one whole batch is written");
        let length = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let last_offset = base_offset.plus(i64::from(header.last_offset_delta));
        if self.must_roll(length, last_offset, Timestamp(header.max_timestamp)) {
            self.roll();
        }
        let prefix = patched_prefix(header, base_offset.0, leader_epoch.0);
        let rest = batch.get(PREFIX_BYTES..).unwrap_or_default();
        // The first batch of a copy may begin before the log does.
        let at = base_offset.min(self.end);
        let result = self.unmark_clean().and_then(|()| self.write(&prefix, rest, (at, length)));
        self.poisoned |= result.as_ref().is_err_and(StorageError::is_fatal);
        if planted!(RetryFailedWrite) {
            self.poisoned = false;
        }
        let segment = result?;
        segment.publish(header, base_offset, self.options.index_interval_bytes);
        self.end = last_offset.plus(1);
        self.unchecked_bytes += length;
        self.unnoted_bytes += length;
        let rolled = std::mem::take(&mut self.snapshot_due);
        self.check();
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

    /// Writes a batch of `length` bytes at the end of the active segment; if there is none, it is
    /// begun at the offset `at`.
    fn write(
        &mut self,
        prefix: &[u8],
        rest: &[u8],
        (at, length): (Offset, u64),
    ) -> Result<Arc<Segment>, StorageError> {
        let unfit = |segment: &Segment| segment.capacity() < length || segment.base != at;
        if self
            .active
            .as_ref()
            .is_some_and(|active| active.segment.end() == 0 && unfit(&active.segment))
        {
            // Begun for another batch that found no space: its range is too short.
            self.drop_empty_segment(at)?;
        }
        if self.active.is_none() {
            self.begin_segment(at, length)?;
        }
        let Some(active) = &mut self.active else { return Err(StorageError::Poisoned) };
        let segment = &active.segment;
        let needed = segment.end() + length;
        assert!(needed <= segment.capacity(), "{needed} bytes in {}", segment.capacity());
        if needed > active.allocated {
            let step = active.allocated.clamp(ALLOCATION_STEP_MIN, ALLOCATION_STEP_MAX);
            let wanted = (active.allocated + step).min(segment.capacity()).max(needed);
            // On a nearly full disk the batch may fit where the step does not.
            active.allocated = match segment.file.allocate(wanted) {
                Ok(()) => wanted,
                Err(_) => {
                    let failed = StorageError::io("cannot extend", &segment.path);
                    segment.file.allocate(needed).map_err(failed)?;
                    needed
                }
            };
        }
        segment.write(prefix, rest).map_err(|source| StorageError::Io {
            // A failed write is final even if it failed for space: what is there is unknown.
            doing: "cannot write",
            path: segment.path.clone(),
            source,
        })?;
        Ok(segment.clone())
    }

    /// Begins the segment at `base`, large enough for one batch of `length` bytes.
    fn begin_segment(&mut self, base: Offset, length: u64) -> Result<(), StorageError> {
        if !self.prepared {
            self.prepare()?;
        }
        let capacity = self.options.segment_bytes.max(length);
        let segment =
            Segment::open(&self.disk, &self.directory, base, capacity, Create::IfMissing)?;
        let segment = Arc::new(segment);
        self.entries_dirty = true;
        let mut segments = self.segments.load().as_ref().clone();
        segments.push(segment.clone());
        self.segments.store(Arc::new(segments));
        self.active = Some(Active { segment, allocated: 0 });
        Ok(())
    }

    /// Forgets the active segment, in which nothing was written; its file is used again where the
    /// next begins at the same offset, `at`.
    fn drop_empty_segment(&mut self, at: Offset) -> Result<(), StorageError> {
        self.active = None;
        let mut segments = self.segments.load().as_ref().clone();
        let dropped = segments.pop();
        self.segments.store(Arc::new(segments));
        match dropped.filter(|dropped| dropped.base != at) {
            Some(dropped) => self.side.remove(&[dropped]),
            None => Ok(()),
        }
    }

    /// Makes what must be there before the first segment: its directory, and the checkpoint without
    /// which recovery would not know a torn write from damage.
    fn prepare(&mut self) -> Result<(), StorageError> {
        let failed = |source| StorageError::io("cannot create", &self.directory)(source);
        self.disk.create_dir_all(&self.directory).map_err(failed)?;
        // Both files, so that writing them never needs space again, and so that one of them is
        // enough to tell where the segment begins.
        self.side.checkpoint.write_both()?;
        // The directory's own entry, and its parent's: both are new on a first start. Last, as a file
        // system with a journal has by now committed both with the first checkpoint.
        for parent in self.directory.ancestors().skip(1).take(2) {
            self.disk.sync_dir(parent).map_err(failed)?;
        }
        self.prepared = true;
        Ok(())
    }

    /// The marker goes before the first append after a start: from here on a crash is unclean.
    fn unmark_clean(&mut self) -> Result<(), StorageError> {
        if self.marked_clean {
            self.side.checkpoint.update(|checkpoint| checkpoint.clean = false)?;
            self.marked_clean = false;
        }
        Ok(())
    }

    /// Ends the active segment; the next append begins another. Its files are completed by the
    /// next flush.
    pub fn roll(&mut self) {
        if self.active.as_ref().is_some_and(|active| active.segment.end() == 0) {
            return;
        }
        if let Some(active) = self.active.take() {
            active.segment.close();
            self.unsealed.push(active.segment);
            self.snapshot_due = true;
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
        self.snapshot = Some(Snapshot { at, content: producers.encode() });
        self.snapshot_due = false;
    }

    /// What has to be synced, if anything and nothing is being synced. `epochs` goes into the
    /// checkpoint that follows a roll.
    pub fn begin_flush(&mut self, epochs: &EpochCache) -> Option<FlushTicket> {
        let dirty = self.durable_end < self.end || !self.unsealed.is_empty();
        if self.poisoned || self.flushing || !dirty {
            return None;
        }
        self.flushing = true;
        let checkpoint = !self.unsealed.is_empty() || self.unchecked_bytes >= CHECKPOINT_BYTES;
        if checkpoint {
            self.unchecked_bytes = 0;
        }
        let noted_after = NOTE_BYTES.min(self.options.segment_bytes / NOTE_SEGMENT_PART);
        let notes = self.unnoted_bytes >= noted_after;
        if checkpoint || notes {
            self.unnoted_bytes = 0;
        }
        self.sealing = self.unsealed.clone();
        Some(FlushTicket {
            side: self.side.clone(),
            upto: self.end,
            sealing: std::mem::take(&mut self.unsealed),
            active: self.active.as_ref().map(|active| active.segment.clone()),
            entries_dirty: std::mem::take(&mut self.entries_dirty),
            snapshot: self.snapshot.take(),
            epochs: checkpoint.then(|| Epochs {
                now: epochs.clone(),
                written: self.side.checkpoint.content().epochs,
            }),
            notes,
        })
    }

    /// Takes note of records that are durable by the flush under way, which may have side files left
    /// to write; returns the new durable end.
    pub fn on_synced(&mut self, upto: Offset) -> Offset {
        assert!(upto <= self.end, "synced to {upto}, the log ends at {}", self.end);
        self.durable_end = self.durable_end.max(upto);
        self.durable_end
    }

    /// Takes note of a finished flush; returns the new durable end.
    ///
    /// # Errors
    /// The flush's own: final for this log.
    pub fn end_flush(
        &mut self,
        result: Result<Flushed, StorageError>,
    ) -> Result<Offset, StorageError> {
        self.flushing = false;
        self.sealing.clear();
        let flushed = result.inspect_err(|_| self.poisoned = true)?;
        self.on_synced(flushed.upto);
        self.snapshot_at = self.snapshot_at.max(flushed.snapshot_at);
        // What found no space is tried again with the next flush.
        let segments = self.segments.load();
        let mut unsealed = flushed.unsealed;
        unsealed.retain(|segment| segments.iter().any(|known| Arc::ptr_eq(known, segment)));
        unsealed.append(&mut self.unsealed);
        self.unsealed = unsealed;
        self.snapshot = self.snapshot.take().or(flushed.snapshot);
        drop(segments);
        // Segments that waited for the producer state to be on disk.
        self.remove_below(self.start).inspect_err(|_| self.poisoned = true)?;
        self.check();
        Ok(self.durable_end)
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
        for (at, segment) in segments.iter().take(full).enumerate() {
            if segment.next_offset() > upto {
                break;
            }
            // One damaged as a whole is as old as the next that is not.
            let dated = segments.iter().skip(at).find_map(|segment| segment.max());
            let last = dated.map_or(Timestamp::NONE, |max| max.timestamp);
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
    /// The new start could not be written down, and the start is where it was; or a segment could
    /// not be removed.
    pub fn advance_start(&mut self, to: Offset, epochs: &EpochCache) -> Result<(), StorageError> {
        if to <= self.start {
            return Ok(());
        }
        assert!(to <= self.end, "the log starts at or before its end");
        if planted!(RemoveBeforeLogStart) {
            self.remove_below(to)?;
        }
        let durable_end = self.durable_end;
        let written = self.side.checkpoint.update(|checkpoint| {
            checkpoint.durable_end = checkpoint.durable_end.max(durable_end);
            checkpoint.log_start = to;
            checkpoint.epochs = epochs.clone();
        });
        self.poisoned |= written.as_ref().is_err_and(StorageError::is_fatal);
        written?;
        self.start = to;
        self.published_start.store(to.0, Ordering::Release);
        let removed = self.remove_below(to);
        self.poisoned |= removed.as_ref().is_err_and(StorageError::is_fatal);
        self.check();
        removed
    }

    fn remove_below(&mut self, start: Offset) -> Result<(), StorageError> {
        let segments = self.segments.load_full();
        let full = segments.len() - usize::from(self.active.is_some());
        let below = |end: Offset| {
            segments.iter().take(full).take_while(move |segment| segment.next_offset() <= end)
        };
        if below(start).next().is_none() {
            return Ok(());
        }
        // What a producer wrote last may be in a segment on its way out: the state on disk must
        // know it first, or a crash would bring back an older state. One that runs ahead of what
        // is durable must not be written; its segments stay for the next time.
        let durable_end = self.durable_end;
        if let Some(snapshot) = self.snapshot.take_if(|snapshot| snapshot.at <= durable_end) {
            match self.side.write_snapshot(&snapshot) {
                Ok(()) => self.snapshot_at = self.snapshot_at.max(snapshot.at),
                Err(StorageError::NoSpace { .. }) => self.snapshot = Some(snapshot),
                Err(error) => return Err(error),
            }
        }
        let swapping = self.swapping.as_ref().map_or(Offset(i64::MAX), |range| range.start);
        let removable = below(start.min(self.snapshot_at));
        let gone = removable.take_while(|segment| segment.next_offset() <= swapping).count();
        if gone == 0 {
            return Ok(());
        }
        let (removed, kept) = segments.split_at(gone);
        self.segments.store(Arc::new(kept.to_vec()));
        self.unsealed.retain(|segment| kept.iter().any(|other| Arc::ptr_eq(other, segment)));
        self.quarantine.forget_below(kept.first().map_or(start, |first| first.base.min(start)));
        self.entries_dirty = true;
        self.side.remove(removed)
    }

    /// Syncs everything, seals the last segment and marks the log clean.
    ///
    /// # Errors
    /// What could not be written; the next start recovers by reading.
    pub fn close(self, producers: &ProducerTable, epochs: &EpochCache) -> Result<(), StorageError> {
        let Some(mut closing) = self.begin_close(producers, epochs)? else { return Ok(()) };
        let syncs = if planted!(CloseUnsynced) { Syncs::Shared } else { Syncs::Own };
        while closing.step(syncs)? {}
        Ok(())
    }

    /// Begins what [`Log::close`] does at once; none where nothing is to be done.
    ///
    /// # Errors
    /// The log has failed, or is being flushed.
    pub fn begin_close(
        mut self,
        producers: &ProducerTable,
        epochs: &EpochCache,
    ) -> Result<Option<Closing>, StorageError> {
        if self.poisoned || self.flushing {
            // What a flush under way makes of it is not known here.
            return Err(StorageError::Poisoned);
        }
        if self.marked_clean || !self.disk.exists(&self.directory) {
            return Ok(None);
        }
        self.roll();
        self.save_producers(producers, self.end);
        let mut ticket = self.begin_flush(epochs);
        let snapshot = ticket.as_mut().and_then(|ticket| ticket.snapshot.take());
        let checkpoint = Checkpoint {
            durable_end: self.end,
            log_start: self.start,
            clean: true,
            epochs: epochs.clone(),
        };
        let snapshot = snapshot.or(self.snapshot.take());
        Ok(Some(Closing::new(self.side, ticket, snapshot, checkpoint)))
    }

    /// The invariants of the type, in debug builds.
    fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        assert!(self.start <= self.end, "start {} end {}", self.start, self.end);
        assert!(self.durable_end <= self.end, "durable {} end {}", self.durable_end, self.end);
        let segments = self.segments.load();
        let in_sequence =
            segments.array_windows().all(|[one, next]| one.next_offset() <= next.base);
        assert!(in_sequence, "segments overlap in {}", self.directory.display());
        if let Some(active) = &self.active {
            let last = segments.last().is_some_and(|last| Arc::ptr_eq(last, &active.segment));
            assert!(last, "the active segment is the last");
            assert!(active.segment.end() == 0 || active.segment.next_offset() == self.end);
        }
    }

    #[cfg(test)]
    pub(super) fn is_quarantine_written(&self) -> bool {
        self.quarantine.is_written()
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
