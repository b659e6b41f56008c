//! What a broker takes from the machine is bounded, and what it has to wait for holds up nobody else.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail and talk")]

mod cold;
mod descriptors;
#[path = "../crash/process.rs"]
mod process;
#[path = "../crash/wire.rs"]
mod wire;

use bytes::Bytes;
use sawlog_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use sawlog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, ReplicaState};
use sawlog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use sawlog_protocol::records::{Batch, BatchHeader, split};
use sawlog_protocol::{ErrorCode, decode_response};
use wire::{Wire, batch};

const TOPIC: &str = "bounded";

fn create_topic(wire: &mut Wire, partitions: i32, settings: &[(&str, &str)]) {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: TOPIC,
            num_partitions: partitions,
            replication_factor: 1,
            configs: settings
                .iter()
                .map(|(name, value)| CreatableTopicConfig { name, value: Some(value) })
                .collect(),
            ..Default::default()
        }],
        timeout_ms: 30_000,
        ..Default::default()
    };
    wire.send(&request, 4).unwrap();
    let frame = wire.receive().unwrap();
    let (_, response) = decode_response::<CreateTopicsRequest<'_>>(&frame, 4).unwrap();
    assert_eq!(response.topics[0].error_code, ErrorCode::NONE);
}

/// Writes one value, acknowledged by all; returns its offset.
fn produce(wire: &mut Wire, partition: i32, value: &[u8]) -> i64 {
    let records = Some(batch(None, &[value.to_vec()]));
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: TOPIC,
            partition_data: vec![PartitionProduceData { index: partition, records }],
            ..Default::default()
        }],
        ..Default::default()
    };
    wire.send(&request, 9).unwrap();
    let frame = wire.receive().unwrap();
    let (_, response) = decode_response::<ProduceRequest<'_>>(&frame, 9).unwrap();
    let part = &response.responses[0].partition_responses[0];
    assert_eq!(part.error_code, ErrorCode::NONE, "partition {partition}: {:?}", part.error_message);
    part.base_offset
}

/// Reads one reply's worth of whole batches from `offset` on.
fn fetch(
    wire: &mut Wire,
    partition: i32,
    offset: i64,
    max_bytes: i32,
) -> Vec<(BatchHeader, Bytes)> {
    let request = FetchRequest {
        replica_id: -1,
        replica_state: ReplicaState { replica_id: -1, replica_epoch: -1 },
        max_bytes,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: TOPIC,
            partitions: vec![FetchPartition {
                partition,
                fetch_offset: offset,
                partition_max_bytes: max_bytes,
                current_leader_epoch: -1,
                last_fetched_epoch: -1,
                log_start_offset: -1,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    wire.send(&request, 12).unwrap();
    let frame = wire.receive().unwrap();
    let (_, response) = decode_response::<FetchRequest<'_>>(&frame, 12).unwrap();
    let part = &response.responses[0].partitions[0];
    assert_eq!(part.error_code, ErrorCode::NONE, "partition {partition} at {offset}");
    split(part.records.as_ref().unwrap()).map(Result::unwrap).collect()
}

/// All values of a partition.
fn values(wire: &mut Wire, partition: i32) -> Vec<Bytes> {
    let mut values = Vec::new();
    let mut offset = 0;
    loop {
        let batches = fetch(wire, partition, offset, 1 << 20);
        let Some((last, _)) = batches.last() else { return values };
        offset = last.next_offset();
        for (_, bytes) in batches {
            let batch = Batch::parse(bytes).unwrap();
            let records = batch.records(1 << 24).unwrap();
            values.extend(records.map(|record| record.unwrap().value.unwrap()));
        }
    }
}
