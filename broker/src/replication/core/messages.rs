//! What the cores of one partition say to each other.
//!
//! Data only: numbers, no bytes of records and no wire format. How they travel, and that an answer
//! finds the request it belongs to, is the business of the shell.

use crate::base::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};

/// Tells the contents of one log apart: rises whenever its tail is thrown away. What was begun on
/// an older generation says nothing about this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogGeneration(pub u64);

/// What a follower says is durable whose log has a hole below: it is no full copy, whatever is above.
pub(crate) const HOLED: Offset = Offset(-1);

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
    /// Everything below survives a power cut of the follower; [`HOLED`] if it has a hole.
    pub durable: Offset,
    /// Its log start: what is below does not come back.
    pub log_start: Offset,
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
    /// Everything below survives a power cut of the follower; [`HOLED`] if it has a hole.
    pub durable: Offset,
    /// Its log start: what is below does not come back.
    pub log_start: Offset,
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
