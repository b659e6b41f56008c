//! What a leader asks the controller: another in-sync set for a partition.
//!
//! Data only. Both sides stand above this module and neither above the other.

use crate::base::{BrokerEpoch, BrokerId, LeaderEpoch};

/// A replica a leader wants in sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InSyncReplica {
    /// The replica.
    pub broker: BrokerId,
    /// The registration that was seen to have caught up; [`BrokerEpoch::NONE`] for one that is in
    /// sync already, of which nothing has to be shown.
    pub epoch: BrokerEpoch,
}

/// A leader asks the controller for another in-sync set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterPartition {
    /// Which question of this leadership it is; asking again keeps the number. It ties the answer
    /// to the question and means nothing to the controller.
    pub number: u64,
    /// The leader.
    pub leader: BrokerId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// Its leadership.
    pub leader_epoch: LeaderEpoch,
    /// What the partition was when it asked.
    pub partition_epoch: i32,
    /// The in-sync set it wants, itself included.
    pub in_sync: Vec<InSyncReplica>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlterAnswer {
    /// Committed.
    Altered {
        /// The leadership.
        leader_epoch: LeaderEpoch,
        /// What the partition is now.
        partition_epoch: i32,
        /// The in-sync set.
        in_sync: Vec<BrokerId>,
    },
    /// Refused.
    Refused(AlterRefusal),
}

/// Why the controller does not alter a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlterRefusal {
    /// The partition is not known, or no longer.
    #[error("the partition is not known")]
    UnknownPartition,
    /// The leader was registered anew since.
    #[error("the broker's registration is over")]
    StaleBrokerEpoch,
    /// Somebody else leads.
    #[error("the leader epoch is fenced")]
    FencedLeaderEpoch,
    /// The partition has changed since.
    #[error("the partition has changed since")]
    InvalidUpdateVersion,
    /// Committed, and with it the leadership went to somebody else.
    #[error("another leader was elected")]
    NewLeaderElected,
    /// A replica may not join: fenced, shutting down, registered anew, or no replica at all.
    #[error("a replica may not be in sync")]
    IneligibleReplica,
    /// The controller could not look at it: ask again.
    #[error("the controller is not available")]
    NotController,
}
