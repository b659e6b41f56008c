//! The metadata log of several nodes, agreed on by Raft.
//!
//! The `openraft` library decides who leads and what is committed; here are its storage, its way to the
//! other nodes, and the log as the controller sees it. A node is a data directory, not an address or a
//! broker: a wiped disk is a new node and cannot vote a second time.

mod client_port;
mod codec;
mod file;
mod join;
mod log;
mod members;
mod network;
mod recover;
mod runtime;
mod snapshot;
mod storage;
mod store;
mod succession;
mod types;
mod voters;

pub use join::{JoinError, JoinService, Joined, Joining, KnownBrokers, RaftService, join};
pub use log::{Quorum, QuorumOptions, RaftMetadataLog, raft_id};
pub use members::{MemberError, MemberState, QuorumState};
pub use network::{CallFuture, Transport};
pub use types::Member;

#[cfg(test)]
mod tests;
