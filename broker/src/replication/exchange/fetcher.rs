//! The task that fetches from one leader: asks for what is due, and hands out what comes.
//!
//! One request is held by the leader at a time; what comes up meanwhile is told beside it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::super::core::DurableReport;
use super::super::partition::{Next, Partition};
use super::Exchange;
use super::codec::{Answer, Ask, Durable, Message, MessageVersion, Told};
use super::slots::Slots;
use crate::base::{BrokerId, PartitionId};
use crate::peer::{PeerCall, PeerError, PeerNet, Service};

/// How long a leader may hold a request, and how long the way there and back may take beyond.
const WAIT: Duration = Duration::from_millis(500);
const WAY_MAX: Duration = Duration::from_secs(2);

/// Bytes of records in one answer: about a millisecond of writing.
const ANSWER_BYTES_MAX: u32 = 2 * 1024 * 1024;

/// Questions in one message.
const ASKS_MAX: usize = 10_000;

/// How long a partition waits whose records could not be taken, or whose leader had none for it.
const RETRY_TAKE: Duration = Duration::from_millis(500);
const RETRY_ASK: Duration = Duration::from_millis(50);

/// What a task is told.
#[derive(Debug)]
enum Event {
    Follow(u32, PartitionId, Arc<Partition>),
    Unfollow(u32),
    Ready(u32),
    Durable(u32),
}

/// What is told to the task that fetches from one leader.
#[derive(Default)]
pub(super) struct Queue {
    events: Mutex<Vec<Event>>,
    wake: Notify,
    slots: AtomicU32,
    begun: AtomicBool,
}

impl Queue {
    /// Whether its task is to be started; once.
    pub(super) fn begin(&self) -> bool {
        !self.begun.swap(true, Ordering::SeqCst)
    }

    /// A slot nobody had before.
    pub(super) fn new_slot(&self) -> u32 {
        self.slots.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn follow(&self, slot: u32, id: PartitionId, partition: &Arc<Partition>) {
        self.push(Event::Follow(slot, id, partition.clone()));
    }

    pub(super) fn unfollow(&self, slot: u32) {
        self.push(Event::Unfollow(slot));
    }

    pub(super) fn ready(&self, slot: u32) {
        self.push(Event::Ready(slot));
    }

    pub(super) fn durable(&self, slot: u32) {
        self.push(Event::Durable(slot));
    }

    /// Nobody fetches any more.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn let_go(&self) {
        drop(self.take());
    }

    fn push(&self, event: Event) {
        self.events.lock().push(event);
        self.wake.notify_one();
    }

    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock())
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

/// What the task owns.
struct Fetcher {
    exchange: Arc<Exchange>,
    leader: BrokerId,
    slots: Slots,
    partitions: HashMap<u32, (PartitionId, Arc<Partition>)>,
    /// Slots whose disk has caught up since the last message.
    durable: Vec<u32>,
    /// How the leader is spoken to.
    version: MessageVersion,
}

/// Fetches from `leader`, in sessions numbered from `session` on, as long as the runtime lives.
pub(super) async fn run(
    exchange: Arc<Exchange>,
    (leader, session): (BrokerId, u64),
    queue: Arc<Queue>,
    peers: Arc<dyn PeerNet>,
) {
    let slots = Slots::new(session);
    let (partitions, durable) = (HashMap::new(), Vec::new());
    let version = MessageVersion::Two;
    let mut fetcher = Fetcher { exchange, leader, slots, partitions, durable, version };
    let mut held: Option<PeerCall> = None;
    loop {
        fetcher.take_events(&queue);
        if fetcher.slots.is_empty() && held.is_none() {
            queue.wake.notified().await;
            continue;
        }
        let now = fetcher.now();
        let paused = fetcher.slots.is_paused(now);
        if !paused && let Some(message) = fetcher.next_message(now, held.is_none()) {
            let bytes = message.encode(fetcher.version);
            if message.waits {
                held = Some(peers.call(leader, Service::Replication, bytes, WAIT + WAY_MAX));
            } else {
                peers.tell(leader, Service::Replication, bytes);
            }
        }
        let due = if paused { Some(fetcher.slots.paused_until()) } else { fetcher.slots.due_at() };
        let sleep = due.map(|due| due.saturating_sub(now)).unwrap_or(Duration::MAX);
        // Dropping a branch loses nothing: the call stays where it is, events stay in the queue.
        tokio::select! {
            biased;
            answer = poll(&mut held) => {
                held = None;
                fetcher.on_answer(answer);
            }
            () = queue.wake.notified() => {}
            () = tokio::time::sleep(sleep), if due.is_some() => {}
        }
    }
}

/// The answer to the request that is held; never, if none is.
async fn poll(held: &mut Option<PeerCall>) -> Result<Bytes, PeerError> {
    match held {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}

impl Fetcher {
    fn now(&self) -> Duration {
        self.exchange.clock.monotonic()
    }

    fn take_events(&mut self, queue: &Queue) {
        for event in queue.take() {
            match event {
                Event::Follow(slot, id, partition) => {
                    self.partitions.insert(slot, (id, partition));
                    self.slots.set_due(slot, Duration::ZERO);
                }
                Event::Unfollow(slot) => {
                    self.partitions.remove(&slot);
                    self.slots.remove(slot);
                }
                Event::Ready(slot) if self.partitions.contains_key(&slot) => {
                    self.slots.set_due(slot, Duration::ZERO);
                }
                Event::Durable(slot) => self.durable.push(slot),
                Event::Ready(_) => {}
            }
        }
    }

    /// What to say now, if anything. With nothing held, the leader is always to hold something.
    fn next_message(&mut self, now: Duration, waits: bool) -> Option<Message> {
        let mut asks = Vec::new();
        for slot in self.slots.take_due(now, ASKS_MAX) {
            let Some((id, partition)) = self.partitions.get(&slot) else { continue };
            if partition.is_throttled()
                && let Some(at) = self.exchange.throttles().follower.held_until(now)
            {
                self.slots.set_due(slot, at);
                continue;
            }
            let Some((request, known)) = partition.next_fetch() else {
                if !self.slots.stands(slot)
                    && let Some(due) = partition.inspect(|core| core.fetch_due_at())
                {
                    self.slots.set_due(slot, due.max(now + Duration::from_millis(1)));
                }
                continue;
            };
            if request.leader != self.leader {
                // Another task is about to ask.
                partition.on_fetch_failed(request.number);
                continue;
            }
            self.slots.on_asked(slot, request.number);
            asks.push(Ask {
                slot,
                number: request.number,
                partition: *id,
                leader_epoch: request.fetch.leader_epoch,
                fetch_offset: request.fetch.fetch_offset,
                last_epoch: request.fetch.last_epoch,
                durable: request.fetch.durable,
                known: known.high_watermark,
                known_start: known.log_start,
                log_start: request.fetch.log_start,
            });
        }
        let durables = self.durables(&asks);
        let gone = self.slots.take_gone();
        if !waits && asks.is_empty() && durables.is_empty() && gone.is_empty() {
            return None;
        }
        let (session, number) = self.slots.next_message();
        Some(Message {
            waits,
            broker_epoch: self.exchange.registration(),
            session,
            number,
            wait_ms: u32::try_from(WAIT.as_millis()).unwrap_or(u32::MAX),
            max_bytes: self.max_bytes(),
            asks,
            durables,
            gone,
        })
    }

    /// Most bytes of records in an answer: where something is held up, not much more than may be copied
    /// in a moment.
    fn max_bytes(&self) -> u32 {
        let follower = &self.exchange.throttles().follower;
        let piece = u32::try_from(follower.piece()).unwrap_or(u32::MAX);
        let is_held_up = || self.partitions.values().any(|(_, partition)| partition.is_throttled());
        if piece < ANSWER_BYTES_MAX && is_held_up() { piece } else { ANSWER_BYTES_MAX }
    }

    /// How far disks are of slots that are not asked for anyway.
    fn durables(&mut self, asks: &[Ask]) -> Vec<Durable> {
        let mut slots = std::mem::take(&mut self.durable);
        slots.sort_unstable();
        slots.dedup();
        // Asks are in the order of their time: a look at each of a few.
        slots.retain(|slot| !asks.iter().any(|ask| ask.slot == *slot));
        slots
            .into_iter()
            .filter_map(|slot| {
                let (_, partition) = self.partitions.get(&slot)?;
                let (leader, report) = partition.durable_report()?;
                let DurableReport { leader_epoch, durable, log_start, .. } = report;
                let told = Durable { slot, leader_epoch, durable, log_start };
                (leader == self.leader).then_some(told)
            })
            .collect()
    }

    fn on_answer(&mut self, answer: Result<Bytes, PeerError>) {
        let decoded = match &answer {
            Ok(bytes) => Answer::decode(bytes),
            Err(error) => {
                debug!(leader = %self.leader, %error, "no answer from a leader");
                return self.on_lost();
            }
        };
        match decoded {
            Some((Answer::News(news), records)) => {
                self.slots.on_heard();
                self.on_news(news, records);
            }
            Some((Answer::SessionLost, _)) => {
                self.slots.on_heard();
                self.on_lost();
            }
            Some((Answer::NotServed, _)) => {
                // It may be of a version that does not know of log starts yet; with the next process it is
                // another one.
                let version = match self.version {
                    MessageVersion::Two => MessageVersion::One,
                    MessageVersion::One => MessageVersion::Two,
                };
                self.on_lost();
                self.version = version;
            }
            None => {
                warn!(leader = %self.leader, "a leader's answer is not understood");
                self.on_lost();
            }
        }
    }

    fn on_lost(&mut self) {
        self.version = MessageVersion::Two;
        self.exchange.metrics().fetch_failures.increment();
        let now = self.now();
        for (slot, number) in self.slots.on_lost(now) {
            if let Some((_, partition)) = self.partitions.get(&slot) {
                partition.on_fetch_failed(number);
            }
        }
    }

    fn on_news(&mut self, news: Vec<(u32, u64, Told)>, mut records: Bytes) {
        let now = self.now();
        for (slot, number, told) in news {
            let length = match told {
                Told::Answer(_, length) => usize::try_from(length).unwrap_or(usize::MAX),
                Told::Refused => 0,
            };
            if length > records.len() {
                warn!(leader = %self.leader, "a leader's answer is cut off");
                return self.on_lost();
            }
            let mine = records.split_to(length);
            self.exchange.metrics().fetched_bytes.add(crate::metrics::count(length));
            let stood = self.slots.on_answered(slot, number);
            let Some((_, partition)) = self.partitions.get(&slot).filter(|_| stood) else {
                continue;
            };
            if length > 0 && partition.is_throttled() {
                self.exchange.throttles().follower.spend(length, now);
            }
            let next = match told {
                Told::Answer(answer, _) => partition.on_fetched(number, answer, &mine),
                Told::Refused => {
                    partition.on_fetch_failed(number);
                    self.slots.set_due(slot, now + RETRY_ASK);
                    continue;
                }
            };
            match next {
                Next::Ask => self.slots.set_due(slot, Duration::ZERO),
                Next::Retry => {
                    self.exchange.metrics().fetch_failures.increment();
                    self.slots.set_due(slot, now + RETRY_TAKE);
                }
                Next::Wait => {}
            }
        }
    }
}
