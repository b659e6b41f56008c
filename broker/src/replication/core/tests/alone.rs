//! The only replica of a partition.

use super::*;
use crate::storage::ProducerError;

/// Metadata makes the only replica the leader in `epoch`.
fn lead(core: &mut PartitionCore, epoch: LeaderEpoch) {
    let state = PartitionState {
        leader: Some(ME),
        leader_epoch: epoch,
        partition_epoch: core.partition_epoch + 1,
        replicas: vec![ME],
        isr: vec![ME],
        ..PartitionState::default()
    };
    core.on_image(at(0), &state, BrokerEpoch::NONE);
}

fn leader() -> PartitionCore {
    let mut core = core();
    lead(&mut core, LeaderEpoch(0));
    core
}

#[test]
fn a_write_is_committed_when_it_is_durable() {
    let mut core = leader();
    assert!(!append(&mut core, &batch(None, 3)));
    assert_eq!(core.ack_state(Offset(2)), AckState::Waiting);
    assert_eq!(core.high_watermark(), Offset(0));
    assert!(flush(&mut core, 3));
    assert_eq!(core.ack_state(Offset(2)), AckState::Committed);
    assert!(!flush(&mut core, 2), "a late, smaller flush moves nothing back");
    assert_eq!(core.high_watermark(), Offset(3));
}

#[test]
fn without_waiting_for_the_disk_a_write_is_committed_at_once() {
    let mut core = leader();
    core.on_config(FlushMode::Os, 1);
    assert!(append(&mut core, &batch(None, 3)));
    assert_eq!(core.ack_state(Offset(2)), AckState::Committed);
    // Back to waiting: what was exposed stays exposed.
    core.on_config(FlushMode::Group, 1);
    assert_eq!(core.high_watermark(), Offset(3));
}

#[test]
fn too_few_in_sync_replicas_refuse_acks_all_and_hold_the_high_watermark() {
    let mut core = leader();
    append(&mut core, &batch(None, 1));
    core.on_config(FlushMode::Group, 2);
    assert_eq!(
        core.on_produce(&batch(None, 1), Acks::All),
        Err(AppendRefusal::NotEnoughReplicas { in_sync: 1, required: 2 })
    );
    assert!(core.on_produce(&batch(None, 1), Acks::Leader).is_ok());
    assert!(!flush(&mut core, 1));
    assert_eq!(core.high_watermark(), Offset(0));
    assert!(core.on_config(FlushMode::Group, 1), "the gate opens");
    assert_eq!(core.high_watermark(), Offset(1));
}

#[test]
fn a_repeated_batch_keeps_its_offsets_and_waits_like_the_first() {
    let mut core = leader();
    let first = batch(Some((0, 0)), 2);
    append(&mut core, &first);
    append(&mut core, &batch(Some((0, 2)), 2));
    assert_eq!(
        core.on_produce(&first, Acks::All),
        Ok(Decision::Duplicate { base_offset: Offset(0), last_offset: Offset(1) })
    );
    assert_eq!(core.ack_state(Offset(1)), AckState::Waiting);
    assert!(matches!(
        core.on_produce(&batch(Some((0, 9)), 1), Acks::All),
        Err(AppendRefusal::Producer(ProducerError::OutOfOrderSequence { .. }))
    ));
}

#[test]
fn who_does_not_lead_neither_takes_nor_confirms() {
    let mut core = core();
    assert_eq!(core.on_produce(&batch(None, 1), Acks::All), Err(AppendRefusal::NotLeader));
    lead(&mut core, LeaderEpoch(3));
    append(&mut core, &batch(None, 1));
    core.on_resigned();
    assert_eq!(core.ack_state(Offset(0)), AckState::NotLeader);
}

#[test]
fn a_new_epoch_starts_at_the_log_end() {
    let mut core = leader();
    append(&mut core, &batch(None, 4));
    lead(&mut core, LeaderEpoch(2));
    append(&mut core, &batch(None, 1));
    assert_eq!(core.end_offset_for(LeaderEpoch(0)), Some((LeaderEpoch(0), Offset(4))));
    assert_eq!(core.end_offset_for(LeaderEpoch(1)), Some((LeaderEpoch(0), Offset(4))));
    assert_eq!(core.end_offset_for(LeaderEpoch(2)), Some((LeaderEpoch(2), Offset(5))));
    lead(&mut core, LeaderEpoch(1));
    assert_eq!(core.leader_epoch(), Some(LeaderEpoch(2)), "an older epoch is ignored");
}

#[test]
fn epochs_clients_name_are_compared_with_ours() {
    let current = Some(LeaderEpoch(4));
    assert_eq!(check_epoch(LeaderEpoch::NONE, current), Ok(LeaderEpoch(4)));
    assert_eq!(check_epoch(LeaderEpoch(4), current), Ok(LeaderEpoch(4)));
    assert!(matches!(check_epoch(LeaderEpoch(3), current), Err(EpochMismatch::Fenced { .. })));
    assert!(matches!(check_epoch(LeaderEpoch(5), current), Err(EpochMismatch::Unknown { .. })));
    assert_eq!(check_epoch(LeaderEpoch(4), None), Err(EpochMismatch::NotLeader));
}
