//! The partitions this broker has, kept in step with the cluster's metadata image.
//!
//! Lookups take no lock: handlers read an immutable table that is replaced when topics come, go or
//! grow. Identity is the topic id: a topic deleted and created again under its name is another
//! topic, with other files.

mod recovery;
mod report;

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tracing::{error, warn};

use self::recovery::Opened;
pub(crate) use self::recovery::Recovered;
pub use self::recovery::RecoveryProgress;
use super::closing::close_all;
use super::directory::LogDirectory;
use super::exchange::{AskAlter, Exchange, ReplicaService};
use super::high_watermarks::HighWatermarks;
use super::metrics::ReplicationMetrics;
use super::partition::Partition;
use super::placement::TOPICS;
use super::repairer::{RepairCounters, RepairTotals, Repairer};
use super::threads::in_parallel;
use crate::base::{
    BrokerEpoch, BrokerId, Clock, DataDirectory, HashMap, PartitionId, Tasks, Threads, Timestamp,
    TopicId,
};
use crate::controller::ImageSubscriber;
#[cfg(test)]
use crate::metadata::SystemRandom;
use crate::metadata::{Image, ImageCell, PartitionState, Random, Topic};
use crate::peer::{PeerNet, Service};

/// A topic with the partitions of it that are here, by index.
#[derive(Debug)]
pub(crate) struct LocalTopic {
    pub(crate) id: TopicId,
    pub(crate) name: Arc<str>,
    partitions: Vec<Place>,
}

/// Where a partition is, as this broker sees it.
#[derive(Clone, Debug)]
enum Place {
    Here(Arc<Partition>),
    /// Here, and its log could not be opened.
    Offline,
    /// On other brokers.
    Elsewhere,
}

impl Place {
    fn partition(&self) -> Option<&Arc<Partition>> {
        match self {
            Self::Here(partition) => Some(partition),
            Self::Offline | Self::Elsewhere => None,
        }
    }
}

impl LocalTopic {
    pub(crate) fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.place(index)?.partition()
    }

    /// Whether there is such a partition, which could not be opened.
    pub(crate) fn is_offline(&self, index: i32) -> bool {
        matches!(self.place(index), Some(Place::Offline))
    }

    /// Whether there is such a partition, of which other brokers have all replicas.
    pub(crate) fn is_elsewhere(&self, index: i32) -> bool {
        matches!(self.place(index), Some(Place::Elsewhere))
    }

    fn place(&self, index: i32) -> Option<&Place> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    fn here(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.partitions.iter().filter_map(Place::partition)
    }
}

#[derive(Debug, Default)]
struct Table {
    by_name: HashMap<Arc<str>, Arc<LocalTopic>>,
    by_id: HashMap<TopicId, Arc<LocalTopic>>,
}

/// All partitions of this broker.
#[derive(Debug)]
pub(crate) struct Partitions {
    broker: BrokerId,
    directories: Vec<Arc<LogDirectory>>,
    threads: Threads,
    clock: Arc<dyn Clock>,
    table: ArcSwap<Table>,
    /// Serialises changes of the table.
    changing: Mutex<()>,
    exchange: Arc<Exchange>,
    high_watermarks: HighWatermarks,
    repairs: RepairCounters,
}

impl Partitions {
    /// No partitions yet, and a running flusher for each directory.
    ///
    /// # Errors
    /// No thread can be started.
    #[cfg(test)]
    pub(crate) fn start(
        broker: BrokerId,
        directories: &[Arc<DataDirectory>],
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        Self::start_on(Threads::Real, broker, directories, clock, Box::new(SystemRandom))
    }

    /// No partitions yet, and a flusher for each directory, which runs on `threads`.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn start_on(
        threads: Threads,
        broker: BrokerId,
        directories: &[Arc<DataDirectory>],
        clock: Arc<dyn Clock>,
        random: Box<dyn Random>,
    ) -> io::Result<Self> {
        let high_watermarks = HighWatermarks::load(directories);
        let directories = directories
            .iter()
            .map(|data| LogDirectory::start_on(&threads, data.clone(), clock.clone()))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            broker,
            directories,
            exchange: Exchange::new(broker, clock.clone(), random),
            threads,
            clock,
            table: ArcSwap::from_pointee(Table::default()),
            changing: Mutex::new(()),
            high_watermarks,
            repairs: RepairCounters::default(),
        })
    }

    /// Begins to exchange records with the brokers that have other replicas of what is here.
    /// In-sync sets are asked for with `ask`.
    pub(crate) fn connect(
        self: &Arc<Self>,
        peers: Arc<dyn PeerNet>,
        tasks: &Tasks,
        images: Arc<ImageCell>,
        ask: Arc<dyn AskAlter>,
    ) {
        let repairer =
            Repairer { partitions: self.clone(), images: images.clone(), peers: peers.clone() };
        tasks.spawn(repairer.run());
        self.exchange.on_damaged();
        let service = ReplicaService::new(self.clone(), images, self.clock.clone());
        tasks.spawn(service.clone().tick());
        peers.serve(Service::Replication, service);
        self.exchange.connect(peers, tasks.clone(), ask);
    }

    /// The process is gone: its tasks take nothing any more of what was queued for them, which would keep
    /// its partitions for ever.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn let_go(&self) {
        self.exchange.let_go();
        self.directories.iter().for_each(|directory| directory.flusher().let_go());
    }

    /// This broker.
    pub(crate) fn broker(&self) -> BrokerId {
        self.broker
    }

    /// What replication comes to.
    pub(crate) fn replication_metrics(&self) -> &ReplicationMetrics {
        self.exchange.metrics()
    }

    pub(super) fn repairs(&self) -> &RepairCounters {
        &self.repairs
    }

    /// What was repaired so far.
    pub(crate) fn repair_totals(&self) -> RepairTotals {
        self.repairs.totals()
    }

    /// The replicas here that are damaged, and others have.
    pub(super) fn damaged(&self) -> Vec<(PartitionId, Arc<Partition>)> {
        let mut all = self.entries();
        all.retain(|(_, partition)| {
            let is_known = partition.has_damage() || partition.is_holed();
            is_known && !partition.is_failed() && partition.is_replicated()
        });
        all
    }

    pub(super) fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// This process is registered: roles are taken by the first image that knows of that.
    pub(crate) fn on_registered(&self, registration: BrokerEpoch) {
        let _changing = self.changing.lock();
        self.exchange.on_registered(registration);
        for partition in self.all() {
            partition.on_registered(registration);
        }
    }

    /// The registration by which `image` knows this broker; none while that is not of this process,
    /// or this process is not registered yet. What such an image says of roles is over.
    fn registered_in(&self, image: &Image) -> Option<BrokerEpoch> {
        let own = self.exchange.registration();
        let known = BrokerEpoch(image.broker(self.broker)?.epoch);
        if planted!(ActOnOldMetadata) {
            return Some(known.max(own));
        }
        (own != BrokerEpoch::NONE && known >= own).then_some(known)
    }

    fn apply(
        &self,
        partition: &Arc<Partition>,
        topic: &Topic,
        state: &PartitionState,
        image: &Image,
    ) {
        if let Some(registered) = self.registered_in(image) {
            partition.on_image(state, registered, topic.resolved.clone());
            let storage = partition.directory().data().storage_id();
            if self.is_unknown(state, storage) || partition.is_unfit() {
                self.exchange.on_trouble();
            }
        }
    }

    pub(crate) fn topic_by_name(&self, name: &str) -> Option<Arc<LocalTopic>> {
        self.table.load().by_name.get(name).cloned()
    }

    pub(crate) fn topic_by_id(&self, id: TopicId) -> Option<Arc<LocalTopic>> {
        self.table.load().by_id.get(&id).cloned()
    }

    pub(crate) fn by_name(&self, name: &str, index: i32) -> Option<Arc<Partition>> {
        self.table.load().by_name.get(name)?.partition(index).cloned()
    }

    pub(crate) fn by_id(&self, id: TopicId, index: i32) -> Option<Arc<Partition>> {
        self.table.load().by_id.get(&id)?.partition(index).cloned()
    }

    /// Every partition here.
    pub(crate) fn all(&self) -> Vec<Arc<Partition>> {
        let table = self.table.load();
        table.by_id.values().flat_map(|topic| topic.here().cloned()).collect()
    }

    /// How many partitions there should be here that could not be opened.
    pub(crate) fn offline(&self) -> usize {
        let table = self.table.load();
        let is_offline = |place: &&Place| matches!(place, Place::Offline);
        table.by_id.values().flat_map(|topic| &topic.partitions).filter(is_offline).count()
    }

    /// The data directories.
    pub(crate) fn directories(&self) -> &[Arc<LogDirectory>] {
        &self.directories
    }

    /// Syncs what nobody waits for.
    pub(crate) fn flush_lazily(&self) {
        self.directories.iter().for_each(|directory| directory.flusher().tick());
    }

    /// Looks whether disks that were full have room again, for what could not be done without it.
    pub(crate) fn look_for_room(&self) {
        self.directories.iter().for_each(|directory| directory.look_for_room());
    }

    /// Applies retention and forgets idle producers, everywhere.
    pub(crate) fn keep_house(&self, now: Timestamp, producer_expiration_ms: i64) {
        for partition in self.all() {
            if let Err(error) = partition.apply_retention(now) {
                error!(partition = %partition.name, %error, "retention failed");
            }
            partition.expire_producers(now, producer_expiration_ms);
        }
    }

    /// Writes down how far replicated partitions are committed: a hint for the next start.
    pub(crate) fn note_high_watermarks(&self) {
        self.high_watermarks.store(&self.directories, &self.entries());
    }

    /// Every partition here, by id.
    pub(crate) fn entries(&self) -> Vec<(PartitionId, Arc<Partition>)> {
        let table = self.table.load();
        let of = |topic: &Arc<LocalTopic>| {
            let id = topic.id;
            let places = (0..).zip(&topic.partitions);
            places
                .filter_map(move |(index, place)| {
                    Some((PartitionId { topic: id, index }, place.partition()?.clone()))
                })
                .collect::<Vec<_>>()
        };
        table.by_id.values().flat_map(of).collect()
    }

    /// Syncs and closes every partition.
    pub(crate) fn close(&self) {
        self.note_high_watermarks();
        self.directories.iter().for_each(|directory| directory.flusher().stop());
        let all = self.all();
        let threads = self.threads.at_most(self.directories.len());
        in_parallel(threads, self.directories.clone(), |directory| {
            let here = |partition: &&Arc<Partition>| Arc::ptr_eq(partition.directory(), &directory);
            close_all(&self.threads, &directory, all.iter().filter(here).cloned().collect());
        });
    }

    /// Directories of topics the metadata does not know are never touched: they may be all that is
    /// left of somebody's data.
    fn report_strays(&self, data: &DataDirectory, image: &Image) {
        let topics = data.path().join(TOPICS);
        let Ok(entries) = data.disk().list(&topics) else { return };
        for entry in entries {
            if entry.ends_with(".deleted") {
                if let Err(error) = data.disk().remove_dir_all(&topics.join(&entry)) {
                    warn!(directory = %entry, %error, "cannot remove a deleted partition");
                }
                continue;
            }
            let known = entry
                .rsplit_once('.')
                .and_then(|(_, id)| id.parse::<TopicId>().ok())
                .is_some_and(|id| image.topic_by_id(id).is_some());
            if !known {
                warn!(directory = %entry, "belongs to no topic of this cluster; left alone");
            }
        }
    }

    /// The topic as `image` has it, with partitions taken over from `known`, those that came to this
    /// broker opened, and those that left it deleted.
    fn build(&self, topic: &Arc<Topic>, known: Option<&LocalTopic>, image: &Image) -> LocalTopic {
        let place = |(index, state): (i32, &PartitionState)| {
            let is_here = state.replicas.contains(&self.broker);
            match known.and_then(|known| known.partition(index)) {
                Some(partition) if is_here => {
                    self.apply(partition, topic, state, image);
                    Place::Here(partition.clone())
                }
                // What an image from before this process says is over: it may be here again.
                Some(partition) if self.registered_in(image).is_none() => {
                    Place::Here(partition.clone())
                }
                Some(partition) => {
                    delete(partition);
                    Place::Elsewhere
                }
                None if is_here => match self.open(topic, index) {
                    Some(Opened { partition, .. }) => {
                        self.apply(&partition, topic, state, image);
                        Place::Here(partition)
                    }
                    None => {
                        self.exchange.on_trouble();
                        Place::Offline
                    }
                },
                None => Place::Elsewhere,
            }
        };
        let partitions = topic.indexed().map(place).collect();
        LocalTopic { id: topic.id, name: topic.name.clone(), partitions }
    }
}

fn delete(partition: &Partition) {
    if let Err(error) = partition.delete() {
        error!(partition = %partition.name, %error, "cannot delete the log");
    }
}

impl ImageSubscriber for Partitions {
    /// Opens, changes and deletes partitions so that they match `new`. Runs before the request
    /// that caused the change is answered.
    fn image_changed(&self, old: &Image, new: &Arc<Image>) {
        let _changing = self.changing.lock();
        self.exchange.throttles().set(new.config());
        let before = self.table.load_full();
        let mut table = Table::default();
        // Of images from before this process nothing was applied.
        let is_first = self.registered_in(old).is_none() && self.registered_in(new).is_some();
        for topic in new.topics() {
            let unchanged = old.topic_by_id(topic.id).is_some_and(|o| Arc::ptr_eq(o, topic));
            let local = match before.by_id.get(&topic.id) {
                Some(local) if unchanged && !is_first => local.clone(),
                known => Arc::new(self.build(topic, known.map(Arc::as_ref), new)),
            };
            table.insert_shared(local);
        }
        let gone: Vec<Arc<LocalTopic>> = before
            .by_id
            .values()
            .filter(|topic| !table.by_id.contains_key(&topic.id))
            .cloned()
            .collect();
        self.table.store(Arc::new(table));
        // Who looks after followers may have looked before what is led now was there to be found.
        self.exchange.on_leading();
        gone.iter().flat_map(|topic| topic.here()).for_each(|partition| delete(partition));
    }
}

impl Table {
    fn insert(&mut self, topic: LocalTopic) {
        self.insert_shared(Arc::new(topic));
    }

    fn insert_shared(&mut self, topic: Arc<LocalTopic>) {
        self.by_name.insert(topic.name.clone(), topic.clone());
        self.by_id.insert(topic.id, topic);
    }
}
