//! A broker's process starts (P1, P9).
//!
//! The same storage means that the process before it is dead, because a data directory is locked:
//! it is fenced at once, without waiting for its session to end. Storage that is missing took its
//! replicas along, and what a process found damaged is no full replica either: neither counts as
//! holding what was acknowledged.

use std::collections::BTreeSet;

use sawlog_protocol::Uuid;

use crate::base::{BrokerId, TopicId};
use crate::config::FlushMode;
use crate::metadata::{Image, PartitionChange, PartitionState, Record, RegisterBroker};

use super::super::request::Registration;
use super::draft::{Draft, Target};
use super::fencing::unfence;

/// A process that registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerStart {
    /// Who, and where.
    pub registration: Registration,
    /// The process before it closed every log.
    pub was_clean: bool,
    /// Partitions whose log ends before what was durable, or has a hole.
    pub damaged: Vec<(TopicId, i32)>,
    /// The operator gave up data directories that are missing: a partition whose only replica was in
    /// one of them begins anew.
    pub gives_up_missing: bool,
    /// The broker is heard of: another process has its id.
    pub has_session: bool,
}

/// Another broker of that id, with other storage, is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("broker {0} is running with other storage")]
pub struct DuplicateBroker(pub BrokerId);

/// Registers a process: its epoch, and the records.
///
/// # Errors
/// It is not the broker it says it is.
pub fn register(image: &Image, start: &BrokerStart) -> Result<(i64, Vec<Record>), DuplicateBroker> {
    let Registration { id, incarnation, storage_ids, listeners, peer, rack } = &start.registration;
    let known = image.broker(*id);
    let had = known.map_or(&[][..], |known| &known.storage_ids);
    let shares_none = !had.is_empty() && !had.iter().any(|id| storage_ids.contains(id));
    if shares_none && start.has_session {
        return Err(DuplicateBroker(*id));
    }
    let lacks_none = had.iter().all(|storage| storage_ids.contains(storage));
    let epoch = image.offset().next().0.max(known.map_or(0, |known| known.epoch + 1));
    let keeps_role = planted!(KeepEpochOnRestart) && lacks_none && known.is_some();
    let mut draft = Draft::new(image);
    draft.push(Record::RegisterBroker(RegisterBroker {
        id: *id,
        epoch,
        incarnation: *incarnation,
        storage_ids: storage_ids.clone(),
        listeners: listeners.clone(),
        rack: rack.clone(),
        fenced: known.is_none_or(|known| known.fenced) || !keeps_role,
        shutting_down: false,
        peer: peer.clone(),
    }));
    if !keeps_role {
        let damaged: BTreeSet<_> = start.damaged.iter().copied().collect();
        give_up(&mut draft, *id, |state, at, mode| {
            let is_only = state.replicas.len() == 1;
            let kept = start.was_clean || mode == FlushMode::Group || is_only;
            let is_lost = is_lost(state, *id, (had, storage_ids)) && !planted!(MissWipedDisk);
            let is_given_up = is_only && start.gives_up_missing;
            // Of the only replica there is nothing better: it is served but for what is damaged.
            (is_lost && !is_given_up) || (damaged.contains(&at) && !is_only) || !kept
        });
    }
    Ok((epoch, draft.records))
}

/// Registers the process that is the controller itself. It knows all metadata there is, so that it
/// is not fenced for a moment: it takes up its roles in the entry that registers it.
///
/// # Errors
/// It is not the broker it says it is.
pub fn register_controller(
    image: &Image,
    start: &BrokerStart,
) -> Result<(i64, Vec<Record>), DuplicateBroker> {
    let id = start.registration.id;
    let (epoch, fenced) = register(image, start)?;
    let mut draft = Draft::new(image);
    fenced.iter().cloned().for_each(|record| draft.push(record));
    let unfenced = unfence(&draft.image, id);
    unfenced.iter().cloned().for_each(|record| draft.push(record));
    let mut touched = BTreeSet::new();
    let mut records = Vec::new();
    for record in fenced.into_iter().chain(unfenced) {
        match record {
            Record::RegisterBroker(broker) => {
                records.push(Record::RegisterBroker(RegisterBroker { fenced: false, ..broker }));
            }
            Record::PartitionChange(PartitionChange { topic, index, .. }) => {
                touched.insert((topic, index));
            }
            // That it is not fenced is in its registration.
            _ => {}
        }
    }
    let changes = touched.into_iter().filter_map(|at| both_at_once(image, &draft, id, at));
    records.extend(changes.map(Record::PartitionChange));
    Ok((epoch, records))
}

/// What became of a partition, in one change instead of two. Of its only replica, whose consumers
/// have seen nothing but what is on disk, nothing has to be said: nobody could tell its process from
/// the one before.
fn both_at_once(
    image: &Image,
    draft: &Draft,
    broker: BrokerId,
    (topic, index): (TopicId, i32),
) -> Option<PartitionChange> {
    let named = image.topic_by_id(topic)?;
    let before = named.partition(index)?;
    let (after, _) = draft.partition(topic, index)?;
    let is_same =
        (&before.isr, &before.elr, before.leader) == (&after.isr, &after.elr, after.leader);
    if is_same && before.replicas == [broker] && named.resolved.flush_mode == FlushMode::Group {
        return None;
    }
    Some(PartitionChange {
        leader: Some(after.leader).filter(|_| before.leader_epoch != after.leader_epoch),
        isr: Some(after.isr).filter(|isr| *isr != before.isr),
        elr: Some(after.elr).filter(|elr| *elr != before.elr),
        ..PartitionChange::new(topic, index)
    })
}

/// Takes a broker out of every in-sync set; out of the ELR, too, where its replica `is_lost`.
fn give_up(
    draft: &mut Draft,
    broker: BrokerId,
    is_lost: impl Fn(&PartitionState, (TopicId, i32), FlushMode) -> bool,
) {
    let holds = |state: &PartitionState| state.isr.contains(&broker) || state.elr.contains(&broker);
    for (topic, index) in draft.partitions(holds) {
        let Some((state, _)) = draft.partition(topic, index) else { continue };
        let mode = draft.image.topic_by_id(topic).map(|topic| topic.resolved.flush_mode);
        let is_lost = is_lost(&state, (topic, index), mode.unwrap_or(FlushMode::Group));
        let isr = state.isr.into_iter().filter(|id| *id != broker).collect();
        let lost = if is_lost { vec![broker] } else { Vec::new() };
        draft.change(topic, index, Target { isr, lost, replicas: None });
    }
}

/// Whether a replica was on storage the broker had and has no more, as far as is known. Where it has come to be
/// since its broker was registered last may not have been told yet: what is known then is of earlier storage.
fn is_lost(state: &PartitionState, broker: BrokerId, (had, has): (&[Uuid], &[Uuid])) -> bool {
    match state.storage_of(broker) {
        Some(storage) if has.contains(&storage) => false,
        Some(storage) if had.contains(&storage) => true,
        Some(_) | None => had.iter().any(|storage| !has.contains(storage)),
    }
}
