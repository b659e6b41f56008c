//! The partitions this broker has, kept in step with the cluster's metadata image.
//!
//! Lookups take no lock: handlers read an immutable table that is replaced when topics come, go or
//! grow. Identity is the topic id: a topic deleted and created again under its name is another
//! topic, with other files.

mod recovery;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tracing::{error, warn};

pub use self::recovery::RecoveryProgress;
use super::closing::close_all;
use super::directory::LogDirectory;
use super::partition::Partition;
use super::placement::TOPICS;
use super::threads::in_parallel;
use crate::base::{BrokerId, Clock, DataDirectory, Timestamp, TopicId};
use crate::controller::ImageSubscriber;
use crate::metadata::{Image, Topic};

/// A topic with the partitions of it that are here, by index.
#[derive(Debug)]
pub(crate) struct LocalTopic {
    pub(crate) id: TopicId,
    pub(crate) name: Arc<str>,
    partitions: Vec<Option<Arc<Partition>>>,
}

impl LocalTopic {
    pub(crate) fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index).ok()?)?.as_ref()
    }

    /// Whether there is such a partition, which could not be opened.
    pub(crate) fn is_offline(&self, index: i32) -> bool {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        self.partitions.get(at).is_some_and(Option::is_none)
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
    clock: Arc<dyn Clock>,
    table: ArcSwap<Table>,
    /// Serialises changes of the table.
    changing: Mutex<()>,
}

impl Partitions {
    /// No partitions yet, and a running flusher for each directory.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn start(
        broker: BrokerId,
        directories: &[Arc<DataDirectory>],
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let directories = directories
            .iter()
            .map(|data| LogDirectory::start(data.clone(), clock.clone()))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            broker,
            directories,
            clock,
            table: ArcSwap::from_pointee(Table::default()),
            changing: Mutex::new(()),
        })
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
        table.by_id.values().flat_map(|t| t.partitions.iter().flatten().cloned()).collect()
    }

    /// How many partitions there should be here that could not be opened.
    pub(crate) fn offline(&self) -> usize {
        let table = self.table.load();
        table.by_id.values().flat_map(|topic| &topic.partitions).filter(|it| it.is_none()).count()
    }

    /// The data directories.
    pub(crate) fn directories(&self) -> &[Arc<LogDirectory>] {
        &self.directories
    }

    /// Syncs what nobody waits for.
    pub(crate) fn flush_lazily(&self) {
        self.directories.iter().for_each(|directory| directory.flusher().tick());
    }

    /// Looks whether disks that were full have room again.
    pub(crate) fn look_for_room(&self) {
        self.directories.iter().for_each(|directory| directory.data().look_for_room());
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

    /// Syncs and closes every partition.
    pub(crate) fn close(&self) {
        self.directories.iter().for_each(|directory| directory.flusher().stop());
        let all = self.all();
        in_parallel(self.directories.len(), self.directories.clone(), |directory| {
            let here = |partition: &&Arc<Partition>| Arc::ptr_eq(partition.directory(), &directory);
            close_all(&directory, all.iter().filter(here).cloned().collect());
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

    /// The topic as `image` has it, with partitions taken over from `known` and new ones opened.
    fn build(&self, topic: &Arc<Topic>, known: Option<&LocalTopic>) -> LocalTopic {
        let partitions = (0..)
            .zip(&topic.partitions)
            .map(|(index, state)| match known.and_then(|known| known.partition(index)) {
                Some(partition) => {
                    partition.apply(state.leader_epoch, &state.isr, topic.resolved.clone());
                    Some(partition.clone())
                }
                None => self.open(topic, index, state).map(|(partition, _)| partition),
            })
            .collect();
        LocalTopic { id: topic.id, name: topic.name.clone(), partitions }
    }
}

impl ImageSubscriber for Partitions {
    /// Opens, changes and deletes partitions so that they match `new`. Runs before the request
    /// that caused the change is answered.
    fn image_changed(&self, old: &Image, new: &Arc<Image>) {
        let _changing = self.changing.lock();
        let before = self.table.load_full();
        let mut table = Table::default();
        for topic in new.topics() {
            let unchanged = old.topic_by_id(topic.id).is_some_and(|o| Arc::ptr_eq(o, topic));
            let local = match before.by_id.get(&topic.id) {
                Some(local) if unchanged => local.clone(),
                known => Arc::new(self.build(topic, known.map(Arc::as_ref))),
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
        for partition in gone.iter().flat_map(|topic| topic.partitions.iter().flatten()) {
            if let Err(error) = partition.delete() {
                error!(partition = %partition.name, %error, "cannot delete the log");
            }
        }
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
