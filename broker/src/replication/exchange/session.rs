//! A follower's session with this leader: the partitions it asks for, and what there is for it.
//!
//! Always: of a slot one question stands at most, and what is answered stands no more; news of a
//! partition is looked at after its watcher was set back, so that none is missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::super::core::{DurableReport, FetchAnswer};
use super::super::partition::{Found, Partition, Watcher};
use super::super::throttles::Throttle;
use super::codec::{Answer, Ask, Message, Told};
use super::news::News;
use crate::base::tasks::blocking;
use crate::base::waiting::without_waiting;
use crate::base::{BrokerEpoch, BrokerId, HashMap, PartitionId};
use crate::peer::PeerReply;
use crate::storage::ReadError;

/// Bytes of one partition in one answer, but for a larger batch.
const PARTITION_BYTES_MAX: usize = 1024 * 1024;

/// Most bytes of records in one answer, whatever is asked for.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long a new high watermark alone waits for something to come along with.
const PATIENCE: Duration = Duration::from_millis(20);

/// The session of one follower.
#[derive(Debug)]
pub(super) struct Session {
    broker: BrokerId,
    pub(super) epoch: BrokerEpoch,
    pub(super) id: u64,
    news: Arc<News>,
    state: Mutex<State>,
    /// When the follower spoke last, in milliseconds of the monotonic clock.
    heard_ms: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the next message.
    next: u64,
    slots: HashMap<u32, Slot>,
    /// To be answered whatever else there is.
    answers: Vec<(u32, u64, Told)>,
    /// Requests to be held so far: an earlier one is answered when a later one comes.
    held: u64,
}

#[derive(Debug)]
struct Slot {
    partition: Arc<Partition>,
    watcher: Arc<Watcher>,
    standing: Option<Ask>,
}

/// A message that is not the next one of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutOfTurn;

impl Session {
    pub(super) fn new(broker: BrokerId, epoch: BrokerEpoch, id: u64) -> Arc<Self> {
        Arc::new(Self {
            broker,
            epoch,
            id,
            news: Arc::default(),
            state: Mutex::default(),
            heard_ms: AtomicU64::new(0),
        })
    }

    pub(super) fn broker(&self) -> BrokerId {
        self.broker
    }

    pub(super) fn was_heard_since(&self, moment: Duration) -> bool {
        u128::from(self.heard_ms.load(Ordering::Relaxed)) >= moment.as_millis()
    }

    /// Takes a message in. Returns the number of the request that is to be held from here on.
    pub(super) fn take(
        &self,
        message: &Message,
        now: Duration,
        registered: Option<BrokerEpoch>,
        find: impl Fn(PartitionId) -> Option<Arc<Partition>>,
    ) -> Result<u64, OutOfTurn> {
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.heard_ms.store(now_ms, Ordering::Relaxed);
        let mut state = self.state.lock();
        if message.number != state.next {
            return Err(OutOfTurn);
        }
        state.next += 1;
        for slot in &message.gone {
            if let Some(Slot { partition, watcher, .. }) = state.slots.remove(slot) {
                partition.on_unfollowed(&watcher, (self.broker, self.epoch));
            }
        }
        for ask in &message.asks {
            if let Some(told) = self.take_ask(&mut state, ask, registered, &find) {
                state.answers.push((ask.slot, ask.number, told));
            }
        }
        for durable in &message.durables {
            let Some(slot) = state.slots.get(&durable.slot) else { continue };
            slot.partition.on_replica_durable(&DurableReport {
                replica: self.broker,
                broker_epoch: self.epoch,
                leader_epoch: durable.leader_epoch,
                durable: durable.durable,
                log_start: durable.log_start,
            });
        }
        state.held += u64::from(message.waits);
        if message.waits || !state.answers.is_empty() {
            self.news.nudge();
        }
        Ok(state.held)
    }

    /// Takes a question; returns what can be said to it at once.
    fn take_ask(
        &self,
        state: &mut State,
        ask: &Ask,
        registered: Option<BrokerEpoch>,
        find: &impl Fn(PartitionId) -> Option<Arc<Partition>>,
    ) -> Option<Told> {
        let Some(partition) = find(ask.partition) else { return Some(Told::Refused) };
        let same =
            state.slots.get(&ask.slot).is_some_and(|s| Arc::ptr_eq(&s.partition, &partition));
        if !same {
            let watcher = Watcher::new(self.news.clone(), ask.slot);
            partition.watch(&watcher);
            let slot = Slot { partition: partition.clone(), watcher, standing: None };
            if let Some(before) = state.slots.insert(ask.slot, slot) {
                before.partition.unwatch(&before.watcher);
            }
        }
        let slot = state.slots.get_mut(&ask.slot)?;
        slot.standing = None;
        match partition.on_replica_fetch(&ask.fetch(self.broker, self.epoch), registered) {
            Ok(FetchAnswer::Records { high_watermark, log_start }) => {
                slot.standing = Some(*ask);
                // From here on its watcher tells; this is what came before.
                if partition.log_end() > ask.fetch_offset {
                    slot.watcher.tell();
                } else if high_watermark.min(ask.fetch_offset) > ask.known
                    || log_start > ask.known_start
                {
                    slot.watcher.tell_lazily();
                }
                None
            }
            Ok(answer) => Some(Told::Answer(answer, 0)),
            Err(refusal) => {
                tracing::debug!(partition = %partition.name, %refusal, "a follower is refused");
                Some(Told::Refused)
            }
        }
    }

    /// Answers request `held` as soon as there is something to say, or `wait` is over.
    pub(super) async fn answer(
        self: Arc<Self>,
        held: u64,
        wait: Duration,
        max_bytes: usize,
    ) -> PeerReply {
        let deadline = Instant::now() + wait;
        let max_bytes = max_bytes.min(ANSWER_BYTES_MAX);
        let mut is_over = false;
        loop {
            let (mut reply, cold) = without_waiting(|| self.collect(max_bytes));
            if reply.news.is_empty() && !cold.is_empty() {
                // What is not in memory is read where waiting is allowed.
                let session = self.clone();
                let read = move || session.read_all(cold, Reply::default(), max_bytes).0;
                reply = blocking(read).await.unwrap_or_default();
            } else {
                cold.iter().for_each(|wanted| wanted.watcher.tell());
            }
            let superseded = self.state.lock().held != held;
            if !reply.news.is_empty() || is_over || superseded {
                return reply.into();
            }
            // Dropping the wait loses nothing: what is told stays in the list.
            is_over = timeout_at(deadline, self.news.wait(PATIENCE)).await.is_err();
        }
    }

    /// What there is now, and what of it has to be read from the disk.
    fn collect(&self, max_bytes: usize) -> (Reply, Vec<Wanted>) {
        let mut state = self.state.lock();
        let reply = Reply { news: std::mem::take(&mut state.answers), records: Vec::new() };
        let mut wanted = Vec::new();
        for slot in self.news.take() {
            let Some(Slot { partition, watcher, standing }) = state.slots.get(&slot) else {
                continue;
            };
            watcher.on_taken();
            if let Some(ask) = *standing {
                let (partition, watcher) = (partition.clone(), watcher.clone());
                wanted.push(Wanted { ask, partition, watcher });
            }
        }
        drop(state);
        self.read_all(wanted, reply, max_bytes)
    }

    fn read_all(
        &self,
        wanted: Vec<Wanted>,
        mut reply: Reply,
        max_bytes: usize,
    ) -> (Reply, Vec<Wanted>) {
        let (mut left, mut cold) = (max_bytes, Vec::new());
        for one in wanted {
            if left == 0 {
                // In the next answer.
                one.watcher.tell();
                continue;
            }
            let throttle = one.partition.throttle_for(self.broker);
            let now = one.partition.directory().monotonic();
            if throttle.is_some_and(|throttle| throttle.held_until(now).is_some()) {
                // Looked at again in a moment.
                one.watcher.tell_lazily();
                continue;
            }
            let fetch = one.ask.fetch(self.broker, self.epoch);
            let piece = throttle.map_or(usize::MAX, Throttle::piece);
            let room = left.min(PARTITION_BYTES_MAX).min(piece);
            match one.partition.read_for_replica(&fetch, room, left == max_bytes) {
                Ok(Some(found)) => {
                    let bytes = self.found(&one, found, &mut reply);
                    left -= bytes.min(left);
                    if let Some(throttle) = throttle {
                        throttle.spend(bytes, now);
                    }
                }
                Ok(None) => {
                    let _stood = self.told(&one, Told::Refused, &mut reply);
                }
                Err(error) if error.would_wait() => cold.push(one),
                Err(error) => {
                    // Below a log start that has moved it is told so when it asks again.
                    if !matches!(error, ReadError::OutOfRange { .. }) {
                        tracing::debug!(partition = %one.partition.name, %error, "not served");
                    }
                    let _stood = self.told(&one, Told::Refused, &mut reply);
                }
            }
        }
        (reply, cold)
    }

    /// Returns the bytes that are sent.
    fn found(&self, wanted: &Wanted, found: Found, reply: &mut Reply) -> usize {
        let Found { records, high_watermark, log_start } = found;
        let Ask { fetch_offset, known, known_start, .. } = wanted.ask;
        let bytes = records.len();
        if bytes == 0 && wanted.partition.log_end() > fetch_offset {
            // It did not fit.
            wanted.watcher.tell();
        } else if bytes > 0 || high_watermark.min(fetch_offset) > known || log_start > known_start {
            let length = u32::try_from(bytes).unwrap_or(u32::MAX);
            let answer = FetchAnswer::Records { high_watermark, log_start };
            if self.told(wanted, Told::Answer(answer, length), reply) && bytes > 0 {
                reply.records.push(records);
            }
        }
        bytes
    }

    /// Answers a question, if it still stands. Returns whether it did.
    fn told(&self, wanted: &Wanted, told: Told, reply: &mut Reply) -> bool {
        let ask = wanted.ask;
        let mut state = self.state.lock();
        let slot = state.slots.get_mut(&ask.slot);
        let stands = slot.is_some_and(|slot| slot.standing.take_if(|s| *s == ask).is_some());
        if stands {
            reply.news.push((ask.slot, ask.number, told));
        }
        stands
    }

    /// The session is over: nothing of it is watched any more.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        for (_, Slot { partition, watcher, .. }) in state.slots.drain() {
            partition.unwatch(&watcher);
        }
        state.next = u64::MAX;
        state.held += 1;
        self.news.nudge();
    }
}

/// A question that stands, with news.
#[derive(Debug)]
struct Wanted {
    ask: Ask,
    partition: Arc<Partition>,
    watcher: Arc<Watcher>,
}

/// An answer in the making.
#[derive(Debug, Default)]
struct Reply {
    news: Vec<(u32, u64, Told)>,
    /// In the order of the news.
    records: Vec<Bytes>,
}

impl From<Reply> for PeerReply {
    fn from(reply: Reply) -> Self {
        Self { head: Answer::News(reply.news).encode().into(), records: reply.records }
    }
}
