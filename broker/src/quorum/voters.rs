//! Who votes on the metadata, changed on request.
//!
//! [`Voters`] is the seam: what a change is, and why it is refused. That voters are made of nodes that
//! have caught up, without anybody asking, is the log's own business (`raft/members.rs`).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use sawlog_protocol::Uuid;
use thiserror::Error;

use crate::base::BrokerId;

/// A change of who votes. It names a data directory where another one of the same broker must not be
/// meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoterChange {
    /// A node that is told becomes one that votes, once it has caught up.
    Add {
        /// Whose.
        broker: BrokerId,
        /// Which.
        directory: Uuid,
        /// How long it is waited for.
        patience: Duration,
    },
    /// A node votes no more, and is told from then on.
    Remove {
        /// Whose.
        broker: BrokerId,
        /// Which.
        directory: Uuid,
    },
    /// A broker that is gone has no node any more.
    Forget(BrokerId),
}

/// Why who votes was not changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VoterError {
    /// Another node leads, or nobody just now.
    #[error("this node does not lead the metadata log")]
    NotLeader {
        /// Who does, as far as is known.
        leader: Option<BrokerId>,
    },
    /// It votes already.
    #[error("{0}")]
    Duplicate(String),
    /// No such node votes.
    #[error("{0}")]
    NotFound(String),
    /// It would do harm, or no good; nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// It is not done yet, and may still come.
    #[error("{0}")]
    Unfinished(String),
}

/// The future of a change: whether there was anything to change.
pub type VotersChanged<'a> = Pin<Box<dyn Future<Output = Result<bool, VoterError>> + Send + 'a>>;

/// Changes who votes, where this node leads.
pub trait Voters: Send + Sync + fmt::Debug {
    /// Makes a change, one at a time.
    fn change(&self, change: VoterChange) -> VotersChanged<'_>;
}
