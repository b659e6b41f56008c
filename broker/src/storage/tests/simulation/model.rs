//! What must be in the log, kept beside it, and the comparison of both.

use super::medium::Medium;
use super::*;
use crate::base::disk::read_whole;
use crate::storage::{Pace, QuarantinedRange};

pub(super) const PRODUCERS: usize = 3;

/// A batch that was appended.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) base: i64,
    pub(super) next: i64,
    pub(super) time: i64,
    /// Its leader epoch when it was written.
    pub(super) epoch: i32,
    /// As it is read.
    pub(super) bytes: Vec<u8>,
}

impl Written {
    /// Timestamp of its last record.
    pub(super) fn last_time(&self) -> i64 {
        self.time + self.next - self.base - 1
    }

    /// As it was written.
    pub(super) fn original(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[12..16].copy_from_slice(&self.epoch.to_be_bytes());
        bytes
    }
}

/// What must be in the log.
#[derive(Default)]
pub(super) struct Model {
    pub(super) batches: Vec<Written>,
    pub(super) start: i64,
    /// The log start of a call that failed: it may have been written down.
    pub(super) start_tried: i64,
    /// Log starts that a damaged checkpoint has taken back: one that damage makes whole again says
    /// so again, as long as nothing was appended since: then it is written over.
    pub(super) starts_taken_back: Vec<i64>,
    /// Where logs were begun anew by calls that failed: one may have been.
    pub(super) restarts_tried: Vec<i64>,
    /// A cut has failed: producers below the log start may be forgotten.
    pub(super) forgetful: bool,
    /// A cut of this life has failed: of what it was to cut, something may be there and need not.
    pub(super) cut_short: bool,
    pub(super) end: i64,
    pub(super) acknowledged: i64,
    pub(super) sequences: [i32; PRODUCERS],
    /// Offsets in quarantine: from, to.
    pub(super) holes: Vec<(i64, i64)>,
    /// The disk has lied, and not been read as a whole since.
    pub(super) unread_lies: bool,
    /// Lies of the disk up to the last time it was.
    pub(super) lies_read: u64,
    /// What the disk had of the segments before each attempt to open them, if it has lied.
    pub(super) media: Vec<Medium>,
}

impl Model {
    pub(super) fn in_hole(&self, offset: i64) -> bool {
        self.holes.iter().any(|(from, to)| (*from..*to).contains(&offset))
    }

    /// Where the first hole behind `offset` begins, or `until`.
    pub(super) fn whole_upto(&self, offset: i64, until: i64) -> i64 {
        let behind = self.holes.iter().map(|(from, _)| *from).filter(|from| *from > offset);
        behind.min().unwrap_or(until).min(until)
    }

    /// Something acknowledged is gone from `end` on: the batch there must look like a torn write, or
    /// the one at `place` of the last segment, if a batch from elsewhere is before it. Or one further
    /// down, if nothing but what is below the `start` is left.
    fn check_cut(&self, seed: u64, (start, end): (i64, i64), place: Option<(i64, usize)>) {
        let is_cut = |batch: &&Written| batch.base == end || (end == start && batch.base < end);
        let excused = self.media.iter().any(|medium| {
            let there = place.and_then(|place| medium.batch_at(self, place));
            let mut cuts = self.batches.iter().filter(is_cut).chain(there);
            cuts.any(|cut| medium.excuses_cut_at(self, cut))
        });
        assert!(excused, "seed {seed}: cut at {end}, and it was no torn write");
    }

    pub(super) fn at(&self, base: i64) -> Option<&Written> {
        let at = self.batches.partition_point(|batch| batch.base < base);
        let behind_gap = at.checked_sub(1).is_some_and(|last| self.batches[last].next <= base);
        self.batches.get(at).filter(|batch| batch.base == base || behind_gap)
    }
}

impl Life {
    /// What was acknowledged is there, the rest is a prefix, derived state equals a recomputation.
    /// Where the disk has lied: what was written and nothing else is served, what is damaged is
    /// refused, and nothing that the checkpoint vouched for is gone.
    pub(super) fn verify(&mut self, report: &RecoveryReport) {
        let seed = self.seed;
        let lied = self.disk.has_lied();
        if std::mem::take(&mut self.model.unread_lies) {
            self.scrub();
        }
        let (start, end) = (self.log.log_start().0, self.log.log_end().0);
        let model = &mut self.model;
        let vouched = report.checkpoint_end.0;
        assert!(end >= vouched.min(model.end), "seed {seed}: {end} < checkpoint {vouched}");
        assert!(lied || end >= model.acknowledged, "seed {seed}: {end} < {}", model.acknowledged);
        let starts = [model.start, model.start.max(model.start_tried)];
        let restarted = model.restarts_tried.contains(&start);
        model.restarts_tried.clear();
        // With both checkpoints gone, and the quarantine, it begins with what is there.
        let lost = report.checkpoint_damaged && (starts[0]..start).all(|at| model.in_hole(at));
        let again = model.starts_taken_back.contains(&start);
        let excused = lied && (start <= starts[1] || lost || again);
        let known = restarted || starts.contains(&start) || excused;
        assert!(known, "seed {seed}: start {start}, not {starts:?}");
        model.starts_taken_back.extend(starts.iter().filter(|known| **known > start));
        assert_eq!(self.log.durable_end().0, end, "what recovery found is durable");
        if end < model.acknowledged && model.start < model.acknowledged {
            model.check_cut(seed, (start, end), Medium::of(&self.disk).end());
        }
        model.media.clear();
        model.batches.retain(|b| b.next <= end);
        if lied {
            self.accept_epochs();
        }
        let model = &mut self.model;
        (model.start, model.start_tried, model.end, model.acknowledged) = (start, 0, end, end);
        self.compare_contents();
        self.compare_derived(lied);
    }

    /// The leader epoch of a batch is covered by no checksum, and beyond the checkpoint by nothing
    /// but those behind it: a start that finds another takes it, unless the next one contradicts.
    fn accept_epochs(&mut self) {
        let shared: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let checkpoint = CheckpointStore::load(shared, Path::new(DIRECTORY));
        let vouched = checkpoint.map_or(0, |(store, _)| store.content().durable_end.0);
        let end = Offset(self.log.log_end().0);
        let reader = self.log.reader();
        let batch = |base: i64| reader.read(Offset(base), end, 1, true).unwrap_or_default();
        for written in self.model.batches.iter_mut().filter(|batch| batch.base >= vouched) {
            let read = batch(written.base);
            let Some(epoch) = read.get(12..16) else { continue };
            if epoch != &written.bytes[12..16] {
                let next = batch(written.next);
                let lower = next.get(12..16).is_some_and(|next| next < epoch);
                assert!(!lower, "seed {}: {written:?} is contradicted by the next", self.seed);
            }
            written.bytes[12..16].copy_from_slice(epoch);
        }
    }

    /// Reads all of it. Notes what is in quarantine, which must be damaged.
    pub(super) fn compare_contents(&mut self) {
        let (seed, lied) = (self.seed, self.disk.has_lied());
        let ranges = self.log.quarantined();
        assert!(lied || ranges.is_empty(), "seed {seed}: nothing is damaged: {ranges:?}");
        self.model.holes = ranges.iter().map(|range| (range.from.0, range.to.0)).collect();
        for range in ranges.iter() {
            self.check_damage(range);
        }
        let (start, end) = (self.model.start, self.model.end);
        let mut at = start;
        while at < end {
            let read = self.log.reader().read(Offset(at), Offset(end), 3000, true);
            match read {
                Ok(found) => {
                    assert!(!found.is_empty(), "seed {seed}: nothing at {at}, ends at {end}");
                    at = self.compare(at, &found);
                }
                Err(ReadError::Quarantined { range, .. }) => {
                    assert!(range.to.0 > at, "seed {seed}: {range:?} at {at}");
                    at = range.to.0;
                }
                Err(error) => panic!("seed {seed}: {error} at {at}"),
            }
        }
        assert_eq!(at, end, "seed {seed}: the log ends within a batch");
    }

    /// Compares what a read from `at` on has found; returns the offset behind it.
    fn compare(&self, at: i64, mut found: &[u8]) -> i64 {
        let first = self.model.batches.iter().find(|batch| batch.next > at);
        let mut at = first.map_or(at, |first| first.base);
        while !found.is_empty() {
            let Some(written) = self.model.at(at) else {
                panic!("seed {}: {} bytes at {at} were never written", self.seed, found.len());
            };
            let differs = found.iter().zip(&written.bytes).position(|(one, other)| one != other);
            let whole = differs.is_none() && found.len() >= written.bytes.len();
            assert!(whole, "seed {}: other bytes at {at}, from {differs:?} on", self.seed);
            found = &found[written.bytes.len()..];
            at = written.next;
        }
        at
    }

    /// A range in quarantine begins and ends with a batch that is not as it was written.
    fn check_damage(&self, range: &QuarantinedRange) {
        if range.from.0 < self.model.start {
            return; // Which epochs were there is forgotten.
        }
        let path = Path::new(DIRECTORY).join(format!("{:020}.log", range.segment.0));
        let Ok(Some(file)) = read_whole(&self.disk, &path, 1 << 30) else { return };
        let first = self.model.at(range.from.0);
        let last = self.model.batches.iter().find(|batch| batch.next == range.to.0);
        let position = usize::try_from(range.position).unwrap();
        let end = position + usize::try_from(range.bytes).unwrap();
        let places = [
            first.map(|first| (first, position)),
            last.and_then(|last| Some((last, end.checked_sub(last.bytes.len())?))),
        ];
        for (written, at) in places.into_iter().flatten() {
            let whole = file.get(at..).is_some_and(|bytes| bytes.starts_with(&written.original()));
            let inside = at >= position && at + written.bytes.len() <= end;
            assert!(!(whole && inside), "seed {}: {written:?} is whole: {range:?}", self.seed);
        }
    }

    /// Producer state and epochs. Damaged batches say nothing of either.
    fn compare_derived(&mut self, lied: bool) {
        let (seed, model) = (self.seed, &mut self.model);
        model.sequences = [0; PRODUCERS];
        if self.weather.lazy || lied || model.forgetful {
            // Batches below the log start may be lost, and what they said of their producers.
            for info in self.producers.iter() {
                let who = usize::try_from(info.producer_id - 10).unwrap();
                model.sequences[who] = info.last_sequence + 1;
            }
        }
        if lied {
            return;
        }
        let mut epochs = EpochCache::default();
        let (lazy, start) = (self.weather.lazy || model.forgetful, model.start);
        for written in model.batches.iter().filter(|batch| !lazy || batch.next > start) {
            let header = BatchHeader::parse(&written.bytes).unwrap();
            let who = usize::try_from(header.producer_id - 10).unwrap();
            model.sequences[who] = header.last_sequence() + 1;
            epochs.assign(LeaderEpoch(header.partition_leader_epoch), Offset(written.base));
        }
        epochs.truncate_from_start(Offset(model.start));
        if model.start < model.end {
            let behind_gap = |at: &[Written; 2]| at[0].next != at[1].base;
            let begins_late = model.batches.first().is_some_and(|first| first.base > 0);
            if begins_late || model.batches.array_windows().any(behind_gap) {
                // An epoch may begin in the gap or behind it.
                for written in model.batches.iter().filter(|batch| batch.next > start) {
                    let (at, is) = (Offset(written.base.max(start)), LeaderEpoch(written.epoch));
                    assert_eq!(self.epochs.epoch_at(at), Some(is), "seed {seed}: epoch at {at}");
                }
            } else {
                assert_eq!(self.epochs, epochs, "seed {seed}: epochs");
            }
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

    /// Reads all full segments again; returns the bases of those that could be.
    pub(super) fn scrub(&mut self) -> Vec<Offset> {
        let scrubber = self.log.scrubber();
        let (mut after, mut read) = (None, Vec::new());
        loop {
            match scrubber.scrub_next(after, Timestamp(0), &mut |_| Pace::On) {
                Ok(Some(scrubbed)) => {
                    after = Some(scrubbed.segment);
                    read.push(scrubbed.segment);
                }
                Ok(None) => return read,
                // Not to be written down, where the power is gone: it holds for this life.
                Err(failed) => after = Some(failed.segment),
            }
        }
    }
}
