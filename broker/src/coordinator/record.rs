//! What is written to `__consumer_offsets`, as the coordinator thinks of it.
//!
//! The bytes are Kafka's (`GroupMetadataKey`, `OffsetCommitValue`, ...) and are made and parsed in
//! the protocol crate; the shell translates. `None` as a value is a tombstone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::types::{Client, Generation, GroupId, InstanceId, MemberId, Protocol};
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
    /// ConsumerGroupMetadata: the epoch of a consumer group.
    ConsumerEpoch {
        /// The group.
        group: GroupId,
        /// None: no longer there.
        epoch: Option<i32>,
    },
    /// ConsumerGroupMemberMetadata: what a member has said of itself.
    ConsumerMember {
        /// The group.
        group: GroupId,
        /// The member.
        member: MemberId,
        /// None: no longer a member.
        value: Option<ConsumerMemberRecord>,
    },
    /// ConsumerGroupTargetAssignmentMetadata: the group epoch the target was made for.
    ConsumerTargetEpoch {
        /// The group.
        group: GroupId,
        /// None: no target.
        epoch: Option<i32>,
    },
    /// ConsumerGroupTargetAssignmentMember: what a member shall have.
    ConsumerTarget {
        /// The group.
        group: GroupId,
        /// The member.
        member: MemberId,
        /// None: no longer a member.
        partitions: Option<TopicPartitions>,
    },
    /// ConsumerGroupCurrentMemberAssignment: what a member has.
    ConsumerAssignment {
        /// The group.
        group: GroupId,
        /// The member.
        member: MemberId,
        /// None: no longer a member.
        value: Option<ConsumerAssignmentRecord>,
    },
    /// ConsumerGroupPartitionMetadata: written by older brokers. Ours reads and removes it.
    ConsumerPartitions {
        /// The group.
        group: GroupId,
        /// None: removed.
        value: Option<()>,
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

/// What a member of a consumer group has said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerMemberRecord {
    /// Its instance, if it is static.
    pub instance: Option<InstanceId>,
    /// Where it stands.
    pub rack: Option<Arc<str>>,
    /// The program behind it.
    pub client: Client,
    /// Topics it names.
    pub topics: Vec<Arc<str>>,
    /// Topics it describes.
    pub regex: Option<Arc<str>>,
    /// How long it may take to give partitions back.
    pub rebalance_timeout: Duration,
    /// The assignor it asks for.
    pub assignor: Option<Arc<str>>,
    /// If it speaks the classic protocol: its session timeout and its protocols.
    pub classic: Option<(Duration, Vec<Protocol>)>,
}

/// What a member of a consumer group has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerAssignmentRecord {
    /// The epoch it has been told.
    pub epoch: i32,
    /// The one before, should the reply have been lost.
    pub previous_epoch: i32,
    /// Where it stands on the way to its target.
    pub state: MemberState,
    /// What it has.
    pub assigned: TopicPartitions,
    /// What it has to give back.
    pub revoking: TopicPartitions,
}

/// Where a member of a consumer group stands on the way to its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberState {
    /// Has what its epoch gives it. 0 in the record.
    #[default]
    Stable,
    /// Has partitions to give back. 1 in the record.
    UnrevokedPartitions,
    /// Waits for others to give partitions back. 2 in the record.
    UnreleasedPartitions,
    /// A value this version does not know. 127 in the record.
    Unknown,
}

/// Partitions by topic id, in order.
pub type TopicPartitions = std::collections::BTreeMap<TopicId, std::collections::BTreeSet<i32>>;
