//! kill -9 in the middle of idempotent acks=all writes, again and again: nothing acknowledged is
//! missing, nothing is there twice, offsets are dense, order is kept, and no start needs help.
//!
//! `SAWLOG_CRASH_KILLS` and `SAWLOG_CRASH_SECONDS` make it longer.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests fail and talk"
)]

mod commits;
#[path = "../crash/groups.rs"]
mod groups;
#[path = "../crash/process.rs"]
mod process;
#[path = "../crash/wire.rs"]
mod wire;
mod writer;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use process::{BrokerProcess, free_address};
use sawlog_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use sawlog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use sawlog_protocol::records::{Batch, split};
use sawlog_protocol::{ErrorCode, decode_response};
use wire::Wire;
use writer::{Acked, Writer};

const TOPIC: &str = "crash";
const PARTITIONS: i32 = 3;
const WRITERS: i64 = 3;

/// Versions without topic ids.
const FETCH_VERSION: i16 = 12;
const CREATE_VERSION: i16 = 4;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn create_topic(address: SocketAddr) {
    let mut wire = Wire::connect(address).unwrap();
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: TOPIC,
            num_partitions: PARTITIONS,
            replication_factor: 1,
            // Small segments: kills hit rolls and seals too.
            configs: vec![CreatableTopicConfig { name: "segment.bytes", value: Some("262144") }],
            ..Default::default()
        }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    wire.send(&request, CREATE_VERSION).unwrap();
    let frame = wire.receive().unwrap();
    let (_, response) = decode_response::<CreateTopicsRequest<'_>>(&frame, CREATE_VERSION).unwrap();
    assert_eq!(response.topics[0].error_code, ErrorCode::NONE);
}

/// Everything in a partition: offset and value, in order.
fn read_partition(address: SocketAddr, partition: i32) -> Vec<(i64, Vec<u8>)> {
    let mut wire = Wire::connect(address).unwrap();
    let mut records = Vec::new();
    let mut next = 0;
    loop {
        let request = FetchRequest {
            max_wait_ms: 0,
            min_bytes: 0,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic: TOPIC,
                partitions: vec![FetchPartition {
                    partition,
                    fetch_offset: next,
                    partition_max_bytes: 1 << 20,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        wire.send(&request, FETCH_VERSION).unwrap();
        let frame = wire.receive().unwrap();
        let (_, response) = decode_response::<FetchRequest<'_>>(&frame, FETCH_VERSION).unwrap();
        let data = &response.responses[0].partitions[0];
        assert_eq!(data.error_code, ErrorCode::NONE);
        let bytes = data.records.clone().unwrap();
        if bytes.is_empty() {
            assert_eq!(
                next, data.high_watermark,
                "everything up to the high watermark is readable"
            );
            return records;
        }
        for batch in split(&bytes) {
            let (header, bytes) = batch.unwrap();
            for record in Batch::parse(bytes).unwrap().records(1 << 24).unwrap() {
                let record = record.unwrap();
                if record.offset >= next {
                    records.push((record.offset, record.value.unwrap().to_vec()));
                }
            }
            next = header.next_offset();
        }
    }
}

/// Checks what is in the logs against what was acknowledged.
fn check(address: SocketAddr, acked: &[Acked]) -> usize {
    let mut places: HashMap<(i64, i32, u64), i64> = HashMap::new();
    let mut total = 0;
    for partition in 0..PARTITIONS {
        let mut last: HashMap<i64, u64> = HashMap::new();
        let records = read_partition(address, partition);
        total += records.len();
        for (expected, (offset, value)) in (0..).zip(records) {
            assert_eq!(offset, expected, "offsets of partition {partition} are dense");
            let (writer, number) = writer::decode_value(&value, partition);
            let doubled = places.insert((writer, partition, number), offset);
            assert_eq!(doubled, None, "writer {writer} record {number} is there twice");
            let before = last.insert(writer, number);
            assert!(before.is_none_or(|before| number == before + 1), "order is kept");
        }
    }
    for record in acked {
        let place = places.get(&(record.writer, record.partition, record.number));
        assert_eq!(place, Some(&record.offset), "{record:?} was acknowledged there");
    }
    total
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_by_kill_9() {
    let kills = setting("SAWLOG_CRASH_KILLS", 5);
    let seconds = setting("SAWLOG_CRASH_SECONDS", 6);
    let data = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut broker = BrokerProcess::start(data.path(), address, &[]);
    create_topic(address);
    let stop = AtomicBool::new(false);
    let acknowledged = AtomicU64::new(0);
    let mut slowest = Duration::ZERO;
    let acked: Vec<Acked> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|id| {
                let (stop, acknowledged) = (&stop, &acknowledged);
                scope.spawn(move || Writer::new(id, address).run(stop, acknowledged))
            })
            .collect();
        let pause = Duration::from_millis(seconds * 1000 / (kills + 1));
        for kill in 0..kills {
            // A kill counts only if it interrupts writing: wait for both time and progress.
            let before = acknowledged.load(Ordering::Relaxed);
            let until = Instant::now() + pause;
            while Instant::now() < until || acknowledged.load(Ordering::Relaxed) == before {
                std::thread::sleep(Duration::from_millis(1 + kill % 7));
            }
            broker.kill();
            let started = Instant::now();
            broker = BrokerProcess::start(data.path(), address, &[]);
            slowest = slowest.max(started.elapsed());
        }
        let before = acknowledged.load(Ordering::Relaxed);
        while acknowledged.load(Ordering::Relaxed) == before {
            std::thread::sleep(Duration::from_millis(1));
        }
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    let total = check(address, &acked);
    // Once more after one more kill: what was readable stays.
    broker.kill();
    broker = BrokerProcess::start(data.path(), address, &[]);
    assert_eq!(check(address, &acked), total);
    assert!(broker.terminate(), "SIGTERM is a clean stop");
    println!(
        "{kills} kills: {} records acknowledged, {total} in the log, slowest restart {slowest:?}",
        acked.len()
    );
}
