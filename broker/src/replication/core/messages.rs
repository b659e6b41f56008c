//! What the cores of one partition say to each other and to the controller.
//!
//! Data only: numbers, no bytes of records and no wire format. How they travel, and that an answer
//! finds the request it belongs to, is the business of the shell.

use crate::base::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};

/// Tells the contents of one log apart: rises whenever its tail is thrown away. What was begun on
/// an older generation says nothing about this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogGeneration(pub u64);

/// A follower asks its leader for records, and says how far it is (F1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaFetch {
    /// The follower.
    pub replica: BrokerId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// The leadership it follows.
    pub leader_epoch: LeaderEpoch,
    /// The end of its log: what it asks for starts here.
    pub fetch_offset: Offset,
    /// The epoch of its last record; none if its log is empty.
    pub last_epoch: Option<LeaderEpoch>,
    /// Everything below survives a power cut of the follower.
    pub durable: Offset,
}

/// A follower's disk has caught up, between two fetches (F6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurableReport {
    /// The follower.
    pub replica: BrokerId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// The leadership it follows.
    pub leader_epoch: LeaderEpoch,
    /// Everything below survives a power cut of the follower.
    pub durable: Offset,
}

/// What a leader answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchAnswer {
    /// The logs agree below the offset asked for; records follow from there, if there are any.
    Records {
        /// The leader's high watermark.
        high_watermark: Offset,
        /// The leader's log start.
        log_start: Offset,
    },
    /// The logs part earlier (F2).
    Diverging {
        /// The largest epoch of the leader's log that is not above the follower's last.
        epoch: LeaderEpoch,
        /// Where that epoch ends in the leader's log.
        end: Offset,
    },
    /// The leader's log has nothing in common with the follower's any more (F4).
    OutOfRange {
        /// The leader's log start.
        log_start: Offset,
    },
}

/// Why a fetch gets no answer of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchRefusal {
    /// This broker does not lead the partition.
    #[error("this broker does not lead the partition")]
    NotLeader,
    /// The follower follows a leadership that is over.
    #[error("leader epoch {given} is fenced, the current one is {current}")]
    Fenced {
        /// The epoch named.
        given: LeaderEpoch,
        /// The current one.
        current: LeaderEpoch,
    },
    /// The follower knows of a leadership this broker has not heard of.
    #[error("leader epoch {given} is not known here, the current one is {current}")]
    Unknown {
        /// The epoch named.
        given: LeaderEpoch,
        /// The current one.
        current: LeaderEpoch,
    },
    /// The follower has no replica of this partition, as far as this broker knows.
    #[error("broker {0} has no replica of the partition")]
    NotReplica(BrokerId),
    /// A later process of the same broker has fetched already.
    #[error("broker epoch {given} is over, the current one is {current}")]
    StaleBrokerEpoch {
        /// The epoch named.
        given: BrokerEpoch,
        /// The current one.
        current: BrokerEpoch,
    },
}

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
