//! What leaders ask about in-sync sets, and the answers; what brokers tell of their replicas.

use crate::base::{BrokerEpoch, BrokerId, LeaderEpoch, TopicId};
use crate::metadata::{
    AlterAnswer, AlterPartition, AlterRefusal, DecodeError, Decoder, Encoder, InSyncReplica,
    ReplicaReport,
};

use super::super::request::AlterRequest;
use super::{brokers, read_brokers};

const REFUSALS: [AlterRefusal; 7] = [
    AlterRefusal::UnknownPartition,
    AlterRefusal::StaleBrokerEpoch,
    AlterRefusal::FencedLeaderEpoch,
    AlterRefusal::InvalidUpdateVersion,
    AlterRefusal::NewLeaderElected,
    AlterRefusal::IneligibleReplica,
    AlterRefusal::NotController,
];

pub(super) fn encode_request(out: &mut Encoder, request: &AlterRequest) {
    let AlterRequest { topic, index, question } = request;
    let AlterPartition { number, leader, broker_epoch, leader_epoch, partition_epoch, in_sync } =
        question;
    out.uuid(*topic);
    out.i32(*index);
    out.i64(i64::from_be_bytes(number.to_be_bytes()));
    out.i32(leader.0);
    out.i64(broker_epoch.0);
    out.i32(leader_epoch.0);
    out.i32(*partition_epoch);
    out.list(in_sync, |out, replica| {
        out.i32(replica.broker.0);
        out.i64(replica.epoch.0);
    });
}

pub(super) fn decode_request(input: &mut Decoder<'_>) -> Result<AlterRequest, DecodeError> {
    Ok(AlterRequest {
        topic: input.uuid()?,
        index: input.i32()?,
        question: AlterPartition {
            number: u64::from_be_bytes(input.i64()?.to_be_bytes()),
            leader: BrokerId(input.i32()?),
            broker_epoch: BrokerEpoch(input.i64()?),
            leader_epoch: LeaderEpoch(input.i32()?),
            partition_epoch: input.i32()?,
            in_sync: input.list(|input| {
                let broker = BrokerId(input.i32()?);
                Ok(InSyncReplica { broker, epoch: BrokerEpoch(input.i64()?) })
            })?,
        },
    })
}

/// A partition, by topic and index.
pub(super) fn encode_id(out: &mut Encoder, (topic, index): &(TopicId, i32)) {
    out.uuid(*topic);
    out.i32(*index);
}

pub(super) fn decode_id(input: &mut Decoder<'_>) -> Result<(TopicId, i32), DecodeError> {
    Ok((input.uuid()?, input.i32()?))
}

pub(super) fn encode_report(out: &mut Encoder, report: &ReplicaReport) {
    out.i32(report.broker.0);
    out.i64(report.epoch);
    out.list(&report.placed, |out, (storage, replicas)| {
        out.uuid(*storage);
        out.list(replicas, encode_id);
    });
    out.list(&report.damaged, encode_id);
}

pub(super) fn decode_report(input: &mut Decoder<'_>) -> Result<ReplicaReport, DecodeError> {
    Ok(ReplicaReport {
        broker: BrokerId(input.i32()?),
        epoch: input.i64()?,
        placed: input.list(|input| Ok((input.uuid()?, input.list(decode_id)?)))?,
        damaged: input.list(decode_id)?,
    })
}

pub(super) fn encode_answer(out: &mut Encoder, answer: &AlterAnswer) {
    match answer {
        AlterAnswer::Altered { leader_epoch, partition_epoch, in_sync } => {
            out.u8(0);
            out.i32(leader_epoch.0);
            out.i32(*partition_epoch);
            brokers(out, in_sync);
        }
        AlterAnswer::Refused(refusal) => {
            let at = REFUSALS.iter().position(|known| known == refusal);
            out.u8(at.and_then(|at| u8::try_from(at + 1).ok()).unwrap_or(u8::MAX));
        }
    }
}

pub(super) fn decode_answer(input: &mut Decoder<'_>) -> Result<AlterAnswer, DecodeError> {
    let kind = input.u8()?;
    let Some(at) = usize::from(kind).checked_sub(1) else {
        return Ok(AlterAnswer::Altered {
            leader_epoch: LeaderEpoch(input.i32()?),
            partition_epoch: input.i32()?,
            in_sync: read_brokers(input)?,
        });
    };
    let refusal = REFUSALS.get(at).ok_or(DecodeError::UnknownKind(kind))?;
    Ok(AlterAnswer::Refused(*refusal))
}
