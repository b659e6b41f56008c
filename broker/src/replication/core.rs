//! What a partition decides: may this batch be appended, at which offset, what is committed, who
//! may be answered, who is in sync, what a follower asks for and cuts.
//!
//! Pure: inputs and `now` go in, decisions come out. No I/O, no lock, no clock, no map with random
//! order; [`super::partition::Partition`] does what is decided here, and [`super::exchange`] carries it
//! between brokers. The worlds of `super::tests` live through all of it.
//!
//! Always holds (see [`PartitionCore::check`]):
//! - log start ≤ high watermark ≤ log end, durable end ≤ log end;
//! - in group mode the high watermark never passes what is durable on every in-sync replica (H1);
//! - the high watermark never decreases on a leader (H3), and does not move while fewer replicas
//!   are in sync than `min.insync.replicas` (H2);
//! - epochs in the cache never decrease and none starts beyond the log end;
//! - leader epoch and partition epoch never decrease.

mod append;
mod epochs;
mod follower;
mod isr;
mod leader;
mod messages;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use append::{AckState, Acks, AppendRefusal, Decision};
pub use epochs::EpochMismatch;
pub(super) use epochs::check_epoch;
use follower::Following;
pub use follower::{FetchRequest, FollowerStep};
pub use leader::Fetched;
use leader::Leadership;
pub(super) use messages::HOLED;
pub use messages::{DurableReport, FetchAnswer, FetchRefusal, LogGeneration, ReplicaFetch};

use crate::base::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, Timestamp};
use crate::config::FlushMode;
use crate::metadata::PartitionState;
use crate::storage::{EpochCache, ProducerTable};

/// How long a follower may lag before it is out of sync (S1), unless told otherwise.
const LAG_MAX: Duration = Duration::from_secs(10);

/// What the core knows of its log: numbers, no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogView {
    /// First offset that may be read.
    pub start: Offset,
    /// Offset of the next record.
    pub end: Offset,
    /// Everything below survives a power cut.
    pub durable: Offset,
}

/// What this broker is to the partition.
#[derive(Clone, Debug)]
enum Role {
    /// Nothing: nobody leads, or it has no replica, or it has not heard yet.
    None,
    Leader(Leadership),
    Follower(Following),
}

/// What metadata has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageOutcome {
    /// Whether the high watermark moved.
    pub moved: bool,
    /// Whether what the broker is to the partition has changed: who waits for a write of the
    /// leadership before, or for records, has to be told.
    pub role_changed: bool,
}

/// The decisions of one partition.
#[derive(Debug)]
pub struct PartitionCore {
    broker: BrokerId,
    /// This process's registration.
    registration: BrokerEpoch,
    log: LogView,
    /// The log start as it is written down: of a follower it may be behind.
    kept_start: Offset,
    generation: LogGeneration,
    /// The log is not yet as short as it is here, whatever role has begun since.
    is_cutting: bool,
    epochs: EpochCache,
    producers: ProducerTable,
    high_watermark: Offset,
    /// The newest metadata that was acted on.
    leader_epoch: LeaderEpoch,
    partition_epoch: i32,
    role: Role,
    flush_mode: FlushMode,
    min_in_sync: usize,
    lag_max: Duration,
    /// Fetches sent so far.
    fetches: u64,
    /// The log failed: what of it survives is not known.
    failed: bool,
    /// Records are missing from the middle of the log: it is no full copy.
    holed: bool,
}

impl PartitionCore {
    /// A partition as recovered from disk, leading nothing.
    #[must_use]
    pub fn new(
        broker: BrokerId,
        log: LogView,
        epochs: EpochCache,
        producers: ProducerTable,
    ) -> Self {
        let core = Self {
            broker,
            registration: BrokerEpoch::NONE,
            log,
            kept_start: log.start,
            is_cutting: false,
            generation: LogGeneration::default(),
            epochs,
            producers,
            high_watermark: log.start,
            leader_epoch: LeaderEpoch::NONE,
            partition_epoch: -1,
            role: Role::None,
            flush_mode: FlushMode::Group,
            min_in_sync: 1,
            lag_max: LAG_MAX,
            fetches: 0,
            failed: false,
            holed: false,
        };
        core.check();
        core
    }

    /// What an earlier process knew to be committed, of what is there. Only a hint: it may be from
    /// a while before that process ended.
    pub fn on_known_committed(&mut self, high_watermark: Offset) {
        let known = high_watermark.clamp(self.log.start, self.log.end);
        self.high_watermark = self.high_watermark.max(known);
    }

    /// The topic's settings this core decides by. Returns whether the high watermark moved.
    pub fn on_config(&mut self, flush_mode: FlushMode, min_in_sync: usize) -> bool {
        self.flush_mode = flush_mode;
        self.min_in_sync = min_in_sync.max(1);
        self.advance_high_watermark()
    }

    /// `replica.lag.time.max.ms`: how long a follower may lag before it is out of sync.
    pub fn on_lag_limit(&mut self, lag_max: Duration) {
        self.lag_max = lag_max;
    }

    /// This process is registered. From now on only metadata that knows of it begins a role (E2).
    pub fn on_registered(&mut self, registration: BrokerEpoch) {
        self.registration = registration;
    }

    /// The partition as the metadata has it, in an image that knows this broker by `registered`.
    /// What is older than what was acted on is ignored, and so is an image from before this
    /// process: it may name a leader that has lost its log since (E1–E3).
    pub fn on_image(
        &mut self,
        now: Duration,
        state: &PartitionState,
        registered: BrokerEpoch,
    ) -> ImageOutcome {
        let is_stale = state.leader_epoch < self.leader_epoch
            || (state.leader_epoch == self.leader_epoch
                && state.partition_epoch < self.partition_epoch);
        if self.failed || is_stale || registered < self.registration {
            return ImageOutcome::default();
        }
        let is_new_epoch = state.leader_epoch > self.leader_epoch;
        self.leader_epoch = state.leader_epoch;
        self.partition_epoch = state.partition_epoch;
        let role_changed = match &mut self.role {
            Role::Leader(leadership) if !is_new_epoch && state.leader == Some(self.broker) => {
                leadership.on_image(now, self.broker, state);
                false
            }
            Role::Follower(following)
                if !is_new_epoch && state.leader == Some(following.leader) =>
            {
                false
            }
            Role::None if !is_new_epoch && state.leader.is_none() => false,
            Role::None | Role::Leader(_) | Role::Follower(_) => {
                self.begin_role(now, state);
                true
            }
        };
        ImageOutcome { moved: self.advance_high_watermark(), role_changed }
    }

    /// E3: a leader's epoch starts at the end of its log. Everybody else forgets epochs that wrote
    /// nothing: with one kept, a later leader would name an end offset that is too early, and its
    /// followers would cut what is committed.
    fn begin_role(&mut self, now: Duration, state: &PartitionState) {
        if state.leader == Some(self.broker) {
            self.epochs.lead(state.leader_epoch, self.log.end);
            let leadership = Leadership::begin(now, self.broker, state, self.log.end);
            self.role = Role::Leader(leadership);
            return;
        }
        if !planted!(KeepEmptyEpochs) {
            self.epochs.truncate_from_end(self.log.end);
        }
        self.role = match state.leader {
            Some(leader) if state.replicas.contains(&self.broker) => {
                Role::Follower(Following::begin(now, leader, state.leader_epoch))
            }
            Some(_) | None => Role::None,
        };
    }

    /// The partition is served here no more; what waits for it must be told.
    pub fn on_resigned(&mut self) {
        self.role = Role::None;
    }

    /// The log failed: nothing of it is acknowledged any more.
    pub fn on_failed(&mut self) {
        self.role = Role::None;
        self.failed = true;
    }

    /// Whether records are missing from the middle of the log. A follower says so, and is not taken for
    /// a full copy until they are there again (9).
    pub fn on_holed(&mut self, holed: bool) {
        self.holed = holed;
    }

    /// Whether records are missing from the middle of the log.
    #[must_use]
    pub fn is_holed(&self) -> bool {
        self.holed
    }

    /// Whether the log failed.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.failed
    }

    /// Everything below `upto` is on disk, of the log as it was in `generation`: of another one
    /// that says nothing. Returns whether the high watermark moved.
    pub fn on_flushed(&mut self, upto: Offset, generation: LogGeneration) -> bool {
        let upto = if planted!(CountFlushOfBefore) { upto.min(self.log.end) } else { upto };
        if generation != self.generation && !planted!(CountFlushOfBefore) {
            return false;
        }
        assert!(upto <= self.log.end, "flushed to {upto}, log ends at {}", self.log.end);
        self.log.durable = self.log.durable.max(upto);
        self.advance_high_watermark()
    }

    /// Records below `start` are gone for good (retention, DeleteRecords).
    pub fn on_start_advanced(&mut self, start: Offset) {
        self.advance_start(start);
        self.on_start_kept(start);
    }

    /// The log start is written down as `start`.
    pub fn on_start_kept(&mut self, start: Offset) {
        self.kept_start = self.kept_start.max(start);
    }

    /// The log start as it is written down.
    #[must_use]
    pub fn kept_start(&self) -> Offset {
        self.kept_start
    }

    /// Records below `start` are shown to nobody any more.
    pub(super) fn advance_start(&mut self, start: Offset) {
        assert!(
            start <= self.high_watermark,
            "log start {start} beyond the high watermark {}",
            self.high_watermark
        );
        self.log.start = self.log.start.max(start);
        self.epochs.truncate_from_start(self.log.start);
        self.check();
    }

    /// Forgets producers that have not written for `expiration_ms`.
    pub fn on_expire_producers(&mut self, now: Timestamp, expiration_ms: i64) {
        self.producers.expire(now, expiration_ms);
    }

    /// The epoch this broker leads, if it does.
    #[must_use]
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        match &self.role {
            Role::Leader(leadership) => Some(leadership.epoch),
            Role::Follower(_) | Role::None => None,
        }
    }

    /// Whether this broker leads and others have replicas.
    #[must_use]
    pub fn has_followers(&self) -> bool {
        matches!(&self.role, Role::Leader(leadership) if leadership.has_remotes())
    }

    /// Whom this broker follows, and in which epoch.
    #[must_use]
    pub fn following(&self) -> Option<(BrokerId, LeaderEpoch)> {
        match &self.role {
            Role::Follower(following) => Some((following.leader, following.epoch)),
            Role::Leader(_) | Role::None => None,
        }
    }

    /// Where the epoch this broker leads began.
    #[must_use]
    pub fn epoch_start(&self) -> Option<Offset> {
        match &self.role {
            Role::Leader(leadership) => Some(leadership.epoch_start),
            Role::Follower(_) | Role::None => None,
        }
    }

    /// The in-sync set as committed, where this broker leads.
    #[must_use]
    pub fn in_sync(&self) -> &[BrokerId] {
        match &self.role {
            Role::Leader(leadership) => leadership.in_sync.committed(),
            Role::Follower(_) | Role::None => &[],
        }
    }

    /// The partition epoch of that set.
    #[must_use]
    pub fn partition_epoch(&self) -> Option<i32> {
        match &self.role {
            Role::Leader(leadership) => Some(leadership.in_sync.partition_epoch()),
            Role::Follower(_) | Role::None => None,
        }
    }

    /// Whether a change of the in-sync set is under way.
    #[must_use]
    pub fn is_alter_pending(&self) -> bool {
        matches!(&self.role, Role::Leader(leadership) if leadership.in_sync.is_pending())
    }

    /// Consumers see everything below.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The end of the log as consumers may be told it (KIP-207): none while a new leader does not
    /// know yet how much of what it took over is committed.
    #[must_use]
    pub fn latest_offset(&self) -> Option<Offset> {
        let start = self.epoch_start()?;
        (self.high_watermark >= start).then_some(self.high_watermark)
    }

    /// `read_committed` consumers see everything below. No transaction can be open yet, so it is
    /// the high watermark.
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        self.high_watermark
    }

    /// The log's numbers.
    #[must_use]
    pub fn log(&self) -> LogView {
        self.log
    }

    /// Which contents of the log they are of.
    #[must_use]
    pub fn generation(&self) -> LogGeneration {
        self.generation
    }

    /// How appended records become durable.
    #[must_use]
    pub fn flush_mode(&self) -> FlushMode {
        self.flush_mode
    }

    /// The idempotent producers of this partition.
    #[must_use]
    pub fn producers(&self) -> &ProducerTable {
        &self.producers
    }

    /// The leader epochs of this log.
    #[must_use]
    pub fn epochs(&self) -> &EpochCache {
        &self.epochs
    }

    /// Asserts what always holds.
    pub fn check(&self) {
        let LogView { start, end, durable } = self.log;
        assert!(durable <= end, "durable end {durable} beyond log end {end}");
        assert!(
            start <= self.high_watermark && self.high_watermark <= end,
            "high watermark {} outside [{start}, {end}]",
            self.high_watermark
        );
        if let Role::Leader(leadership) = &self.role {
            assert!(leadership.epoch_start <= end, "epoch starts beyond the log end {end}");
            let members = leadership.in_sync.committed();
            debug_assert!(
                members.is_empty() || members.contains(&self.broker),
                "a leader is in its own in-sync set"
            );
        }
    }
}
