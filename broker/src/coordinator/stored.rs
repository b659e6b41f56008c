//! The coordinator's records as records of a batch, and back.
//!
//! Offsets with an expiry of their own are written in version 1, which alone has one; everything
//! else in the version Kafka writes. Strings that have no room in a key never get here: the wire
//! brings no longer ones, and the member ids made here are cut to fit.

use std::time::Duration;

use bytes::Bytes;
use sawlog_protocol::group_records::{
    GroupMetadataValue, Key, MemberMetadata, OffsetCommitValue, Value,
};
use sawlog_protocol::wire::{VersionedError, encode_versioned};

use super::consumer;
use super::record::{ClassicMemberRecord, GroupRecord, OffsetRecord, Record};
use super::types::{Client, Generation, GroupId};
use crate::base::{LeaderEpoch, Offset, Timestamp, TopicPartition};

/// The version of an offset that has an expiry.
const OFFSET_WITH_EXPIRY: i16 = 1;

/// Key and value of `record`.
pub(super) fn encode(record: &Record) -> (Bytes, Option<Bytes>) {
    match record {
        Record::Offset { group, partition, value } => {
            let (topic, index) = (&*partition.topic, partition.partition);
            let key = Key::OffsetCommit { group: group.as_str(), topic, partition: index };
            (key.to_bytes(), value.as_ref().map(encode_offset))
        }
        Record::Group { group, value } => {
            let key = Key::GroupMetadata { group: group.as_str() };
            (key.to_bytes(), value.as_ref().map(encode_group))
        }
        Record::Consumer { group, part } => consumer::stored::encode(group, part),
    }
}

fn encode_offset(record: &OffsetRecord) -> Bytes {
    let value = OffsetCommitValue {
        offset: record.offset.0,
        leader_epoch: record.leader_epoch.0,
        metadata: &record.metadata,
        commit_timestamp: record.committed_at.0,
        expire_timestamp: record.expires_at.map_or(-1, |at| at.0),
        ..Default::default()
    };
    match record.expires_at {
        Some(_) => encode_versioned(&value, OFFSET_WITH_EXPIRY),
        None => Value::OffsetCommit(value).to_bytes(),
    }
}

fn encode_group(record: &GroupRecord) -> Bytes {
    let members = record.members.iter().map(|member| MemberMetadata {
        member_id: member.member.as_str(),
        group_instance_id: member.instance.as_ref().map(|instance| instance.as_str()),
        client_id: &member.client.id,
        client_host: &member.client.host,
        rebalance_timeout: milliseconds(member.rebalance_timeout),
        session_timeout: milliseconds(member.session_timeout),
        subscription: member.subscription.clone(),
        assignment: member.assignment.clone(),
    });
    let value = GroupMetadataValue {
        protocol_type: &record.protocol_type,
        generation: record.generation.0,
        protocol: record.protocol.as_deref(),
        leader: record.leader.as_ref().map(|leader| leader.as_str()),
        current_state_timestamp: record.state_since.0,
        members: members.collect(),
    };
    Value::GroupMetadata(value).to_bytes()
}

/// The record with this key and value; None if it is of a kind that means nothing here.
///
/// # Errors
/// Bytes that are not what they should be.
pub(super) fn decode(key: &Bytes, value: Option<&Bytes>) -> Result<Option<Record>, VersionedError> {
    let key = Key::from_bytes(key)?;
    let value = match value {
        Some(bytes) => match Value::from_bytes(&key, bytes)? {
            Some(value) => Some(value),
            None => return Ok(None),
        },
        None => None,
    };
    Ok(match (key, value) {
        (
            Key::OffsetCommit { group, topic, partition }
            | Key::LegacyOffsetCommit { group, topic, partition },
            value,
        ) => {
            let value = match value {
                Some(Value::OffsetCommit(value) | Value::LegacyOffsetCommit(value)) => {
                    Some(decode_offset(&value))
                }
                _ => None,
            };
            let partition = TopicPartition { topic: topic.into(), partition };
            Some(Record::Offset { group: group.into(), partition, value })
        }
        (Key::GroupMetadata { group }, value) => {
            let value = match value {
                Some(Value::GroupMetadata(value)) => Some(decode_group(&value)),
                _ => None,
            };
            Some(Record::Group { group: GroupId::from(group), value })
        }
        (key, value) => consumer::stored::decode(&key, value.as_ref()),
    })
}

fn decode_offset(value: &OffsetCommitValue<'_>) -> OffsetRecord {
    OffsetRecord {
        offset: Offset(value.offset),
        leader_epoch: LeaderEpoch(value.leader_epoch),
        metadata: value.metadata.into(),
        committed_at: Timestamp(value.commit_timestamp),
        expires_at: (value.expire_timestamp >= 0).then_some(Timestamp(value.expire_timestamp)),
    }
}

fn decode_group(value: &GroupMetadataValue<'_>) -> GroupRecord {
    GroupRecord {
        protocol_type: value.protocol_type.into(),
        generation: Generation(value.generation),
        protocol: value.protocol.map(Into::into),
        leader: value.leader.map(Into::into),
        state_since: Timestamp(value.current_state_timestamp),
        members: value.members.iter().map(decode_member).collect(),
    }
}

/// Bytes are copied: a slice would keep the whole batch it was read from.
fn decode_member(member: &MemberMetadata<'_>) -> ClassicMemberRecord {
    let session_timeout = duration(member.session_timeout);
    ClassicMemberRecord {
        member: member.member_id.into(),
        instance: member.group_instance_id.map(Into::into),
        client: Client { id: member.client_id.into(), host: member.client_host.into() },
        rebalance_timeout: match member.rebalance_timeout {
            timeout @ 0.. => duration(timeout),
            _ => session_timeout,
        },
        session_timeout,
        subscription: Bytes::copy_from_slice(&member.subscription),
        assignment: Bytes::copy_from_slice(&member.assignment),
    }
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

fn duration(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::{InstanceId, MemberId};

    fn round_trip(record: &Record) -> Record {
        let (key, value) = encode(record);
        decode(&key, value.as_ref()).unwrap().unwrap()
    }

    fn offset(expires_at: Option<Timestamp>, leader_epoch: i32) -> Record {
        Record::Offset {
            group: "g".into(),
            partition: TopicPartition { topic: "orders".into(), partition: 7 },
            value: Some(OffsetRecord {
                offset: Offset(42),
                leader_epoch: LeaderEpoch(leader_epoch),
                metadata: "note".into(),
                committed_at: Timestamp(1_795_000_000_000),
                expires_at,
            }),
        }
    }

    #[test]
    fn offsets_come_back_as_they_were() {
        assert_eq!(round_trip(&offset(None, 5)), offset(None, 5));
        let brief = offset(Some(Timestamp(1_795_000_000_001)), 5);
        let without_epoch = offset(Some(Timestamp(1_795_000_000_001)), -1);
        assert_eq!(round_trip(&brief), without_epoch, "version 1 has no room for the epoch");
    }

    #[test]
    fn groups_come_back_as_they_were() {
        let member = ClassicMemberRecord {
            member: MemberId::from("m"),
            instance: Some(InstanceId::from("i")),
            client: Client { id: "c".into(), host: "/::1".into() },
            rebalance_timeout: Duration::from_millis(60_001),
            session_timeout: Duration::from_millis(10_001),
            subscription: "subscription".into(),
            assignment: "assignment".into(),
        };
        let mut value = GroupRecord {
            protocol_type: "consumer".into(),
            generation: Generation(9),
            protocol: Some("range".into()),
            leader: Some("m".into()),
            state_since: Timestamp(1_795_000_000_000),
            members: vec![member],
        };
        for _ in 0..2 {
            let record = Record::Group { group: "g".into(), value: Some(value.clone()) };
            assert_eq!(round_trip(&record), record);
            value.members.clear();
            (value.protocol, value.leader) = (None, None);
        }
    }

    #[test]
    fn tombstones_have_no_value() {
        let mut record = offset(None, 0);
        if let Record::Offset { value, .. } = &mut record {
            *value = None;
        }
        let gone = Record::Group { group: "g".into(), value: None };
        for record in [record, gone] {
            assert_eq!(encode(&record).1, None);
            assert_eq!(round_trip(&record), record);
        }
    }

    #[test]
    fn other_kinds_mean_nothing_and_other_bytes_are_refused() {
        let unknown = Bytes::from_static(&[0, 99, 1, 2, 3]);
        assert_eq!(decode(&unknown, Some(&unknown)), Ok(None));
        assert!(decode(&Bytes::from_static(&[0]), None).is_err());
        let (key, value) = encode(&offset(None, 0));
        let value = value.unwrap();
        assert!(decode(&key, Some(&value.slice(..value.len() - 1))).is_err());
    }
}
