//! Leader epochs: what clients and replicas name, against what this log and this leader have.

use super::PartitionCore;
use crate::base::{LeaderEpoch, Offset};

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
pub(in crate::replication) fn check_epoch(
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

impl PartitionCore {
    /// The largest epoch of the log not above `epoch`, and where the log leaves it. None for an
    /// epoch this log has not seen.
    #[must_use]
    pub fn end_offset_for(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epochs.end_offset_for(epoch, self.log.end)
    }

    /// As [`Self::end_offset_for`], but above the last epoch it is the last that counts: whoever
    /// names a later one wrote what this log never had.
    pub(super) fn largest_epoch_to(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let latest = self.epochs.latest()?;
        self.epochs.end_offset_for(epoch.min(latest), self.log.end)
    }

    /// The epoch of the last record; none in an empty log.
    pub(super) fn last_epoch(&self) -> Option<LeaderEpoch> {
        if self.log.end == self.log.start {
            return None;
        }
        self.epochs.epoch_at(self.log.end.plus(-1))
    }
}
