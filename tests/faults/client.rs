//! What the tests ask of a broker: one request, one reply, errors as values.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use sawlog_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use sawlog_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use sawlog_protocol::messages::delete_topics::DeleteTopicsRequest;
use sawlog_protocol::messages::describe_log_dirs::DescribeLogDirsRequest;
use sawlog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use sawlog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use sawlog_protocol::records::{Batch, check_crc, split};
use sawlog_protocol::{ErrorCode, decode_response};

use super::wire::{Wire, batch};

pub(crate) const TOPIC: &str = "faults";

/// Versions without topic ids.
const PRODUCE: i16 = 9;
const FETCH: i16 = 12;
const CREATE: i16 = 4;
const DELETE_TOPICS: i16 = 3;
const DELETE_RECORDS: i16 = 2;
const DESCRIBE_LOG_DIRS: i16 = 4;

/// A data directory as the broker describes it.
#[derive(Clone, Debug)]
pub(crate) struct LogDir {
    pub(crate) error: ErrorCode,
    pub(crate) path: String,
    /// Topic, partition, size.
    pub(crate) partitions: Vec<(String, i32, i64)>,
    pub(crate) total_bytes: i64,
    pub(crate) usable_bytes: i64,
}

/// Offset and value.
pub(crate) type Record = (i64, Vec<u8>);

/// One connection.
#[derive(Debug)]
pub(crate) struct Client(Wire);

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        Wire::connect(address).map(Self)
    }

    pub(crate) fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> io::Result<ErrorCode> {
        let configs = settings
            .iter()
            .map(|(name, value)| CreatableTopicConfig { name, value: Some(value) })
            .collect();
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name,
                num_partitions: partitions,
                replication_factor: 1,
                configs,
                ..Default::default()
            }],
            timeout_ms: 30_000,
            ..Default::default()
        };
        self.0.send(&request, CREATE)?;
        let frame = self.0.receive()?;
        let (_, response) = decode_response::<CreateTopicsRequest<'_>>(&frame, CREATE).unwrap();
        Ok(response.topics[0].error_code)
    }

    pub(crate) fn delete_topic(&mut self, name: &str) -> io::Result<ErrorCode> {
        let request = DeleteTopicsRequest {
            topic_names: vec![name],
            timeout_ms: 30_000,
            ..Default::default()
        };
        self.0.send(&request, DELETE_TOPICS)?;
        let frame = self.0.receive()?;
        let (_, response) =
            decode_response::<DeleteTopicsRequest<'_>>(&frame, DELETE_TOPICS).unwrap();
        Ok(response.responses[0].error_code)
    }

    /// One batch with acks=all: its base offset, or why not.
    pub(crate) fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        values: &[Vec<u8>],
    ) -> io::Result<Result<i64, ErrorCode>> {
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: topic,
                partition_data: vec![PartitionProduceData {
                    index: partition,
                    records: Some(batch(None, values)),
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        self.0.send(&request, PRODUCE)?;
        let frame = self.0.receive()?;
        let (_, response) = decode_response::<ProduceRequest<'_>>(&frame, PRODUCE).unwrap();
        let part = &response.responses[0].partition_responses[0];
        Ok(if part.error_code == ErrorCode::NONE {
            Ok(part.base_offset)
        } else {
            Err(part.error_code)
        })
    }

    /// What is at `offset` of a partition: an error, the records' bytes and the high watermark.
    pub(crate) fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> io::Result<(ErrorCode, Bytes, i64)> {
        let request = FetchRequest {
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic,
                partitions: vec![FetchPartition {
                    partition,
                    fetch_offset: offset,
                    partition_max_bytes: 1 << 20,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        self.0.send(&request, FETCH)?;
        let frame = self.0.receive()?;
        let (_, response) = decode_response::<FetchRequest<'_>>(&frame, FETCH).unwrap();
        let part = &response.responses[0].partitions[0];
        Ok((part.error_code, part.records.clone().unwrap_or_default(), part.high_watermark))
    }

    /// Everything in a partition from `offset` on, checked: offset and value, in order.
    pub(crate) fn read_from(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> io::Result<Result<Vec<Record>, ErrorCode>> {
        let (mut records, mut next) = (Vec::new(), offset);
        loop {
            let (error, bytes, high_watermark) = self.fetch(topic, partition, next)?;
            if error != ErrorCode::NONE {
                return Ok(Err(error));
            }
            if bytes.is_empty() {
                assert_eq!(next.max(high_watermark), next, "all below the high watermark is there");
                return Ok(Ok(records));
            }
            for batch in split(&bytes) {
                let (header, bytes) = batch.unwrap();
                check_crc(&bytes, &header).expect("no batch is served with a wrong checksum");
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

    /// Moves the start of a partition to `offset`, -1 for the high watermark.
    pub(crate) fn delete_records(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> io::Result<ErrorCode> {
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: topic,
                partitions: vec![DeleteRecordsPartition { partition_index: partition, offset }],
            }],
            timeout_ms: 30_000,
        };
        self.0.send(&request, DELETE_RECORDS)?;
        let frame = self.0.receive()?;
        let (_, response) =
            decode_response::<DeleteRecordsRequest<'_>>(&frame, DELETE_RECORDS).unwrap();
        Ok(response.topics[0].partitions[0].error_code)
    }

    pub(crate) fn log_dirs(&mut self) -> io::Result<Vec<LogDir>> {
        let request = DescribeLogDirsRequest { topics: None };
        self.0.send(&request, DESCRIBE_LOG_DIRS)?;
        let frame = self.0.receive()?;
        let (_, response) =
            decode_response::<DescribeLogDirsRequest<'_>>(&frame, DESCRIBE_LOG_DIRS).unwrap();
        assert_eq!(response.error_code, ErrorCode::NONE);
        let described = response.results.iter().map(|result| LogDir {
            error: result.error_code,
            path: result.log_dir.to_owned(),
            partitions: result
                .topics
                .iter()
                .flat_map(|topic| {
                    topic.partitions.iter().map(|partition| {
                        let (index, size) = (partition.partition_index, partition.partition_size);
                        (topic.name.to_owned(), index, size)
                    })
                })
                .collect(),
            total_bytes: result.total_bytes,
            usable_bytes: result.usable_bytes,
        });
        Ok(described.collect())
    }
}
