//! Which leader epoch wrote from which offset on.
//!
//! Always holds: epochs and start offsets rise strictly from entry to entry, but for the start of
//! an epoch in which nothing was written yet, which the next epoch takes over.

use super::envelope::Fields;
use crate::base::{LeaderEpoch, Offset};

/// Epochs one log remembers; the oldest go first.
const EPOCHS_MAX: usize = 10_000;

/// The leader epochs of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochCache {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl EpochCache {
    /// Notes that `epoch` writes from `start` on, where the log ends so far. Epochs not above the last
    /// that wrote before are known already.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) {
        // An epoch that wrote nothing leaves no trace, be it older than this one or newer: who led it may
        // follow another by now that has records of an older epoch there. With its start kept, a later
        // leader would name an end offset that is too early, and have committed records cut.
        while self.entries.last().is_some_and(|(_, last)| *last >= start) {
            self.entries.pop();
        }
        if self.latest().is_some_and(|latest| epoch <= latest) {
            return;
        }
        if self.entries.len() >= EPOCHS_MAX {
            self.entries.remove(0);
        }
        self.entries.push((epoch, start));
    }

    /// Notes that `epoch`, the newest there is, writes from `log_end` on. Later ones can only have
    /// come from damage: no checksum covers the epochs of batches.
    pub fn lead(&mut self, epoch: LeaderEpoch, log_end: Offset) {
        self.entries.retain(|(known, _)| *known <= epoch);
        self.assign(epoch, log_end);
    }

    /// The last epoch, if any.
    #[must_use]
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    /// The first epoch, if any.
    #[must_use]
    pub fn earliest(&self) -> Option<LeaderEpoch> {
        self.entries.first().map(|(epoch, _)| *epoch)
    }

    /// The epoch that wrote `offset`.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let behind = self.entries.partition_point(|(_, start)| *start <= offset);
        self.entries.get(behind.checked_sub(1)?).map(|(epoch, _)| *epoch)
    }

    /// The largest epoch not above `epoch`, and the offset where it ends (KIP-101).
    #[must_use]
    pub fn end_offset_for(
        &self,
        epoch: LeaderEpoch,
        log_end: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        let behind = self.entries.partition_point(|(known, _)| *known <= epoch);
        if behind == self.entries.len() && self.latest().is_some_and(|latest| epoch > latest) {
            // An epoch this log has not seen.
            return None;
        }
        let (found, _) = self.entries.get(behind.checked_sub(1)?)?;
        let end = self.entries.get(behind).map_or(log_end, |(_, start)| *start);
        Some((*found, end))
    }

    /// Forgets what lies below a new log start; the epoch that spans it begins there now.
    pub fn truncate_from_start(&mut self, log_start: Offset) {
        let behind = self.entries.partition_point(|(_, start)| *start <= log_start);
        let Some(spanning) = behind.checked_sub(1) else { return };
        self.entries.drain(..spanning);
        if let Some((_, start)) = self.entries.first_mut() {
            *start = log_start;
        }
    }

    /// Forgets epochs that start at or beyond a log end found at recovery.
    pub fn truncate_from_end(&mut self, log_end: Offset) {
        self.entries.retain(|(_, start)| *start < log_end);
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(u32::try_from(self.entries.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (epoch, start) in &self.entries {
            out.extend(epoch.0.to_be_bytes());
            out.extend(start.0.to_be_bytes());
        }
    }

    pub(super) fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let mut cache = Self::default();
        for _ in 0..fields.u32()? {
            cache.entries.push((LeaderEpoch(fields.i32()?), Offset(fields.i64()?)));
        }
        cache.entries.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1).then_some(cache)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: &[(i32, i64)]) -> EpochCache {
        let mut cache = EpochCache::default();
        for (epoch, start) in entries {
            cache.assign(LeaderEpoch(*epoch), Offset(*start));
        }
        cache
    }

    fn end(cache: &EpochCache, epoch: i32, log_end: i64) -> Option<(i32, i64)> {
        cache.end_offset_for(LeaderEpoch(epoch), Offset(log_end)).map(|(e, o)| (e.0, o.0))
    }

    #[test]
    fn an_epoch_that_wrote_nothing_makes_room_for_an_older_one_that_wrote_there() {
        let mut cache = EpochCache::default();
        cache.assign(LeaderEpoch(0), Offset(0));
        cache.lead(LeaderEpoch(4), Offset(5));
        // It follows again, a leader that kept what epoch 3 had written.
        cache.assign(LeaderEpoch(3), Offset(5));
        cache.assign(LeaderEpoch(3), Offset(9));
        cache.lead(LeaderEpoch(9), Offset(19));
        let end = cache.end_offset_for(LeaderEpoch(3), Offset(19));
        assert_eq!(end, Some((LeaderEpoch(3), Offset(19))));
        assert_eq!(cache.epoch_at(Offset(7)), Some(LeaderEpoch(3)));
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let cache = cache(&[(0, 0), (2, 10), (5, 25)]);
        assert_eq!(end(&cache, 0, 40), Some((0, 10)));
        assert_eq!(end(&cache, 1, 40), Some((0, 10)));
        assert_eq!(end(&cache, 2, 40), Some((2, 25)));
        assert_eq!(end(&cache, 5, 40), Some((5, 40)));
        assert_eq!(end(&cache, 6, 40), None);
        assert_eq!(end(&cache, -1, 40), None);
        assert_eq!(cache.epoch_at(Offset(9)), Some(LeaderEpoch(0)));
        assert_eq!(cache.epoch_at(Offset(10)), Some(LeaderEpoch(2)));
    }

    #[test]
    fn an_epoch_without_records_leaves_no_trace() {
        assert_eq!(cache(&[(0, 0), (1, 10), (2, 10)]), cache(&[(0, 0), (2, 10)]));
    }

    #[test]
    fn truncation_keeps_the_epoch_that_spans_the_start() {
        let mut cache = cache(&[(0, 0), (2, 10), (5, 25)]);
        cache.truncate_from_start(Offset(12));
        assert_eq!(cache.entries, [(LeaderEpoch(2), Offset(12)), (LeaderEpoch(5), Offset(25))]);
        cache.truncate_from_end(Offset(25));
        assert_eq!(cache.entries, [(LeaderEpoch(2), Offset(12))]);
    }

    #[test]
    fn encoding_is_inverted_by_decoding() {
        let cache = cache(&[(0, 0), (2, 10), (5, 25)]);
        let mut bytes = Vec::new();
        cache.encode(&mut bytes);
        assert_eq!(EpochCache::decode(&mut Fields(&bytes)), Some(cache));
        assert_eq!(EpochCache::decode(&mut Fields(&[0, 0, 0, 9, 1])), None);
    }
}
