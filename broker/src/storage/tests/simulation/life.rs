//! What happens to a log between opening and losing it.

use super::model::{Model, Written};
use super::*;

/// Between opening a log and losing it.
pub(super) struct Life {
    pub(super) seed: u64,
    pub(super) epoch: i32,
    pub(super) weather: Weather,
    pub(super) random: SimRandom,
    pub(super) disk: SimDisk,
    pub(super) model: Model,
    pub(super) log: Log,
    pub(super) producers: ProducerTable,
    pub(super) epochs: EpochCache,
    pub(super) ticket: Option<FlushTicket>,
}

/// What an operation left behind.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    Alive,
    /// The log takes no more writes.
    Failed,
}

/// An operation, and how often of all it is chosen. Whatever changes a log joins here.
type Operation = (u64, fn(&mut Life) -> Outcome);

const OPERATIONS: &[Operation] = &[
    (16, Life::append),
    (4, Life::flush),
    (2, Life::begin_flush),
    (2, Life::sync_files),
    (2, Life::finish_flush),
    (1, Life::sync_file_system),
    (2, Life::roll),
    (3, Life::delete_records),
    (2, Life::retention),
    (2, Life::fill_up),
    (1, Life::slow_down),
    (4, Life::read),
    (1, Life::decay),
];

/// What followers do besides, where the disk does not lie: what excuses what is missing would be
/// told apart no more.
const FOLLOWING: &[Operation] = &[(4, Life::copy), (1, Life::truncate), (1, Life::restart)];

impl Life {
    /// Looks at what was opened, and goes on as the leader of `epoch`.
    pub(super) fn begin(
        (seed, epoch): (u64, i32),
        weather: Weather,
        disk: &SimDisk,
        (random, model): (SimRandom, Model),
        opened: Recovered,
    ) -> Self {
        let Recovered { log, producers, epochs, report } = opened;
        let disk = disk.clone();
        let ticket = None;
        let mut life =
            Self { seed, epoch, weather, random, disk, model, log, producers, epochs, ticket };
        life.verify(&report);
        life.epochs.lead(LeaderEpoch(epoch), life.log.log_end());
        life
    }

    /// Up to `steps` operations, or until the log takes no more writes.
    pub(super) fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            if self.step() == Outcome::Failed || self.disk.has_crashed() {
                return;
            }
        }
    }

    fn step(&mut self) -> Outcome {
        let following = if self.weather.lies { &[] } else { FOLLOWING };
        let operations = || OPERATIONS.iter().chain(following);
        let mut left = self.random.below(operations().map(|(weight, _)| weight).sum());
        for (weight, operation) in operations() {
            if left < *weight {
                return operation(self);
            }
            left -= weight;
        }
        Outcome::Alive
    }

    fn now(&self) -> Timestamp {
        Timestamp(i64::try_from(self.disk.elapsed_ms()).unwrap())
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
                let (base, epoch) = (base.0, self.epoch);
                self.model.batches.push(Written { base, next, time, epoch, bytes: stored });
                self.model.end = next;
                self.model.starts_taken_back.clear();
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

    fn begin_flush(&mut self) -> Outcome {
        if self.ticket.is_some() {
            assert!(self.log.begin_flush(&self.epochs).is_none(), "one flush at a time");
        } else {
            self.ticket = self.log.begin_flush(&self.epochs);
        }
        Outcome::Alive
    }

    fn flush(&mut self) -> Outcome {
        self.begin_flush();
        if self.sync_files() == Outcome::Failed { Outcome::Failed } else { self.finish_flush() }
    }

    /// Makes records durable and answers their writers, before the files beside them are written.
    fn sync_files(&mut self) -> Outcome {
        let Some(ticket) = &self.ticket else { return Outcome::Alive };
        match ticket.sync_files() {
            Ok(()) => self.acknowledge(),
            Err(error) => self.fail(error),
        }
    }

    /// As [`Self::sync_files`], for all logs of a disk at once.
    fn sync_file_system(&mut self) -> Outcome {
        self.begin_flush();
        let Some(ticket) = &self.ticket else { return Outcome::Alive };
        if let Err(error) = ticket.prepare() {
            return self.fail(error);
        }
        match self.disk.sync() {
            Ok(()) => self.acknowledge(),
            Err(error) => self.fail(StorageError::io("cannot sync", Path::new("/"))(error)),
        }
    }

    fn acknowledge(&mut self) -> Outcome {
        let Some(ticket) = &self.ticket else { return Outcome::Alive };
        let durable = self.log.on_synced(ticket.upto());
        self.model.acknowledged = self.model.acknowledged.max(durable.0);
        Outcome::Alive
    }

    fn fail(&mut self, error: StorageError) -> Outcome {
        self.ticket = None;
        self.log.end_flush(Err(error)).unwrap_err();
        assert!(self.log.begin_flush(&self.epochs).is_none(), "a failed sync is final");
        Outcome::Failed
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

    fn roll(&mut self) -> Outcome {
        self.log.roll();
        self.log.save_producers(&self.producers, self.log.log_end());
        Outcome::Alive
    }

    /// The end that deletion may go up to: what is committed, or all where nobody waits.
    fn committed(&self) -> i64 {
        if self.weather.lazy { self.model.end } else { self.model.acknowledged }
    }

    fn delete_records(&mut self) -> Outcome {
        let limit = self.committed();
        let span = u64::try_from(limit - self.model.start).unwrap();
        let to = self.model.start + i64::try_from(self.random.below(span / 2 + 2)).unwrap();
        self.advance_start(to.min(limit))
    }

    fn retention(&mut self) -> Outcome {
        let (limit, now) = (Offset(self.committed()), self.now());
        let (ms, bytes) = match self.random.below(2) {
            0 => (Some(i64::try_from(self.random.below(3000)).unwrap()), None),
            _ => (None, Some(self.random.below(30_000))),
        };
        let Some(to) = self.log.expired_by_retention(now, ms, bytes, limit) else {
            return Outcome::Alive;
        };
        if let Some(ms) = ms {
            for batch in self.model.batches.iter().filter(|b| b.next <= to.0) {
                let old = now.0 - batch.last_time() > ms || batch.next <= self.model.start;
                let excused = old || self.model.in_hole(batch.base);
                assert!(excused, "seed {}: {} is young: {batch:?}", self.seed, now.0);
            }
        }
        self.advance_start(to.0)
    }

    fn advance_start(&mut self, to: i64) -> Outcome {
        match self.log.advance_start(Offset(to), &self.epochs) {
            Ok(()) => {
                self.model.start = self.model.start.max(to);
                self.model.starts_taken_back.clear();
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

    fn fill_up(&mut self) -> Outcome {
        self.disk.fill_up(self.random.below(3) == 0);
        Outcome::Alive
    }

    fn slow_down(&mut self) -> Outcome {
        self.disk.slow_down(self.random.below(60));
        Outcome::Alive
    }

    /// A full segment loses a bit, and the scrubber comes by.
    fn decay(&mut self) -> Outcome {
        let full = self.scrub();
        if self.weather.lies && !full.is_empty() && self.random.below(3) == 0 {
            let which = usize::try_from(self.random.bits() % 64).unwrap() % full.len();
            let path = Path::new(DIRECTORY).join(format!("{:020}.log", full[which].0));
            let length = self.disk.open(&path, Create::Never).and_then(|file| file.len());
            let byte = usize::try_from(self.random.below(length.unwrap_or(0))).unwrap();
            self.disk.flip_bit(&path, byte, 3);
        }
        self.scrub();
        self.compare_contents();
        Outcome::Alive
    }

    /// A read anywhere returns whole batches, from the right one on, within its bounds.
    fn read(&mut self) -> Outcome {
        let (start, end) = (self.model.start, self.model.end);
        if start == end {
            return Outcome::Alive;
        }
        let mut between = |from: i64, to: i64| {
            from + i64::try_from(self.random.below(u64::try_from(to - from).unwrap())).unwrap()
        };
        let from = between(start, end);
        let until = between(from, end) + 1;
        let max = usize::try_from(self.random.below(20_000)).unwrap();
        let at_least_one = self.random.below(2) == 0;
        self.read_at(from, until, max, at_least_one);
        self.search(until);
        Outcome::Alive
    }

    fn read_at(&mut self, from: i64, until: i64, max: usize, at_least_one: bool) {
        let seed = self.seed;
        let found = self.log.reader().read(Offset(from), Offset(until), max, at_least_one);
        if self.model.in_hole(from) {
            let refused = matches!(found, Err(ReadError::Quarantined { .. }));
            assert!(refused, "seed {seed}: {from} is damaged");
            return;
        }
        let found = found.unwrap();
        let until = self.model.whole_upto(from, until);
        let visible = self.model.batches.iter().filter(|b| b.next > from && b.next <= until);
        let expected = visible.clone().map(|b| &b.bytes[..]).collect::<Vec<_>>().concat();
        assert!(expected.starts_with(&found), "seed {seed}: read {from}..{until}");
        let first = visible.clone().next().map_or(0, |b| b.bytes.len());
        let due = first > 0 && (at_least_one || first <= max);
        assert_eq!(due, !found.is_empty(), "seed {seed}: read {from}..{until} {max}");
        assert!(found.len() <= max || (at_least_one && found.len() == first));
        let ends: Vec<usize> = visible
            .scan(0, |sum, b| {
                *sum += b.bytes.len();
                Some(*sum)
            })
            .collect();
        assert!(found.is_empty() || ends.contains(&found.len()), "whole batches");
    }

    fn search(&mut self, until: i64) {
        let time = i64::try_from(self.random.below(1010)).unwrap();
        let reader = self.log.reader();
        let start = self.model.start;
        let records =
            self.model.batches.iter().flat_map(|b| {
                (b.base..b.next).zip(b.time..).filter(|(offset, _)| *offset >= start)
            });
        let mut readable =
            records.filter(|(offset, _)| *offset < until && !self.model.in_hole(*offset));
        let expected = readable.find(|(_, at)| *at >= time);
        let found = reader.offset_for_timestamp(Timestamp(time), Offset(until)).unwrap();
        let found = found.map(|(offset, at, _)| (offset.0, at.0));
        assert_eq!(found, expected, "seed {}: time {time} until {until}", self.seed);
    }
}
