//! The full history of a log, and what must be true of the compacted one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sawlog_protocol::records::{BatchBuilder, ControlType, EndTransactionMarker, Record};

use super::*;
use crate::base::disk_sim::SimRandom;

const KEYS: u64 = 10;
/// Producers of transactions have ids from here on, idempotent ones from 1 on.
const TRANSACTIONAL: i64 = 100;
const PRODUCERS: u64 = 2;

/// A record that was written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) record: Record,
    /// The transaction it belongs to, by its index.
    transaction: Option<usize>,
}

#[derive(Clone, Debug)]
struct Transaction {
    producer: i64,
    /// How it ended, and the offset of the marker.
    end: Option<(ControlType, i64)>,
}

/// Everything that was written.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) records: Vec<Written>,
    transactions: Vec<Transaction>,
    /// By producer: the transaction that is open.
    open: BTreeMap<i64, usize>,
    sequences: BTreeMap<i64, i32>,
    /// When a pass first could have cleaned a record, by offset.
    first_cleaned: BTreeMap<i64, i64>,
    /// The last time a pass ran.
    last_pass: i64,
}

/// A batch to be written, and what the history says of it once it is.
pub(super) struct Draft {
    pub(super) bytes: Vec<u8>,
    producer: i64,
    control: Option<ControlType>,
}

impl History {
    /// A batch of some kind.
    pub(super) fn draft(&self, random: &mut SimRandom, now: i64) -> Draft {
        let number = |random: &mut SimRandom, below| i64::try_from(random.below(below)).unwrap();
        let open: Vec<i64> = self.open.keys().copied().collect();
        if !open.is_empty() && random.below(3) == 0 {
            let producer = open[usize::try_from(random.below(99)).unwrap() % open.len()];
            let control =
                if random.below(2) == 0 { ControlType::Commit } else { ControlType::Abort };
            let marker = EndTransactionMarker {
                control,
                producer_id: producer,
                producer_epoch: 0,
                coordinator_epoch: 0,
                timestamp: now,
            };
            return Draft { bytes: marker.build().to_vec(), producer, control: Some(control) };
        }
        let codec = usize::try_from(random.below(9)).unwrap();
        let codec = Compression::ALL.get(codec).copied().unwrap_or(Compression::None);
        let mut builder = BatchBuilder::new(codec);
        let producer = match random.below(4) {
            0 | 1 => -1,
            2 => 1 + number(random, PRODUCERS),
            _ => TRANSACTIONAL + number(random, PRODUCERS),
        };
        if producer >= 0 {
            builder.producer(producer, 0, self.sequences.get(&producer).copied().unwrap_or(0));
        }
        if producer >= TRANSACTIONAL {
            builder.transactional();
        }
        for _ in 0..=random.below(5) {
            // A few keys are hot; one is the key of a commit marker.
            let key = match random.below(KEYS) {
                0 => vec![0, 0, 0, 1],
                n if n < 6 => vec![b'h', u8::try_from(n % 2).unwrap()],
                n => vec![b'k', u8::try_from(n).unwrap(), u8::try_from(random.below(3)).unwrap()],
            };
            let value = (random.below(4) > 0).then(|| random.bits().to_be_bytes().repeat(8));
            let time = now - number(random, 50);
            let headers: &[(&str, Option<&[u8]>)] =
                if random.below(4) == 0 { &[("header", Some(b"x"))] } else { &[] };
            builder.append(time, Some(&key), value.as_deref(), headers).unwrap();
        }
        Draft { bytes: builder.build().to_vec(), producer, control: None }
    }

    /// The draft is in the log at `base`.
    pub(super) fn wrote(&mut self, draft: &Draft, base: i64) {
        if let Some(control) = draft.control {
            let transaction = self.open.remove(&draft.producer).unwrap();
            self.transactions[transaction].end = Some((control, base));
            return;
        }
        let transaction = (draft.producer >= TRANSACTIONAL).then(|| {
            *self.open.entry(draft.producer).or_insert_with(|| {
                self.transactions.push(Transaction { producer: draft.producer, end: None });
                self.transactions.len() - 1
            })
        });
        let batch =
            sawlog_protocol::records::Batch::parse(Bytes::copy_from_slice(&draft.bytes)).unwrap();
        for record in batch.records(1 << 20).unwrap() {
            let mut record = record.unwrap();
            record.offset += base;
            if draft.producer >= 0 {
                *self.sequences.entry(draft.producer).or_default() += 1;
            }
            self.records.push(Written { record, transaction });
        }
    }

    /// A pass runs over everything below `end`.
    pub(super) fn passed(&mut self, end: i64, now: i64) {
        for written in self.records.iter().filter(|written| written.record.offset < end) {
            self.first_cleaned.entry(written.record.offset).or_insert(now);
        }
        self.last_pass = self.last_pass.max(now);
    }

    fn committed(&self, written: &Written) -> bool {
        match written.transaction {
            None => true,
            Some(at) => matches!(self.transactions[at].end, Some((ControlType::Commit, _))),
        }
    }

    fn aborted(&self, written: &Written) -> bool {
        let transaction = written.transaction.map(|at| &self.transactions[at]);
        matches!(transaction, Some(Transaction { end: Some((ControlType::Abort, _)), .. }))
    }

    /// Checks the log against the history (P16). `clean_upto` is where the last finished pass
    /// ended.
    pub(super) fn check(&self, opened: &Opened, clean_upto: i64, seed: u64) {
        let start = opened.log.log_start().0;
        let batches = opened.batches();
        let mut found = BTreeMap::new();
        let mut before = -1;
        for (header, records) in &batches {
            if header.is_control() {
                continue;
            }
            for record in records {
                assert!(record.offset > before, "seed {seed}: order at {}", record.offset);
                before = record.offset;
                found.insert(record.offset, record);
            }
        }
        let expected = |offset: i64| {
            let at = self.records.partition_point(|written| written.record.offset < offset);
            self.records.get(at).filter(|written| written.record.offset == offset)
        };
        for (offset, record) in &found {
            let written = expected(*offset);
            assert_eq!(written.map(|w| &w.record), Some(*record), "seed {seed}: {offset}");
        }
        self.check_keys(&found, start, clean_upto, seed);
        self.check_markers(&batches, &found, start, seed);
        self.check_producers(opened, &batches, start, seed);
    }

    /// The replay of the log is the replay of the history; what is clean has one record per key.
    fn check_keys(&self, found: &BTreeMap<i64, &Record>, start: i64, clean_upto: i64, seed: u64) {
        let mut last: BTreeMap<&Bytes, &Record> = BTreeMap::new();
        for written in self.records.iter().filter(|w| w.record.offset >= start) {
            if self.committed(written) {
                last.insert(written.record.key.as_ref().unwrap(), &written.record);
            }
        }
        let mut clean_keys = BTreeSet::new();
        for written in self.records.iter().filter(|w| w.record.offset >= start) {
            let Record { offset, key, value, .. } = &written.record;
            let there = found.contains_key(offset);
            let undecided = !self.committed(written) && !self.aborted(written);
            assert!(there || !undecided, "seed {seed}: undecided {offset} is gone");
            let last = last.get(key.as_ref().unwrap()).is_some_and(|last| last.offset == *offset);
            if last && value.is_some() {
                assert!(there, "seed {seed}: the last value of a key, {offset}, is gone");
            }
            if last && value.is_none() && !there {
                let cleaned = self.first_cleaned.get(offset).copied().unwrap_or(i64::MAX);
                assert!(
                    self.last_pass.saturating_sub(RETENTION_MS) >= cleaned,
                    "seed {seed}: tombstone {offset} first cleaned at {cleaned}, gone by {}",
                    self.last_pass
                );
                let older = self.records.iter().find(|other| {
                    other.record.key == *key
                        && other.record.offset < *offset
                        && self.committed(other)
                        && found.contains_key(&other.record.offset)
                });
                assert!(older.is_none(), "seed {seed}: tombstone {offset} left {older:?} behind");
            }
            if there && *offset < clean_upto {
                assert!(!self.aborted(written), "seed {seed}: aborted {offset} is clean");
                let only = clean_keys.insert(key.clone());
                assert!(only, "seed {seed}: {offset} is not the last of its key");
            }
        }
    }

    /// A marker is there while a record of its transaction is.
    fn check_markers(
        &self,
        batches: &[(BatchHeader, Vec<Record>)],
        found: &BTreeMap<i64, &Record>,
        start: i64,
        seed: u64,
    ) {
        let markers: BTreeSet<i64> = batches
            .iter()
            .filter(|(header, _)| header.is_control())
            .map(|(header, _)| header.base_offset)
            .collect();
        for written in self.records.iter().filter(|w| w.record.offset >= start) {
            let Some(transaction) = written.transaction.map(|at| &self.transactions[at]) else {
                continue;
            };
            let Some((_, marker)) = transaction.end else { continue };
            assert!(
                !found.contains_key(&written.record.offset) || markers.contains(&marker),
                "seed {seed}: marker {marker} of {} is gone before its data",
                transaction.producer
            );
        }
    }

    /// The batch with the last sequence of every producer is there.
    fn check_producers(
        &self,
        opened: &Opened,
        batches: &[(BatchHeader, Vec<Record>)],
        start: i64,
        seed: u64,
    ) {
        for (producer, last) in opened.producers.last_offsets() {
            let there = batches.iter().any(|(header, _)| {
                header.producer_id == producer && header.last_offset() == last.0
            });
            assert!(there || last.0 < start, "seed {seed}: producer {producer} at {last}");
        }
        for info in opened.producers.iter() {
            let next = self.sequences.get(&info.producer_id).copied().unwrap_or(0);
            assert_eq!(info.last_sequence + 1, next, "seed {seed}: {}", info.producer_id);
        }
    }

    /// A crash has lost everything from `end` on.
    pub(super) fn lost_from(&mut self, end: i64) {
        self.records.retain(|written| written.record.offset < end);
        self.open.clear();
        self.sequences.clear();
        let mut seen = BTreeSet::new();
        for written in &self.records {
            seen.extend(written.transaction);
        }
        for (at, transaction) in self.transactions.iter_mut().enumerate() {
            transaction.end = transaction.end.filter(|(_, marker)| *marker < end);
            if transaction.end.is_none() && seen.contains(&at) {
                self.open.insert(transaction.producer, at);
            }
        }
    }

    /// Sequences as the recovered producer state has them.
    pub(super) fn resume(&mut self, producers: &ProducerTable) {
        self.sequences =
            producers.iter().map(|info| (info.producer_id, info.last_sequence + 1)).collect();
    }
}
