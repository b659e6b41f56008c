//! Replicas move to other brokers (P7).
//!
//! While a reassignment is under way the replicas are the old and the new ones together. It is
//! complete when every new one is in sync and enough of the target are.

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
    /// None of the replicas there were is in sync.
    #[error("none of the replicas before is in sync: the reassignment cannot be cancelled")]
    NoneInSync,
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
    let (state, _) = draft.partition(topic, index).ok_or(ReassignmentError::UnknownPartition)?;
    let valid =
        |(at, id): (usize, &BrokerId)| image.broker(*id).is_some() && !target[..at].contains(id);
    if target.is_empty() || !target.iter().enumerate().all(valid) {
        return Err(ReassignmentError::InvalidReplicas);
    }
    let others = |of: &[BrokerId], than: &[BrokerId]| -> Vec<BrokerId> {
        of.iter().copied().filter(|id| !than.contains(id)).collect()
    };
    let stable = others(&state.replicas, &state.adding);
    // What an earlier one was adding, and this one does not want, goes now.
    let unwanted = others(&state.adding, target);
    let mut replicas = state.replicas;
    if !unwanted.is_empty() {
        replicas = others(&replicas, &unwanted);
        let isr = others(&state.isr, &unwanted);
        if isr.is_empty() {
            return Err(ReassignmentError::NoneInSync);
        }
        let target = Target { isr, lost: Vec::new(), replicas: Some(replicas.clone()) };
        draft.change(topic, index, target);
    }
    let removing = others(&replicas, target);
    let replicas = [target, &removing[..]].concat();
    draft.push(Record::PartitionChange(PartitionChange {
        adding: Some(others(target, &stable)),
        removing: Some(removing),
        replicas: Some(replicas),
        ..PartitionChange::new(topic, index)
    }));
    complete(&mut draft, topic, index);
    Ok(draft.records)
}

/// Goes back to the replicas there were before.
///
/// # Errors
/// Nothing changes.
pub fn cancel_reassignment(
    image: &Image,
    topic: TopicId,
    index: i32,
) -> Result<Vec<Record>, ReassignmentError> {
    let mut draft = Draft::new(image);
    let (state, _) = draft.partition(topic, index).ok_or(ReassignmentError::UnknownPartition)?;
    if state.adding.is_empty() && state.removing.is_empty() {
        return Err(ReassignmentError::NoneInProgress);
    }
    let before = |id: &BrokerId| !state.adding.contains(id);
    let replicas: Vec<_> = state.replicas.iter().copied().filter(before).collect();
    let isr: Vec<_> = state.isr.iter().copied().filter(before).collect();
    if isr.is_empty() {
        return Err(ReassignmentError::NoneInSync);
    }
    draft.change(topic, index, Target { isr, lost: Vec::new(), replicas: Some(replicas) });
    Ok(draft.records)
}

/// Ends a reassignment if it can be.
pub(super) fn complete(draft: &mut Draft, topic: TopicId, index: i32) {
    let Some((state, min_in_sync)) = draft.partition(topic, index) else { return };
    if state.adding.is_empty() && state.removing.is_empty() {
        return;
    }
    let stays = |id: &BrokerId| !state.removing.contains(id);
    let target: Vec<_> = state.replicas.iter().copied().filter(stays).collect();
    let isr: Vec<_> = state.isr.iter().copied().filter(stays).collect();
    let arrived = state.adding.iter().all(|id| isr.contains(id));
    if arrived && !target.is_empty() && isr.len() >= min_in_sync.min(target.len()) {
        draft.change(topic, index, Target { isr, lost: Vec::new(), replicas: Some(target) });
    }
}
