//! Reading partitions by assignment: no group, no committed offsets.
//!
//! A task per leading broker fetches ahead, at most a few replies; the consumer hands records out in
//! the order of their partition. An offset that is not in the log is an error, never a silent jump.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use sawlog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use sawlog_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use sawlog_protocol::records::{Batch, split};
use sawlog_protocol::{ErrorCode, decode_response};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cluster::Client;
use crate::error::{ClientError, check};

/// Newest Fetch version that names topics by name.
const FETCH_BY_NAME: i16 = 12;

/// Fetched replies kept ahead of the reader.
const PREFETCH: usize = 4;

/// Bytes of one fetch, over all partitions and for each.
const FETCH_BYTES: i32 = 16 * 1024 * 1024;
const PARTITION_BYTES: i32 = 4 * 1024 * 1024;

/// Most bytes the records of one batch inflate to.
const INFLATED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Longest wait of the broker for new records.
const WAIT: Duration = Duration::from_millis(500);

/// Pause before a failed fetch is tried again.
const BACKOFF: Duration = Duration::from_millis(100);

/// Where to begin, or to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// At the first record there is.
    Start,
    /// Behind the last record there is.
    End,
    /// At this offset.
    Offset(i64),
    /// This many records after the first.
    AfterStart(i64),
    /// This many records before the end.
    BeforeEnd(i64),
    /// At the first record with this timestamp, in milliseconds since the Unix epoch, or later.
    Time(i64),
}

/// A partition to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Where to begin.
    pub from: Position,
    /// Where to stop; `None` to go on for ever.
    pub until: Option<Position>,
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// The topic.
    pub topic: std::sync::Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, in milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// Its key; `None` for null.
    pub key: Option<Bytes>,
    /// Its value; `None` for null.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// One partition on its way.
#[derive(Debug)]
struct Progress {
    topic: std::sync::Arc<str>,
    partition: i32,
    next: i64,
    /// Exclusive.
    until: Option<i64>,
}

type Fetched = Result<(usize, Bytes), ClientError>;

/// Reads the partitions assigned to it.
#[derive(Debug)]
pub struct Consumer {
    progress: Vec<Progress>,
    /// Partitions not at their end yet.
    open: usize,
    fetched: mpsc::Receiver<Fetched>,
    fetchers: Vec<JoinHandle<()>>,
}

impl Consumer {
    /// Resolves where to begin and end, and starts to fetch.
    ///
    /// # Errors
    /// A topic or partition does not exist, or no broker answers.
    pub async fn assign(client: &Client, assignments: &[Assignment]) -> Result<Self, ClientError> {
        let mut progress = Vec::with_capacity(assignments.len());
        for one in assignments {
            let next = resolve(client, one, one.from).await?;
            let until = match one.until {
                Some(position) => Some(resolve(client, one, position).await?),
                None => None,
            };
            let topic = std::sync::Arc::from(one.topic.as_str());
            progress.push(Progress { topic, partition: one.partition, next, until });
        }
        let is_open = |p: &Progress| p.until.is_none_or(|until| p.next < until);
        let open = progress.iter().filter(|p| is_open(p)).count();
        let mut by_leader: HashMap<i32, Vec<usize>> = HashMap::new();
        for (at, one) in progress.iter().enumerate().filter(|(_, one)| is_open(one)) {
            let info = client.topic(&one.topic).await?;
            let found = info.partitions.iter().find(|known| known.index == one.partition);
            by_leader.entry(found.map_or(-1, |known| known.leader)).or_default().push(at);
        }
        let (sender, fetched) = mpsc::channel(PREFETCH);
        let fetchers = by_leader
            .into_values()
            .map(|members| {
                let targets = members
                    .into_iter()
                    .filter_map(|at| {
                        let one = progress.get(at)?;
                        Some(Target {
                            at,
                            topic: one.topic.clone(),
                            partition: one.partition,
                            next: one.next,
                            until: one.until,
                        })
                    })
                    .collect();
                tokio::spawn(fetch_all(client.clone(), targets, sender.clone()))
            })
            .collect();
        Ok(Self { progress, open, fetched, fetchers })
    }

    /// The next records, of one partition; `None` once every partition is at its end.
    ///
    /// # Errors
    /// A read failed for good: offset out of range, topic gone, unreadable records.
    pub async fn next(&mut self) -> Result<Option<Vec<ConsumedRecord>>, ClientError> {
        while self.open > 0 {
            let Some(fetched) = self.fetched.recv().await else { return Err(ClientError::Closed) };
            let (at, bytes) = fetched?;
            let records = self.take(at, &bytes)?;
            if !records.is_empty() {
                return Ok(Some(records));
            }
        }
        Ok(None)
    }

    fn take(&mut self, at: usize, bytes: &Bytes) -> Result<Vec<ConsumedRecord>, ClientError> {
        let Some(progress) = self.progress.get_mut(at) else { return Ok(Vec::new()) };
        let was_open = progress.until.is_none_or(|until| progress.next < until);
        let mut records = Vec::new();
        let unreadable = |offset: i64, reason: String| ClientError::Unreadable {
            topic: progress.topic.to_string(),
            partition: progress.partition,
            offset,
            reason,
        };
        let mut next = progress.next;
        for batch in split(bytes) {
            let (header, bytes) = batch.map_err(|error| unreadable(next, error.to_string()))?;
            let base = header.base_offset;
            if !header.is_control() {
                let batch = Batch::parse(bytes)
                    .and_then(|batch| batch.records(INFLATED_BYTES_MAX))
                    .map_err(|error| unreadable(base, error.to_string()))?;
                for record in batch {
                    let record = record.map_err(|error| unreadable(base, error.to_string()))?;
                    let beyond = progress.until.is_some_and(|until| record.offset >= until);
                    if record.offset < progress.next || beyond {
                        continue;
                    }
                    records.push(ConsumedRecord {
                        topic: progress.topic.clone(),
                        partition: progress.partition,
                        offset: record.offset,
                        timestamp: record.timestamp,
                        key: record.key,
                        value: record.value,
                        headers: record.headers,
                    });
                }
            }
            next = header.next_offset();
        }
        progress.next = progress.next.max(next);
        if was_open && progress.until.is_some_and(|until| progress.next >= until) {
            self.open -= 1;
        }
        Ok(records)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        for fetcher in &self.fetchers {
            fetcher.abort();
        }
    }
}

/// One partition of a fetcher.
#[derive(Debug)]
struct Target {
    at: usize,
    topic: std::sync::Arc<str>,
    partition: i32,
    next: i64,
    until: Option<i64>,
}

/// Fetches for the partitions of one broker until the consumer is gone or all are at their end.
async fn fetch_all(client: Client, mut targets: Vec<Target>, sender: mpsc::Sender<Fetched>) {
    while !targets.is_empty() {
        match fetch_once(&client, &mut targets, &sender).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) if error.is_retriable() => {
                tokio::time::sleep(BACKOFF).await;
                if let Some(target) = targets.first() {
                    // Fails while the broker is away; the next round says so again.
                    let _refreshed = client.refresh(&target.topic).await;
                }
            }
            Err(error) => {
                // Nobody to tell if the consumer is gone.
                let _gone = sender.send(Err(error)).await;
                return;
            }
        }
        targets.retain(|target| target.until.is_none_or(|until| target.next < until));
        // Served partitions go last, so that none starves behind the limit of one reply.
        let served = usize::from(!targets.is_empty());
        targets.rotate_left(served);
    }
}

/// One round; false once nobody listens.
async fn fetch_once(
    client: &Client,
    targets: &mut [Target],
    sender: &mpsc::Sender<Fetched>,
) -> Result<bool, ClientError> {
    let Some(first) = targets.first() else { return Ok(true) };
    let connection = client.leader(&first.topic, first.partition).await?;
    let names: Vec<std::sync::Arc<str>> = targets.iter().map(|t| t.topic.clone()).collect();
    let request = FetchRequest {
        max_wait_ms: i32::try_from(WAIT.as_millis()).unwrap_or(i32::MAX),
        min_bytes: 1,
        max_bytes: FETCH_BYTES,
        session_epoch: -1,
        topics: targets
            .iter()
            .zip(&names)
            .map(|(target, name)| FetchTopic {
                topic: name,
                partitions: vec![FetchPartition {
                    partition: target.partition,
                    fetch_offset: target.next,
                    partition_max_bytes: PARTITION_BYTES,
                    ..Default::default()
                }],
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let timeout = connection.timeout() + WAIT;
    let reply = connection.call_up_to(&request, FETCH_BY_NAME, timeout).await?;
    let (_, response) = decode_response::<FetchRequest<'_>>(&reply.frame, reply.version)?;
    check(response.error_code, None)?;
    for topic in &response.responses {
        for part in &topic.partitions {
            let found = targets
                .iter_mut()
                .find(|t| *t.topic == *topic.topic && t.partition == part.partition_index);
            let Some(target) = found else { continue };
            check_partition(target, part.error_code)?;
            let Some(bytes) = part.records.as_ref().filter(|bytes| !bytes.is_empty()) else {
                continue;
            };
            if let Some(Ok((header, _))) = split(bytes).last() {
                target.next = target.next.max(header.next_offset());
            }
            if sender.send(Ok((target.at, bytes.clone()))).await.is_err() {
                return Ok(false);
            }
        }
    }
    Ok(!sender.is_closed())
}

fn check_partition(target: &Target, code: ErrorCode) -> Result<(), ClientError> {
    match code {
        ErrorCode::OFFSET_OUT_OF_RANGE => Err(ClientError::broker(
            code,
            Some(&format!(
                "offset {} is not in {}-{}: it was deleted, or never written",
                target.next, target.topic, target.partition
            )),
        )),
        code => check(code, None),
    }
}

/// The offset a position means right now.
async fn resolve(client: &Client, of: &Assignment, position: Position) -> Result<i64, ClientError> {
    let ask = |timestamp| client.offset_for(&of.topic, of.partition, timestamp);
    Ok(match position {
        Position::Start => ask(EARLIEST).await?.unwrap_or(0),
        Position::End => ask(LATEST).await?.unwrap_or(0),
        Position::Offset(offset) => offset,
        Position::AfterStart(count) => ask(EARLIEST).await?.unwrap_or(0).saturating_add(count),
        Position::BeforeEnd(count) => {
            let start = ask(EARLIEST).await?.unwrap_or(0);
            ask(LATEST).await?.unwrap_or(0).saturating_sub(count).max(start)
        }
        Position::Time(timestamp) => match ask(timestamp).await? {
            Some(offset) => offset,
            None => ask(LATEST).await?.unwrap_or(0),
        },
    })
}

/// Timestamps of ListOffsets with a meaning of their own.
pub(crate) const LATEST: i64 = -1;
pub(crate) const EARLIEST: i64 = -2;

impl Client {
    /// The first offset with at least this timestamp (ListOffsets); `None` if there is none.
    pub(crate) async fn offset_for(
        &self,
        topic: &str,
        partition: i32,
        timestamp: i64,
    ) -> Result<Option<i64>, ClientError> {
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: topic,
                partitions: vec![ListOffsetsPartition {
                    partition_index: partition,
                    timestamp,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        let reply = self.leader(topic, partition).await?.call(&request).await?;
        let (_, response) = decode_response::<ListOffsetsRequest<'_>>(&reply.frame, reply.version)?;
        let found = response.topics.first().and_then(|topic| topic.partitions.first());
        let Some(found) = found else { return Ok(None) };
        check(found.error_code, None)?;
        Ok((found.offset >= 0).then_some(found.offset))
    }
}
