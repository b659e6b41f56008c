//! What a log does for its compaction: says what may be compacted, and takes replaced segments in.

use std::sync::Arc;

use super::Log;
#[cfg(test)]
use crate::base::Offset;
use crate::base::Timestamp;
use crate::storage::compact::{
    Compaction, CompactionError, CompactionLimits, CompactionOptions, CompactionRules, Dirtiness,
    Replacement, Scope, SegmentFacts, SwapTicket, Throttle, assess,
};
use crate::storage::error::StorageError;
use crate::storage::producers::ProducerTable;
use crate::storage::segment::Segment;

/// What of a log may be compacted at the moment it was asked.
#[derive(Debug)]
pub struct CompactionScope(Scope);

impl CompactionScope {
    /// Finds out what is in the log. Reads as much as is dirty: off the reactor, and without the
    /// log's lock.
    ///
    /// # Errors
    /// It cannot be read or is damaged; or it is time to stop.
    pub fn begin(
        self,
        options: CompactionOptions,
        throttle: &mut Throttle,
    ) -> Result<Compaction, CompactionError> {
        Compaction::begin(self.0, options, throttle)
    }
}

impl Log {
    /// How dirty the log is, as far as it may be compacted.
    #[must_use]
    pub fn dirtiness(
        &self,
        limits: CompactionLimits,
        now: Timestamp,
        rules: &CompactionRules,
    ) -> Dirtiness {
        let facts: Vec<SegmentFacts> =
            self.compactable().iter().map(|segment| segment.facts()).collect();
        let limit = limits.stable.min(self.durable_end);
        assess(&facts, self.side.progress.content().clean_upto, limit, now, rules)
    }

    /// What a compaction of everything that is due works on. `producers` is the state as of now.
    #[must_use]
    pub fn compaction_scope(
        &self,
        limits: CompactionLimits,
        now: Timestamp,
        rules: &CompactionRules,
        producers: &ProducerTable,
    ) -> CompactionScope {
        let mut segments = self.compactable();
        segments.truncate(self.dirtiness(limits, now, rules).segments);
        let following = self.segments.load().iter().skip(segments.len()).cloned().collect();
        CompactionScope(Scope {
            disk: self.disk.clone(),
            directory: self.directory.clone(),
            side: self.side.clone(),
            segments,
            following,
            committed: limits.committed.min(self.durable_end),
            producers: producers.iter().map(|info| info.producer_id).collect(),
        })
    }

    /// The full segments from the first on; none from one on whose files a flush is completing, or in
    /// which something is in quarantine: what is there cannot be told, so nothing behind it may be
    /// taken to delete it, or to be all there is.
    fn compactable(&self) -> Vec<Arc<Segment>> {
        let segments = self.segments.load();
        let full = segments.len() - usize::from(self.active.is_some());
        let is_one_of = |segment: &Arc<Segment>, list: &[Arc<Segment>]| {
            list.iter().any(|other| Arc::ptr_eq(other, segment))
        };
        let settled = |segment: &&Arc<Segment>| {
            !segment.is_damaged()
                && !is_one_of(segment, &self.unsealed)
                && !is_one_of(segment, &self.sealing)
        };
        segments.iter().take(full).take_while(settled).cloned().collect()
    }

    /// Begins to put a compacted segment in the place of those it was made of.
    ///
    /// # Errors
    /// The replacement, where its segments are not all there any more: removed by retention. Or the
    /// log has failed.
    pub fn begin_swap(&mut self, replacement: Replacement) -> Result<SwapTicket, Replacement> {
        let current = self.compactable();
        let sources = &replacement.sources;
        let at = sources
            .first()
            .and_then(|first| current.iter().position(|segment| Arc::ptr_eq(segment, first)));
        let same = at.is_some_and(|at| {
            current.len() - at >= sources.len()
                && current.iter().skip(at).zip(sources).all(|(one, other)| Arc::ptr_eq(one, other))
        });
        if !same || self.poisoned || self.swapping.is_some() {
            return Err(replacement);
        }
        let (base, end) = replacement.range();
        self.swapping = Some(base..end);
        Ok(SwapTicket { replacement })
    }

    /// Takes note of a finished swap: readers see the new segment from here on.
    ///
    /// # Errors
    /// The swap's own: final for this log.
    pub fn end_swap(
        &mut self,
        result: Result<Replacement, StorageError>,
    ) -> Result<(), StorageError> {
        self.swapping = None;
        let replacement = result.inspect_err(|_| self.poisoned = true)?;
        let segments = self.segments.load();
        let mut replaced = Vec::with_capacity(segments.len());
        for segment in segments.iter() {
            let gone = replacement.sources.iter().any(|source| Arc::ptr_eq(source, segment));
            if !gone {
                replaced.push(segment.clone());
            } else if segment.base == replacement.segment.base {
                replaced.push(replacement.segment.clone());
            }
        }
        self.segments.store(Arc::new(replaced));
        // Segments that waited for the swap.
        self.remove_below(self.start).inspect_err(|_| self.poisoned = true)?;
        self.check();
        Ok(())
    }
}

#[cfg(test)]
impl Log {
    /// The segment in which `offset` is looked for.
    pub(in crate::storage) fn segment_holding(&self, offset: Offset) -> Arc<Segment> {
        let segments = self.segments.load();
        let behind = segments.partition_point(|segment| segment.base <= offset);
        segments[behind - 1].clone()
    }
}
