//! Records of groups of the consumer protocol as Kafka's bytes, and back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sawlog_protocol::group_records::{
    ClassicMemberMetadata, ClassicProtocol, ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataValue,
    ConsumerGroupRegularExpressionValue, ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataValue, CurrentTopicPartitions, Key, TargetTopicPartitions,
    Value,
};

use crate::base::Timestamp;
use crate::coordinator::record::{
    ClassicSide, ConsumerPart, CurrentRecord, EpochRecord, MemberRecord, PatternRecord, Record,
    Step, TopicPartitions,
};
use crate::coordinator::types::{Client, GroupId, Protocol};

/// Key and value of a part of `group`.
pub(in crate::coordinator) fn encode(
    group: &GroupId,
    part: &ConsumerPart,
) -> (Bytes, Option<Bytes>) {
    let group = group.as_str();
    match part {
        ConsumerPart::Epoch(value) => {
            let value = value.map(|value| {
                Value::ConsumerGroupMetadata(ConsumerGroupMetadataValue {
                    epoch: value.epoch,
                    metadata_hash: value.topics_hash,
                })
            });
            (Key::ConsumerGroupMetadata { group }.to_bytes(), bytes(value))
        }
        ConsumerPart::Member(member, value) => {
            let key = Key::ConsumerGroupMemberMetadata { group, member: member.as_str() };
            let value = value.as_ref().map(|it| Value::ConsumerGroupMemberMetadata(said(it)));
            (key.to_bytes(), bytes(value))
        }
        ConsumerPart::TargetEpoch(value) => {
            let value = value.map(|epoch| {
                Value::ConsumerGroupTargetAssignmentMetadata(
                    ConsumerGroupTargetAssignmentMetadataValue {
                        assignment_epoch: epoch,
                        ..Default::default()
                    },
                )
            });
            (Key::ConsumerGroupTargetAssignmentMetadata { group }.to_bytes(), bytes(value))
        }
        ConsumerPart::Target(member, value) => {
            let key = Key::ConsumerGroupTargetAssignmentMember { group, member: member.as_str() };
            let value =
                value.as_ref().map(|it| Value::ConsumerGroupTargetAssignmentMember(target(it)));
            (key.to_bytes(), bytes(value))
        }
        ConsumerPart::Current(member, value) => {
            let key = Key::ConsumerGroupCurrentMemberAssignment { group, member: member.as_str() };
            let value =
                value.as_ref().map(|it| Value::ConsumerGroupCurrentMemberAssignment(current(it)));
            (key.to_bytes(), bytes(value))
        }
        ConsumerPart::Pattern(regex, value) => {
            let key = Key::ConsumerGroupRegularExpression { group, regex };
            let value = value.as_ref().map(|value| {
                Value::ConsumerGroupRegularExpression(ConsumerGroupRegularExpressionValue {
                    topics: value.topics.iter().map(|topic| &**topic).collect(),
                    version: 0,
                    timestamp: value.at.0,
                })
            });
            (key.to_bytes(), bytes(value))
        }
    }
}

fn bytes(value: Option<Value<'_>>) -> Option<Bytes> {
    value.map(|value| value.to_bytes())
}

fn said(record: &MemberRecord) -> ConsumerGroupMemberMetadataValue<'_> {
    ConsumerGroupMemberMetadataValue {
        instance_id: record.instance.as_ref().map(|instance| instance.as_str()),
        rack_id: record.rack.as_deref(),
        client_id: &record.client.id,
        client_host: &record.client.host,
        subscribed_topic_names: record.topics.iter().map(|topic| &**topic).collect(),
        subscribed_topic_regex: record.pattern.as_deref(),
        rebalance_timeout_ms: milliseconds(record.rebalance_timeout),
        server_assignor: record.assignor.as_deref(),
        classic_member_metadata: record.classic.as_ref().map(|classic| ClassicMemberMetadata {
            session_timeout_ms: milliseconds(classic.session_timeout),
            supported_protocols: classic.protocols.iter().map(protocol).collect(),
        }),
    }
}

fn protocol(protocol: &Protocol) -> ClassicProtocol<'_> {
    ClassicProtocol { name: &protocol.name, metadata: protocol.metadata.clone() }
}

fn target(partitions: &TopicPartitions) -> ConsumerGroupTargetAssignmentMemberValue {
    let topics = partitions.iter().map(|(topic, set)| TargetTopicPartitions {
        topic_id: *topic,
        partitions: set.iter().copied().collect(),
    });
    ConsumerGroupTargetAssignmentMemberValue { topic_partitions: topics.collect() }
}

fn current(record: &CurrentRecord) -> ConsumerGroupCurrentMemberAssignmentValue {
    let partitions = |from: &TopicPartitions| {
        let topics = from.iter().map(|(topic, set)| CurrentTopicPartitions {
            topic_id: *topic,
            partitions: set.iter().copied().collect(),
            assignment_epochs: None,
        });
        topics.collect()
    };
    ConsumerGroupCurrentMemberAssignmentValue {
        member_epoch: record.epoch,
        previous_member_epoch: record.previous_epoch,
        state: match record.step {
            Step::Stable => 0,
            Step::Unrevoked => 1,
            Step::Unreleased => 2,
        },
        assigned_partitions: partitions(&record.assigned),
        partitions_pending_revocation: partitions(&record.revoking),
    }
}

/// The value if there is one; of another kind it cannot be, it was read by its key.
macro_rules! only {
    ($value:expr, $kind:ident) => {
        match $value {
            Some(Value::$kind(value)) => Some(value),
            _ => None,
        }
    };
}

/// The record with this key and value; None if it is of a kind that means nothing here.
pub(in crate::coordinator) fn decode(key: &Key<'_>, value: Option<&Value<'_>>) -> Option<Record> {
    let (group, part) = match (*key, value) {
        (Key::ConsumerGroupMetadata { group }, value) => {
            let record = |value: &ConsumerGroupMetadataValue| EpochRecord {
                epoch: value.epoch,
                topics_hash: value.metadata_hash,
            };
            (group, ConsumerPart::Epoch(only!(value, ConsumerGroupMetadata).map(record)))
        }
        (Key::ConsumerGroupMemberMetadata { group, member }, value) => {
            let record = only!(value, ConsumerGroupMemberMetadata).map(decode_said);
            (group, ConsumerPart::Member(member.into(), record))
        }
        (Key::ConsumerGroupTargetAssignmentMetadata { group }, value) => {
            let value = only!(value, ConsumerGroupTargetAssignmentMetadata);
            (group, ConsumerPart::TargetEpoch(value.map(|value| value.assignment_epoch)))
        }
        (Key::ConsumerGroupTargetAssignmentMember { group, member }, value) => {
            let value = only!(value, ConsumerGroupTargetAssignmentMember);
            let target = |value: &ConsumerGroupTargetAssignmentMemberValue| {
                let topics = value.topic_partitions.iter();
                collect(topics.map(|topic| (topic.topic_id, topic.partitions.as_slice())))
            };
            (group, ConsumerPart::Target(member.into(), value.map(target)))
        }
        (Key::ConsumerGroupCurrentMemberAssignment { group, member }, value) => {
            let record = only!(value, ConsumerGroupCurrentMemberAssignment).map(decode_current);
            (group, ConsumerPart::Current(member.into(), record))
        }
        (Key::ConsumerGroupRegularExpression { group, regex }, value) => {
            let record = |value: &ConsumerGroupRegularExpressionValue<'_>| PatternRecord {
                topics: names(&value.topics),
                at: Timestamp(value.timestamp),
            };
            let value = only!(value, ConsumerGroupRegularExpression);
            (group, ConsumerPart::Pattern(regex.into(), value.map(record)))
        }
        // What topics looked like: the hash beside the epoch tells, since Kafka 4.1 too.
        _ => return None,
    };
    Some(Record::Consumer { group: group.into(), part })
}

fn decode_said(value: &ConsumerGroupMemberMetadataValue<'_>) -> MemberRecord {
    let classic = value.classic_member_metadata.as_ref().map(|classic| {
        let protocols = classic.supported_protocols.iter().map(|protocol| Protocol {
            name: protocol.name.into(),
            // A slice would keep the whole batch it was read from.
            metadata: Bytes::copy_from_slice(&protocol.metadata),
        });
        let session_timeout = duration(classic.session_timeout_ms);
        ClassicSide { session_timeout, protocols: protocols.collect() }
    });
    MemberRecord {
        instance: value.instance_id.map(Into::into),
        rack: value.rack_id.map(Into::into),
        client: Client { id: value.client_id.into(), host: value.client_host.into() },
        topics: names(&value.subscribed_topic_names),
        pattern: value.subscribed_topic_regex.filter(|it| !it.is_empty()).map(Into::into),
        rebalance_timeout: duration(value.rebalance_timeout_ms),
        assignor: value.server_assignor.map(Into::into),
        classic,
    }
}

fn decode_current(value: &ConsumerGroupCurrentMemberAssignmentValue) -> CurrentRecord {
    let partitions = |from: &[CurrentTopicPartitions]| {
        collect(from.iter().map(|topic| (topic.topic_id, topic.partitions.as_slice())))
    };
    CurrentRecord {
        epoch: value.member_epoch,
        previous_epoch: value.previous_member_epoch,
        step: match value.state {
            1 => Step::Unrevoked,
            2 => Step::Unreleased,
            _ => Step::Stable,
        },
        assigned: partitions(&value.assigned_partitions),
        revoking: partitions(&value.partitions_pending_revocation),
    }
}

fn collect<'a>(topics: impl Iterator<Item = (crate::base::TopicId, &'a [i32])>) -> TopicPartitions {
    let mut partitions = TopicPartitions::new();
    for (topic, indexes) in topics.filter(|(_, indexes)| !indexes.is_empty()) {
        partitions.entry(topic).or_default().extend(indexes);
    }
    partitions
}

fn names(topics: &[&str]) -> BTreeSet<Arc<str>> {
    topics.iter().map(|topic| Arc::from(*topic)).collect()
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

    fn round_trip(part: ConsumerPart) {
        let record = Record::Consumer { group: "g".into(), part };
        let (key, value) = crate::coordinator::stored::encode(&record);
        let back = crate::coordinator::stored::decode(&key, value.as_ref()).unwrap();
        assert_eq!(back, Some(record));
    }

    fn partitions() -> TopicPartitions {
        let topic = |n| sawlog_protocol::Uuid([n; 16]);
        [(topic(1), [0, 5].into()), (topic(2), [3].into())].into()
    }

    #[test]
    fn parts_come_back_as_they_were() {
        let classic = ClassicSide {
            session_timeout: Duration::from_secs(45),
            protocols: vec![Protocol { name: "range".into(), metadata: "bytes".into() }],
        };
        let mut said = MemberRecord {
            instance: Some("i".into()),
            rack: Some("rack".into()),
            client: Client { id: "c".into(), host: "/::1".into() },
            topics: [Arc::from("a"), Arc::from("b")].into(),
            pattern: Some("x.*".into()),
            rebalance_timeout: Duration::from_secs(300),
            assignor: Some("range".into()),
            classic: Some(classic),
        };
        for _ in 0..2 {
            round_trip(ConsumerPart::Member("m".into(), Some(said.clone())));
            (said.instance, said.rack, said.pattern) = (None, None, None);
            (said.assignor, said.classic) = (None, None);
        }
        for step in [Step::Stable, Step::Unrevoked, Step::Unreleased] {
            let (assigned, revoking) = (partitions(), partitions());
            let current = CurrentRecord { epoch: 7, previous_epoch: 6, step, assigned, revoking };
            round_trip(ConsumerPart::Current("m".into(), Some(current)));
        }
        round_trip(ConsumerPart::Epoch(Some(EpochRecord { epoch: 7, topics_hash: -5 })));
        round_trip(ConsumerPart::TargetEpoch(Some(7)));
        round_trip(ConsumerPart::Target("m".into(), Some(partitions())));
        let pattern = PatternRecord { topics: [Arc::from("xy")].into(), at: Timestamp(42) };
        round_trip(ConsumerPart::Pattern("x.*".into(), Some(pattern)));
    }

    #[test]
    fn tombstones_have_no_value() {
        for part in [
            ConsumerPart::Epoch(None),
            ConsumerPart::Member("m".into(), None),
            ConsumerPart::TargetEpoch(None),
            ConsumerPart::Target("m".into(), None),
            ConsumerPart::Current("m".into(), None),
            ConsumerPart::Pattern("x".into(), None),
        ] {
            assert_eq!(encode(&"g".into(), &part).1, None);
            round_trip(part);
        }
    }
}
