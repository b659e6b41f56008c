//! What stays of a log when it is compacted: one decision per batch and per record.
//!
//! Pure. Batches are asked about in offset order, from the first of the log on:
//!
//! - A record stays if it is the last of its key below the end of the keys, and has a value, or is a
//!   tombstone whose time has not come.
//! - A tombstone's time comes `delete.retention.ms` after the pass that first left it the last of
//!   its key, which writes that time into the batch (KIP-534). The same holds for a marker: from
//!   the first pass on that finds none of its transaction's batches.
//! - A marker stays while a batch of its transaction is in the log, in whatever segment (KAFKA-8351),
//!   and its key is never looked up among those of records (KAFKA-14055).
//! - Records of aborted transactions neither stay nor take the place of others.
//! - The last batch of a producer the partition remembers stays, without records if it must: it
//!   has the producer's last sequence.

use std::collections::{BTreeMap, BTreeSet};

use sawlog_protocol::records::{BatchHeader, ControlType, StoredRecord};

use super::hash::KeyHasher;
use super::key_map::KeyMap;
use super::transactions::Transactions;
use crate::base::{Offset, Timestamp};

/// What the keys of the dirty part say.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) hasher: KeyHasher,
    pub(super) map: KeyMap,
    /// Keys at or beyond are not in the map, or not all.
    pub(super) end: Offset,
}

/// The last batches, in the part that may be compacted, of producers that are still remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LastBatches {
    /// Last offset of the last batch of records.
    pub(super) data: BTreeMap<i64, Offset>,
    /// Offset of the last marker.
    pub(super) markers: BTreeMap<i64, Offset>,
}

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays as it is.
    Keep,
    /// It stays, with this delete horizon.
    Date(Timestamp),
    /// Its records are asked about one by one.
    Sift,
    /// None of its records stays.
    Discard,
}

/// The decisions of one pass.
#[derive(Debug)]
pub(super) struct Decider {
    pub(super) keys: Keys,
    pub(super) transactions: Transactions,
    pub(super) last: LastBatches,
    pub(super) now: Timestamp,
    pub(super) delete_retention_ms: i64,
    /// Producers with a batch since their last marker, as this pass finds the log.
    pub(super) unended: BTreeSet<i64>,
}

impl Decider {
    /// What becomes of the next batch; `control` says what a control batch means.
    pub(super) fn batch(&mut self, header: &BatchHeader, control: Option<ControlType>) -> Fate {
        let producer = header.producer_id;
        match control {
            Some(ControlType::Other(_)) => Fate::Keep,
            Some(_) if planted!(JudgeMarkersByKey) => Fate::Sift,
            Some(ControlType::Abort | ControlType::Commit) => {
                let has_data = self.unended.remove(&producer);
                if has_data && !planted!(DropMarkerWithData) {
                    Fate::Keep
                } else if !header.has_delete_horizon() {
                    Fate::Date(self.horizon())
                } else if !self.horizon_passed(header) || self.is_last_of_producer(header) {
                    Fate::Keep
                } else {
                    Fate::Discard
                }
            }
            None => {
                if header.is_transactional() {
                    self.unended.insert(producer);
                }
                if self.transactions.is_aborted(header) { Fate::Discard } else { Fate::Sift }
            }
        }
    }

    /// Whether a record of a batch that is sifted stays.
    pub(super) fn keeps(&self, header: &BatchHeader, record: &StoredRecord<'_>) -> bool {
        let offset = Offset(record.offset);
        if offset >= self.keys.end {
            return true;
        }
        // From before the topic was compacted; later ones are refused.
        let Some(key) = record.key else { return false };
        let last = self.keys.map.get(self.keys.hasher.hash(key));
        let superseded = last.is_some_and(|last| last > offset);
        !superseded && (record.has_value || !self.horizon_passed(header))
    }

    /// The delete horizon for a batch in which a tombstone stays. None for one that reaches beyond
    /// the keys: what its tombstones delete may still be in the log, and their time has not begun.
    pub(super) fn horizon_for(&self, header: &BatchHeader) -> Option<Timestamp> {
        let seen = Offset(header.last_offset()) < self.keys.end || planted!(DateUnseenTombstones);
        seen.then(|| self.horizon())
    }

    /// Whether the batch holds the last sequence, or the last epoch, of a producer that is
    /// remembered.
    pub(super) fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        let known = if header.is_control() { &self.last.markers } else { &self.last.data };
        known.get(&header.producer_id) == Some(&Offset(header.last_offset()))
            && !planted!(ForgetLastBatches)
    }

    fn horizon(&self) -> Timestamp {
        Timestamp(self.now.0.saturating_add(self.delete_retention_ms))
    }

    fn horizon_passed(&self, header: &BatchHeader) -> bool {
        (header.has_delete_horizon() && self.now.0 >= header.base_timestamp)
            || planted!(DropTombstonesEarly)
    }
}

#[cfg(test)]
mod tests {
    use sawlog_protocol::records::{BatchBuilder, Compression, EndTransactionMarker, StoredBatch};

    use super::*;

    const RETENTION: i64 = 1000;

    fn hasher() -> KeyHasher {
        KeyHasher::new([1, 2])
    }

    fn decider(keys: &[(&[u8], i64)], end: i64, now: i64) -> Decider {
        let mut map = KeyMap::new(1 << 20, 100);
        for (key, offset) in keys {
            map.put(hasher().hash(key), Offset(*offset));
        }
        Decider {
            keys: Keys { hasher: hasher(), map, end: Offset(end) },
            transactions: Transactions::default(),
            last: LastBatches::default(),
            now: Timestamp(now),
            delete_retention_ms: RETENTION,
            unended: BTreeSet::new(),
        }
    }

    fn header(offset: i64, horizon: Option<i64>, transactional: bool) -> BatchHeader {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.producer(9, 0, 0);
        if transactional {
            builder.transactional();
        }
        builder.append(0, Some(b"k"), None, &[]).unwrap();
        let bytes = builder.build();
        let dated = StoredBatch::open(&bytes, 100).unwrap().retain(horizon, |_| true).unwrap();
        let mut header = BatchHeader::parse(&dated).unwrap();
        header.base_offset = offset;
        header
    }

    fn marker(offset: i64, horizon: Option<i64>) -> BatchHeader {
        let marker = EndTransactionMarker {
            control: ControlType::Commit,
            producer_id: 9,
            producer_epoch: 0,
            coordinator_epoch: 0,
            timestamp: 0,
        };
        let bytes = marker.build();
        let dated = StoredBatch::open(&bytes, 100).unwrap().retain(horizon, |_| true).unwrap();
        let mut header = BatchHeader::parse(&dated).unwrap();
        header.base_offset = offset;
        header
    }

    fn record(offset: i64, key: Option<&'static [u8]>, has_value: bool) -> StoredRecord<'static> {
        StoredRecord { offset, timestamp: 0, key, has_value }
    }

    #[test]
    fn the_last_record_of_a_key_stays_and_no_other() {
        let decider = decider(&[(b"k", 7)], 10, 0);
        let batch = header(0, None, false);
        assert!(!decider.keeps(&batch, &record(6, Some(b"k"), true)));
        assert!(decider.keeps(&batch, &record(7, Some(b"k"), true)));
        assert!(decider.keeps(&batch, &record(3, Some(b"other"), true)), "of the clean part");
        assert!(decider.keeps(&batch, &record(10, Some(b"k"), true)), "beyond the keys");
        assert!(!decider.keeps(&batch, &record(2, None, true)), "no key");
    }

    #[test]
    fn kafka_4529_a_tombstone_stays_until_its_horizon_and_not_longer() {
        let keys: &[(&[u8], i64)] = &[(b"k", 5)];
        let tombstone = record(5, Some(b"k"), false);
        let at =
            |now, horizon| decider(keys, 10, now).keeps(&header(5, horizon, false), &tombstone);
        assert!(at(i64::MAX, None), "without a horizon its time has not begun");
        assert!(at(999, Some(1000)));
        assert!(!at(1000, Some(1000)));
        let older = record(4, Some(b"k"), false);
        assert!(!decider(keys, 10, 0).keeps(&header(4, None, false), &older), "superseded");
    }

    #[test]
    fn a_horizon_is_given_only_where_all_that_is_deleted_is_gone() {
        let decider = decider(&[], 10, 500);
        assert_eq!(decider.horizon_for(&header(9, None, false)), Some(Timestamp(1500)));
        assert_eq!(decider.horizon_for(&header(10, None, false)), None);
    }

    #[test]
    fn a_marker_outlives_its_data_and_then_the_retention() {
        let mut first = decider(&[], 10, 0);
        assert_eq!(first.batch(&header(1, None, true), None), Fate::Sift);
        let commit = Some(ControlType::Commit);
        assert_eq!(first.batch(&marker(2, None), commit), Fate::Keep, "data was there");
        assert_eq!(first.batch(&marker(3, None), commit), Fate::Date(Timestamp(RETENTION)));
        let mut later = decider(&[], 10, 999);
        assert_eq!(later.batch(&marker(3, Some(1000)), commit), Fate::Keep);
        let mut last = decider(&[], 10, 1000);
        assert_eq!(last.batch(&marker(3, Some(1000)), commit), Fate::Discard);
    }

    #[test]
    fn a_marker_with_a_horizon_stays_while_there_is_data() {
        let mut decider = decider(&[], 10, i64::MAX);
        decider.batch(&header(1, None, true), None);
        assert_eq!(decider.batch(&marker(2, Some(1)), Some(ControlType::Commit)), Fate::Keep);
    }

    #[test]
    fn the_last_marker_of_a_remembered_producer_stays() {
        let mut decider = decider(&[], 10, i64::MAX);
        decider.last.markers.insert(9, Offset(3));
        let commit = Some(ControlType::Commit);
        assert_eq!(decider.batch(&marker(2, Some(1)), commit), Fate::Discard);
        assert_eq!(decider.batch(&marker(3, Some(1)), commit), Fate::Keep);
    }

    #[test]
    fn kafka_14055_a_marker_is_not_judged_by_its_key() {
        // The key of a commit marker: version 0, type 1.
        let decider_keys: &[(&[u8], i64)] = &[(&[0, 0, 0, 1], 9)];
        let mut decider = decider(decider_keys, 10, 0);
        decider.batch(&header(1, None, true), None);
        assert_eq!(decider.batch(&marker(2, None), Some(ControlType::Commit)), Fate::Keep);
    }

    #[test]
    fn unknown_control_records_stay() {
        let mut decider = decider(&[], 10, i64::MAX);
        let fate = decider.batch(&marker(2, Some(1)), Some(ControlType::Other(9)));
        assert_eq!(fate, Fate::Keep);
    }

    #[test]
    fn aborted_data_goes_and_committed_data_is_sifted() {
        let mut decider = decider(&[], 10, 0);
        let data = header(1, None, true);
        decider.transactions.observe(&data, None);
        let abort = Some(ControlType::Abort);
        decider.transactions.observe(&marker(2, None), abort);
        assert_eq!(decider.batch(&data, None), Fate::Discard);
        assert_eq!(decider.batch(&marker(2, None), abort), Fate::Keep, "not before its data");
        assert_eq!(decider.batch(&header(3, None, true), None), Fate::Sift);
    }
}
