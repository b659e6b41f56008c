//! What the coordinator is asked and what it answers, in its own words.
//!
//! Identifiers are shared strings. Bytes that are kept (subscriptions, assignments) must not be
//! slices of a request's frame, or they would keep the whole frame in memory: handlers copy them.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::record::TopicPartitions;
use crate::base::{LeaderEpoch, Offset, Timestamp, TopicPartition};

/// The two times of an input: deadlines go by the one that never jumps, records carry the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Since some fixed moment; never goes back.
    pub monotonic: Duration,
    /// Wall time; may jump.
    pub wall: Timestamp,
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $name(pub Arc<str>);

            impl $name {
                /// As text.
                #[must_use]
                pub fn as_str(&self) -> &str {
                    &self.0
                }
            }

            impl From<&str> for $name {
                fn from(text: &str) -> Self {
                    Self(text.into())
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(&self.0)
                }
            }
        )*
    };
}

names! {
    /// A group. May be empty only for consumers that commit without being members.
    GroupId;
    /// A member, unique in its group. On the wire the empty string says "none yet".
    MemberId;
    /// A static member's own name (`group.instance.id`, KIP-345), which outlives its member ids.
    InstanceId;
}

/// Counts the assignments of a classic group. -1 on the wire means "not a member".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub i32);

impl Generation {
    /// "Not a member", as Kafka's protocol writes it.
    pub const NONE: Self = Self(-1);
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The program behind a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// `client.id` of the request header; empty if it has none.
    pub id: Arc<str>,
    /// Where it connects from, as Kafka writes it: a slash and the address.
    pub host: Arc<str>,
}

/// Why a request about a group is refused. Each is one error code on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum GroupError {
    /// UNKNOWN_MEMBER_ID: no such member (any more), or no such group.
    #[error("the group has no such member")]
    UnknownMember,
    /// MEMBER_ID_REQUIRED: join again with the member id of this reply (KIP-394).
    #[error("join again with the member id given")]
    MemberIdRequired,
    /// FENCED_INSTANCE_ID: another process has taken the static member's place.
    #[error("another process has taken this instance's place")]
    FencedInstance,
    /// ILLEGAL_GENERATION: of an earlier generation, or one that never was.
    #[error("not the group's generation")]
    IllegalGeneration,
    /// REBALANCE_IN_PROGRESS: join again.
    #[error("the group rebalances")]
    RebalanceInProgress,
    /// INCONSISTENT_GROUP_PROTOCOL: no protocol in common with the other members.
    #[error("no protocol in common with the group")]
    InconsistentProtocol,
    /// INVALID_SESSION_TIMEOUT: outside `group.min.session.timeout.ms` and `…max…`.
    #[error("the session timeout is outside the broker's limits")]
    InvalidSessionTimeout,
    /// INVALID_GROUP_ID: empty.
    #[error("the group id is empty")]
    InvalidGroupId,
    /// GROUP_MAX_SIZE_REACHED: `group.max.size`.
    #[error("the group is full")]
    GroupMaxSizeReached,
    /// GROUP_ID_NOT_FOUND.
    #[error("no such group")]
    GroupIdNotFound,
    /// NON_EMPTY_GROUP: it has members.
    #[error("the group has members")]
    NonEmptyGroup,
    /// GROUP_SUBSCRIBED_TO_TOPIC: its offsets are in use.
    #[error("the group reads the topic")]
    GroupSubscribedToTopic,
    /// OFFSET_METADATA_TOO_LARGE: `offset.metadata.max.bytes`.
    #[error("the metadata of the offset is too large")]
    OffsetMetadataTooLarge,
    /// FENCED_MEMBER_EPOCH: the member has to start anew with epoch 0.
    #[error("the member's epoch is fenced")]
    FencedMemberEpoch,
    /// STALE_MEMBER_EPOCH: repeat with the epoch of the next heartbeat's reply.
    #[error("the member's epoch is stale")]
    StaleMemberEpoch,
    /// UNRELEASED_INSTANCE_ID: the instance is still a member.
    #[error("the instance is still a member")]
    UnreleasedInstance,
    /// UNSUPPORTED_ASSIGNOR.
    #[error("the broker has no such assignor")]
    UnsupportedAssignor,
    /// INVALID_REGULAR_EXPRESSION.
    #[error("the subscription is not a regular expression")]
    InvalidRegularExpression,
    /// INVALID_REQUEST: the fields contradict each other.
    #[error("the request contradicts itself")]
    InvalidRequest,
    /// GROUP_ID_NOT_FOUND: it is there, and uses the other protocol.
    #[error("the group uses another protocol")]
    OtherProtocol,
    /// UNSUPPORTED_VERSION: too old for a member of the consumer protocol.
    #[error("the version is too old for members of the consumer protocol")]
    VersionTooOld,
    /// COORDINATOR_LOAD_IN_PROGRESS: try again soon.
    #[error("the coordinator is reading its log")]
    LoadInProgress,
    /// COORDINATOR_NOT_AVAILABLE: try again soon.
    #[error("the coordinator cannot write now")]
    NotAvailable,
    /// NOT_COORDINATOR: find the coordinator again.
    #[error("this broker does not coordinate the group")]
    NotCoordinator,
    /// UNKNOWN_SERVER_ERROR: what was to be written is larger than a batch may be.
    #[error("too large to be stored")]
    TooLarge,
}

/// A way to assign partitions that a member understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// `range`, `cooperative-sticky`, ...
    pub name: Arc<str>,
    /// The member's subscription, in that protocol's own form.
    pub metadata: Bytes,
}

/// JoinGroup.
#[derive(Clone, Debug)]
pub struct JoinGroup {
    /// The group.
    pub group: GroupId,
    /// None: not yet a member.
    pub member: Option<MemberId>,
    /// Set by static members.
    pub instance: Option<InstanceId>,
    /// The id to give, should one be needed: the instance (else the client's id), a dash, a UUID.
    pub fresh_member: MemberId,
    /// Who asks.
    pub client: Client,
    /// `consumer`, `connect`, ...
    pub protocol_type: Arc<str>,
    /// The most wanted first.
    pub protocols: Vec<Protocol>,
    /// Without a heartbeat for this long the member is out.
    pub session_timeout: Duration,
    /// How long a rebalance waits for the member (version 0: the session timeout).
    pub rebalance_timeout: Duration,
    /// Why it joins, in the client's words (KIP-800).
    pub reason: Option<Arc<str>>,
    /// The client knows MEMBER_ID_REQUIRED (version 4 on).
    pub knows_member_id_required: bool,
    /// The client knows `skip_assignment` (version 9 on, KIP-814).
    pub knows_skip_assignment: bool,
}

/// A member is in the generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The generation.
    pub generation: Generation,
    /// The group's protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol chosen.
    pub protocol: Option<Arc<str>>,
    /// Who assigns.
    pub leader: MemberId,
    /// Whom the reply is for.
    pub member: MemberId,
    /// For the leader: everyone. Otherwise empty.
    pub members: Vec<JoinedMember>,
    /// The leader shall not assign anew (KIP-814).
    pub skip_assignment: bool,
}

/// A member, as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member: MemberId,
    /// Its instance, if it is static.
    pub instance: Option<InstanceId>,
    /// Its metadata for the protocol chosen.
    pub metadata: Bytes,
}

/// Why a member is not in the generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRefused {
    /// Why.
    pub error: GroupError,
    /// The member id of the reply: the one given, the one asked with, or none.
    pub member: Option<MemberId>,
}

/// SyncGroup.
#[derive(Clone, Debug)]
pub struct SyncGroup {
    /// The group.
    pub group: GroupId,
    /// The member.
    pub member: MemberId,
    /// Set by static members.
    pub instance: Option<InstanceId>,
    /// The generation joined.
    pub generation: Generation,
    /// Compared with the group's if given (version 5 on).
    pub protocol_type: Option<Arc<str>>,
    /// Compared with the group's if given (version 5 on).
    pub protocol: Option<Arc<str>>,
    /// From the leader: what each member gets.
    pub assignments: Vec<(MemberId, Bytes)>,
}

/// What a member gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The group's protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol chosen.
    pub protocol: Option<Arc<str>>,
    /// The leader's answer for this member; empty if it had none.
    pub assignment: Bytes,
}

/// Heartbeat.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// The group.
    pub group: GroupId,
    /// The member.
    pub member: MemberId,
    /// Set by static members.
    pub instance: Option<InstanceId>,
    /// The generation the member believes in.
    pub generation: Generation,
}

/// LeaveGroup.
#[derive(Clone, Debug)]
pub struct LeaveGroup {
    /// The group.
    pub group: GroupId,
    /// Who leaves; up to version 2 one.
    pub members: Vec<LeavingMember>,
}

/// A member that leaves. An instance without a member id is any member of that instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeavingMember {
    /// Its id.
    pub member: Option<MemberId>,
    /// Its instance.
    pub instance: Option<InstanceId>,
    /// Why, in the client's words (KIP-800).
    pub reason: Option<Arc<str>>,
}

/// What became of a [`LeavingMember`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftMember {
    /// As asked.
    pub member: Option<MemberId>,
    /// As asked.
    pub instance: Option<InstanceId>,
    /// Whether it has left.
    pub result: Result<(), GroupError>,
}

/// ConsumerGroupHeartbeat. None, where it can be, means: as before.
#[derive(Clone, Debug)]
pub struct ConsumerHeartbeat {
    /// The group.
    pub group: GroupId,
    /// None: not yet a member, and the client makes up no ids (version 0).
    pub member: Option<MemberId>,
    /// The id to give, should one be needed.
    pub fresh_member: MemberId,
    /// The member's epoch; 0 joins, -1 leaves, -2 leaves as a static member that comes back.
    pub epoch: i32,
    /// Set by static members.
    pub instance: Option<InstanceId>,
    /// Who asks.
    pub client: Client,
    /// Where it runs.
    pub rack: Option<Arc<str>>,
    /// How long it may take to give partitions back.
    pub rebalance_timeout: Option<Duration>,
    /// The topics it names.
    pub topics: Option<BTreeSet<Arc<str>>>,
    /// Its pattern for topics; the empty one: no pattern.
    pub pattern: Option<Arc<str>>,
    /// The assignor it would like.
    pub assignor: Option<Arc<str>>,
    /// What it uses now.
    pub owned: Option<TopicPartitions>,
    /// Charged for what of this is kept, as long as it is; None with nothing new to keep.
    pub charge: Option<Bytes>,
}

/// What a member of the consumer protocol is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Whom the reply is for.
    pub member: MemberId,
    /// Its epoch from now on.
    pub epoch: i32,
    /// When to send the next heartbeat.
    pub heartbeat_interval: Duration,
    /// What it may use; None: as before.
    pub assignment: Option<TopicPartitions>,
}

/// OffsetCommit. Which topics exist and may be read, the handler has found out.
#[derive(Clone, Debug)]
pub struct OffsetCommit {
    /// The group.
    pub group: GroupId,
    /// None: not a member of anything.
    pub member: Option<MemberId>,
    /// Set by static members.
    pub instance: Option<InstanceId>,
    /// The generation, or with the consumer protocol the member's epoch; -1 for non-members.
    pub generation: Generation,
    /// `retention_time_ms` of versions 2 to 4, if it is not -1.
    pub retention: Option<Duration>,
    /// The client knows GROUP_ID_NOT_FOUND and STALE_MEMBER_EPOCH (version 9 on).
    pub knows_member_epochs: bool,
    /// What to remember.
    pub offsets: Vec<OffsetToCommit>,
}

/// One partition of an [`OffsetCommit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetToCommit {
    /// The partition.
    pub partition: TopicPartition,
    /// The next record to read.
    pub offset: Offset,
    /// The epoch of the last record read, or [`LeaderEpoch::NONE`].
    pub leader_epoch: LeaderEpoch,
    /// The consumer's own note.
    pub metadata: Arc<str>,
}

/// OffsetFetch, for one group.
#[derive(Clone, Debug)]
pub struct OffsetFetch {
    /// The group.
    pub group: GroupId,
    /// Set by members of a consumer group (version 9 on).
    pub member: Option<MemberId>,
    /// With `member`: its epoch. -1: not checked.
    pub member_epoch: i32,
    /// None: everything the group has committed.
    pub partitions: Option<Vec<TopicPartition>>,
}

/// One partition of the answer to an [`OffsetFetch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffset {
    /// The partition.
    pub partition: TopicPartition,
    /// What is committed; `Ok(None)`: nothing.
    pub committed: Result<Option<Committed>, GroupError>,
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next record to read.
    pub offset: Offset,
    /// The epoch of the last record read, or [`LeaderEpoch::NONE`].
    pub leader_epoch: LeaderEpoch,
    /// The consumer's own note.
    pub metadata: Arc<str>,
}

/// OffsetDelete.
#[derive(Clone, Debug)]
pub struct OffsetDelete {
    /// The group.
    pub group: GroupId,
    /// What to forget.
    pub partitions: Vec<TopicPartition>,
}

/// DeleteGroups, for one group.
#[derive(Clone, Debug)]
pub struct DeleteGroup {
    /// The group.
    pub group: GroupId,
}

/// DescribeGroups, for one group.
#[derive(Clone, Debug)]
pub struct DescribeGroup {
    /// The group.
    pub group: GroupId,
}

/// The protocol a group uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupType {
    /// Members assign to each other.
    Classic,
    /// The broker assigns (KIP-848).
    Consumer,
}

impl GroupType {
    /// As ListGroups writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

/// What a group is doing. The names are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupState {
    /// No members; it may have offsets.
    Empty,
    /// Classic: waits for its members to join.
    PreparingRebalance,
    /// Classic: waits for the leader's assignment.
    CompletingRebalance,
    /// Consumer: the target assignment is being computed.
    Assigning,
    /// Consumer: members move to the target assignment.
    Reconciling,
    /// Every member has its partitions.
    Stable,
    /// Gone.
    Dead,
}

impl GroupState {
    /// As DescribeGroups and ListGroups write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

/// A group that uses the classic protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    /// Its state.
    pub state: GroupState,
    /// Its protocol type; empty if it never had members.
    pub protocol_type: Arc<str>,
    /// The protocol chosen; empty unless stable.
    pub protocol: Arc<str>,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

/// A member of a [`DescribedGroup`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub member: MemberId,
    /// Its instance, if it is static.
    pub instance: Option<InstanceId>,
    /// The program behind it.
    pub client: Client,
    /// Its metadata for the protocol chosen; empty unless stable.
    pub metadata: Bytes,
    /// What it has been assigned; empty unless stable.
    pub assignment: Bytes,
}

/// ConsumerGroupDescribe, for one group.
#[derive(Clone, Debug)]
pub struct DescribeConsumerGroup {
    /// The group.
    pub group: GroupId,
}

/// A group that uses the consumer protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedConsumerGroup {
    /// Its state.
    pub state: GroupState,
    /// Its epoch.
    pub epoch: i32,
    /// The epoch the targets are for.
    pub assignment_epoch: i32,
    /// Who assigns.
    pub assignor: &'static str,
    /// Its members.
    pub members: Vec<DescribedConsumer>,
}

/// A member of a [`DescribedConsumerGroup`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedConsumer {
    /// Its id.
    pub member: MemberId,
    /// Its instance, if it is static.
    pub instance: Option<InstanceId>,
    /// Where it runs.
    pub rack: Option<Arc<str>>,
    /// Its epoch.
    pub epoch: i32,
    /// The program behind it.
    pub client: Client,
    /// The topics it names.
    pub topics: Vec<Arc<str>>,
    /// Its pattern for topics.
    pub pattern: Option<Arc<str>>,
    /// What it may use.
    pub assigned: TopicPartitions,
    /// What it shall have.
    pub target: TopicPartitions,
    /// The protocol it speaks.
    pub speaks: GroupType,
}

/// ListGroups. Empty lists filter nothing; names the handler does not know match nothing.
#[derive(Clone, Debug, Default)]
pub struct ListGroups {
    /// Only groups in one of these states.
    pub states: Option<Vec<GroupState>>,
    /// Only groups of one of these types.
    pub types: Option<Vec<GroupType>>,
}

/// A group, in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its id.
    pub group: GroupId,
    /// Its protocol type; empty if it never had members.
    pub protocol_type: Arc<str>,
    /// Its state.
    pub state: GroupState,
    /// Its type.
    pub group_type: GroupType,
}

/// The latest events of one group, oldest first.
#[derive(Clone, Debug)]
pub struct GroupTimeline {
    /// The group.
    pub group: GroupId,
}

/// Topics are gone: offsets in them are forgotten.
#[derive(Clone, Debug)]
pub struct TopicsDeleted {
    /// Their names.
    pub topics: Vec<Arc<str>>,
}
