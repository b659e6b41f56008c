//! Writing records: batched by partition, pipelined, sent again until they are in.
//!
//! Each partition has a task of its own, which keeps its batches in order: it fills one batch while
//! up to five are on their way, and when one fails for a reason that may pass, sends it and all
//! behind it again, in order. With idempotence (the default) the broker knows a batch it has and
//! answers as the first time, so nothing is lost, doubled or reordered. What is on its way is bounded
//! in bytes; a full producer makes [`Producer::send`] wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sawlog_protocol::records::Compression;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::cluster::Client;
use crate::error::ClientError;
use crate::partition_writer::{Command, PartitionWriter};
use crate::partitioner::partition_of;

/// Records waiting for their partition's task.
const QUEUE_MAX: usize = 1024;

/// Records without a key that go to one partition before the next one is used.
const STICKY_RECORDS: usize = 1000;

/// How much of a write is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Nothing: sent, maybe lost.
    None,
    /// The leader has it, in memory.
    Leader,
    /// All in-sync replicas have it; with Sawlog's default, on disk.
    All,
}

/// How a producer writes.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// What is confirmed.
    pub acks: Acks,
    /// Codec of batches.
    pub compression: Compression,
    /// Longest wait for a batch to fill.
    pub linger: Duration,
    /// Size at which a batch is sent, in bytes before compression.
    pub batch_bytes: usize,
    /// Bytes of records on their way at once; above, `send` waits.
    pub buffer_bytes: usize,
    /// Longest time from `send` to the confirmation, repeats included.
    pub delivery_timeout: Duration,
    /// Whether the broker refuses repeats (needs [`Acks::All`]).
    pub idempotent: bool,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            compression: Compression::None,
            linger: Duration::from_millis(5),
            batch_bytes: 512 * 1024,
            buffer_bytes: 32 * 1024 * 1024,
            delivery_timeout: Duration::from_secs(120),
            idempotent: true,
        }
    }
}

/// A record to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The partition; `None` to choose by key.
    pub partition: Option<i32>,
    /// `None` for null.
    pub key: Option<Vec<u8>>,
    /// `None` for null, which deletes the key in a compacted topic.
    pub value: Option<Vec<u8>>,
    /// In order; names may repeat.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since the Unix epoch; `None` for now.
    pub timestamp: Option<i64>,
}

impl Record {
    fn weight(&self) -> usize {
        let part = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(name, v)| name.len() + part(v) + 8).sum();
        part(&self.key) + part(&self.value) + headers + 32
    }
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Its partition.
    pub partition: i32,
    /// Its offset; -1 if nothing is confirmed ([`Acks::None`]).
    pub offset: i64,
}

/// The confirmation of one record, to be awaited or dropped.
#[derive(Debug)]
pub struct Delivery(oneshot::Receiver<Result<Delivered, ClientError>>);

impl Delivery {
    /// Waits for the confirmation.
    ///
    /// # Errors
    /// The record is not confirmed, and why. It may still be in the log.
    pub async fn confirmed(self) -> Result<Delivered, ClientError> {
        self.0.await.unwrap_or(Err(ClientError::Closed))
    }
}

/// A record on its way to its partition's task.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) record: Record,
    pub(crate) answer: oneshot::Sender<Result<Delivered, ClientError>>,
    /// Its share of the buffer; given back with the confirmation.
    pub(crate) room: OwnedSemaphorePermit,
    pub(crate) weight: usize,
}

/// Writes records to topics. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Producer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    options: ProducerOptions,
    room: Arc<Semaphore>,
    writers: Mutex<HashMap<(String, i32), mpsc::Sender<Command>>>,
    unkeyed: AtomicUsize,
}

impl Producer {
    /// A producer on a client's connections.
    #[must_use]
    pub fn new(client: Client, options: ProducerOptions) -> Self {
        let room = Arc::new(Semaphore::new(options.buffer_bytes.min(Semaphore::MAX_PERMITS)));
        Self {
            shared: Arc::new(Shared {
                client,
                options,
                room,
                writers: Mutex::default(),
                unkeyed: AtomicUsize::new(0),
            }),
        }
    }

    /// Queues a record; waits while the buffer is full.
    ///
    /// # Errors
    /// The topic or partition does not exist, or the record is larger than the whole buffer.
    pub async fn send(&self, topic: &str, record: Record) -> Result<Delivery, ClientError> {
        let shared = &self.shared;
        let weight = record.weight();
        let permits = u32::try_from(weight)
            .ok()
            .filter(|_| weight <= shared.options.buffer_bytes)
            .ok_or_else(|| {
                ClientError::InvalidRecord(format!(
                    "record of {weight} bytes exceeds the buffer of {} bytes",
                    shared.options.buffer_bytes
                ))
            })?;
        let partition = self.partition(topic, &record).await?;
        let room = shared.room.clone().acquire_many_owned(permits).await;
        let room = room.map_err(|_| ClientError::Closed)?;
        let (answer, delivery) = oneshot::channel();
        let writer = self.writer(topic, partition).await;
        writer
            .send(Command::Write(Outgoing { record, answer, room, weight }))
            .await
            .map_err(|_| ClientError::Closed)?;
        Ok(Delivery(delivery))
    }

    /// Waits until everything sent so far is confirmed or has failed.
    pub async fn flush(&self) {
        let writers: Vec<_> = self.shared.writers.lock().await.values().cloned().collect();
        let mut waiting = Vec::new();
        for writer in writers {
            let (done, flushed) = oneshot::channel();
            if writer.send(Command::Flush(done)).await.is_ok() {
                waiting.push(flushed);
            }
        }
        for flushed in waiting {
            // A writer that is gone has nothing left to confirm.
            let _gone = flushed.await;
        }
    }

    async fn partition(&self, topic: &str, record: &Record) -> Result<i32, ClientError> {
        let info = self.shared.client.topic(topic).await?;
        let count = info.partitions.len();
        match (record.partition, &record.key) {
            (Some(partition), _) if usize::try_from(partition).is_ok_and(|p| p < count) => {
                Ok(partition)
            }
            (Some(partition), _) => Err(ClientError::InvalidRecord(format!(
                "topic \"{topic}\" has no partition {partition}, it has {count}"
            ))),
            (None, Some(key)) => Ok(partition_of(key, count)),
            (None, None) => {
                let turn = self.shared.unkeyed.fetch_add(1, Ordering::Relaxed) / STICKY_RECORDS;
                Ok(i32::try_from(turn % count.max(1)).unwrap_or(0))
            }
        }
    }

    async fn writer(&self, topic: &str, partition: i32) -> mpsc::Sender<Command> {
        let mut writers = self.shared.writers.lock().await;
        let key = (topic.to_owned(), partition);
        let shared = &self.shared;
        writers
            .entry(key)
            .or_insert_with(|| {
                let (sender, commands) = mpsc::channel(QUEUE_MAX);
                let writer = PartitionWriter::new(
                    shared.client.clone(),
                    shared.options.clone(),
                    topic,
                    partition,
                );
                tokio::spawn(writer.run(commands));
                sender
            })
            .clone()
    }
}
