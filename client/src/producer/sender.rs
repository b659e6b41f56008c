//! The producer's task: takes batches from their queues to the brokers, and answers back.
//!
//! One task owns all lanes and brokers, so nothing here is shared or locked for longer than a look
//! into a queue. It never waits for one broker: connecting, asking for metadata and for ids run
//! beside it and come back as events. A lane that has something to send stands in the line of its
//! leader; a broker with room takes one batch of each lane in line.

mod answers;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::Acks;
use super::Shared;
use super::batch::Identity;
use super::lane::Lane;
use super::node::{Node, Request};
use super::queue::PartitionQueue;
use super::request::{self, Part};
use crate::backoff::{Backoff, Random, RetryBudget};
use crate::cluster::Channel;
use crate::connection::{Connection, Outcome};
use crate::error::ClientError;

/// Batches of one request, in bytes; a single larger one goes alone.
const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What happened beside the task.
#[derive(Debug)]
pub(crate) enum Event {
    Connected {
        node: i32,
        outcome: Result<Connection, ClientError>,
    },
    Answered {
        node: i32,
        request: u64,
        outcome: Outcome,
    },
    Identified(Result<Identity, ClientError>),
    Refreshed,
    /// Others have said who leads what `node` does not answer for.
    Doubted {
        node: i32,
    },
}

/// The state of the task.
#[derive(Debug)]
pub(crate) struct Sender {
    shared: Arc<Shared>,
    channel: Channel,
    events: mpsc::UnboundedSender<Event>,
    lanes: Vec<Option<Lane>>,
    /// Lanes in the line of some broker.
    in_line: HashSet<usize>,
    nodes: HashMap<i32, Node>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    /// The earliest timer of each lane.
    timer_of: HashMap<usize, Instant>,
    identity: Option<Identity>,
    is_identifying: bool,
    stale_topics: HashSet<Arc<str>>,
    is_refreshing: bool,
    next_request: u64,
    budget: RetryBudget,
    backoff: Backoff,
    random: Random,
}

/// Runs until the producer is closed and everything is settled.
pub(crate) async fn run(shared: Arc<Shared>) {
    // Bounded by what is on its way: a few requests, connections and questions.
    let (events, mut happened) = mpsc::unbounded_channel();
    let mut sender = Sender::new(shared.clone(), events);
    let metadata_age = shared.client.options().metadata_max_age.max(Duration::from_secs(1));
    let mut next_refresh = Instant::now() + metadata_age;
    // How late a batch may be given up.
    let sweep_interval = (shared.options.delivery_timeout / 10).clamp(TIMER_STEP, SWEEP_MAX);
    let mut next_sweep = Instant::now() + sweep_interval;
    loop {
        let now = Instant::now();
        if now >= next_refresh {
            next_refresh = now + metadata_age;
            sender.want_all_topics();
        }
        if now >= next_sweep {
            next_sweep = now + sweep_interval;
            sender.visit_all(now);
        }
        let timers = [Some(next_refresh), sender.needs_sweep().then_some(next_sweep)];
        let wake_at = timers.into_iter().flatten().chain(sender.next_timer()).min();
        let wake_at = wake_at.unwrap_or(next_refresh);
        tokio::select! {
            // Dropping any of these loses nothing: events and the list stay where they are.
            event = happened.recv() => {
                let mut event = event;
                while let Some(one) = event {
                    sender.handle(one, Instant::now());
                    event = happened.try_recv().ok();
                }
            }
            () = shared.dirty.wake.notified() => {}
            () = tokio::time::sleep_until(wake_at.into()) => {}
        }
        let now = Instant::now();
        for queue in shared.dirty.take() {
            sender.lane(&queue);
            sender.visit(queue.lane, now);
        }
        sender.fire_timers(now);
        sender.pump(now);
        if shared.is_closed() && sender.is_done() {
            return;
        }
    }
}

impl Drop for Sender {
    /// However the task ends, nobody waits for it in vain.
    fn drop(&mut self) {
        self.shared.close();
        for queue in self.shared.queues() {
            queue.close();
        }
        self.shared.client.release(self.channel);
    }
}

impl Sender {
    fn new(shared: Arc<Shared>, events: mpsc::UnboundedSender<Event>) -> Self {
        let options = &shared.options;
        Self {
            channel: shared.client.new_channel(),
            events,
            lanes: Vec::new(),
            in_line: HashSet::new(),
            nodes: HashMap::new(),
            timers: BinaryHeap::new(),
            timer_of: HashMap::new(),
            identity: None,
            is_identifying: false,
            stale_topics: HashSet::new(),
            is_refreshing: false,
            next_request: 0,
            budget: RetryBudget::new(),
            backoff: Backoff {
                first: options.retry_backoff,
                longest: options.retry_backoff_max.max(options.retry_backoff),
            },
            random: Random::new(),
            shared,
        }
    }

    fn is_done(&self) -> bool {
        self.lanes
            .iter()
            .flatten()
            .all(|lane| lane.is_idle() && lane.queue.front(Duration::ZERO).is_none())
    }

    /// Whether there is anything that may become too old.
    fn needs_sweep(&self) -> bool {
        self.shared.buffered_bytes() > 0
    }

    fn visit_all(&mut self, now: Instant) {
        for at in 0..self.lanes.len() {
            self.visit(at, now);
        }
    }

    fn lane(&mut self, queue: &Arc<PartitionQueue>) {
        if self.lanes.len() <= queue.lane {
            self.lanes.resize_with(queue.lane + 1, || None);
        }
        if let Some(place) = self.lanes.get_mut(queue.lane) {
            let rules = self.shared.rules;
            place.get_or_insert_with(|| Lane::new(queue.clone(), rules));
        }
    }

    /// Looks at a lane: gives up what is too old, puts it in line if it has something to send, sets
    /// the timer for what is not due yet.
    fn visit(&mut self, at: usize, now: Instant) {
        let linger = self.shared.options.linger;
        let Some(lane) = self.lanes.get_mut(at).and_then(Option::as_mut) else { return };
        for settled in lane.expire(now) {
            self.shared.settle(&lane.queue, settled, now);
        }
        let front = lane.queue.front(linger);
        let due_at = lane.oldest_repeat().or(front.map(|front| front.due_at));
        let Some(due_at) = due_at else { return };
        let due_at = lane.not_before.map_or(due_at, |not_before| due_at.max(not_before));
        if !lane.may_send() {
            // An answer will come by.
        } else if due_at > now {
            self.schedule(at, due_at);
        } else if lane.lacks_identity() {
            match self.identity {
                Some(identity) => {
                    // An id serves all lanes; a lane that used up its epochs takes a new one.
                    lane.identify(identity);
                    self.line_up(at, now);
                }
                None => self.identify(),
            }
        } else {
            self.line_up(at, now);
        }
    }

    /// Puts a lane in the line of its leader.
    fn line_up(&mut self, at: usize, now: Instant) {
        if self.in_line.contains(&at) {
            return;
        }
        let Some(lane) = self.lanes.get(at).and_then(Option::as_ref) else { return };
        let topic = lane.queue.topic.clone();
        match leader_of(&self.shared, lane) {
            // Its answers first.
            Some(leader) if lane.is_elsewhere(leader) => self.move_on(at, now),
            Some(leader) => {
                self.in_line.insert(at);
                self.nodes.entry(leader).or_default().waiting.push_back(at);
            }
            None => {
                self.stale_topics.insert(topic);
                self.delay(at, now);
            }
        }
    }

    /// Looks where the lanes' leaders are now. Who waits for another broker waits in vain, and for
    /// long if that one hangs.
    fn follow_leaders(&mut self, now: Instant) {
        let mut strayed = Vec::new();
        for (id, node) in &mut self.nodes {
            node.waiting.retain(|at| {
                let lane = self.lanes.get(*at).and_then(Option::as_ref);
                let leader = lane.and_then(|lane| leader_of(&self.shared, lane));
                let stays = leader.is_none_or(|leader| leader == *id);
                if !stays {
                    strayed.push(*at);
                }
                stays
            });
        }
        for at in strayed {
            self.in_line.remove(&at);
            self.visit(at, now);
        }
        for at in 0..self.lanes.len() {
            let Some(lane) = self.lanes.get(at).and_then(Option::as_ref) else { continue };
            if leader_of(&self.shared, lane).is_some_and(|leader| lane.is_elsewhere(leader)) {
                self.move_on(at, now);
            }
        }
    }

    /// Makes a lane wait after a failure.
    fn delay(&mut self, at: usize, now: Instant) {
        let Some(lane) = self.lanes.get_mut(at).and_then(Option::as_mut) else { return };
        lane.failures = lane.failures.max(1);
        let pause = if self.budget.spend() {
            self.backoff.pause(lane.failures, &mut self.random)
        } else {
            self.backoff.longest
        };
        let until = now + pause;
        lane.not_before = Some(until);
        self.schedule(at, until);
    }

    fn schedule(&mut self, at: usize, when: Instant) {
        let earliest = self.timer_of.entry(at).or_insert_with(|| when + TIMER_STEP);
        if when < *earliest {
            *earliest = when;
            self.timers.push(Reverse((when, at)));
        }
    }

    fn next_timer(&self) -> Option<Instant> {
        let lanes = self.timers.peek().map(|Reverse((when, _))| *when);
        let nodes = self.nodes.values().flat_map(|node| {
            let deadline = node.requests.front().map(|request| request.deadline);
            [deadline, node.muted_until, node.doubtful_at()]
        });
        nodes.chain([lanes]).flatten().min()
    }

    fn fire_timers(&mut self, now: Instant) {
        while let Some(Reverse((when, at))) = self.timers.peek().copied() {
            if when > now {
                break;
            }
            self.timers.pop();
            if self.timer_of.get(&at).is_some_and(|earliest| *earliest <= when) {
                self.timer_of.remove(&at);
                self.visit(at, now);
            }
        }
        let timeout = self.shared.client.options().timeout;
        for node in self.nodes.values_mut() {
            node.muted_until = node.muted_until.filter(|until| *until > now);
            // Those behind it wait for the same broker, which answers in order. The answers that do
            // not come are told to be lost by the connection itself.
            if node.requests.front().is_some_and(|request| request.deadline <= now)
                && let Some(connection) = node.connection.take()
            {
                connection.close(&format!("no reply within {} ms", timeout.as_millis()));
            }
        }
        let is_silent = |node: &Node| node.doubtful_at().is_some_and(|at| at <= now);
        let silent = self.nodes.iter().filter(|(_, node)| is_silent(node)).map(|(id, _)| *id);
        for id in silent.collect::<Vec<i32>>() {
            self.doubt(id, now);
        }
    }

    /// Asks others whether a silent broker still leads what it was sent.
    fn doubt(&mut self, id: i32, now: Instant) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.doubted_at = Some(now);
        let parts = node.requests.iter().flat_map(|request| &request.parts);
        let topics: HashSet<Arc<str>> = parts.map(|part| part.topic.clone()).collect();
        let (client, events) = (self.shared.client.clone(), self.events.clone());
        tokio::spawn(async move {
            let names: Vec<&str> = topics.iter().map(|name| &**name).collect();
            // Where nobody answers either, it is asked again; the request's deadline stands.
            if client.refresh_from_others(id, &names).await.is_ok() {
                drop(events.send(Event::Doubted { node: id }));
            }
        });
    }

    /// Gives a silent broker up if others lead what it was sent: nothing it answers would count.
    fn give_up_if_replaced(&mut self, id: i32) {
        let client = &self.shared.client;
        let leads_no_more = |part: &Part| {
            let leader = client.cached(&part.topic).0;
            let leader = leader.and_then(|info| Some(info.partition(part.index)?.leader));
            leader.is_some_and(|leader| leader >= 0 && leader != id)
        };
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.requests.front().is_some_and(|request| request.parts.iter().any(leads_no_more))
            && let Some(connection) = node.connection.take()
        {
            // All it was sent is told to be lost, and goes to those that lead now.
            connection.close("it does not answer, and others lead what it was sent");
        }
    }

    /// Sends what can be sent, and asks for what is missing.
    fn pump(&mut self, now: Instant) {
        let mut ids: Vec<i32> = Vec::new();
        for (id, node) in &self.nodes {
            if !node.waiting.is_empty() && node.has_room(now) {
                ids.push(*id);
            }
        }
        for id in ids {
            self.pump_node(id, now);
        }
        self.refresh();
    }

    fn pump_node(&mut self, id: i32, now: Instant) {
        loop {
            let Some(node) = self.nodes.get_mut(&id) else { return };
            if node.waiting.is_empty() || !node.has_room(now) {
                return;
            }
            let Some(connection) = node.connection.clone().filter(Connection::is_open) else {
                return self.connect(id);
            };
            let batches = self.gather(id, now);
            if batches.is_empty() {
                return;
            }
            let request = self.next_request;
            self.next_request += 1;
            let events = self.events.clone();
            let answer = move |outcome| {
                // Without the task nobody waits for it.
                drop(events.send(Event::Answered { node: id, request, outcome }));
            };
            let options = &self.shared.options;
            let timeout = self.shared.client.options().timeout;
            let sent =
                request::send(&connection, options.acks, timeout, &batches, Box::new(answer));
            let taken: Vec<Part> = batches.into_iter().map(|(part, _)| part).collect();
            match sent {
                Ok(version) if options.acks != Acks::None => {
                    let deadline = now + timeout;
                    let request =
                        Request { id: request, version, parts: taken, sent_at: now, deadline };
                    if let Some(node) = self.nodes.get_mut(&id) {
                        node.requests.push_back(request);
                    }
                }
                Ok(_) => self.settle_parts(request, &taken, &Ok(()), now),
                Err(error) => self.settle_parts(request, &taken, &Err(error), now),
            }
        }
    }

    /// Takes one batch of each lane in line, within the bound of a request.
    fn gather(&mut self, id: i32, now: Instant) -> Vec<(Part, bytes::Bytes)> {
        let mut batches = Vec::new();
        let mut bytes = 0;
        let request = self.next_request;
        let Some(node) = self.nodes.get_mut(&id) else { return batches };
        let mut line = std::mem::take(&mut node.waiting);
        while bytes < REQUEST_BYTES_MAX {
            let Some(at) = line.pop_front() else { break };
            self.in_line.remove(&at);
            let Some(lane) = self.lanes.get_mut(at).and_then(Option::as_mut) else { continue };
            if !lane.may_send() || lane.lacks_identity() {
                continue;
            }
            let Some(batch) = lane.next() else { continue };
            let part = Part { topic: lane.queue.topic.clone(), index: lane.queue.index, lane: at };
            bytes += batch.bytes.len();
            batches.push((part, batch.bytes.clone()));
            lane.sent(request, id, batch);
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            node.waiting = line;
        }
        // What they have beyond this goes to the end of the line.
        for at in batches.iter().map(|(part, _)| part.lane).collect::<Vec<_>>() {
            self.visit(at, now);
        }
        batches
    }

    fn connect(&mut self, id: i32) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if std::mem::replace(&mut node.is_connecting, true) {
            return;
        }
        node.connection = None;
        let (client, channel) = (self.shared.client.clone(), self.channel);
        let events = self.events.clone();
        tokio::spawn(async move {
            let outcome = client.broker(id, channel).await;
            // Without the task nobody waits for it.
            drop(events.send(Event::Connected { node: id, outcome }));
        });
    }

    fn identify(&mut self) {
        if std::mem::replace(&mut self.is_identifying, true) {
            return;
        }
        let client = self.shared.client.clone();
        let events = self.events.clone();
        tokio::spawn(async move {
            let outcome = request::init_producer_id(&client).await;
            // Without the task nobody waits for it.
            drop(events.send(Event::Identified(outcome)));
        });
    }

    fn want_all_topics(&mut self) {
        let lanes = self.lanes.iter().flatten();
        self.stale_topics.extend(lanes.map(|lane| lane.queue.topic.clone()));
        self.refresh();
    }

    fn refresh(&mut self) {
        if self.stale_topics.is_empty() || std::mem::replace(&mut self.is_refreshing, true) {
            return;
        }
        let topics = std::mem::take(&mut self.stale_topics);
        let client = self.shared.client.clone();
        let events = self.events.clone();
        tokio::spawn(async move {
            let names: Vec<&str> = topics.iter().map(|name| &**name).collect();
            // Fails while no broker answers; lanes come back here after their pause.
            let _refreshed = client.refresh_many(&names).await;
            drop(events.send(Event::Refreshed));
        });
    }
}

/// Who leads a lane's partition, as far as is known.
fn leader_of(shared: &Shared, lane: &Lane) -> Option<i32> {
    let (info, _, _) = shared.client.cached(&lane.queue.topic);
    let leader = info?.partition(lane.queue.index)?.leader;
    (leader >= 0).then_some(leader)
}

/// Timers are not set finer than this.
const TIMER_STEP: Duration = Duration::from_micros(100);

/// Longest pause between looks for batches that are too old.
const SWEEP_MAX: Duration = Duration::from_secs(1);
