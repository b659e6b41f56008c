//! Writing records: batched by partition, pipelined, sent again until they are in.
//!
//! [`Producer::send`] encodes a record into the open batch of its partition, in the calling task. One
//! task per producer sends batches: up to five requests to each broker, at most one batch of a
//! partition in each. When one fails for a reason that may pass, it and all behind it go out again,
//! in order. With idempotence (the default) the broker knows a batch it has and answers as the first
//! time, so nothing is lost, doubled or reordered. Memory is bounded: a full producer makes
//! [`Producer::send`] wait.

mod batch;
mod delivery;
mod hooks;
mod lane;
mod node;
mod options;
mod partitioner;
mod queue;
mod record;
mod request;
mod sender;
mod sticky;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

pub use delivery::Delivery;
pub use hooks::{BatchInfo, ProducerHooks};
pub use options::{Acks, ProducerOptions};
pub use partitioner::{murmur2, partition_of};
pub use record::{Delivered, Record, RecordRef};

use self::lane::{Lane, Rules, Settled};
use self::queue::{Dirty, Filling, PartitionQueue};
use self::sticky::{Load, Sticky};
use crate::backoff::Random;
use crate::cluster::{Client, no_partition};
use crate::error::ClientError;
use crate::metadata::TopicInfo;

/// Writes records to topics. Cheap to clone; clones are one producer.
///
/// Records of one partition are written in the order they were sent. When the last clone is dropped,
/// what was sent is still delivered, as long as the runtime lives; [`Producer::close`] waits for it.
///
/// ```no_run
/// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
/// use sawlog_client::{Producer, ProducerOptions, RecordRef};
///
/// let producer = Producer::new(client, ProducerOptions::default());
/// for number in 0..1000u32 {
///     let value = number.to_be_bytes();
///     let record = RecordRef { key: Some(b"k"), value: Some(&value), ..RecordRef::default() };
///     producer.send_ref("numbers", record).await?;
/// }
/// producer.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Producer {
    shared: Arc<Shared>,
    _closer: Arc<Closer>,
}

/// Lets the task end with the last clone.
#[derive(Debug)]
struct Closer(Arc<Shared>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What senders and the producer's task share.
#[derive(Debug)]
struct Shared {
    client: Client,
    options: ProducerOptions,
    filling: Filling,
    rules: Rules,
    topics: ArcSwap<HashMap<String, Arc<Topic>>>,
    /// Held to add topics and partitions.
    growing: Mutex<()>,
    lanes: AtomicUsize,
    /// Bytes left in the buffer.
    room: Semaphore,
    dirty: Dirty,
    is_closed: AtomicBool,
}

/// A topic's partitions.
#[derive(Debug)]
struct Topic {
    info: Arc<TopicInfo>,
    queues: Vec<Arc<PartitionQueue>>,
    sticky: Arc<Mutex<Sticky>>,
}

/// Why a record is not taken right now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError {
    /// The buffer is full.
    #[error("the buffer is full")]
    Full,
    /// The topic's partitions are not known yet: [`Producer::send`] asks for them.
    #[error("the topic's partitions are not known yet")]
    UnknownPartitions,
    /// It never will be.
    #[error(transparent)]
    Refused(#[from] ClientError),
}

impl Producer {
    /// A producer on a client's cluster, with connections of its own. Starts a task: must be called
    /// within a tokio runtime.
    #[must_use]
    pub fn new(client: Client, options: ProducerOptions) -> Self {
        let options = options.bounded();
        let codec = (options.compression, options.compression_level);
        let room = Semaphore::new(options.buffer_bytes);
        let shared = Arc::new(Shared {
            client,
            filling: Filling { codec, batch_bytes: options.batch_bytes },
            rules: Rules {
                is_idempotent: options.idempotent,
                in_flight_max: options.in_flight_max,
                codec,
                delivery_timeout: options.delivery_timeout,
            },
            options,
            topics: ArcSwap::default(),
            growing: Mutex::default(),
            lanes: AtomicUsize::new(0),
            room,
            dirty: Dirty::default(),
            is_closed: AtomicBool::new(false),
        });
        tokio::spawn(sender::run(shared.clone()));
        Self { _closer: Arc::new(Closer(shared.clone())), shared }
    }

    /// The options in force.
    #[must_use]
    pub fn options(&self) -> &ProducerOptions {
        &self.shared.options
    }

    /// Takes in a record; waits while the buffer is full. The delivery tells what becomes of it.
    /// Dropping this future before it is ready sends nothing.
    ///
    /// # Errors
    /// The topic or partition does not exist, the record is larger than a batch may be, no broker
    /// tells of the topic, or the producer is closed.
    ///
    /// ```no_run
    /// # async fn example(producer: sawlog_client::Producer) -> Result<(), sawlog_client::ClientError> {
    /// use sawlog_client::Record;
    ///
    /// let record = Record { key: Some(b"alice".to_vec()), ..Record::default() };
    /// let delivery = producer.send("orders", record).await?;
    /// # drop(delivery);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn send(&self, topic: &str, record: Record) -> Result<Delivery, ClientError> {
        let headers: Vec<(&str, Option<&[u8]>)> =
            record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        let record = RecordRef {
            partition: record.partition,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
            timestamp: record.timestamp,
        };
        self.send_ref(topic, record).await
    }

    /// As [`Producer::send`], of borrowed bytes.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub async fn send_ref(
        &self,
        topic: &str,
        record: RecordRef<'_>,
    ) -> Result<Delivery, ClientError> {
        loop {
            match self.try_send(topic, &record) {
                Ok(delivery) => return Ok(delivery),
                Err(TrySendError::Refused(error)) => return Err(error),
                Err(TrySendError::UnknownPartitions) => self.shared.learn(topic).await?,
                Err(TrySendError::Full) => {
                    let weight = record.weight();
                    // Nothing may linger while somebody waits for its room.
                    self.shared.make_all_due();
                    let room = self.shared.room.acquire_many(permits(weight)).await;
                    room.map_err(|_| ClientError::Closed)?.forget();
                    let topics = self.shared.topics.load();
                    // Topics are never taken out, and it was there.
                    let topic = topics.get(topic).ok_or(ClientError::Closed)?;
                    return self.shared.append(topic, &record, weight);
                }
            }
        }
    }

    /// Takes in a record if that is possible at once.
    ///
    /// # Errors
    /// [`TrySendError::Full`] or [`TrySendError::UnknownPartitions`] if it is not, else as
    /// [`Producer::send`].
    ///
    /// ```no_run
    /// # async fn example(producer: sawlog_client::Producer) -> Result<(), sawlog_client::ClientError> {
    /// use sawlog_client::{RecordRef, TrySendError};
    ///
    /// let record = RecordRef { value: Some(b"3 apples"), ..RecordRef::default() };
    /// match producer.try_send("orders", &record) {
    ///     Ok(delivery) => drop(delivery),
    ///     Err(TrySendError::Full | TrySendError::UnknownPartitions) => println!("later"),
    ///     Err(TrySendError::Refused(error)) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_send(&self, topic: &str, record: &RecordRef<'_>) -> Result<Delivery, TrySendError> {
        let shared = &self.shared;
        if shared.is_closed() {
            return Err(TrySendError::Refused(ClientError::Closed));
        }
        let topics = shared.topics.load();
        let topic = topics.get(topic).ok_or(TrySendError::UnknownPartitions)?;
        let weight = record.weight();
        let limit = shared.options.buffer_bytes;
        if weight > limit {
            let message = format!("record of {weight} bytes exceeds the buffer of {limit} bytes");
            return Err(TrySendError::Refused(ClientError::InvalidRecord(message)));
        }
        match shared.room.try_acquire_many(permits(weight)) {
            Ok(room) => room.forget(),
            Err(tokio::sync::TryAcquireError::NoPermits) => return Err(TrySendError::Full),
            Err(tokio::sync::TryAcquireError::Closed) => {
                return Err(TrySendError::Refused(ClientError::Closed));
            }
        }
        Ok(shared.append(topic, record, weight)?)
    }

    /// Bytes of the buffer in use: records taken in and without an outcome.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.shared.buffered_bytes()
    }

    /// Sends what is there without lingering, and waits until everything sent so far is confirmed or
    /// has failed. Bounded by the delivery timeout.
    ///
    /// ```no_run
    /// # async fn example(producer: sawlog_client::Producer) -> Result<(), sawlog_client::ClientError> {
    /// producer.flush().await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn flush(&self) {
        self.shared.make_all_due();
        for queue in self.shared.queues() {
            for settlement in queue.settlements() {
                std::future::poll_fn(|cx| settlement.poll_all(cx)).await;
            }
        }
    }

    /// Takes no more records, from any clone, and waits until everything sent is confirmed or has
    /// failed.
    ///
    /// ```no_run
    /// # async fn example(producer: sawlog_client::Producer) -> Result<(), sawlog_client::ClientError> {
    /// producer.close().await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn close(&self) {
        self.shared.close();
        self.flush().await;
    }
}

impl Shared {
    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.room.close();
        self.make_all_due();
        self.dirty.wake.notify_one();
    }

    fn buffered_bytes(&self) -> usize {
        self.options.buffer_bytes.saturating_sub(self.room.available_permits())
    }

    fn queues(&self) -> Vec<Arc<PartitionQueue>> {
        self.topics.load().values().flat_map(|topic| topic.queues.iter().cloned()).collect()
    }

    fn make_all_due(&self) {
        for queue in self.queues() {
            if queue.unsettled() > 0 {
                queue.make_due();
                self.dirty.list(&queue);
            }
        }
    }

    /// Encodes a record whose room is taken; gives the room back if that fails.
    fn append(
        &self,
        topic: &Topic,
        record: &RecordRef<'_>,
        weight: usize,
    ) -> Result<Delivery, ClientError> {
        let appended = self.append_to_queue(topic, record, weight);
        if appended.is_err() {
            self.room.add_permits(weight);
        }
        appended
    }

    fn append_to_queue(
        &self,
        topic: &Topic,
        record: &RecordRef<'_>,
        weight: usize,
    ) -> Result<Delivery, ClientError> {
        let (queue, is_sticky) = topic.queue_for(record)?;
        let now_ms = record.timestamp.unwrap_or_else(now_ms);
        let appended = queue.append(record, weight, now_ms, &self.filling)?;
        if appended.began_a_batch {
            self.dirty.list(queue);
        }
        if is_sticky {
            let batch_bytes = self.filling.batch_bytes;
            lock(&topic.sticky).wrote(weight, appended.began_a_batch, batch_bytes);
        }
        if let Some(hooks) = &self.options.hooks {
            hooks.on_send(&queue.topic, queue.index, record);
        }
        Ok(appended.delivery)
    }

    /// Asks for a topic's partitions.
    async fn learn(&self, name: &str) -> Result<(), ClientError> {
        let info = self.client.topic_shared(name).await?;
        if info.partitions.is_empty() {
            return Err(ClientError::UnknownTopic(name.to_owned()));
        }
        self.take_in(name, &info);
        Ok(())
    }

    /// Takes in what was learned of topics in use.
    fn topics_changed(&self) {
        let names: Vec<String> = self.topics.load().keys().cloned().collect();
        for name in names {
            if let (Some(info), _, _) = self.client.cached(&name) {
                self.take_in(&name, &info);
            }
        }
    }

    /// Queues stay with their partitions; partitions that were added get new ones.
    fn take_in(&self, name: &str, info: &Arc<TopicInfo>) {
        let _one_at_a_time = lock(&self.growing);
        let topics = self.topics.load();
        let known = topics.get(name);
        if known.is_some_and(|known| Arc::ptr_eq(&known.info, info)) {
            return;
        }
        let mut queues = known.map_or_else(Vec::new, |known| known.queues.clone());
        let shared_name: Arc<str> =
            queues.first().map_or_else(|| Arc::from(name), |queue| queue.topic.clone());
        for partition in info.partitions.iter().skip(queues.len()) {
            let lane = self.lanes.fetch_add(1, Ordering::Relaxed);
            let queue = PartitionQueue::new(shared_name.clone(), partition.index, lane);
            queues.push(Arc::new(queue));
        }
        let sticky = known.map_or_else(
            || Arc::new(Mutex::new(Sticky::new(Random::new()))),
            |known| known.sticky.clone(),
        );
        let mut grown = HashMap::clone(&topics);
        grown.insert(name.to_owned(), Arc::new(Topic { info: info.clone(), queues, sticky }));
        self.topics.store(Arc::new(grown));
    }

    /// Tells everybody of a batch's outcome, and gives its room back.
    fn settle(&self, queue: &PartitionQueue, settled: Settled, now: Instant) {
        let Settled { batch, outcome } = settled;
        if let Some(hooks) = &self.options.hooks {
            let info = batch.info(&queue.topic, queue.index, now);
            match &outcome {
                Ok(base_offset) => hooks.on_delivered(&info, *base_offset),
                Err(error) => hooks.on_failed(&info, error),
            }
        }
        queue.settled();
        // Room first: who hears of the outcome finds it given back.
        self.room.add_permits(batch.weight);
        batch.settle(outcome);
    }

    fn tell_retry(&self, lane: &Lane, error: &ClientError, now: Instant) {
        if let (Some(hooks), Some(batch)) = (&self.options.hooks, lane.first_repeat()) {
            hooks.on_retry(&batch.info(&lane.queue.topic, lane.queue.index, now), error);
        }
    }
}

impl Topic {
    /// The queue for a record, and whether it was chosen without a key.
    fn queue_for(
        &self,
        record: &RecordRef<'_>,
    ) -> Result<(&Arc<PartitionQueue>, bool), ClientError> {
        let count = self.queues.len();
        let (index, is_sticky) = match (record.partition, record.key) {
            (Some(partition), _) => {
                let index = usize::try_from(partition).ok().filter(|index| *index < count);
                (index.ok_or_else(|| no_partition(&self.info, partition))?, false)
            }
            (None, Some(key)) => (usize::try_from(partition_of(key, count)).unwrap_or(0), false),
            (None, None) => (lock(&self.sticky).partition(count, || self.loads()), true),
        };
        let queue = self.queues.get(index).ok_or_else(|| no_partition(&self.info, -1))?;
        Ok((queue, is_sticky))
    }

    fn loads(&self) -> Vec<Load> {
        let is_led =
            |index| self.info.partition(index).is_some_and(|partition| partition.leader >= 0);
        let load = |queue: &Arc<PartitionQueue>| Load {
            batches: queue.unsettled(),
            is_led: is_led(queue.index),
        };
        self.queues.iter().map(load).collect()
    }
}

fn permits(weight: usize) -> u32 {
    u32::try_from(weight).unwrap_or(u32::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
