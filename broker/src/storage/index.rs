//! Sparse indexes of one segment: offset to position, timestamp to offset.
//!
//! One entry for every `index.interval.bytes` of log, so a lookup ends with a short walk from
//! header to header. The active segment's indexes are in memory, with the newest batches one by
//! one: reads at the tail touch neither the index nor the disk. A sealed segment's are files; see
//! [`super::index_file`].

use std::cmp::Ordering;

use crate::base::Timestamp;

/// Log between two entries of an index that is rebuilt, whatever the topic's setting.
pub(super) const INTERVAL_BYTES: u32 = 4096;

/// Newest batches known one by one: what consumers that keep up ask for.
const RECENT: usize = 16;

/// Where a batch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OffsetEntry {
    /// Its base offset, from the segment's.
    pub(super) relative: u32,
    /// Its first byte.
    pub(super) position: u32,
}

/// No record before `relative` has a timestamp of this or above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeEntry {
    /// Largest timestamp up to and with the batch at `relative`.
    pub(super) timestamp: Timestamp,
    /// Base offset of the batch that brought it, from the segment's.
    pub(super) relative: u32,
}

/// A batch: its offsets from the segment's base, and where it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) relative: u32,
    /// Offset of its last record.
    pub(super) last: u32,
    pub(super) position: u32,
}

/// What the newest batches say of an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recent {
    /// The first batch whose last offset is not below it.
    At(Span),
    /// All batches end below it.
    Behind,
    /// It is further back.
    Older,
}

/// The indexes of a segment that is being written, or whose files are not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MemoryIndex {
    offsets: Vec<OffsetEntry>,
    times: Vec<TimeEntry>,
    recent: [Span; RECENT],
    /// Batches added; the newest is in `recent` at this minus one, modulo its length.
    batches: usize,
    /// Bytes of log since the last entry.
    unindexed: u32,
    /// The largest timestamp, and the batch that brought it.
    max: Option<TimeEntry>,
}

impl MemoryIndex {
    /// Notes a batch of `length` bytes.
    pub(super) fn add(&mut self, span: Span, length: u32, max_timestamp: Timestamp, interval: u32) {
        let Span { relative, position, .. } = span;
        if let Some(slot) = self.recent.get_mut(self.batches % RECENT) {
            *slot = span;
        }
        self.batches += 1;
        if self.max.is_none_or(|max| max_timestamp > max.timestamp) {
            self.max = Some(TimeEntry { timestamp: max_timestamp, relative });
        }
        if self.unindexed >= interval {
            self.offsets.push(OffsetEntry { relative, position });
            let rises = |max: &TimeEntry| {
                self.times.last().is_none_or(|last| max.timestamp > last.timestamp)
            };
            self.times.extend(self.max.filter(rises));
            self.unindexed = 0;
        }
        self.unindexed = self.unindexed.saturating_add(length);
    }

    /// What the newest batches say of the offset `relative`.
    pub(super) fn recent(&self, relative: u32) -> Recent {
        let mut found = Recent::Behind;
        for back in 1..=RECENT.min(self.batches) {
            let Some(span) = self.recent.get((self.batches - back) % RECENT) else { break };
            if span.last < relative {
                return found;
            }
            found = Recent::At(*span);
            if span.relative <= relative {
                return found;
            }
        }
        if self.batches <= RECENT { found } else { Recent::Older }
    }

    pub(super) fn offsets(&self) -> &[OffsetEntry] {
        &self.offsets
    }

    pub(super) fn times(&self) -> &[TimeEntry] {
        &self.times
    }

    /// The largest timestamp, and the batch that brought it.
    pub(super) fn max(&self) -> Option<TimeEntry> {
        self.max
    }
}

/// Entries in order, wherever they are.
pub(super) trait Entries<E> {
    /// How many there are.
    fn count(&self) -> usize;

    /// One of them.
    ///
    /// # Errors
    /// The operating system's.
    fn at(&self, index: usize) -> std::io::Result<E>;

    /// The last entry that `compare` does not call greater than what is looked for.
    ///
    /// # Errors
    /// The operating system's.
    fn last_not_above(&self, compare: impl Fn(&E) -> Ordering) -> std::io::Result<Option<E>> {
        let (mut low, mut high) = (0, self.count());
        let mut best = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.at(middle)?;
            if compare(&entry) == Ordering::Greater {
                high = middle;
            } else {
                best = Some(entry);
                low = middle + 1;
            }
        }
        Ok(best)
    }
}

impl<E: Copy> Entries<E> for [E] {
    fn count(&self) -> usize {
        self.len()
    }

    fn at(&self, index: usize) -> std::io::Result<E> {
        self.get(index).copied().ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
    }
}

/// A position at or before the batch that holds `relative`.
pub(super) fn position_before<T: Entries<OffsetEntry> + ?Sized>(
    entries: &T,
    relative: u32,
) -> std::io::Result<u32> {
    let found = entries.last_not_above(|entry| entry.relative.cmp(&relative))?;
    Ok(found.map_or(0, |entry| entry.position))
}

/// The last indexed batch boundary not beyond `position`.
pub(super) fn boundary_before<T: Entries<OffsetEntry> + ?Sized>(
    entries: &T,
    position: u64,
) -> std::io::Result<u32> {
    let found = entries.last_not_above(|entry| u64::from(entry.position).cmp(&position))?;
    Ok(found.map_or(0, |entry| entry.position))
}

/// A batch at or before the first record with a timestamp of at least `timestamp`.
pub(super) fn relative_before<T: Entries<TimeEntry> + ?Sized>(
    entries: &T,
    timestamp: Timestamp,
) -> std::io::Result<u32> {
    // Equal timestamps are behind: an earlier batch may have brought the same.
    let found = entries.last_not_above(|entry| {
        if entry.timestamp < timestamp { Ordering::Less } else { Ordering::Greater }
    })?;
    Ok(found.map_or(0, |entry| entry.relative))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 100 batches of 10 records and 1000 bytes, timestamps rising by 5.
    pub(in crate::storage) fn index() -> MemoryIndex {
        let mut index = MemoryIndex::default();
        for n in 0..100 {
            let span = Span { relative: n * 10, last: n * 10 + 9, position: n * 1000 };
            index.add(span, 1000, Timestamp(i64::from(n) * 5), 4096);
        }
        index
    }

    #[test]
    fn lookups_land_at_or_shortly_before_the_batch() {
        let index = index();
        for relative in 0..1000 {
            let batch = relative / 10 * 1000;
            let found = position_before(index.offsets(), relative).unwrap();
            assert!(found <= batch && batch - found <= 6000, "{relative}: {found}");
        }
        assert!(boundary_before(index.offsets(), 50_500).unwrap() <= 50_000);
        assert_eq!(boundary_before(index.offsets(), 0).unwrap(), 0);
    }

    #[test]
    fn time_lookups_never_pass_the_record() {
        let index = index();
        for timestamp in 0..500 {
            let first = u32::try_from((timestamp + 4) / 5 * 10).unwrap();
            assert!(relative_before(index.times(), Timestamp(timestamp)).unwrap() <= first);
        }
        assert_eq!(index.max().unwrap().timestamp, Timestamp(495));
    }

    #[test]
    fn the_newest_batches_are_known_exactly() {
        let index = index();
        assert_eq!(index.recent(1000), Recent::Behind);
        for relative in 840..1000 {
            let Recent::At(span) = index.recent(relative) else { panic!("{relative}") };
            assert_eq!((span.relative, span.position), (relative / 10 * 10, relative / 10 * 1000));
        }
        assert_eq!(index.recent(839), Recent::Older);
        let mut short = MemoryIndex::default();
        assert_eq!(short.recent(0), Recent::Behind);
        let span = Span { relative: 5, last: 9, position: 0 };
        short.add(span, 100, Timestamp(0), 4096);
        assert_eq!(short.recent(0), Recent::At(span), "the first of all, behind a gap");
    }

    proptest! {
        #[test]
        fn lookups_agree_with_a_walk(
            batches in prop::collection::vec((1u32..5, 0u32..3, 61u32..3000, 0i64..50), 1..200),
            interval in 0u32..9000,
            wanted in 0u32..1500,
            time in 0i64..60,
        ) {
            let mut index = MemoryIndex::default();
            let (mut relative, mut position) = (0, 0);
            let mut spans = Vec::new();
            for (count, gap, length, timestamp) in batches {
                relative += gap;
                let span = Span { relative, last: relative + count - 1, position };
                index.add(span, length, Timestamp(timestamp), interval);
                spans.push((span, timestamp));
                relative += count;
                position += length;
            }
            let holder = spans.iter().find(|(span, _)| span.last >= wanted).map(|(span, _)| *span);
            match index.recent(wanted) {
                Recent::At(span) => prop_assert_eq!(Some(span), holder),
                Recent::Behind => prop_assert_eq!(None, holder),
                Recent::Older => prop_assert!(spans.len() > RECENT),
            }
            let from = position_before(index.offsets(), wanted).unwrap();
            prop_assert!(spans.iter().any(|(span, _)| span.position == from), "a boundary");
            prop_assert!(holder.is_none_or(|holder| from <= holder.position));
            let first = spans.iter().find(|(_, timestamp)| *timestamp >= time);
            let from = relative_before(index.times(), Timestamp(time)).unwrap();
            prop_assert!(first.is_none_or(|(span, _)| from <= span.relative));
            let max = spans.iter().map(|(_, timestamp)| *timestamp).max();
            prop_assert_eq!(index.max().map(|max| max.timestamp.0), max);
        }
    }
}
