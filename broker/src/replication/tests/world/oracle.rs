//! What must hold, whatever happens. The numbers are those of the invariants it checks.
//!
//! 1 leader completeness, 2 committed records never change, 3 nothing else is exposed, 4 one writer
//! per epoch, 5 equal epochs mean equal prefixes, 6 epochs never decrease and the cache is the
//! log's, 7 no replica cuts what is committed, 8 who is in sync or eligible has it on disk, 9 the
//! gate, 10 what is acknowledged is committed and durable on enough disks, 11 nothing is committed
//! past a successor.

use std::collections::BTreeMap;

use super::disk::{Entry, StoredLog, index, offset};
use super::event::{Life, NodeAt};
use crate::base::LeaderEpoch;
use crate::base::seeds;
use crate::replication::PartitionCore;

/// An epoch's record at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written {
    epoch: i32,
    value: u64,
    /// The epoch of the record before it.
    before: Option<i32>,
}

/// What is known of one partition.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// What some leader's high watermark has passed.
    pub(super) committed: Vec<Entry>,
    /// Every record ever written, by offset.
    written: Vec<Vec<Written>>,
    leaders: BTreeMap<i32, (NodeAt, Life)>,
    pub(super) acknowledged: Vec<(usize, u64)>,
    /// What was durable on disks that are gone.
    lost: Vec<Vec<Entry>>,
}

fn written(log: &[Entry], at: usize) -> Written {
    let before = at.checked_sub(1).map(|before| log[before].epoch);
    Written { epoch: log[at].epoch, value: log[at].value, before }
}

impl Ledger {
    /// A leader has appended the last record of its log.
    pub(super) fn on_written(&mut self, log: &[Entry]) {
        let at = log.len() - 1;
        let new = written(log, at);
        if self.written.len() <= at {
            self.written.resize(at + 1, Vec::new());
        }
        let taken = self.written[at].iter().find(|known| known.epoch == new.epoch);
        assert_eq!(taken, None, "(4) {new:?} at {at}: the epoch has written there");
        assert!(new.before <= Some(new.epoch), "(6) {new:?} at {at}");
        self.written[at].push(new);
    }

    /// A follower has appended the last record of its log.
    pub(super) fn on_replicated(&self, log: &[Entry]) {
        let at = log.len() - 1;
        let new = written(log, at);
        assert!(
            self.written.get(at).is_some_and(|known| known.contains(&new)),
            "(5) {new:?} at {at} follows something else than where it was written: {:?}",
            self.written.get(at)
        );
        assert!(new.before <= Some(new.epoch), "(6) {new:?} at {at}");
    }

    /// A broker begins to lead.
    pub(super) fn on_leader(
        &mut self,
        who: (NodeAt, Life),
        epoch: LeaderEpoch,
        current: LeaderEpoch,
        log: &[Entry],
    ) {
        let leader = *self.leaders.entry(epoch.0).or_insert(who);
        assert_eq!(leader, who, "(4) epoch {epoch} has one leader");
        if epoch == current {
            assert!(
                log.starts_with(&self.committed),
                "(1) {who:?} leads epoch {epoch} with {} of {} committed records",
                log.iter().zip(&self.committed).take_while(|(a, b)| a == b).count(),
                self.committed.len()
            );
        }
    }

    /// The log has this end instead of a later one.
    pub(super) fn on_cut(&self, log: &[Entry], to: usize) {
        for (at, entry) in log.iter().enumerate().skip(to) {
            assert_ne!(self.committed.get(at), Some(entry), "(7) cut at {to}, committed at {at}");
        }
    }

    /// The high watermark of a replica went from `before` to where it is. Returns whether more is
    /// committed than was.
    pub(super) fn on_high_watermark(
        &mut self,
        core: &PartitionCore,
        log: &[Entry],
        before: usize,
        min_in_sync: usize,
    ) -> bool {
        let now = index(core.high_watermark());
        let known = now.min(self.committed.len());
        let from = before.min(known);
        assert_eq!(log[from..known], self.committed[from..known], "(2, 3) from {from} to {known}");
        if now <= known {
            return false;
        }
        assert!(core.leader_epoch().is_some(), "(3) a follower exposes {now}, committed {known}");
        assert!(core.in_sync().len() >= min_in_sync, "(9) at {now}: {:?} in sync", core.in_sync());
        self.committed.extend(&log[known..now]);
        true
    }

    /// The cache of epochs is what the log says, and the epoch that is led.
    pub(super) fn check_epochs(core: &PartitionCore, log: &StoredLog) {
        let mut epochs = log.epochs();
        if let Some(epoch) = core.leader_epoch() {
            epochs.assign(epoch, offset(log.entries.len()));
        }
        assert_eq!(*core.epochs(), epochs, "(6) the epochs of the log");
    }

    /// Whether a log has all that is committed.
    pub(super) fn is_whole(&self, log: &[Entry]) -> bool {
        match self.committed.len().checked_sub(1) {
            // Equal epochs at an offset mean equal prefixes, which (5) checks.
            Some(last) => log.get(last) == self.committed.get(last),
            None => true,
        }
    }

    /// How many disks have, or had when they were lost, a committed record.
    pub(super) fn copies<'a>(
        &self,
        at: usize,
        disks: impl Iterator<Item = &'a StoredLog>,
    ) -> usize {
        let entry = self.committed.get(at);
        let there = disks.filter(|log| at < log.durable && log.entries.get(at) == entry).count();
        there + self.lost.iter().filter(|lost| lost.get(at) == entry).count()
    }

    /// A disk is gone, or what was on it.
    pub(super) fn on_lost(&mut self, log: &StoredLog) {
        self.lost.push(log.entries[..log.durable].to_vec());
    }

    /// Every acknowledged record is there, once and in order.
    pub(super) fn finish(&self) {
        for (at, value) in &self.acknowledged {
            let found = self.committed.get(*at).map(|entry| entry.value);
            assert_eq!(found, Some(*value), "(10) acknowledged at {at}");
        }
        let mut next = BTreeMap::<i64, i32>::new();
        for entry in self.committed.iter().filter(|entry| entry.producer >= 0) {
            let expected = next.entry(entry.producer).or_default();
            assert_eq!(entry.sequence, *expected, "(10, 22) producer {}", entry.producer);
            *expected += 1;
        }
    }
}

/// What has happened, to see that a run was worth something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) events: u64,
    pub(super) acknowledged: u64,
    pub(super) committed: u64,
    pub(super) elections: u64,
    pub(super) cuts: u64,
    pub(super) joined: u64,
    pub(super) left: u64,
    pub(super) refused: u64,
    pub(super) reassigned: u64,
    pub(super) released: u64,
    pub(super) lost_disks: u64,
    pub(super) failed_logs: u64,
    /// Partitions that ended without anybody who is known to have everything.
    pub(super) offline: u64,
    /// Tells two runs apart.
    pub(super) trace: u64,
}

impl seeds::Totals for Totals {
    fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.acknowledged += other.acknowledged;
        self.committed += other.committed;
        self.elections += other.elections;
        self.cuts += other.cuts;
        self.joined += other.joined;
        self.left += other.left;
        self.refused += other.refused;
        self.reassigned += other.reassigned;
        self.released += other.released;
        self.lost_disks += other.lost_disks;
        self.failed_logs += other.failed_logs;
        self.offline += other.offline;
        self.trace ^= other.trace;
    }

    fn is_telling(&self, seeds: u64) -> bool {
        let is_enough = self.acknowledged > seeds * 50
            && self.elections > seeds * 3
            && self.cuts > seeds
            && self.joined > seeds
            && self.left > seeds
            && self.refused > seeds / 10
            && self.reassigned > seeds / 20
            && self.released > seeds / 20
            && self.lost_disks > seeds / 10
            && self.failed_logs > seeds / 10
            && self.offline < seeds / 10;
        seeds < 500 || is_enough
    }
}
