//! Requests about leaders, replicas, features and the quorum, as bytes.

use std::time::Duration;

use crate::base::BrokerId;
use crate::metadata::{DecodeError, Decoder, Encoder, MetadataOffset};
use crate::quorum::{QuorumReplica, QuorumStatus, VoterChange};

use super::super::replicas::{Elected, Election};
use super::super::request::{ElectedLeader, FeatureUpdate, Reassignment, UpgradeType};
use super::answers::{read_result, result};
use super::{brokers, read_brokers};

pub(super) fn election(out: &mut Encoder, election: Election) {
    out.u8(match election {
        Election::Preferred => 0,
        Election::Unclean => 1,
    });
}

pub(super) fn read_election(input: &mut Decoder<'_>) -> Result<Election, DecodeError> {
    match input.u8()? {
        0 => Ok(Election::Preferred),
        1 => Ok(Election::Unclean),
        other => Err(DecodeError::UnknownKind(other)),
    }
}

pub(super) fn partition(out: &mut Encoder, (topic, index): &(String, i32)) {
    out.text(topic);
    out.i32(*index);
}

pub(super) fn read_partition(input: &mut Decoder<'_>) -> Result<(String, i32), DecodeError> {
    Ok((input.text()?, input.i32()?))
}

pub(super) fn reassignment(out: &mut Encoder, one: &Reassignment) {
    out.text(&one.topic);
    out.i32(one.index);
    out.optional(one.replicas.as_deref(), brokers);
}

pub(super) fn read_reassignment(input: &mut Decoder<'_>) -> Result<Reassignment, DecodeError> {
    Ok(Reassignment {
        topic: input.text()?,
        index: input.i32()?,
        replicas: input.optional(read_brokers)?,
    })
}

pub(super) fn feature_update(out: &mut Encoder, update: &FeatureUpdate) {
    out.text(&update.name);
    out.i32(i32::from(update.level));
    out.u8(match update.upgrade {
        UpgradeType::Upgrade => 1,
        UpgradeType::SafeDowngrade => 2,
        UpgradeType::UnsafeDowngrade => 3,
    });
}

pub(super) fn read_feature_update(input: &mut Decoder<'_>) -> Result<FeatureUpdate, DecodeError> {
    Ok(FeatureUpdate {
        name: input.text()?,
        // One that does not fit is refused by whoever decides, as any other that is out of range.
        level: i16::try_from(input.i32()?).unwrap_or(i16::MAX),
        upgrade: match input.u8()? {
            1 => UpgradeType::Upgrade,
            2 => UpgradeType::SafeDowngrade,
            3 => UpgradeType::UnsafeDowngrade,
            other => return Err(DecodeError::UnknownKind(other)),
        },
    })
}

pub(super) fn elected(out: &mut Encoder, one: &ElectedLeader) {
    out.text(&one.topic);
    out.i32(one.index);
    result(out, &one.result, |out, elected| {
        out.i32(elected.leader.0);
        out.bool(elected.is_unclean);
    });
}

pub(super) fn read_elected(input: &mut Decoder<'_>) -> Result<ElectedLeader, DecodeError> {
    let leader = |input: &mut Decoder<'_>| {
        Ok(Elected { leader: BrokerId(input.i32()?), is_unclean: input.bool()? })
    };
    Ok(ElectedLeader {
        topic: input.text()?,
        index: input.i32()?,
        result: read_result(input, leader)?,
    })
}

pub(super) fn quorum(out: &mut Encoder, status: &QuorumStatus) {
    out.optional(status.leader, |out, leader| out.i32(leader.0));
    out.i64(i64::try_from(status.term).unwrap_or(i64::MAX));
    out.i64(status.committed.0);
    out.list(&status.replicas, |out, replica| {
        out.i32(replica.broker.0);
        out.uuid(replica.directory);
        out.bool(replica.is_voter);
        out.optional(replica.last, |out, last| out.i64(last.0));
        let ago = replica.heard_of.map(|ago| i64::try_from(ago.as_millis()).unwrap_or(i64::MAX));
        out.optional(ago, Encoder::i64);
    });
}

pub(super) fn read_quorum(input: &mut Decoder<'_>) -> Result<QuorumStatus, DecodeError> {
    Ok(QuorumStatus {
        leader: input.optional(|input| Ok(BrokerId(input.i32()?)))?,
        term: u64::try_from(input.i64()?).unwrap_or_default(),
        committed: MetadataOffset(input.i64()?),
        replicas: input.list(|input| {
            Ok(QuorumReplica {
                broker: BrokerId(input.i32()?),
                directory: input.uuid()?,
                is_voter: input.bool()?,
                last: input.optional(|input| Ok(MetadataOffset(input.i64()?)))?,
                heard_of: input
                    .optional(Decoder::i64)?
                    .map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or_default())),
            })
        })?,
    })
}

const ADD: u8 = 1;
const REMOVE: u8 = 2;
const FORGET: u8 = 3;

pub(super) fn voter_change(out: &mut Encoder, change: &VoterChange) {
    match change {
        VoterChange::Add { broker, directory, patience } => {
            out.u8(ADD);
            out.i32(broker.0);
            out.uuid(*directory);
            out.u64(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
        }
        VoterChange::Remove { broker, directory } => {
            out.u8(REMOVE);
            out.i32(broker.0);
            out.uuid(*directory);
        }
        VoterChange::Forget(broker) => {
            out.u8(FORGET);
            out.i32(broker.0);
        }
    }
}

pub(super) fn read_voter_change(input: &mut Decoder<'_>) -> Result<VoterChange, DecodeError> {
    let kind = input.u8()?;
    let broker = BrokerId(input.i32()?);
    match kind {
        ADD => Ok(VoterChange::Add {
            broker,
            directory: input.uuid()?,
            patience: Duration::from_millis(input.u64()?),
        }),
        REMOVE => Ok(VoterChange::Remove { broker, directory: input.uuid()? }),
        FORGET => Ok(VoterChange::Forget(broker)),
        other => Err(DecodeError::UnknownKind(other)),
    }
}
