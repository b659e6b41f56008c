//! One connection, one request at a time.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use sawlog_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use sawlog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use sawlog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use sawlog_protocol::records::{BatchBuilder, Compression};
use sawlog_protocol::{ErrorCode, Request, decode_response, encode_request};

use crate::Failure;

const CREATE_VERSION: i16 = 4;
const PRODUCE_VERSION: i16 = 9;

/// The last version that names topics by name.
const FETCH_VERSION: i16 = 12;

/// A broker that takes longer to answer hangs.
const REPLY_DEADLINE: Duration = Duration::from_secs(120);

/// Value of every record.
const VALUE: [u8; 100] = [b'v'; 100];

pub(crate) struct Wire {
    stream: TcpStream,
}

impl Wire {
    pub(crate) fn connect(address: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_DEADLINE))?;
        Ok(Self { stream })
    }

    pub(crate) fn create_topic(&mut self, name: &str, partitions: usize) -> Result<(), Failure> {
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name,
                num_partitions: i32::try_from(partitions)?,
                replication_factor: 1,
                ..Default::default()
            }],
            timeout_ms: 120_000,
            ..Default::default()
        };
        let frame = self.call(&request, CREATE_VERSION)?;
        let (_, response) = decode_response::<CreateTopicsRequest<'_>>(&frame, CREATE_VERSION)?;
        let code = response.topics.first().ok_or("an empty reply")?.error_code;
        if code == ErrorCode::NONE { Ok(()) } else { Err(format!("{name}: {code}").into()) }
    }

    /// One record into each of `partitions`.
    pub(crate) fn produce(&mut self, topic: &str, partitions: Range<usize>) -> Result<(), Failure> {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.append(1, None, Some(&VALUE), &[])?;
        let records = builder.build();
        let data = |index: usize| -> Result<PartitionProduceData, Failure> {
            Ok(PartitionProduceData {
                index: i32::try_from(index)?,
                records: Some(records.clone()),
            })
        };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 120_000,
            topic_data: vec![TopicProduceData {
                name: topic,
                partition_data: partitions.map(data).collect::<Result<_, _>>()?,
                ..Default::default()
            }],
            ..Default::default()
        };
        let frame = self.call(&request, PRODUCE_VERSION)?;
        let (_, response) = decode_response::<ProduceRequest<'_>>(&frame, PRODUCE_VERSION)?;
        for part in response.responses.iter().flat_map(|topic| &topic.partition_responses) {
            if part.error_code != ErrorCode::NONE {
                return Err(format!("{topic}-{}: {}", part.index, part.error_code).into());
            }
        }
        Ok(())
    }

    /// One batch into partition 0, acknowledged once it is committed.
    pub(crate) fn produce_batch(&mut self, topic: &str, batch: &Bytes) -> Result<(), Failure> {
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 120_000,
            topic_data: vec![TopicProduceData {
                name: topic,
                partition_data: vec![PartitionProduceData {
                    index: 0,
                    records: Some(batch.clone()),
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let frame = self.call(&request, PRODUCE_VERSION)?;
        let (_, response) = decode_response::<ProduceRequest<'_>>(&frame, PRODUCE_VERSION)?;
        let parts = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        match parts.map(|part| part.error_code).find(|code| *code != ErrorCode::NONE) {
            Some(code) => Err(format!("{topic}-0: {code}").into()),
            None => Ok(()),
        }
    }

    /// The frame of a fetch of partition 0 from `offset`, into `frame`, whose memory is used again.
    pub(crate) fn fetch(
        &mut self,
        topic: &str,
        offset: i64,
        bytes_max: i32,
        frame: Vec<u8>,
    ) -> Result<Bytes, Failure> {
        let request = FetchRequest {
            max_wait_ms: 1_000,
            min_bytes: 1,
            max_bytes: bytes_max,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic,
                partitions: vec![FetchPartition {
                    partition: 0,
                    fetch_offset: offset,
                    partition_max_bytes: bytes_max,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        self.send(&request, FETCH_VERSION)?;
        self.receive(frame)
    }

    fn call<'a, R: Request<'a>>(&mut self, request: &R, version: i16) -> Result<Bytes, Failure> {
        self.send(request, version)?;
        self.receive(Vec::new())
    }

    fn send<'a, R: Request<'a>>(&mut self, request: &R, version: i16) -> Result<(), Failure> {
        for part in encode_request(request, version, 1, Some("sawlog-benches")).parts() {
            self.stream.write_all(part)?;
        }
        Ok(())
    }

    fn receive(&mut self, mut frame: Vec<u8>) -> Result<Bytes, Failure> {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix)?;
        frame.resize(usize::try_from(i32::from_be_bytes(prefix))?, 0);
        self.stream.read_exact(&mut frame)?;
        Ok(frame.into())
    }
}

/// The records of partition 0 in the frame of a fetch.
pub(crate) fn fetched(frame: &Bytes) -> Result<Bytes, Failure> {
    let (_, response) = decode_response::<FetchRequest<'_>>(frame, FETCH_VERSION)?;
    let part = response.responses.first().and_then(|topic| topic.partitions.first());
    let part = part.ok_or("no partition in the reply")?;
    if part.error_code != ErrorCode::NONE {
        return Err(format!("fetch: {}", part.error_code).into());
    }
    Ok(part.records.clone().unwrap_or_default())
}
