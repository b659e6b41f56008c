//! How replicas exchange records: followers ask, leaders answer, over one session for each pair of
//! brokers.
//!
//! A follower has one task for each leader it follows. It numbers the partitions it follows there
//! (slots), asks for all of them, and from then on only for those whose last question was answered.
//! The leader holds one request of the session and answers it as soon as one of the partitions has
//! something new; an idle partition costs nothing. That a disk has caught up, and questions that come
//! up while a request is held, are told without waiting for an answer. Messages are counted: when
//! one is lost, the session begins anew.
//!
//! What is decided is decided by [`super::core`]; here is what carries it over [`crate::peer`].

mod alters;
mod codec;
mod fetcher;
mod news;
mod ranges;
mod service;
mod session;
mod slots;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::alters::Alters;
pub(crate) use self::alters::{AlterAnswers, AskAlter};
use self::fetcher::Queue;
pub(in crate::replication) use self::news::News;
pub(in crate::replication) use self::ranges::{Range, records_in};
pub(crate) use self::service::ReplicaService;
use super::metrics::ReplicationMetrics;
use super::partition::Partition;
use super::throttles::Throttles;
use crate::base::{BrokerEpoch, BrokerId, Clock, Offset, PartitionId, Tasks};
use crate::metadata::{AlterPartition, Random};
use crate::peer::{PeerNet, Service};

/// What connects this broker's replicas with those of others.
pub(crate) struct Exchange {
    broker: BrokerId,
    clock: Arc<dyn Clock>,
    registration: AtomicI64,
    fetchers: Mutex<BTreeMap<BrokerId, Arc<Queue>>>,
    alters: Arc<Alters>,
    connected: OnceLock<(Arc<dyn PeerNet>, Tasks)>,
    /// Sessions with leaders are numbered from here.
    sessions: Mutex<Box<dyn Random>>,
    /// A partition is led that others have replicas of.
    leads: Notify,
    /// The controller may have to be told something about a replica here.
    trouble: Notify,
    /// Records here were found damaged.
    holes: Notify,
    metrics: ReplicationMetrics,
    throttles: Throttles,
}

impl Exchange {
    pub(in crate::replication) fn new(
        broker: BrokerId,
        clock: Arc<dyn Clock>,
        random: Box<dyn Random>,
    ) -> Arc<Self> {
        Arc::new(Self {
            broker,
            clock,
            registration: AtomicI64::new(BrokerEpoch::NONE.0),
            fetchers: Mutex::default(),
            alters: Arc::default(),
            connected: OnceLock::new(),
            sessions: Mutex::new(random),
            leads: Notify::new(),
            trouble: Notify::new(),
            holes: Notify::new(),
            metrics: ReplicationMetrics::default(),
            throttles: Throttles::default(),
        })
    }

    pub(in crate::replication) fn on_registered(&self, registration: BrokerEpoch) {
        self.registration.store(registration.0, Ordering::Release);
    }

    pub(in crate::replication) fn registration(&self) -> BrokerEpoch {
        BrokerEpoch(self.registration.load(Ordering::Acquire))
    }

    /// Waits until a partition is led that others have replicas of.
    pub(in crate::replication) async fn leading(&self) {
        self.leads.notified().await;
    }

    /// One may be.
    pub(in crate::replication) fn on_leading(&self) {
        self.leads.notify_one();
    }

    /// Waits until the controller may have to be told something about a replica here.
    pub(in crate::replication) async fn trouble(&self) {
        self.trouble.notified().await;
    }

    /// It may have to be.
    pub(in crate::replication) fn on_trouble(&self) {
        self.trouble.notify_one();
    }

    pub(in crate::replication) fn metrics(&self) -> &ReplicationMetrics {
        &self.metrics
    }

    pub(in crate::replication) fn throttles(&self) -> &Throttles {
        &self.throttles
    }

    pub(in crate::replication) fn broker(&self) -> BrokerId {
        self.broker
    }

    /// Waits until records here may be damaged.
    pub(in crate::replication) async fn holes(&self) {
        self.holes.notified().await;
    }

    /// They may be.
    pub(in crate::replication) fn on_damaged(&self) {
        self.holes.notify_one();
    }

    /// Begins to speak with others: what was to be followed before is followed now.
    pub(in crate::replication) fn connect(
        self: &Arc<Self>,
        peers: Arc<dyn PeerNet>,
        tasks: Tasks,
        ask: Arc<dyn AskAlter>,
    ) {
        tasks.spawn(self.alters.clone().run(ask));
        if self.connected.set((peers, tasks)).is_err() {
            return;
        }
        let queues: Vec<_> =
            self.fetchers.lock().iter().map(|(to, queue)| (*to, queue.clone())).collect();
        for (leader, queue) in queues {
            self.start(leader, queue);
        }
    }

    /// Forgets what is queued for tasks that there are no more.
    #[cfg(any(test, feature = "sim"))]
    pub(in crate::replication) fn let_go(&self) {
        let queues: Vec<_> = self.fetchers.lock().values().cloned().collect();
        queues.iter().for_each(|queue| queue.let_go());
        self.alters.let_go();
    }

    /// The queue of the task that fetches from `leader`.
    fn queue(self: &Arc<Self>, leader: BrokerId) -> Arc<Queue> {
        let mut fetchers = self.fetchers.lock();
        if let Some(queue) = fetchers.get(&leader) {
            return queue.clone();
        }
        let queue = Arc::new(Queue::default());
        fetchers.insert(leader, queue.clone());
        drop(fetchers);
        self.start(leader, queue.clone());
        queue
    }

    fn start(self: &Arc<Self>, leader: BrokerId, queue: Arc<Queue>) {
        if let Some((peers, tasks)) = self.connected.get()
            && queue.begin()
        {
            let session = self.sessions.lock().next_u64();
            tasks.spawn(fetcher::run(self.clone(), (leader, session), queue, peers.clone()));
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("broker", &self.broker).finish_non_exhaustive()
    }
}

/// Where a partition is fetched.
#[derive(Debug)]
struct Link {
    leader: BrokerId,
    queue: Arc<Queue>,
    slot: u32,
}

/// What makes a partition one of several replicas.
#[derive(Debug)]
pub(in crate::replication) struct Replicated {
    id: PartitionId,
    exchange: Arc<Exchange>,
    link: ArcSwapOption<Link>,
    /// Held while the link changes.
    linking: Mutex<()>,
}

impl Replicated {
    pub(in crate::replication) fn new(id: PartitionId, exchange: Arc<Exchange>) -> Self {
        Self { id, exchange, link: ArcSwapOption::empty(), linking: Mutex::new(()) }
    }

    pub(in crate::replication) fn follow(
        &self,
        partition: &Arc<Partition>,
        leader: Option<BrokerId>,
    ) {
        let _linking = self.linking.lock();
        if let Some(leader) = leader {
            let same = self.link.load_full().filter(|link| link.leader == leader);
            if let Some(link) = same {
                // The same leader, in another epoch.
                return link.queue.ready(link.slot);
            }
        }
        self.leave();
        let Some(leader) = leader else { return };
        let queue = self.exchange.queue(leader);
        let slot = queue.new_slot();
        // First: records that come are on disk at once, and whoever is not told of that waits for ever.
        self.link.store(Some(Arc::new(Link { leader, queue: queue.clone(), slot })));
        queue.follow(slot, self.id, partition);
    }

    pub(in crate::replication) fn unfollow(&self) {
        let _linking = self.linking.lock();
        self.leave();
    }

    fn leave(&self) {
        if let Some(link) = self.link.swap(None) {
            link.queue.unfollow(link.slot);
        }
    }

    pub(in crate::replication) fn on_trouble(&self) {
        self.exchange.on_trouble();
    }

    pub(in crate::replication) fn on_damaged(&self) {
        self.exchange.on_damaged();
    }

    /// What the leader sent from `from` on was not whole. It looks at what is committed when it is asked
    /// for it as for a repair, and sees then what has decayed on its disk.
    pub(in crate::replication) fn on_refused(&self, from: Offset, committed: Offset) {
        let link = self.link.load_full();
        if let (Some(link), Some((peers, _))) = (link, self.exchange.connected.get())
            && from < committed
        {
            let range = Range { partition: self.id, from, to: committed };
            peers.tell(link.leader, Service::Replication, range.encode());
        }
    }

    pub(in crate::replication) fn metrics(&self) -> &ReplicationMetrics {
        &self.exchange.metrics
    }

    pub(in crate::replication) fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// The log is cut: it may ask again.
    pub(in crate::replication) fn on_ready(&self) {
        if let Some(link) = &*self.link.load() {
            link.queue.ready(link.slot);
        }
    }

    pub(in crate::replication) fn on_durable(&self) {
        if let Some(link) = &*self.link.load() {
            link.queue.durable(link.slot);
        }
    }

    pub(in crate::replication) fn ask_alter(
        &self,
        partition: &Arc<Partition>,
        question: AlterPartition,
    ) {
        self.exchange.alters.push(self.id, partition, question);
    }
}

#[cfg(test)]
mod tests;
