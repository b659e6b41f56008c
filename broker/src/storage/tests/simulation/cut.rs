//! What a follower does to its log: it copies what a leader has, gaps and all, cuts what the leader
//! never had, and begins anew where the leader's log does.

use super::life::Outcome;
use super::model::Written;
use super::*;

impl Life {
    /// A batch comes with its offset, perhaps behind a gap, or from before the log start.
    pub(super) fn copy(&mut self) -> Outcome {
        let who = usize::try_from(self.random.below(3)).unwrap();
        let count = usize::try_from(1 + self.random.below(4)).unwrap();
        let producer = (i64::try_from(who).unwrap() + 10, self.model.sequences[who]);
        let time = i64::try_from(self.random.below(1000)).unwrap();
        let bytes = batch(Some(producer), count, 100, time);
        let header = BatchHeader::parse(&bytes).unwrap();
        let gap = i64::try_from(self.random.below(3)).unwrap();
        let end = self.log.log_end();
        let is_new = self.model.batches.is_empty();
        let begins_within = is_new && gap > 0 && count > 1 && end.0 > 0;
        let base = if begins_within { end.plus(-1) } else { end.plus(gap) };
        let mut stored = patched_prefix(&header, base.0, self.epoch).to_vec();
        stored.extend(&bytes[16..]);
        let header = BatchHeader::parse(&stored).unwrap();
        match self.log.append_replicated(&stored, &header) {
            Ok(appended) => {
                if appended.rolled {
                    self.log.save_producers(&self.producers, end);
                }
                self.producers.record(&header, base, Timestamp(0));
                let (next, base, epoch) = (self.log.log_end().0, base.0, self.epoch);
                self.model.batches.push(Written { base, next, time, epoch, bytes: stored });
                self.model.end = next;
                self.model.sequences[who] += i32::try_from(count).unwrap();
                Outcome::Alive
            }
            Err(StorageError::NoSpace { .. }) => {
                assert_eq!(self.log.log_end(), end);
                Outcome::Alive
            }
            Err(_) => Outcome::Failed,
        }
    }

    /// The leader has less.
    pub(super) fn truncate(&mut self) -> Outcome {
        if self.log.is_busy() {
            return Outcome::Alive;
        }
        let (seed, start, end) = (self.seed, self.model.start, self.model.end);
        let to = start
            + i64::try_from(self.random.below(u64::try_from(end - start).unwrap() + 1)).unwrap();
        let whole = self.model.batches.iter().filter(|batch| batch.next <= to);
        let expected = whole.map(|batch| batch.next).max().unwrap_or(0).max(start);
        let mut epochs = self.epochs.clone();
        epochs.truncate_from_end(Offset(to));
        match self.log.truncate(Offset(to), &epochs, Timestamp(0)) {
            Ok(None) => assert_eq!(to, end, "seed {seed}"),
            Ok(Some(cut)) => {
                assert_eq!((cut.end.0, self.log.log_end().0), (expected, expected), "seed {seed}");
                assert_eq!(self.log.durable_end(), cut.end, "seed {seed}");
                self.producers = cut.producers;
                self.follow_cut(start, expected);
                self.compare_contents();
            }
            Err(error) => {
                self.model.acknowledged = self.model.acknowledged.min(expected);
                self.model.forgetful = true;
                return self.on_error(&error);
            }
        }
        Outcome::Alive
    }

    /// The leader's log has nothing in common with this one.
    pub(super) fn restart(&mut self) -> Outcome {
        if self.log.is_busy() {
            return Outcome::Alive;
        }
        let at =
            i64::try_from(self.random.below(u64::try_from(self.model.end).unwrap() + 20)).unwrap();
        match self.log.restart_at(Offset(at)) {
            Ok(()) => {
                assert_eq!((self.log.log_start().0, self.log.log_end().0), (at, at));
                self.producers = ProducerTable::default();
                self.epochs = EpochCache::default();
                self.model.batches.clear();
                self.follow_cut(at, at);
                Outcome::Alive
            }
            Err(error) => {
                (self.model.acknowledged, self.model.forgetful) = (0, true);
                self.model.restarts_tried.push(at);
                self.on_error(&error)
            }
        }
    }

    fn on_error(&mut self, error: &StorageError) -> Outcome {
        self.model.cut_short = true;
        match error {
            // It may have begun, and can be tried again; here nobody does.
            StorageError::NoSpace { .. } => Outcome::Failed,
            _ => {
                let again = self.log.restart_at(Offset(0));
                assert!(matches!(again, Err(StorageError::Poisoned)), "seed {}", self.seed);
                Outcome::Failed
            }
        }
    }

    fn follow_cut(&mut self, start: i64, end: i64) {
        let model = &mut self.model;
        (model.start, model.end) = (start, end);
        model.acknowledged = end.min(model.acknowledged).max(self.log.durable_end().0);
        let known: Vec<_> = self.producers.iter().collect();
        // What lay below the log start is forgotten where no file says it any more.
        model.batches.retain(|batch| {
            let id = BatchHeader::parse(&batch.bytes).unwrap().producer_id;
            batch.next <= end && known.iter().any(|info| info.producer_id == id)
        });
        model.sequences = Default::default();
        for info in &known {
            let who = usize::try_from(info.producer_id - 10).unwrap();
            model.sequences[who] = info.last_sequence + 1;
        }
        for (who, next) in (10..).zip(&model.sequences) {
            let mut written = model.batches.iter().map(|b| BatchHeader::parse(&b.bytes).unwrap());
            let last = written.rfind(|header| header.producer_id == who);
            let expected = last.map_or(0, |header| header.last_sequence() + 1);
            let told = self.weather.lazy || model.forgetful || expected == *next;
            assert!(told, "seed {}: producer {who} is at {next}, not {expected}", self.seed);
        }
        self.epochs.truncate_from_end(Offset(end));
        self.epochs.lead(LeaderEpoch(self.epoch), Offset(end));
    }
}
