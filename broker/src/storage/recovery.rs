//! Opening a log: what is on disk, and what of it is true.
//!
//! - Sealed segments below the checkpoint with valid index files are trusted: 88 bytes are read of
//!   each, so that the time a start takes does not grow with them.
//! - Any other is read batch by batch: checksum, offsets in sequence, epochs as known.
//! - The first batch that fails ends the log *if* it lies at or above the durable checkpoint and
//!   may be a torn write: nobody was told it exists. It and all behind it is cut.
//! - Below the checkpoint it is damage, and so it is above where it is not what a crash leaves: its
//!   offsets are quarantined, its bytes left as they are, and the log goes on with the next batch
//!   that can be read. So is every bad batch where the checkpoint itself is damaged; only where the
//!   log ends is then not known, and a log damaged there is not opened.
//! - Index files and producer state that are missing or damaged are rebuilt from the log.
//! - What was read and cut is durable before the log is handed out: each log by itself, or many at
//!   once ([`Unsynced`]). What no checkpoint says was synced is written once more before: after a sync
//!   that failed, in the process before, the page cache shows what the disk does not have.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sawlog_protocol::records::BatchHeader;

use super::checkpoint::{Checkpoint, CheckpointStore, Found};
use super::compact::{self, ProgressStore};
use super::epochs::EpochCache;
use super::error::StorageError;
use super::index_file::{FileIndex, INDEX_SUFFIX, TIME_INDEX_SUFFIX};
use super::log::{Log, LogOptions, Opened, SNAPSHOT_SUFFIX};
use super::producers::ProducerTable;
use super::quarantine::{Quarantine, QuarantinedRange};
use super::scan::{Ahead, Gaps, Rule, Scan, Step};
use super::segment::{LOG_SUFFIX, Segment, base_of, file_name, remove_if_there};
use crate::base::disk::{Create, Disk, read_whole};
use crate::base::{LeaderEpoch, Offset, Timestamp};

/// Longest producer snapshot that is read.
pub(super) const SNAPSHOT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What opening a log took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The last stop was clean: nothing was read.
    pub clean: bool,
    /// Bytes of record batches read and checked.
    pub bytes_scanned: u64,
    /// Bytes of torn tail cut off.
    pub bytes_cut: u64,
    /// Segments whose index files were missing or damaged.
    pub indexes_rebuilt: usize,
    /// Damaged ranges that were not known before; [`Log::quarantined`] has all.
    pub quarantined: usize,
    /// What the checkpoint vouched for: nothing below was cut.
    pub checkpoint_end: Offset,
    /// The checkpoint was damaged: the log was read as a whole, and nothing of it cut.
    pub checkpoint_damaged: bool,
}

/// An opened log.
#[derive(Debug)]
pub struct Recovered {
    /// The writer.
    pub log: Log,
    /// Producer state as of the log end.
    pub producers: ProducerTable,
    /// Leader epochs as of the log end.
    pub epochs: EpochCache,
    /// What it took.
    pub report: RecoveryReport,
}

impl Log {
    /// Opens the log in `directory`, which may not exist yet.
    ///
    /// # Errors
    /// Damage that leaves unknown where the log ends, files of a later version, or a file operation
    /// that failed.
    pub fn open(
        disk: Arc<dyn Disk>,
        directory: PathBuf,
        options: LogOptions,
        now: Timestamp,
    ) -> Result<Recovered, StorageError> {
        Self::read(disk, directory, options, now)?.sync()
    }

    /// As [`Log::open`], but what was found may not be on disk yet.
    ///
    /// # Errors
    /// As there.
    pub fn read(
        disk: Arc<dyn Disk>,
        directory: PathBuf,
        options: LogOptions,
        now: Timestamp,
    ) -> Result<Unsynced, StorageError> {
        let (store, found) = CheckpointStore::load(disk.clone(), &directory)?;
        let (quarantine, quarantine_whole) = Quarantine::load(&disk, &directory)?;
        let names = if disk.exists(&directory) {
            disk.list(&directory).map_err(StorageError::io("cannot list", &directory))?
        } else {
            Vec::new()
        };
        let names = compact::recover(&disk, &directory, names)?;
        let progress = ProgressStore::load(disk.clone(), &directory)?;
        let bases: Vec<Offset> =
            names.iter().filter_map(|name| base_of(name, LOG_SUFFIX)).collect();
        let snapshots = read_snapshots(&*disk, &directory, &names)?;
        let producers_upto = snapshots.first().map_or(Offset::ZERO, |(at, _)| *at);
        let beside = Beside { producers_upto, quarantine: quarantine_whole.then_some(&quarantine) };
        let known = Known::from(&store, found, &bases, &beside);
        let clean = store.content().clean && known.checkpoint;
        let mut recovery = Recovery {
            disk: &disk,
            directory: &directory,
            options,
            now,
            quarantine: &quarantine,
            expected: known.log_start,
            epochs: known.epochs.clone(),
            last_epoch: None,
            report: RecoveryReport {
                // Without a checkpoint nothing was ever appended: it is made first.
                clean: clean || (bases.is_empty() && found == Found::Nothing),
                checkpoint_damaged: !known.checkpoint,
                checkpoint_end: if known.checkpoint { known.durable_end } else { Offset::ZERO },
                ..RecoveryReport::default()
            },
            known,
            gaps: Gaps::Below(progress.content().gaps_upto),
            segments: Vec::new(),
            unsealed: Vec::new(),
            cut: false,
        };
        recovery.open_segments(&bases, producers_upto)?;
        recovery.check_end()?;
        quarantine.forget_below(recovery.first_needed());
        recovery.write_quarantine()?;
        recovery.remove_litter(&names)?;
        recovery.epochs.truncate_from_end(recovery.expected);
        let (producers, snapshot_at) = recovery.producers(snapshots, now)?;
        let (start, end) = recovery.bounds()?;
        recovery.epochs.truncate_from_start(start);
        let synced_upto = recovery.known.synced_upto;
        let Recovery { epochs, report, segments, unsealed, cut, .. } = recovery;
        // What was found is synced before the log is handed out: the next write of the checkpoint
        // may say so.
        store.assume(Checkpoint {
            durable_end: end,
            log_start: start,
            clean,
            epochs: epochs.clone(),
        });
        let opened = Opened {
            store,
            progress,
            quarantine: Arc::new(quarantine),
            // The next segment may begin beyond all that was ever durable, and only the newer
            // checkpoint say so: without it the segment would be taken for what a crash has left.
            // And one that is damaged is written over before anything else: should it be read as it
            // was one day, it would speak of a log that has changed since.
            prepared: !segments.is_empty() && found == Found::Newest { both: true },
            segments,
            unsealed,
            start,
            end,
            marked_clean: clean,
            snapshot_at,
            snapshot: (snapshot_at < end).then(|| producers.encode()),
        };
        let log = Log::assemble(disk, directory, options, opened);
        // Not clean, as the checkpoint says, which may not be on disk itself.
        let was_used = !clean && found != Found::Nothing;
        let changed = cut || log.has_unsealed() || was_used;
        if changed {
            log.write_found_again(synced_upto)?;
        }
        Ok(Unsynced { recovered: Recovered { log, producers, epochs, report }, changed })
    }
}

/// A log that was read. Readers will see what was found, and the next checkpoint will vouch for it,
/// so it has to be durable first: what a crash left in the page cache, and what was cut.
#[derive(Debug)]
#[must_use = "it can be used once it is synced"]
pub struct Unsynced {
    recovered: Recovered,
    changed: bool,
}

impl Unsynced {
    /// Whether there is something to sync.
    #[must_use]
    pub fn needs_sync(&self) -> bool {
        self.changed
    }

    /// What reading it took.
    #[must_use]
    pub fn report(&self) -> &RecoveryReport {
        &self.recovered.report
    }

    /// Syncs the files of this log.
    ///
    /// # Errors
    /// The first failure, which is final.
    pub fn sync(self) -> Result<Recovered, StorageError> {
        if self.changed && !planted!(ServeUnsynced) {
            self.recovered.log.sync_found()?;
        }
        Ok(self.recovered)
    }

    /// The caller has synced the whole file system since the log was read.
    #[must_use]
    pub fn into_synced(self) -> Recovered {
        self.recovered
    }
}

/// What is known besides the checkpoint.
struct Beside<'a> {
    /// Producer state on disk is as of here.
    producers_upto: Offset,
    /// None if its file is damaged: then nothing tells what must not be served, nor a segment that
    /// was removed from one that is missing.
    quarantine: Option<&'a Quarantine>,
}

/// What the files beside the segments say.
struct Known {
    /// There is a checkpoint, or nothing it could tell.
    checkpoint: bool,
    log_start: Offset,
    /// What is damaged below is never cut. Beyond every offset where it is not known.
    durable_end: Offset,
    /// A sync has succeeded for everything below.
    synced_upto: Offset,
    epochs: EpochCache,
    /// The epochs of all segments below are among `epochs`.
    epochs_upto: Offset,
    /// Sealed segments below need not be read: their epochs and producers are known, and what is
    /// damaged of them.
    trusted_upto: Offset,
}

impl Known {
    /// Whether a batch that should begin at `offset` had been synced, and may be read.
    fn is_durable(&self, offset: Offset) -> bool {
        offset.max(self.log_start) < self.durable_end
    }

    fn from(store: &CheckpointStore, found: Found, bases: &[Offset], beside: &Beside<'_>) -> Self {
        let first = bases.first().copied().unwrap_or_default();
        let checkpoint = store.content();
        match found {
            Found::Nothing if bases.is_empty() => {}
            // A log has a checkpoint from before its first append on: this one is gone. Where the
            // log begins its segments tell, those that are missing too; nothing tells a torn write
            // from damage.
            Found::Nothing | Found::Damaged => {
                let missing = beside.quarantine.map(|quarantine| quarantine.missing_before(first));
                return Self {
                    checkpoint: false,
                    log_start: missing.unwrap_or(first),
                    durable_end: Offset(i64::MAX),
                    synced_upto: Offset::ZERO,
                    epochs: EpochCache::default(),
                    epochs_upto: Offset::ZERO,
                    trusted_upto: Offset::ZERO,
                };
            }
            Found::Newest { .. } | Found::PerhapsOlder => {}
        }
        let producers_upto = beside.producers_upto;
        let damaged_upto = beside.quarantine.map_or(Offset::ZERO, Quarantine::durable_end);
        let moved = match (found, beside.quarantine) {
            // The start may have moved since an older checkpoint, and segments been removed. Then
            // there is producer state from behind them, which is not so where they never reached
            // the disk; and none of them was found missing before.
            (Found::PerhapsOlder, Some(quarantine)) if first <= producers_upto => {
                quarantine.missing_before(first)
            }
            _ => Offset::ZERO,
        };
        let trusted_upto = match beside.quarantine {
            _ if planted!(TrustBeyondCheckpoint) => Offset(i64::MAX),
            Some(_) => checkpoint.durable_end.min(producers_upto),
            None => Offset::ZERO,
        };
        Self {
            checkpoint: true,
            log_start: checkpoint.log_start.max(moved),
            // Producer state is written down after what it is the state of, and what is damaged
            // was durable.
            durable_end: checkpoint.durable_end.max(producers_upto).max(damaged_upto),
            synced_upto: store.synced_upto().max(producers_upto),
            epochs_upto: checkpoint.durable_end,
            trusted_upto,
            epochs: checkpoint.epochs,
        }
    }
}

struct Recovery<'a> {
    disk: &'a Arc<dyn Disk>,
    directory: &'a Path,
    options: LogOptions,
    now: Timestamp,
    quarantine: &'a Quarantine,
    known: Known,
    /// Where the next batch must begin.
    expected: Offset,
    epochs: EpochCache,
    /// The epoch of the batch before: the next one's must not be lower.
    last_epoch: Option<LeaderEpoch>,
    /// Where compaction may have left offsets out.
    gaps: Gaps,
    report: RecoveryReport,
    segments: Vec<Arc<Segment>>,
    unsealed: Vec<Arc<Segment>>,
    /// A torn tail was found: nothing behind it is part of the log.
    cut: bool,
}

impl Recovery<'_> {
    fn open_segments(
        &mut self,
        bases: &[Offset],
        producers_known_upto: Offset,
    ) -> Result<(), StorageError> {
        // Removals are not synced one by one: a crash may bring back any of the segments below the
        // log start, and leave gaps between them. Those the producer state on disk does not cover
        // were never removed, and are still needed to rebuild it.
        let needed_from = self.known.log_start.min(producers_known_upto);
        let first = bases.partition_point(|base| *base <= needed_from).saturating_sub(1);
        let (below, bases) = bases.split_at(first);
        for base in below {
            self.remove_segment(*base)?;
        }
        let first = bases.first().filter(|first| **first <= self.known.log_start);
        self.expected = first.copied().unwrap_or(self.known.log_start);
        for (at, base) in bases.iter().enumerate() {
            if !self.cut && *base <= self.known.log_start {
                // A gap below the log start hides nothing: removed, or lost before it was durable.
                self.expected = self.expected.max(*base);
            }
            if !self.cut && *base > self.expected && self.known.is_durable(self.expected) {
                self.quarantine_missing(self.expected, *base);
            }
            if !self.cut && *base < self.expected && self.known.is_durable(*base) {
                return Err(self.corrupt(*base, 0, "it overlaps the segment before it"));
            }
            if self.cut || *base != self.expected {
                // Behind a torn tail, or begun after bytes that never reached the disk.
                self.cut = true;
                self.remove_segment(*base)?;
                continue;
            }
            let segment = self.open_segment(*base, bases.get(at + 1).copied())?;
            if segment.end() == 0 || segment.next_offset() <= needed_from {
                // Allocated for a batch that was never written, or all gone below the log start.
                self.remove_segment(*base)?;
                self.expected = segment.next_offset().max(needed_from);
            } else {
                segment.close();
                self.expected = segment.next_offset();
                self.segments.push(Arc::new(segment));
            }
        }
        // Scanned segments are completed by the first flush.
        let scanned = self.segments.iter().filter(|segment| !segment.is_sealed());
        self.unsealed = scanned.cloned().collect();
        Ok(())
    }

    /// Whether all that was durable has been found.
    fn check_end(&mut self) -> Result<(), StorageError> {
        if !self.known.checkpoint && self.segments.is_empty() {
            let reason = "no segments, and no checkpoint to say where the log ends";
            return Err(self.corrupt(self.known.log_start, 0, reason));
        }
        // Where the checkpoint says nothing, what was damaged before was there.
        let durable_end = if self.known.checkpoint {
            self.known.durable_end
        } else {
            self.quarantine.durable_end()
        };
        let from = self.expected.max(self.known.log_start);
        if from < durable_end {
            self.quarantine_missing(from, durable_end);
        }
        Ok(())
    }

    /// Where the first segment begins that is kept, or the log start.
    fn first_needed(&self) -> Offset {
        let first = self.segments.first().map_or(Offset(i64::MAX), |segment| segment.base);
        first.min(self.known.log_start)
    }

    /// Segments that were there are gone.
    fn quarantine_missing(&mut self, from: Offset, to: Offset) {
        let reason = "the file is missing".to_owned();
        let found = self.now;
        let range =
            QuarantinedRange { segment: from, from, to, position: 0, bytes: 0, found, reason };
        self.note_damage((from, to), vec![range]);
        self.expected = to;
    }

    fn note_damage(&mut self, span: (Offset, Offset), damage: Vec<QuarantinedRange>) {
        for range in self.quarantine.replace(span, damage) {
            self.quarantine.report(&range);
            self.report.quarantined += 1;
        }
    }

    /// A full disk keeps it in memory; it is written down before a damaged segment is sealed.
    fn write_quarantine(&self) -> Result<(), StorageError> {
        match self.quarantine.persist() {
            Ok(()) | Err(StorageError::NoSpace { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Where the log begins and ends.
    fn bounds(&mut self) -> Result<(Offset, Offset), StorageError> {
        let log_start = self.known.log_start;
        if self.expected < log_start {
            // Only without waiting for the disk can the start have passed what was durable. The log
            // goes on from there: what is left lies below.
            for segment in std::mem::take(&mut self.segments) {
                segment.remove()?;
            }
            self.unsealed.clear();
            return Ok((log_start, log_start));
        }
        Ok((log_start, self.expected))
    }

    /// Opens the segment at `base`; `next` is the base of the one behind it.
    fn open_segment(
        &mut self,
        base: Offset,
        next: Option<Offset>,
    ) -> Result<Segment, StorageError> {
        let path = self.directory.join(file_name(base, LOG_SUFFIX));
        let file =
            self.disk.open(&path, Create::Never).map_err(StorageError::io("cannot open", &path))?;
        let length = file.len().map_err(StorageError::io("cannot read", &path))?;
        drop(file);
        let segment = Segment::open(self.disk, self.directory, base, length, Create::Never)?;
        let files = FileIndex::open(self.disk.clone(), &path)?;
        let trusted = files.filter(|files| {
            let summary = &files.summary;
            let end = base.plus(i64::from(summary.offsets));
            summary.log_bytes == length && summary.base == base && end <= self.known.trusted_upto
        });
        match trusted {
            Some(files) => {
                segment.trust(files);
                segment.set_damage(self.quarantine.spans(base));
                self.last_epoch = self.epochs.epoch_at(segment.next_offset().plus(-1));
            }
            None => self.scan(&segment, length, next)?,
        }
        Ok(segment)
    }

    /// Reads a segment from its start and keeps what is whole.
    fn scan(
        &mut self,
        segment: &Segment,
        length: u64,
        next: Option<Offset>,
    ) -> Result<(), StorageError> {
        let read_error = |source| StorageError::io("cannot read", &segment.path)(source);
        let known_epochs = self.known.epochs.clone();
        let rule =
            Rule { epochs: &known_epochs, epochs_upto: self.known.epochs_upto, gaps: self.gaps };
        let mut scan = Scan::new(&*segment.file, length, segment.base, rule);
        scan.last_epoch = self.last_epoch;
        scan.behind = next.map(|next| self.first_batch(next)).transpose()?.flatten();
        scan.suspects = self.quarantine.damage_of(segment.base);
        // Where the segment must lead up to, if that is known.
        let ahead = Ahead::new(next, self.known.checkpoint.then_some(self.known.durable_end));
        let leads_to = ahead.boundary;
        // What ends below the log start ends nothing that may be read.
        let is_below_start = next.is_some_and(|next| next <= self.known.log_start);
        let mut damage: Vec<QuarantinedRange> = Vec::new();
        loop {
            let reason = match scan.step().map_err(read_error)? {
                Step::Batch(header) => {
                    let base = Offset(header.base_offset);
                    // What is known already stays: a batch between two others says nothing of later ones.
                    let is_known = Offset(header.last_offset()) < self.known.epochs_upto;
                    if !is_known && !planted!(ForgetEpochs) {
                        self.epochs.assign(LeaderEpoch(header.partition_leader_epoch), base);
                    }
                    segment.publish(&header, base, self.options.index_interval_bytes);
                    continue;
                }
                Step::End if is_below_start => break,
                Step::End if leads_to.is_none_or(|end| scan.expected >= end) => break,
                Step::End => "records are missing at the end of the file".to_owned(),
                // All its batches are there. What is behind was allocated, and is none of them.
                Step::Bad(_) if next == Some(scan.expected) => break,
                Step::Bad(reason) => reason,
            };
            let (position, from) = (scan.position, scan.expected);
            if !self.known.is_durable(from) || planted!(CutBelowCheckpoint) {
                let kept = scan.resume_behind_damage(ahead).map_err(read_error)?;
                if !kept || planted!(CutBelowCheckpoint) {
                    (scan.position, scan.expected) = (position, from);
                    self.cut = !is_below_start && (position < length || next.is_some());
                    break;
                }
            } else if !scan.resume(ahead).map_err(read_error)? {
                let Some(end) = leads_to else {
                    return Err(self.corrupt_at(segment.base, position, from, &reason));
                };
                scan.position = length;
                scan.expected = end.max(from.plus(1));
            }
            damage.push(QuarantinedRange {
                segment: segment.base,
                from,
                to: scan.expected,
                position,
                bytes: scan.position - position,
                found: self.now,
                reason,
            });
            segment.skip(scan.position, scan.expected);
        }
        self.expected = scan.expected;
        self.last_epoch = scan.last_epoch;
        self.report.bytes_scanned += scan.position;
        self.report.indexes_rebuilt += 1;
        if self.cut {
            self.report.bytes_cut += length - scan.position;
        }
        let end = scan.position;
        self.note_damage((segment.base, scan.expected), damage);
        segment.set_damage(self.quarantine.spans(segment.base));
        self.discard_behind(segment, end, length)
    }

    /// The first batch of the segment at `base`, if it is whole.
    fn first_batch(&self, base: Offset) -> Result<Option<BatchHeader>, StorageError> {
        let path = self.directory.join(file_name(base, LOG_SUFFIX));
        let read = self.disk.open(&path, Create::Never);
        read.and_then(|file| Scan::first_batch(&*file, base))
            .map_err(StorageError::io("cannot read", &path))
    }

    /// Removes the index files of a segment that was read, and cuts the torn tail and the allocated
    /// rest; no reader has seen either.
    fn discard_behind(&self, segment: &Segment, end: u64, length: u64) -> Result<(), StorageError> {
        for suffix in [INDEX_SUFFIX, TIME_INDEX_SUFFIX] {
            remove_if_there(&**self.disk, &segment.path.with_extension(suffix))?;
        }
        if end < length {
            // Not by the segment's own handle: it would keep the file open until it is synced by it.
            let file = self.disk.open(&segment.path, Create::Never);
            let trimmed = file.and_then(|file| file.set_len(end));
            trimmed.map_err(StorageError::io("cannot trim", &segment.path))?;
        }
        Ok(())
    }

    /// Removes what a crash left half done: temporary files, and index files without their log.
    fn remove_litter(&self, names: &[String]) -> Result<(), StorageError> {
        for name in names {
            let base = base_of(name, INDEX_SUFFIX).or_else(|| base_of(name, TIME_INDEX_SUFFIX));
            let orphan = base.is_some_and(|base| {
                let log = file_name(base, LOG_SUFFIX);
                names.binary_search(&log).is_err()
            });
            if orphan || name.ends_with(".tmp") {
                remove_if_there(&**self.disk, &self.directory.join(name))?;
            }
        }
        Ok(())
    }

    fn remove_segment(&mut self, base: Offset) -> Result<(), StorageError> {
        for suffix in [LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX] {
            remove_if_there(&**self.disk, &self.directory.join(file_name(base, suffix)))?;
        }
        Ok(())
    }

    /// The newest snapshot that is not beyond the end, brought up to it; also where it ends.
    fn producers(
        &self,
        snapshots: Vec<(Offset, ProducerTable)>,
        now: Timestamp,
    ) -> Result<(ProducerTable, Offset), StorageError> {
        let (from, mut table) =
            snapshots.into_iter().find(|(at, _)| *at <= self.expected).unwrap_or_default();
        for segment in self.segments.iter().filter(|segment| segment.next_offset() > from) {
            let position = segment.position_before(from)?;
            segment.walk(position, segment.end(), |located| {
                let base = Offset(located.header.base_offset);
                // The first batch of a copy may begin before the log does.
                if located.header.next_offset() > from.0 {
                    table.record(&located.header, base, now);
                }
                false
            })?;
        }
        Ok((table, from))
    }

    fn corrupt(&self, base: Offset, position: u64, reason: &str) -> StorageError {
        self.corrupt_at(base, position, self.expected, reason)
    }

    fn corrupt_at(
        &self,
        base: Offset,
        position: u64,
        offset: Offset,
        reason: &str,
    ) -> StorageError {
        StorageError::Corrupt {
            path: self.directory.join(file_name(base, LOG_SUFFIX)),
            position,
            offset,
            reason: reason.to_owned(),
        }
    }
}

/// The producer snapshots that are whole, the newest first.
pub(super) fn read_snapshots(
    disk: &dyn Disk,
    directory: &Path,
    names: &[String],
) -> Result<Vec<(Offset, ProducerTable)>, StorageError> {
    let mut snapshots = Vec::new();
    for at in names.iter().filter_map(|name| base_of(name, SNAPSHOT_SUFFIX)) {
        let path = directory.join(file_name(at, SNAPSHOT_SUFFIX));
        let bytes = read_whole(disk, &path, SNAPSHOT_BYTES_MAX)
            .map_err(StorageError::io("cannot read", &path))?;
        let Some(bytes) = bytes else { continue };
        match ProducerTable::decode(&bytes) {
            Some(table) => snapshots.push((at, table)),
            None => ProducerTable::refuse_newer(&bytes, &path)?,
        }
    }
    snapshots.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    Ok(snapshots)
}
