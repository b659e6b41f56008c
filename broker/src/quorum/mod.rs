//! The metadata log: who agrees on the records, and where they are kept.
//!
//! [`MetadataLog`] is the seam: the controller proposes and learns what was committed, and does not
//! know by whom. [`LocalMetadataLog`] is the log of a cluster of one: committed means fsynced here.
//! A Raft log of several nodes replaces it behind the same trait.

mod files;
mod identity;
mod local;
mod log_file;
mod snapshot_file;

use std::fmt;

use thiserror::Error;

use crate::metadata::{MetadataOffset, Record};

pub use identity::{DataDirectoryError, Identity, open_data_directories};
pub use local::{LocalLogOptions, LocalMetadataLog, OpenError, TornTail};

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

/// An ordered, durable, agreed list of entries. One caller at a time, on a thread that may block.
pub trait MetadataLog: Send + fmt::Debug {
    /// Appends one entry and blocks until it is committed (durable, agreed). It then comes out of
    /// [`MetadataLog::committed`] like any other.
    ///
    /// # Errors
    /// It is not known to be committed. It may still come out later.
    fn propose(&mut self, records: Vec<Record>) -> Result<MetadataOffset, LogError>;

    /// The entries committed since the last call, in order.
    fn committed(&mut self) -> Vec<Entry>;

    /// Whether the log has grown enough since the last snapshot to want one.
    fn wants_snapshot(&self) -> bool;

    /// Stores a snapshot and forgets the entries it includes.
    ///
    /// # Errors
    /// The log is as before.
    fn store_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), LogError>;
}
