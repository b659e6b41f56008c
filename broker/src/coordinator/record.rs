//! What is written to `__consumer_offsets`, as the coordinator thinks of it.
//!
//! The bytes are Kafka's (`GroupMetadataKey`, `OffsetCommitValue`, ...), made and parsed in the
//! protocol crate; [`super::stored`] translates. `None` as a value is a tombstone.

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
    /// Part of a group of the consumer protocol.
    Consumer {
        /// The group.
        group: GroupId,
        /// Which part, and what it is now.
        part: ConsumerPart,
    },
}

/// A part of a group of the consumer protocol. `None` as a value: it is no longer there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerPart {
    /// ConsumerGroupMetadata. Without it there is no such group.
    Epoch(Option<EpochRecord>),
    /// ConsumerGroupMemberMetadata: what a member said of itself.
    Member(MemberId, Option<MemberRecord>),
    /// ConsumerGroupTargetAssignmentMetadata: the epoch the targets are for.
    TargetEpoch(Option<i32>),
    /// ConsumerGroupTargetAssignmentMember: what a member shall have.
    Target(MemberId, Option<TopicPartitions>),
    /// ConsumerGroupCurrentMemberAssignment: what a member has.
    Current(MemberId, Option<CurrentRecord>),
    /// ConsumerGroupRegularExpression: the topics a pattern stands for.
    Pattern(Arc<str>, Option<PatternRecord>),
}

/// The epoch of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochRecord {
    /// Counts what changes who shall have what.
    pub epoch: i32,
    /// Tells what the topics looked like; 0: not known.
    pub topics_hash: i64,
}

/// What a member said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRecord {
    /// Its instance, if it is static.
    pub instance: Option<InstanceId>,
    /// Where it runs.
    pub rack: Option<Arc<str>>,
    /// The program behind it.
    pub client: Client,
    /// The topics it names.
    pub topics: std::collections::BTreeSet<Arc<str>>,
    /// The pattern for topics it gave.
    pub pattern: Option<Arc<str>>,
    /// How long it may take to give partitions back.
    pub rebalance_timeout: Duration,
    /// The assignor it would like.
    pub assignor: Option<Arc<str>>,
    /// Set for a member that speaks the classic protocol.
    pub classic: Option<ClassicSide>,
}

/// What a member of the classic protocol has besides, in a group of the consumer protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicSide {
    /// Without a heartbeat for this long it is out.
    pub session_timeout: Duration,
    /// What it sent with JoinGroup, the most wanted first.
    pub protocols: Vec<Protocol>,
}

/// How far a member is on its way to what it shall have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Step {
    /// It is there, as far as it knows of the target.
    #[default]
    Stable,
    /// It has been asked to give partitions back and has not.
    Unrevoked,
    /// It waits for others to give partitions back.
    Unreleased,
}

/// What a member has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CurrentRecord {
    /// The member's epoch; -2: a static member that is away.
    pub epoch: i32,
    /// The one before, in case the reply with `epoch` was lost.
    pub previous_epoch: i32,
    /// How far it is.
    pub step: Step,
    /// What it may use.
    pub assigned: TopicPartitions,
    /// What it has been asked to give back: nobody else may have it yet.
    pub revoking: TopicPartitions,
}

/// The topics a pattern stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternRecord {
    /// Their names.
    pub topics: std::collections::BTreeSet<Arc<str>>,
    /// When they were looked up.
    pub at: Timestamp,
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
    /// Who assigned; none in an empty group, and in one whose members nobody has assigned anything in
    /// this generation: it rebalances as soon as it has been read.
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
