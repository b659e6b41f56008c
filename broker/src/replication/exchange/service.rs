//! What this broker answers to its followers, as the leader of their partitions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::super::partition::Heard;
use super::super::partitions::Partitions;
use super::codec::{Answer, Message};
use super::ranges::Range;
use super::session::Session;
use crate::base::{BrokerEpoch, BrokerId, Clock, HashMap, tasks};
use crate::metadata::ImageCell;
use crate::peer::{PeerAnswer, PeerId, PeerReply, PeerService};

/// How often followers that are heard of are noted as in sync, and lagging ones looked for.
const TICK: Duration = Duration::from_millis(500);

/// A follower that was heard of within this time waits for news.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// A session nobody speaks in for this long is over.
const SESSION_MAX: Duration = Duration::from_secs(30);

/// Longest time a request is held.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Serves followers.
pub(crate) struct ReplicaService {
    partitions: Arc<Partitions>,
    images: Arc<ImageCell>,
    clock: Arc<dyn Clock>,
    sessions: Mutex<HashMap<BrokerId, Arc<Session>>>,
}

impl ReplicaService {
    pub(in crate::replication) fn new(
        partitions: Arc<Partitions>,
        images: Arc<ImageCell>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Self { partitions, images, clock, sessions: Mutex::default() })
    }

    fn take(&self, from: PeerId, request: &[u8]) -> Result<PeerAnswer, Answer> {
        let broker = from.broker.ok_or(Answer::NotServed)?;
        let message = Message::decode(request).ok_or(Answer::NotServed)?;
        let session = self.session(broker, &message)?;
        let registered = self.registered(broker);
        let find = |id: crate::base::PartitionId| self.partitions.by_id(id.topic, id.index);
        let now = self.clock.monotonic();
        let held = session.take(&message, now, registered, find);
        let held = held.map_err(|_out_of_turn| Answer::SessionLost)?;
        if !message.waits {
            return Ok(Box::pin(std::future::ready(PeerReply::default())));
        }
        let wait = Duration::from_millis(u64::from(message.wait_ms)).min(WAIT_MAX);
        let max_bytes = usize::try_from(message.max_bytes).unwrap_or(usize::MAX);
        let partitions = self.partitions.clone();
        Ok(Box::pin(async move {
            let reply = session.answer(held, wait, max_bytes).await;
            let sent =
                reply.records.iter().map(|records| crate::metrics::count(records.len())).sum();
            partitions.replication_metrics().served_bytes.add(sent);
            reply
        }))
    }

    /// The registration of a broker that may be in sync: neither fenced nor shutting down.
    fn registered(&self, broker: BrokerId) -> Option<BrokerEpoch> {
        let image = self.images.peek();
        let known = image.broker(broker).filter(|known| !known.fenced && !known.shutting_down);
        known.map(|known| BrokerEpoch(known.epoch))
    }

    /// The session a message belongs to; the first message of one makes it.
    fn session(&self, broker: BrokerId, message: &Message) -> Result<Arc<Session>, Answer> {
        let mut sessions = self.sessions.lock();
        if let Some(session) = sessions.get(&broker) {
            if message.broker_epoch < session.epoch {
                return Err(Answer::NotServed);
            }
            if session.id == message.session && session.epoch == message.broker_epoch {
                return Ok(session.clone());
            }
        }
        if message.number != 0 {
            return Err(Answer::SessionLost);
        }
        let session = Session::new(broker, message.broker_epoch, message.session);
        if let Some(before) = sessions.insert(broker, session.clone()) {
            before.end();
        }
        Ok(session)
    }

    /// Looks after sessions and in-sync sets as long as the runtime lives.
    pub(in crate::replication) async fn tick(self: Arc<Self>) {
        loop {
            if self.look_around() {
                tokio::time::sleep(TICK).await;
            } else {
                self.partitions.directories().iter().for_each(|it| it.pulse().rest());
                self.partitions.exchange().leading().await;
            }
        }
    }

    /// Returns whether this broker leads anything that others have replicas of.
    fn look_around(&self) -> bool {
        let now = self.clock.monotonic();
        let pulses = || self.partitions.directories().iter().map(|directory| directory.pulse());
        pulses().for_each(|pulse| pulse.beat(now));
        let counts_from = pulses().map(|pulse| pulse.counts_from(now)).max().unwrap_or_default();
        let heard: Vec<Heard> = {
            let mut sessions = self.sessions.lock();
            let lately = now.saturating_sub(SESSION_MAX);
            sessions.retain(|_, session| {
                let lives = session.was_heard_since(lately);
                if !lives {
                    session.end();
                }
                lives
            });
            let recent = now.saturating_sub(HEARD_WITHIN).max(counts_from);
            let live = sessions.values().filter(|session| session.was_heard_since(recent));
            let told = |session: &Arc<Session>| Heard {
                broker: session.broker(),
                epoch: session.epoch,
                registered: self.registered(session.broker()),
            };
            live.map(told).collect()
        };
        let mut leads = false;
        for partition in self.partitions.all() {
            if partition.has_followers() {
                leads = true;
                partition.on_tick(&heard);
            }
        }
        leads
    }
}

impl PeerService for ReplicaService {
    fn call(&self, from: PeerId, request: Bytes) -> PeerAnswer {
        if let Some(range) = Range::decode(&request).filter(|_| from.broker.is_some()) {
            let id = range.partition;
            let partition = self.partitions.by_id(id.topic, id.index);
            let read = tasks::blocking(move || range.serve(partition.as_ref()));
            return Box::pin(async move { read.await.unwrap_or_default() });
        }
        match self.take(from, &request) {
            Ok(answer) => answer,
            Err(answer) => Box::pin(std::future::ready(PeerReply::from(answer.encode()))),
        }
    }
}
