//! Checking and mending a log's files while no broker has them open.
//!
//! [`verify_log`] reads everything and changes nothing. [`repair_index`] writes index files again
//! where they are missing or wrong, after reading the segment as a start would: what is damaged of
//! it goes into the quarantine first, what is whole again comes out.
//!
//! Neither cuts anything: a torn tail is left to the broker, which knows what it was told.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sawlog_protocol::records::BatchHeader;

use super::checkpoint::{Checkpoint, CheckpointStore, Found};
use super::compact::ProgressStore;
use super::error::StorageError;
use super::index::{Entries, INTERVAL_BYTES};
use super::index_file::{FileIndex, INDEX_SUFFIX, TIME_INDEX_SUFFIX};
use super::log::SNAPSHOT_SUFFIX;
use super::producers::ProducerTable;
use super::quarantine::{Quarantine, QuarantinedRange};
use super::scan::{Ahead, Gaps, Rule, Scan, Step};
use super::segment::{LOG_SUFFIX, Segment, base_of, file_name};
use crate::base::disk::{Create, Disk, read_whole};
use crate::base::{Offset, Timestamp};

/// Something that is not as it should be, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, and what follows.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

/// What reading a log has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Segments read.
    pub segments: usize,
    /// Batches found whole.
    pub batches: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What is worth knowing and not wrong: a torn tail, a segment left out.
    pub notes: Vec<String>,
}

/// What [`repair_index`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Segments whose index files were written.
    pub rebuilt: Vec<PathBuf>,
    /// What could not be mended.
    pub problems: Vec<Problem>,
}

/// Whether a broker has the log open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InUse {
    /// None has.
    No,
    /// One has: what it is writing cannot be judged, and is left out.
    Yes,
}

/// Bytes of record batches in a log's directory, to tell progress by.
///
/// # Errors
/// The directory cannot be read.
pub fn log_bytes(disk: &dyn Disk, directory: &Path) -> Result<u64, StorageError> {
    let names = disk.list(directory).map_err(StorageError::io("cannot list", directory))?;
    let mut bytes = 0;
    for name in names.iter().filter(|name| base_of(name, LOG_SUFFIX).is_some()) {
        let path = directory.join(name);
        let file = disk.open(&path, Create::Never);
        let length = file.and_then(|file| file.len());
        bytes += length.map_err(StorageError::io("cannot read", &path))?;
    }
    Ok(bytes)
}

/// Reads all of a log and says what is wrong with it. `progress` is told of bytes as they are read.
///
/// # Errors
/// A file cannot be read, or is of a later version.
pub fn verify_log(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    in_use: InUse,
    progress: &mut dyn FnMut(u64),
) -> Result<Verified, StorageError> {
    let files = Files::load(disk, directory, in_use)?;
    let mut verified = Verified::default();
    if in_use == InUse::No {
        files.check_beside(&mut verified)?;
    }
    for range in files.quarantine.ranges().iter() {
        let path = files.path(range.segment);
        verified.problems.push(Problem { path, what: format!("quarantined: {}", told(range)) });
    }
    let mut expected = files.bases.first().copied();
    for (at, base) in files.bases.iter().enumerate() {
        let next = files.bases.get(at + 1).copied();
        if files.is_in_the_making(at)? {
            let name = file_name(*base, LOG_SUFFIX);
            verified.notes.push(format!("{name} is being written: not read"));
            expected = next;
            continue;
        }
        if let Some(expected) = expected.filter(|expected| expected < base)
            && !files.is_quarantined(expected)
        {
            let what = format!("offsets {expected} to {} before it are missing", base.plus(-1));
            verified.problems.push(Problem { path: files.path(*base), what });
        }
        expected = Some(files.verify_segment(*base, next, &mut verified, progress)?);
    }
    Ok(verified)
}

/// Writes the index files of full segments again where they are missing or wrong. Segments with
/// something in quarantine are read again too. `progress` is told of bytes as they are read.
///
/// # Errors
/// A file cannot be read or written, or is of a later version. What was written holds.
pub fn repair_index(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    now: Timestamp,
    progress: &mut dyn FnMut(u64),
) -> Result<Repaired, StorageError> {
    let files = Files::load(disk, directory, InUse::No)?;
    let mut repaired = Repaired::default();
    for (at, base) in files.bases.iter().enumerate() {
        let next = files.bases.get(at + 1).copied();
        let has = |suffix| disk.exists(&files.path(*base).with_extension(suffix));
        let has_index = has(INDEX_SUFFIX) || has(TIME_INDEX_SUFFIX);
        if next.is_none() && !has_index {
            continue; // It was never sealed; the broker reads it at its next start.
        }
        let damaged = files.quarantine.ranges().iter().any(|range| range.segment == *base);
        if !damaged && files.index_problem(*base)?.is_none() {
            continue;
        }
        files.rebuild(*base, next, now, &mut repaired, progress)?;
    }
    Ok(repaired)
}

fn told(range: &QuarantinedRange) -> String {
    let QuarantinedRange { from, to, position, bytes, reason, .. } = range;
    format!("offsets {from} to {}, {bytes} bytes at {position}: {reason}", to.plus(-1))
}

/// The files of one log.
struct Files<'a> {
    disk: &'a Arc<dyn Disk>,
    directory: &'a Path,
    in_use: InUse,
    checkpoint: Checkpoint,
    found: Found,
    quarantine: Quarantine,
    quarantine_whole: bool,
    gaps: Gaps,
    names: Vec<String>,
    bases: Vec<Offset>,
}

/// What reading one segment has shown.
struct Read {
    length: u64,
    /// Behind the last batch, or what is damaged: allocated space follows, if anything.
    end: u64,
    next_offset: Offset,
    batches: u64,
    damage: Vec<QuarantinedRange>,
    /// Where a write that nobody was told of ends the log, and why.
    torn: Option<(u64, String)>,
}

impl<'a> Files<'a> {
    fn load(
        disk: &'a Arc<dyn Disk>,
        directory: &'a Path,
        in_use: InUse,
    ) -> Result<Self, StorageError> {
        let names = disk.list(directory).map_err(StorageError::io("cannot list", directory))?;
        let (store, found) = CheckpointStore::load(disk.clone(), directory)?;
        let (quarantine, quarantine_whole) = Quarantine::load(disk, directory)?;
        let progress = ProgressStore::load(disk.clone(), directory)?;
        let bases = names.iter().filter_map(|name| base_of(name, LOG_SUFFIX)).collect();
        Ok(Self {
            disk,
            directory,
            in_use,
            checkpoint: store.content(),
            found,
            quarantine,
            quarantine_whole,
            gaps: Gaps::Below(progress.content().gaps_upto),
            names,
            bases,
        })
    }

    fn path(&self, base: Offset) -> PathBuf {
        self.directory.join(file_name(base, LOG_SUFFIX))
    }

    /// Whether a broker may be at work on segment `at`: the last, and before it those that are full
    /// and have no whole index files yet. They get them in turn, after their writers have heard.
    fn is_in_the_making(&self, at: usize) -> Result<bool, StorageError> {
        let (Some(base), Some(later)) = (self.bases.get(at), self.bases.get(at + 1..)) else {
            return Ok(false);
        };
        let has_index =
            |base: &Offset| self.disk.exists(&self.path(*base).with_extension(INDEX_SUFFIX));
        if self.in_use == InUse::No || later.iter().any(has_index) {
            return Ok(false);
        }
        Ok(later.is_empty() || !has_index(base) || self.index_problem(*base)?.is_some())
    }

    fn is_quarantined(&self, offset: Offset) -> bool {
        self.quarantine.ranges().iter().any(|range| range.from <= offset && offset < range.to)
    }

    /// The files beside the segments.
    fn check_beside(&self, verified: &mut Verified) -> Result<(), StorageError> {
        let mut problem = |name: &str, what: &str| {
            let (path, what) = (self.directory.join(name), what.to_owned());
            verified.problems.push(Problem { path, what });
        };
        match self.found {
            Found::Newest { .. } => {}
            Found::Nothing if self.bases.is_empty() => {}
            Found::Nothing => problem("checkpoint-0", "missing: the next start reads everything"),
            Found::PerhapsOlder => {
                problem("checkpoint-*", "one of two is damaged; the other counts");
            }
            Found::Damaged => problem("checkpoint-*", "damaged: the next start reads everything"),
        }
        if !self.quarantine_whole {
            problem("quarantine", "damaged: the next start reads everything");
        }
        for name in self.names.iter().filter(|name| base_of(name, SNAPSHOT_SUFFIX).is_some()) {
            let path = self.directory.join(name);
            let bytes = read_whole(&**self.disk, &path, super::recovery::SNAPSHOT_BYTES_MAX)
                .map_err(StorageError::io("cannot read", &path))?;
            if bytes.is_none_or(|bytes| ProducerTable::decode(&bytes).is_none()) {
                problem(name, "damaged: the next start rebuilds it from the segments");
            }
        }
        Ok(())
    }

    /// Returns the offset behind the segment.
    fn verify_segment(
        &self,
        base: Offset,
        next: Option<Offset>,
        verified: &mut Verified,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Offset, StorageError> {
        let path = self.path(base);
        if let Some(what) = self.index_problem(base)? {
            let path = path.with_extension(INDEX_SUFFIX);
            verified.problems.push(Problem { path, what: format!("{what}: it will be rebuilt") });
        }
        let mut indexed = self.indexed(base)?;
        let mut batch = |position: u64, header: &BatchHeader| {
            let relative = Offset(header.base_offset).minus(base);
            if indexed.get(&position).is_some_and(|entry| i64::from(*entry) == relative) {
                indexed.remove(&position);
            }
        };
        let read = self.read(base, next, Timestamp::NONE, &mut batch, progress)?;
        indexed.retain(|position, _| {
            let damaged = |range: &QuarantinedRange| {
                (range.position..range.position + range.bytes).contains(position)
            };
            !read.damage.iter().any(damaged)
        });
        if let Some((position, _)) = indexed.first_key_value() {
            let what = format!("names a batch at {position}, there is none: it will be rebuilt");
            verified.problems.push(Problem { path: path.with_extension(INDEX_SUFFIX), what });
        }
        for range in &read.damage {
            if !self.is_quarantined(range.from) {
                verified.problems.push(Problem { path: path.clone(), what: told(range) });
            }
        }
        if let Some((position, why)) = read.torn {
            verified.notes.push(format!(
                "{}: torn at byte {position} ({why}); nobody was told of what is behind, the next \
                 start cuts it",
                path.display()
            ));
        }
        verified.segments += 1;
        verified.batches += read.batches;
        verified.bytes += read.length;
        Ok(read.next_offset)
    }

    /// Reads a segment from its start, as a start of the broker would.
    fn read(
        &self,
        base: Offset,
        next: Option<Offset>,
        now: Timestamp,
        batch: &mut dyn FnMut(u64, &BatchHeader),
        progress: &mut dyn FnMut(u64),
    ) -> Result<Read, StorageError> {
        let path = self.path(base);
        let failed = |source| StorageError::io("cannot read", &path)(source);
        let file = self.disk.open(&path, Create::Never).map_err(failed)?;
        let length = file.len().map_err(failed)?;
        let Checkpoint { epochs, durable_end, .. } = &self.checkpoint;
        let rule = Rule { epochs, epochs_upto: *durable_end, gaps: self.gaps };
        let mut scan = Scan::new(&*file, length, base, rule);
        let (damage, torn) = (Vec::new(), None);
        let mut read = Read { length, end: 0, next_offset: base, batches: 0, damage, torn };
        let leads_to = next.unwrap_or(*durable_end);
        let ahead = Ahead::new(next, Some(*durable_end));
        loop {
            let position = scan.position;
            let reason = match scan.step().map_err(failed)? {
                Step::Batch(header) => {
                    batch(position, &header);
                    read.batches += 1;
                    progress(scan.position - position);
                    continue;
                }
                Step::End if scan.expected >= leads_to => break,
                Step::End => "records are missing at the end of the file".to_owned(),
                Step::Bad(_) if next == Some(scan.expected) => break,
                Step::Bad(reason) => reason,
            };
            let from = scan.expected;
            if next.is_none() && from >= *durable_end {
                if !scan.resume_behind_damage(ahead).map_err(failed)? {
                    read.torn = Some((position, reason));
                    break;
                }
            } else if !scan.resume(ahead).map_err(failed)? {
                (scan.position, scan.expected) = (length, leads_to.max(from.plus(1)));
            }
            progress(scan.position - position);
            read.damage.push(QuarantinedRange {
                segment: base,
                from,
                to: scan.expected,
                position,
                bytes: scan.position - position,
                found: now,
                reason,
            });
        }
        progress(length - scan.position);
        (read.end, read.next_offset) = (scan.position, scan.expected);
        Ok(read)
    }

    /// What is wrong with the index files of a segment that has some.
    fn index_problem(&self, base: Offset) -> Result<Option<String>, StorageError> {
        let path = self.path(base);
        let there = |suffix| self.disk.exists(&path.with_extension(suffix));
        if !there(INDEX_SUFFIX) && !there(TIME_INDEX_SUFFIX) {
            // The last segment may not be full.
            let due = self.bases.last() != Some(&base);
            return Ok(due.then(|| "missing".to_owned()));
        }
        let Some(files) = FileIndex::open(self.disk.clone(), &path)? else {
            return Ok(Some("the header does not check, or one of the two is missing".to_owned()));
        };
        let failed = |source| StorageError::io("cannot read the index of", &path)(source);
        let length = self.disk.open(&path, Create::Never).and_then(|file| file.len());
        let length = length.map_err(failed)?;
        if files.summary.base != base || files.summary.log_bytes != length {
            let named = files.summary.log_bytes;
            return Ok(Some(format!("is of a log of {named} bytes, not {length}")));
        }
        let whole = files.check().map_err(failed)?;
        Ok((!whole).then(|| "the entries do not check".to_owned()))
    }

    /// The entries of a valid index: position to relative offset.
    fn indexed(&self, base: Offset) -> Result<BTreeMap<u64, u32>, StorageError> {
        let path = self.path(base);
        let mut indexed = BTreeMap::new();
        if self.index_problem(base)?.is_some() {
            return Ok(indexed);
        }
        let Some(files) = FileIndex::open(self.disk.clone(), &path)? else { return Ok(indexed) };
        let failed = |source| StorageError::io("cannot read the index of", &path)(source);
        let entries = files.offset_entries().map_err(failed)?;
        for at in 0..entries.count() {
            let entry = entries.at(at).map_err(failed)?;
            indexed.insert(u64::from(entry.position), entry.relative);
        }
        Ok(indexed)
    }

    fn rebuild(
        &self,
        base: Offset,
        next: Option<Offset>,
        now: Timestamp,
        repaired: &mut Repaired,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), StorageError> {
        let path = self.path(base);
        let failed = |source| StorageError::io("cannot read", &path)(source);
        let length = self.disk.open(&path, Create::Never).and_then(|file| file.len());
        let length = length.map_err(failed)?;
        let segment = Segment::open(self.disk, self.directory, base, length, Create::Never)?;
        let mut batch = |position: u64, header: &BatchHeader| {
            let at = Offset(header.base_offset);
            if position > segment.end() {
                segment.skip(position, at);
            }
            segment.publish(header, at, INTERVAL_BYTES);
        };
        let read = self.read(base, next, now, &mut batch, progress)?;
        if read.end < length {
            let why = read.torn.map_or("allocated and not written".to_owned(), |(_, why)| why);
            let what = format!("ends at byte {} ({why}): left to the broker's start", read.end);
            repaired.problems.push(Problem { path, what });
            return Ok(());
        }
        for range in &read.damage {
            let what = format!("quarantined: {}", told(range));
            repaired.problems.push(Problem { path: path.clone(), what });
        }
        self.quarantine.replace((base, read.next_offset), read.damage);
        self.quarantine.persist()?;
        segment.skip(length, read.next_offset);
        segment.set_damage(self.quarantine.spans(base));
        segment.seal()?;
        repaired.rebuilt.push(path);
        Ok(())
    }
}
