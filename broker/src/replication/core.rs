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
    /// Not before a restart: the log failed.
    Offline,
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
    /// The partition's log failed.
    #[error("the partition's log is offline")]
    Offline,
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
    /// The log failed: what of it survives is not known.
    failed: bool,
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
            failed: false,
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
        self.epochs.lead(epoch, self.log.end);
        self.leadership =
            Some(Leadership { epoch, epoch_start: self.log.end, in_sync: in_sync.to_vec() });
        self.advance_high_watermark()
    }

    /// The partition is served here no more; what waits for it must be told.
    pub fn on_resigned(&mut self) {
        self.leadership = None;
    }

    /// The log failed: nothing of it is acknowledged any more.
    pub fn on_failed(&mut self) {
        self.leadership = None;
        self.failed = true;
    }

    /// Whether the log failed.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.failed
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
        if self.failed {
            return AckState::Offline;
        }
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

#[cfg(test)]
mod tests {
    use sawlog_protocol::records::{BatchBuilder, Compression};

    use super::*;

    const ME: BrokerId = BrokerId(1);

    fn core() -> PartitionCore {
        let log = LogView { start: Offset(0), end: Offset(0), durable: Offset(0) };
        PartitionCore::new(ME, log, EpochCache::default(), ProducerTable::default())
    }

    fn leader() -> PartitionCore {
        let mut core = core();
        core.on_leader(LeaderEpoch(0), &[ME]);
        core
    }

    fn batch(producer: Option<(i16, i32)>, count: usize) -> BatchHeader {
        let mut builder = BatchBuilder::new(Compression::None);
        if let Some((epoch, sequence)) = producer {
            builder.producer(9, epoch, sequence);
        }
        for _ in 0..count {
            builder.append(0, None, Some(b"v"), &[]).unwrap();
        }
        BatchHeader::parse(&builder.build()).unwrap()
    }

    fn append(core: &mut PartitionCore, batch: &BatchHeader) -> bool {
        match core.on_produce(batch, Acks::All).unwrap() {
            Decision::Append { base_offset, .. } => {
                core.on_appended(batch, base_offset, Timestamp(0))
            }
            duplicate @ Decision::Duplicate { .. } => panic!("{duplicate:?}"),
        }
    }

    #[test]
    fn a_write_is_committed_when_it_is_durable() {
        let mut core = leader();
        assert!(!append(&mut core, &batch(None, 3)));
        assert_eq!(core.ack_state(Offset(2)), AckState::Waiting);
        assert_eq!(core.high_watermark(), Offset(0));
        assert!(core.on_flushed(Offset(3)));
        assert_eq!(core.ack_state(Offset(2)), AckState::Committed);
        assert!(!core.on_flushed(Offset(2)), "a late, smaller flush moves nothing back");
        assert_eq!(core.high_watermark(), Offset(3));
    }

    #[test]
    fn without_waiting_for_the_disk_a_write_is_committed_at_once() {
        let mut core = leader();
        core.on_config(FlushMode::Os, 1);
        assert!(append(&mut core, &batch(None, 3)));
        assert_eq!(core.ack_state(Offset(2)), AckState::Committed);
        // Back to waiting: what was exposed stays exposed.
        core.on_config(FlushMode::Group, 1);
        assert_eq!(core.high_watermark(), Offset(3));
    }

    #[test]
    fn too_few_in_sync_replicas_refuse_acks_all_and_hold_the_high_watermark() {
        let mut core = leader();
        append(&mut core, &batch(None, 1));
        core.on_config(FlushMode::Group, 2);
        assert_eq!(
            core.on_produce(&batch(None, 1), Acks::All),
            Err(AppendRefusal::NotEnoughReplicas { in_sync: 1, required: 2 })
        );
        assert!(core.on_produce(&batch(None, 1), Acks::Leader).is_ok());
        assert!(!core.on_flushed(Offset(1)));
        assert_eq!(core.high_watermark(), Offset(0));
        assert!(core.on_config(FlushMode::Group, 1), "the gate opens");
        assert_eq!(core.high_watermark(), Offset(1));
    }

    #[test]
    fn a_repeated_batch_keeps_its_offsets_and_waits_like_the_first() {
        let mut core = leader();
        let first = batch(Some((0, 0)), 2);
        append(&mut core, &first);
        append(&mut core, &batch(Some((0, 2)), 2));
        assert_eq!(
            core.on_produce(&first, Acks::All),
            Ok(Decision::Duplicate { base_offset: Offset(0), last_offset: Offset(1) })
        );
        assert_eq!(core.ack_state(Offset(1)), AckState::Waiting);
        assert!(matches!(
            core.on_produce(&batch(Some((0, 9)), 1), Acks::All),
            Err(AppendRefusal::Producer(ProducerError::OutOfOrderSequence { .. }))
        ));
    }

    #[test]
    fn who_does_not_lead_neither_takes_nor_confirms() {
        let mut core = core();
        assert_eq!(core.on_produce(&batch(None, 1), Acks::All), Err(AppendRefusal::NotLeader));
        core.on_leader(LeaderEpoch(3), &[ME]);
        append(&mut core, &batch(None, 1));
        core.on_resigned();
        assert_eq!(core.ack_state(Offset(0)), AckState::NotLeader);
    }

    #[test]
    fn a_new_epoch_starts_at_the_log_end() {
        let mut core = leader();
        append(&mut core, &batch(None, 4));
        core.on_leader(LeaderEpoch(2), &[ME]);
        append(&mut core, &batch(None, 1));
        assert_eq!(core.end_offset_for(LeaderEpoch(0)), Some((LeaderEpoch(0), Offset(4))));
        assert_eq!(core.end_offset_for(LeaderEpoch(1)), Some((LeaderEpoch(0), Offset(4))));
        assert_eq!(core.end_offset_for(LeaderEpoch(2)), Some((LeaderEpoch(2), Offset(5))));
        core.on_leader(LeaderEpoch(1), &[ME]);
        assert_eq!(core.leader_epoch(), Some(LeaderEpoch(2)), "an older epoch is ignored");
    }

    #[test]
    fn epochs_clients_name_are_compared_with_ours() {
        let current = Some(LeaderEpoch(4));
        assert_eq!(check_epoch(LeaderEpoch::NONE, current), Ok(LeaderEpoch(4)));
        assert_eq!(check_epoch(LeaderEpoch(4), current), Ok(LeaderEpoch(4)));
        assert!(matches!(check_epoch(LeaderEpoch(3), current), Err(EpochMismatch::Fenced { .. })));
        assert!(matches!(check_epoch(LeaderEpoch(5), current), Err(EpochMismatch::Unknown { .. })));
        assert_eq!(check_epoch(LeaderEpoch(4), None), Err(EpochMismatch::NotLeader));
    }
}
