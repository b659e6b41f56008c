//! What is known of one partition: everything ever written to it, and what of that is committed.

use std::collections::BTreeMap;

/// What a record says. Each is written by one client once.
pub(in crate::sim) type Value = u64;

/// A record in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) struct Entry {
    pub(in crate::sim) epoch: i32,
    pub(in crate::sim) value: Value,
    pub(super) producer: i64,
    pub(super) sequence: i32,
}

/// A record at an offset, and the epoch of the one before it.
type Written = (Entry, Option<i32>);

/// A partition.
#[derive(Debug, Default)]
pub(in crate::sim) struct Ledger {
    /// What some leader's high watermark has passed.
    pub(in crate::sim) committed: Vec<Entry>,
    written: Vec<Vec<Written>>,
    /// Who leads an epoch: broker and life.
    pub(super) leaders: BTreeMap<i32, (i32, u64)>,
    pub(in crate::sim) acknowledged: Vec<(usize, Value)>,
    /// Clients were told that nothing below is there any more.
    pub(super) deleted: usize,
    /// What was durable on disks that are gone.
    pub(super) lost: Vec<Vec<Entry>>,
    /// Next sequence of each producer, and where its last record is.
    sequences: BTreeMap<i64, (i32, usize)>,
    /// A producer all of whose records were deleted was forgotten by a log that was begun anew behind them:
    /// it may have written one of them once more.
    pub(in crate::sim) has_forgotten: bool,
    pub(in crate::sim) is_deleted: bool,
    /// Some of what was acknowledged may be gone, as promised for `flush.mode=os`.
    pub(in crate::sim) is_lossy: bool,
}

impl Ledger {
    /// A leader has appended `entry`, the last of `log`.
    /// The only replica may have lost what it wrote, and writes there again.
    pub(super) fn on_written(&mut self, log: &[Entry], at: usize, is_only: bool) {
        let Some(new) = written(log, at) else { return };
        if self.written.len() <= at {
            self.written.resize(at + 1, Vec::new());
        }
        if is_only {
            self.written[at].retain(|(entry, _)| entry.epoch != new.0.epoch);
        }
        let taken = self.written[at].iter().find(|(entry, _)| entry.epoch == new.0.epoch);
        assert_eq!(taken, None, "(4) {new:?} at {at}: the epoch has written there");
        assert!(new.1 <= Some(new.0.epoch), "(6) {new:?} at {at}");
        self.written[at].push(new);
    }

    /// Whether it is known that what is at `at` of `log` was written there.
    pub(super) fn is_written(&self, log: &[Entry], at: usize) -> bool {
        written(log, at).is_some_and(|it| self.written.get(at).is_some_and(|all| all.contains(&it)))
    }

    /// A follower has appended, or a start has found, what is at `at` of `log`.
    pub(super) fn on_replicated(&self, log: &[Entry], at: usize) {
        let Some(new) = written(log, at) else { return };
        let known = self.written.get(at);
        assert!(
            known.is_some_and(|known| known.contains(&new)),
            "(5) {new:?} at {at} follows something else than where it was written: {known:?}"
        );
    }

    /// A broker may lead `epoch` in another life, of which nobody else has a record: what it had written
    /// beyond `end` and lost was never seen.
    pub(super) fn on_begun_again(&mut self, broker: i32, epoch: i32, end: usize) {
        if self.leaders.get(&epoch).is_some_and(|(leader, _)| *leader == broker) {
            self.leaders.remove(&epoch);
            for written in self.written.iter_mut().skip(end) {
                written.retain(|(entry, _)| entry.epoch != epoch);
            }
        }
    }

    /// A broker begins to lead an epoch, the controller's current one or not.
    pub(super) fn on_leader(
        &mut self,
        who: (i32, u64),
        epoch: i32,
        is_current: bool,
        log: &[Entry],
    ) {
        let leader = *self.leaders.entry(epoch).or_insert(who);
        assert_eq!(leader, who, "(4) epoch {epoch} has one leader");
        if is_current && !self.is_lossy {
            let common = log.iter().zip(&self.committed).take_while(|(a, b)| a == b).count();
            assert!(
                common == self.committed.len(),
                "(1) {who:?} leads epoch {epoch} with {common} of {} committed records",
                self.committed.len()
            );
        }
    }

    /// A log loses what is from `to` on.
    pub(super) fn on_cut(&self, log: &[Entry], to: usize) {
        if self.is_lossy {
            return;
        }
        for (at, entry) in log.iter().enumerate().skip(to) {
            assert_ne!(self.committed.get(at), Some(entry), "(7) cut at {to}, committed at {at}");
        }
    }

    /// The high watermark of a replica that begins at `start` went from `before` to `now`. Returns whether more is committed
    /// than was.
    pub(super) fn on_high_watermark(
        &mut self,
        log: &[Entry],
        (before, now): (usize, usize),
        start: usize,
        leads: bool,
    ) -> bool {
        let known = now.min(self.committed.len());
        let from = before.min(known);
        if self.is_lossy {
            if leads && now > known {
                self.committed.extend(log.get(known..now).unwrap_or_default());
            }
            return false;
        }
        assert_eq!(
            log.get(from..known),
            self.committed.get(from..known),
            "(2, 3) from {from} to {known}"
        );
        if now <= known {
            return false;
        }
        assert!(leads, "(3) a follower exposes {now}, committed {known}");
        for (at, entry) in log.iter().enumerate().take(now).skip(known) {
            self.committed.push(*entry);
            if entry.producer >= 0 {
                let (next, last) = self.sequences.entry(entry.producer).or_insert((0, at));
                let is_deleted = *last < start;
                self.has_forgotten |= is_deleted && entry.sequence != *next;
                assert!(
                    entry.sequence == *next || is_deleted,
                    "(22) {} at {at}: producer {} is at {next}",
                    entry.sequence,
                    entry.producer
                );
                (*next, *last) = (entry.sequence + 1, at);
            }
        }
        true
    }

    /// Whether a log has all that is committed.
    pub(super) fn is_whole(&self, log: &[Entry]) -> bool {
        log.len() >= self.committed.len()
            && match self.committed.len().checked_sub(1) {
                // Equal epochs at an offset mean equal prefixes, which (5) checks.
                Some(last) => log.get(last) == self.committed.get(last),
                None => true,
            }
    }

    /// Who reads gets what is committed, at its place (3, 10).
    pub(super) fn check_read(&self, offset: i64, values: &[Value]) {
        if self.is_lossy {
            return;
        }
        let from = usize::try_from(offset).expect("an offset");
        for (at, value) in (from..).zip(values) {
            let committed = self.committed.get(at).map(|entry| entry.value);
            assert_eq!(committed, Some(*value), "(3) read at {at}");
        }
    }

    /// Every acknowledged record is there.
    pub(in crate::sim) fn finish(&self) {
        if self.is_lossy {
            return;
        }
        for (at, value) in &self.acknowledged {
            let found = self.committed.get(*at).map(|entry| entry.value);
            assert_eq!(found, Some(*value), "(10) acknowledged at {at}");
        }
    }
}

fn written(log: &[Entry], at: usize) -> Option<Written> {
    let before = at.checked_sub(1).and_then(|before| log.get(before));
    Some((*log.get(at)?, before.map(|entry| entry.epoch)))
}
