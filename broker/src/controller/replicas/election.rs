//! Leaders elected because somebody asks for it (KIP-460).
//!
//! A preferred election moves the leadership to the first replica, if that one is in sync. An unclean
//! one takes whoever lives where nobody eligible does: what only the others had is lost, so it is
//! never done unasked.

use crate::base::{BrokerId, TopicId};
use crate::metadata::{Image, PartitionChange, PartitionState, Record};

use super::draft::{Draft, Target};

/// Which replica is to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Election {
    /// The first one, if it is in sync.
    Preferred,
    /// Any that lives, where no eligible one does.
    Unclean,
}

/// A leader that was elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elected {
    /// Who.
    pub leader: BrokerId,
    /// It may lack what was acknowledged.
    pub is_unclean: bool,
}

/// Why no leader was elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElectionError {
    /// The partition is not known.
    #[error("the partition is not known")]
    UnknownPartition,
    /// The right one leads, or for an unclean election: somebody does.
    #[error("the leader is the right one")]
    NotNeeded,
    /// The preferred replica is not in sync, or its broker may not lead now.
    #[error("the preferred replica, on broker {0}, is not in sync or not running")]
    PreferredNotAvailable(BrokerId),
    /// No broker with a replica runs.
    #[error("no broker with a replica is running")]
    NobodyAvailable,
}

/// Elects a leader for each of `partitions`: the records of one entry, and what became of each.
#[must_use]
pub fn elect(
    image: &Image,
    election: Election,
    partitions: &[(TopicId, i32)],
) -> (Vec<Record>, Vec<Result<Elected, ElectionError>>) {
    let mut draft = Draft::new(image);
    let one = |(topic, index): &(TopicId, i32)| match election {
        Election::Preferred => elect_preferred(&mut draft, *topic, *index),
        Election::Unclean => elect_unclean(&mut draft, *topic, *index),
    };
    let results = partitions.iter().map(one).collect();
    (draft.records, results)
}

/// Nobody stays eligible outside an in-sync set that is large enough, now that fewer may be: it
/// acknowledges from here on what others do not have.
#[must_use]
pub fn settle(image: &Image) -> Vec<Record> {
    let mut draft = Draft::new(image);
    for (topic, index) in draft.partitions(|state| !state.elr.is_empty()) {
        draft.settle(topic, index);
    }
    draft.records
}

/// Every partition goes back to its preferred leader where that is in sync: after restarts others
/// lead what it led.
#[must_use]
pub fn prefer_first(image: &Image) -> Vec<Record> {
    let is_elsewhere = |state: &PartitionState| {
        let first = state.replicas.first().filter(|first| state.isr.contains(first));
        state.leader.is_some() && first.is_some() && first != state.leader.as_ref()
    };
    let elsewhere = Draft::new(image).partitions(is_elsewhere);
    elect(image, Election::Preferred, &elsewhere).0
}

fn elect_preferred(
    draft: &mut Draft,
    topic: TopicId,
    index: i32,
) -> Result<Elected, ElectionError> {
    let (state, _) = draft.partition(topic, index).ok_or(ElectionError::UnknownPartition)?;
    let preferred = *state.replicas.first().ok_or(ElectionError::NobodyAvailable)?;
    if state.leader == Some(preferred) {
        return Err(ElectionError::NotNeeded);
    }
    if !state.isr.contains(&preferred) || !draft.is_eligible(preferred) {
        return Err(ElectionError::PreferredNotAvailable(preferred));
    }
    draft.push(Record::PartitionChange(PartitionChange {
        leader: Some(Some(preferred)),
        ..PartitionChange::new(topic, index)
    }));
    Ok(Elected { leader: preferred, is_unclean: false })
}

fn elect_unclean(draft: &mut Draft, topic: TopicId, index: i32) -> Result<Elected, ElectionError> {
    let (state, _) = draft.partition(topic, index).ok_or(ElectionError::UnknownPartition)?;
    if state.leader.is_some() {
        return Err(ElectionError::NotNeeded);
    }
    let target = Target { isr: state.isr.clone(), lost: Vec::new(), replicas: None };
    draft.change(topic, index, target);
    if let Some(leader) = draft.partition(topic, index).and_then(|(state, _)| state.leader) {
        return Ok(Elected { leader, is_unclean: false });
    }
    let leader = state.replicas.iter().copied().find(|id| draft.is_eligible(*id));
    let leader = leader.ok_or(ElectionError::NobodyAvailable)?;
    draft.change(topic, index, forced(&state, leader));
    Ok(Elected { leader, is_unclean: true })
}

/// From now on `leader` says what the log is: nobody else has everything.
fn forced(state: &PartitionState, leader: BrokerId) -> Target {
    let others = state.isr.iter().chain(&state.elr).copied().filter(|id| *id != leader);
    Target { isr: vec![leader], lost: others.collect(), replicas: None }
}
