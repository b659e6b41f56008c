//! Opening a log: what is on disk, and what of it is true.
//!
//! - Sealed segments with valid index files are trusted: 88 bytes are read of each, so that the time
//!   a start takes does not grow with them.
//! - What was not sealed is read batch by batch: checksum, offsets in sequence, epochs not falling.
//! - The first batch that fails ends the log *if* it lies at or above the durable checkpoint: only a
//!   torn write can be there, and nobody was told it exists. It and all behind it is cut.
//! - Below the checkpoint it is damage: the log is not opened and nothing of it is changed. So is
//!   every bad batch where the checkpoint itself is damaged: what was durable is then not known.
//! - Index files and producer state that are missing or damaged are rebuilt from the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sawlog_protocol::records::{BATCH_OVERHEAD, BatchHeader, check_crc};

use super::checkpoint::{Checkpoint, CheckpointStore, Found};
use super::epochs::EpochCache;
use super::error::StorageError;
use super::index_file::{FileIndex, INDEX_SUFFIX, TIME_INDEX_SUFFIX};
use super::log::{Log, LogOptions, Opened, SNAPSHOT_SUFFIX};
use super::producers::ProducerTable;
use super::segment::{LOG_SUFFIX, Segment, base_of, file_name, remove_if_there};
use crate::base::disk::{Create, Disk, DiskFile, read_whole};
use crate::base::{LeaderEpoch, Offset, Timestamp};

/// Longest producer snapshot that is read.
const SNAPSHOT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bytes of log read at once.
const SCAN_BYTES: usize = 1024 * 1024;

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
    /// Damage below the durable checkpoint, files of a later version, or a file operation that
    /// failed.
    pub fn open(
        disk: Arc<dyn Disk>,
        directory: PathBuf,
        options: LogOptions,
        now: Timestamp,
    ) -> Result<Recovered, StorageError> {
        let (store, found) = CheckpointStore::load(disk.clone(), &directory)?;
        let names = if disk.exists(&directory) {
            disk.list(&directory).map_err(StorageError::io("cannot list", &directory))?
        } else {
            Vec::new()
        };
        let bases: Vec<Offset> =
            names.iter().filter_map(|name| base_of(name, LOG_SUFFIX)).collect();
        let snapshots = read_snapshots(&*disk, &directory, &names)?;
        let producers_upto = snapshots.first().map_or(Offset::ZERO, |(at, _)| *at);
        let known = Known::from(&store, found, &bases, producers_upto);
        let clean = store.content().clean && known.checkpoint;
        let mut recovery = Recovery {
            disk: &disk,
            directory: &directory,
            options,
            expected: known.log_start,
            epochs: known.epochs.clone(),
            last_epoch: None,
            report: RecoveryReport {
                clean: clean || bases.is_empty(),
                checkpoint_damaged: !known.checkpoint,
                ..RecoveryReport::default()
            },
            known,
            segments: Vec::new(),
            unsealed: Vec::new(),
            cut: false,
        };
        recovery.open_segments(&bases, producers_upto)?;
        recovery.check_end()?;
        recovery.remove_litter(&names)?;
        recovery.epochs.truncate_from_end(recovery.expected);
        let (producers, snapshot_at) = recovery.producers(snapshots, now)?;
        let (start, end) = recovery.bounds()?;
        recovery.epochs.truncate_from_start(start);
        let Recovery { epochs, report, segments, unsealed, .. } = recovery;
        // What was found has been synced: the next write of the checkpoint may say so.
        store.assume(Checkpoint {
            durable_end: end,
            log_start: start,
            clean,
            epochs: epochs.clone(),
        });
        let opened = Opened {
            store,
            prepared: matches!(found, Found::Newest { both: true } | Found::PerhapsOlder),
            segments,
            unsealed,
            start,
            end,
            marked_clean: clean,
            snapshot_at,
            snapshot: (snapshot_at < end).then(|| producers.encode()),
        };
        let log = Log::assemble(disk, directory, options, opened);
        Ok(Recovered { log, producers, epochs, report })
    }
}

/// What the files beside the segments say.
struct Known {
    /// There is a checkpoint, or nothing it could tell.
    checkpoint: bool,
    log_start: Offset,
    /// What is damaged below is never cut. Beyond every offset where it is not known.
    durable_end: Offset,
    epochs: EpochCache,
    /// The epochs of all segments below are among `epochs`.
    epochs_upto: Offset,
}

impl Known {
    /// Whether a batch that should begin at `offset` had been synced, and may be read.
    fn is_durable(&self, offset: Offset) -> bool {
        offset.max(self.log_start) < self.durable_end
    }

    fn from(
        store: &CheckpointStore,
        found: Found,
        bases: &[Offset],
        producers_upto: Offset,
    ) -> Self {
        let first = bases.first().copied().unwrap_or_default();
        let checkpoint = store.content();
        match found {
            Found::Nothing if bases.is_empty() => {}
            // A log has a checkpoint from before its first append on: this one is gone. Where the
            // log begins its segments tell; nothing tells a torn write from damage.
            Found::Nothing | Found::Damaged => {
                return Self {
                    checkpoint: false,
                    log_start: first,
                    durable_end: Offset(i64::MAX),
                    epochs: EpochCache::default(),
                    epochs_upto: Offset::ZERO,
                };
            }
            Found::Newest { .. } | Found::PerhapsOlder => {}
        }
        // The start may have moved since an older checkpoint, and segments been removed. Then there
        // is producer state from behind them, which is not so where they never reached the disk.
        let moved = found == Found::PerhapsOlder && first <= producers_upto;
        Self {
            checkpoint: true,
            log_start: if moved { checkpoint.log_start.max(first) } else { checkpoint.log_start },
            // Producer state is written down after what it is the state of.
            durable_end: checkpoint.durable_end.max(producers_upto),
            epochs_upto: checkpoint.durable_end,
            epochs: checkpoint.epochs,
        }
    }
}

struct Recovery<'a> {
    disk: &'a Arc<dyn Disk>,
    directory: &'a Path,
    options: LogOptions,
    known: Known,
    /// Where the next batch must begin.
    expected: Offset,
    epochs: EpochCache,
    /// The epoch of the batch before: the next one's must not be lower.
    last_epoch: Option<LeaderEpoch>,
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
        for base in bases {
            if !self.cut && *base <= self.known.log_start {
                // A gap below the log start hides nothing: removed, or lost before it was durable.
                self.expected = self.expected.max(*base);
            }
            if !self.cut && *base != self.expected && self.known.is_durable(self.expected) {
                return Err(self.corrupt(*base, 0, "the segment before it does not lead up to it"));
            }
            if self.cut || *base != self.expected {
                // Behind a torn tail, or begun after bytes that never reached the disk.
                self.cut = true;
                self.remove_segment(*base)?;
                continue;
            }
            let segment = self.open_segment(*base)?;
            if segment.end() == 0 || segment.next_offset() <= needed_from {
                // Allocated for a batch that was never written, or all gone below the log start.
                self.remove_segment(*base)?;
                self.expected = segment.next_offset().max(needed_from);
            } else {
                self.expected = segment.next_offset();
                self.segments.push(Arc::new(segment));
            }
        }
        // Scanned segments are completed by the first flush; what was found in them is durable
        // first, because readers will see it.
        let scanned = self.segments.iter().filter(|segment| !segment.is_sealed());
        self.unsealed = scanned.cloned().collect();
        for segment in &self.unsealed {
            segment.file.sync_data().map_err(StorageError::io("cannot sync", &segment.path))?;
        }
        if self.cut || !self.unsealed.is_empty() {
            self.disk
                .sync_dir(self.directory)
                .map_err(StorageError::io("cannot sync", self.directory))?;
        }
        Ok(())
    }

    /// Whether all that was durable has been found.
    fn check_end(&self) -> Result<(), StorageError> {
        let base = self.segments.last().map_or(self.known.log_start, |last| last.base);
        let reason = match self.known.checkpoint {
            true if self.known.is_durable(self.expected) => {
                "durable batches are missing at the end of the log"
            }
            false if self.segments.is_empty() => {
                "no segments, and no checkpoint to say where the log ends"
            }
            true | false => return Ok(()),
        };
        Err(self.corrupt(base, 0, reason))
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
        let first = self.segments.first().map_or(log_start, |first| first.base);
        Ok((log_start.max(first), self.expected))
    }

    fn open_segment(&mut self, base: Offset) -> Result<Segment, StorageError> {
        let path = self.directory.join(file_name(base, LOG_SUFFIX));
        let file =
            self.disk.open(&path, Create::Never).map_err(StorageError::io("cannot open", &path))?;
        let length = file.len().map_err(StorageError::io("cannot read", &path))?;
        drop(file);
        let segment = Segment::open(self.disk, self.directory, base, length, Create::Never)?;
        let files = FileIndex::open(self.disk.clone(), &path);
        match files.map_err(StorageError::io("cannot read the index of", &path))? {
            Some(files) if files.summary.log_bytes == length && files.summary.base == base => {
                segment.trust(files);
                if segment.next_offset() > self.known.epochs_upto {
                    // Sealed, but the checkpoint that knows its epochs was not written any more.
                    segment.walk(0, segment.end(), |located| {
                        let epoch = LeaderEpoch(located.header.partition_leader_epoch);
                        self.epochs.assign(epoch, Offset(located.header.base_offset));
                        false
                    })?;
                }
                self.last_epoch = self.epochs.epoch_at(segment.next_offset().plus(-1));
            }
            _ => self.scan(&segment, length)?,
        }
        Ok(segment)
    }

    /// Reads a segment from its start and keeps what is whole.
    fn scan(&mut self, segment: &Segment, length: u64) -> Result<(), StorageError> {
        let read_error = StorageError::io("cannot read", &segment.path);
        let mut scanner = Scanner::new(&*segment.file, length);
        let mut expected = segment.base;
        let mut position = 0;
        let mut last_epoch = self.last_epoch;
        let mut epochs = self.epochs.clone();
        let failure = loop {
            match scanner.batch_at(position, expected, last_epoch) {
                Ok(Ok(Some(header))) => {
                    let epoch = LeaderEpoch(header.partition_leader_epoch);
                    last_epoch = Some(epoch);
                    epochs.assign(epoch, expected);
                    segment.publish(&header, expected, self.options.index_interval_bytes);
                    expected = segment.next_offset();
                    position = segment.end();
                }
                Ok(Ok(None)) => break None,
                Ok(Err(reason)) => break Some(reason),
                Err(error) => return Err(read_error(error)),
            }
        };
        if let Some(reason) = failure {
            self.expected = expected;
            if self.known.is_durable(expected) {
                return Err(self.corrupt(segment.base, position, &reason));
            }
            self.report.bytes_cut += length - position;
            self.cut = true;
        }
        self.report.bytes_scanned += position;
        self.report.indexes_rebuilt += 1;
        self.last_epoch = last_epoch;
        self.epochs = epochs;
        for suffix in [INDEX_SUFFIX, TIME_INDEX_SUFFIX] {
            remove_if_there(&**self.disk, &segment.path.with_extension(suffix))?;
        }
        // Cuts the torn tail and the allocated rest; no reader has seen either.
        if position < length {
            segment
                .file
                .set_len(position)
                .map_err(StorageError::io("cannot trim", &segment.path))?;
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
                if base >= from {
                    table.record(&located.header, base, now);
                }
                false
            })?;
        }
        Ok((table, from))
    }

    fn corrupt(&self, base: Offset, position: u64, reason: &str) -> StorageError {
        StorageError::Corrupt {
            path: self.directory.join(file_name(base, LOG_SUFFIX)),
            position,
            offset: self.expected,
            reason: reason.to_owned(),
        }
    }
}

/// The producer snapshots that are whole, the newest first.
fn read_snapshots(
    disk: &dyn Disk,
    directory: &Path,
    names: &[String],
) -> Result<Vec<(Offset, ProducerTable)>, StorageError> {
    let mut snapshots = Vec::new();
    for at in names.iter().filter_map(|name| base_of(name, SNAPSHOT_SUFFIX)) {
        let path = directory.join(file_name(at, SNAPSHOT_SUFFIX));
        let bytes = read_whole(disk, &path, SNAPSHOT_BYTES_MAX)
            .map_err(StorageError::io("cannot read", &path))?;
        let table = bytes.and_then(|bytes| ProducerTable::decode(&bytes));
        snapshots.extend(table.map(|table| (at, table)));
    }
    snapshots.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    Ok(snapshots)
}

/// Reads a log file from front to back, in large pieces.
struct Scanner<'a> {
    file: &'a dyn DiskFile,
    length: u64,
    /// What has been read, from `start` of the file on.
    buffer: Vec<u8>,
    start: u64,
}

impl<'a> Scanner<'a> {
    fn new(file: &'a dyn DiskFile, length: u64) -> Self {
        Self { file, length, buffer: Vec::new(), start: 0 }
    }

    /// `wanted` bytes at `position`; fewer at the end of the file.
    fn bytes(&mut self, position: u64, wanted: usize) -> std::io::Result<&[u8]> {
        let left = usize::try_from(self.length.saturating_sub(position)).unwrap_or(usize::MAX);
        let wanted = wanted.min(left);
        let skip = |start: u64| usize::try_from(position - start).unwrap_or(usize::MAX);
        let inside =
            position >= self.start && skip(self.start).saturating_add(wanted) <= self.buffer.len();
        if !inside {
            self.buffer.resize(wanted.max(SCAN_BYTES).min(left), 0);
            let read = self.file.read_at(&mut self.buffer, position)?;
            self.buffer.truncate(read);
            self.start = position;
        }
        let from = skip(self.start);
        let to = from.saturating_add(wanted).min(self.buffer.len());
        Ok(self.buffer.get(from..to).unwrap_or_default())
    }

    /// The header of the batch at `position`, if there is one and it is the one expected. `None` at
    /// the end of the file and at the zeroes of allocated space.
    fn batch_at(
        &mut self,
        position: u64,
        expected: Offset,
        epoch: Option<LeaderEpoch>,
    ) -> std::io::Result<Result<Option<BatchHeader>, String>> {
        let bytes = self.bytes(position, BATCH_OVERHEAD)?;
        if bytes.iter().all(|byte| *byte == 0) {
            // Allocated and never written, unless something follows: then a write was torn.
            let torn = || Err("zeroes where a batch should begin".to_owned());
            return Ok(if self.is_zero_from(position)? { Ok(None) } else { torn() });
        }
        let header = match BatchHeader::parse(bytes) {
            Ok(header) => header,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let bytes = self.bytes(position, header.total_len())?;
        Ok(check(bytes, &header, expected, epoch).map(|()| Some(header)))
    }

    fn is_zero_from(&mut self, mut position: u64) -> std::io::Result<bool> {
        while position < self.length {
            let bytes = self.bytes(position, SCAN_BYTES)?;
            if bytes.is_empty() {
                break;
            }
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            position += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        }
        Ok(true)
    }
}

/// Whether a batch is whole, and the one that belongs here.
fn check(
    batch: &[u8],
    header: &BatchHeader,
    expected: Offset,
    epoch: Option<LeaderEpoch>,
) -> Result<(), String> {
    if batch.len() < header.total_len() {
        return Err(format!("a batch of {} bytes is cut off", header.total_len()));
    }
    check_crc(batch, header).map_err(|error| error.to_string())?;
    if header.base_offset != expected.0 {
        return Err(format!("base offset {} instead of {expected}", header.base_offset));
    }
    if header.last_offset_delta < 0 {
        return Err(format!("last offset delta {}", header.last_offset_delta));
    }
    if epoch.is_some_and(|epoch| LeaderEpoch(header.partition_leader_epoch) < epoch) {
        return Err(format!("leader epoch fell to {}", header.partition_leader_epoch));
    }
    Ok(())
}
