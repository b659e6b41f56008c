//! Reading partitions.
//!
//! One task per consumer fetches ahead, bounded in bytes; the reader decodes what it takes. Records of
//! a partition come in order. An offset that is not in the log is an error unless a
//! [`ResetPolicy`] says otherwise, and then it is told to [`ConsumerHooks`]: never a silent jump.
//!
//! Groups are not here (`group`): whoever shares partitions out places and removes them.

mod board;
mod decode;
mod fetcher;
mod offsets;
mod options;
mod session;
mod stream;

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

pub use decode::ConsumedRecord;
pub use offsets::TimeQuery;
pub(crate) use offsets::{EARLIEST, LATEST, MAX_TIMESTAMP};
pub use options::{Assignment, ConsumerHooks, ConsumerOptions, Jump, Lag, Position, ResetPolicy};
pub use stream::RecordStream;

use self::board::{Board, Entry, Ready};
pub(crate) use self::board::{Place, Start};
use self::decode::{Cursor, Span};
pub(crate) use self::offsets::now_ms;
pub(crate) use self::session::PartitionKey;
use crate::cluster::{Client, no_partition};
use crate::error::ClientError;

/// Reads the partitions assigned to it.
///
/// ```no_run
/// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
/// use sawlog_client::{Assignment, Consumer, Position};
///
/// let all = Assignment { topic: "orders".into(), partition: 0, from: Position::Start, until: None };
/// let mut consumer = Consumer::assign(&client, &[all]).await?;
/// while let Some(records) = consumer.next().await? {
///     for record in records {
///         println!("{}: {:?}", record.offset, record.value);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    cursor: Option<Cursor>,
    /// Of paused partitions.
    parked: Vec<Cursor>,
    /// Comes after the records handed out last.
    failure: Option<ClientError>,
    fetcher: JoinHandle<()>,
}

/// What the reader and the fetching task share.
#[derive(Debug)]
pub(crate) struct Shared {
    client: Client,
    options: ConsumerOptions,
    board: Mutex<Board>,
    /// Wakes the fetching task.
    fetcher: Notify,
    reader: Mutex<Option<Waker>>,
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn reader(&self) -> MutexGuard<'_, Option<Waker>> {
        self.reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn wake_reader(&self) {
        let waker = self.reader().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn wake_when_ready(&self, waker: &Waker) {
        *self.reader() = Some(waker.clone());
    }

    /// Adds a partition that a group assigned.
    pub(crate) fn place(&self, key: PartitionKey, start: Start) {
        self.board().place(key, start);
        self.fetcher.notify_one();
    }

    /// Where partitions end, as far as brokers said.
    pub(crate) fn ends(&self) -> Vec<(PartitionKey, i64)> {
        let board = self.board();
        let known = board.entries().filter(|(_, entry)| entry.high_watermark >= 0);
        known.map(|(_, entry)| (entry.key.clone(), entry.high_watermark)).collect()
    }

    /// Whether a partition waits for a seek.
    pub(crate) fn is_stopped(&self, key: &PartitionKey) -> bool {
        let board = self.board();
        let entry = board.id(&key.0, key.1).and_then(|id| board.entry(id));
        entry.is_some_and(|entry| entry.state == board::State::Stopped)
    }

    /// For tests: as if everything before was taken.
    #[cfg(test)]
    pub(crate) fn take_to(&self, key: &PartitionKey, place: Place) {
        let mut board = self.board();
        let id = board.id(&key.0, key.1).expect("it is there");
        let generation = board.entry(id).expect("it is there").generation;
        board.take(id, generation, (place, true)).expect("as it was");
    }

    /// Removes a partition. Returns whether it was there.
    pub(crate) fn remove(&self, key: &PartitionKey) -> bool {
        self.board().remove(key)
    }

    pub(crate) fn places(&self) -> Vec<(PartitionKey, Place)> {
        self.board().places()
    }

    /// As [`Shared::places`], without what was taken since [`Shared::forget_before`].
    pub(crate) fn places_before(&self) -> Vec<(PartitionKey, Place)> {
        self.board().places_before()
    }

    /// What was taken so far is in the reader's hands.
    pub(crate) fn forget_before(&self) {
        self.board().forget_before();
    }

    pub(crate) fn seek(
        &self,
        topic: &str,
        partition: i32,
        to: Position,
    ) -> Result<(), ClientError> {
        let mut board = self.board();
        let id = board.id(topic, partition).ok_or_else(|| not_assigned(topic, partition))?;
        board.seek(id, to);
        if let Some(entry) = board.entry_mut(id)
            && !matches!(to, Position::Offset(_))
        {
            // Wanted, so it is no jump.
            entry.position = -1;
        }
        drop(board);
        self.fetcher.notify_one();
        Ok(())
    }

    /// Of nobody, for tests of what is around it.
    #[cfg(test)]
    pub(crate) fn unconnected() -> Arc<Self> {
        Arc::new(Self::new(&Client::unconnected(), ConsumerOptions::default()))
    }

    fn new(client: &Client, options: ConsumerOptions) -> Self {
        Self {
            client: client.clone(),
            options,
            board: Mutex::default(),
            fetcher: Notify::new(),
            reader: Mutex::default(),
        }
    }
}

impl Consumer {
    /// A consumer without partitions, with connections of its own. Starts a task: must be called
    /// within a tokio runtime.
    #[must_use]
    pub fn new(client: &Client, options: ConsumerOptions) -> Self {
        let shared = Arc::new(Shared::new(client, options));
        let fetcher = tokio::spawn(fetcher::run(shared.clone()));
        Self { shared, cursor: None, parked: Vec::new(), failure: None, fetcher }
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// A consumer of these partitions, with the default options.
    ///
    /// # Errors
    /// As [`Consumer::add`].
    pub async fn assign(client: &Client, assignments: &[Assignment]) -> Result<Self, ClientError> {
        let consumer = Self::new(client, ConsumerOptions::default());
        consumer.add(assignments).await?;
        Ok(consumer)
    }

    /// Adds partitions, or moves those it has. Where they begin and end is found out here.
    ///
    /// # Errors
    /// A topic or partition does not exist, or no broker answers; then none was added.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client, consumer: sawlog_client::Consumer) -> Result<(), sawlog_client::ClientError> {
    /// use sawlog_client::{Assignment, Position};
    ///
    /// let last_ten = Assignment {
    ///     topic: "orders".into(),
    ///     partition: 3,
    ///     from: Position::BeforeEnd(10),
    ///     until: Some(Position::End),
    /// };
    /// consumer.add(&[last_ten]).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn add(&self, assignments: &[Assignment]) -> Result<(), ClientError> {
        let client = &self.shared.client;
        let mut resolved = Vec::with_capacity(assignments.len());
        for one in assignments {
            let info = client.topic_shared(&one.topic).await?;
            info.partition(one.partition).ok_or_else(|| no_partition(&info, one.partition))?;
            let from = client.position_of(&one.topic, one.partition, one.from).await?;
            let until = match one.until {
                Some(position) => {
                    Some(client.position_of(&one.topic, one.partition, position).await?)
                }
                None => None,
            };
            resolved.push(((Arc::from(one.topic.as_str()), one.partition), from, until));
        }
        let mut board = self.shared.board();
        for (key, from, until) in resolved {
            board.add(key, Position::Offset(from), until);
        }
        drop(board);
        self.shared.fetcher.notify_one();
        self.shared.wake_reader();
        Ok(())
    }

    /// Removes a partition: nothing more comes of it. Returns whether it was there.
    ///
    /// ```no_run
    /// # async fn example(mut consumer: sawlog_client::Consumer) -> Result<(), sawlog_client::ClientError> {
    /// consumer.remove("orders", 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn remove(&self, topic: &str, partition: i32) -> bool {
        let was_there = self.shared.remove(&(Arc::from(topic), partition));
        self.shared.wake_reader();
        was_there
    }

    /// Reads on from elsewhere. What was fetched ahead is thrown away; an error that stopped the
    /// partition is forgotten.
    ///
    /// # Errors
    /// The partition is not assigned.
    ///
    /// ```no_run
    /// # async fn example(mut consumer: sawlog_client::Consumer) -> Result<(), sawlog_client::ClientError> {
    /// use sawlog_client::Position;
    ///
    /// consumer.seek("orders", 0, Position::Start)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn seek(&self, topic: &str, partition: i32, to: Position) -> Result<(), ClientError> {
        self.shared.seek(topic, partition, to)
    }

    /// Hands out nothing of a partition until [`Consumer::resume`]; what was fetched is kept.
    ///
    /// # Errors
    /// The partition is not assigned.
    ///
    /// ```no_run
    /// # async fn example(mut consumer: sawlog_client::Consumer) -> Result<(), sawlog_client::ClientError> {
    /// consumer.pause("orders", 0)?;
    /// let others = consumer.next().await?;
    /// consumer.resume("orders", 0)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn pause(&self, topic: &str, partition: i32) -> Result<(), ClientError> {
        self.set_paused(topic, partition, true)
    }

    /// Hands out records of a paused partition again.
    ///
    /// # Errors
    /// The partition is not assigned.
    pub fn resume(&self, topic: &str, partition: i32) -> Result<(), ClientError> {
        self.set_paused(topic, partition, false)?;
        self.shared.fetcher.notify_one();
        self.shared.wake_reader();
        Ok(())
    }

    fn set_paused(&self, topic: &str, partition: i32, paused: bool) -> Result<(), ClientError> {
        let mut board = self.shared.board();
        let id = board.id(topic, partition).ok_or_else(|| not_assigned(topic, partition))?;
        if let Some(entry) = board.entry_mut(id) {
            entry.is_paused = paused;
        }
        Ok(())
    }

    /// The offset of a partition that is handed out next; `None` if it is not assigned, or not found
    /// out yet after a seek by time.
    ///
    /// ```no_run
    /// # async fn example(mut consumer: sawlog_client::Consumer) -> Result<(), sawlog_client::ClientError> {
    /// if let Some(offset) = consumer.position("orders", 0) {
    ///     println!("offset {offset} is next");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        let board = self.shared.board();
        let entry = board.entry(board.id(topic, partition)?)?;
        (entry.position >= 0).then_some(entry.position)
    }

    /// Every partition with the offset that is handed out next: what to commit once all records
    /// handed out so far are processed.
    #[must_use]
    pub fn positions(&self) -> Vec<(Arc<str>, i32, i64)> {
        let board = self.shared.board();
        let known = board.entries().filter(|(_, entry)| entry.position >= 0);
        known.map(|(_, entry)| (entry.key.0.clone(), entry.key.1, entry.position)).collect()
    }

    /// How far behind each partition is, by what the brokers said last.
    ///
    /// ```no_run
    /// # async fn example(mut consumer: sawlog_client::Consumer) -> Result<(), sawlog_client::ClientError> {
    /// for one in consumer.lag() {
    ///     println!("{}-{}: {} records, {:?} behind", one.topic, one.partition, one.records, one.time);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn lag(&self) -> Vec<Lag> {
        let now = now_ms();
        let board = self.shared.board();
        board.entries().map(|(_, entry)| lag(entry, now)).collect()
    }

    /// The next records, of one partition, at least one; waits for them. `None` once every partition
    /// is at its end. Dropping this future loses nothing.
    ///
    /// # Errors
    /// Reading a partition failed: its offset is out of range or its log was cut
    /// ([`ResetPolicy::Error`]), it does not read, its topic is gone, or its broker has not answered
    /// for as long as a request may take. After an error that [is
    /// retriable](ClientError::is_retriable) it is tried on; after another the partition needs a
    /// [`Consumer::seek`]. The other partitions go on.
    pub async fn next(&mut self) -> Result<Option<Vec<ConsumedRecord>>, ClientError> {
        std::future::poll_fn(|cx| self.poll_records(cx)).await
    }

    /// As [`Consumer::next`], but waits at most so long: then, and at the end, there are no records.
    ///
    /// # Errors
    /// As [`Consumer::next`].
    ///
    /// ```no_run
    /// # async fn example(mut consumer: sawlog_client::Consumer) -> Result<(), sawlog_client::ClientError> {
    /// use std::time::Duration;
    ///
    /// for record in consumer.poll(Duration::from_millis(100)).await? {
    ///     println!("{}: {:?}", record.offset, record.value);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn poll(&mut self, timeout: Duration) -> Result<Vec<ConsumedRecord>, ClientError> {
        match tokio::time::timeout(timeout, self.next()).await {
            Ok(records) => Ok(records?.unwrap_or_default()),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// The records one by one, as a `futures::Stream`. It ends where [`Consumer::next`] does.
    ///
    /// ```no_run
    /// # async fn example(mut consumer: sawlog_client::Consumer) -> Result<(), sawlog_client::ClientError> {
    /// use std::future::poll_fn;
    /// use std::pin::pin;
    /// use futures_core::Stream as _;
    ///
    /// // With the `futures` crate: while let Some(record) = stream.next().await
    /// let mut stream = pin!(consumer.stream());
    /// while let Some(record) = poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
    ///     println!("{}", record?.offset);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn stream(&mut self) -> RecordStream<'_> {
        RecordStream::new(self)
    }

    /// As [`Consumer::next`], for use in a `Future` or `Stream` of one's own.
    pub(crate) fn poll_records(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Vec<ConsumedRecord>>, ClientError>> {
        if let Some(ready) = self.try_next().transpose() {
            return Poll::Ready(ready.map(Some));
        }
        *self.shared.reader() = Some(cx.waker().clone());
        // What came between the look and the waker woke nobody.
        match self.try_next() {
            Ok(Some(records)) => Poll::Ready(Ok(Some(records))),
            Err(error) => Poll::Ready(Err(error)),
            Ok(None) if self.shared.board().is_done() => Poll::Ready(Ok(None)),
            Ok(None) if self.fetcher.is_finished() => Poll::Ready(Err(ClientError::Closed)),
            Ok(None) => Poll::Pending,
        }
    }

    fn try_next(&mut self) -> Result<Option<Vec<ConsumedRecord>>, ClientError> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        let limit = self.shared.options.max_records.max(1);
        let mut records = Vec::new();
        while let Some(mut cursor) = self.next_cursor()? {
            records.reserve(limit.min(RESERVED_RECORDS));
            let more = cursor.take(limit, &mut records);
            self.handed_out(&cursor, &records);
            match more {
                Ok(true) => self.cursor = Some(cursor),
                Ok(false) => {}
                Err(error) => {
                    self.stop(&cursor);
                    if records.is_empty() {
                        return Err(error);
                    }
                    self.failure = Some(error);
                }
            }
            if !records.is_empty() {
                return Ok(Some(records));
            }
        }
        Ok(None)
    }

    /// The batches to hand out from: those begun, else what is ready.
    fn next_cursor(&mut self) -> Result<Option<Cursor>, ClientError> {
        let shared = self.shared.clone();
        let mut board = shared.board();
        if let Some(cursor) = self.cursor.take() {
            match board.current(cursor.id, cursor.generation) {
                Some(entry) if entry.is_paused => self.parked.push(cursor),
                Some(_) => return Ok(Some(cursor)),
                // The partition was moved or removed meanwhile.
                None => {}
            }
        }
        self.parked.retain(|one| board.current(one.id, one.generation).is_some());
        let resumed = self.parked.iter().position(|one| {
            board.current(one.id, one.generation).is_some_and(|entry| !entry.is_paused)
        });
        if let Some(at) = resumed {
            return Ok(Some(self.parked.remove(at)));
        }
        let Some(ready) = board.pop() else { return Ok(None) };
        if board.waits_for_reader {
            let emptied = board.entry(ready.id()).is_none_or(|entry| entry.buffered == 0);
            if emptied || board.buffered <= shared.options.prefetch_bytes / 2 {
                board.waits_for_reader = false;
                shared.fetcher.notify_one();
            }
        }
        match ready {
            Ready::Failure { error, .. } => Err(error),
            Ready::Batches { id, generation, bytes } => {
                let inflated_bytes = shared.options.inflated_bytes;
                Ok(board.current(id, generation).map(|entry| {
                    let span = Span { next: entry.position, until: entry.until, inflated_bytes };
                    Cursor::new((id, generation), entry.key.clone(), &bytes, span)
                }))
            }
        }
    }

    fn handed_out(&self, cursor: &Cursor, records: &[ConsumedRecord]) {
        let mut board = self.shared.board();
        let taken = (Place { offset: cursor.next, epoch: cursor.epoch }, !records.is_empty());
        let Some(entry) = board.take(cursor.id, cursor.generation, taken) else { return };
        let Some(last) = records.last() else { return };
        entry.last_timestamp = Some(last.timestamp);
        drop(board);
        if let Some(hooks) = &self.shared.options.hooks {
            hooks.on_records(&last.topic, last.partition, records.len(), last.offset);
        }
    }

    /// Stops a partition that does not read.
    fn stop(&self, cursor: &Cursor) {
        let mut board = self.shared.board();
        let position = board.current(cursor.id, cursor.generation).map(|entry| entry.position);
        if let Some(position) = position {
            // Throws away what was fetched behind the damage.
            board.seek(cursor.id, Position::Offset(position));
        }
        if let Some(entry) = board.entry_mut(cursor.id) {
            entry.state = board::State::Stopped;
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.fetcher.abort();
    }
}

/// Room made for records at once; a partition with few gets a small vector.
const RESERVED_RECORDS: usize = 1024;

fn not_assigned(topic: &str, partition: i32) -> ClientError {
    ClientError::InvalidRecord(format!("{topic}-{partition} is not assigned"))
}

fn lag(entry: &Entry, now: i64) -> Lag {
    let is_known = entry.high_watermark >= 0 && entry.position >= 0;
    let records = if is_known { (entry.high_watermark - entry.position).max(0) } else { 0 };
    let age = |timestamp: i64| {
        Duration::from_millis(u64::try_from(now.saturating_sub(timestamp)).unwrap_or(0))
    };
    let time =
        entry.last_timestamp.map(|last| if records == 0 { Duration::ZERO } else { age(last) });
    Lag {
        topic: entry.key.0.clone(),
        partition: entry.key.1,
        position: entry.position,
        end_offset: entry.high_watermark,
        records,
        time,
    }
}
