//! Cutting a log: what its leader never had goes, before anything is appended in its place.
//!
//! ```text
//! 1  what stays is synced; of the segment in which the new end lies the part that stays is copied
//! 2  producer state as of the new end is written; no checkpoint vouches for more any longer
//! 3  producer state and quarantine of what goes are removed; directory synced
//! 4  segments behind the new end are removed, and the index files of the one it lies in; synced
//! 5  the copy takes the place of that segment; directory synced
//! ```
//! Always holds: a crash between steps leaves the log as it was, or shorter, and never without
//! something that a file beside it vouches for. No file is made shorter: whoever was handed bytes of
//! it, mapped, may still look at them.
//!
//! To be called where no flush and no swap is under way ([`Log::is_busy`]): both would write down
//! what was true before.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use super::{Active, Log, SNAPSHOT_SUFFIX};
use crate::base::disk::{Create, Disk, DiskFile, write_atomically};
use crate::base::{Offset, Timestamp};
use crate::storage::compact::Written;
use crate::storage::epochs::EpochCache;
use crate::storage::error::StorageError;
use crate::storage::index::{MemoryIndex, Span};
use crate::storage::producers::ProducerTable;
use crate::storage::recovery::read_snapshots;
use crate::storage::segment::{LOG_SUFFIX, Segment, base_of, file_name, remove_if_there};

/// Bytes copied at once.
const COPY_BYTES: usize = 1024 * 1024;

/// A log that was cut. All that is left of it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Where it ends now: at a batch, and not behind what was asked for.
    pub end: Offset,
    /// Producer state as of there.
    pub producers: ProducerTable,
}

/// What stays of the segment in which the new end lies.
#[derive(Debug)]
struct Kept {
    bytes: u64,
    next: Offset,
    index: MemoryIndex,
}

/// What a cut comes to.
#[derive(Debug)]
struct Plan {
    end: Offset,
    /// Segments that stay as they are, the first so many.
    whole: usize,
    /// The one behind them, of which a part stays.
    part: Option<(Arc<Segment>, Kept)>,
}

impl Log {
    /// Whether a flush or the replacement of segments is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.flushing || self.swapping.is_some()
    }

    /// Cuts the log to end at `to`, or at the batch before. `epochs` are those up to there. None
    /// where nothing lies behind `to`.
    ///
    /// # Errors
    /// `NoSpace`: it is as it was, or shorter, and can be cut again. Any other error is final.
    pub fn truncate(
        &mut self,
        to: Offset,
        epochs: &EpochCache,
        now: Timestamp,
    ) -> Result<Option<Cut>, StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        assert!(!self.is_busy(), "a log is cut while nothing else changes its files");
        assert!(to >= self.start, "cut to {to}, the log starts at {}", self.start);
        if to >= self.end {
            return Ok(None);
        }
        let cut = match self.plan(to) {
            // Nothing is left but what lies below the log start.
            Ok(plan) if plan.end < self.start || plan.is_empty() => {
                let end = self.start;
                self.begin_anew(end).map(|()| Cut { end, producers: ProducerTable::default() })
            }
            Ok(plan) => self.cut(plan, epochs, now),
            Err(error) => Err(error),
        };
        self.poisoned |= cut.as_ref().is_err_and(StorageError::is_fatal);
        self.check();
        cut.map(Some)
    }

    /// Drops everything and begins an empty log at `at`.
    ///
    /// # Errors
    /// As [`Self::truncate`].
    pub fn restart_at(&mut self, at: Offset) -> Result<(), StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        assert!(!self.is_busy(), "a log is dropped while nothing else changes its files");
        let begun = self.begin_anew(at);
        self.poisoned |= begun.as_ref().is_err_and(StorageError::is_fatal);
        self.check();
        begun
    }

    fn plan(&self, to: Offset) -> Result<Plan, StorageError> {
        let segments = self.segments.load();
        let whole = segments.partition_point(|segment| segment.next_offset() <= to);
        let before = whole.checked_sub(1).and_then(|last| segments.get(last));
        let end = before.map_or(Offset(-1), |before| before.next_offset());
        let Some(segment) = segments.get(whole).filter(|segment| segment.base < to) else {
            return Ok(Plan { end, whole, part: None });
        };
        let kept = self.kept(segment, to)?;
        if kept.bytes == 0 {
            return Ok(Plan { end, whole, part: None });
        }
        Ok(Plan { end: kept.next, whole, part: Some((segment.clone(), kept)) })
    }

    /// The batches of `segment` that end at or below `to`.
    fn kept(&self, segment: &Segment, to: Offset) -> Result<Kept, StorageError> {
        let ranges = self.quarantine.ranges();
        let here = || ranges.iter().filter(|range| range.segment == segment.base);
        // Where in damaged bytes `to` lies cannot be told: all of them go.
        let unclear = here().find(|range| range.to > to);
        let until = unclear.map_or(segment.end(), |range| range.position.min(segment.end()));
        let mut kept = Kept { bytes: 0, next: segment.base, index: MemoryIndex::default() };
        segment.walk(0, until, |located| {
            let header = &located.header;
            let next = Offset(header.next_offset());
            if next > to {
                return true;
            }
            let relative = |offset: Offset| {
                u32::try_from(offset.minus(segment.base).max(0)).unwrap_or(u32::MAX)
            };
            let span = Span {
                relative: relative(Offset(header.base_offset)),
                last: relative(next.plus(-1)),
                position: u32::try_from(located.position).unwrap_or(u32::MAX),
            };
            let length = u32::try_from(located.length()).unwrap_or(u32::MAX);
            let interval = self.options.index_interval_bytes;
            kept.index.add(span, length, Timestamp(header.max_timestamp), interval);
            (kept.bytes, kept.next) = (located.position + located.length(), next);
            false
        })?;
        for range in here().filter(|range| range.to <= to && range.bytes > 0) {
            kept.bytes = kept.bytes.max(range.position + range.bytes);
            kept.next = kept.next.max(range.to);
        }
        Ok(kept)
    }

    fn cut(
        &mut self,
        plan: Plan,
        epochs: &EpochCache,
        now: Timestamp,
    ) -> Result<Cut, StorageError> {
        let Plan { end, whole, part } = plan;
        self.sync_kept()?;
        let copied = part.as_ref().map(|(segment, kept)| self.copy(segment, kept)).transpose()?;
        let (segments, side) = (self.segments.load_full(), self.side.clone());
        let (stay, go) = segments.split_at(whole.min(segments.len()));
        let behind = go.get(usize::from(part.is_some())..).unwrap_or_default();
        let producers = self.producers_at(stay, part.as_ref(), end, now)?;
        let mut epochs = epochs.clone();
        epochs.truncate_from_end(end);
        side.swap(|disk, directory| {
            let path = directory.join(file_name(end, SNAPSHOT_SUFFIX));
            write_atomically(disk, &path, &producers.encode())
                .map_err(StorageError::io("cannot write", &path))
        })?;
        self.vouch_for_no_more(|checkpoint| {
            checkpoint.durable_end = checkpoint.durable_end.min(end);
            checkpoint.epochs = epochs.clone();
        })?;
        self.forget_beside(end)?;
        side.swap(|disk, directory| {
            // From the end on: what a crash leaves begins where the log does.
            behind.iter().rev().try_for_each(|segment| segment.remove())?;
            if let Some((segment, _)) = &part {
                segment.remove_index()?;
            }
            sync_removals(disk, directory)?;
            if let Some((segment, _)) = &part {
                let copy = temporary(&segment.path);
                disk.rename(&copy, &segment.path)
                    .map_err(StorageError::io("cannot rename", &copy))?;
                disk.sync_dir(directory).map_err(StorageError::io("cannot sync", directory))?;
            }
            Ok(())
        })?;
        let mut left = stay.to_vec();
        self.unsealed.retain(|segment| stay.iter().any(|other| Arc::ptr_eq(other, segment)));
        if let (Some(file), Some((segment, kept))) = (copied, part) {
            let cut = Arc::new(self.adopt(&segment, kept, file)?);
            left.push(cut.clone());
            self.unsealed.push(cut);
        }
        self.on_cut(left, end);
        Ok(Cut { end, producers })
    }

    /// Makes everything durable that was appended: what stays of it is going to be vouched for.
    fn sync_kept(&mut self) -> Result<(), StorageError> {
        self.unsealed.iter().try_for_each(|segment| segment.sync())?;
        if let Some(Active { segment, .. }) = &self.active {
            segment.sync()?;
        }
        if self.entries_dirty {
            self.side.sync_entries()?;
        }
        Ok(())
    }

    /// Writes what stays of `segment` into a file of its own. A start removes it as litter.
    fn copy(&self, segment: &Segment, kept: &Kept) -> Result<Arc<dyn DiskFile>, StorageError> {
        let path = temporary(&segment.path);
        let copy = || {
            let file = self.disk.open_bounded(&path, Create::IfMissing)?;
            // It is going to be renamed.
            file.keep_open()?;
            file.set_len(0)?;
            let mut buffer = vec![0; COPY_BYTES];
            let mut at = 0;
            while at < kept.bytes {
                let left = usize::try_from(kept.bytes - at).unwrap_or(COPY_BYTES).min(COPY_BYTES);
                let Some(room) = buffer.get_mut(..left) else { break };
                let read = segment.file.read_at(room, at)?;
                if read == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                file.write_at(&[IoSlice::new(room.get(..read).unwrap_or_default())], at)?;
                at += u64::try_from(read).unwrap_or(u64::MAX);
            }
            file.sync_data()?;
            Ok(file)
        };
        let copied = copy();
        if copied.is_err() {
            // On a full disk every block counts; otherwise the next start removes it.
            let _left = self.disk.remove_file(&path);
        }
        copied.map_err(StorageError::io("cannot copy into", &path))
    }

    fn adopt(
        &self,
        segment: &Segment,
        kept: Kept,
        file: Arc<dyn DiskFile>,
    ) -> Result<Segment, StorageError> {
        let Kept { bytes, next, index } = kept;
        let written = Written {
            path: segment.path.clone(),
            file,
            base: segment.base,
            length: bytes,
            next_offset: next,
            first_timestamp: segment.first_timestamp(),
            index,
        };
        let cut = Segment::adopt(&self.disk, written)?;
        cut.on_moved();
        cut.set_damage(self.quarantine.spans(cut.base));
        Ok(cut)
    }

    /// Producer state as of `end`: the newest on disk that is not behind it, brought up to it.
    fn producers_at(
        &self,
        whole: &[Arc<Segment>],
        part: Option<&(Arc<Segment>, Kept)>,
        end: Offset,
        now: Timestamp,
    ) -> Result<ProducerTable, StorageError> {
        let names = self.disk.list(&self.directory);
        let names = names.map_err(StorageError::io("cannot list", &self.directory))?;
        let snapshots = read_snapshots(&*self.disk, &self.directory, &names)?;
        // One from before segments that were removed since is older than what they told of their
        // producers: better none, and each may begin anywhere.
        let first = whole.first().or(part.map(|(segment, _)| segment));
        let first = first.map_or(Offset::ZERO, |segment| segment.base);
        let fits = |(at, _): &(Offset, ProducerTable)| (first..=end).contains(at);
        let (from, mut table) = snapshots.into_iter().find(fits).unwrap_or_default();
        let parts = part.iter().map(|(segment, kept)| (segment, kept.bytes));
        let segments = whole.iter().map(|segment| (segment, segment.end())).chain(parts);
        for (segment, bytes) in segments.filter(|(segment, _)| segment.next_offset() > from) {
            segment.walk(segment.position_before(from)?.min(bytes), bytes, |located| {
                let base = Offset(located.header.base_offset);
                if located.header.next_offset() > from.0 && !planted!(KeepProducersOfCut) {
                    table.record(&located.header, base, now);
                }
                false
            })?;
        }
        Ok(table)
    }

    /// Writes the checkpoint down twice: should the newer be damaged one day, the other claims no
    /// more.
    fn vouch_for_no_more(
        &mut self,
        change: impl Fn(&mut crate::storage::checkpoint::Checkpoint),
    ) -> Result<(), StorageError> {
        if planted!(CutWhatIsVouchedFor) {
            return Ok(());
        }
        for _ in 0..2 {
            self.side.checkpoint.update(|checkpoint| {
                change(checkpoint);
                checkpoint.clean = false;
            })?;
        }
        self.marked_clean = false;
        Ok(())
    }

    /// Removes, durably, what is beside the records and about more than what lies below `end`.
    fn forget_beside(&self, end: Offset) -> Result<(), StorageError> {
        self.side.progress.forget_beyond(end)?;
        self.quarantine.forget_from(end);
        self.quarantine.persist()?;
        self.side.swap(|disk, directory| {
            let names = disk.list(directory).map_err(StorageError::io("cannot list", directory))?;
            let beyond = |name: &&String| base_of(name, SNAPSHOT_SUFFIX).is_some_and(|at| at > end);
            for name in names.iter().filter(beyond) {
                remove_if_there(disk, &directory.join(name))?;
            }
            disk.sync_dir(directory).map_err(StorageError::io("cannot sync", directory))
        })
    }

    fn begin_anew(&mut self, at: Offset) -> Result<(), StorageError> {
        if !self.prepared {
            // Without a batch, too, a log may have producer state: only where there is no file there
            // is nothing to forget.
            if at == self.end && !self.disk.exists(&self.directory) {
                return Ok(());
            }
            self.prepare()?;
        }
        // Before the checkpoint says that there is nothing: whatever claims to know of more goes.
        self.forget_beside(Offset(-1))?;
        self.vouch_for_no_more(|checkpoint| {
            (checkpoint.durable_end, checkpoint.log_start) = (at, at);
            checkpoint.epochs = EpochCache::default();
        })?;
        let segments = self.segments.load_full();
        self.side.swap(|disk, directory| {
            segments.iter().rev().try_for_each(|segment| segment.remove())?;
            sync_removals(disk, directory)
        })?;
        self.unsealed.clear();
        self.start = at;
        self.published_start.store(at.0, std::sync::atomic::Ordering::Release);
        self.on_cut(Vec::new(), at);
        Ok(())
    }

    fn on_cut(&mut self, segments: Vec<Arc<Segment>>, end: Offset) {
        self.active = None;
        self.end = end;
        self.durable_end = end;
        self.snapshot_at = end;
        self.snapshot = None;
        self.snapshot_due = false;
        self.entries_dirty = false;
        self.unchecked_bytes = 0;
        self.segments.store(Arc::new(segments));
    }
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.whole == 0 && self.part.is_none()
    }
}

/// Where a segment is copied to.
fn temporary(path: &Path) -> std::path::PathBuf {
    path.with_extension(format!("{LOG_SUFFIX}.tmp"))
}

fn sync_removals(disk: &dyn Disk, directory: &Path) -> Result<(), StorageError> {
    if planted!(ForgetCut) {
        return Ok(());
    }
    disk.sync_dir(directory).map_err(StorageError::io("cannot sync", directory))
}
