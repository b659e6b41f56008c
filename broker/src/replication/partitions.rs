//! The partitions this broker has, kept in step with the cluster's metadata image.
//!
//! Lookups take no lock: handlers read an immutable table that is replaced when topics come, go or
//! grow. Identity is the topic id: a topic deleted and created again under its name is another
//! topic, with other files.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};
use tracing::{error, info, warn};

use super::core::{LogView, PartitionCore};
use super::directory::LogDirectory;
use super::partition::{Partition, log_options};
use super::placement::{TOPICS, place};
use crate::base::{BrokerId, Clock, DataDirectory, Timestamp, TopicId, TopicPartition};
use crate::controller::ImageSubscriber;
use crate::metadata::{Image, PartitionState, Topic};
use crate::storage::{Log, RecoveryReport, StorageError};

/// Logs recovered at once: recovery is bound by reads and syncs more than by the processor.
const RECOVERY_THREADS: usize = 4;

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

/// What a start-up found on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovered {
    pub(crate) partitions: usize,
    /// Partitions whose last stop was not clean, or had been read again for another reason.
    pub(crate) scanned: usize,
    /// Bytes of torn tails cut off; none of them was ever acknowledged.
    pub(crate) cut_bytes: u64,
    /// Partitions that could not be opened and are not served.
    pub(crate) offline: usize,
    /// Damaged ranges of logs, which are not served.
    pub(crate) quarantined: usize,
}

/// How far opening the partitions has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryProgress {
    /// Partitions that are open, or failed to.
    pub done: usize,
    /// All partitions.
    pub partitions: usize,
    /// Bytes read of logs that were not sealed.
    pub bytes_read: u64,
}

/// Between two reports of progress. A start that takes less says nothing.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

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

    /// Opens every partition of `image`, several at a time. Tells `progress` every second how far
    /// it has come.
    pub(crate) fn recover(&self, image: &Image, progress: impl Fn(RecoveryProgress)) -> Recovered {
        let jobs: Vec<(&Arc<Topic>, i32, &PartitionState)> = image
            .topics()
            .flat_map(|topic| (0..).zip(&topic.partitions).map(move |(i, state)| (topic, i, state)))
            .collect();
        let next = std::sync::atomic::AtomicUsize::new(0);
        let opened = Mutex::new(Vec::with_capacity(jobs.len()));
        let one_more = Condvar::new();
        std::thread::scope(|scope| {
            let open_next = || {
                while let Some((topic, index, state)) =
                    jobs.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    let partition = self.open(topic, *index, state);
                    opened.lock().push((topic.id, *index, partition));
                    one_more.notify_one();
                }
            };
            let threads = RECOVERY_THREADS.min(jobs.len());
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(open_next)).collect();
            let mut opened = opened.lock();
            let mut due = self.clock.monotonic() + PROGRESS_INTERVAL;
            // One that panics ends the start, when the scope ends.
            while opened.len() < jobs.len() && !workers.iter().all(|w| w.is_finished()) {
                let left = due.saturating_sub(self.clock.monotonic());
                if !left.is_zero() {
                    one_more.wait_for(&mut opened, left);
                    continue;
                }
                due += PROGRESS_INTERVAL;
                let bytes = opened.iter().filter_map(|(.., o)| o.as_ref()).map(|o| &o.1);
                progress(RecoveryProgress {
                    done: opened.len(),
                    partitions: jobs.len(),
                    bytes_read: bytes.map(|report| report.bytes_scanned).sum(),
                });
            }
        });
        let mut recovered = Recovered::default();
        let mut by_partition = HashMap::new();
        for (topic, index, partition) in opened.into_inner() {
            recovered.partitions += 1;
            match partition {
                Some((partition, report)) => {
                    recovered.scanned += usize::from(!report.clean);
                    recovered.cut_bytes += report.bytes_cut;
                    recovered.quarantined += partition.quarantined().len();
                    by_partition.insert((topic, index), partition);
                }
                None => recovered.offline += 1,
            }
        }
        let mut table = Table::default();
        for topic in image.topics() {
            let partitions = (0..)
                .zip(&topic.partitions)
                .map(|(index, _)| by_partition.remove(&(topic.id, index)))
                .collect();
            table.insert(LocalTopic { id: topic.id, name: topic.name.clone(), partitions });
        }
        self.directories.iter().for_each(|directory| self.report_strays(directory.data(), image));
        self.table.store(Arc::new(table));
        recovered
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
        for partition in self.all() {
            if let Err(error) = partition.close() {
                error!(partition = %partition.name, %error, "cannot close the log cleanly");
            }
        }
    }

    fn open(
        &self,
        topic: &Topic,
        index: i32,
        state: &PartitionState,
    ) -> Option<(Arc<Partition>, RecoveryReport)> {
        let name = TopicPartition { topic: topic.name.clone(), partition: index };
        let offline = |error: &dyn std::fmt::Display| {
            error!(partition = %name, %error, "cannot open the log; the partition is offline");
        };
        let entry = format!("{}-{index}.{}", topic.name, topic.id);
        let directory =
            place(&self.directories, &entry).inspect_err(|error| offline(error)).ok()?;
        let data = directory.data();
        let path = data.path().join(TOPICS).join(entry);
        let now = self.clock.now();
        let options = log_options(&topic.resolved);
        let open = || Log::open(data.disk().clone(), path.clone(), options, now);
        let opened = match open() {
            // Recovery writes, too: with the space set aside for such things.
            Err(StorageError::NoSpace { .. }) if data.on_full() => open(),
            opened => opened,
        };
        let opened = opened.inspect_err(|error| offline(error)).ok()?;
        let report = opened.report;
        if report.bytes_cut > 0 {
            info!(partition = %name, bytes = report.bytes_cut, "cut a torn tail");
        }
        let log = opened.log;
        let view =
            LogView { start: log.log_start(), end: log.log_end(), durable: log.durable_end() };
        let core = PartitionCore::new(self.broker, view, opened.epochs, opened.producers);
        let config = topic.resolved.clone();
        let partition = Partition::new(name, core, log, config.clone(), directory.clone());
        partition.apply(state.leader_epoch, &state.isr, config);
        let partition = Arc::new(partition);
        directory.join(&partition);
        Some((partition, report))
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
