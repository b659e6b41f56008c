//! Consumers that share the partitions of topics in a group.
//!
//! A member is a pure state machine ([`membership`], [`classic`]), a task that does what it wants
//! ([`driver`]), and a reader; the last two meet at the [`desk`]. Commits go through the [`ledger`].
//! What always holds:
//!
//! - Partitions change only while no records are in work: after the reader asked for more.
//! - Automatic commits are of what was handed out before the reader asked last, so a crash repeats
//!   records and loses none.
//! - No commit of a member moves an offset back.

mod assignor;
mod classic;
#[cfg(test)]
mod classic_tests;
mod commit;
mod desk;
mod driver;
mod ledger;
mod listener;
mod membership;
mod modern;
#[cfg(test)]
mod modern_tests;
mod offsets;
mod options;
mod requests;
mod retries;
#[cfg(test)]
mod stage;
mod steps;
mod stream;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub use assignor::Assignor;
pub use commit::{Commit, CommitError, CommitOffset, Committer};
pub use listener::{Listening, Rebalance, RebalanceListener};
pub use options::{GroupOptions, GroupProtocol, Topics};
pub use stream::GroupStream;

use self::desk::{Desk, Extent, Turn};
use self::driver::{Driver, Event};
use self::membership::Leaving;
use self::requests::Line;
use crate::cluster::Client;
use crate::consumer::{ConsumedRecord, Consumer, Lag, Place, Position};
use crate::error::ClientError;

/// Reads what its group assigns to it. Made by [`Consumer::subscribe`].
///
/// Whoever asks for records is done with those it got before: they count as processed, partitions may
/// change hands, and automatic commits include them. To commit by hand instead, see
/// [`GroupOptions::commit_interval`] and [`GroupConsumer::commit`].
///
/// Dropped without [`GroupConsumer::close`] it is gone as if its process had died: nothing is
/// committed, and others get its partitions when its session is over.
///
/// ```no_run
/// # async fn example(client: sawlog_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use sawlog_client::{Consumer, GroupOptions};
///
/// let mut consumer = Consumer::subscribe(&client, "orders", GroupOptions::new("billing"))?;
/// for _ in 0..100 {
///     for record in consumer.next().await? {
///         println!("{}-{}: {:?}", record.partition, record.offset, record.value);
///     }
/// }
/// consumer.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct GroupConsumer {
    consumer: Consumer,
    desk: Arc<Desk>,
    events: mpsc::UnboundedSender<Event>,
    /// Taken from the consumer for the stream, and not handed out.
    taken: std::vec::IntoIter<ConsumedRecord>,
    leaving: Leaving,
    close_timeout: Duration,
    driver: JoinHandle<()>,
}

impl Consumer {
    /// Joins a group and reads what it assigns, of these topics. Starts tasks: must be called within
    /// a tokio runtime. What keeps the member from joining is told by [`GroupConsumer::next`].
    ///
    /// # Errors
    /// [`ClientError::InvalidGroup`]: options that make no sense.
    pub fn subscribe(
        client: &Client,
        topics: impl Into<Topics>,
        options: GroupOptions,
    ) -> Result<GroupConsumer, ClientError> {
        let topics = topics.into();
        options.check(&topics)?;
        let consumer = Self::new(client, options.consumer.clone());
        let desk = Arc::new(Desk::new(consumer.shared()));
        // Bounded by what is on its way, and by what callers wait for.
        let (events, happened) = mpsc::unbounded_channel();
        let is_static = options.instance.is_some();
        let leaving = if is_static { Leaving::ToComeBack } else { Leaving::ForGood };
        let close_timeout = client.options().timeout.saturating_mul(2);
        let line = Line {
            client: client.clone(),
            options: Arc::new(options),
            channel: client.new_channel(),
        };
        let driver = Driver::new(line, desk.clone(), events.clone(), topics);
        let driver = tokio::spawn(driver.run(happened));
        let taken = Vec::new().into_iter();
        Ok(GroupConsumer { consumer, desk, events, taken, leaving, close_timeout, driver })
    }
}

impl GroupConsumer {
    /// The next records, of one partition, at least one; waits for them. Dropping this future loses
    /// nothing.
    ///
    /// # Errors
    /// As [`Consumer::next`]; beside that the group cannot be joined, nothing is committed of a
    /// partition ([`ClientError::NoCommittedOffset`]), the caller was away for too long
    /// ([`ClientError::NotPolled`]), or another member took over the instance id. It is tried on,
    /// but for the last.
    pub async fn next(&mut self) -> Result<Vec<ConsumedRecord>, ClientError> {
        let polling = Polling { consumer: self };
        std::future::poll_fn(|cx| polling.consumer.poll_batch(cx)).await
    }

    /// As [`GroupConsumer::next`], but waits at most so long: then there are no records.
    ///
    /// # Errors
    /// As [`GroupConsumer::next`].
    ///
    /// ```no_run
    /// # async fn example(mut consumer: sawlog_client::GroupConsumer) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// let records = consumer.poll(Duration::from_secs(1)).await?;
    /// println!("{} records", records.len());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn poll(&mut self, timeout: Duration) -> Result<Vec<ConsumedRecord>, ClientError> {
        match tokio::time::timeout(timeout, self.next()).await {
            Ok(records) => records,
            Err(_) => Ok(Vec::new()),
        }
    }

    /// The records one by one, as a `futures::Stream` without an end. Each counts as processed when
    /// the next one is asked for. Records are committed from beside it by a
    /// [`GroupConsumer::committer`].
    ///
    /// ```no_run
    /// # async fn example(mut consumer: sawlog_client::GroupConsumer) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::future::poll_fn;
    /// use std::pin::pin;
    /// use futures_core::Stream as _;
    ///
    /// let committer = consumer.committer();
    /// let mut stream = pin!(consumer.stream());
    /// while let Some(record) = poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
    ///     let record = record?;
    ///     // ... the work ...
    ///     drop(committer.commit_record(&record));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn stream(&mut self) -> GroupStream<'_> {
        GroupStream::new(self)
    }

    /// Commits everything that was handed out: when all of it is processed. Awaited, it is known what
    /// came of it; dropped, it goes on by itself.
    ///
    /// What is no longer the member's is left out, because others go on with it: after partitions were
    /// lost this may be all of it, and the commit is `Ok` with nothing to commit. Who has to know that
    /// records were committed by this member commits them by name
    /// ([`GroupConsumer::commit_record`], [`GroupConsumer::commit_offsets`]), which is refused then, or
    /// listens to what is lost ([`RebalanceListener::lost`]).
    ///
    /// ```no_run
    /// # async fn example(mut consumer: sawlog_client::GroupConsumer) -> Result<(), Box<dyn std::error::Error>> {
    /// let records = consumer.next().await?;
    /// // ... the work ...
    /// match consumer.commit().await {
    ///     Ok(()) => println!("{} records are done", records.len()),
    ///     Err(error) if error.is_member() => println!("later: {error}"),
    ///     Err(error) => println!("another member repeats them: {error}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn commit(&self) -> Commit {
        self.committer().commit()
    }

    /// Commits one record and everything before it in its partition.
    ///
    /// ```no_run
    /// # async fn example(mut consumer: sawlog_client::GroupConsumer) -> Result<(), Box<dyn std::error::Error>> {
    /// for record in consumer.next().await? {
    ///     // ... the work ...
    ///     consumer.commit_record(&record).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn commit_record(&self, record: &ConsumedRecord) -> Commit {
        self.committer().commit_record(record)
    }

    /// Commits these offsets.
    ///
    /// ```no_run
    /// # async fn example(mut consumer: sawlog_client::GroupConsumer) -> Result<(), Box<dyn std::error::Error>> {
    /// use sawlog_client::CommitOffset;
    ///
    /// let records = consumer.next().await?;
    /// if let Some(last) = records.last() {
    ///     let noted = CommitOffset { metadata: "all well".to_owned(), ..CommitOffset::from(last) };
    ///     consumer.commit_offsets(&[noted]).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn commit_offsets(&self, offsets: &[CommitOffset]) -> Commit {
        self.committer().commit_offsets(offsets)
    }

    /// To commit from elsewhere.
    #[must_use]
    pub fn committer(&self) -> Committer {
        Committer { events: self.events.clone(), desk: self.desk.clone() }
    }

    /// Subscribes to other topics instead.
    ///
    /// # Errors
    /// [`ClientError::Closed`]: another member took over the instance id.
    ///
    /// ```no_run
    /// # async fn example(mut consumer: sawlog_client::GroupConsumer) -> Result<(), Box<dyn std::error::Error>> {
    /// consumer.resubscribe(["orders", "returns"])?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn resubscribe(&self, topics: impl Into<Topics>) -> Result<(), ClientError> {
        let sent = self.events.send(Event::Subscribe(topics.into()));
        sent.map_err(|_| ClientError::Closed)
    }

    /// Reads a partition on from elsewhere, as [`Consumer::seek`]. An offset before what is committed
    /// is read again, and not committed again.
    ///
    /// # Errors
    /// The partition is not assigned.
    ///
    /// ```no_run
    /// # async fn example(mut consumer: sawlog_client::GroupConsumer) -> Result<(), Box<dyn std::error::Error>> {
    /// use sawlog_client::Position;
    ///
    /// consumer.seek("orders", 0, Position::BeforeEnd(100))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn seek(&mut self, topic: &str, partition: i32, to: Position) -> Result<(), ClientError> {
        let of = |record: &ConsumedRecord| *record.topic == *topic && record.partition == partition;
        if self.taken.as_slice().first().is_some_and(of) {
            self.taken = Vec::new().into_iter();
            self.desk.forget();
        }
        self.consumer.seek(topic, partition, to)
    }

    /// As [`Consumer::pause`]. A partition that changes hands is no longer paused.
    ///
    /// # Errors
    /// The partition is not assigned.
    pub fn pause(&self, topic: &str, partition: i32) -> Result<(), ClientError> {
        self.consumer.pause(topic, partition)
    }

    /// As [`Consumer::resume`].
    ///
    /// # Errors
    /// The partition is not assigned.
    pub fn resume(&self, topic: &str, partition: i32) -> Result<(), ClientError> {
        self.consumer.resume(topic, partition)
    }

    /// Every partition of this member with the offset behind what was handed out, as far as it is
    /// known.
    #[must_use]
    pub fn positions(&self) -> Vec<(Arc<str>, i32, i64)> {
        let progress = self.desk.progress(Extent::Delivered);
        progress.into_iter().map(|((topic, index), place)| (topic, index, place.offset)).collect()
    }

    /// How far behind each partition of this member is, by what the brokers said last.
    ///
    /// ```no_run
    /// # async fn example(mut consumer: sawlog_client::GroupConsumer) -> Result<(), Box<dyn std::error::Error>> {
    /// let behind: i64 = consumer.lag().iter().map(|one| one.records).sum();
    /// println!("{behind} records behind");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn lag(&self) -> Vec<Lag> {
        self.consumer.lag()
    }

    /// The id the coordinator knows the member by, and the generation of the group (in the consumer
    /// protocol the member's epoch) it is in; `None` outside.
    ///
    /// ```no_run
    /// # async fn example(mut consumer: sawlog_client::GroupConsumer) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Some((id, generation)) = consumer.member() {
    ///     println!("{id} in generation {generation}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn member(&self) -> Option<(Arc<str>, i32)> {
        let identity = self.desk.identity();
        (identity.generation >= 0).then_some((identity.member, identity.generation))
    }

    /// Leaves the group: commits what was handed out, unless only the caller commits, has the listener
    /// told, and says goodbye, so that others go on at once. A static member says nothing: it may be
    /// back.
    ///
    /// # Errors
    /// What was handed out last could not be committed; the member is gone all the same.
    ///
    /// ```no_run
    /// # async fn example(mut consumer: sawlog_client::GroupConsumer) -> Result<(), Box<dyn std::error::Error>> {
    /// consumer.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn close(mut self) -> Result<(), CommitError> {
        self.desk.leave();
        let (answer, outcome) = oneshot::channel();
        let closing = Event::Close { leaving: self.leaving, answer };
        if self.events.send(closing).is_err() {
            return Ok(());
        }
        let closed = CommitError::Failed(ClientError::Closed);
        match tokio::time::timeout(self.close_timeout, outcome).await {
            Ok(Ok(outcome)) => {
                // It ends by itself now.
                let _ended = (&mut self.driver).await;
                outcome
            }
            Ok(Err(_)) | Err(_) => Err(closed),
        }
    }

    /// The rest of what was taken, else what the consumer has.
    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Vec<ConsumedRecord>, ClientError>> {
        let first = std::task::ready!(self.poll_taken(cx))?;
        let key = (first.topic.clone(), first.partition);
        let from = Place { offset: first.offset, epoch: -1 };
        let mut all = Vec::with_capacity(1 + self.taken.len());
        all.push(first);
        all.extend(std::mem::take(&mut self.taken));
        self.desk.hand_out(key, from, None);
        Poll::Ready(Ok(all))
    }

    /// The next record.
    fn poll_record(&mut self, cx: &mut Context<'_>) -> Poll<Result<ConsumedRecord, ClientError>> {
        let record = std::task::ready!(self.poll_taken(cx))?;
        let key = (record.topic.clone(), record.partition);
        let from = Place { offset: record.offset, epoch: -1 };
        let behind = Place { offset: record.offset + 1, epoch: record.leader_epoch };
        let is_last = self.taken.as_slice().is_empty();
        self.desk.hand_out(key, from, (!is_last).then_some(behind));
        Poll::Ready(Ok(record))
    }

    /// The first of what was taken; takes more if there is nothing.
    fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<Result<ConsumedRecord, ClientError>> {
        let turn = self.desk.begin(!self.taken.as_slice().is_empty(), cx.waker());
        if self.desk.discards() {
            self.taken = Vec::new().into_iter();
        }
        if turn? == Turn::Wait {
            return Poll::Pending;
        }
        loop {
            if let Some(record) = self.taken.next() {
                return Poll::Ready(Ok(record));
            }
            match self.consumer.poll_records(cx) {
                Poll::Ready(Ok(Some(records))) => self.taken = records.into_iter(),
                Poll::Ready(Ok(None)) | Poll::Pending => {
                    self.desk.wait();
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => {
                    self.desk.stop_waiting();
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}

impl Drop for GroupConsumer {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A request for records: when it is dropped, nobody waits for them.
struct Polling<'a> {
    consumer: &'a mut GroupConsumer,
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.consumer.desk.stop_waiting();
    }
}
