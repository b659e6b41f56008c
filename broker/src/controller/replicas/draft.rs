//! An entry in the making: the image as it will be, and the records that lead there.

use crate::base::{BrokerId, TopicId};
use crate::metadata::{Image, PartitionChange, PartitionState, Record, Topic};

/// The image as it will be, and the records that get it there.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) image: Image,
    pub(super) records: Vec<Record>,
}

/// What a partition is to become; the leader follows from it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) isr: Vec<BrokerId>,
    /// Replicas that have lost what they held.
    pub(super) lost: Vec<BrokerId>,
    /// Other replicas, and no reassignment under way.
    pub(super) replicas: Option<Vec<BrokerId>>,
}

impl Draft {
    pub(super) fn new(image: &Image) -> Self {
        Self { image: image.clone(), records: Vec::new() }
    }

    /// Takes a record that was made to fit. One that does not is a bug that must not reach the log,
    /// where every node would stumble over it.
    pub(super) fn push(&mut self, record: Record) {
        if let Err(reason) = self.image.apply(&record) {
            panic!("decided a record that does not fit: {reason}");
        }
        self.records.push(record);
    }

    /// The partitions that `which` picks: topic, index.
    pub(super) fn partitions(
        &self,
        which: impl Fn(&PartitionState) -> bool,
    ) -> Vec<(TopicId, i32)> {
        let of_topic = |topic: &Topic| {
            let id = topic.id;
            let found: Vec<_> = topic.indexed().filter(|(_, state)| which(state)).collect();
            found.into_iter().map(move |(index, _)| (id, index)).collect::<Vec<_>>()
        };
        self.image.topics().flat_map(|topic| of_topic(topic)).collect()
    }

    /// Whether a broker may lead and be in sync: registered, not fenced, not about to leave.
    pub(super) fn is_eligible(&self, broker: BrokerId) -> bool {
        self.image.broker(broker).is_some_and(|known| !known.fenced && !known.shutting_down)
    }

    /// L1 and L2: gives a partition the in-sync set of `target`, with the ELR and the leader that
    /// follow from it.
    pub(super) fn change(&mut self, topic: TopicId, index: i32, target: Target) {
        let Some((state, min_in_sync)) = self.partition(topic, index) else { return };
        let replicas = target.replicas.as_deref().unwrap_or(&state.replicas);
        let mut isr = target.isr;
        let min_in_sync = min_in_sync.min(replicas.len());
        let mut elr = eligible_leaders(&state, &isr, min_in_sync);
        elr.retain(|id| !target.lost.contains(id) && replicas.contains(id));
        let leader = self.elect(replicas, &isr, &elr, state.leader);
        let is_new = |leader: &BrokerId| isr.is_empty() || !isr.contains(leader);
        if let Some(leader) = leader.filter(is_new) {
            isr = vec![leader];
            elr.retain(|id| *id != leader);
            if min_in_sync <= 1 {
                // It acknowledges alone from here on what the others do not have.
                elr.clear();
            }
        }
        let removes =
            target.replicas.is_some() && state.replicas.iter().any(|id| !replicas.contains(id));
        let changed_leader = leader != state.leader || removes;
        let change = PartitionChange {
            isr: Some(isr).filter(|isr| *isr != state.isr),
            elr: Some(elr).filter(|elr| *elr != state.elr),
            leader: Some(leader).filter(|_| changed_leader),
            adding: target.replicas.as_ref().map(|_| Vec::new()),
            removing: target.replicas.as_ref().map(|_| Vec::new()),
            replicas: target.replicas,
            ..PartitionChange::new(topic, index)
        };
        if change != PartitionChange::new(topic, index) {
            self.push(Record::PartitionChange(change));
        }
    }

    /// Has the partition's epoch rise above `known`, if it has not.
    pub(super) fn raise(&mut self, topic: TopicId, index: i32, known: i32) {
        let Some((state, _)) = self.partition(topic, index) else { return };
        if state.partition_epoch <= known {
            let isr = Some(state.isr);
            let change = PartitionChange { isr, ..PartitionChange::new(topic, index) };
            self.push(Record::PartitionChange(change));
        }
    }

    /// As [`Self::change`], where nothing but how many have to be in sync has changed (L1).
    pub(super) fn settle(&mut self, topic: TopicId, index: i32) {
        let Some((state, min_in_sync)) = self.partition(topic, index) else { return };
        if state.isr.len() >= min_in_sync && !state.elr.is_empty() && !planted!(ForgetToSettle) {
            self.change(topic, index, Target { isr: state.isr, lost: Vec::new(), replicas: None });
        }
    }

    /// A partition, and how many replicas of it have to be in sync.
    pub(super) fn partition(&self, topic: TopicId, index: i32) -> Option<(PartitionState, usize)> {
        let topic = self.image.topic_by_id(topic)?;
        let state = topic.partition(index)?.clone();
        let min = state.min_in_sync(&topic.resolved).min(state.replicas.len()).max(1);
        Some((state, min))
    }

    /// L2: whoever leads stays; else the preferred replica, then the others in their order; then,
    /// with nobody in sync, the ELR.
    fn elect(
        &self,
        replicas: &[BrokerId],
        isr: &[BrokerId],
        elr: &[BrokerId],
        now: Option<BrokerId>,
    ) -> Option<BrokerId> {
        // The last one in sync leads until it is gone, also while it is shutting down.
        let stays = |id: &BrokerId| isr.contains(id) && (isr.len() == 1 || self.is_eligible(*id));
        if let Some(leader) = now.filter(stays) {
            return Some(leader);
        }
        let first_of = |set: &[BrokerId]| {
            replicas.iter().copied().find(|id| set.contains(id) && self.is_eligible(*id))
        };
        if planted!(ElectAnybody) {
            return first_of(replicas);
        }
        if isr.is_empty() { first_of(elr) } else { first_of(isr) }
    }
}

/// L1: who has everything acknowledged, outside the in-sync set. Nothing is acknowledged while
/// fewer than `min_in_sync` are in it, so who was in it or in the ELR still has everything.
fn eligible_leaders(state: &PartitionState, isr: &[BrokerId], min_in_sync: usize) -> Vec<BrokerId> {
    if isr.len() >= min_in_sync && !planted!(KeepEligible) {
        return Vec::new();
    }
    let known = state.elr.iter().chain(&state.isr);
    known.copied().filter(|id| !isr.contains(id)).collect()
}
