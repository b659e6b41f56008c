//! Writes: may this batch be appended, at which offset, and may it be answered.

use std::time::Duration;

use sawlog_protocol::records::BatchHeader;

use super::{PartitionCore, Role};
use crate::base::{LeaderEpoch, Offset, Timestamp};
use crate::storage::{ProducerError, Sequence};

/// A replica that had all there is within this time follows; leaders look twice as often.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(1);

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
    /// An idempotent producer sent it before, so long ago that it is only known to be in the log.
    Older {
        /// It is committed when this is: it stands before.
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

impl PartitionCore {
    /// Decides on a batch whose bytes have been validated. Nothing changes until
    /// [`Self::on_appended`].
    ///
    /// # Errors
    /// Why it is refused; the log is untouched.
    pub fn on_produce(&self, batch: &BatchHeader, acks: Acks) -> Result<Decision, AppendRefusal> {
        let Role::Leader(leadership) = &self.role else { return Err(AppendRefusal::NotLeader) };
        if self.is_cutting {
            // What it followed before is not cut off yet, nor forgotten what producers wrote there: a
            // batch that went with it would be taken for one that is here. In a moment.
            return Err(AppendRefusal::NotLeader);
        }
        let in_sync = leadership.in_sync.committed().len();
        if acks == Acks::All && in_sync < self.min_in_sync {
            return Err(AppendRefusal::NotEnoughReplicas { in_sync, required: self.min_in_sync });
        }
        match self.producers.check(batch)? {
            Sequence::Append => {
                Ok(Decision::Append { base_offset: self.log.end, leader_epoch: leadership.epoch })
            }
            Sequence::Duplicate { .. } if planted!(AppendTwice) => {
                Ok(Decision::Append { base_offset: self.log.end, leader_epoch: leadership.epoch })
            }
            Sequence::Duplicate { base_offset, last_offset } => {
                Ok(Decision::Duplicate { base_offset, last_offset })
            }
            Sequence::Older { before } => Ok(Decision::Older { last_offset: before.plus(-1) }),
        }
    }

    /// What a producer is told in place of `refusal`. That something is missing before a batch only a
    /// leader can say that all replicas in sync still follow: another may lead by now, and have taken it.
    #[must_use]
    pub fn as_told(&self, now: Duration, acks: Acks, refusal: AppendRefusal) -> AppendRefusal {
        let is_gap =
            matches!(refusal, AppendRefusal::Producer(ProducerError::OutOfOrderSequence { .. }));
        if is_gap && acks == Acks::All && !self.is_followed(now, FOLLOWED_WITHIN) {
            return AppendRefusal::NotLeader;
        }
        refusal
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

    /// Whether a write that ends with `last_offset` may be answered (A1), by the leadership that
    /// took it. One that leads again later may have another record at that offset.
    #[must_use]
    pub fn ack_state_of(&self, epoch: LeaderEpoch, last_offset: Offset) -> AckState {
        match &self.role {
            Role::Leader(leadership) if leadership.epoch != epoch => AckState::NotLeader,
            _ => self.ack_state(last_offset),
        }
    }

    /// Whether a write of the current leadership that ends with `last_offset` may be answered (A1).
    #[must_use]
    pub fn ack_state(&self, last_offset: Offset) -> AckState {
        if self.failed {
            return AckState::Offline;
        }
        let Role::Leader(leadership) = &self.role else { return AckState::NotLeader };
        if self.high_watermark <= last_offset {
            AckState::Waiting
        } else if leadership.in_sync.committed().len() < self.min_in_sync {
            AckState::NotEnoughReplicas
        } else {
            AckState::Committed
        }
    }
}
