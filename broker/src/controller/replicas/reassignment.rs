//! Replicas move to other brokers (P7).
//!
//! While a reassignment is under way the replicas are the old and the new ones together. It is
//! complete when every new one is in sync and enough of the target are; only then does anybody go,
//! also where it is cancelled or replaced. A leader that has not heard yet may still be counting
//! whoever goes: what it commits meanwhile has to be on enough disks of those that stay.
//!
//! `adding` are the replicas that were not there when the first reassignment began. One that a later
//! reassignment does not want, or that is cancelled, is in `removing` as well.

use crate::base::{BrokerId, TopicId};
use crate::metadata::{Image, PartitionChange, Record};

use super::draft::{Draft, Target};

/// Why a partition is not reassigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReassignmentError {
    /// The partition is not known.
    #[error("the partition is not known")]
    UnknownPartition,
    /// No replica, one named twice, or one on a broker that is not known.
    #[error("the replicas must be different brokers of this cluster, and at least one")]
    InvalidReplicas,
    /// There is nothing to cancel.
    #[error("no reassignment is under way")]
    NoneInProgress,
}

/// What is to become of a partition's replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The topic.
    pub topic: TopicId,
    /// The partition's index.
    pub index: i32,
    /// The brokers, the preferred leader first; `None` takes back what is under way.
    pub target: Option<&'a [BrokerId]>,
}

/// Begins to move a partition to the brokers of `target`, the preferred leader first. One under way
/// is replaced.
///
/// # Errors
/// Nothing changes.
pub fn reassign(
    image: &Image,
    topic: TopicId,
    index: i32,
    target: &[BrokerId],
) -> Result<Vec<Record>, ReassignmentError> {
    let mut draft = Draft::new(image);
    begin(&mut draft, topic, index, target)?;
    Ok(draft.records)
}

/// Goes back to the replicas there were before, as soon as enough of them are in sync.
///
/// # Errors
/// Nothing changes.
pub fn cancel_reassignment(
    image: &Image,
    topic: TopicId,
    index: i32,
) -> Result<Vec<Record>, ReassignmentError> {
    let mut draft = Draft::new(image);
    cancel(&mut draft, topic, index)?;
    Ok(draft.records)
}

/// As [`reassign`] and [`cancel_reassignment`], for many at once: the records of one entry, and what
/// became of each.
#[must_use]
pub fn reassign_all(
    image: &Image,
    wanted: &[Wanted<'_>],
) -> (Vec<Record>, Vec<Result<(), ReassignmentError>>) {
    let mut draft = Draft::new(image);
    let one = |wanted: &Wanted<'_>| match wanted.target {
        Some(target) => begin(&mut draft, wanted.topic, wanted.index, target),
        None => cancel(&mut draft, wanted.topic, wanted.index),
    };
    let results = wanted.iter().map(one).collect();
    (draft.records, results)
}

pub(super) fn begin(
    draft: &mut Draft,
    topic: TopicId,
    index: i32,
    target: &[BrokerId],
) -> Result<(), ReassignmentError> {
    let (state, _) = draft.partition(topic, index).ok_or(ReassignmentError::UnknownPartition)?;
    let known = |id: &BrokerId| draft.image.broker(*id).is_some();
    let valid = |(at, id): (usize, &BrokerId)| known(id) && !target[..at].contains(id);
    if target.is_empty() || !target.iter().enumerate().all(valid) {
        return Err(ReassignmentError::InvalidReplicas);
    }
    let is_moving = !state.adding.is_empty() || !state.removing.is_empty();
    if state.replicas == target && !is_moving {
        return Ok(());
    }
    let stable = others(&state.replicas, &state.adding);
    let removing = others(&state.replicas, target);
    let replicas = [target, &removing[..]].concat();
    draft.push(Record::PartitionChange(PartitionChange {
        adding: Some(others(&replicas, &stable)),
        removing: Some(removing),
        replicas: Some(replicas),
        ..PartitionChange::new(topic, index)
    }));
    draft.settle(topic, index);
    complete(draft, topic, index);
    Ok(())
}

fn cancel(draft: &mut Draft, topic: TopicId, index: i32) -> Result<(), ReassignmentError> {
    let (state, _) = draft.partition(topic, index).ok_or(ReassignmentError::UnknownPartition)?;
    if state.adding.is_empty() && state.removing.is_empty() {
        return Err(ReassignmentError::NoneInProgress);
    }
    let stable = others(&state.replicas, &state.adding);
    draft.push(Record::PartitionChange(PartitionChange {
        removing: Some(state.adding.clone()),
        replicas: Some([stable, state.adding].concat()),
        ..PartitionChange::new(topic, index)
    }));
    draft.settle(topic, index);
    complete(draft, topic, index);
    Ok(())
}

/// Ends a reassignment if it can be.
pub(super) fn complete(draft: &mut Draft, topic: TopicId, index: i32) {
    let Some((state, min_in_sync)) = draft.partition(topic, index) else { return };
    if state.adding.is_empty() && state.removing.is_empty() {
        return;
    }
    let target = others(&state.replicas, &state.removing);
    let isr = others(&state.isr, &state.removing);
    let arrived = others(&state.adding, &state.removing).iter().all(|id| isr.contains(id));
    if planted!(CompleteMoveEarly) && !target.is_empty() {
        let isr = if isr.is_empty() { target.clone() } else { isr };
        draft.change(topic, index, Target { isr, lost: Vec::new(), replicas: Some(target) });
        return;
    }
    if arrived && !target.is_empty() && isr.len() >= min_in_sync.min(target.len()) {
        draft.change(topic, index, Target { isr, lost: Vec::new(), replicas: Some(target) });
    }
}

fn others(of: &[BrokerId], than: &[BrokerId]) -> Vec<BrokerId> {
    of.iter().copied().filter(|id| !than.contains(id)).collect()
}
