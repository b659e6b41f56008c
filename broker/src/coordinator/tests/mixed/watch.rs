//! What must hold, told from outside: from what is in the log and what processes do with the replies.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::seeds;
use crate::coordinator::*;

/// How much happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) events: u64,
    pub(super) restarts: u64,
    pub(super) taken: u64,
    pub(super) revoked: u64,
    pub(super) commits: u64,
    pub(super) refused: u64,
    pub(super) fenced: u64,
    pub(super) upgrades: u64,
    pub(super) downgrades: u64,
    pub(super) jobs: u64,
    pub(super) static_returns: u64,
}

impl seeds::Totals for Totals {
    fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.restarts += other.restarts;
        self.taken += other.taken;
        self.revoked += other.revoked;
        self.commits += other.commits;
        self.refused += other.refused;
        self.fenced += other.fenced;
        self.upgrades += other.upgrades;
        self.downgrades += other.downgrades;
        self.jobs += other.jobs;
        self.static_returns += other.static_returns;
    }

    fn is_telling(&self, seeds: u64) -> bool {
        [self.taken, self.commits, self.revoked].iter().all(|count| *count >= seeds)
            && [self.restarts, self.fenced, self.refused, self.jobs]
                .iter()
                .all(|count| *count >= seeds / 5)
            && [self.upgrades, self.downgrades, self.static_returns]
                .iter()
                .all(|count| *count >= seeds / 20)
    }
}

/// What the log says of the group.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// Members, with their epoch where they have one.
    pub(super) members: BTreeMap<MemberId, Option<i32>>,
    pub(super) is_consumer: bool,
    /// Of the group, by either protocol.
    pub(super) epoch: i32,
    /// Of a classic group.
    pub(super) leader: Option<MemberId>,
    /// By partition, the newest commit.
    pub(super) commits: BTreeMap<i32, i64>,
}

impl Told {
    /// `record` comes next. Panics where it cannot.
    pub(super) fn add(&mut self, record: &Record) {
        match record {
            Record::Offset { partition, value: Some(value), .. } => {
                let newest = self.commits.insert(partition.partition, value.offset.0);
                let newest = newest.unwrap_or(i64::MIN);
                assert!(newest < value.offset.0, "{partition} is taken back: {newest} {value:?}");
            }
            Record::Offset { partition, value: None, .. } => {
                self.commits.remove(&partition.partition);
            }
            Record::Group { value: Some(group), .. } => {
                self.rise(group.generation.0);
                self.is_consumer = false;
                self.leader.clone_from(&group.leader);
                let ids = group.members.iter().map(|member| (member.member.clone(), None));
                self.members = ids.collect();
            }
            Record::Group { value: None, .. } => self.end(),
            Record::Consumer { part, .. } => self.add_part(part),
        }
    }

    fn add_part(&mut self, part: &ConsumerPart) {
        match part {
            ConsumerPart::Epoch(Some(record)) => {
                self.rise(record.epoch);
                self.is_consumer = true;
            }
            ConsumerPart::Epoch(None) => self.end(),
            ConsumerPart::Member(id, Some(_)) => {
                self.members.entry(id.clone()).or_default();
            }
            ConsumerPart::Member(id, None) => {
                self.members.remove(id);
            }
            ConsumerPart::Current(id, Some(current)) => {
                self.members.insert(id.clone(), Some(current.epoch));
            }
            ConsumerPart::Current(id, None) => {
                if let Some(epoch) = self.members.get_mut(id) {
                    *epoch = None;
                }
            }
            ConsumerPart::TargetEpoch(_) | ConsumerPart::Target(..) | ConsumerPart::Pattern(..) => {
            }
        }
    }

    /// The group is no more, or goes over to the other protocol with the records that follow.
    fn end(&mut self) {
        self.members.clear();
        self.leader = None;
        self.epoch = 0;
    }

    fn rise(&mut self, epoch: i32) {
        assert!(epoch >= self.epoch, "the group falls from {} to {epoch}", self.epoch);
        self.epoch = epoch;
    }
}

/// Who reads a partition, by place and process.
#[derive(Debug, Default)]
pub(super) struct Readers {
    by_partition: BTreeMap<i32, BTreeMap<usize, MemberId>>,
}

impl Readers {
    /// The process at `place` reads these from now on, and nothing else. Whoever else reads one of
    /// them has to be out of the group, and not know it yet, or be excused.
    pub(super) fn set(
        &mut self,
        (place, id): (usize, &MemberId),
        partitions: &BTreeSet<i32>,
        (told, is_excused): (&Told, impl Fn(usize) -> bool),
    ) {
        for (partition, readers) in &mut self.by_partition {
            if !partitions.contains(partition) {
                readers.remove(&place);
            }
        }
        for partition in partitions {
            let readers = self.by_partition.entry(*partition).or_default();
            if readers.insert(place, id.clone()).is_some() {
                continue;
            }
            if !told.members.contains_key(id) {
                // The reply was late: it is out itself, and will hear so.
                continue;
            }
            for (other, other_id) in readers.iter().filter(|(other, _)| **other != place) {
                assert!(
                    !told.members.contains_key(other_id) || is_excused(*other),
                    "{place} ({id}) begins to read {partition}, and {other} ({other_id}) has not ended"
                );
            }
        }
    }

    /// All that is read, once for each reader.
    pub(super) fn all(&self) -> Vec<i32> {
        let each = self.by_partition.iter();
        each.flat_map(|(partition, readers)| readers.keys().map(|_| *partition)).collect()
    }
}
