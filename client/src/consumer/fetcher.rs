//! The fetching task of a consumer: keeps a fetch on its way to every broker that leads a partition
//! with room for more.
//!
//! It owns connections and sessions, and asks beside itself what takes long: connecting, metadata,
//! offsets by time, ends of epochs. What comes back is for the generation it was asked for; a seek
//! meanwhile makes it void. An offset that is not in the log is never replaced silently.

mod answers;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sawlog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use sawlog_protocol::{ApiKey, ErrorCode};
use tokio::sync::mpsc;

use super::Shared;
use super::board::{Board, Entry, Ready, State};
use super::options::Position;
use super::session::{Ask, PartitionKey, Plan, Session};
use crate::backoff::{Backoff, Random};
use crate::cluster::Channel;
use crate::connection::{Connection, Outcome};
use crate::error::ClientError;

/// Newest Fetch version that names topics by name.
const FETCH_BY_NAME: i16 = 12;

/// Least bytes asked for of a partition, however many there are.
const HALF_SHARE_MIN: usize = 16 * 1024;

/// What happened beside the task.
#[derive(Debug)]
enum Event {
    Connected { node: i32, outcome: Result<Connection, ClientError> },
    Answered { node: i32, outcome: Outcome },
    Resolved { of: Of, outcome: Result<i64, ClientError> },
    Validated { of: Of, outcome: Result<Option<i64>, ClientError> },
    Refreshed,
}

/// A partition at one generation.
#[derive(Clone, Copy, Debug)]
struct Of {
    id: usize,
    generation: u64,
}

/// A broker.
#[derive(Debug, Default)]
struct Node {
    connection: Option<Connection>,
    is_connecting: bool,
    session: Session,
    fetch: Option<Fetch>,
    not_before: Option<Instant>,
    failures: u32,
}

/// A fetch on its way.
#[derive(Debug)]
struct Fetch {
    version: i16,
    began: Instant,
    deadline: Instant,
    /// Most bytes it may bring.
    reserved: usize,
    asked: HashMap<PartitionKey, (Of, i64)>,
}

/// The state of the task.
#[derive(Debug)]
pub(crate) struct Fetcher {
    shared: Arc<Shared>,
    channel: Channel,
    events: mpsc::UnboundedSender<Event>,
    nodes: HashMap<i32, Node>,
    stale_topics: HashSet<Arc<str>>,
    is_refreshing: bool,
    backoff: Backoff,
    random: Random,
    next_timer: Instant,
}

/// What was wanted of the brokers by one look at the board.
#[derive(Debug, Default)]
struct Wants {
    fetches: HashMap<i32, Vec<(PartitionKey, Ask, Of)>>,
    resolves: Vec<(Of, PartitionKey, Position)>,
    validations: Vec<(Of, PartitionKey, (i32, i32))>,
}

/// Runs until the consumer is gone.
pub(crate) async fn run(shared: Arc<Shared>) {
    // Bounded by what is on its way: one fetch a broker, one question a partition.
    let (events, mut happened) = mpsc::unbounded_channel();
    let mut fetcher = Fetcher::new(shared.clone(), events);
    loop {
        tokio::select! {
            // Dropping any of these loses nothing: events stay, and a wake-up leaves a permit.
            event = happened.recv() => {
                let mut event = event;
                while let Some(one) = event {
                    fetcher.handle(one, Instant::now());
                    event = happened.try_recv().ok();
                }
            }
            () = shared.fetcher.notified() => {}
            () = tokio::time::sleep_until(fetcher.next_timer.into()) => {}
        }
        fetcher.advance(Instant::now());
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.shared.client.release(self.channel);
    }
}

impl Fetcher {
    fn new(shared: Arc<Shared>, events: mpsc::UnboundedSender<Event>) -> Self {
        let longest = shared.options.retry_backoff_max;
        Self {
            channel: shared.client.new_channel(),
            shared,
            events,
            nodes: HashMap::new(),
            stale_topics: HashSet::new(),
            is_refreshing: false,
            backoff: Backoff { first: longest / 50, longest },
            random: Random::new(),
            next_timer: Instant::now(),
        }
    }

    /// Asks for whatever can be asked for now.
    fn advance(&mut self, now: Instant) {
        self.next_timer = now + Duration::from_secs(1);
        self.give_up_on_silence(now);
        let shared = self.shared.clone();
        let wants = self.look(&mut shared.board(), now);
        for (of, key, position) in wants.resolves {
            self.resolve(of, key, position);
        }
        for (of, key, epochs) in wants.validations {
            self.validate(of, key, epochs);
        }
        for (node, wanted) in wants.fetches {
            self.fetch(node, &wanted, now);
        }
        self.refresh();
    }

    fn look(&mut self, board: &mut Board, now: Instant) -> Wants {
        let mut wants = Wants::default();
        let count = board.entries().count().max(1);
        let options = &self.shared.options;
        // Half of a partition's share may be on its way while the other is not read: so no partition,
        // paused or slow, takes the room of others.
        let half_share = (options.prefetch_bytes / count / 2).max(HALF_SHARE_MIN);
        let bytes_max = options.partition_bytes.min(half_share);
        let mut is_full = false;
        let ids: Vec<usize> = board.entries().map(|(id, _)| id).collect();
        for id in ids {
            let Some(entry) = board.entry_mut(id) else { continue };
            if let Some(not_before) = entry.not_before.filter(|at| *at > now) {
                self.next_timer = self.next_timer.min(not_before);
                continue;
            }
            let of = Of { id, generation: entry.generation };
            if entry.is_asking {
                continue;
            }
            match entry.state {
                State::Resolving(position) => {
                    entry.is_asking = true;
                    wants.resolves.push((of, entry.key.clone(), position));
                }
                State::Validating => {
                    entry.is_asking = true;
                    // Another leader since it was first asked: this one refuses the former epoch.
                    entry.leader_epoch = entry.leader_epoch.max(self.known_epoch(&entry.key));
                    let epochs = (entry.leader_epoch, entry.last_epoch);
                    wants.validations.push((of, entry.key.clone(), epochs));
                }
                State::Fetching if entry.is_fetched() || entry.is_paused => {}
                State::Fetching if entry.buffered > half_share => is_full = true,
                State::Fetching => {
                    match self.target(entry, bytes_max, now) {
                        Ok(Some((node, ask))) => {
                            let wanted = (entry.key.clone(), ask, of);
                            wants.fetches.entry(node).or_default().push(wanted);
                        }
                        // Its new leader is asked about the past first.
                        Ok(None) => {
                            entry.is_asking = true;
                            let epochs = (entry.leader_epoch, entry.last_epoch);
                            wants.validations.push((of, entry.key.clone(), epochs));
                        }
                        Err(error) => {
                            let failure = self.failed(entry, error, now);
                            if let Some(ready) = failure.map(|error| of.failure(error)) {
                                board.push(ready);
                                self.shared.wake_reader();
                            }
                        }
                    }
                }
                State::Stopped => {}
            }
        }
        board.waits_for_reader |= is_full;
        wants
    }

    /// The epoch of a partition's leader as far as is known, -1 if it is not.
    fn known_epoch(&self, (topic, index): &PartitionKey) -> i32 {
        let (info, _, _) = self.shared.client.cached(topic);
        info.and_then(|info| Some(info.partition(*index)?.leader_epoch)).unwrap_or(-1)
    }

    /// Whom to ask, and what; `None` if a new leader's log has to be compared first.
    fn target(
        &mut self,
        entry: &mut Entry,
        bytes_max: usize,
        now: Instant,
    ) -> Result<Option<(i32, Ask)>, ClientError> {
        let (topic, index) = (&entry.key.0, entry.key.1);
        let (info, is_fresh, _) = self.shared.client.cached(topic);
        if !is_fresh {
            self.stale_topics.insert(topic.clone());
        }
        let info = info.ok_or_else(|| ClientError::UnknownTopic(topic.to_string()))?;
        let partition = info.partition(index).filter(|partition| partition.leader >= 0);
        let partition =
            partition.ok_or_else(|| ClientError::broker(ErrorCode::LEADER_NOT_AVAILABLE, None))?;
        if partition.leader_epoch > entry.leader_epoch {
            let is_first = entry.leader_epoch < 0;
            entry.leader_epoch = partition.leader_epoch;
            if !is_first && entry.last_epoch >= 0 {
                entry.state = State::Validating;
                return Ok(None);
            }
        }
        entry.read_from = entry.read_from.filter(|(_, until)| *until > now);
        let node = entry.read_from.map_or(partition.leader, |(replica, _)| replica);
        let bytes_max = i32::try_from(bytes_max).unwrap_or(i32::MAX);
        let ask = Ask { offset: entry.fetch_offset, leader_epoch: entry.leader_epoch, bytes_max };
        Ok(Some((node, ask)))
    }

    /// Notes a failure that may pass. Returns it if the reader should know: it has lasted as long as
    /// a request may take.
    fn failed(
        &mut self,
        entry: &mut Entry,
        error: ClientError,
        now: Instant,
    ) -> Option<ClientError> {
        self.stale_topics.insert(entry.key.0.clone());
        entry.failures = entry.failures.saturating_add(1);
        let until = now + self.backoff.pause(entry.failures, &mut self.random);
        entry.not_before = Some(until);
        self.next_timer = self.next_timer.min(until);
        let since = *entry.failing_since.get_or_insert(now);
        if now.saturating_duration_since(since) < self.shared.client.options().timeout {
            return None;
        }
        entry.failing_since = Some(now);
        Some(error)
    }

    fn give_up_on_silence(&mut self, now: Instant) {
        for node in self.nodes.values_mut() {
            let Some(deadline) = node.fetch.as_ref().map(|fetch| fetch.deadline) else { continue };
            if deadline > now {
                self.next_timer = self.next_timer.min(deadline);
            } else if let Some(connection) = node.connection.take() {
                // The lost answer comes back as an event.
                connection.close("it does not answer");
            }
        }
    }

    fn fetch(&mut self, id: i32, wanted: &[(PartitionKey, Ask, Of)], now: Instant) {
        let reserved: usize =
            self.nodes.values().filter_map(|node| Some(node.fetch.as_ref()?.reserved)).sum();
        let node = self.nodes.entry(id).or_default();
        if node.fetch.is_some() {
            return;
        }
        if let Some(not_before) = node.not_before.filter(|at| *at > now) {
            self.next_timer = self.next_timer.min(not_before);
            return;
        }
        let Some(connection) = node.connection.clone().filter(Connection::is_open) else {
            return self.connect(id);
        };
        let options = &self.shared.options;
        let room = {
            let mut board = self.shared.board();
            let room = options.prefetch_bytes.saturating_sub(board.buffered + reserved);
            // With something at hand there is no hurry to fetch a little.
            if board.buffered > 0 && room < options.partition_bytes.min(options.prefetch_bytes / 4)
            {
                board.waits_for_reader = true;
                return;
            }
            room
        };
        let reserved = options.fetch_bytes.min(room.max(1));
        let asks: Vec<(PartitionKey, Ask)> =
            wanted.iter().map(|(key, ask, _)| (key.clone(), *ask)).collect();
        let plan = node.session.plan(&asks);
        let version = connection.version(ApiKey::Fetch, FETCH_BY_NAME);
        let events = self.events.clone();
        let answer = Box::new(move |outcome| {
            // Without the task nobody waits for it.
            drop(events.send(Event::Answered { node: id, outcome }));
        });
        let rack = self.shared.client.options().rack.as_deref().unwrap_or_default();
        let request = request(&plan, options, reserved, rack);
        let sent = version.and_then(|version| {
            connection.send(&request, version, answer)?;
            Ok(version)
        });
        match sent {
            Ok(version) => {
                let deadline = now + self.shared.client.options().timeout + options.fetch_wait;
                let asked = wanted.iter().map(|(key, ask, of)| (key.clone(), (*of, ask.offset)));
                let asked = asked.collect();
                node.fetch = Some(Fetch { version, began: now, deadline, reserved, asked });
            }
            Err(error) => {
                node.session.reset();
                let asked = wanted.iter().map(|(_, _, of)| *of).collect();
                self.node_failed(id, asked, &error, now);
            }
        }
    }

    fn connect(&mut self, id: i32) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if std::mem::replace(&mut node.is_connecting, true) {
            return;
        }
        node.session.reset();
        node.connection = None;
        let (client, channel) = (self.shared.client.clone(), self.channel);
        let events = self.events.clone();
        tokio::spawn(async move {
            let outcome = client.broker(id, channel).await;
            drop(events.send(Event::Connected { node: id, outcome }));
        });
    }

    fn resolve(&self, of: Of, key: PartitionKey, position: Position) {
        let (client, events) = (self.shared.client.clone(), self.events.clone());
        tokio::spawn(async move {
            let outcome = client.offset_of(&key.0, key.1, position).await;
            drop(events.send(Event::Resolved { of, outcome }));
        });
    }

    fn validate(&self, of: Of, key: PartitionKey, epochs: (i32, i32)) {
        let (client, events) = (self.shared.client.clone(), self.events.clone());
        tokio::spawn(async move {
            let outcome = client.end_of_epoch(&key.0, key.1, epochs).await;
            drop(events.send(Event::Validated { of, outcome }));
        });
    }

    fn refresh(&mut self) {
        if self.stale_topics.is_empty() || std::mem::replace(&mut self.is_refreshing, true) {
            return;
        }
        let topics = std::mem::take(&mut self.stale_topics);
        let (client, events) = (self.shared.client.clone(), self.events.clone());
        tokio::spawn(async move {
            let names: Vec<&str> = topics.iter().map(|name| &**name).collect();
            // Fails while no broker answers; partitions come back here after their pause.
            let _refreshed = client.refresh_many(&names).await;
            drop(events.send(Event::Refreshed));
        });
    }
}

impl From<(usize, &Entry)> for Of {
    fn from((id, entry): (usize, &Entry)) -> Self {
        Self { id, generation: entry.generation }
    }
}

impl Of {
    fn failure(self, error: ClientError) -> Ready {
        Ready::Failure { id: self.id, generation: self.generation, error }
    }
}

fn request<'a>(
    plan: &'a Plan,
    options: &super::ConsumerOptions,
    bytes_max: usize,
    rack_id: &'a str,
) -> FetchRequest<'a> {
    let int = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
    let mut topics: Vec<FetchTopic<'_>> = Vec::new();
    for ((topic, partition), ask) in &plan.asked {
        if topics.last().is_none_or(|last| *last.topic != **topic) {
            topics.push(FetchTopic { topic, ..Default::default() });
        }
        let Some(last) = topics.last_mut() else { continue };
        last.partitions.push(FetchPartition {
            partition: *partition,
            current_leader_epoch: ask.leader_epoch,
            fetch_offset: ask.offset,
            partition_max_bytes: ask.bytes_max,
            ..Default::default()
        });
    }
    let forgotten = plan.forgotten.iter().map(|(topic, partition)| ForgottenTopic {
        topic,
        partitions: vec![*partition],
        ..Default::default()
    });
    FetchRequest {
        max_wait_ms: i32::try_from(options.fetch_wait.as_millis()).unwrap_or(i32::MAX),
        min_bytes: int(options.fetch_min_bytes),
        max_bytes: int(bytes_max),
        session_id: plan.session_id,
        session_epoch: plan.session_epoch,
        topics,
        forgotten_topics_data: forgotten.collect(),
        rack_id,
        ..Default::default()
    }
}
