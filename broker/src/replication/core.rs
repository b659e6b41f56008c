//! What a partition decides: may this batch be appended, at which offset, what is committed, who
//! may be answered.
//!
//! Pure: inputs and `now` go in, decisions come out. No I/O, no lock, no clock, no map with random
//! order; [`super::partition::Partition`] does what is decided here. Today the in-sync set is this
//! broker alone; followers extend [`Leadership`] and nothing else.
//!
//! Always holds (see [`PartitionCore::check`]):
//! - log start ≤ high watermark ≤ log end, durable end ≤ log end;
//! - in group mode the high watermark never passes what is durable on every in-sync replica (H1);
//! - the high watermark never decreases on a leader (H3), and does not move while fewer replicas
//!   are in sync than `min.insync.replicas` (H2);
//! - epochs in the cache never decrease and none starts beyond the log end.

use sawlog_protocol::records::BatchHeader;

use crate::base::{BrokerId, LeaderEpoch, Offset, Timestamp};
use crate::config::FlushMode;
use crate::storage::{EpochCache, ProducerError, ProducerTable, Sequence};

/// When a write is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Never.
    None,
    /// Once the leader's log has it.
    Leader,
    /// Once it is committed: on every in-sync replica, durable unless the topic opts out.
    All,
}

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

/// Where a batch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Write it with these in its header.
    Append {
        /// Offset of its first record.
        base_offset: Offset,
        /// The leader's epoch.
        leader_epoch: LeaderEpoch,
    },
    /// An idempotent producer sent it before: answer as then.
    Duplicate {
        /// Offset of the first record, as appended the first time.
        base_offset: Offset,
        /// Offset of the last record, as appended the first time.
        last_offset: Offset,
    },
}

/// Why a batch is not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendRefusal {
    /// This broker does not lead the partition.
    #[error("this broker does not lead the partition")]
    NotLeader,
    /// acks=all, and fewer replicas are in sync than the topic demands.
    #[error("{in_sync} replicas are in sync, min.insync.replicas demands {required}")]
    NotEnoughReplicas {
        /// Replicas in sync.
        in_sync: usize,
        /// `min.insync.replicas`.
        required: usize,
    },
    /// The producer's epoch or sequence does not follow its last batch.
    #[error(transparent)]
    Producer(#[from] ProducerError),
}

/// Whether a write may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckState {
    /// Committed.
    Committed,
    /// Committed, on fewer in-sync replicas than the topic demands by now.
    NotEnoughReplicas,
    /// Not yet.
    Waiting,
    /// Never by this broker: it lost the leadership.
    NotLeader,
}

/// An epoch a client or replica names, against the one this leader has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochMismatch {
    /// The client's metadata is older than ours.
    #[error("leader epoch {given} is fenced, the current one is {current}")]
    Fenced {
        /// The epoch named.
        given: LeaderEpoch,
        /// The current one.
        current: LeaderEpoch,
    },
    /// The client's metadata is newer than ours.
    #[error("leader epoch {given} is not known here, the current one is {current}")]
    Unknown {
        /// The epoch named.
        given: LeaderEpoch,
        /// The current one.
        current: LeaderEpoch,
    },
    /// This broker does not lead the partition.
    #[error("this broker does not lead the partition")]
    NotLeader,
}

/// Compares the epoch a client names (-1: none) with the leader's. Returns the leader's.
///
/// # Errors
/// The mismatch.
pub(super) fn check_epoch(
    given: LeaderEpoch,
    current: Option<LeaderEpoch>,
) -> Result<LeaderEpoch, EpochMismatch> {
    let current = current.ok_or(EpochMismatch::NotLeader)?;
    if given == LeaderEpoch::NONE || given == current {
        Ok(current)
    } else if given < current {
        Err(EpochMismatch::Fenced { given, current })
    } else {
        Err(EpochMismatch::Unknown { given, current })
    }
}

/// A partition's leadership by this broker.
#[derive(Clone, Debug)]
struct Leadership {
    epoch: LeaderEpoch,
    /// The log end when the epoch began.
    epoch_start: Offset,
    /// Replicas in sync, this broker included, as the controller has committed them.
    in_sync: Vec<BrokerId>,
}

/// The decisions of one partition.
#[derive(Debug)]
pub struct PartitionCore {
    broker: BrokerId,
    log: LogView,
    epochs: EpochCache,
    producers: ProducerTable,
    high_watermark: Offset,
    leadership: Option<Leadership>,
    flush_mode: FlushMode,
    min_in_sync: usize,
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
            log,
            epochs,
            producers,
            high_watermark: log.start,
            leadership: None,
            flush_mode: FlushMode::Group,
            min_in_sync: 1,
        };
        core.check();
        core
    }

    /// The topic's settings this core decides by. Returns whether the high watermark moved.
    pub fn on_config(&mut self, flush_mode: FlushMode, min_in_sync: usize) -> bool {
        self.flush_mode = flush_mode;
        self.min_in_sync = min_in_sync.max(1);
        self.advance_high_watermark()
    }

    /// The controller made this broker the leader (E3). Older epochs are ignored. Returns whether
    /// the high watermark moved.
    pub fn on_leader(&mut self, epoch: LeaderEpoch, in_sync: &[BrokerId]) -> bool {
        if let Some(leadership) = &mut self.leadership {
            if epoch < leadership.epoch {
                return false;
            }
            if epoch == leadership.epoch {
                leadership.in_sync = in_sync.to_vec();
                return self.advance_high_watermark();
            }
        }
        self.epochs.assign(epoch, self.log.end);
        self.leadership =
            Some(Leadership { epoch, epoch_start: self.log.end, in_sync: in_sync.to_vec() });
        self.advance_high_watermark()
    }

    /// The partition is served here no more; what waits for it must be told.
    pub fn on_resigned(&mut self) {
        self.leadership = None;
    }

    /// Decides on a batch whose bytes have been validated. Nothing changes until
    /// [`Self::on_appended`].
    ///
    /// # Errors
    /// Why it is refused; the log is untouched.
    pub fn on_produce(&self, batch: &BatchHeader, acks: Acks) -> Result<Decision, AppendRefusal> {
        let leadership = self.leadership.as_ref().ok_or(AppendRefusal::NotLeader)?;
        if acks == Acks::All && leadership.in_sync.len() < self.min_in_sync {
            return Err(AppendRefusal::NotEnoughReplicas {
                in_sync: leadership.in_sync.len(),
                required: self.min_in_sync,
            });
        }
        match self.producers.check(batch)? {
            Sequence::Append => {
                Ok(Decision::Append { base_offset: self.log.end, leader_epoch: leadership.epoch })
            }
            Sequence::Duplicate { base_offset, last_offset } => {
                Ok(Decision::Duplicate { base_offset, last_offset })
            }
        }
    }

    /// The batch decided on is in the log. Returns whether the high watermark moved.
    pub fn on_appended(
        &mut self,
        batch: &BatchHeader,
        base_offset: Offset,
        now: Timestamp,
    ) -> bool {
        assert_eq!(base_offset, self.log.end, "a batch goes to the end of the log");
        self.log.end = base_offset.plus(i64::from(batch.last_offset_delta) + 1);
        self.producers.record(batch, base_offset, now);
        self.advance_high_watermark()
    }

    /// Everything below `upto` is on disk. Returns whether the high watermark moved.
    pub fn on_flushed(&mut self, upto: Offset) -> bool {
        assert!(upto <= self.log.end, "flushed to {upto}, log ends at {}", self.log.end);
        self.log.durable = self.log.durable.max(upto);
        self.advance_high_watermark()
    }

    /// Records below `start` are gone (retention, DeleteRecords).
    pub fn on_start_advanced(&mut self, start: Offset) {
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

    /// Whether a write that ends with `last_offset` may be answered (A1).
    #[must_use]
    pub fn ack_state(&self, last_offset: Offset) -> AckState {
        let Some(leadership) = &self.leadership else { return AckState::NotLeader };
        if self.high_watermark <= last_offset {
            AckState::Waiting
        } else if leadership.in_sync.len() < self.min_in_sync {
            AckState::NotEnoughReplicas
        } else {
            AckState::Committed
        }
    }

    /// The largest epoch of the log not above `epoch`, and where the log leaves it.
    #[must_use]
    pub fn end_offset_for(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epochs.end_offset_for(epoch, self.log.end)
    }

    /// The epoch this broker leads, if it does.
    #[must_use]
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        self.leadership.as_ref().map(|leadership| leadership.epoch)
    }

    /// Consumers see everything below.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
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

    /// H1–H3: the least durable end over the in-sync replicas, gated, never back.
    fn advance_high_watermark(&mut self) -> bool {
        let Some(leadership) = &self.leadership else { return false };
        if leadership.in_sync.len() < self.min_in_sync {
            return false;
        }
        // The in-sync set is this broker; followers' durable ends join this minimum.
        let replicated = match self.flush_mode {
            FlushMode::Group => self.log.durable,
            FlushMode::Os => self.log.end,
        };
        let moved = replicated > self.high_watermark;
        self.high_watermark = self.high_watermark.max(replicated);
        self.check();
        moved
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
        if let Some(leadership) = &self.leadership {
            assert!(leadership.epoch_start <= end, "epoch starts beyond the log end {end}");
            debug_assert!(
                leadership.in_sync.is_empty() || leadership.in_sync.contains(&self.broker),
                "a leader is in its own in-sync set"
            );
        }
    }
}
