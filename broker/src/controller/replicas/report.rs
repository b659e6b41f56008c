//! A broker tells of its replicas while it runs: in which directory each is, and which have failed
//! or are damaged (P1.4, without a restart).
//!
//! A replica that is no good is neither in sync nor eligible, unless nobody else is: what is left of
//! the last one is still better than nothing, and its broker serves of it what it can.

use sawlog_protocol::Uuid;

use crate::base::{BrokerId, TopicId};
use crate::metadata::{Image, PartitionChange, PartitionState, Record, ReplicaReport};

use super::draft::{Draft, Target};

/// Takes note of a report: the records of one entry. Of another registration than the broker's
/// nothing may be asked here.
#[must_use]
pub fn report(image: &Image, report: &ReplicaReport) -> Vec<Record> {
    let mut draft = Draft::new(image);
    for (storage, replicas) in &report.placed {
        for (topic, index) in replicas {
            place(&mut draft, report.broker, (*topic, *index), *storage);
        }
    }
    for at in &report.damaged {
        give_up(&mut draft, report.broker, *at);
    }
    draft.records
}

fn place(draft: &mut Draft, broker: BrokerId, (topic, index): (TopicId, i32), storage: Uuid) {
    let Some((state, _)) = draft.partition(topic, index) else { return };
    let has = draft.image.broker(broker).is_some_and(|known| known.storage_ids.contains(&storage));
    let is_known = state.storage_of(broker) == Some(storage);
    if !has || is_known || !state.replicas.contains(&broker) {
        return;
    }
    let of = |id: &BrokerId| {
        if *id == broker { storage } else { state.storage_of(*id).unwrap_or_default() }
    };
    draft.push(Record::PartitionChange(PartitionChange {
        storage_ids: Some(state.replicas.iter().map(of).collect()),
        ..PartitionChange::new(topic, index)
    }));
}

fn give_up(draft: &mut Draft, broker: BrokerId, (topic, index): (TopicId, i32)) {
    let Some((state, _)) = draft.partition(topic, index) else { return };
    if !counts(&state, broker) || is_last(&state, broker) {
        return;
    }
    let isr = state.isr.into_iter().filter(|id| *id != broker).collect();
    draft.change(topic, index, Target { isr, lost: vec![broker], replicas: None });
}

/// Whether a replica is taken to have everything acknowledged.
fn counts(state: &PartitionState, broker: BrokerId) -> bool {
    state.isr.contains(&broker) || state.elr.contains(&broker)
}

/// Whether nobody else is.
fn is_last(state: &PartitionState, broker: BrokerId) -> bool {
    !state.isr.iter().chain(&state.elr).any(|id| *id != broker)
}
