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

use crate::wire::{
    Decode as _, DecodeError, Encode as _, Reader, VersionedError, Writer, decode_extensible,
    encode_versioned,
};

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

    /// What a member tells the leader of a group that shares out by `sticky`, as the `user_data` of
    /// its subscription. There is no version before it: the older layout ends earlier.
    StickyUserData<'a> {
        /// What the member was assigned last.
        previous_assignment: Vec<TopicPartition<'a>>,
        /// The generation it was assigned in.
        generation: i32 [1..] = -1,
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

impl<'a> StickyUserData<'a> {
    /// Reads what a member says, in either layout.
    ///
    /// # Errors
    /// The bytes are neither.
    pub fn from_bytes(bytes: &'a Bytes) -> Result<Self, DecodeError> {
        let read = |version| {
            let mut reader = Reader::new(bytes, version, false);
            let said = Self::decode(&mut reader)?;
            reader.finish()?;
            Ok(said)
        };
        read(1).or_else(|_: DecodeError| read(0))
    }

    /// The bytes of the newer layout.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = Vec::new();
        self.encode(&mut Writer::new(&mut bytes, 1, false));
        bytes.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sticky_user_data_is_laid_out_as_kafka_has_it() {
        let previous_assignment = vec![TopicPartition { topic: "ab", partitions: vec![1, 4] }];
        let said = StickyUserData { previous_assignment, generation: 7 };
        let bytes = said.to_bytes();
        let expected =
            [0, 0, 0, 1, 0, 2, b'a', b'b', 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 7];
        assert_eq!(*bytes, expected);
        assert_eq!(StickyUserData::from_bytes(&bytes), Ok(said.clone()));
        let old = bytes.slice(..20);
        let read = StickyUserData::from_bytes(&old).expect("the layout of before");
        assert_eq!(read, StickyUserData { generation: -1, ..said });
        for end in (0..24).filter(|end| *end != 20) {
            assert!(StickyUserData::from_bytes(&bytes.slice(..end)).is_err(), "{end} bytes");
        }
    }
}
