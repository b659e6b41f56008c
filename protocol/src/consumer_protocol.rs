//! What consumers tell each other through JoinGroup and SyncGroup, where the broker carries it as
//! opaque bytes: a subscription on the way to the leader, an assignment on the way back.
//!
//! - 1: partitions owned (KIP-429)
//! - 2: the generation they were owned in (KIP-792)
//! - 3: rack (KIP-881)
//!
//! A version newer than these is read as the newest of them, and bytes behind the last field are
//! left alone: newer versions only add fields at the end.

use bytes::Bytes;

use crate::wire::{VersionedError, decode_extensible, encode_versioned};

wire! {
    /// What a consumer wants, and what it owns.
    ConsumerProtocolSubscription<'a> {
        topics: Vec<&'a str>,
        /// The assignor's own.
        user_data: Option<Bytes>,
        owned_partitions: Vec<TopicPartition<'a>> [1..],
        generation_id: i32 [2..] = -1,
        rack_id: Option<&'a str> [3..],
    }

    /// What a consumer is assigned.
    ConsumerProtocolAssignment<'a> {
        assigned_partitions: Vec<TopicPartition<'a>>,
        /// The assignor's own.
        user_data: Option<Bytes>,
    }

    /// Partitions of one topic.
    TopicPartition<'a> {
        topic: &'a str,
        partitions: Vec<i32>,
    }
}

versioned! {
    ConsumerProtocolSubscription<'a> 0..=3;
    ConsumerProtocolAssignment<'a> 0..=3;
}

impl<'a> ConsumerProtocolSubscription<'a> {
    /// Reads the metadata of a member.
    ///
    /// # Errors
    /// The bytes are no subscription.
    pub fn from_bytes(bytes: &'a Bytes) -> Result<Self, VersionedError> {
        decode_extensible(bytes)
    }

    /// Metadata of a member, in this version.
    #[must_use]
    pub fn to_bytes(&self, version: i16) -> Bytes {
        encode_versioned(self, version)
    }
}

impl<'a> ConsumerProtocolAssignment<'a> {
    /// Reads the assignment of a member; no bytes at all assign nothing.
    ///
    /// # Errors
    /// The bytes are no assignment.
    pub fn from_bytes(bytes: &'a Bytes) -> Result<Self, VersionedError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        decode_extensible(bytes)
    }

    /// Assignment of a member, in this version.
    #[must_use]
    pub fn to_bytes(&self, version: i16) -> Bytes {
        encode_versioned(self, version)
    }
}
