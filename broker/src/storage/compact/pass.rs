//! One pass over a log: what is in it is found out, then written again group by group.
//!
//! Runs beside appends and reads, on a thread of its own, on full segments only. It holds no lock;
//! between two groups the caller puts a [`Replacement`] in its place. Where the keys do not fit the
//! memory allowed, the pass cleans as far as they go, and the next goes on from there.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use sawlog_protocol::records::{BatchHeader, StoredBatch, control_type_of, emptied};

use super::super::error::StorageError;
use super::super::flush::Side;
use super::super::segment::Segment;
use super::decide::{Decider, Fate, Keys};
use super::hash::KeyHasher;
use super::input::Input;
use super::key_map::KeyMap;
use super::output::Output;
use super::plan::{CompactionRules, SegmentFacts, groups};
use super::survey::{Survey, survey};
use super::swap::{Place, Replacement};
use super::throttle::{CompactionError, Throttle};
use crate::base::disk::Disk;
use crate::base::limits::BATCH_INFLATED_BYTES_MAX;
use crate::base::{Offset, Timestamp};

/// What a pass goes by.
#[derive(Clone, Copy, Debug)]
pub struct CompactionOptions {
    /// The topic's settings.
    pub rules: CompactionRules,
    /// Memory for the last offsets of keys.
    pub key_map_bytes: usize,
    /// The hash function of this pass.
    pub hasher: KeyHasher,
    /// What tombstones are aged by.
    pub now: Timestamp,
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionReport {
    /// Bytes of segments read to be written again.
    pub bytes_before: u64,
    /// Bytes of what took their place.
    pub bytes_after: u64,
    /// Records read.
    pub records_before: u64,
    /// Records that stayed.
    pub records_after: u64,
    /// Keys of the dirty part.
    pub keys: usize,
    /// Segments that were replaced, and by how many.
    pub segments_before: usize,
    /// Segments that took their place.
    pub segments_after: usize,
    /// Everything below is clean now.
    pub clean_upto: Offset,
    /// The keys fitted the memory: another pass would find nothing to do.
    pub complete: bool,
}

/// What of a log is to be compacted.
#[derive(Debug)]
pub(in crate::storage) struct Scope {
    pub(in crate::storage) disk: Arc<dyn Disk>,
    pub(in crate::storage) directory: PathBuf,
    pub(in crate::storage) side: Arc<Side>,
    /// Full segments, from the first of the log on.
    pub(in crate::storage) segments: Vec<Arc<Segment>>,
    /// Segments behind, where markers of transactions may be found.
    pub(in crate::storage) following: Vec<Arc<Segment>>,
    /// Nothing at or beyond is looked at.
    pub(in crate::storage) committed: Offset,
    /// Producers that are remembered.
    pub(in crate::storage) producers: BTreeSet<i64>,
}

/// A pass under way.
#[derive(Debug)]
pub struct Compaction {
    scope: Scope,
    options: CompactionOptions,
    decider: Decider,
    groups: std::vec::IntoIter<Range<usize>>,
    report: CompactionReport,
}

impl Compaction {
    /// Finds out what is in the log.
    ///
    /// # Errors
    /// It cannot be read or is damaged; or it is time to stop.
    pub(in crate::storage) fn begin(
        mut scope: Scope,
        options: CompactionOptions,
        throttle: &mut Throttle,
    ) -> Result<Self, CompactionError> {
        let Survey { transactions, last, decided, dirty_records } = survey(&scope, throttle)?;
        let cut = decided < scope.segments.len();
        scope.segments.truncate(decided);
        let first_dirty = scope.side.progress.content().clean_upto;
        let end = scope.segments.last().map_or(first_dirty, |last| last.next_offset());
        if cut && end <= first_dirty {
            // All that is dirty waits for the end of a transaction: nothing to do.
            scope.segments.clear();
        }
        let keys_max = usize::try_from(dirty_records).unwrap_or(usize::MAX);
        let mut decider = Decider {
            keys: Keys {
                hasher: options.hasher,
                map: KeyMap::new(options.key_map_bytes, keys_max),
                end: end.max(first_dirty),
            },
            transactions,
            last,
            now: options.now,
            delete_retention_ms: options.rules.delete_retention_ms,
            unended: BTreeSet::new(),
        };
        if let Some(full_at) = gather_keys(&scope, first_dirty, &mut decider, throttle)? {
            decider.keys.end = full_at;
        }
        let keys_end = decider.keys.end;
        let touched = scope.segments.partition_point(|segment| segment.base < keys_end);
        scope.segments.truncate(touched);
        let facts: Vec<SegmentFacts> = scope.segments.iter().map(|one| one.facts()).collect();
        let report = CompactionReport {
            keys: decider.keys.map.len(),
            clean_upto: keys_end,
            complete: keys_end >= end,
            ..CompactionReport::default()
        };
        let groups = groups(&facts, options.rules.segment_bytes).into_iter();
        Ok(Self { scope, options, decider, groups, report })
    }

    /// Keys are known below.
    #[cfg(test)]
    pub(super) fn keys_end(&self) -> Offset {
        self.decider.keys.end
    }

    /// Writes what stays of the next segments in which something changes; none at the end.
    ///
    /// # Errors
    /// A segment cannot be read or is damaged, the new one cannot be written, or it is time to stop.
    /// Nothing of the log has changed.
    pub fn next_replacement(
        &mut self,
        throttle: &mut Throttle,
    ) -> Result<Option<Replacement>, CompactionError> {
        while let Some(group) = self.groups.next() {
            let sources = self.scope.segments.get(group).unwrap_or_default().to_vec();
            let (Some(first), Some(last)) = (sources.first(), sources.last()) else { continue };
            let place = Place { base: first.base, end: last.next_offset() };
            // Durable before the first gap can be: a start would take it for damage.
            self.scope.side.progress.update(|progress| {
                if !planted!(ForgetGaps) {
                    progress.gaps_upto = progress.gaps_upto.max(place.end);
                }
            })?;
            let written = self.write(place, &sources, throttle)?;
            let Some(segment) = written.map(Arc::new) else { continue };
            // Its name is about to be another file's: who reads it must not look for it by name.
            let kept =
                first.file.keep_open().map_err(StorageError::io("cannot keep open", &first.path));
            self.report.segments_before += sources.len();
            self.report.segments_after += 1;
            self.report.bytes_before += sources.iter().map(|source| source.end()).sum::<u64>();
            self.report.bytes_after += segment.end();
            let side = self.scope.side.clone();
            let replacement = Replacement { side, place, sources, segment };
            if let Err(error) = kept {
                replacement.discard()?;
                return Err(error.into());
            }
            return Ok(Some(replacement));
        }
        Ok(None)
    }

    /// Writes what stays of `sources`; nothing where that is all of a single segment.
    fn write(
        &mut self,
        place: Place,
        sources: &[Arc<Segment>],
        throttle: &mut Throttle,
    ) -> Result<Option<Segment>, CompactionError> {
        let interval = self.options.rules.index_interval_bytes;
        let mut output = Output::create(&self.scope.disk, &self.scope.directory, place, interval)?;
        let mut group = Group {
            decider: &mut self.decider,
            report: &mut self.report,
            output: &mut output,
            throttle,
            changed: sources.len() > 1,
        };
        let mut sift = || {
            for (left, source) in (0..sources.len()).rev().zip(sources) {
                group.sift(source, left == 0)?;
            }
            Ok(group.changed)
        };
        let written = match sift() {
            Ok(true) => output.finish(throttle).map(Some),
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        };
        if !matches!(written, Ok(Some(_))) {
            // What matters is the first error; a file that stays is removed by the next start.
            let removed = output.discard();
            if written.is_ok() {
                removed?;
            }
        }
        written
    }

    /// Writes down how far the log is clean, once every replacement has its place.
    ///
    /// # Errors
    /// It cannot be written down: the same is done again next time.
    pub fn finish(self) -> Result<CompactionReport, StorageError> {
        let clean_upto = self.report.clean_upto;
        self.scope.side.progress.update(|progress| {
            progress.clean_upto = progress.clean_upto.max(clean_upto);
        })?;
        Ok(self.report)
    }
}

/// Fills the map from the dirty part. Returns where it was full, if it was.
fn gather_keys(
    scope: &Scope,
    first_dirty: Offset,
    decider: &mut Decider,
    throttle: &mut Throttle,
) -> Result<Option<Offset>, CompactionError> {
    let Decider { keys, transactions, .. } = decider;
    for segment in scope.segments.iter().filter(|segment| segment.next_offset() > first_dirty) {
        let mut input = Input::new(segment.clone());
        while let Some((header, bytes)) = input.next(throttle)? {
            if header.is_control() || transactions.is_aborted(&header) {
                continue;
            }
            // What cannot be decoded stays as it is, and takes nobody's place.
            let Ok(batch) = StoredBatch::open(bytes, BATCH_INFLATED_BYTES_MAX) else { continue };
            for record in batch.records() {
                let Ok(record) = record else { break };
                let offset = Offset(record.offset);
                let Some(key) = record.key.filter(|_| offset >= first_dirty) else { continue };
                if !keys.map.put(keys.hasher.hash(key), offset) {
                    return Ok(Some(offset));
                }
            }
        }
    }
    Ok(None)
}

/// Segments on their way into one.
struct Group<'a> {
    decider: &'a mut Decider,
    report: &'a mut CompactionReport,
    output: &'a mut Output,
    throttle: &'a mut Throttle,
    /// Something is not as it was.
    changed: bool,
}

impl Group<'_> {
    /// Writes what stays of `source`, which may be the `last` of its group.
    fn sift(&mut self, source: &Arc<Segment>, last: bool) -> Result<(), CompactionError> {
        if planted!(ForgetDataBetweenSegments) {
            self.decider.unended.clear();
        }
        let mut input = Input::new(source.clone());
        while let Some((header, bytes)) = input.next(self.throttle)? {
            let closes = last
                && header.next_offset() == source.next_offset().0
                && !planted!(ForgetSegmentEnds);
            let control = header.is_control().then(|| control_type_of(bytes));
            let fate = self.decider.batch(&header, control);
            let stays = closes || self.decider.is_last_of_producer(&header);
            self.report.records_before += count(&header);
            let kept = match fate {
                Fate::Keep => Some(Cow::Borrowed(bytes)),
                // An emptied marker would say nothing: it stays as it is.
                Fate::Discard if stays && control.is_some() => Some(Cow::Borrowed(bytes)),
                Fate::Discard if stays => Some(empty(&header, bytes)),
                Fate::Discard => None,
                Fate::Date(horizon) => Some(date(bytes, horizon)),
                Fate::Sift => self.sifted(&header, bytes).or(stays.then(|| empty(&header, bytes))),
            };
            match kept {
                Some(kept) => {
                    self.changed |= *kept != *bytes;
                    self.output.append(&kept, self.throttle)?;
                }
                None => self.changed = true,
            }
        }
        Ok(())
    }

    /// What stays of a batch of records; none if no record does.
    fn sifted<'b>(&mut self, header: &BatchHeader, bytes: &'b [u8]) -> Option<Cow<'b, [u8]>> {
        let as_it_is = Some(Cow::Borrowed(bytes));
        let Ok(batch) = StoredBatch::open(bytes, BATCH_INFLATED_BYTES_MAX) else { return as_it_is };
        let mut keeps = Vec::with_capacity(usize::try_from(header.records_count).unwrap_or(0));
        let (mut kept, mut tombstone) = (0, false);
        for record in batch.records() {
            let Ok(record) = record else { return as_it_is };
            let keep = self.decider.keeps(header, &record);
            keeps.push(keep);
            kept += u64::from(keep);
            tombstone |= keep && !record.has_value;
        }
        if kept == 0 {
            return None;
        }
        self.report.records_after += kept;
        let horizon = self.decider.horizon_for(header).filter(|_| tombstone);
        let mut keeps = keeps.into_iter();
        let rewritten =
            batch.retain(horizon.map(|horizon| horizon.0), |_| keeps.next().unwrap_or(true));
        rewritten.ok().or(as_it_is)
    }
}

/// The batch without records, unless it has none already.
fn empty<'b>(header: &BatchHeader, bytes: &'b [u8]) -> Cow<'b, [u8]> {
    if header.records_count == 0 {
        Cow::Borrowed(bytes)
    } else {
        Cow::Owned(emptied(header).to_vec())
    }
}

/// The marker with a delete horizon.
fn date(bytes: &[u8], horizon: Timestamp) -> Cow<'_, [u8]> {
    StoredBatch::open(bytes, BATCH_INFLATED_BYTES_MAX)
        .and_then(|batch| batch.retain(Some(horizon.0), |_| true))
        .unwrap_or(Cow::Borrowed(bytes))
}

fn count(header: &BatchHeader) -> u64 {
    u64::try_from(header.records_count).unwrap_or(0)
}
