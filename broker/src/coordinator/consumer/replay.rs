//! A group of the consumer protocol, read back from its records.
//!
//! Compaction keeps the last record of each key, so parts may come in any order; what they add up to
//! is put together once all are there. What this code did not write is made to hold together: it must
//! not keep a broker from starting.

use std::collections::BTreeMap;

use super::group::ConsumerGroup;
use super::member::{AWAY, Awaited, Member};
use crate::base::TopicId;
use crate::coordinator::record::{ConsumerPart, CurrentRecord, Step};
use crate::coordinator::timers::TimerKey;
use crate::coordinator::turn::Turn;
use crate::coordinator::types::MemberId;

impl ConsumerGroup {
    /// Takes in a record of the log.
    pub(in crate::coordinator) fn replay(&mut self, part: ConsumerPart) {
        match part {
            ConsumerPart::Epoch(record) => {
                if let Some(record) = record {
                    (self.epoch, self.topics_hash) = (record.epoch, record.topics_hash);
                }
            }
            ConsumerPart::TargetEpoch(epoch) => self.assignment_epoch = epoch.unwrap_or(0),
            ConsumerPart::Member(id, Some(said)) => self.say(&id, said),
            ConsumerPart::Member(id, None) => {
                self.unsay(&id);
                self.members.remove(&id);
            }
            ConsumerPart::Target(id, Some(target)) => self.loaded(&id).target = target,
            ConsumerPart::Current(id, Some(current)) => self.loaded(&id).has = current,
            ConsumerPart::Target(id, None) => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.target.clear();
                }
            }
            ConsumerPart::Current(id, None) => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.has = CurrentRecord::default();
                }
            }
            ConsumerPart::Pattern(text, Some(record)) => {
                self.patterns.entry(text).or_default().topics = record.topics;
            }
            ConsumerPart::Pattern(text, None) => {
                if let Some(pattern) = self.patterns.get_mut(&text) {
                    pattern.topics.clear();
                }
            }
        }
    }

    fn loaded(&mut self, id: &MemberId) -> &mut Member {
        self.members.entry(id.clone()).or_insert_with(|| Member::new(id.clone()))
    }

    /// The group has been read from the log. Returns how many members it has.
    pub(in crate::coordinator) fn on_loaded(&mut self, turn: &mut Turn<'_>) -> usize {
        // Every member has said something; what is left of others is nobody.
        let nobody = Member::new(MemberId::from("")).said;
        self.members.retain(|_, member| member.said != nobody);
        self.patterns.retain(|_, pattern| pattern.subscribers > 0);
        self.put_together();
        let members: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in &members {
            self.refresh(turn, id);
            self.expect_progress(turn, id);
        }
        members.len()
    }

    fn put_together(&mut self) {
        let mut holders: BTreeMap<(TopicId, i32), MemberId> = BTreeMap::new();
        for (id, member) in &mut self.members {
            let has = &mut member.has;
            if has.epoch != AWAY {
                has.epoch = has.epoch.max(0);
                self.assignment_epoch = self.assignment_epoch.max(has.epoch);
            }
            for partitions in [&mut has.assigned, &mut has.revoking] {
                for (topic, set) in partitions.iter_mut() {
                    set.retain(|index| {
                        let holder = holders.entry((*topic, *index)).or_insert_with(|| id.clone());
                        let is_first = holder == id;
                        debug_assert!(is_first, "{topic:?} {index} is held twice");
                        is_first
                    });
                }
                partitions.retain(|_, set| !set.is_empty());
            }
            has.step = match (has.revoking.is_empty(), has.step) {
                (false, _) => Step::Unrevoked,
                (true, Step::Unrevoked) => Step::Stable,
                (true, step) => step,
            };
        }
        self.epoch = self.epoch.max(self.assignment_epoch);
        self.holders = holders;
    }

    /// A member that was to give partitions back has all its time for it again.
    fn expect_progress(&mut self, turn: &mut Turn<'_>, id: &MemberId) {
        let Some(member) = self.members.get_mut(id) else { return };
        if member.has.step == Step::Unrevoked && member.classic().is_none() {
            let at = turn.now.monotonic + member.said.rebalance_timeout;
            let key = || TimerKey::Progress(self.id.clone(), id.clone());
            turn.timers.set(&mut member.progress, at, key);
            member.awaited = Awaited::Revocation;
        }
    }
}
