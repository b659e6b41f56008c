//! The records of `__consumer_offsets`, in Kafka's own bytes, so that Kafka's tools read the topic.
//!
//! A key is its type (`i16`) and plain fields, of which the first is always the group: records of a
//! group are told apart by key alone, and compaction keeps the last value of each. A value is its
//! version (`i16`) and fields; no value deletes. Decoding never panics, and never allocates from a
//! claimed length.
//!
//! Not here: what the records mean, and in which order they are written.

mod values;

use bytes::Bytes;

pub use values::*;

use crate::wire::{
    Decode as _, Encode as _, Reader, STRING_BYTES_MAX, VersionedError, Writer, decode_versioned,
    encode_versioned,
};

/// Bytes a string of a key may have: its length is an `i16`. The wire brings no longer ones.
pub const KEY_STRING_BYTES_MAX: usize = STRING_BYTES_MAX;

macro_rules! records {
    ($( $(#[$meta:meta])* $kind:literal $name:ident ( $value:ident $(<$life:lifetime>)? $written:literal )
        { $( $field:ident : $type:ty ),* } )*) => {
        /// What a record is about. Strings of more than [`KEY_STRING_BYTES_MAX`] bytes cannot be
        /// written whole: whoever makes ids longer than the wire brings them cuts such.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Key<'a> {
            $( #[allow(missing_docs, reason = "the fields are Kafka's")]
               $(#[$meta])* $name { $( $field: $type ),* }, )*
            /// Of a type this version does not know: share and streams groups, and newer ones.
            Unknown(i16),
        }

        impl<'a> Key<'a> {
            /// The type on disk.
            #[must_use]
            pub const fn kind(&self) -> i16 {
                match self { $( Self::$name { .. } => $kind, )* Self::Unknown(kind) => *kind }
            }

            /// Reads the key of a record.
            ///
            /// # Errors
            /// Bytes that are not what their type says.
            pub fn from_bytes(bytes: &'a Bytes) -> Result<Self, VersionedError> {
                let mut r = Reader::new(bytes, 0, false);
                let key = match i16::decode(&mut r)? {
                    $( $kind => Self::$name { $( $field: <$type>::decode(&mut r)? ),* }, )*
                    unknown => return Ok(Self::Unknown(unknown)),
                };
                r.finish()?;
                Ok(key)
            }

            /// The key of a record.
            #[must_use]
            pub fn to_bytes(&self) -> Bytes {
                let mut bytes = self.kind().to_be_bytes().to_vec();
                let mut w = Writer::new(&mut bytes, 0, false);
                match self {
                    $( Self::$name { $( $field ),* } => { $( $field.encode(&mut w); )* } )*
                    Self::Unknown(_) => {}
                }
                bytes.into()
            }
        }

        /// What a record says about its key.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Value<'a> {
            $( $(#[$meta])* $name($value $(<$life>)?), )*
        }

        impl<'a> Value<'a> {
            /// Reads the value of a record with this key; `None` if the key is unknown.
            ///
            /// # Errors
            /// A version this code does not know, or bytes that are not what it says.
            pub fn from_bytes(key: &Key<'_>, bytes: &'a Bytes) -> Result<Option<Self>, VersionedError> {
                Ok(match key {
                    $( Key::$name { .. } => Some(Self::$name(decode_versioned(bytes)?)), )*
                    Key::Unknown(_) => None,
                })
            }

            /// The value of a record, in the version Kafka 4.3 writes.
            #[must_use]
            pub fn to_bytes(&self) -> Bytes {
                match self { $( Self::$name(value) => encode_versioned(value, $written), )* }
            }
        }
    };
}

records! {
    /// How far a group has read a partition, as written before Kafka 0.9.
    0 LegacyOffsetCommit(OffsetCommitValue<'a> 0) { group: &'a str, topic: &'a str, partition: i32 }
    /// How far a group has read a partition.
    1 OffsetCommit(OffsetCommitValue<'a> 4) { group: &'a str, topic: &'a str, partition: i32 }
    /// A classic group and its members.
    2 GroupMetadata(GroupMetadataValue<'a> 3) { group: &'a str }
    /// A group of the consumer protocol: its epoch.
    3 ConsumerGroupMetadata(ConsumerGroupMetadataValue 0) { group: &'a str }
    /// Its topics.
    4 ConsumerGroupPartitionMetadata(ConsumerGroupPartitionMetadataValue<'a> 0) { group: &'a str }
    /// What a member said of itself.
    5 ConsumerGroupMemberMetadata(ConsumerGroupMemberMetadataValue<'a> 0) {
        group: &'a str, member: &'a str
    }
    /// The epoch of the target assignment.
    6 ConsumerGroupTargetAssignmentMetadata(ConsumerGroupTargetAssignmentMetadataValue 0) {
        group: &'a str
    }
    /// What a member shall have.
    7 ConsumerGroupTargetAssignmentMember(ConsumerGroupTargetAssignmentMemberValue 0) {
        group: &'a str, member: &'a str
    }
    /// What a member has.
    8 ConsumerGroupCurrentMemberAssignment(ConsumerGroupCurrentMemberAssignmentValue 0) {
        group: &'a str, member: &'a str
    }
    /// What a regular expression matched.
    16 ConsumerGroupRegularExpression(ConsumerGroupRegularExpressionValue<'a> 0) {
        group: &'a str, regex: &'a str
    }
}
