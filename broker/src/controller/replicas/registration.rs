//! A broker's process starts (P1, P9).
//!
//! The same storage means that the process before it is dead, because a data directory is locked:
//! it is fenced at once, without waiting for its session to end. Storage that is missing took its
//! replicas along, and what a process found damaged is no full replica either: neither counts as
//! holding what was acknowledged.

use sawlog_protocol::Uuid;

use crate::base::{BrokerId, TopicId};
use crate::config::FlushMode;
use crate::metadata::{Image, PartitionState, Record, RegisterBroker};

use super::super::request::Registration;
use super::draft::{Draft, Target};

/// A process that registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerStart {
    /// Who, and where.
    pub registration: Registration,
    /// The process before it closed every log.
    pub was_clean: bool,
    /// Partitions whose log ends before what was durable, or has a hole.
    pub damaged: Vec<(TopicId, i32)>,
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
    let Registration { id, incarnation, storage_ids, listeners, rack } = &start.registration;
    let known = image.broker(*id);
    let had = known.map_or(&[][..], |known| &known.storage_ids);
    let shares_none = !had.is_empty() && !had.iter().any(|id| storage_ids.contains(id));
    if shares_none && start.has_session {
        return Err(DuplicateBroker(*id));
    }
    let missing = |storage: &Uuid| !storage_ids.contains(storage);
    let gone: Vec<Uuid> = had.iter().copied().filter(missing).collect();
    let epoch = image.offset().next().0.max(known.map_or(0, |known| known.epoch + 1));
    let keeps_role = planted!(KeepEpochOnRestart) && gone.is_empty() && known.is_some();
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
    }));
    if !keeps_role {
        give_up(&mut draft, *id, |state, at, mode| {
            let kept = start.was_clean || mode == FlushMode::Group || state.replicas.len() == 1;
            let is_lost = is_on(state, *id, &gone) && !planted!(MissWipedDisk);
            is_lost || start.damaged.contains(&at) || !kept
        });
    }
    Ok((epoch, draft.records))
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

/// Whether a replica was on storage that is gone, as far as is known.
fn is_on(state: &PartitionState, broker: BrokerId, gone: &[Uuid]) -> bool {
    match state.storage_of(broker) {
        Some(storage) => gone.contains(&storage),
        None => !gone.is_empty(),
    }
}
