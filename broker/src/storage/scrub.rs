//! Reading full segments again, to find what has decayed before somebody needs it.
//!
//! A start trusts sealed segments, and a fetch looks only at bytes nobody has looked at since the
//! start. So damage that comes later is found here, or by the consumer's own checksum; what a fetch
//! comes upon is judged here too. What is found goes into the quarantine. Segments are read through the file, never through the mapping: a page that
//! cannot be read is an error there, and the end of the process here.
//!
//! Segments that take appends are left to recovery: what is new of them is in memory anyway.

use std::sync::Arc;

use super::error::StorageError;
use super::flush::Side;
use super::quarantine::QuarantinedRange;
use super::reader::Segments;
use super::scan::{Ahead, Gaps, Rule, Scan, Step};
use super::segment::Segment;
use crate::base::{Offset, Timestamp};

/// Bytes read between two looks at the caller's pace.
const PACE_BYTES: u64 = 256 * 1024;

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Read on.
    On,
    /// Stop here; the segment counts as not read.
    Stop,
}

/// What reading one segment has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scrubbed {
    /// Its base offset: where the next call goes on.
    pub segment: Offset,
    /// Bytes read.
    pub bytes: u64,
    /// Damage that was not known before. It is in quarantine now, and logged.
    pub found: Vec<QuarantinedRange>,
}

/// A segment that could not be read, or whose damage could not be written down.
#[derive(Debug)]
pub struct ScrubFailed {
    /// Its base offset: where the next call goes on.
    pub segment: Offset,
    /// Why.
    pub error: StorageError,
}

/// A full segment, to be damaged.
#[cfg(any(test, feature = "sim"))]
#[derive(Clone, Debug)]
pub(crate) struct FullSegment {
    pub(crate) path: std::path::PathBuf,
    pub(crate) bytes: u64,
    /// The offsets in it: from, to.
    pub(crate) range: (Offset, Offset),
}

/// Reads the full segments of one log again.
#[derive(Clone, Debug)]
pub struct LogScrubber {
    segments: Segments,
    side: Arc<Side>,
}

impl LogScrubber {
    pub(super) fn new(segments: Segments, side: Arc<Side>) -> Self {
        Self { segments, side }
    }

    /// Reads the first full segment behind the one at `after`. `pace` is told of bytes as they
    /// are read. `None` behind the last one, or when `pace` says stop.
    ///
    /// # Errors
    /// The segment cannot be read: nothing is concluded from it. Or the quarantine cannot be
    /// written down: it holds until the broker stops.
    pub fn scrub_next(
        &self,
        after: Option<Offset>,
        now: Timestamp,
        pace: &mut dyn FnMut(u64) -> Pace,
    ) -> Result<Option<Scrubbed>, ScrubFailed> {
        let segments = self.segments.load_full();
        let mut behind = segments.iter().filter(|s| after.is_none_or(|after| s.base > after));
        // Beyond the checkpoint the epochs are not known, which the checksums do not cover.
        let vouched = self.side.checkpoint.content().durable_end;
        let is_due =
            |segment: &&Arc<Segment>| segment.is_closed() && segment.next_offset() <= vouched;
        let Some(segment) = behind.find(is_due) else { return Ok(None) };
        self.scrub(segment, now, pace).map_err(|error| ScrubFailed { segment: segment.base, error })
    }

    /// Reads the full segment that holds `offset`, in which a read has come upon damage. `None` if
    /// there is no such segment, or it takes appends.
    ///
    /// # Errors
    /// As [`Self::scrub_next`].
    pub fn scrub_at(
        &self,
        offset: Offset,
        now: Timestamp,
    ) -> Result<Option<Scrubbed>, ScrubFailed> {
        let segments = self.segments.load_full();
        let holder = segments.iter().find(|segment| segment.next_offset() > offset);
        let Some(holder) = holder.filter(|holder| holder.base <= offset) else { return Ok(None) };
        let before = segments.iter().rev().find(|segment| segment.base < holder.base);
        self.scrub_next(before.map(|segment| segment.base), now, &mut |_| Pace::On)
    }

    /// The full segments that [`Self::scrub_next`] reads, in order: those for which a checkpoint vouches
    /// that is on the disk. What is damaged beyond, the next start may take for a torn write.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn full(&self) -> Vec<FullSegment> {
        let vouched = self.side.checkpoint.vouched_upto();
        let segments = self.segments.load();
        let full = segments.iter().filter(|it| it.is_closed() && it.next_offset() <= vouched);
        full.map(|it| FullSegment {
            path: it.path.clone(),
            bytes: it.end(),
            range: (it.base, it.next_offset()),
        })
        .collect()
    }

    fn scrub(
        &self,
        segment: &Arc<Segment>,
        now: Timestamp,
        pace: &mut dyn FnMut(u64) -> Pace,
    ) -> Result<Option<Scrubbed>, StorageError> {
        let Some(damage) = self.read(segment, now, pace)? else { return Ok(None) };
        let still_there = self.segments.load().iter().any(|known| Arc::ptr_eq(known, segment));
        let mut found = Vec::new();
        if still_there {
            let span = (segment.base, segment.next_offset());
            found = self.side.quarantine.replace(span, damage);
            segment.set_damage(self.side.quarantine.spans(segment.base));
            // What is not whole is not read from here on.
            segment.checked.all();
            for range in &found {
                self.side.quarantine.report(range);
            }
            if !found.is_empty() {
                self.side.quarantine.persist()?;
            }
        }
        Ok(Some(Scrubbed { segment: segment.base, bytes: segment.end(), found }))
    }

    fn read(
        &self,
        segment: &Segment,
        now: Timestamp,
        pace: &mut dyn FnMut(u64) -> Pace,
    ) -> Result<Option<Vec<QuarantinedRange>>, StorageError> {
        let failed = |source| StorageError::io("cannot read", &segment.path)(source);
        let checkpoint = self.side.checkpoint.content();
        let gaps = Gaps::Below(self.side.progress.content().gaps_upto);
        let rule = Rule { epochs: &checkpoint.epochs, epochs_upto: checkpoint.durable_end, gaps };
        let (length, next) = (segment.end(), segment.next_offset());
        let mut scan = Scan::new(&*segment.file, length, segment.base, rule);
        scan.trimmed = true;
        // What is known to be damaged ends where it did, though what confirmed that be damaged since.
        scan.suspects = self.side.quarantine.damage_of(segment.base);
        let (mut damage, mut paced) = (Vec::new(), 0);
        loop {
            if scan.position - paced >= PACE_BYTES || scan.position >= length {
                if pace(scan.position - paced) == Pace::Stop {
                    return Ok(None);
                }
                paced = scan.position;
            }
            let reason = match scan.step().map_err(failed)? {
                Step::Batch(_) => continue,
                Step::End if scan.expected >= next || planted!(ScrubBlindly) => {
                    return Ok(Some(damage));
                }
                Step::End => "records are missing at the end of the file".to_owned(),
                Step::Bad(reason) => reason,
            };
            let (position, from) = (scan.position, scan.expected);
            if !scan.resume(Ahead::new(Some(next), None)).map_err(failed)? {
                (scan.position, scan.expected) = (length, next.max(from.plus(1)));
            }
            if planted!(ScrubBlindly) {
                continue;
            }
            damage.push(QuarantinedRange {
                segment: segment.base,
                from,
                to: scan.expected,
                position,
                bytes: scan.position - position,
                found: now,
                reason,
            });
        }
    }
}
