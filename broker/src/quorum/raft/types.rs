//! What the consensus library is made of here: its entries, nodes and ids.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::{CommittedLeaderId, LogId};
use sawlog_protocol::Uuid;

use crate::base::BrokerId;
use crate::config::Endpoint;
use crate::metadata::MetadataOffset;

openraft::declare_raft_types!(
    /// The library's types, filled in.
    pub(super) Types:
        D = Bytes,
        R = (),
        NodeId = u64,
        Node = Member,
        Entry = openraft::Entry<Types>,
        SnapshotData = SnapshotData,
        AsyncRuntime = super::runtime::QuietRuntime,
);

pub(super) type Raft = openraft::Raft<Types>;
pub(super) type Entry = openraft::Entry<Types>;
pub(super) type Vote = openraft::Vote<u64>;
pub(super) type Membership = openraft::Membership<u64, Member>;
pub(super) type StoredMembership = openraft::StoredMembership<u64, Member>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<u64, Member>;
pub(super) type StorageError = openraft::StorageError<u64>;
pub(super) type Metrics = openraft::RaftMetrics<u64, Member>;

/// A node of the metadata log: a voter, or one that is only told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The broker whose node it is.
    pub broker: BrokerId,
    /// The data directory its log is in.
    pub storage_id: Uuid,
    /// Where it listens for its peers.
    pub endpoint: Endpoint,
}

impl Default for Member {
    /// What the library fills in for a node it was told nothing about; not dialled.
    fn default() -> Self {
        let endpoint = Endpoint { name: String::new(), host: String::new(), port: 0 };
        Self { broker: BrokerId(-1), storage_id: Uuid::ZERO, endpoint }
    }
}

/// The bytes of a snapshot file, or where they are.
#[derive(Clone, Debug)]
pub(super) enum SnapshotData {
    /// The file of this node that ends with that entry.
    Stored(MetadataOffset),
    /// They came from the leader.
    Received(Bytes),
}

/// A position in the log. The library orders them by term, then index.
pub(super) fn log_id(term: u64, index: u64) -> LogId<u64> {
    LogId::new(CommittedLeaderId::new(term, 0), index)
}

/// The term a position was written in.
pub(super) fn term_of(id: &LogId<u64>) -> u64 {
    id.leader_id.term
}

/// Metadata offsets are the library's indexes.
pub(super) fn offset_of(index: u64) -> MetadataOffset {
    MetadataOffset(i64::try_from(index).unwrap_or(i64::MAX))
}

/// The library's index of an offset; offsets are never negative.
pub(super) fn index_of(offset: MetadataOffset) -> u64 {
    u64::try_from(offset.0).unwrap_or(0)
}

/// A configuration in which `raft_id` alone votes.
pub(super) fn alone(raft_id: u64, member: Member) -> Membership {
    Membership::new(vec![BTreeSet::from([raft_id])], BTreeMap::from([(raft_id, member)]))
}

/// Whether `raft_id` is all it takes to commit.
pub(super) fn votes_alone(membership: &Membership, raft_id: u64) -> bool {
    let configs = membership.get_joint_config();
    !configs.is_empty()
        && configs.iter().all(|voters| voters.len() == 1 && voters.contains(&raft_id))
}
