//! Structures that stand alone: what consumers of a group pass each other, and the records of
//! `__consumer_offsets`. Confirmed by the classes of Kafka's group coordinator.

use sawlog_protocol::consumer_protocol::*;
use sawlog_protocol::group_records::*;
use sawlog_protocol::wire::{Versioned, decode_versioned, encode_versioned};

use super::*;

/// The structure is written as these bytes, and they are read as a structure that is written so.
macro_rules! golden_structure {
    ($version:literal $structure:expr => $golden:expr) => {
        let golden = bytes_of($golden);
        let structure = $structure;
        let written = encode_versioned(&structure, $version);
        assert_eq!(written, golden, "{:?} {:?}", hex_of(&written), structure);
        assert_eq!(read_and_written(&structure, &golden, $version), golden);
    };
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `_like` says which structure it is.
fn read_and_written<'a, M: Versioned<'a>>(_like: &M, bytes: &'a Bytes, version: i16) -> Bytes {
    encode_versioned(&decode_versioned::<M>(bytes).unwrap(), version)
}

#[test]
fn consumer_protocol() {
    let subscription = ConsumerProtocolSubscription {
        topics: vec!["ab"],
        user_data: Some(Bytes::from_static(b"\x07")),
        owned_partitions: vec![TopicPartition { topic: "ab", partitions: vec![1, 2] }],
        generation_id: 5,
        rack_id: Some("r"),
    };
    golden_structure!(0 subscription.clone() => "0000 00000001 0002 6162 00000001 07");
    golden_structure!(1 subscription.clone() =>
        "0001 00000001 0002 6162 00000001 07 00000001 0002 6162 00000002 00000001 00000002");
    golden_structure!(2 subscription.clone() =>
        "0002 00000001 0002 6162 00000001 07 00000001 0002 6162 00000002 00000001 00000002 \
         00000005");
    golden_structure!(3 subscription =>
        "0003 00000001 0002 6162 00000001 07 00000001 0002 6162 00000002 00000001 00000002 \
         00000005 0001 72");
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: vec![TopicPartition { topic: "ab", partitions: vec![1, 2] }],
        user_data: None,
    };
    golden_structure!(0 assignment.clone() =>
        "0000 00000001 0002 6162 00000002 00000001 00000002 ffffffff");
    golden_structure!(3 assignment =>
        "0003 00000001 0002 6162 00000002 00000001 00000002 ffffffff");
}

#[test]
fn keys() {
    let keys = [
        (
            Key::LegacyOffsetCommit { group: "g", topic: "ab", partition: 1 },
            "0000 0001670002616200000001",
        ),
        (
            Key::OffsetCommit { group: "g", topic: "ab", partition: 1 },
            "0001 0001670002616200000001",
        ),
        (Key::GroupMetadata { group: "g" }, "0002 000167"),
        (Key::ConsumerGroupMetadata { group: "g" }, "0003 000167"),
        (Key::ConsumerGroupPartitionMetadata { group: "g" }, "0004 000167"),
        (Key::ConsumerGroupMemberMetadata { group: "g", member: "m" }, "0005 00016700016d"),
        (Key::ConsumerGroupTargetAssignmentMetadata { group: "g" }, "0006 000167"),
        (Key::ConsumerGroupTargetAssignmentMember { group: "g", member: "m" }, "0007 00016700016d"),
        (
            Key::ConsumerGroupCurrentMemberAssignment { group: "g", member: "m" },
            "0008 00016700016d",
        ),
        (Key::ConsumerGroupRegularExpression { group: "g", regex: "a.*" }, "0010 0001670003612e2a"),
    ];
    for (key, golden) in keys {
        assert_eq!(hex_of(&key.to_bytes()), golden.replace(' ', ""), "{key:?}");
        assert_eq!(Key::from_bytes(&bytes_of(golden)), Ok(key));
    }
    let share_group = bytes_of("000b 0001 67");
    assert_eq!(Key::from_bytes(&share_group), Ok(Key::Unknown(11)));
}

#[test]
fn values_of_classic_groups() {
    let offset = OffsetCommitValue {
        offset: 40,
        leader_epoch: 2,
        metadata: "x",
        commit_timestamp: 1000,
        expire_timestamp: 2000,
        topic_id: ID,
    };
    golden_structure!(0 offset.clone() => "0000 0000000000000028 0001 78 00000000000003e8");
    golden_structure!(1 offset.clone() =>
        "0001 0000000000000028 0001 78 00000000000003e8 00000000000007d0");
    golden_structure!(2 offset.clone() => "0002 0000000000000028 0001 78 00000000000003e8");
    golden_structure!(3 offset.clone() =>
        "0003 0000000000000028 00000002 0001 78 00000000000003e8");
    golden_structure!(4 offset.clone() =>
        "0004 0000000000000028 00000002 02 78 00000000000003e8 01 00 10 \
         1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d");
    golden_structure!(4 OffsetCommitValue { topic_id: Uuid::default(), ..offset } =>
        "0004 0000000000000028 00000002 02 78 00000000000003e8 00");
    let group = GroupMetadataValue {
        protocol_type: "consumer",
        generation: 7,
        protocol: Some("range"),
        leader: Some("m"),
        current_state_timestamp: 1000,
        members: vec![MemberMetadata {
            member_id: "m",
            group_instance_id: Some("i"),
            client_id: "c",
            client_host: "/h",
            rebalance_timeout: 300_000,
            session_timeout: 45_000,
            subscription: Bytes::from_static(b"\x01"),
            assignment: Bytes::from_static(b"\x02"),
        }],
    };
    golden_structure!(0 group.clone() =>
        "0000 0008 636f6e73756d6572 00000007 0005 72616e6765 0001 6d 00000001 0001 6d 0001 63 \
         0002 2f68 0000afc8 00000001 01 00000001 02");
    golden_structure!(1 group.clone() =>
        "0001 0008 636f6e73756d6572 00000007 0005 72616e6765 0001 6d 00000001 0001 6d 0001 63 \
         0002 2f68 000493e0 0000afc8 00000001 01 00000001 02");
    golden_structure!(2 group.clone() =>
        "0002 0008 636f6e73756d6572 00000007 0005 72616e6765 0001 6d 00000000000003e8 00000001 \
         0001 6d 0001 63 0002 2f68 000493e0 0000afc8 00000001 01 00000001 02");
    golden_structure!(3 group.clone() =>
        "0003 0008 636f6e73756d6572 00000007 0005 72616e6765 0001 6d 00000000000003e8 00000001 \
         0001 6d 0001 69 0001 63 0002 2f68 000493e0 0000afc8 00000001 01 00000001 02");
    golden_structure!(4 group =>
        "0004 09 636f6e73756d6572 00000007 06 72616e6765 02 6d 00000000000003e8 02 02 6d 02 69 \
         02 63 03 2f68 000493e0 0000afc8 02 01 02 02 00 00");
    let empty =
        GroupMetadataValue { protocol_type: "consumer", generation: 8, ..Default::default() };
    golden_structure!(3 empty =>
        "0003 0008 636f6e73756d6572 00000008 ffff ffff ffffffffffffffff 00000000");
}

#[test]
fn values_of_consumer_groups() {
    golden_structure!(0 ConsumerGroupMetadataValue { epoch: 3, metadata_hash: 0 } =>
        "0000 00000003 00");
    golden_structure!(0 ConsumerGroupMetadataValue { epoch: 3, metadata_hash: 77 } =>
        "0000 00000003 01 00 08 000000000000004d");
    golden_structure!(0 ConsumerGroupPartitionMetadataValue {
        topics: vec![TopicMetadata {
            topic_id: ID,
            topic_name: "ab",
            num_partitions: 2,
            partition_metadata: vec![PartitionMetadata { partition: 1, racks: vec!["r"] }],
        }],
    } => "0000 02 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 03 6162 00000002 02 00000001 02 02 72 00 00 00");
    let member = ConsumerGroupMemberMetadataValue {
        instance_id: Some("i"),
        rack_id: None,
        client_id: "c",
        client_host: "/h",
        subscribed_topic_names: vec!["ab"],
        subscribed_topic_regex: Some("a.*"),
        rebalance_timeout_ms: 300_000,
        server_assignor: Some("uniform"),
        classic_member_metadata: None,
    };
    golden_structure!(0 member.clone() =>
        "0000 02 69 00 02 63 03 2f68 02 03 6162 04 612e2a 000493e0 08 756e69666f726d 00");
    let classic = ClassicMemberMetadata {
        session_timeout_ms: 45_000,
        supported_protocols: vec![ClassicProtocol {
            name: "range",
            metadata: Bytes::from_static(b"\x01"),
        }],
    };
    golden_structure!(0 ConsumerGroupMemberMetadataValue {
        classic_member_metadata: Some(classic), ..member
    } =>
        "0000 02 69 00 02 63 03 2f68 02 03 6162 04 612e2a 000493e0 08 756e69666f726d 01 00 10 \
         01 0000afc8 02 06 72616e6765 02 01 00 00");
    golden_structure!(0 ConsumerGroupTargetAssignmentMetadataValue {
        assignment_epoch: 3, assignment_timestamp: 0,
    } => "0000 00000003 00");
    golden_structure!(0 ConsumerGroupTargetAssignmentMetadataValue {
        assignment_epoch: 3, assignment_timestamp: 1000,
    } => "0000 00000003 01 00 08 00000000000003e8");
    golden_structure!(0 ConsumerGroupTargetAssignmentMemberValue {
        topic_partitions: vec![TargetTopicPartitions { topic_id: ID, partitions: vec![1, 2] }],
    } => "0000 02 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 03 00000001 00000002 00 00");
    let owned = CurrentTopicPartitions {
        topic_id: ID,
        partitions: vec![1],
        assignment_epochs: Some(vec![3]),
    };
    golden_structure!(0 ConsumerGroupCurrentMemberAssignmentValue {
        member_epoch: 3,
        previous_member_epoch: 2,
        state: 1,
        assigned_partitions: vec![owned.clone()],
        partitions_pending_revocation: vec![CurrentTopicPartitions {
            assignment_epochs: None, ..owned
        }],
    } =>
        "0000 00000003 00000002 01 02 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 02 00000001 01 00 05 02 \
         00000003 02 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 02 00000001 00 00");
    golden_structure!(0 ConsumerGroupRegularExpressionValue {
        topics: vec!["ab"], version: 12, timestamp: 1000,
    } => "0000 02 03 6162 000000000000000c 00000000000003e8 00");
}

#[test]
fn a_value_goes_by_its_key() {
    let key = Key::GroupMetadata { group: "g" };
    let value = Value::GroupMetadata(GroupMetadataValue::default());
    let bytes = value.to_bytes();
    assert_eq!(bytes[..2], [0, 3], "version 3, as Kafka 4.3 writes it");
    assert_eq!(Value::from_bytes(&key, &bytes), Ok(Some(value)));
    assert_eq!(Value::from_bytes(&Key::Unknown(11), &bytes), Ok(None));
    let newer = bytes_of("0005 00");
    assert!(Value::from_bytes(&key, &newer).is_err(), "a version of the future");
    let offset = Value::OffsetCommit(OffsetCommitValue::default());
    assert_eq!(offset.to_bytes()[..2], [0, 4]);
}
