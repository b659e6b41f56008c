//! What a log does for its repair: says what is damaged and can be made whole, and takes the whole
//! segment in.

use std::sync::Arc;

use super::Log;
use crate::base::Offset;
use crate::storage::compact::{Broken, Rebuild, RebuildError, Rebuilt, Replacement, SwapTicket};
use crate::storage::epochs::EpochCache;
use crate::storage::error::StorageError;
use crate::storage::quarantine::QuarantinedRange;
use crate::storage::segment::Segment;

/// A segment with damage that is to be made whole.
#[derive(Debug)]
pub struct RepairScope(Broken, Arc<dyn crate::base::disk::Disk>);

impl RepairScope {
    /// Begins. Reads and writes what is whole: off the reactor, and without the log's lock.
    ///
    /// # Errors
    /// It cannot be read or written, or more of it is damaged.
    pub fn begin(self) -> Result<Rebuild, RebuildError> {
        Rebuild::begin(self.0, &self.1)
    }
}

impl Log {
    /// What of the segment at `base` is to be made whole, where that can be done: all that is damaged
    /// of it is below `upto`, and nobody appends to it or completes it. `epochs` are those of this log.
    #[must_use]
    pub fn repair_scope(
        &self,
        base: Offset,
        upto: Offset,
        epochs: &EpochCache,
        is_compacted: bool,
    ) -> Option<RepairScope> {
        if self.poisoned || self.swapping.is_some() {
            return None;
        }
        let known = self.quarantine.ranges();
        let ranges: Vec<_> = known.iter().filter(|range| range.segment == base).cloned().collect();
        let (from, to) = (ranges.first()?.from, ranges.last()?.to);
        if to > upto || to <= self.start {
            return None;
        }
        let segments = self.segments.load();
        let segment = segments.iter().find(|segment| segment.base == base).cloned();
        let can_be = match &segment {
            Some(segment) => self.is_settled(segment),
            None => !segments.iter().any(|one| one.base < to && from < one.next_offset()),
        };
        if !can_be {
            return None;
        }
        let broken = Broken {
            side: self.side.clone(),
            segment,
            ranges,
            epochs: epochs.clone(),
            is_compacted,
            segment_bytes: self.options.segment_bytes,
            index_interval_bytes: self.options.index_interval_bytes,
        };
        Some(RepairScope(broken, self.disk.clone()))
    }

    /// Whether nothing is appended to a segment any more, and no flush completes it.
    fn is_settled(&self, segment: &Arc<Segment>) -> bool {
        let is_one_of = |list: &[Arc<Segment>]| list.iter().any(|one| Arc::ptr_eq(one, segment));
        let is_active = self.active.as_ref().is_some_and(|it| Arc::ptr_eq(&it.segment, segment));
        segment.is_closed() && !is_active && !is_one_of(&self.unsealed) && !is_one_of(&self.sealing)
    }

    /// Begins to put a segment that is whole in the place of the damaged one, or where none is.
    ///
    /// # Errors
    /// The replacement, where the log has changed there. Or it has failed.
    pub fn begin_repair(
        &mut self,
        rebuilt: Rebuilt,
    ) -> Result<(SwapTicket, Vec<QuarantinedRange>), Replacement> {
        let Rebuilt { replacement, left } = rebuilt;
        let (base, end) = replacement.range();
        let segments = self.segments.load();
        let fits = match replacement.sources.first() {
            Some(source) => {
                segments.iter().any(|one| Arc::ptr_eq(one, source)) && self.is_settled(source)
            }
            None => {
                end <= self.end
                    && end > self.start
                    && !segments.iter().any(|one| one.base < end && base < one.next_offset())
            }
        };
        if !fits || self.poisoned || self.swapping.is_some() {
            return Err(replacement);
        }
        self.swapping = Some(base..end);
        Ok((SwapTicket { replacement }, left))
    }

    /// Takes note of a finished repair: what was damaged is served from here on; what is `left` of it
    /// is not.
    ///
    /// # Errors
    /// The swap's own: final for this log.
    pub fn end_repair(
        &mut self,
        result: Result<Replacement, StorageError>,
        left: Vec<QuarantinedRange>,
    ) -> Result<(), StorageError> {
        self.swapping = None;
        let replacement = result.inspect_err(|_| self.poisoned = true)?;
        let is_source =
            |one: &Arc<Segment>| replacement.sources.iter().any(|source| Arc::ptr_eq(source, one));
        let segments = self.segments.load();
        let mut repaired: Vec<_> = segments.iter().filter(|one| !is_source(one)).cloned().collect();
        repaired.push(replacement.segment.clone());
        repaired.sort_by_key(|segment| segment.base);
        self.segments.store(Arc::new(repaired));
        self.quarantine.replace(replacement.range(), left);
        // The files are whole: a range that is still written down is found to be so, and forgotten,
        // when they are read again.
        let written = match self.quarantine.persist() {
            Ok(()) | Err(StorageError::NoSpace { .. }) => Ok(()),
            Err(error) => Err(error),
        };
        written
            .and_then(|()| self.remove_below(self.start))
            .inspect_err(|_| self.poisoned = true)?;
        self.check();
        Ok(())
    }
}
