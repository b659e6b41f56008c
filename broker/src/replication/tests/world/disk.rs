//! The logs of a broker's disk: what a process sees, and what of it a power cut leaves.
//!
//! A batch holds one record, so that an offset is an index. What was flushed is there for good;
//! what was written since may survive up to any point, and what was cut off since may come back.

use sawlog_protocol::records::BatchHeader;

use crate::base::disk_sim::SimRandom;
use crate::base::{LeaderEpoch, Offset, Timestamp};
use crate::storage::{EpochCache, ProducerTable};

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) epoch: i32,
    /// -1 for one of no idempotent producer.
    pub(super) producer: i64,
    pub(super) sequence: i32,
    /// Never used twice.
    pub(super) value: u64,
}

impl Entry {
    /// As the core sees it.
    pub(super) fn header(&self, offset: usize) -> BatchHeader {
        BatchHeader {
            base_offset: offset.try_into().unwrap(),
            batch_length: 49,
            partition_leader_epoch: self.epoch,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: self.producer,
            producer_epoch: if self.producer < 0 { -1 } else { 0 },
            base_sequence: self.sequence,
            records_count: 1,
        }
    }
}

/// An offset as an index.
pub(super) fn index(offset: Offset) -> usize {
    offset.0.try_into().unwrap()
}

/// An index as an offset.
pub(super) fn offset(index: usize) -> Offset {
    Offset(index.try_into().unwrap())
}

/// One log.
#[derive(Clone, Debug, Default)]
pub(super) struct StoredLog {
    /// What a process sees.
    pub(super) entries: Vec<Entry>,
    /// How many of them a power cut leaves.
    pub(super) durable: usize,
    /// Tails that were cut off and may come back: where, and what.
    cut: Vec<(usize, Vec<Entry>)>,
}

impl StoredLog {
    pub(super) fn truncate(&mut self, to: usize) {
        if to < self.entries.len() {
            let tail = self.entries.split_off(to);
            self.cut.retain(|(at, _)| *at <= to);
            self.cut.push((to, tail));
        }
        self.durable = self.durable.min(to);
    }

    pub(super) fn flushed(&mut self, upto: usize) {
        self.durable = self.durable.max(upto);
        self.cut.clear();
    }

    /// The power goes.
    pub(super) fn lose_power(&mut self, random: &mut SimRandom) {
        let back = self.cut.pop().filter(|_| random.below(2) == 0);
        self.cut.clear();
        if let Some((at, tail)) = back {
            self.entries.truncate(at);
            let kept = pick(random, tail.len());
            self.entries.extend(&tail[..kept]);
        } else {
            let kept = self.durable + pick(random, self.entries.len() - self.durable);
            self.entries.truncate(kept);
        }
    }

    /// The disk loses what it had confirmed. Returns whether it did.
    pub(super) fn lose_durable(&mut self, random: &mut SimRandom) -> bool {
        if self.durable == 0 {
            return false;
        }
        let kept = pick(random, self.durable - 1);
        self.entries.truncate(kept);
        self.durable = self.durable.min(kept);
        self.cut.clear();
        true
    }

    /// What a start finds, and syncs.
    pub(super) fn recover(&mut self) -> (EpochCache, ProducerTable) {
        self.flushed(self.entries.len());
        (self.epochs(), self.producers())
    }

    pub(super) fn epochs(&self) -> EpochCache {
        let mut epochs = EpochCache::default();
        for (at, entry) in self.entries.iter().enumerate() {
            epochs.assign(LeaderEpoch(entry.epoch), offset(at));
        }
        epochs
    }

    pub(super) fn producers(&self) -> ProducerTable {
        let mut producers = ProducerTable::default();
        for (at, entry) in self.entries.iter().enumerate() {
            producers.record(&entry.header(at), offset(at), Timestamp(0));
        }
        producers
    }
}

/// 0 to `most`, the ends more often than what is between.
fn pick(random: &mut SimRandom, most: usize) -> usize {
    match random.below(3) {
        0 => 0,
        1 => most,
        _ => usize::try_from(random.below(u64::try_from(most).unwrap() + 1)).unwrap(),
    }
}
