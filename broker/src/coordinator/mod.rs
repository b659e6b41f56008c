//! Consumer groups: who is in them, who reads what, and how far they have come.
//!
//! What a group is lives in `__consumer_offsets`, in Kafka's own records. The leader of a partition
//! of that topic coordinates the groups whose ids hash to it. What it decides is pure: inputs and
//! `now` go in, records and replies come out; the shell appends the records, lets a reply go once
//! they are committed, and replays them to get the same state back after a restart.
//!
//! The types here are the coordinator's own. Handlers translate them from and to the wire, once.

pub mod assignor;
mod classic;
mod consumer;
mod core;
mod group;
mod load;
mod memory;
mod offsets;
mod options;
mod record;
mod requests;
mod service;
mod shard;
mod stored;
#[cfg(test)]
mod tests;
mod timeline;
mod timers;
mod topic_pattern;
mod topics;
mod turn;
mod types;

pub use self::core::{Ask, GroupCore, Outgoing, Output, Reply, Request, RequestId};
pub use consumer::{AssignDone, AssignJob};
pub use options::{GroupOptions, Migration};
pub use record::{
    ClassicMemberRecord, ClassicSide, ConsumerPart, CurrentRecord, EpochRecord, GroupRecord,
    MemberRecord, OffsetRecord, PatternRecord, Record, Step, TopicPartitions,
};
#[cfg(any(test, feature = "sim"))]
pub(crate) use service::partition_for;
pub(crate) use service::{Coordinator, GROUPS_TOPIC, GroupsTopicOptions};
pub use timeline::{Event, EventKind, Timeout};
pub use topic_pattern::{TopicPattern, TopicPatternError};
pub use types::{
    Beat, Client, Committed, ConsumerHeartbeat, DeleteGroup, DescribeConsumerGroup, DescribeGroup,
    DescribedConsumer, DescribedConsumerGroup, DescribedGroup, DescribedMember, FetchedOffset,
    Generation, GroupError, GroupId, GroupState, GroupTimeline, GroupType, Heartbeat, InstanceId,
    JoinGroup, JoinRefused, Joined, JoinedMember, LeaveGroup, LeavingMember, LeftMember,
    ListGroups, ListedGroup, MemberId, Now, OffsetCommit, OffsetDelete, OffsetFetch,
    OffsetToCommit, Protocol, SyncGroup, Synced, TopicsDeleted,
};
