//! Brokers that cannot be heard, come back, or want to leave (P2, P6).

use crate::base::BrokerId;
use crate::metadata::{BrokerChange, Image, PartitionState, Record};

use super::draft::{Draft, Target};

/// A broker is not heard of any more: it leads nothing and is in sync nowhere, in one entry.
#[must_use]
pub fn fence(image: &Image, broker: BrokerId) -> Vec<Record> {
    let mut draft = Draft::new(image);
    if flags(&mut draft, broker, Some(true), Some(false)) {
        leave(&mut draft, broker, |state| planted!(KeepFenced) && state.leader != Some(broker));
    }
    draft.records
}

/// A broker is heard of, and knows its own registration: it may lead, and does where nobody else
/// could.
#[must_use]
pub fn unfence(image: &Image, broker: BrokerId) -> Vec<Record> {
    let mut draft = Draft::new(image);
    if flags(&mut draft, broker, Some(false), None) {
        elect_leaderless(&mut draft);
    }
    draft.records
}

fn elect_leaderless(draft: &mut Draft) {
    for (topic, index) in draft.partitions(|state| state.leader.is_none()) {
        let Some((state, _)) = draft.partition(topic, index) else { continue };
        let target = Target { isr: state.isr, lost: Vec::new(), replicas: None };
        draft.change(topic, index, target);
    }
}

/// A broker wants to leave: others take over what they can. Where it is the last in sync it goes on
/// until it is gone.
#[must_use]
pub fn shut_down(image: &Image, broker: BrokerId) -> Vec<Record> {
    let mut draft = Draft::new(image);
    let is_leaving = image.broker(broker).is_none_or(|known| known.shutting_down || known.fenced);
    if !is_leaving && flags(&mut draft, broker, None, Some(true)) {
        leave(&mut draft, broker, |state| state.isr == [broker]);
    }
    draft.records
}

/// The partitions that nobody leads though somebody could: what a controller that is gone may have
/// left undone.
#[must_use]
pub fn elect_missing(image: &Image) -> Vec<Record> {
    let mut draft = Draft::new(image);
    elect_leaderless(&mut draft);
    draft.records
}

/// Whether a broker that shuts down still leads something that another broker might take over: one
/// that has a replica and runs.
#[must_use]
pub fn is_awaited(image: &Image, broker: BrokerId) -> bool {
    let runs = |id: &BrokerId| {
        *id != broker && image.broker(*id).is_some_and(|one| !one.fenced && !one.shutting_down)
    };
    let awaited =
        |state: &PartitionState| state.leader == Some(broker) && state.replicas.iter().any(runs);
    image.topics().any(|topic| topic.partitions.iter().any(awaited))
}

/// Whether a broker that shuts down is needed nowhere any more: it leads nothing. The others have
/// to know, too, before it goes.
#[must_use]
pub fn is_released(image: &Image, broker: BrokerId) -> bool {
    let is_leaving = image.broker(broker).is_some_and(|known| known.shutting_down);
    let leads = |state: &PartitionState| state.leader == Some(broker);
    is_leaving && !image.topics().any(|topic| topic.partitions.iter().any(leads))
}

/// Takes a broker out of every in-sync set, but for those it `stays` in.
pub(super) fn leave(draft: &mut Draft, broker: BrokerId, stays: impl Fn(&PartitionState) -> bool) {
    let concerned = |state: &PartitionState| state.isr.contains(&broker) && !stays(state);
    for (topic, index) in draft.partitions(concerned) {
        let Some((state, _)) = draft.partition(topic, index) else { continue };
        let isr = state.isr.into_iter().filter(|id| *id != broker).collect();
        draft.change(topic, index, Target { isr, lost: Vec::new(), replicas: None });
    }
}

/// Sets what is to be set. False where that changes nothing.
fn flags(
    draft: &mut Draft,
    broker: BrokerId,
    fenced: Option<bool>,
    shutting_down: Option<bool>,
) -> bool {
    let Some(known) = draft.image.broker(broker) else { return false };
    let fenced = fenced.filter(|fenced| *fenced != known.fenced);
    let shutting_down = shutting_down.filter(|leaving| *leaving != known.shutting_down);
    if fenced.is_none() && shutting_down.is_none() {
        return false;
    }
    let (id, epoch) = (broker, known.epoch);
    let change = BrokerChange { id, epoch, fenced, shutting_down, storage_ids: None };
    draft.push(Record::BrokerChange(change));
    true
}
