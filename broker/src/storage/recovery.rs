//! Opening a log: what is on disk, and what of it is true.
//!
//! - Sealed segments with valid index files are trusted: nothing of them is read, so that the time
//!   a start takes does not grow with them.
//! - What was not sealed is read batch by batch: checksum, offsets in sequence, epochs not falling.
//! - The first batch that fails ends the log *if* it lies at or above the durable checkpoint: only a
//!   torn write can be there, and nobody was told it exists. It and all behind it is cut.
//! - Below the checkpoint it is damage: the log is not opened and nothing is changed.
//! - Index files and producer state that are missing or damaged are rebuilt from the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sawlog_protocol::records::{BATCH_OVERHEAD, BatchHeader, check_crc};

use super::checkpoint::Checkpoint;
use super::epochs::EpochCache;
use super::error::StorageError;
use super::index::Index;
use super::log::{Log, LogOptions, Opened, SNAPSHOT_SUFFIX};
use super::producers::ProducerTable;
use super::segment::{LOG_SUFFIX, Segment, base_of, file_name};
use crate::base::disk::{Create, Disk, read_whole};
use crate::base::{LeaderEpoch, Offset, Timestamp};

/// Longest side file that is read: the index of a 2 GiB segment is a few MiB.
const SIDE_FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

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
    /// Damage below the durable checkpoint, or a file operation that failed.
    pub fn open(
        disk: Arc<dyn Disk>,
        directory: PathBuf,
        options: LogOptions,
        now: Timestamp,
    ) -> Result<Recovered, StorageError> {
        let checkpoint = Checkpoint::read(&*disk, &directory)?;
        let names = if disk.exists(&directory) {
            disk.list(&directory).map_err(StorageError::io("cannot list", &directory))?
        } else {
            Vec::new()
        };
        let bases: Vec<Offset> =
            names.iter().filter_map(|name| base_of(name, LOG_SUFFIX)).collect();
        // A log has a checkpoint from its first append on. One that is gone was damaged: what there
        // is of segments then tells where the log begins, and nothing vouches for its end.
        let checkpoint = checkpoint.unwrap_or_else(|| Checkpoint {
            log_start: bases.first().copied().unwrap_or_default(),
            ..Checkpoint::default()
        });
        let mut recovery = Recovery {
            disk: &*disk,
            directory: &directory,
            options,
            expected: checkpoint.log_start,
            epochs: checkpoint.epochs.clone(),
            checkpoint,
            last_epoch: None,
            report: RecoveryReport::default(),
            segments: Vec::new(),
            unsealed: Vec::new(),
            cut: false,
        };
        recovery.report.clean = recovery.checkpoint.clean || bases.is_empty();
        let snapshots = recovery.snapshots(&names)?;
        let known_upto = snapshots.first().map_or(Offset::ZERO, |(at, _)| *at);
        recovery.open_segments(&bases, known_upto)?;
        let end = recovery.expected;
        recovery.epochs.truncate_from_end(end);
        let (producers, snapshot_at) = recovery.producers(snapshots, end, now)?;
        let start = recovery.checkpoint.log_start.min(end);
        let start = recovery.segments.first().map_or(start, |first| start.max(first.base));
        let Recovery { checkpoint, epochs, report, segments, unsealed, .. } = recovery;
        let opened = Opened {
            segments,
            // A scanned last segment waits to be sealed; appends go to a new one.
            reuse_last: false,
            unsealed,
            start,
            end,
            marked_clean: checkpoint.clean,
            snapshot_at,
            snapshot: (snapshot_at < end).then(|| producers.encode()),
        };
        let log = Log::assemble(disk, directory, options, opened);
        Ok(Recovered { log, producers, epochs, report })
    }
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    directory: &'a Path,
    options: LogOptions,
    checkpoint: Checkpoint,
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
        let log_start = self.checkpoint.log_start.min(producers_known_upto);
        let first = bases.partition_point(|base| *base <= log_start).saturating_sub(1);
        let (below, bases) = bases.split_at(first);
        for base in below {
            self.remove_segment(*base)?;
        }
        self.expected = bases.first().map_or(log_start, |first| log_start.min(*first));
        for base in bases {
            if self.cut || (*base != self.expected && *base >= self.checkpoint.durable_end) {
                // Behind a torn tail, or begun after bytes that never reached the disk.
                self.cut = true;
                self.remove_segment(*base)?;
                continue;
            }
            if *base != self.expected {
                return Err(self.corrupt(*base, 0, "the segment before it does not lead up to it"));
            }
            let segment = self.open_segment(*base)?;
            if segment.end() == 0 || segment.next_offset() <= log_start {
                // Allocated for a batch that was never written, or all gone below the log start.
                self.remove_segment(*base)?;
                self.expected = self.expected.max(log_start);
            } else {
                self.expected = segment.next_offset();
                self.segments.push(Arc::new(segment));
            }
        }
        if self.expected < self.checkpoint.durable_end {
            let base = self.segments.last().map_or(log_start, |segment| segment.base);
            return Err(self.corrupt(base, 0, "durable batches are missing at the end of the log"));
        }
        // Scanned segments are completed by the first flush; what was found in them is durable
        // first, because readers will see it.
        self.unsealed = self
            .segments
            .iter()
            .filter(|segment| !self.is_sealed_on_disk(segment))
            .cloned()
            .collect();
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

    fn is_sealed_on_disk(&self, segment: &Segment) -> bool {
        // `trust` is the only way to an end without a scan; a scan leaves the index files stale.
        self.disk.exists(&segment.path.with_extension("index"))
    }

    fn open_segment(&mut self, base: Offset) -> Result<Segment, StorageError> {
        let path = self.directory.join(file_name(base, LOG_SUFFIX));
        let file =
            self.disk.open(&path, Create::Never).map_err(StorageError::io("cannot open", &path))?;
        let length = file.len().map_err(StorageError::io("cannot read", &path))?;
        drop(file);
        let segment = Segment::open(self.disk, self.directory, base, length, Create::Never)?;
        match self.read_index(&path)? {
            Some((index, sealed)) if sealed.log_bytes == length => {
                segment.trust(index, sealed);
                if segment.next_offset() > self.checkpoint.durable_end {
                    // Sealed, but the checkpoint that knows its epochs was not written any more.
                    segment.walk(0, segment.end(), |located| {
                        let epoch = LeaderEpoch(located.header.partition_leader_epoch);
                        self.epochs.assign(epoch, Offset(located.header.base_offset));
                        false
                    })?;
                }
                self.last_epoch = self.epochs.epoch_at(segment.next_offset().plus(-1));
                Ok(segment)
            }
            _ => {
                self.scan(&segment, length)?;
                Ok(segment)
            }
        }
    }

    fn read_index(
        &self,
        log: &Path,
    ) -> Result<Option<(Index, super::index::Sealed)>, StorageError> {
        let read = |suffix: &str| {
            let path = log.with_extension(suffix);
            read_whole(self.disk, &path, SIDE_FILE_BYTES_MAX)
                .map_err(StorageError::io("cannot read", &path))
        };
        let (Some(offsets), Some(times)) = (read("index")?, read("timeindex")?) else {
            return Ok(None);
        };
        Ok(Index::decode(&offsets, &times))
    }

    /// Reads a segment from its start and keeps what is whole.
    fn scan(&mut self, segment: &Segment, length: u64) -> Result<(), StorageError> {
        self.report.indexes_rebuilt += 1;
        for suffix in ["index", "timeindex"] {
            let path = segment.path.with_extension(suffix);
            if self.disk.exists(&path) {
                self.disk.remove_file(&path).map_err(StorageError::io("cannot remove", &path))?;
            }
        }
        let bytes = segment.slice(0, length);
        let mut expected = segment.base;
        let mut position = 0usize;
        let failure = loop {
            let rest = bytes.get(position..).unwrap_or_default();
            match check(rest, expected, self.last_epoch) {
                Ok(Some(header)) => {
                    let epoch = LeaderEpoch(header.partition_leader_epoch);
                    self.last_epoch = Some(epoch);
                    self.epochs.assign(epoch, expected);
                    segment.publish(&header, expected, self.options.index_interval_bytes);
                    expected = segment.next_offset();
                    position += header.total_len();
                }
                Ok(None) => break None,
                Err(reason) => break Some(reason),
            }
        };
        let position = u64::try_from(position).unwrap_or(u64::MAX);
        self.report.bytes_scanned += position;
        if let Some(reason) = failure {
            if expected < self.checkpoint.durable_end {
                return Err(self.corrupt(segment.base, position, &reason));
            }
            self.report.bytes_cut += length - position;
            self.cut = true;
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

    fn remove_segment(&mut self, base: Offset) -> Result<(), StorageError> {
        for suffix in [LOG_SUFFIX, "index", "timeindex"] {
            let path = self.directory.join(file_name(base, suffix));
            if self.disk.exists(&path) {
                self.disk.remove_file(&path).map_err(StorageError::io("cannot remove", &path))?;
            }
        }
        Ok(())
    }

    /// The snapshots that are whole, the newest first.
    fn snapshots(&self, names: &[String]) -> Result<Vec<(Offset, ProducerTable)>, StorageError> {
        let mut snapshots = Vec::new();
        for at in names.iter().filter_map(|name| base_of(name, SNAPSHOT_SUFFIX)) {
            let path = self.directory.join(file_name(at, SNAPSHOT_SUFFIX));
            let bytes = read_whole(self.disk, &path, SIDE_FILE_BYTES_MAX)
                .map_err(StorageError::io("cannot read", &path))?;
            snapshots.extend(
                bytes.and_then(|bytes| ProducerTable::decode(&bytes)).map(|table| (at, table)),
            );
        }
        snapshots.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        Ok(snapshots)
    }

    /// The newest snapshot that is not beyond the end, brought up to it; also where it ends.
    fn producers(
        &self,
        snapshots: Vec<(Offset, ProducerTable)>,
        end: Offset,
        now: Timestamp,
    ) -> Result<(ProducerTable, Offset), StorageError> {
        let (from, mut table) =
            snapshots.into_iter().find(|(at, _)| *at <= end).unwrap_or_default();
        for segment in self.segments.iter().filter(|segment| segment.next_offset() > from) {
            segment.walk(0, segment.end(), |located| {
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

/// The batch at the start of `rest`, if there is one and it is the one expected. `None` at the end
/// of the file and at the zeroes of allocated space.
fn check(
    rest: &[u8],
    expected: Offset,
    epoch: Option<LeaderEpoch>,
) -> Result<Option<BatchHeader>, String> {
    if rest.iter().take(BATCH_OVERHEAD).all(|byte| *byte == 0) {
        // Allocated and never written, unless something follows further on: then a write was torn.
        return if rest.iter().all(|byte| *byte == 0) {
            Ok(None)
        } else {
            Err("zeroes where a batch should begin".to_owned())
        };
    }
    let header = BatchHeader::parse(rest).map_err(|error| error.to_string())?;
    let batch = rest
        .get(..header.total_len())
        .ok_or_else(|| format!("a batch of {} bytes is cut off", header.total_len()))?;
    check_crc(batch, &header).map_err(|error| error.to_string())?;
    if header.base_offset != expected.0 {
        return Err(format!("base offset {} instead of {expected}", header.base_offset));
    }
    if header.last_offset_delta < 0 {
        return Err(format!("last offset delta {}", header.last_offset_delta));
    }
    if epoch.is_some_and(|epoch| LeaderEpoch(header.partition_leader_epoch) < epoch) {
        return Err(format!("leader epoch fell to {}", header.partition_leader_epoch));
    }
    Ok(Some(header))
}
