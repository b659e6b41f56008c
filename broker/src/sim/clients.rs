//! Clients of a world: they speak the protocol, know what brokers tell them, and try again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use sawlog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use sawlog_protocol::messages::init_producer_id::InitProducerIdRequest;
use sawlog_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use sawlog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use sawlog_protocol::records::{BatchBuilder, Compression, check_crc, split};
use sawlog_protocol::{ErrorCode, Request, encode_request};
use tokio::time::sleep;

use super::chronicle::Chronicle;
use super::net::Net;
use super::oracle::{Oracle, Value, values};
use crate::base::disk_sim::SimRandom;
use crate::base::{PartitionId, TopicId};

const PRODUCE: i16 = 13;
const FETCH: i16 = 17;
const METADATA: i16 = 12;
const INIT_PRODUCER_ID: i16 = 4;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// What all clients of a world share.
pub(super) struct Shared {
    pub(super) net: Net,
    pub(super) oracle: Arc<Oracle>,
    pub(super) brokers: i32,
    /// Each value is written once.
    pub(super) next_value: AtomicU64,
    /// No more is written.
    pub(super) is_over: AtomicBool,
    /// Writes that were begun and not finished.
    pub(super) open: Mutex<i64>,
    pub(super) chronicle: Mutex<Chronicle>,
}

/// A client.
pub(super) struct Client {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u32,
    pub(super) random: SimRandom,
}

/// The partition a client is about.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) topic: String,
    pub(super) index: i32,
}

/// What a write came to.
enum Written {
    At(i64),
    Again,
    Gone,
}

impl Client {
    pub(super) fn any_broker(&mut self) -> i32 {
        let brokers = u64::from(self.shared.brokers.unsigned_abs());
        1 + i32::try_from(self.random.below(brokers)).unwrap_or(0)
    }

    pub(super) async fn pause(&mut self, most: u64) {
        sleep(Duration::from_millis(1 + self.random.below(most))).await;
    }

    pub(super) async fn ask<'a, R: Request<'a>>(
        &self,
        broker: i32,
        request: &R,
        version: i16,
    ) -> Option<Bytes> {
        self.ask_within(broker, request, version, PATIENCE).await
    }

    pub(super) async fn ask_within<'a, R: Request<'a>>(
        &self,
        broker: i32,
        request: &R,
        version: i16,
        patience: Duration,
    ) -> Option<Bytes> {
        let frame = encode_request(request, version, 1, Some("sim")).to_bytes();
        // Without the length in front, as the connection hands it on.
        let frame = frame.slice(4..);
        let answer = self.shared.net.ask(self.number, broker, frame, patience).await.ok()?;
        Some(answer.slice(4..))
    }

    /// Who leads, as some broker says.
    pub(super) async fn leader(&mut self, target: &Target) -> Option<(i32, TopicId)> {
        let broker = self.any_broker();
        let topic =
            MetadataRequestTopic { name: Some(&target.topic), ..MetadataRequestTopic::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        let answer = self.ask(broker, &request, METADATA).await?;
        let decoded = sawlog_protocol::decode_response::<MetadataRequest<'_>>(&answer, METADATA);
        let (_, response) = decoded.expect("an answer that can be read");
        let topic = response.topics.first()?;
        let partition = topic.partitions.iter().find(|it| it.partition_index == target.index)?;
        (partition.leader_id >= 0).then_some((partition.leader_id, topic.topic_id))
    }

    async fn producer_id(&mut self) -> i64 {
        loop {
            let broker = self.any_broker();
            let request =
                InitProducerIdRequest { transaction_timeout_ms: 1000, ..Default::default() };
            if let Some(answer) = self.ask(broker, &request, INIT_PRODUCER_ID).await {
                let decoded = sawlog_protocol::decode_response::<InitProducerIdRequest<'_>>(
                    &answer,
                    INIT_PRODUCER_ID,
                );
                let (_, response) = decoded.expect("an answer that can be read");
                if response.error_code == ErrorCode::NONE {
                    return response.producer_id;
                }
            }
            self.pause(200).await;
        }
    }

    /// Writes with acks=all, each batch until it is acknowledged, then the next.
    pub(super) async fn produce(mut self, target: Target, every: u64) {
        while !self.shared.is_over.load(Ordering::Relaxed) {
            let producer = self.producer_id().await;
            let Some((mut leader, topic)) = self.leader(&target).await else {
                self.pause(100).await;
                continue;
            };
            let id = PartitionId { topic, index: target.index };
            let mut sequence = 0;
            while !self.shared.is_over.load(Ordering::Relaxed) {
                self.pause(2 * every).await;
                let count = 1 + self.random.below(3);
                let first = self.shared.next_value.fetch_add(count, Ordering::Relaxed);
                let batch = batch(first, count, Some((producer, sequence)));
                *self.shared.open.lock() += 1;
                let write = self.note_write(id, (first, count), true);
                let told = self.write_until_done(&target, (id, &mut leader), &batch).await;
                if let Some(offset) = told {
                    self.shared.chronicle.lock().on_acknowledged(write, offset);
                    for (at, value) in (offset..).zip(first..first + count) {
                        self.shared.oracle.on_acknowledged(id, at, value);
                    }
                }
                *self.shared.open.lock() -= 1;
                if told.is_none() {
                    break;
                }
                sequence += i32::try_from(count).unwrap_or(0);
            }
        }
    }

    fn note_write(&self, id: PartitionId, values: (Value, u64), is_safe: bool) -> usize {
        self.shared.chronicle.lock().on_write((self.number, is_safe), id, values)
    }

    /// The offset; none where the topic is gone.
    async fn write_until_done(
        &mut self,
        target: &Target,
        (id, leader): (PartitionId, &mut i32),
        batch: &Bytes,
    ) -> Option<i64> {
        loop {
            match self.write(*leader, id, batch, -1).await {
                Written::At(offset) => return Some(offset),
                Written::Gone if self.shared.oracle.topic(&target.topic) != Some(id.topic) => {
                    return None;
                }
                Written::Again | Written::Gone => {
                    self.pause(50).await;
                    match self.leader(target).await {
                        Some((_, other)) if other != id.topic => {
                            if self.shared.oracle.topic(&target.topic) != Some(id.topic) {
                                return None;
                            }
                        }
                        Some((known, _)) => *leader = known,
                        None if self.shared.oracle.topic(&target.topic) != Some(id.topic) => {
                            return None;
                        }
                        None => self.pause(100).await,
                    }
                }
            }
        }
    }

    async fn write(&mut self, leader: i32, id: PartitionId, batch: &Bytes, acks: i16) -> Written {
        let data = PartitionProduceData { index: id.index, records: Some(batch.clone()) };
        let topic = TopicProduceData {
            topic_id: id.topic,
            partition_data: vec![data],
            ..TopicProduceData::default()
        };
        let timeout_ms = 500 + i32::try_from(self.random.below(2500)).unwrap_or(0);
        let request =
            ProduceRequest { transactional_id: None, acks, timeout_ms, topic_data: vec![topic] };
        let Some(answer) = self.ask(leader, &request, PRODUCE).await else { return Written::Again };
        let decoded = sawlog_protocol::decode_response::<ProduceRequest<'_>>(&answer, PRODUCE);
        let (_, response) = decoded.expect("an answer that can be read");
        let topic = response.responses.first().expect("an answer for the topic");
        let partition = topic.partition_responses.first().expect("an answer for the partition");
        match partition.error_code {
            ErrorCode::NONE => Written::At(partition.base_offset),
            ErrorCode::UNKNOWN_TOPIC_ID | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => Written::Gone,
            ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::NOT_ENOUGH_REPLICAS
            | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
            | ErrorCode::REQUEST_TIMED_OUT
            | ErrorCode::KAFKA_STORAGE_ERROR => Written::Again,
            other => panic!(
                "(22) a write was refused with {other}: {:?}; {id:?}",
                partition.error_message
            ),
        }
    }

    /// Writes without a care: acks=1, and never again what was not acknowledged.
    pub(super) async fn produce_carelessly(mut self, target: Target, every: u64) {
        let mut known = None;
        while !self.shared.is_over.load(Ordering::Relaxed) {
            self.pause(2 * every).await;
            let Some((leader, topic)) = known else {
                known = self.leader(&target).await;
                continue;
            };
            let first = self.shared.next_value.fetch_add(1, Ordering::Relaxed);
            let id = PartitionId { topic, index: target.index };
            self.note_write(id, (first, 1), false);
            match self.write(leader, id, &batch(first, 1, None), 1).await {
                Written::At(_) => {}
                Written::Again | Written::Gone => known = None,
            }
        }
    }

    /// Reads from the start to the end, of whichever replica, again and again.
    /// Where somebody `deletes` records it goes on behind them.
    pub(super) async fn consume(mut self, target: Target, deletes: bool) {
        let (mut at, mut round) = (0, 0);
        // Whether it was given all there was: otherwise nobody can tell what it was to see.
        let mut is_whole = true;
        let mut topic = TopicId::default();
        loop {
            self.pause(200).await;
            let Some((leader, now)) = self.leader(&target).await else { continue };
            if topic != now {
                // Of the topic that is there, or, by metadata from before, of the one that was.
                (topic, at, round, is_whole) = (now, 0, round + 1, true);
            }
            let broker = if self.random.below(3) == 0 { self.any_broker() } else { leader };
            let id = PartitionId { topic, index: target.index };
            for _ in 0..5 {
                match self.read(broker, (id, round, is_whole), at).await {
                    Ok(read) if read > 0 => at += read,
                    Ok(_) => {}
                    Err(Some(ErrorCode::OFFSET_OUT_OF_RANGE)) if deletes => {
                        let first = self.first_offset(broker, &target).await;
                        if let Some(first) = first.filter(|first| *first > at) {
                            (at, is_whole) = (first, false);
                        }
                        break;
                    }
                    Err(_) => break,
                }
            }
        }
    }

    /// How many offsets were read; or why none, if that was told.
    async fn read(
        &mut self,
        broker: i32,
        (id, round, is_whole): (PartitionId, u32, bool),
        at: i64,
    ) -> Result<i64, Option<ErrorCode>> {
        let partition = FetchPartition {
            partition: id.index,
            fetch_offset: at,
            partition_max_bytes: 1 << 16,
            ..FetchPartition::default()
        };
        let topic =
            FetchTopic { topic_id: id.topic, partitions: vec![partition], ..FetchTopic::default() };
        let max_wait_ms = i32::try_from(self.random.below(500)).unwrap_or(0);
        let request =
            FetchRequest { max_wait_ms, min_bytes: 1, topics: vec![topic], ..Default::default() };
        let answer = self.ask(broker, &request, FETCH).await.ok_or(None)?;
        let decoded = sawlog_protocol::decode_response::<FetchRequest<'_>>(&answer, FETCH);
        let (_, response) = decoded.expect("an answer that can be read");
        let topic = response.responses.first();
        let partition = topic.and_then(|topic| topic.partitions.first()).ok_or(None)?;
        if partition.error_code != ErrorCode::NONE {
            return Err(Some(partition.error_code));
        }
        let records = partition.records.clone().unwrap_or_default();
        let mut read = 0;
        for batch in split(&records) {
            let whole = batch.and_then(|(header, batch)| {
                check_crc(&batch, &header)?;
                Ok((header, batch))
            });
            let (header, batch) = match whole {
                Ok(whole) => whole,
                Err(error) => {
                    // What is in front of it was read; from there on it has failed.
                    let why = error.to_string();
                    self.shared.oracle.with(|known| known.on_unreadable(broker, at, &why));
                    return Some(read).filter(|read| *read > 0).ok_or(None);
                }
            };
            let values = values(batch);
            self.shared.oracle.on_read(id, header.base_offset, &values);
            if is_whole {
                let mut chronicle = self.shared.chronicle.lock();
                chronicle.on_read((self.number, round), id, header.base_offset, &values);
            }
            read = header.next_offset() - at;
        }
        Ok(read)
    }
}

/// A batch of values from `first` on.
fn batch(first: Value, count: u64, producer: Option<(i64, i32)>) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some((id, sequence)) = producer {
        builder.producer(id, 0, sequence);
    }
    for value in first..first + count {
        let value = value.to_be_bytes();
        builder.append(1_700_000_000_000, None, Some(&value), &[]).expect("a small record");
    }
    builder.build()
}
