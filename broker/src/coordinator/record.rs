//! What is written to `__consumer_offsets`, as the coordinator thinks of it.
//!
//! The bytes are Kafka's (`GroupMetadataKey`, `OffsetCommitValue`, ...), made and parsed in the
//! protocol crate; [`super::stored`] translates. `None` as a value is a tombstone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::types::{Client, Generation, GroupId, InstanceId, MemberId};
use crate::base::{LeaderEpoch, Offset, Timestamp, TopicId, TopicPartition};

/// One record of `__consumer_offsets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// OffsetCommit: key (group, topic, partition).
    Offset {
        /// The group.
        group: GroupId,
        /// The partition.
        partition: TopicPartition,
        /// None: no longer committed.
        value: Option<OffsetRecord>,
    },
    /// GroupMetadata: a classic group.
    Group {
        /// The group.
        group: GroupId,
        /// None: no longer there.
        value: Option<GroupRecord>,
    },
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetRecord {
    /// The next record to read.
    pub offset: Offset,
    /// The epoch of the last record read, or [`LeaderEpoch::NONE`].
    pub leader_epoch: LeaderEpoch,
    /// The consumer's own note.
    pub metadata: Arc<str>,
    /// When it was committed.
    pub committed_at: Timestamp,
    /// When it expires, if the client said so (OffsetCommit 2 to 4; value version 1).
    pub expires_at: Option<Timestamp>,
}

/// A classic group, with the assignment of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// `consumer`, `connect`, ...
    pub protocol_type: Arc<str>,
    /// The generation.
    pub generation: Generation,
    /// The protocol chosen; none in an empty group.
    pub protocol: Option<Arc<str>>,
    /// Who assigned; none in an empty group.
    pub leader: Option<MemberId>,
    /// Since when the group is in its state.
    pub state_since: Timestamp,
    /// Its members.
    pub members: Vec<ClassicMemberRecord>,
}

/// A member of a [`GroupRecord`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicMemberRecord {
    /// Its id.
    pub member: MemberId,
    /// Its instance, if it is static.
    pub instance: Option<InstanceId>,
    /// The program behind it.
    pub client: Client,
    /// How long a rebalance waits for it (value version 0 does not have it: the session timeout).
    pub rebalance_timeout: Duration,
    /// Without a heartbeat for this long it is out.
    pub session_timeout: Duration,
    /// Its metadata for the protocol chosen.
    pub subscription: Bytes,
    /// What it has been assigned.
    pub assignment: Bytes,
}

/// Partitions by topic id, in order.
pub type TopicPartitions = std::collections::BTreeMap<TopicId, std::collections::BTreeSet<i32>>;
