//! How brokers speak to one another: calls to a service of another broker, and their answers.
//!
//! Always: each pair of (peer, service) has a connection of its own, so that an election never waits
//! behind a megabyte of records. A connection begins with a greeting both ways ([`hello`]): who does
//! not belong to the cluster, or is not who it was taken for, is refused with a sentence that both
//! sides log. Memory is bounded and charged as it arrives. A call that fails is not tried again here,
//! and may have been carried out: who calls knows whether it can be repeated.
//!
//! Where it is set up, connections are made with TLS, and both ends show certificates ([`tls`]).
//!
//! Not here: what services say to each other (each has its own bytes), passwords.

mod accept;
mod departures;
mod frame;
mod hello;
mod incarnations;
mod link;
mod peers;
mod stream;
mod tls;
mod write;

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sawlog_protocol::Uuid;
use thiserror::Error;
use tokio::sync::watch;

use crate::base::BrokerId;

pub use peers::{PEER_STOP_DEADLINE, Peers};
pub use tls::{PeerTls, TlsError};

/// What can be asked of another broker. A byte on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// The metadata log: votes and entries.
    Raft,
    /// To become a member of the cluster.
    Join,
    /// Requests to the controller.
    Controller,
    /// Records, for the replicas of partitions.
    Replication,
}

impl Service {
    /// Every service.
    pub const ALL: [Self; 4] = [Self::Raft, Self::Join, Self::Controller, Self::Replication];

    fn byte(self) -> u8 {
        match self {
            Self::Raft => 1,
            Self::Join => 2,
            Self::Controller => 3,
            Self::Replication => 4,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.byte() == byte)
    }

    /// Its place among [`Service::ALL`].
    fn place(self) -> usize {
        usize::from(self.byte()) - 1
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raft => "raft",
            Self::Join => "join",
            Self::Controller => "controller",
            Self::Replication => "replication",
        })
    }
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId {
    /// The broker; `None` while it is not a member of the cluster yet. A caller that is none, and shows
    /// the certificate of a node, is that node to the services it calls.
    pub broker: Option<BrokerId>,
    /// The disk its metadata is on: a wiped one is another.
    pub raft_id: u64,
}

/// Who this node is to its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The cluster; `None` while it does not belong to one.
    pub cluster_id: Option<Uuid>,
    /// Broker and disk.
    pub id: PeerId,
    /// This life of the process.
    pub incarnation: Uuid,
}

/// The answer to a call. It is written as it is, in one vectored write, and arrives as one piece:
/// the head, then the records.
#[derive(Clone, Debug, Default)]
pub struct PeerReply {
    /// What the service says; covered by the frame's checksum.
    pub head: Bytes,
    /// Slices of logs. They carry checksums of their own and are not read again to be sent.
    pub records: Vec<Bytes>,
}

impl From<Vec<u8>> for PeerReply {
    fn from(head: Vec<u8>) -> Self {
        Self { head: head.into(), records: Vec::new() }
    }
}

impl From<Bytes> for PeerReply {
    fn from(head: Bytes) -> Self {
        Self { head, records: Vec::new() }
    }
}

/// The future of an answer.
pub type PeerAnswer = Pin<Box<dyn Future<Output = PeerReply> + Send>>;

/// What answers the calls to one service.
pub trait PeerService: Send + Sync {
    /// Answers a request. What `call` does itself, and the answer up to where it first waits, happens
    /// in the order in which one peer's requests were sent; after that they overtake each other. It must not block: other
    /// requests of that peer to this service wait meanwhile.
    fn call(&self, from: PeerId, request: Bytes) -> PeerAnswer;
}

/// The future of a call.
pub type PeerCall = Pin<Box<dyn Future<Output = Result<Bytes, PeerError>> + Send>>;

/// The way to other brokers: [`Peers`], or a simulated network.
pub trait PeerNet: Send + Sync + fmt::Debug {
    /// As [`Peers::serve`].
    fn serve(&self, service: Service, by: Arc<dyn PeerService>);

    /// As [`Peers::call`].
    fn call(&self, to: BrokerId, service: Service, request: Bytes, timeout: Duration) -> PeerCall;

    /// As [`Peers::doubted`].
    fn doubted(&self) -> watch::Receiver<BTreeSet<BrokerId>>;

    /// As [`Peers::tell`].
    fn tell(&self, to: BrokerId, service: Service, message: Bytes);
}

/// Why there is no answer. The request may have been carried out, except with
/// [`PeerError::Unreachable`] and [`PeerError::NoRoute`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PeerError {
    /// The machine is there and refuses the connection: no such process is running.
    #[error("{0}")]
    Unreachable(String),
    /// It could not be dialled for another reason, or its address is not known: that says nothing
    /// about whether it lives.
    #[error("{0}")]
    NoRoute(String),
    /// No answer in time.
    #[error("no answer from the peer in time")]
    TimedOut,
    /// It is not the peer it was taken for, belongs to another cluster, or does not serve this.
    #[error("{0}")]
    Refused(String),
    /// The connection ended before the answer came.
    #[error("the connection to the peer ended before it answered")]
    Closed,
}

#[cfg(test)]
mod secured_tests;
#[cfg(test)]
mod tests;
