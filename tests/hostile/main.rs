//! What no honest client sends: the broker answers with an error or closes the connection, its
//! memory stays bounded, and other clients do not notice.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail and talk")]

mod compressed;
#[path = "../crash/groups.rs"]
mod groups;
mod groups_attacked;
#[path = "../crash/process.rs"]
mod process;
mod telemetry;
#[path = "../crash/wire.rs"]
mod wire;

use bytes::Bytes;
use process::{BrokerProcess, free_address};
use sawlog_protocol::messages::api_versions::ApiVersionsRequest;
use sawlog_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use sawlog_protocol::messages::fetch::{FetchRequest, ReplicaState};
use sawlog_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use sawlog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use sawlog_protocol::records::{BatchBuilder, BatchHeader, Compression, crc32c};
use sawlog_protocol::{ApiKey, ErrorCode, decode_response};
use wire::{Wire, batch};

const TOPIC: &str = "hostile";

struct Fixture {
    broker: BrokerProcess,
    data: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let data = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(data.path(), free_address(), &[]);
    let fixture = Fixture { broker, data };
    let mut wire = fixture.connect();
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: TOPIC,
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    wire.send(&request, 4).unwrap();
    let frame = wire.receive().unwrap();
    let (_, response) = decode_response::<CreateTopicsRequest<'_>>(&frame, 4).unwrap();
    assert_eq!(response.topics[0].error_code, ErrorCode::NONE);
    fixture
}

impl Fixture {
    fn connect(&self) -> Wire {
        Wire::connect(self.broker.address()).unwrap()
    }

    /// Another client is served as ever.
    fn serves_others(&self) {
        let mut wire = self.connect();
        let code = produce(&mut wire, 9, batch(None, &[b"fine".to_vec()])).0;
        assert_eq!(code, ErrorCode::NONE);
    }
}

/// Writes one partition; returns code, message and offset.
fn produce(wire: &mut Wire, version: i16, records: Bytes) -> (ErrorCode, String, i64) {
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: TOPIC,
            partition_data: vec![PartitionProduceData { index: 0, records: Some(records) }],
            ..Default::default()
        }],
        ..Default::default()
    };
    wire.send(&request, version).unwrap();
    let frame = wire.receive().unwrap();
    let (_, response) = decode_response::<ProduceRequest<'_>>(&frame, version).unwrap();
    let part = &response.responses[0].partition_responses[0];
    (part.error_code, part.error_message.unwrap_or_default().to_owned(), part.base_offset)
}

#[test]
fn impossible_frames_close_the_connection() {
    let fixture = fixture();
    let frames: [&[u8]; 7] = [
        &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],       // negative length
        &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 9],       // 2 GiB
        &[0, 0, 0, 3, 0, 0, 0],                      // shorter than a header
        &[0, 0, 0, 8, 0x7f, 0xff, 0, 0, 0, 0, 0, 1], // unknown API
        &[0, 0, 0, 10, 0, 3, 0, 99, 0, 0, 0, 1, 0, 0], // unknown version of Metadata
        &[0, 0, 0, 10, 0, 3, 0, 9, 0, 0, 0, 1, 0x7f, 0xff], // client id beyond the frame
        &[0x04, 0, 0, 0, 0, 3, 0, 9, 0, 0, 0, 1],    // 64 MiB, not Produce
    ];
    for frame in frames {
        let mut wire = fixture.connect();
        wire.send_raw(frame).unwrap();
        assert!(wire.is_closed_by_broker(), "{frame:x?}");
    }
    fixture.serves_others();
}

#[test]
fn random_bytes_never_stop_the_broker() {
    let fixture = fixture();
    let mut state = 88_172_645_463_325_252u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..2_000 {
        let mut wire = fixture.connect();
        let key = ApiKey::ALL[usize::try_from(random()).unwrap() % ApiKey::ALL.len()];
        let versions: Vec<i16> = key.versions().collect();
        let version = versions[usize::try_from(random()).unwrap() % versions.len()];
        let mut frame = key.as_i16().to_be_bytes().to_vec();
        frame.extend(version.to_be_bytes());
        frame.extend([0, 0, 0, 1, 0xff, 0xff]);
        let length = random() % 200;
        frame.extend((0..length).map(|_| random().to_be_bytes()[usize::from(random() % 3 == 0)]));
        let mut bytes = u32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend(frame);
        // The broker may have closed already.
        let _sent = wire.send_raw(&bytes);
    }
    fixture.serves_others();
}

#[test]
fn a_claimed_length_costs_no_memory() {
    let fixture = fixture();
    let before = fixture.broker.resident_bytes();
    let mut stalled = Vec::new();
    for _ in 0..200 {
        let mut wire = fixture.connect();
        // A Produce of 90 MiB, of which 100 bytes come.
        wire.send_raw(&(90u32 << 20).to_be_bytes()).unwrap();
        wire.send_raw(&[0; 100]).unwrap();
        stalled.push(wire);
    }
    fixture.serves_others();
    let grown = fixture.broker.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "grew by {grown} bytes");
    drop(stalled);
}

#[test]
fn an_unknown_version_of_api_versions_is_told_the_known_ones() {
    let fixture = fixture();
    let mut wire = fixture.connect();
    wire.send_raw(&[0, 0, 0, 12, 0, 18, 0, 99, 0, 0, 0, 5, 0, 1, b'x', 0]).unwrap();
    let frame = wire.receive().unwrap();
    let (correlation, response) = decode_response::<ApiVersionsRequest<'_>>(&frame, 0).unwrap();
    assert_eq!(correlation, 5);
    assert_eq!(response.error_code, ErrorCode::UNSUPPORTED_VERSION);
    assert_eq!(response.api_keys.len(), 1);
    assert_eq!(response.api_keys[0].api_key, 18);
    assert_eq!(response.api_keys[0].max_version, 4);
}

#[test]
fn broken_batches_are_refused_with_the_right_error_and_never_stored() {
    let fixture = fixture();
    let mut wire = fixture.connect();
    let good = batch(None, &[b"v".to_vec()]);
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut bytes = good.to_vec();
        change(&mut bytes);
        Bytes::from(bytes)
    };
    let resealed = |change: fn(&mut Vec<u8>)| {
        let mut bytes = good.to_vec();
        change(&mut bytes);
        let crc = crc32c(&bytes[21..]).to_be_bytes();
        bytes[17..21].copy_from_slice(&crc);
        Bytes::from(bytes)
    };
    let cases: Vec<(&str, Bytes, ErrorCode)> = vec![
        ("bad checksum", changed(|b| *b.last_mut().unwrap() ^= 1), ErrorCode::CORRUPT_MESSAGE),
        ("cut off", good.slice(..good.len() - 1), ErrorCode::CORRUPT_MESSAGE),
        ("shorter than a header", good.slice(..40), ErrorCode::CORRUPT_MESSAGE),
        ("message set v1", changed(|b| b[16] = 1), ErrorCode::INVALID_RECORD),
        ("two batches", [&good[..], &good[..]].concat().into(), ErrorCode::INVALID_RECORD),
        ("base offset", changed(|b| b[7] = 9), ErrorCode::INVALID_RECORD),
        ("control batch", resealed(|b| b[22] |= 0x20), ErrorCode::INVALID_RECORD),
        ("transactional", resealed(|b| b[22] |= 0x10), ErrorCode::INVALID_TXN_STATE),
        ("a count that lies", resealed(|b| b[60] = 9), ErrorCode::INVALID_RECORD),
        ("an unknown codec", resealed(|b| b[22] = 7), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE),
        ("empty", Bytes::new(), ErrorCode::INVALID_RECORD),
        (
            "larger than the topic takes",
            batch(None, &[vec![0; 1_100_000]]),
            ErrorCode::MESSAGE_TOO_LARGE,
        ),
        (
            "far in the future",
            resealed(|b| b[27..35].copy_from_slice(&(i64::MAX / 2).to_be_bytes())),
            ErrorCode::INVALID_TIMESTAMP,
        ),
    ];
    for (what, records, expected) in cases {
        let (code, message, _) = produce(&mut wire, 9, records);
        assert_eq!(code, expected, "{what}: {message}");
        assert!(!message.is_empty(), "{what} says why");
    }
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: TOPIC,
            partitions: vec![ListOffsetsPartition { timestamp: -1, ..Default::default() }],
        }],
        ..Default::default()
    };
    wire.send(&request, 1).unwrap();
    let frame = wire.receive().unwrap();
    let (_, response) = decode_response::<ListOffsetsRequest<'_>>(&frame, 1).unwrap();
    assert_eq!(response.topics[0].partitions[0].offset, 0, "nothing was stored");
    assert_eq!(produce(&mut wire, 9, good.clone()).0, ErrorCode::NONE, "the connection goes on");
}

#[test]
fn a_decompression_bomb_costs_no_memory() {
    let fixture = fixture();
    let before = fixture.broker.resident_bytes();
    let mut wire = fixture.connect();
    for codec in [Compression::Gzip, Compression::Zstd, Compression::Lz4, Compression::Snappy] {
        let mut builder = BatchBuilder::new(codec);
        builder.append(1, None, Some(&vec![0; 16 << 20]), &[]).unwrap();
        let mut bomb = builder.build().to_vec();
        // Without a maximum timestamp in the header the broker has to look inside.
        bomb[35..43].copy_from_slice(&(-1i64).to_be_bytes());
        let crc = crc32c(&bomb[21..]).to_be_bytes();
        bomb[17..21].copy_from_slice(&crc);
        let header = BatchHeader::parse(&bomb).unwrap();
        if header.total_len() <= 1 << 20 {
            // Refused or stored: 16 MiB are within what a batch may inflate to.
            produce(&mut wire, 9, bomb.into());
        }
    }
    fixture.serves_others();
    let grown = fixture.broker.resident_bytes().saturating_sub(before);
    assert!(grown < 96 << 20, "grew by {grown} bytes");
}

#[test]
fn a_replicas_fetch_is_refused_on_a_client_listener() {
    let fixture = fixture();
    let mut wire = fixture.connect();
    for (version, request) in [
        (12, FetchRequest { replica_id: 2, ..Default::default() }),
        (
            15,
            FetchRequest {
                replica_state: ReplicaState { replica_id: 2, replica_epoch: 1 },
                ..Default::default()
            },
        ),
    ] {
        wire.send(&request, version).unwrap();
        let frame = wire.receive().unwrap();
        let (_, response) = decode_response::<FetchRequest<'_>>(&frame, version).unwrap();
        assert_eq!(response.error_code, ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    }
}
