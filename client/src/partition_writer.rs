//! One partition of a producer: batches in order, five on their way, repeated until confirmed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sawlog_protocol::messages::init_producer_id::InitProducerIdRequest;
use sawlog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use sawlog_protocol::records::{BatchBuilder, increment_sequence};
use sawlog_protocol::{ErrorCode, decode_response};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::cluster::Client;
use crate::connection::Connection;
use crate::error::{ClientError, check};
use crate::producer::{Acks, Delivered, Outgoing, ProducerOptions};

/// Batches on their way at once: as many as a broker remembers of a producer.
const IN_FLIGHT_MAX: usize = 5;

/// Newest Produce version that names topics by name.
const PRODUCE_BY_NAME: i16 = 12;

/// Pauses between repeats: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What a writer is told.
#[derive(Debug)]
pub(crate) enum Command {
    Write(Outgoing),
    /// Answer once everything before is settled.
    Flush(oneshot::Sender<()>),
}

/// Records that go together.
#[derive(Debug)]
struct Batch {
    outgoing: Vec<Outgoing>,
    /// First sequence, once it has one.
    sequence: Option<i32>,
    deadline: Instant,
}

type Waiting = oneshot::Receiver<Result<Bytes, String>>;

/// A batch on its way.
#[derive(Debug)]
struct InFlight {
    batch: Batch,
    connection: Connection,
    version: i16,
    waiting: Waiting,
}

/// The id under which the broker knows this writer.
#[derive(Clone, Copy, Debug)]
struct Identity {
    id: i64,
    epoch: i16,
}

/// Writes one partition.
#[derive(Debug)]
pub(crate) struct PartitionWriter {
    client: Client,
    options: ProducerOptions,
    topic: Arc<str>,
    partition: i32,
    identity: Option<Identity>,
    next_sequence: i32,
    /// Closed and not sent, or to be sent again; in order.
    ready: VecDeque<Batch>,
    in_flight: VecDeque<InFlight>,
    failures: u32,
}

impl PartitionWriter {
    pub(crate) fn new(
        client: Client,
        options: ProducerOptions,
        topic: &str,
        partition: i32,
    ) -> Self {
        Self {
            client,
            options,
            topic: Arc::from(topic),
            partition,
            identity: None,
            next_sequence: 0,
            ready: VecDeque::new(),
            in_flight: VecDeque::new(),
            failures: 0,
        }
    }

    /// Runs until the producer is gone and everything is settled.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut held = None;
        loop {
            // Settle what can be settled without waiting, then fill and send.
            while self.in_flight.len() < IN_FLIGHT_MAX && !self.ready.is_empty() {
                self.send_next().await;
            }
            let command = match held.take() {
                Some(command) => Some(command),
                None if self.in_flight.is_empty() => commands.recv().await,
                None if self.in_flight.len() >= IN_FLIGHT_MAX => {
                    self.settle_head().await;
                    continue;
                }
                None => tokio::select! {
                    // Dropping either loses nothing: the head stays, the channel keeps its order.
                    biased;
                    () = head_is_settled(&mut self.in_flight) => {
                        self.settle_head().await;
                        continue;
                    }
                    command = commands.recv() => command,
                },
            };
            match command {
                Some(Command::Write(first)) => held = self.fill(first, &mut commands).await,
                Some(Command::Flush(done)) => {
                    self.settle_all().await;
                    // Who no longer waits does not need to know.
                    let _gone = done.send(());
                }
                None => return self.settle_all().await,
            }
        }
    }

    /// Gathers a batch that begins with `first`, for at most the linger time. Returns a command
    /// that came up and is none for the batch.
    async fn fill(
        &mut self,
        first: Outgoing,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Option<Command> {
        let mut bytes = first.weight;
        let now = Instant::now();
        let mut batch = Batch {
            outgoing: vec![first],
            sequence: None,
            deadline: now + self.options.delivery_timeout,
        };
        let until = now + self.options.linger;
        let mut held = None;
        while bytes < self.options.batch_bytes {
            let command = match commands.try_recv() {
                Ok(command) => Some(command),
                Err(mpsc::error::TryRecvError::Disconnected) => None,
                Err(mpsc::error::TryRecvError::Empty) => {
                    match tokio::time::timeout_at(until, commands.recv()).await {
                        Ok(command) => command,
                        Err(_) => break,
                    }
                }
            };
            match command {
                Some(Command::Write(next)) if bytes + next.weight <= self.options.batch_bytes => {
                    bytes += next.weight;
                    batch.outgoing.push(next);
                }
                None => break,
                other => {
                    held = other;
                    break;
                }
            }
        }
        self.ready.push_back(batch);
        held
    }

    /// Sends the first ready batch; a failure puts it back.
    async fn send_next(&mut self) {
        let Some(mut batch) = self.ready.pop_front() else { return };
        if Instant::now() > batch.deadline {
            let error = ClientError::broker(
                ErrorCode::REQUEST_TIMED_OUT,
                Some("not confirmed within the delivery timeout"),
            );
            return self.fail(batch, &error);
        }
        match self.try_send(&mut batch).await {
            Ok(Some(sent)) => self.in_flight.push_back(InFlight {
                batch,
                connection: sent.0,
                version: sent.1,
                waiting: sent.2,
            }),
            Ok(None) => confirm(batch, self.partition, -1),
            Err(error) if error.is_retriable() => {
                self.ready.push_front(batch);
                self.recover().await;
            }
            Err(error) => self.fail(batch, &error),
        }
    }

    async fn try_send(
        &mut self,
        batch: &mut Batch,
    ) -> Result<Option<(Connection, i16, Waiting)>, ClientError> {
        let connection = self.client.leader(&self.topic, self.partition).await?;
        if self.options.idempotent && self.identity.is_none() {
            self.identity = Some(init_producer_id(&connection).await?);
            self.next_sequence = 0;
        }
        let bytes = self.encode(batch)?;
        let acks = match self.options.acks {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        };
        let topic = self.topic.clone();
        let request = ProduceRequest {
            acks,
            timeout_ms: i32::try_from(connection.timeout().as_millis()).unwrap_or(i32::MAX),
            topic_data: vec![TopicProduceData {
                name: &topic,
                partition_data: vec![PartitionProduceData {
                    index: self.partition,
                    records: Some(bytes),
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let version = connection.version(sawlog_protocol::ApiKey::Produce, PRODUCE_BY_NAME)?;
        if self.options.acks == Acks::None {
            connection.send_only(&request, version).await?;
            return Ok(None);
        }
        let waiting = connection.send(&request, version).await?;
        Ok(Some((connection, version, waiting)))
    }

    fn encode(&mut self, batch: &mut Batch) -> Result<Bytes, ClientError> {
        let mut builder = BatchBuilder::new(self.options.compression);
        if let Some(identity) = self.identity {
            let sequence = *batch.sequence.get_or_insert(self.next_sequence);
            builder.producer(identity.id, identity.epoch, sequence);
            let count = i32::try_from(batch.outgoing.len()).unwrap_or(i32::MAX);
            self.next_sequence = increment_sequence(sequence, count);
        }
        let now = now_ms();
        for outgoing in &batch.outgoing {
            let record = &outgoing.record;
            let headers: Vec<(&str, Option<&[u8]>)> = record
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_deref()))
                .collect();
            builder
                .append(
                    record.timestamp.unwrap_or(now),
                    record.key.as_deref(),
                    record.value.as_deref(),
                    &headers,
                )
                .map_err(|error| ClientError::InvalidRecord(error.to_string()))?;
        }
        Ok(builder.build())
    }

    async fn settle_all(&mut self) {
        while !self.in_flight.is_empty() || !self.ready.is_empty() {
            while self.in_flight.len() < IN_FLIGHT_MAX && !self.ready.is_empty() {
                self.send_next().await;
            }
            self.settle_head().await;
        }
    }

    /// Waits for the oldest batch on its way.
    async fn settle_head(&mut self) {
        let Some(head) = self.in_flight.pop_front() else { return };
        match self.outcome(head).await {
            Ok((batch, offset)) => {
                self.failures = 0;
                confirm(batch, self.partition, offset);
            }
            Err((batch, error)) => self.again(batch, error).await,
        }
    }

    async fn outcome(&self, sent: InFlight) -> Result<(Batch, i64), (Batch, ClientError)> {
        let InFlight { batch, connection, version, waiting } = sent;
        let timeout = connection.timeout();
        let outcome = async {
            let frame = connection.wait(waiting, timeout).await?;
            let (_, response) = decode_response::<ProduceRequest<'_>>(&frame, version)?;
            let part = response.responses.first().and_then(|t| t.partition_responses.first());
            let part =
                part.ok_or(ClientError::Malformed(sawlog_protocol::DecodeError::Truncated))?;
            let message = part.record_errors.first().and_then(|e| e.batch_index_error_message);
            check(part.error_code, message.or(part.error_message))?;
            Ok(part.base_offset)
        };
        match outcome.await {
            Ok(offset) => Ok((batch, offset)),
            Err(error) => Err((batch, error)),
        }
    }

    /// A batch failed: it and those behind it that failed too go out again, in order.
    async fn again(&mut self, batch: Batch, error: ClientError) {
        let mut failed = vec![];
        while let Some(next) = self.in_flight.pop_front() {
            match self.outcome(next).await {
                Ok((batch, offset)) => confirm(batch, self.partition, offset),
                Err((batch, error)) => failed.push((batch, error)),
            }
        }
        let lost_identity = matches!(
            error.code(),
            Some(ErrorCode::UNKNOWN_PRODUCER_ID | ErrorCode::INVALID_PRODUCER_EPOCH)
        );
        let retriable = error.is_retriable() || lost_identity;
        let mut rest = VecDeque::new();
        if retriable {
            rest.push_back(batch);
        } else {
            // Its sequence is a gap the broker would refuse everything behind for: the rest goes
            // out under a new identity.
            self.fail(batch, &error);
            self.identity = None;
        }
        for (batch, error) in failed {
            let gap = error.code() == Some(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
            if error.is_retriable() || gap {
                rest.push_back(batch);
            } else {
                self.fail(batch, &error);
                self.identity = None;
            }
        }
        if lost_identity {
            self.identity = None;
        }
        if self.identity.is_none() {
            for batch in rest.iter_mut().chain(&mut self.ready) {
                batch.sequence = None;
            }
        }
        rest.append(&mut self.ready);
        self.ready = rest;
        if retriable {
            self.recover().await;
        }
    }

    /// Waits a little longer each time, and looks for the leader anew.
    async fn recover(&mut self) {
        let pause = BACKOFF.0.saturating_mul(1 << self.failures.min(10)).min(BACKOFF.1);
        self.failures += 1;
        tokio::time::sleep(pause).await;
        // Fails while the broker is away; the next attempt says so.
        let _refreshed = self.client.refresh(&self.topic).await;
    }

    fn fail(&mut self, batch: Batch, error: &ClientError) {
        for outgoing in batch.outgoing {
            // Who dropped the delivery does not want to know.
            let _gone = outgoing.answer.send(Err(error.clone()));
            drop(outgoing.room);
        }
    }
}

/// Resolves once the reply of the oldest batch is there, and leaves it there.
async fn head_is_settled(in_flight: &mut VecDeque<InFlight>) {
    let Some(head) = in_flight.front_mut() else { return std::future::pending().await };
    let result = (&mut head.waiting).await.unwrap_or_else(|_| Err("the reply was lost".to_owned()));
    let (answer, waiting) = oneshot::channel();
    head.waiting = waiting;
    // The receiver is right here.
    let _kept = answer.send(result);
}

fn confirm(batch: Batch, partition: i32, base_offset: i64) {
    for (index, outgoing) in (0..).zip(batch.outgoing) {
        let offset = if base_offset < 0 { -1 } else { base_offset + index };
        // Who dropped the delivery does not want to know.
        let _gone = outgoing.answer.send(Ok(Delivered { partition, offset }));
        drop(outgoing.room);
    }
}

async fn init_producer_id(connection: &Connection) -> Result<Identity, ClientError> {
    let request = InitProducerIdRequest {
        transaction_timeout_ms: i32::MAX,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let reply = connection.call(&request).await?;
    let (_, response) = decode_response::<InitProducerIdRequest<'_>>(&reply.frame, reply.version)?;
    check(response.error_code, None)?;
    Ok(Identity { id: response.producer_id, epoch: response.producer_epoch })
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
