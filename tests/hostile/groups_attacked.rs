//! Groups under clients that mean no good: the broker's own topic is not written past it, no name is
//! longer than what it has to be written into, and members that never come back take no more memory
//! than there is for members.

use std::time::{Duration, Instant};

use bytes::Bytes;
use sawlog_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use sawlog_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use sawlog_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use sawlog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use sawlog_protocol::records::{BatchBuilder, Compression};
use sawlog_protocol::wire::STRING_BYTES_MAX;
use sawlog_protocol::{ErrorCode, decode_response};

use super::groups::GroupWire;
use super::process::{BrokerProcess, free_address};
use super::wire::Wire;
use super::{TOPIC, fixture};

const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Writes to a partition of the groups' topic; by id where `version` has it.
fn produce_to_offsets(wire: &mut Wire, version: i16, index: i32, records: Bytes) -> ErrorCode {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(OFFSETS_TOPIC),
            ..Default::default()
        }]),
        ..Default::default()
    };
    wire.send(&request, 12).unwrap();
    let frame = wire.receive().unwrap();
    let (_, metadata) = decode_response::<MetadataRequest<'_>>(&frame, 12).unwrap();
    assert_eq!(metadata.topics[0].error_code, ErrorCode::NONE);
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: OFFSETS_TOPIC,
            topic_id: metadata.topics[0].topic_id,
            partition_data: vec![PartitionProduceData { index, records: Some(records) }],
        }],
        ..Default::default()
    };
    wire.send(&request, version).unwrap();
    let frame = wire.receive().unwrap();
    let (_, response) = decode_response::<ProduceRequest<'_>>(&frame, version).unwrap();
    response.responses[0].partition_responses[0].error_code
}

#[test]
fn clients_do_not_write_the_topic_of_groups() {
    let fixture = fixture();
    let mut member = GroupWire::connect(fixture.broker.address(), "g").unwrap();
    assert_eq!(member.find_coordinator().unwrap(), ErrorCode::NONE);
    let mut wire = fixture.connect();
    for version in [3, 9, 12, 13] {
        let refused = produce_to_offsets(&mut wire, version, 0, keyed(b"k", b"v"));
        assert_eq!(refused, ErrorCode::INVALID_TOPIC_EXCEPTION, "version {version}");
    }
}

#[test]
fn groups_are_served_whatever_a_tool_wrote_into_their_topic() {
    let mut fixture = fixture();
    let mut member = GroupWire::connect(fixture.broker.address(), "g").unwrap();
    assert_eq!(member.find_coordinator().unwrap(), ErrorCode::NONE);
    assert_eq!(member.committed(TOPIC).unwrap(), -1);
    assert_eq!(member.commit(None, TOPIC, (7, "")).unwrap(), ErrorCode::NONE);
    // Kafka's tools that repair the topic call themselves so.
    let mut tool = fixture.connect();
    tool.client_id = "__admin_client";
    for partition in 0..16 {
        // Of no kind; of offsets, cut short; of an unknown kind; a group without a sense.
        for key in [&b"x"[..], &[0, 1, 0, 9, b'g'], &[0x7f, 0, 1], &[0, 2, 0, 1, b'g']] {
            let records = keyed(key, b"\0\x03nonsense");
            assert_eq!(produce_to_offsets(&mut tool, 9, partition, records), ErrorCode::NONE);
        }
    }
    fixture.broker.kill();
    fixture.broker = BrokerProcess::start(fixture.data.path(), fixture.broker.address(), &[]);
    let mut member = GroupWire::connect(fixture.broker.address(), "g").unwrap();
    assert_eq!(member.committed(TOPIC).unwrap(), 7);
    assert_eq!(member.commit(None, TOPIC, (8, "")).unwrap(), ErrorCode::NONE);
}

fn keyed(key: &[u8], value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(1_700_000_000_000, Some(key), Some(value), &[]).unwrap();
    builder.build()
}

/// OffsetCommit of no offsets in version 8, which could claim any length.
fn offset_commit(group: &str) -> Vec<u8> {
    // Key, version, correlation, no client id, no tags.
    let mut frame = vec![0, 8, 0, 8, 0, 0, 0, 1, 0xff, 0xff, 0];
    let mut length = u32::try_from(group.len()).unwrap() + 1;
    while length >= 0x80 {
        frame.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    frame.push(u8::try_from(length).unwrap());
    frame.extend(group.as_bytes());
    // No generation, member "", no instance, no topics, no tags.
    frame.extend([0xff, 0xff, 0xff, 0xff, 1, 0, 1, 0]);
    let mut bytes = u32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(frame);
    bytes
}

#[test]
fn names_too_long_to_be_written_down_are_refused_before_anything_is_decided() {
    let fixture = fixture();
    let longest = "g".repeat(STRING_BYTES_MAX);
    let mut group = GroupWire::connect(fixture.broker.address(), &longest).unwrap();
    assert_eq!(group.find_coordinator().unwrap(), ErrorCode::NONE);
    // The first may have to wait for the coordinator.
    assert_eq!(group.committed(TOPIC).unwrap(), -1);
    assert_eq!(group.commit(None, TOPIC, (7, "")).unwrap(), ErrorCode::NONE);
    assert_eq!(group.committed(TOPIC).unwrap(), 7);

    let mut wire = fixture.connect();
    wire.send_raw(&offset_commit(&longest)).unwrap();
    assert!(wire.receive().is_ok(), "what fits is answered");
    for too_long in [STRING_BYTES_MAX + 1, 100_000] {
        wire = fixture.connect();
        wire.send_raw(&offset_commit(&"g".repeat(too_long))).unwrap();
        assert!(wire.is_closed_by_broker(), "{too_long} bytes");
    }
    fixture.serves_others();
}

/// JoinGroup of a version whose members are taken in at once; returns the reply's code.
fn join_at_once(wire: &mut Wire, group: &str, metadata: &Bytes) -> ErrorCode {
    let request = JoinGroupRequest {
        group_id: group,
        session_timeout_ms: 6_000,
        rebalance_timeout_ms: 6_000,
        protocol_type: "consumer",
        protocols: vec![JoinGroupRequestProtocol { name: "range", metadata: metadata.clone() }],
        ..Default::default()
    };
    wire.send(&request, 3).unwrap();
    let frame = wire.receive().unwrap();
    decode_response::<JoinGroupRequest<'_>>(&frame, 3).unwrap().1.error_code
}

#[test]
fn members_that_never_come_back_take_no_more_memory_than_there_is_for_members() {
    let data = tempfile::tempdir().unwrap();
    let settings = ["-X", "group.initial.rebalance.delay.ms=0"];
    let broker = BrokerProcess::start(data.path(), free_address(), &settings);
    let mut honest = GroupWire::connect(broker.address(), "honest").unwrap();
    assert_eq!(honest.find_coordinator().unwrap(), ErrorCode::NONE);
    let membership = honest.join("").unwrap();
    assert_eq!(honest.sync(&membership).unwrap(), ErrorCode::NONE);
    let before = broker.resident_bytes();
    let metadata = Bytes::from(vec![1; 1 << 20]);
    let (mut taken_in, mut refused) = (0, 0);
    let mut wire = Wire::connect(broker.address()).unwrap();
    while refused < 100 {
        match join_at_once(&mut wire, &format!("flood-{}", taken_in + refused), &metadata) {
            ErrorCode::NONE => taken_in += 1,
            ErrorCode::COORDINATOR_NOT_AVAILABLE => refused += 1,
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => {}
            error => panic!("{error:?}"),
        }
        assert!(taken_in < 2_000, "nobody is refused");
    }
    assert!(taken_in > 100, "{taken_in}");
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 400 << 20, "grew by {grown} bytes");
    // Who is in a group stays, and sends heartbeats.
    assert_eq!(honest.heartbeat(&membership).unwrap(), ErrorCode::NONE);
    // Their sessions end, and there is room again.
    let deadline = Instant::now() + Duration::from_secs(60);
    while join_at_once(&mut wire, "after", &metadata) != ErrorCode::NONE {
        assert!(Instant::now() < deadline, "the memory does not come back");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(broker.terminate());
}

/// A first heartbeat of the consumer protocol; returns the reply's code.
fn enter(wire: &mut Wire, group: &str, topics: &[&str]) -> ErrorCode {
    let request = ConsumerGroupHeartbeatRequest {
        group_id: group,
        member_epoch: 0,
        rebalance_timeout_ms: 6_000,
        subscribed_topic_names: Some(topics.to_vec()),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    wire.send(&request, 0).unwrap();
    let frame = wire.receive().unwrap();
    decode_response::<ConsumerGroupHeartbeatRequest<'_>>(&frame, 0).unwrap().1.error_code
}

#[test]
fn subscriptions_of_the_consumer_protocol_are_bounded_and_their_memory_comes_back() {
    let data = tempfile::tempdir().unwrap();
    let settings = [
        "-X",
        "group.consumer.min.session.timeout.ms=6000",
        "-X",
        "group.consumer.session.timeout.ms=6000",
    ];
    let broker = BrokerProcess::start(data.path(), free_address(), &settings);
    let mut honest = GroupWire::connect(broker.address(), "honest").unwrap();
    assert_eq!(honest.find_coordinator().unwrap(), ErrorCode::NONE);
    let names: Vec<String> = (0..30).map(|at| format!("{at:02}-{}", "t".repeat(30_000))).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut wire = Wire::connect(broker.address()).unwrap();
    let (mut taken_in, mut is_refused) = (0, false);
    while !is_refused {
        match enter(&mut wire, &format!("flood-{taken_in}"), &names) {
            ErrorCode::NONE => taken_in += 1,
            ErrorCode::COORDINATOR_NOT_AVAILABLE => is_refused = true,
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => {}
            error => panic!("{error:?}"),
        }
        assert!(taken_in < 2_000, "nobody is refused");
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while enter(&mut wire, "after", &names) != ErrorCode::NONE {
        assert!(Instant::now() < deadline, "the memory does not come back");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(broker.terminate());
}
