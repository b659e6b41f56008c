//! Opens all partitions at a start, several at a time.
//!
//! Reading comes first, for all of them; then what was found is made durable, with one sync of the
//! file system for many logs; only then is any of them a partition that can be served.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing::{error, info};

use super::{LocalTopic, Partitions, Place, Table};
use crate::base::{HashMap, PartitionId, TopicId, TopicPartition};
use crate::config::FlushMode;
use crate::metadata::{Image, Topic};
use crate::replication::core::{LogView, PartitionCore};
use crate::replication::directory::LogDirectory;
use crate::replication::exchange::Replicated;
use crate::replication::partition::{Partition, log_options};
use crate::replication::placement::{TOPICS, place};
use crate::replication::threads::in_parallel;
use crate::storage::{Log, RecoveryReport, StorageError, Unsynced};

/// Logs read at once: that is bound by the disk more than by the processor.
const RECOVERY_THREADS: usize = 4;

/// Between two reports of progress. A start that takes less says nothing.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// What a start-up found on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Replicas that may lack what was acknowledged, by topic and index.
    pub(crate) damaged: Vec<(TopicId, i32)>,
}

/// How far opening the partitions has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryProgress {
    /// Partitions that are read, or failed to be.
    pub done: usize,
    /// All partitions.
    pub partitions: usize,
    /// Bytes read of logs that were not sealed.
    pub bytes_read: u64,
}

/// A partition of the image.
type Wanted<'image> = (&'image Arc<Topic>, i32);

/// A partition that is open.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) partition: Arc<Partition>,
    /// What that took.
    report: RecoveryReport,
    /// An earlier process knew more of it to be committed than there is.
    is_short: bool,
}

/// A log that is read, and what is needed to make it a partition.
struct ReadLog<'image> {
    name: TopicPartition,
    topic: &'image Topic,
    directory: Arc<LogDirectory>,
    log: Unsynced,
}

/// A directory whose file system was synced for all logs read from it, and whether that worked.
type SharedSync = (Arc<LogDirectory>, bool);

impl Partitions {
    /// Opens every partition of `image` of which this broker has a replica. Tells `progress` every second how far it has come.
    pub(crate) fn recover(&self, image: &Image, progress: impl Fn(RecoveryProgress)) -> Recovered {
        let wanted: Vec<Wanted<'_>> = image
            .topics()
            .flat_map(|topic| topic.indexed().map(move |(index, state)| (topic, index, state)))
            .filter(|(.., state)| state.replicas.contains(&self.broker))
            .map(|(topic, index, _)| (topic, index))
            .collect();
        let read = self.read_all(&wanted, progress);
        let synced = self.sync_shared(read.iter().filter_map(|(.., log)| log.as_ref()));
        let threads = self.threads.at_most(RECOVERY_THREADS);
        let opened = in_parallel(threads, read, |(topic, index, log)| {
            (topic, index, log.and_then(|log| self.serve(log, &synced)))
        });
        let mut recovered = Recovered::default();
        let mut by_partition = HashMap::default();
        for (topic, index, partition) in opened {
            recovered.partitions += 1;
            match partition {
                Some(opened) => {
                    recovered.scanned += usize::from(!opened.report.clean);
                    recovered.cut_bytes += opened.report.bytes_cut;
                    recovered.quarantined += opened.partition.quarantined().len();
                    if self.is_damaged(&opened, image, (topic, index)) {
                        recovered.damaged.push((topic, index));
                    }
                    by_partition.insert((topic, index), opened.partition);
                }
                None => {
                    recovered.offline += 1;
                    recovered.damaged.push((topic, index));
                }
            }
        }
        let mut table = Table::default();
        for topic in image.topics() {
            let mut places = Vec::with_capacity(topic.partitions.len());
            for (index, state) in topic.indexed() {
                places.push(match by_partition.remove(&(topic.id, index)) {
                    Some(partition) => {
                        self.apply(&partition, topic, state, image);
                        Place::Here(partition)
                    }
                    None if state.replicas.contains(&self.broker) => Place::Offline,
                    None => Place::Elsewhere,
                });
            }
            let partitions = places;
            table.insert(LocalTopic { id: topic.id, name: topic.name.clone(), partitions });
        }
        self.directories.iter().for_each(|directory| self.report_strays(directory.data(), image));
        self.table.store(Arc::new(table));
        recovered
    }

    /// Whether what a start has found of a replica may lack what was acknowledged: then it is no full
    /// copy (P1, P9). A hole is told once this process is registered ([`Partitions::report`]): whether it
    /// is one in the last copy, which is the best there is, the metadata of now says, not what was known
    /// when this start began.
    fn is_damaged(&self, opened: &Opened, image: &Image, (topic, index): (TopicId, i32)) -> bool {
        let Some(topic) = image.topic_by_id(topic) else { return false };
        let Some(state) = topic.partition(index) else { return false };
        let Opened { report, is_short, .. } = opened;
        let directories = || self.directories.iter().map(|directory| directory.data().storage_id());
        let was_elsewhere = state
            .storage_of(self.broker)
            .is_some_and(|storage| directories().all(|here| here != storage));
        // Nobody waited for the disk.
        let may_be_lost = topic.resolved.flush_mode == FlushMode::Os && !report.clean;
        *is_short || was_elsewhere || may_be_lost || report.checkpoint_damaged
    }

    /// Opens one partition, which may be new.
    pub(super) fn open(&self, topic: &Topic, index: i32) -> Option<Opened> {
        self.serve(self.read(topic, index)?, &[])
    }

    /// Reads the logs of `wanted`, several at a time; those that cannot be read come back as none.
    fn read_all<'image>(
        &self,
        wanted: &[Wanted<'image>],
        progress: impl Fn(RecoveryProgress),
    ) -> Vec<(TopicId, i32, Option<ReadLog<'image>>)> {
        let threads = self.threads.at_most(RECOVERY_THREADS).min(wanted.len());
        if threads <= 1 {
            let read =
                |(topic, index): &Wanted<'image>| (topic.id, *index, self.read(topic, *index));
            return wanted.iter().map(read).collect();
        }
        let next = AtomicUsize::new(0);
        let read = Mutex::new(Vec::with_capacity(wanted.len()));
        let one_more = Condvar::new();
        std::thread::scope(|scope| {
            let read_next = || {
                while let Some((topic, index)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let log = self.read(topic, *index);
                    read.lock().push((topic.id, *index, log));
                    one_more.notify_one();
                }
            };
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(read_next)).collect();
            let mut read = read.lock();
            let mut due = self.clock.monotonic() + PROGRESS_INTERVAL;
            // One that panics ends the start, when the scope ends.
            while read.len() < wanted.len() && !workers.iter().all(|w| w.is_finished()) {
                let left = due.saturating_sub(self.clock.monotonic());
                if !left.is_zero() {
                    one_more.wait_for(&mut read, left);
                    continue;
                }
                due += PROGRESS_INTERVAL;
                let logs = read.iter().filter_map(|(.., log)| log.as_ref());
                progress(RecoveryProgress {
                    done: read.len(),
                    partitions: wanted.len(),
                    bytes_read: logs.map(|log| log.log.report().bytes_scanned).sum(),
                });
            }
        });
        read.into_inner()
    }

    fn read<'image>(&self, topic: &'image Topic, index: i32) -> Option<ReadLog<'image>> {
        let name = TopicPartition { topic: topic.name.clone(), partition: index };
        let entry = if planted!(FindLogByName) {
            format!("{}-{index}", topic.name)
        } else {
            format!("{}-{index}.{}", topic.name, topic.id)
        };
        let placed = place(&self.directories, &entry);
        let directory = placed.inspect_err(|error| tell_offline(&name, error)).ok()?;
        let data = directory.data();
        let path = data.path().join(TOPICS).join(entry);
        let now = self.clock.now();
        let options = log_options(&topic.resolved);
        let read = || Log::read(data.disk().clone(), path.clone(), options, now);
        let log = match read() {
            // Recovery writes, too: with the space set aside for such things.
            Err(StorageError::NoSpace { .. }) if data.on_full() => read(),
            log => log,
        };
        let log = log.inspect_err(|error| tell_offline(&name, error)).ok()?;
        Some(ReadLog { name, topic, directory, log })
    }

    /// Syncs the file systems of the directories in which many of `logs` have something to sync.
    fn sync_shared<'log, 'image: 'log>(
        &self,
        logs: impl Iterator<Item = &'log ReadLog<'image>>,
    ) -> Vec<SharedSync> {
        let unsynced: Vec<&ReadLog<'_>> = logs.filter(|log| log.log.needs_sync()).collect();
        let mut synced = Vec::new();
        for directory in &self.directories {
            let here = |log: &&&ReadLog<'_>| Arc::ptr_eq(&log.directory, directory);
            let count = unsynced.iter().filter(here).count();
            let Some(file_system) = directory.flusher().shared_sync(count) else { continue };
            let result = file_system.sync();
            if let Err(error) = &result {
                directory.fail(&format!("cannot sync the file system: {error}"));
            }
            synced.push((directory.clone(), result.is_ok()));
        }
        synced
    }

    /// Makes a log that was read a partition, once what was found in it is durable.
    fn serve(&self, read: ReadLog<'_>, synced: &[SharedSync]) -> Option<Opened> {
        let ReadLog { name, topic, directory, log } = read;
        let shared = synced.iter().find(|(synced, _)| Arc::ptr_eq(synced, &directory));
        let opened = match shared.filter(|_| log.needs_sync()) {
            Some((_, true)) => log.into_synced(),
            // Told with the directory.
            Some((_, false)) => return None,
            None => log.sync().inspect_err(|error| tell_offline(&name, error)).ok()?,
        };
        let report = opened.report;
        if report.bytes_cut > 0 {
            info!(partition = %name, bytes = report.bytes_cut, "cut a torn tail");
        }
        let log = opened.log;
        let view =
            LogView { start: log.log_start(), end: log.log_end(), durable: log.durable_end() };
        let id = PartitionId { topic: topic.id, index: name.partition };
        let mut core = PartitionCore::new(self.broker, view, opened.epochs, opened.producers);
        core.on_registered(self.exchange().registration());
        let known = self.high_watermarks.known(id);
        if planted!(ServeAllAtStart) {
            core.on_known_committed(view.end);
        }
        if let Some(known) = known {
            core.on_known_committed(known);
        }
        let config = topic.resolved.clone();
        let partition = Arc::new(Partition::new(name, core, log, config, directory.clone()));
        partition.replicate(Replicated::new(id, self.exchange().clone()));
        partition.look_for_holes();
        directory.join(&partition);
        let is_short = known.is_some_and(|known| known > view.end);
        Some(Opened { partition, report, is_short })
    }
}

fn tell_offline(partition: &TopicPartition, error: &dyn std::fmt::Display) {
    error!(%partition, %error, "cannot open the log; the partition is offline");
}
