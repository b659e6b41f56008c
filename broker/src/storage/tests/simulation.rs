//! Seeded lives of a log on a disk that loses power, fails and fills up, against a model.
//!
//! After every life the log is opened again, and must hold what was acknowledged byte for byte,
//! what was not at most as a prefix, and producer state and epochs as a recomputation has them.

use super::*;
use crate::base::disk_sim::SimRandom;
use crate::storage::{FlushTicket, Sequence, StorageError};

const PRODUCERS: usize = 3;

/// A batch that was appended.
#[derive(Clone, Debug)]
struct Written {
    base: i64,
    next: i64,
    time: i64,
    bytes: Vec<u8>,
}

/// What must be in the log.
#[derive(Default)]
struct Model {
    batches: Vec<Written>,
    start: i64,
    /// The log start of a call that failed: it may have been written down.
    start_tried: i64,
    end: i64,
    acknowledged: i64,
    sequences: [i32; PRODUCERS],
}

/// Between opening a log and losing it.
struct Life<'a> {
    seed: u64,
    epoch: i32,
    random: &'a mut SimRandom,
    disk: &'a SimDisk,
    model: &'a mut Model,
    log: Log,
    producers: ProducerTable,
    epochs: EpochCache,
    ticket: Option<FlushTicket>,
    /// Nobody waits for the disk (`flush.mode=os`): the log start may pass what is durable.
    lazy: bool,
}

/// What an operation left behind.
#[derive(Debug, PartialEq)]
enum Outcome {
    Alive,
    /// The log takes no more writes.
    Failed,
}

impl Life<'_> {
    fn step(&mut self) -> Outcome {
        match self.random.below(18) {
            0..=7 => self.append(),
            8 | 9 => {
                if self.ticket.is_none() {
                    self.ticket = self.log.begin_flush(&self.epochs);
                }
                self.finish_flush()
            }
            10 => {
                if self.ticket.is_none() {
                    self.ticket = self.log.begin_flush(&self.epochs);
                } else {
                    assert!(self.log.begin_flush(&self.epochs).is_none(), "one flush at a time");
                }
                Outcome::Alive
            }
            11 => self.finish_flush(),
            12 => {
                self.log.roll();
                self.log.save_producers(&self.producers, self.log.log_end());
                Outcome::Alive
            }
            13 | 14 => self.advance_start(),
            15 => {
                self.disk.fill_up(self.random.below(3) == 0);
                Outcome::Alive
            }
            _ => {
                self.read();
                Outcome::Alive
            }
        }
    }

    fn append(&mut self) -> Outcome {
        let who = usize::try_from(self.random.below(3)).unwrap();
        let count = usize::try_from(1 + self.random.below(4)).unwrap();
        let large = self.random.below(60) == 0;
        let size = usize::try_from(self.random.below(if large { 12_000 } else { 900 })).unwrap();
        let time = i64::try_from(self.random.below(1000)).unwrap();
        let producer = (i64::try_from(who).unwrap() + 10, self.model.sequences[who]);
        let bytes = batch(Some(producer), count, size, time);
        let header = BatchHeader::parse(&bytes).unwrap();
        let base = self.log.log_end();
        match self.log.append(&bytes, &header, base, LeaderEpoch(self.epoch)) {
            Ok(appended) => {
                if appended.rolled {
                    self.log.save_producers(&self.producers, base);
                }
                self.producers.record(&header, base, Timestamp(0));
                let mut stored = patched_prefix(&header, base.0, self.epoch).to_vec();
                stored.extend(&bytes[16..]);
                let next = self.log.log_end().0;
                self.model.batches.push(Written { base: base.0, next, time, bytes: stored });
                self.model.end = next;
                self.model.sequences[who] += i32::try_from(count).unwrap();
                Outcome::Alive
            }
            Err(StorageError::NoSpace { .. }) => {
                assert_eq!(self.log.log_end(), base);
                Outcome::Alive
            }
            Err(_) => {
                let again = self.log.append(&bytes, &header, base, LeaderEpoch(self.epoch));
                assert!(matches!(again, Err(StorageError::Poisoned)), "seed {}", self.seed);
                Outcome::Failed
            }
        }
    }

    fn finish_flush(&mut self) -> Outcome {
        let Some(ticket) = self.ticket.take() else { return Outcome::Alive };
        let synced = ticket.sync();
        match self.log.end_flush(synced) {
            Ok(upto) => {
                self.model.acknowledged = self.model.acknowledged.max(upto.0);
                Outcome::Alive
            }
            Err(_) => {
                assert!(self.log.begin_flush(&self.epochs).is_none(), "a failed sync is final");
                Outcome::Failed
            }
        }
    }

    fn advance_start(&mut self) -> Outcome {
        let limit = if self.lazy { self.model.end } else { self.model.acknowledged };
        let span = u64::try_from(limit - self.model.start).unwrap();
        let mut to = self.model.start + i64::try_from(self.random.below(span / 2 + 2)).unwrap();
        if self.random.below(3) == 0 {
            let bytes = Some(self.random.below(30_000));
            let expired = self.log.expired_by_retention(Timestamp(0), None, bytes, Offset(limit));
            to = expired.map_or(to, |start| start.0);
        }
        let to = to.min(limit);
        match self.log.advance_start(Offset(to), &self.epochs) {
            Ok(()) => {
                self.model.start = self.model.start.max(to);
                self.epochs.truncate_from_start(self.log.log_start());
                Outcome::Alive
            }
            Err(StorageError::NoSpace { .. }) => Outcome::Alive,
            Err(_) => {
                self.model.start_tried = to;
                Outcome::Failed
            }
        }
    }

    /// A read anywhere returns whole batches, from the right one on, within its bounds.
    fn read(&mut self) {
        let (start, end) = (self.model.start, self.model.end);
        if start == end {
            return;
        }
        let mut between = |from: i64, to: i64| {
            from + i64::try_from(self.random.below(u64::try_from(to - from).unwrap())).unwrap()
        };
        let from = between(start, end);
        let until = between(from, end) + 1;
        let max = usize::try_from(self.random.below(20_000)).unwrap();
        let at_least_one = self.random.below(2) == 0;
        let found = self.log.reader().read(Offset(from), Offset(until), max, at_least_one).unwrap();
        let visible = self.model.batches.iter().filter(|b| b.next > from && b.next <= until);
        let expected = visible.clone().map(|b| &b.bytes[..]).collect::<Vec<_>>().concat();
        assert!(expected.starts_with(&found), "seed {}: read {from}..{until}", self.seed);
        let first = visible.clone().next().map_or(0, |b| b.bytes.len());
        let due = first > 0 && (at_least_one || first <= max);
        assert_eq!(due, !found.is_empty(), "seed {}: read {from}..{until} {max}", self.seed);
        assert!(found.len() <= max || (at_least_one && found.len() == first));
        let ends: Vec<usize> = visible
            .scan(0, |sum, b| {
                *sum += b.bytes.len();
                Some(*sum)
            })
            .collect();
        assert!(found.is_empty() || ends.contains(&found.len()), "whole batches");
        self.search(until);
    }

    fn search(&mut self, until: i64) {
        let time = i64::try_from(self.random.below(1010)).unwrap();
        let reader = self.log.reader();
        let start = self.model.start;
        let records =
            self.model.batches.iter().flat_map(|b| {
                (b.base..b.next).zip(b.time..).filter(|(offset, _)| *offset >= start)
            });
        let visible: Vec<(i64, i64)> = records.filter(|(offset, _)| *offset < until).collect();
        let expected = visible.iter().find(|(_, at)| *at >= time).copied();
        let found = reader.offset_for_timestamp(Timestamp(time), Offset(until)).unwrap();
        let found = found.map(|(offset, at, _)| (offset.0, at.0));
        assert_eq!(found, expected, "seed {}: time {time} until {until}", self.seed);
    }

    /// What was acknowledged is there, the rest is a prefix, derived state equals a recomputation.
    fn verify(&mut self) {
        let (seed, log, model) = (self.seed, &self.log, &mut *self.model);
        let (start, end) = (log.log_start().0, log.log_end().0);
        assert!(end >= model.acknowledged, "seed {seed}: {end} < acked {}", model.acknowledged);
        let starts = [model.start, model.start.max(model.start_tried)];
        assert!(starts.contains(&start), "seed {seed}: start {start}, not {starts:?}");
        assert_eq!(log.durable_end().0, end, "what recovery found is durable");
        let whole = end == start || model.batches.iter().any(|b| b.next == end);
        assert!(whole, "seed {seed}: ends within a batch");
        model.batches.retain(|b| b.next <= end);
        (model.start, model.start_tried, model.end, model.acknowledged) = (start, 0, end, end);
        let kept = model.batches.iter().filter(|b| b.next > start).map(|b| &b.bytes[..]);
        let expected = kept.collect::<Vec<_>>().concat();
        assert!(read_all(log, 3000) == expected, "seed {seed}: other bytes");
        model.sequences = [0; PRODUCERS];
        if self.lazy {
            // Batches below the log start may be lost, and what they said of their producers.
            model.batches.retain(|b| b.next > start);
            for info in self.producers.iter() {
                let who = usize::try_from(info.producer_id - 10).unwrap();
                model.sequences[who] = info.last_sequence + 1;
            }
        }
        let mut epochs = EpochCache::default();
        for written in &model.batches {
            let header = BatchHeader::parse(&written.bytes).unwrap();
            let who = usize::try_from(header.producer_id - 10).unwrap();
            model.sequences[who] = header.last_sequence() + 1;
            epochs.assign(LeaderEpoch(header.partition_leader_epoch), Offset(written.base));
        }
        epochs.truncate_from_start(Offset(start));
        if start < end {
            assert_eq!(self.epochs, epochs, "seed {seed}: epochs");
        }
        for (who, next) in (0..).zip(&model.sequences) {
            let at =
                |sequence| BatchHeader::parse(&batch(Some((who + 10, sequence)), 1, 1, 0)).unwrap();
            let following = self.producers.check(&at(*next));
            assert_eq!(following, Ok(Sequence::Append), "seed {seed} producer {who}");
            if *next > 0 {
                // Known, and so exactly.
                assert!(self.producers.check(&at(*next + 1)).is_err(), "seed {seed}: a gap");
            }
        }
    }
}

/// Some lives of one log. Returns what there is to tell two runs apart.
fn simulate(seed: u64) -> String {
    let mut random = SimRandom::new(seed);
    let mut disk = disk();
    let mut model = Model::default();
    let mut trace = String::new();
    let lazy = random.below(4) == 0;
    // The last life only opens the log and looks.
    for epoch in 0..5 {
        let opened = try_open(&disk);
        let Recovered { log, producers, epochs, .. } =
            opened.unwrap_or_else(|error| panic!("seed {seed} life {epoch}: {error}"));
        let mut life = Life {
            seed,
            epoch,
            random: &mut random,
            disk: &disk,
            model: &mut model,
            log,
            producers,
            epochs,
            ticket: None,
            lazy,
        };
        life.verify();
        life.epochs.assign(LeaderEpoch(epoch), life.log.log_end());
        let fault = [Fault::Crash, Fault::Crash, Fault::Io, Fault::NoSpace, Fault::Full];
        let fault = fault[usize::try_from(life.random.below(5)).unwrap()];
        disk.plan(1 + life.random.below(120), fault);
        let mut failed = false;
        for _ in 0..100 {
            failed = life.step() == Outcome::Failed;
            if failed || disk.has_crashed() {
                break;
            }
        }
        disk.fill_up(false);
        let Life { log, producers, epochs, ticket, .. } = life;
        let mut killed = false;
        match random.below(4) {
            0 if ticket.is_none() && log.close(&producers, &epochs).is_ok() => {
                model.acknowledged = model.end;
            }
            // kill -9: what was written is in the page cache.
            1 => killed = !failed && !disk.has_crashed(),
            _ => {}
        }
        trace.push_str(&format!("{} {} {killed};", model.end, disk.operations()));
        if killed {
            disk.cancel_plan();
            model.acknowledged = model.end;
        } else {
            disk = disk.restart(random.bits());
        }
    }
    trace
}

/// Seeds run by default; more with `SAWLOG_STORAGE_SEEDS`, from `SAWLOG_STORAGE_FIRST_SEED` on.
const SEEDS: u64 = 3_000;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn acknowledged_batches_survive_a_fault_at_any_disk_operation() {
    let first = setting("SAWLOG_STORAGE_FIRST_SEED").unwrap_or(0);
    for seed in first..first + setting("SAWLOG_STORAGE_SEEDS").unwrap_or(SEEDS) {
        simulate(seed);
    }
}

#[test]
fn a_seed_run_twice_does_the_same() {
    for seed in 0..50 {
        assert_eq!(simulate(seed), simulate(seed));
    }
}
