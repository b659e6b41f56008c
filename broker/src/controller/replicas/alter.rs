//! AlterPartition: a leader wants another in-sync set (P4, P5).

use crate::base::{BrokerEpoch, TopicId};
use crate::metadata::{AlterAnswer, AlterPartition, AlterRefusal, Image, PartitionState, Record};

use super::super::request::AlterRequest;
use super::draft::{Draft, Target};
use super::reassignment;

/// Decides on a leader's request: records, and the answer once they are committed.
#[must_use]
pub fn alter_partition(
    image: &Image,
    topic: TopicId,
    index: i32,
    request: &AlterPartition,
) -> (Vec<Record>, AlterAnswer) {
    let mut draft = Draft::new(image);
    let answer = alter(&mut draft, topic, index, request);
    (draft.records, answer)
}

/// As [`alter_partition`], one after another: what one changes the next finds changed.
#[must_use]
pub fn alter_partitions(
    image: &Image,
    requests: &[AlterRequest],
) -> (Vec<Record>, Vec<AlterAnswer>) {
    let mut draft = Draft::new(image);
    let decide = |one: &AlterRequest| alter(&mut draft, one.topic, one.index, &one.question);
    let answers = requests.iter().map(decide).collect();
    (draft.records, answers)
}

fn alter(draft: &mut Draft, topic: TopicId, index: i32, request: &AlterPartition) -> AlterAnswer {
    if let Err(refusal) = check(draft, topic, index, request) {
        return AlterAnswer::Refused(refusal);
    }
    let mut isr: Vec<_> = request.in_sync.iter().map(|replica| replica.broker).collect();
    // Who was the last in sync and wants to leave can leave now.
    if isr.iter().any(|id| draft.is_eligible(*id)) {
        isr.retain(|id| draft.is_eligible(*id));
    }
    draft.change(topic, index, Target { isr, lost: Vec::new(), replicas: None });
    // Also a change of nothing is one: questions asked before it are about an older state.
    draft.raise(topic, index, request.partition_epoch);
    reassignment::complete(draft, topic, index);
    match draft.partition(topic, index) {
        Some((state, _)) => answer(request, state),
        None => AlterAnswer::Refused(AlterRefusal::UnknownPartition),
    }
}

fn answer(request: &AlterPartition, state: PartitionState) -> AlterAnswer {
    if state.leader_epoch != request.leader_epoch {
        // With the set a reassignment has ended, and with it this leadership.
        return AlterAnswer::Refused(AlterRefusal::NewLeaderElected);
    }
    let PartitionState { leader_epoch, partition_epoch, isr, .. } = state;
    AlterAnswer::Altered { leader_epoch, partition_epoch, in_sync: isr }
}

fn check(
    draft: &Draft,
    topic: TopicId,
    index: i32,
    request: &AlterPartition,
) -> Result<(), AlterRefusal> {
    let (state, _) = draft.partition(topic, index).ok_or(AlterRefusal::UnknownPartition)?;
    let registered = |broker| draft.image.broker(broker).map(|known| BrokerEpoch(known.epoch));
    if registered(request.leader) != Some(request.broker_epoch) {
        return Err(AlterRefusal::StaleBrokerEpoch);
    }
    if state.leader != Some(request.leader) || state.leader_epoch != request.leader_epoch {
        return Err(AlterRefusal::FencedLeaderEpoch);
    }
    if state.partition_epoch != request.partition_epoch && !planted!(AcceptStaleAlter) {
        return Err(AlterRefusal::InvalidUpdateVersion);
    }
    let leads = request.in_sync.iter().any(|replica| replica.broker == request.leader);
    let fits = request.in_sync.iter().enumerate().all(|(at, replica)| {
        let twice = request.in_sync[..at].iter().any(|earlier| earlier.broker == replica.broker);
        let was_in = state.isr.contains(&replica.broker);
        // Who joins is the very process that was seen to have caught up (KIP-903).
        let same = registered(replica.broker) == Some(replica.epoch) || planted!(IgnoreBrokerEpoch);
        let joins = same && draft.is_eligible(replica.broker);
        !twice && state.replicas.contains(&replica.broker) && (was_in || joins)
    });
    if leads && fits { Ok(()) } else { Err(AlterRefusal::IneligibleReplica) }
}
