//! Ranges of a log whose bytes are not what was written: remembered, never served, never cut.
//!
//! Damage is found by a start, which reads what was not sealed, and by the scrubber, which reads
//! what was. Either way its offsets are written down here first; from then on a read of them is
//! refused, and reads around them go on. What lies below the log start is forgotten with the segment
//! it is in: as long as that is there, nothing may look into the damaged bytes.
//!
//! Always holds: ranges are sorted and do not overlap; each lies in one segment; what is refused in
//! memory is on disk, or is tried again with the next flush.
//!
//! It does not repair: the bytes stay as they are, for whoever has a copy to compare them with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::envelope::{self, Fields};
use super::error::{ReadError, StorageError};
use super::segment::{LOG_SUFFIX, file_name, remove_if_there};
use crate::base::disk::{Disk, read_whole, write_atomically};
use crate::base::{Offset, Timestamp};

/// The file.
const FILE: &str = "quarantine";

const MAGIC: [u8; 4] = *b"SLQR";
const VERSION: u16 = 1;

/// Ranges one log remembers. One with more has lost most of what it had.
const RANGES_MAX: usize = 10_000;

/// Bytes of a reason that are kept.
const REASON_BYTES_MAX: usize = 160;

/// Longest file that is read: as many ranges as there may be.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Offsets that cannot be read, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedRange {
    /// Base offset of the segment the bytes are in.
    pub segment: Offset,
    /// The first offset that cannot be read.
    pub from: Offset,
    /// The first behind it that can, or the log end.
    pub to: Offset,
    /// Where the damaged bytes begin in the segment's file.
    pub position: u64,
    /// How many they are; none where the file is cut short or gone.
    pub bytes: u64,
    /// When they were found, by the broker's clock.
    pub found: Timestamp,
    /// What is wrong with them.
    pub reason: String,
}

impl QuarantinedRange {
    /// Whether its file was gone as a whole.
    fn is_missing(&self) -> bool {
        self.bytes == 0 && self.segment == self.from
    }
}

/// The quarantine of one log.
#[derive(Debug)]
pub(super) struct Quarantine {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    ranges: ArcSwap<Vec<QuarantinedRange>>,
    /// Whether the file says less or more than `ranges`. Held while either changes.
    unwritten: Mutex<bool>,
}

impl Quarantine {
    /// Reads the file of `directory`. `None` if it is there and is not whole: then nothing says
    /// what must not be served, and everything has to be read.
    ///
    /// # Errors
    /// The file cannot be read, or is of a later version.
    pub(super) fn load(
        disk: &Arc<dyn Disk>,
        directory: &Path,
    ) -> Result<(Self, bool), StorageError> {
        let path = directory.join(FILE);
        let failed = |source| StorageError::io("cannot read", &path)(source);
        let (mut ranges, mut whole) = (Vec::new(), true);
        match read_whole(&**disk, &path, BYTES_MAX).map_err(failed)? {
            Some(bytes) => match decode(&bytes) {
                Some(found) => ranges = found,
                None => {
                    envelope::refuse_newer(MAGIC, VERSION, &bytes, &path)?;
                    whole = false;
                }
            },
            None => whole = !disk.exists(&path),
        }
        let quarantine = Self {
            disk: disk.clone(),
            directory: directory.to_owned(),
            ranges: ArcSwap::from_pointee(ranges),
            unwritten: Mutex::new(!whole),
        };
        Ok((quarantine, whole))
    }

    /// The ranges, in order.
    pub(super) fn ranges(&self) -> Arc<Vec<QuarantinedRange>> {
        self.ranges.load_full()
    }

    /// The ranges with bytes in the segment at `base`, in order.
    pub(super) fn damage_of(&self, base: Offset) -> Vec<QuarantinedRange> {
        let ranges = self.ranges.load();
        ranges.iter().filter(|range| range.segment == base && range.bytes > 0).cloned().collect()
    }

    /// The bytes of the segment at `base` that must not be touched, in order: from, to.
    pub(super) fn spans(&self, base: Offset) -> Vec<(u64, u64)> {
        let damage = self.damage_of(base);
        let span =
            |range: &QuarantinedRange| (range.position, range.position.saturating_add(range.bytes));
        damage.iter().map(span).collect()
    }

    /// How far a read from `from` on may go, at most to `until`.
    ///
    /// # Errors
    /// `from` itself is quarantined.
    pub(super) fn limit(&self, from: Offset, until: Offset) -> Result<Offset, ReadError> {
        let ranges = self.ranges.load();
        if ranges.is_empty() || planted!(ServeQuarantined) {
            return Ok(until);
        }
        let behind = ranges.partition_point(|range| range.to <= from);
        match ranges.get(behind) {
            Some(range) if range.from <= from => Err(ReadError::Quarantined {
                path: self.directory.join(file_name(range.segment, LOG_SUFFIX)),
                range: Box::new(range.clone()),
            }),
            Some(range) => Ok(until.min(range.from)),
            None => Ok(until),
        }
    }

    /// What is damaged was durable, or it would not be known: nothing below the end of the last range
    /// was ever a torn write.
    pub(super) fn durable_end(&self) -> Offset {
        self.ranges.load().last().map_or(Offset::ZERO, |range| range.to)
    }

    /// Where the segments begin that were found missing and led up to `first`, or `first`.
    pub(super) fn missing_before(&self, first: Offset) -> Offset {
        let ranges = self.ranges.load();
        ranges
            .iter()
            .rev()
            .filter(|range| range.is_missing())
            .fold(first, |first, range| if range.to == first { range.from } else { first })
    }

    /// Replaces what is known of the segment at `base`, which leads up to `next`: the whole of it
    /// was read. Returns the ranges that were not known before. Not written down yet.
    pub(super) fn replace(
        &self,
        (base, next): (Offset, Offset),
        found: Vec<QuarantinedRange>,
    ) -> Vec<QuarantinedRange> {
        let mut unwritten = self.unwritten.lock();
        let before = self.ranges.load();
        // A segment that is there again takes over what was noted while it was missing.
        let is_here = |range: &QuarantinedRange| {
            range.segment == base || (range.is_missing() && range.from < next && base < range.to)
        };
        let here: Vec<&QuarantinedRange> = before.iter().filter(|r| is_here(r)).collect();
        let known = |range: &QuarantinedRange| {
            here.iter().any(|old| old.from <= range.from && range.to <= old.to)
        };
        let new: Vec<QuarantinedRange> = found.iter().filter(|r| !known(r)).cloned().collect();
        let same = here.len() == found.len()
            && here.iter().zip(&found).all(|(old, new)| {
                (old.from, old.to, old.position, old.bytes)
                    == (new.from, new.to, new.position, new.bytes)
            });
        if !same {
            let replaced = |range: &QuarantinedRange| {
                let overlaps = |new: &QuarantinedRange| range.from < new.to && new.from < range.to;
                is_here(range) || found.iter().any(overlaps)
            };
            let mut ranges: Vec<QuarantinedRange> =
                before.iter().filter(|range| !replaced(range)).cloned().collect();
            ranges.extend(found);
            ranges.sort_by_key(|range| range.from);
            self.ranges.store(Arc::new(ranges));
            *unwritten = true;
        }
        new
    }

    /// Forgets what lies below `first`, the log start or the first segment that is kept for it.
    pub(super) fn forget_below(&self, first: Offset) {
        let mut unwritten = self.unwritten.lock();
        let before = self.ranges.load();
        if before.first().is_some_and(|range| range.to <= first) {
            let kept = before.iter().filter(|range| range.to > first).cloned().collect();
            self.ranges.store(Arc::new(kept));
            *unwritten = true;
        }
    }

    /// Forgets what lies at or beyond `end`, where the log is going to end. Not written down yet.
    pub(super) fn forget_from(&self, end: Offset) {
        let mut unwritten = self.unwritten.lock();
        let before = self.ranges.load();
        if before.last().is_some_and(|range| range.to > end) {
            // One that ends beyond goes as a whole: so do its bytes.
            let kept = before.iter().filter(|range| range.to <= end).cloned().collect();
            self.ranges.store(Arc::new(kept));
            *unwritten = true;
        }
    }

    /// Writes down what changed.
    ///
    /// # Errors
    /// The file could not be written; the next call tries again. Or there is too much damage to
    /// write down.
    pub(super) fn persist(&self) -> Result<(), StorageError> {
        let mut unwritten = self.unwritten.lock();
        if planted!(ForgetQuarantine) {
            *unwritten = false;
        }
        if !*unwritten {
            return Ok(());
        }
        let ranges = self.ranges.load();
        let path = self.directory.join(FILE);
        if ranges.len() > RANGES_MAX {
            return Err(StorageError::Corrupt {
                path,
                position: 0,
                offset: ranges.first().map_or(Offset::ZERO, |range| range.from),
                reason: format!("{} damaged ranges", ranges.len()),
            });
        }
        if ranges.is_empty() {
            remove_if_there(&*self.disk, &path)?;
            self.disk
                .sync_dir(&self.directory)
                .map_err(StorageError::io("cannot sync", &self.directory))?;
        } else {
            write_atomically(&*self.disk, &path, &encode(&ranges))
                .map_err(StorageError::io("cannot write", &path))?;
        }
        *unwritten = false;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn is_written(&self) -> bool {
        !*self.unwritten.lock()
    }

    /// Says in the broker's log what was found.
    pub(super) fn report(&self, range: &QuarantinedRange) {
        let QuarantinedRange { segment, from, to, position, bytes, reason, .. } = range;
        tracing::error!(
            path = %self.directory.join(file_name(*segment, LOG_SUFFIX)).display(),
            from = from.0,
            to = to.0,
            position,
            bytes,
            %reason,
            "damaged records are quarantined: they are not served, the rest of the log is; \
             restore the file from a copy if there is one"
        );
    }
}

fn encode(ranges: &[QuarantinedRange]) -> Vec<u8> {
    let mut content = Vec::with_capacity(ranges.len() * 128);
    for range in ranges {
        content.extend(range.segment.0.to_be_bytes());
        content.extend(range.from.0.to_be_bytes());
        content.extend(range.to.0.to_be_bytes());
        content.extend(range.position.to_be_bytes());
        content.extend(range.bytes.to_be_bytes());
        content.extend(range.found.0.to_be_bytes());
        let end = range.reason.floor_char_boundary(REASON_BYTES_MAX);
        let reason = range.reason.get(..end).unwrap_or_default();
        content.push(u8::try_from(reason.len()).unwrap_or(u8::MAX));
        content.extend(reason.as_bytes());
    }
    envelope::seal(MAGIC, VERSION, &content)
}

fn decode(bytes: &[u8]) -> Option<Vec<QuarantinedRange>> {
    let mut fields = Fields(envelope::open(MAGIC, VERSION, bytes)?);
    let mut ranges = Vec::new();
    while !fields.is_empty() {
        let range = QuarantinedRange {
            segment: Offset(fields.i64()?),
            from: Offset(fields.i64()?),
            to: Offset(fields.i64()?),
            position: fields.u64()?,
            bytes: fields.u64()?,
            found: Timestamp(fields.i64()?),
            reason: {
                let length = usize::from(fields.u8()?);
                String::from_utf8(fields.bytes(length)?.to_vec()).ok()?
            },
        };
        ranges.push(range);
    }
    let in_order = ranges.array_windows().all(|[one, next]| one.to <= next.from);
    (in_order && ranges.iter().all(|range| range.from < range.to)).then_some(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::disk_sim::SimDisk;

    fn range(segment: i64, from: i64, to: i64) -> QuarantinedRange {
        QuarantinedRange {
            segment: Offset(segment),
            from: Offset(from),
            to: Offset(to),
            position: u64::try_from(from).unwrap() * 10,
            bytes: 10,
            found: Timestamp(5),
            reason: "checksum".to_owned(),
        }
    }

    fn load(disk: &SimDisk) -> (Quarantine, bool) {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        Quarantine::load(&disk, Path::new("/")).unwrap()
    }

    #[test]
    fn ranges_are_read_back_and_only_new_ones_reported() {
        let disk = SimDisk::new();
        let (quarantine, whole) = load(&disk);
        assert!(whole, "no file is an empty quarantine");
        assert_eq!(
            quarantine.replace((Offset(0), Offset(50)), vec![range(0, 3, 6)]),
            [range(0, 3, 6)]
        );
        assert_eq!(quarantine.replace((Offset(50), Offset(90)), vec![range(50, 60, 70)]).len(), 1);
        assert_eq!(quarantine.replace((Offset(0), Offset(50)), vec![range(0, 3, 6)]), []);
        quarantine.persist().unwrap();
        let disk = disk.restart(1);
        let (again, whole) = load(&disk);
        assert!(whole);
        assert_eq!(*again.ranges(), [range(0, 3, 6), range(50, 60, 70)]);
        assert_eq!(again.spans(Offset(50)), [(600, 610)]);
        again.forget_below(Offset(6));
        again.replace((Offset(50), Offset(90)), Vec::new());
        again.persist().unwrap();
        assert!(!disk.restart(1).exists(Path::new("/quarantine")), "nothing left to remember");
    }

    #[test]
    fn a_read_stops_before_a_range_and_is_refused_inside() {
        let (quarantine, _) = load(&SimDisk::new());
        quarantine.replace((Offset(0), Offset(50)), vec![range(0, 3, 6), range(0, 8, 9)]);
        let limit = |from| quarantine.limit(Offset(from), Offset(20)).ok();
        assert_eq!(limit(0), Some(Offset(3)));
        assert_eq!((limit(3), limit(5), limit(8)), (None, None, None));
        assert_eq!((limit(6), limit(9)), (Some(Offset(8)), Some(Offset(20))));
        let error = quarantine.limit(Offset(4), Offset(20)).unwrap_err();
        assert!(error.to_string().contains("read on from 6"), "{error}");
    }

    #[test]
    fn a_damaged_file_is_told_from_none_and_from_a_later_version() {
        let disk = SimDisk::new();
        let (quarantine, _) = load(&disk);
        quarantine.replace((Offset(0), Offset(50)), vec![range(0, 3, 6)]);
        quarantine.persist().unwrap();
        disk.flip_bit(Path::new("/quarantine"), 30, 1);
        assert!(!load(&disk).1);
        let later = envelope::seal(MAGIC, VERSION + 1, b"");
        write_atomically(&disk, Path::new("/quarantine"), &later).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let error = Quarantine::load(&disk, Path::new("/")).unwrap_err();
        assert!(matches!(error, StorageError::UnsupportedFormat { found: 2, .. }), "{error}");
    }
}
