//! What of a log is due to be compacted, and which segments become one.
//!
//! Pure. A log is a clean part, compacted before, and a dirty part behind it. The dirty part ends
//! at the first segment that may not be touched: the active one, one beyond what is committed and
//! durable, or one with a record younger than `min.compaction.lag.ms`.

use std::ops::Range;

use crate::base::{Offset, Timestamp};

/// The settings by which a log is compacted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompactionRules {
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// `min.compaction.lag.ms`.
    pub min_lag_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_lag_ms: i64,
    /// `min.cleanable.dirty.ratio`.
    pub min_dirty_ratio: f64,
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
}

/// How far a log may be compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionLimits {
    /// Nothing at or beyond is touched: the last stable offset.
    pub stable: Offset,
    /// Nothing at or beyond is looked at, not even for the markers of transactions: the high
    /// watermark.
    pub committed: Offset,
}

/// What planning asks of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) struct SegmentFacts {
    pub(in crate::storage) base: Offset,
    pub(in crate::storage) next: Offset,
    pub(in crate::storage) bytes: u64,
    pub(in crate::storage) first_timestamp: Timestamp,
    pub(in crate::storage) max_timestamp: Timestamp,
}

/// How dirty a log is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dirtiness {
    /// Bytes compacted before.
    pub clean_bytes: u64,
    /// Bytes that may be compacted now and were not before.
    pub dirty_bytes: u64,
    /// How long the oldest dirty record waits beyond `max.compaction.lag.ms`, in milliseconds; 0
    /// if it does not.
    pub overdue_ms: i64,
    /// Segments, from the first of the log on, that may be compacted.
    pub(in crate::storage) segments: usize,
    /// The share of dirty bytes from which on compaction is due.
    min_ratio: f64,
}

impl Dirtiness {
    /// Dirty bytes as a share of all that may be compacted.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        let total = self.clean_bytes + self.dirty_bytes;
        if total == 0 { 0.0 } else { share(self.dirty_bytes, total) }
    }

    /// Whether the log is due.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.dirty_bytes > 0 && (self.overdue_ms > 0 || self.ratio() > self.min_ratio)
    }
}

/// A share of bytes in 1/65536: exact enough to compare, without a lossy conversion.
fn share(part: u64, total: u64) -> f64 {
    let scaled = u128::from(part) * 65_536 / u128::from(total);
    f64::from(u32::try_from(scaled).unwrap_or(u32::MAX)) / 65_536.0
}

/// How dirty a log with these full segments is, which is clean below `first_dirty` and may be
/// touched below `limit`.
pub(in crate::storage) fn assess(
    segments: &[SegmentFacts],
    first_dirty: Offset,
    limit: Offset,
    now: Timestamp,
    rules: &CompactionRules,
) -> Dirtiness {
    let is_dirty = |segment: &SegmentFacts| segment.next > first_dirty;
    let young = |segment: &SegmentFacts| {
        rules.min_lag_ms > 0 && now.since(segment.max_timestamp) < rules.min_lag_ms
    };
    let count = segments
        .iter()
        .take_while(|segment| segment.next <= limit && !(is_dirty(segment) && young(segment)))
        .count();
    let mut dirtiness =
        Dirtiness { segments: count, min_ratio: rules.min_dirty_ratio, ..Dirtiness::default() };
    for segment in segments.iter().take(count) {
        if !is_dirty(segment) {
            dirtiness.clean_bytes += segment.bytes;
            continue;
        }
        dirtiness.dirty_bytes += segment.bytes;
        if segment.first_timestamp >= Timestamp(0) && rules.max_lag_ms < i64::MAX {
            let waited = now.since(segment.first_timestamp).saturating_sub(rules.max_lag_ms);
            dirtiness.overdue_ms = dirtiness.overdue_ms.max(waited);
        }
    }
    dirtiness
}

/// Neighbouring segments that together fit one of `segment_bytes`, and its 32-bit offsets. Every
/// segment is in one group.
pub(super) fn groups(segments: &[SegmentFacts], segment_bytes: u64) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut base = Offset::ZERO;
    let mut bytes = 0;
    for (at, segment) in segments.iter().enumerate() {
        let fits = bytes + segment.bytes <= segment_bytes
            && segment.next.minus(base) <= i64::from(i32::MAX);
        match groups.last_mut() {
            Some(group) if fits => {
                group.end = at + 1;
                bytes += segment.bytes;
            }
            Some(_) | None => {
                groups.push(at..at + 1);
                (base, bytes) = (segment.base, segment.bytes);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: CompactionRules = CompactionRules {
        delete_retention_ms: 0,
        min_lag_ms: 0,
        max_lag_ms: i64::MAX,
        min_dirty_ratio: 0.5,
        segment_bytes: 1000,
        index_interval_bytes: 4096,
    };

    /// Ten offsets, 100 bytes and ten milliseconds each.
    fn segments(count: i64) -> Vec<SegmentFacts> {
        (0..count)
            .map(|n| SegmentFacts {
                base: Offset(n * 10),
                next: Offset(n * 10 + 10),
                bytes: 100,
                first_timestamp: Timestamp(n * 10),
                max_timestamp: Timestamp(n * 10 + 9),
            })
            .collect()
    }

    fn assess_at(first_dirty: i64, limit: i64, now: i64, rules: &CompactionRules) -> Dirtiness {
        assess(&segments(10), Offset(first_dirty), Offset(limit), Timestamp(now), rules)
    }

    #[test]
    fn a_log_is_due_once_more_than_the_ratio_is_dirty() {
        let half = assess_at(50, 100, 0, &RULES);
        assert_eq!((half.clean_bytes, half.dirty_bytes, half.ratio()), (500, 500, 0.5));
        assert!(!half.is_due());
        assert!(assess_at(49, 100, 0, &RULES).is_due());
        assert!(!assess_at(100, 100, 0, &RULES).is_due());
        let eager = CompactionRules { min_dirty_ratio: 0.0, ..RULES };
        assert!(assess_at(90, 100, 0, &eager).is_due());
        assert!(!assess_at(100, 100, 0, &eager).is_due(), "nothing is dirty");
    }

    #[test]
    fn nothing_beyond_the_limit_is_touched() {
        assert_eq!(assess_at(0, 59, 0, &RULES).segments, 5);
        assert_eq!(assess_at(0, 60, 0, &RULES).segments, 6);
        assert_eq!(assess_at(0, 0, 0, &RULES), Dirtiness { min_ratio: 0.5, ..Default::default() });
    }

    #[test]
    fn young_records_hold_back_their_segment_and_all_behind() {
        let rules = CompactionRules { min_lag_ms: 30, ..RULES };
        assert_eq!(assess_at(0, 100, 99, &rules).segments, 7);
        assert_eq!(assess_at(0, 100, 98, &rules).segments, 6);
        let clean = assess_at(90, 100, 98, &rules);
        assert_eq!((clean.segments, clean.dirty_bytes), (9, 0), "what is clean is old enough");
    }

    #[test]
    fn a_record_that_waited_too_long_makes_its_log_due() {
        let rules = CompactionRules { max_lag_ms: 50, min_dirty_ratio: 1.0, ..RULES };
        assert!(!assess_at(40, 100, 90, &rules).is_due());
        let late = assess_at(40, 100, 91, &rules);
        assert_eq!(late.overdue_ms, 1);
        assert!(late.is_due());
        assert!(!assess_at(100, 100, 1000, &rules).is_due());
    }

    #[test]
    fn small_neighbours_become_one_segment() {
        assert_eq!(groups(&segments(10), 250), [0..2, 2..4, 4..6, 6..8, 8..10]);
        assert_eq!(groups(&segments(5), 99), [0..1, 1..2, 2..3, 3..4, 4..5], "too large stays");
        let all = 0..3;
        assert_eq!(groups(&segments(3), 1000), [all]);
        assert!(groups(&[], 1000).is_empty());
    }

    #[test]
    fn a_segment_spans_no_more_than_its_offsets_can_say() {
        let mut far = segments(3);
        far[1].next = Offset(i64::from(i32::MAX));
        far[2].base = far[1].next;
        far[2].next = far[1].next.plus(10);
        assert_eq!(groups(&far, 1000), [0..2, 2..3]);
    }
}
