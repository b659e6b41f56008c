//! Few descriptors, many partitions and segments.

use std::path::Path;
use std::time::{Duration, Instant};

use sawlog_protocol::messages::api_versions::ApiVersionsRequest;

use super::process::{BrokerProcess, free_address};
use super::wire::Wire;
use super::{create_topic, produce, values};

const DESCRIPTORS: u32 = 64;
const PARTITIONS: i32 = 80;
const ROUNDS: i32 = 6;

fn open_descriptors(broker: &BrokerProcess) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", broker.pid())).unwrap().count()
}

fn start(data: &Path) -> BrokerProcess {
    BrokerProcess::start_limited(data, free_address(), DESCRIPTORS)
}

/// A connection that is served: one too many is closed when it is accepted.
fn connect(broker: &BrokerProcess) -> Wire {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let mut wire = Wire::connect(broker.address()).unwrap();
        if wire.send(&ApiVersionsRequest::default(), 0).is_ok() && wire.receive().is_ok() {
            return wire;
        }
        assert!(Instant::now() < deadline, "no connection is served");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn value(partition: i32, round: i32) -> Vec<u8> {
    let mut value = format!("{partition}/{round}/").into_bytes();
    value.resize(1500, b'.');
    value
}

fn check(broker: &BrokerProcess, rounds: i32) {
    let mut wire = connect(broker);
    for partition in 0..PARTITIONS {
        let expected: Vec<_> = (0..rounds).map(|round| value(partition, round)).collect();
        assert_eq!(values(&mut wire, partition), expected, "partition {partition}");
    }
    assert!(open_descriptors(broker) <= usize::try_from(DESCRIPTORS).unwrap());
}

#[test]
fn many_partitions_and_segments_are_served_with_64_descriptors() {
    let data = tempfile::tempdir().unwrap();
    let broker = start(data.path());
    let mut wire = Wire::connect(broker.address()).unwrap();
    // Two records fill a segment: in the end there are several times as many as descriptors.
    create_topic(&mut wire, PARTITIONS, &[("segment.bytes", "4096")]);
    for round in 0..ROUNDS {
        for partition in 0..PARTITIONS {
            assert_eq!(produce(&mut wire, partition, &value(partition, round)), round.into());
        }
    }
    check(&broker, ROUNDS);
    assert!(broker.terminate(), "a clean stop");

    let mut broker = start(data.path());
    // What is looked at in the background is open for a moment.
    let deadline = Instant::now() + Duration::from_secs(30);
    while open_descriptors(&broker) >= 24 {
        let at_start = open_descriptors(&broker);
        assert!(Instant::now() < deadline, "sealed segments need none: {at_start} are open");
        std::thread::sleep(Duration::from_millis(5));
    }
    check(&broker, ROUNDS);
    let mut wire = Wire::connect(broker.address()).unwrap();
    for partition in 0..PARTITIONS {
        produce(&mut wire, partition, &value(partition, ROUNDS));
    }
    broker.kill();
    drop(broker);
    check(&start(data.path()), ROUNDS + 1);
}

#[test]
fn a_flood_of_connections_takes_no_descriptor_from_the_logs() {
    let data = tempfile::tempdir().unwrap();
    let broker = start(data.path());
    let mut wire = Wire::connect(broker.address()).unwrap();
    create_topic(&mut wire, PARTITIONS, &[]);
    // More than there are descriptors; those beyond the limit are closed by the broker.
    let flood: Vec<_> =
        (0..200).filter_map(|_| std::net::TcpStream::connect(broker.address()).ok()).collect();
    for partition in 0..PARTITIONS {
        produce(&mut wire, partition, &value(partition, 0));
    }
    drop(flood);
    drop(wire);
    check(&broker, 1);
}
