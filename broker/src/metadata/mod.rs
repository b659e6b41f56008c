//! The cluster's metadata: records, and the image they add up to.
//!
//! Pure. Records are what the metadata log holds; applying all of them in order gives the same
//! [`Image`] on every node. Nothing here knows how records are agreed on or stored.

mod alter;
mod cell;
mod codec;
mod image;
mod random;
mod record;
mod report;
#[cfg(test)]
pub(crate) mod tests;

pub use alter::{AlterAnswer, AlterPartition, AlterRefusal, InSyncReplica};
pub use cell::ImageCell;
pub use codec::DecodeError;
pub(crate) use codec::{Decoder, Encoder};
pub use image::{ApplyError, Broker, Image, PartitionState, Topic};
pub use random::{Random, SeededRandom, SystemRandom};
pub use record::{
    BrokerChange, ConfigResource, PartitionChange, PartitionRecord, Record, RegisterBroker,
    decode_records, encode_records,
};
pub use report::ReplicaReport;

use std::fmt;

/// The position of an entry in the metadata log. The first entry is 1; 0 is "nothing yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetadataOffset(pub i64);

impl MetadataOffset {
    /// Before the first entry.
    pub const NONE: Self = Self(0);

    /// The entry after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for MetadataOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
