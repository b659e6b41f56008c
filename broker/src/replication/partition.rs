//! One partition of this broker: the decisions of [`PartitionCore`] carried out on a [`Log`].
//!
//! Always holds: one writer at a time, behind one short lock that is never held across an await
//! or a sync. Readers take no lock: they see the numbers published after each change, and the
//! numbers change before those who wait for them are woken.

mod asking;
mod compaction;
mod deleting;
mod following;
mod health;
mod leading;
mod throttling;

pub(crate) use deleting::DeleteError;
pub(super) use following::Next;
pub(super) use leading::{Found, Heard, Watcher};

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use sawlog_protocol::records::BatchHeader;
use tokio::sync::Notify;
use tracing::error;

use super::core::{Acks, AppendRefusal, Decision, ImageOutcome, LogGeneration, PartitionCore};
use super::directory::LogDirectory;
use super::exchange::Replicated;
use super::flusher::FlushState;
use super::waiters::Waiters;
use crate::base::{BrokerEpoch, LeaderEpoch, Offset, Timestamp, TopicPartition};
use crate::config::{FlushMode, TopicConfig};
use crate::metadata::PartitionState;
use crate::storage::{
    Closing, FlushTicket, Flushed, Log, LogOptions, LogReader, LogScrubber, QuarantinedRange,
    ReadError, StorageError,
};

/// Unsynced bytes of a `flush.mode=os` partition that start a background sync.
const LAZY_FLUSH_BYTES: u64 = 8 * 1024 * 1024;

/// Whose eyes a read is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// `read_uncommitted` consumers: below the high watermark.
    Committed,
    /// `read_committed` consumers: below the last stable offset.
    Stable,
}

/// A batch that is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// Where it begins; none for one sent before of which only that is known.
    pub(crate) base_offset: Option<Offset>,
    /// Committed when this is.
    pub(crate) last_offset: Offset,
    pub(crate) log_start: Offset,
    /// The leadership that took it.
    pub(crate) leader_epoch: LeaderEpoch,
}

/// Why a batch is not in the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    #[error(transparent)]
    Refused(#[from] AppendRefusal),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the partition's log is offline")]
    Offline,
    #[error("the broker's disk is full; nothing was written, try again later")]
    Full,
}

/// What a read found.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    /// Whole batches, the first of which holds the offset asked for; empty at the visible end.
    pub(crate) records: Bytes,
    pub(crate) high_watermark: Offset,
    pub(crate) last_stable_offset: Offset,
    pub(crate) log_start: Offset,
}

/// The numbers a reader may see, published after every change under the lock.
#[derive(Debug)]
struct Published {
    leader_epoch: AtomicI32,
    /// The epoch this broker leads or follows.
    read_epoch: AtomicI32,
    log_start: AtomicI64,
    log_end: AtomicI64,
    high_watermark: AtomicI64,
    last_stable_offset: AtomicI64,
    failed: AtomicBool,
}

#[derive(Debug)]
struct State {
    core: PartitionCore,
    /// None once deleted, closed or failed.
    log: Option<Log>,
    /// Bytes appended since the last sync began.
    unsynced_bytes: u64,
    /// Of which contents the flush under way is.
    flushing: LogGeneration,
    /// What the core has decided about the log, and the flusher's thread has not done yet.
    due: following::Due,
}

/// A partition this broker has.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) name: TopicPartition,
    config: ArcSwap<TopicConfig>,
    state: Mutex<State>,
    reader: LogReader,
    published: Published,
    waiters: Waiters,
    directory: Arc<LogDirectory>,
    flush_state: FlushState,
    /// Who is told of what other replicas want to know; empty where there are none.
    watchers: leading::Watchers,
    /// What it takes to be one of several replicas.
    replicated: OnceLock<Replicated>,
    throttled: throttling::Throttled,
    /// Fires when the low watermark may be another.
    deletions: Notify,
}

impl Partition {
    pub(crate) fn new(
        name: TopicPartition,
        core: PartitionCore,
        log: Log,
        config: Arc<TopicConfig>,
        directory: Arc<LogDirectory>,
    ) -> Self {
        let reader = log.reader();
        let partition = Self {
            name,
            config: ArcSwap::new(config),
            state: Mutex::new(State {
                core,
                log: Some(log),
                unsynced_bytes: 0,
                flushing: LogGeneration::default(),
                due: following::Due::default(),
            }),
            reader,
            published: Published {
                leader_epoch: AtomicI32::new(-1),
                read_epoch: AtomicI32::new(-1),
                log_start: AtomicI64::new(0),
                log_end: AtomicI64::new(0),
                high_watermark: AtomicI64::new(0),
                last_stable_offset: AtomicI64::new(0),
                failed: AtomicBool::new(false),
            },
            waiters: Waiters::default(),
            directory,
            flush_state: FlushState::default(),
            watchers: leading::Watchers::default(),
            replicated: OnceLock::new(),
            throttled: throttling::Throttled::default(),
            deletions: Notify::new(),
        };
        partition.publish(&partition.state.lock().core);
        partition
    }

    /// Appends one validated batch.
    ///
    /// # Errors
    /// The batch is not in the log, for the reason given.
    pub(crate) fn append_as_leader(
        self: &Arc<Self>,
        batch: &[u8],
        header: &BatchHeader,
        acks: Acks,
        now: Timestamp,
    ) -> Result<Accepted, AppendError> {
        self.append(self.state.lock(), batch, header, acks, now)
    }

    /// As [`Self::append_as_leader`], in this leadership and no other: the batch was decided on from
    /// what the log held at the end of it.
    ///
    /// # Errors
    /// The batch is not in the log, for the reason given.
    pub(crate) fn append_in_epoch(
        self: &Arc<Self>,
        epoch: LeaderEpoch,
        batch: &[u8],
        header: &BatchHeader,
        now: Timestamp,
    ) -> Result<Accepted, AppendError> {
        let state = self.state.lock();
        if state.core.leader_epoch() != Some(epoch) && !state.core.is_failed() {
            return Err(AppendRefusal::NotLeader.into());
        }
        self.append(state, batch, header, Acks::All, now)
    }

    fn append(
        self: &Arc<Self>,
        mut guard: MutexGuard<'_, State>,
        batch: &[u8],
        header: &BatchHeader,
        acks: Acks,
        now: Timestamp,
    ) -> Result<Accepted, AppendError> {
        let state = &mut *guard;
        if state.core.is_failed() || !self.directory.data().is_online() {
            return Err(AppendError::Offline);
        }
        if self.directory.data().is_full() {
            return Err(AppendError::Full);
        }
        let told = |refusal| state.core.as_told(self.directory.monotonic(), acks, refusal);
        let decision = state.core.on_produce(header, acks).map_err(told)?;
        let (base_offset, leader_epoch) = match decision {
            Decision::Append { base_offset, leader_epoch } => (base_offset, leader_epoch),
            Decision::Duplicate { base_offset, last_offset } => {
                let base_offset = Some(base_offset);
                let log_start = state.core.log().start;
                let leader_epoch = state.core.leader_epoch().unwrap_or_default();
                return Ok(Accepted { base_offset, last_offset, log_start, leader_epoch });
            }
            Decision::Older { last_offset } => {
                let (base_offset, log_start) = (None, state.core.log().start);
                let leader_epoch = state.core.leader_epoch().unwrap_or_default();
                return Ok(Accepted { base_offset, last_offset, log_start, leader_epoch });
            }
        };
        let log = state.log.as_mut().ok_or(AppendError::Offline)?;
        let appended = match log.append(batch, header, base_offset, leader_epoch) {
            Ok(appended) => appended,
            Err(error) => {
                if error.is_fatal() {
                    self.fail(guard, &error);
                } else if matches!(error, StorageError::NoSpace { .. }) {
                    self.directory.data().on_full();
                }
                return Err(error.into());
            }
        };
        if appended.rolled {
            // The snapshot belongs to the roll: it must not know the batch behind it.
            log.save_producers(state.core.producers(), base_offset);
        }
        let moved = state.core.on_appended(header, base_offset, now);
        self.publish(&state.core);
        state.unsynced_bytes += u64::try_from(batch.len()).unwrap_or(0);
        let flush_now = state.core.flush_mode() == FlushMode::Group
            || state.unsynced_bytes >= LAZY_FLUSH_BYTES
            || appended.rolled;
        let accepted = Accepted {
            base_offset: Some(base_offset),
            last_offset: base_offset.plus(i64::from(header.last_offset_delta)),
            log_start: state.core.log().start,
            leader_epoch,
        };
        let high_watermark = state.core.high_watermark();
        drop(guard);
        self.watchers.on_appended();
        if flush_now {
            self.directory.flusher().request(self);
        } else {
            self.directory.flusher().request_lazily(self);
        }
        if moved {
            self.on_high_watermark(high_watermark);
        }
        Ok(accepted)
    }

    /// Reads whole batches from `from` on, at most `max_bytes` of them; with `at_least_one` the
    /// first is returned whatever its size (KIP-74).
    ///
    /// # Errors
    /// `from` is outside the log, or the log cannot be read.
    pub(crate) fn read(
        &self,
        from: Offset,
        view: View,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Slice, ReadError> {
        let high_watermark = self.high_watermark();
        let last_stable_offset = Offset(self.published.last_stable_offset.load(Ordering::Acquire));
        let log_start = self.log_start();
        let log_end = self.log_end();
        if from < log_start || from > log_end {
            return Err(ReadError::OutOfRange { start: log_start, end: log_end });
        }
        let until = match view {
            View::Committed if planted!(ServeUncommitted) => log_end,
            View::Committed => high_watermark,
            View::Stable => last_stable_offset,
        };
        let records = if from >= until || (max_bytes == 0 && !at_least_one) {
            Bytes::new()
        } else {
            self.read_log(from, until, max_bytes, at_least_one)?
        };
        Ok(Slice { records, high_watermark, last_stable_offset, log_start })
    }

    /// What has to be made durable, if anything. The flusher alone calls this, carries the ticket
    /// out, and ends the flush before it begins another.
    pub(super) fn begin_flush(&self) -> Option<FlushTicket> {
        let mut state = self.state.lock();
        if state.due.is_some() {
            state = self.do_due(state);
            if state.due.is_cut() {
                // The epochs are those of the log as it is going to be: nothing is written by them.
                return None;
            }
        }
        let State { core, log, unsynced_bytes, flushing, .. } = &mut *state;
        *unsynced_bytes = 0;
        *flushing = core.generation();
        log.as_mut()?.begin_flush(core.epochs())
    }

    /// The records below `upto` are durable; the flush may go on with what is beside them.
    pub(super) fn on_synced(&self, upto: Offset) {
        let mut state = self.state.lock();
        let State { core, log, flushing, .. } = &mut *state;
        let Some(log) = log.as_mut().filter(|_| self.directory.data().is_online()) else { return };
        let moved = core.on_flushed(log.on_synced(upto), *flushing);
        self.publish(core);
        let high_watermark = core.high_watermark();
        let follows = core.following().is_some();
        drop(state);
        if moved {
            self.on_high_watermark(high_watermark);
        }
        if follows {
            self.tell_fetcher_durable();
        }
    }

    /// Wakes who waits for it.
    fn on_high_watermark(&self, high_watermark: Offset) {
        self.waiters.advance(high_watermark);
        self.watchers.on_high_watermark();
    }

    /// The flush is over, with this result.
    pub(super) fn end_flush(&self, result: Result<Flushed, StorageError>) {
        let mut state = self.state.lock();
        let Some(log) = state.log.as_mut() else { return };
        let full = result.as_ref().is_ok_and(Flushed::is_full);
        if let Err(error) = log.end_flush(result) {
            self.fail(state, &error);
        } else if full {
            drop(state);
            self.directory.data().on_full();
        }
    }

    /// A failed write or sync is final: what the disk holds is unknown, so nothing on this log is
    /// acknowledged any more, nor on any other of the directory. A restart finds out what survived.
    fn fail(&self, state: MutexGuard<'_, State>, error: &StorageError) {
        // The directory takes every partition's lock in turn.
        drop(state);
        if error.is_disk_failure() {
            self.directory.fail(&error.to_string());
        } else {
            error!(partition = %self.name, %error, "log failed; the partition is offline until restart");
        }
        self.go_offline();
    }

    /// Whoever waits is told that what it waits for will not come.
    fn fail_waiting(&self) {
        self.waiters.fail_all();
        self.deletions.notify_waiters();
    }

    /// Gives up the log, and tells everyone who waits for it.
    pub(super) fn go_offline(&self) {
        let mut state = self.state.lock();
        state.log = None;
        state.core.on_failed();
        self.publish(&state.core);
        drop(state);
        self.fail_waiting();
        self.watchers.on_role();
        self.unfollow();
        self.tell_trouble();
    }

    /// As [`Self::on_image`], where this broker leads and is alone.
    #[cfg(test)]
    pub(crate) fn apply(
        self: &Arc<Self>,
        epoch: LeaderEpoch,
        in_sync: &[crate::base::BrokerId],
        config: Arc<TopicConfig>,
    ) {
        let state = PartitionState {
            leader: in_sync.first().copied(),
            leader_epoch: epoch,
            partition_epoch: epoch.0,
            replicas: in_sync.to_vec(),
            isr: in_sync.to_vec(),
            ..PartitionState::default()
        };
        self.on_image(&state, BrokerEpoch::NONE, config);
    }

    /// Applies what the controller has decided: the partition as it is in an image that knows this
    /// broker by the registration `registered`, and the topic's settings.
    pub(crate) fn on_image(
        self: &Arc<Self>,
        partition: &PartitionState,
        registered: BrokerEpoch,
        config: Arc<TopicConfig>,
    ) {
        let min_in_sync = partition.min_in_sync(&config);
        let now = self.directory.monotonic();
        let mut state = self.state.lock();
        let was_lazy = state.core.flush_mode() == FlushMode::Os;
        let mut moved = state.core.on_config(config.flush_mode, min_in_sync);
        let is_due = was_lazy && state.core.flush_mode() == FlushMode::Group;
        let State { core, log, .. } = &mut *state;
        let mut outcome = ImageOutcome::default();
        if let Some(log) = log.as_mut() {
            log.set_options(log_options(&config));
            let before = core.in_sync().len();
            outcome = core.on_image(now, partition, registered);
            moved |= outcome.moved;
            if !outcome.role_changed {
                self.count_in_sync(before, core);
            }
        }
        self.note_throttles(&config, partition);
        self.config.store(config);
        self.publish(core);
        let high_watermark = core.high_watermark();
        let follows = core.following().map(|(leader, _)| leader);
        self.watchers.on_image(core.has_followers(), partition.replicas.len() > 1);
        self.ask_alter(core, now);
        drop(state);
        if is_due {
            // Whoever asks from now on is promised that all below is on disk.
            self.directory.flusher().request(self);
        }
        if outcome.role_changed {
            // They wait for what the role before was going to bring.
            self.waiters.fail_all();
            self.watchers.on_role();
            self.follow(follows);
        }
        if outcome.role_changed && self.has_damage() {
            // There is somebody to ask now.
            self.on_damaged();
        }
        // Who does not count any more is not waited for.
        self.deletions.notify_waiters();
        if moved {
            self.on_high_watermark(high_watermark);
        }
    }

    /// This process is registered: roles are begun by metadata that knows of it.
    pub(crate) fn on_registered(&self, registration: BrokerEpoch) {
        self.state.lock().core.on_registered(registration);
    }

    /// Drops what retention lets go: whole segments past `retention.ms` or `retention.bytes`.
    ///
    /// # Errors
    /// The new log start cannot be written down.
    pub(crate) fn apply_retention(self: &Arc<Self>, now: Timestamp) -> Result<(), StorageError> {
        let config = self.config.load();
        // A log that is only compacted keeps the last record of a key however old it is.
        let deletes = config.cleanup_policy.deletes();
        let retention_ms = config.retention_ms.filter(|_| deletes);
        let retention_ms = retention_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
        let retention_bytes = config.retention_bytes.filter(|_| deletes);
        let mut state = self.state.lock();
        if state.due.is_cut() {
            return Ok(());
        }
        let State { core, log, .. } = &mut *state;
        let Some(log) = log.as_mut() else { return Ok(()) };
        let roll = log.is_roll_due(now, retention_ms);
        if roll {
            log.roll();
            log.save_producers(core.producers(), core.log().end);
        }
        let upto = core.high_watermark();
        let expired = log.expired_by_retention(now, retention_ms, retention_bytes, upto);
        if let Some(start) = expired.filter(|start| *start > core.log().start) {
            if let Err(error) = self.advance_start(log, core, start) {
                if error.is_fatal() {
                    self.fail(state, &error);
                }
                return Err(error);
            }
            core.on_start_advanced(start);
            self.publish(core);
            self.watchers.on_start();
        }
        drop(state);
        if roll {
            self.directory.flusher().request(self);
        }
        Ok(())
    }

    /// Moves the start of `log`; where a full disk is in the way, with the space set aside for that.
    fn advance_start(
        &self,
        log: &mut Log,
        core: &PartitionCore,
        to: Offset,
    ) -> Result<(), StorageError> {
        match log.advance_start(to, core.epochs()) {
            Err(StorageError::NoSpace { .. }) if self.directory.data().on_full() => {
                log.advance_start(to, core.epochs())
            }
            advanced => advanced,
        }
    }

    /// Forgets idle producers.
    pub(crate) fn expire_producers(&self, now: Timestamp, expiration_ms: i64) {
        self.state.lock().core.on_expire_producers(now, expiration_ms);
    }

    /// Gives the log up, to be synced and closed with a clean marker; waiting requests are told.
    /// None where there is nothing to close.
    ///
    /// # Errors
    /// The log cannot be closed cleanly; the next start recovers by reading.
    pub(super) fn begin_close(&self) -> Result<Option<Closing>, StorageError> {
        if !self.directory.data().is_online() {
            // Nothing more is written to a disk that failed; the next start reads what survived.
            self.go_offline();
            return Ok(None);
        }
        let mut state = self.state.lock();
        let State { core, log, due, .. } = &mut *state;
        let Some(log) = log.take() else { return Ok(None) };
        let closing = if due.is_cut() {
            // Its epochs are those of the log as it was going to be: the next start reads it.
            Ok(None)
        } else {
            log.begin_close(core.producers(), core.epochs())
        };
        core.on_resigned();
        self.publish(core);
        self.fail_waiting();
        closing
    }

    /// Removes the log and its files; waiting requests are told.
    ///
    /// # Errors
    /// What could not be removed.
    pub(crate) fn delete(&self) -> Result<(), StorageError> {
        let mut state = self.state.lock();
        let log = state.log.take();
        state.core.on_resigned();
        self.publish(&state.core);
        self.fail_waiting();
        drop(state);
        self.watchers.on_role();
        self.unfollow();
        let deleted = log.map_or(Ok(()), Log::delete);
        if let Err(error) = &deleted
            && error.is_disk_failure()
        {
            self.directory.fail(&error.to_string());
        }
        deleted
    }

    /// Runs `look` on the decisions of this partition.
    pub(crate) fn inspect<R>(&self, look: impl FnOnce(&PartitionCore) -> R) -> R {
        look(&self.state.lock().core)
    }

    pub(crate) fn config(&self) -> Arc<TopicConfig> {
        self.config.load_full()
    }

    pub(crate) fn reader(&self) -> &LogReader {
        &self.reader
    }

    pub(crate) fn directory(&self) -> &Arc<LogDirectory> {
        &self.directory
    }

    pub(crate) fn flush_state(&self) -> &FlushState {
        &self.flush_state
    }

    pub(crate) fn leader_epoch(&self) -> Option<LeaderEpoch> {
        let epoch = self.published.leader_epoch.load(Ordering::Acquire);
        (epoch >= 0).then_some(LeaderEpoch(epoch))
    }

    pub(crate) fn high_watermark(&self) -> Offset {
        Offset(self.published.high_watermark.load(Ordering::Acquire))
    }

    pub(crate) fn last_stable_offset(&self) -> Offset {
        Offset(self.published.last_stable_offset.load(Ordering::Acquire))
    }

    pub(crate) fn log_start(&self) -> Offset {
        Offset(self.published.log_start.load(Ordering::Acquire))
    }

    pub(crate) fn log_end(&self) -> Offset {
        Offset(self.published.log_end.load(Ordering::Acquire))
    }

    /// What reads the full segments of the log again; none once it is offline.
    pub(crate) fn scrubber(&self) -> Option<LogScrubber> {
        self.state.lock().log.as_ref().map(Log::scrubber)
    }

    /// Damaged ranges of the log, which are not served.
    pub(crate) fn quarantined(&self) -> Arc<Vec<QuarantinedRange>> {
        self.reader.quarantined()
    }

    /// Bytes on disk.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.state.lock().log.as_ref().map_or(0, Log::size_bytes)
    }

    /// The log end goes first and the high watermark last: a reader never sees a high watermark
    /// beyond the end it sees.
    fn publish(&self, core: &PartitionCore) {
        let epoch = core.leader_epoch().map_or(-1, |epoch| epoch.0);
        let log = core.log();
        self.published.failed.store(core.is_failed(), Ordering::Release);
        self.published.leader_epoch.store(epoch, Ordering::Release);
        let followed = || core.following().map_or(-1, |(_, epoch)| epoch.0);
        let read_epoch = if epoch >= 0 { epoch } else { followed() };
        self.published.read_epoch.store(read_epoch, Ordering::Release);
        self.published.log_end.store(log.end.0, Ordering::Release);
        self.published.log_start.store(log.start.0, Ordering::Release);
        self.published.last_stable_offset.store(core.last_stable_offset().0, Ordering::Release);
        self.published.high_watermark.store(core.high_watermark().0, Ordering::Release);
    }
}

/// The part of a topic's settings its logs go by.
pub(crate) fn log_options(config: &TopicConfig) -> LogOptions {
    // What is active is not compacted: it ends before a record has waited too long.
    let segment_ms = if config.cleanup_policy.compacts() {
        config.segment_ms.min(config.max_compaction_lag_ms)
    } else {
        config.segment_ms
    };
    LogOptions {
        segment_bytes: u64::from(config.segment_bytes),
        segment_ms: i64::try_from(segment_ms).unwrap_or(i64::MAX),
        index_interval_bytes: config.index_interval_bytes,
    }
}
