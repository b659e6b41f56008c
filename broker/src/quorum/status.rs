//! Who agrees on the metadata, as its leader knows it.

use std::time::Duration;

use sawlog_protocol::Uuid;

use super::raft::QuorumState;
use crate::base::BrokerId;
use crate::metadata::MetadataOffset;

/// The quorum, as its leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuorumStatus {
    /// Who leads.
    pub leader: Option<BrokerId>,
    /// Its term.
    pub term: u64,
    /// The last entry agreed on.
    pub committed: MetadataOffset,
    /// Voters and those who only listen.
    pub replicas: Vec<QuorumReplica>,
}

/// A copy of the metadata log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumReplica {
    /// Whose.
    pub broker: BrokerId,
    /// The data directory it is in.
    pub directory: Uuid,
    /// Whether it votes.
    pub is_voter: bool,
    /// Its last entry, as far as is known.
    pub last: Option<MetadataOffset>,
    /// How long ago it was heard of; not known of the leader itself.
    pub heard_of: Option<Duration>,
}

impl QuorumStatus {
    /// What a node of the log knows. Of the others only a leader knows how far they are.
    pub(super) fn of(state: &QuorumState) -> Self {
        let broker_of = |raft_id: u64| {
            let member = state.members.iter().find(|member| member.raft_id == raft_id);
            member.map(|member| member.member.broker)
        };
        let offset = |index: u64| MetadataOffset(i64::try_from(index).unwrap_or(i64::MAX));
        let replicas = state.members.iter().map(|member| {
            let is_own = member.raft_id == state.raft_id;
            let last = if is_own { state.last_index } else { member.last_index };
            QuorumReplica {
                broker: member.member.broker,
                directory: member.member.storage_id,
                is_voter: member.votes,
                last: last.map(offset),
                heard_of: None,
            }
        });
        let mut replicas: Vec<_> = replicas.collect();
        replicas.sort_by_key(|replica| replica.broker);
        Self {
            leader: state.leader.and_then(broker_of),
            term: state.term,
            committed: offset(state.committed_index.unwrap_or(0)),
            replicas,
        }
    }
}
