//! What members of a group saw, in one order, and what has to hold of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use sawlog_client::{ConsumedRecord, Listening, Rebalance, RebalanceListener};

pub(crate) type Key = (Arc<str>, i32);

#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// By member of the test: what it has now.
    owned: BTreeMap<usize, BTreeSet<Key>>,
    /// Members that are out and cannot know it yet.
    ghosts: BTreeSet<usize>,
    /// Given to another while a member had them: right only if the member turns out to have been
    /// thrown out, which it learns after the others. It then loses them; one that is still in would
    /// let go of them.
    contested: BTreeMap<(usize, Key), String>,
    /// By generation and partition: who had it. Generations are of groups in the classic protocol.
    owners: BTreeMap<(i32, Key), usize>,
    /// How often each number was handed out, by partition and offset.
    records: BTreeMap<(Key, i64), u32>,
    /// Behind the last record each partition's owners were done with.
    processed: BTreeMap<Key, i64>,
    rebalances: usize,
    revoked: usize,
    lost: usize,
    /// Problems found in calls that must not panic.
    wrong: Vec<String>,
}

/// Shared by all members of a group.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) seen: Mutex<Seen>,
    /// Epochs are of members in the consumer protocol: they are not compared between members.
    pub(crate) are_epochs: bool,
    /// Others read with them and write nothing down.
    pub(crate) has_others: bool,
}

impl Log {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no panics")
    }

    pub(crate) fn record(&self, member: usize, record: &ConsumedRecord) {
        let key = (record.topic.clone(), record.partition);
        let mut seen = self.seen();
        let is_owner = seen.owned.get(&member).is_some_and(|owned| owned.contains(&key));
        if !is_owner && !seen.ghosts.contains(&member) {
            let offset = record.offset;
            seen.wrong.push(format!("member {member} read {key:?} at {offset}: not its own"));
        }
        *seen.records.entry((key, record.offset)).or_default() += 1;
    }

    /// The member is done with everything before `next`.
    pub(crate) fn processed(&self, key: Key, next: i64) {
        let mut seen = self.seen();
        let place = seen.processed.entry(key).or_default();
        *place = next.max(*place);
    }

    /// The member died, or is as good as dead: what it had is nobody's.
    pub(crate) fn died(&self, member: usize) {
        let mut seen = self.seen();
        seen.owned.remove(&member);
        seen.ghosts.insert(member);
        seen.contested.retain(|(holder, _), _| *holder != member);
    }

    pub(crate) fn distinct(&self) -> usize {
        self.seen().records.len()
    }

    pub(crate) fn rebalances(&self) -> usize {
        self.seen().rebalances
    }

    pub(crate) fn lost(&self) -> usize {
        self.seen().lost
    }

    pub(crate) fn revoked(&self) -> usize {
        self.seen().revoked
    }

    /// What a member has.
    pub(crate) fn owned(&self, member: usize) -> BTreeSet<Key> {
        self.seen().owned.get(&member).cloned().unwrap_or_default()
    }

    /// How many partitions each member has.
    pub(crate) fn shares(&self) -> BTreeMap<usize, usize> {
        self.seen().owned.iter().map(|(member, owned)| (*member, owned.len())).collect()
    }

    /// How far a partition was processed.
    pub(crate) fn done(&self, key: &Key) -> i64 {
        self.seen().processed.get(key).copied().unwrap_or(0)
    }

    pub(crate) fn check(&self) {
        let seen = self.seen();
        assert_eq!(seen.wrong, [] as [String; 0]);
        assert!(seen.contested.is_empty(), "never lost: {:?}", seen.contested.values());
    }
}

/// Writes down what one member is told.
#[derive(Debug)]
pub(crate) struct Witness {
    pub(crate) log: Arc<Log>,
    pub(crate) member: usize,
}

impl RebalanceListener for Witness {
    fn assigned<'a>(&'a self, rebalance: &'a Rebalance) -> Listening<'a> {
        let mut seen = self.log.seen();
        seen.rebalances += 1;
        seen.ghosts.remove(&self.member);
        for key in &rebalance.partitions {
            let others = seen.owned.iter().filter(|(member, _)| **member != self.member);
            let holder = others.into_iter().find(|(_, owned)| owned.contains(key));
            if let Some((holder, _)) = holder {
                let (holder, member) = (*holder, self.member);
                let what = format!("{key:?} given to {member} while {holder} has it");
                seen.contested.insert((holder, key.clone()), what);
            }
        }
        for key in rebalance.owned.iter().filter(|_| !self.log.are_epochs) {
            let owner = (rebalance.generation, key.clone());
            let before = seen.owners.insert(owner, self.member);
            if before.is_some_and(|before| before != self.member) {
                let generation = rebalance.generation;
                seen.wrong.push(format!("{key:?} has two owners in generation {generation}"));
            }
        }
        seen.owned.entry(self.member).or_default().extend(rebalance.partitions.iter().cloned());
        self.compare(&mut seen, rebalance, "assigned");
        Box::pin(std::future::ready(()))
    }

    fn revoked<'a>(&'a self, rebalance: &'a Rebalance) -> Listening<'a> {
        let mut seen = self.log.seen();
        seen.revoked += rebalance.partitions.len();
        let wrong = self.settle(&mut seen, rebalance);
        seen.wrong.extend(wrong);
        self.take(&mut seen, rebalance, "revoked");
        Box::pin(std::future::ready(()))
    }

    fn lost<'a>(&'a self, rebalance: &'a Rebalance) -> Listening<'a> {
        let mut seen = self.log.seen();
        seen.lost += rebalance.partitions.len();
        // Its session was over, or the coordinator had stood still for as long.
        let _right = self.settle(&mut seen, rebalance);
        self.take(&mut seen, rebalance, "lost");
        Box::pin(std::future::ready(()))
    }
}

impl Witness {
    /// What the member no longer has is not contested any more. Returns what was.
    fn settle(&self, seen: &mut Seen, rebalance: &Rebalance) -> Vec<String> {
        let keys = rebalance.partitions.iter().map(|key| (self.member, key.clone()));
        keys.filter_map(|key| seen.contested.remove(&key)).collect()
    }

    fn take(&self, seen: &mut Seen, rebalance: &Rebalance, what: &str) {
        let owned = seen.owned.entry(self.member).or_default();
        owned.retain(|key| !rebalance.partitions.contains(key));
        self.compare(seen, rebalance, what);
    }

    /// What is said to be owned is what the changes before add up to.
    fn compare(&self, seen: &mut Seen, rebalance: &Rebalance, what: &str) {
        if seen.ghosts.contains(&self.member) {
            // A change that began while it was in: it still counts what others have by now.
            return;
        }
        let told: BTreeSet<Key> = rebalance.owned.iter().cloned().collect();
        let owned = seen.owned.entry(self.member).or_default().clone();
        if told != owned {
            let (member, changed) = (self.member, &rebalance.partitions);
            let what = format!("{what} {changed:?} in generation {}", rebalance.generation);
            seen.wrong.push(format!("{what}: member {member} owns {owned:?}, is told {told:?}"));
        }
    }
}
