//! The metadata log: who agrees on the records, and where they are kept.
//!
//! [`MetadataLog`] is the seam: the controller proposes and learns what was committed, and does not
//! know by whom. [`raft::RaftMetadataLog`] is the log brokers have, of one node or of several.
//! [`LocalMetadataLog`] is the plain file that logs were before there could be several: what it wrote is
//! taken over, and tests of the controller still run on it.

mod files;
mod identity;
mod local;
mod log_file;
pub mod raft;
mod snapshot_file;
mod status;
mod voters;

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::base::BrokerId;
use crate::metadata::{MetadataOffset, Record};

pub use identity::{
    DataDirectoryError, Identity, Membership, are_new, joining_storage_id, open_data_directories,
};
pub use local::{LocalLogOptions, LocalMetadataLog, OpenError, TornTail};
pub use status::{QuorumReplica, QuorumStatus};
pub use voters::{VoterChange, VoterError, Voters, VotersChanged};

/// A committed entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its position.
    pub offset: MetadataOffset,
    /// What it says, all or nothing.
    pub records: Vec<Record>,
}

/// A whole image, standing for the entries up to its offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The last entry it includes.
    pub offset: MetadataOffset,
    /// Records that make the image from an empty one.
    pub records: Vec<Record>,
}

/// What a log holds when it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Where to begin; empty at offset 0 if no snapshot was ever taken.
    pub snapshot: Snapshot,
    /// The committed entries after it.
    pub entries: Vec<Entry>,
}

/// The log did not take what it was given.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LogError {
    /// A write or fsync failed. What is on disk is not known: nothing is accepted until a restart.
    #[error("the metadata log is offline: {0}")]
    Offline(String),
    /// The disk is full. Nothing was written; it works again once there is room.
    #[error("no space left on the disk of the metadata log: {0}")]
    NoSpace(String),
    /// Another node leads, or nobody just now: nothing can be proposed here. What was proposed is not
    /// known to be committed, and may still come out.
    #[error("this node does not lead the metadata log")]
    NotLeader {
        /// Who does, as far as is known.
        leader: Option<BrokerId>,
    },
    /// The entry exceeds the limit of one entry; it was not written.
    #[error(
        "the change is too large for one metadata entry: {bytes} bytes, at most {limit}; make it in parts"
    )]
    TooLarge {
        /// The entry.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// What this node is to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRole {
    /// It proposes.
    Leader {
        /// Its term: above every earlier leader's.
        term: u64,
    },
    /// It is told.
    Follower {
        /// Who leads, as far as is known.
        leader: Option<BrokerId>,
    },
}

/// Something that happened to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// An entry was committed.
    Entry(Entry),
    /// Entries this node had not seen exist in no other form any more: what they came to.
    Snapshot(Snapshot),
    /// This node's role changed.
    Role(LogRole),
}

/// What a log calls when there is news; from any thread, and cheap.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// An ordered, durable, agreed list of entries. One caller at a time, on a thread that may block.
pub trait MetadataLog: Send + fmt::Debug {
    /// Appends one entry and blocks until it is committed (durable, agreed). It then comes out of
    /// [`MetadataLog::poll`] like any other.
    ///
    /// # Errors
    /// It is not known to be committed. It may still come out later. After
    /// [`LogError::NotLeader`] nothing need be proposed until `poll` has told of a leadership again:
    /// also where this node still leads but cannot reach enough others.
    fn propose(&mut self, records: Vec<Record>) -> Result<MetadataOffset, LogError>;

    /// What happened since the last call, in order; does not wait. The first role comes with the
    /// first call. A leadership comes after every entry committed in the terms before it, so that
    /// who leads decides on all there is.
    fn poll(&mut self) -> Vec<LogEvent>;

    /// Has `wake` called whenever `poll` may have something new.
    fn on_news(&mut self, wake: Wake);

    /// Who agrees on this log, and how far each is; `None` where this node is all there is.
    fn status(&self) -> Option<QuorumStatus> {
        None
    }

    /// The way to change who votes; `None` where this node is all there can be.
    fn voters(&self) -> Option<Arc<dyn Voters>> {
        None
    }

    /// Whether the log has grown enough since the last snapshot to want one.
    fn wants_snapshot(&self) -> bool;

    /// Stores a snapshot and forgets the entries it includes.
    ///
    /// # Errors
    /// The log is as before.
    fn store_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), LogError>;
}
