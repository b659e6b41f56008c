//! Error codes of the protocol: one table of name, number, whether a repeated request may succeed,
//! and what it means.

use std::fmt;

use crate::wire::{Decode, DecodeError, Encode, Reader, Sink, Writer};

/// An error code as it is on the wire; also one this version does not know.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub i16);

macro_rules! error_codes {
    (@retriable retriable) => { true };
    (@retriable final) => { false };
    ($( $name:ident $code:literal $kind:ident $message:literal; )*) => {
        impl ErrorCode {
            $( #[doc = $message] pub const $name: Self = Self($code); )*

            /// Every code of Kafka 4.x, by number.
            pub const ALL: &'static [Self] = &[$( Self::$name, )*];

            /// Kafka's name; `None` for a code this version does not know.
            #[must_use]
            pub const fn known_name(self) -> Option<&'static str> {
                match self.0 { $( $code => Some(stringify!($name)), )* _ => None }
            }

            /// Whether the same request may succeed later.
            #[must_use]
            pub const fn is_retriable(self) -> bool {
                match self.0 { $( $code => error_codes!(@retriable $kind), )* _ => false }
            }

            /// What it means, as a sentence.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self.0 { $( $code => $message, )* _ => "An error this version does not know." }
            }
        }
    };
}

error_codes! {
    UNKNOWN_SERVER_ERROR -1 final "The broker failed in a way it has no code for.";
    NONE 0 final "No error.";
    OFFSET_OUT_OF_RANGE 1 final "The offset is outside the log.";
    CORRUPT_MESSAGE 2 retriable "The batch is damaged.";
    UNKNOWN_TOPIC_OR_PARTITION 3 retriable "This broker has no such topic or partition.";
    INVALID_FETCH_SIZE 4 final "The fetch size is invalid.";
    LEADER_NOT_AVAILABLE 5 retriable "The partition has no leader now.";
    NOT_LEADER_OR_FOLLOWER 6 retriable "This broker does not serve the partition.";
    REQUEST_TIMED_OUT 7 retriable "The request was not done within its timeout.";
    BROKER_NOT_AVAILABLE 8 final "The broker is not available.";
    REPLICA_NOT_AVAILABLE 9 retriable "The replica is not available.";
    MESSAGE_TOO_LARGE 10 final "The batch exceeds the largest size the topic takes.";
    STALE_CONTROLLER_EPOCH 11 final "The controller is a former one.";
    OFFSET_METADATA_TOO_LARGE 12 final "The metadata of an offset is too long.";
    NETWORK_EXCEPTION 13 retriable "The connection ended before the reply.";
    COORDINATOR_LOAD_IN_PROGRESS 14 retriable "The coordinator is starting.";
    COORDINATOR_NOT_AVAILABLE 15 retriable "The coordinator is not available.";
    NOT_COORDINATOR 16 retriable "This broker is not the coordinator.";
    INVALID_TOPIC_EXCEPTION 17 final "The topic name or operation is invalid.";
    RECORD_LIST_TOO_LARGE 18 final "The records exceed the segment size.";
    NOT_ENOUGH_REPLICAS 19 retriable "Fewer replicas are in sync than the topic demands.";
    NOT_ENOUGH_REPLICAS_AFTER_APPEND 20 retriable "Written to fewer in-sync replicas than the topic demands.";
    INVALID_REQUIRED_ACKS 21 final "acks must be 0, 1 or -1.";
    ILLEGAL_GENERATION 22 final "The group's generation is another.";
    INCONSISTENT_GROUP_PROTOCOL 23 final "The group speaks another protocol.";
    INVALID_GROUP_ID 24 final "The group id is invalid.";
    UNKNOWN_MEMBER_ID 25 final "The group has no such member.";
    INVALID_SESSION_TIMEOUT 26 final "The session timeout is outside the allowed range.";
    REBALANCE_IN_PROGRESS 27 final "The group is rebalancing.";
    INVALID_COMMIT_OFFSET_SIZE 28 final "The offset commit is too large.";
    TOPIC_AUTHORIZATION_FAILED 29 final "Not allowed for this topic.";
    GROUP_AUTHORIZATION_FAILED 30 final "Not allowed for this group.";
    CLUSTER_AUTHORIZATION_FAILED 31 final "Not allowed for this cluster.";
    INVALID_TIMESTAMP 32 final "The timestamp is outside the allowed range.";
    UNSUPPORTED_SASL_MECHANISM 33 final "The SASL mechanism is not supported.";
    ILLEGAL_SASL_STATE 34 final "The request does not fit the state of authentication.";
    UNSUPPORTED_VERSION 35 final "The version is not supported.";
    TOPIC_ALREADY_EXISTS 36 final "A topic of this name exists.";
    INVALID_PARTITIONS 37 final "The partition count is invalid.";
    INVALID_REPLICATION_FACTOR 38 final "The replication factor is invalid.";
    INVALID_REPLICA_ASSIGNMENT 39 final "The replica assignment is invalid.";
    INVALID_CONFIG 40 final "A setting is invalid.";
    NOT_CONTROLLER 41 retriable "This broker is not the controller.";
    INVALID_REQUEST 42 final "The request contradicts itself or the protocol.";
    UNSUPPORTED_FOR_MESSAGE_FORMAT 43 final "The record format does not support this.";
    POLICY_VIOLATION 44 final "A policy forbids this.";
    OUT_OF_ORDER_SEQUENCE_NUMBER 45 final "The sequence does not follow the producer's last.";
    DUPLICATE_SEQUENCE_NUMBER 46 final "The sequence was used before.";
    INVALID_PRODUCER_EPOCH 47 final "The producer's epoch is a former one.";
    INVALID_TXN_STATE 48 final "The transaction is not in a state for this.";
    INVALID_PRODUCER_ID_MAPPING 49 final "The producer id does not belong to the transactional id.";
    INVALID_TRANSACTION_TIMEOUT 50 final "The transaction timeout is above the limit.";
    CONCURRENT_TRANSACTIONS 51 retriable "The previous transaction is still ending.";
    TRANSACTION_COORDINATOR_FENCED 52 final "The transaction coordinator is a former one.";
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED 53 final "Not allowed for this transactional id.";
    SECURITY_DISABLED 54 final "Security is disabled.";
    OPERATION_NOT_ATTEMPTED 55 final "Not tried, because another part of the request failed.";
    KAFKA_STORAGE_ERROR 56 retriable "The log cannot be read or written.";
    LOG_DIR_NOT_FOUND 57 final "There is no such data directory.";
    SASL_AUTHENTICATION_FAILED 58 final "Authentication failed.";
    UNKNOWN_PRODUCER_ID 59 final "The producer id is not known.";
    REASSIGNMENT_IN_PROGRESS 60 final "A reassignment is in progress.";
    DELEGATION_TOKEN_AUTH_DISABLED 61 final "Delegation tokens are disabled.";
    DELEGATION_TOKEN_NOT_FOUND 62 final "There is no such delegation token.";
    DELEGATION_TOKEN_OWNER_MISMATCH 63 final "The delegation token belongs to another.";
    DELEGATION_TOKEN_REQUEST_NOT_ALLOWED 64 final "Delegation tokens are not allowed on this connection.";
    DELEGATION_TOKEN_AUTHORIZATION_FAILED 65 final "Not allowed for this delegation token.";
    DELEGATION_TOKEN_EXPIRED 66 final "The delegation token has expired.";
    INVALID_PRINCIPAL_TYPE 67 final "The principal type is not supported.";
    NON_EMPTY_GROUP 68 final "The group has members.";
    GROUP_ID_NOT_FOUND 69 final "There is no such group.";
    FETCH_SESSION_ID_NOT_FOUND 70 retriable "There is no such fetch session.";
    INVALID_FETCH_SESSION_EPOCH 71 retriable "The fetch session is at another request.";
    LISTENER_NOT_FOUND 72 retriable "The leader has no such listener.";
    TOPIC_DELETION_DISABLED 73 final "Topics may not be deleted.";
    FENCED_LEADER_EPOCH 74 retriable "The leader epoch is a former one.";
    UNKNOWN_LEADER_EPOCH 75 retriable "The leader epoch is not known yet.";
    UNSUPPORTED_COMPRESSION_TYPE 76 final "The codec is not supported.";
    STALE_BROKER_EPOCH 77 final "The broker's epoch is a former one.";
    OFFSET_NOT_AVAILABLE 78 retriable "The leader does not know its high watermark yet.";
    MEMBER_ID_REQUIRED 79 final "Join again with the member id given.";
    PREFERRED_LEADER_NOT_AVAILABLE 80 retriable "The preferred leader is not available.";
    GROUP_MAX_SIZE_REACHED 81 final "The group is full.";
    FENCED_INSTANCE_ID 82 final "Another member took the instance id.";
    ELIGIBLE_LEADERS_NOT_AVAILABLE 83 retriable "No replica may lead.";
    ELECTION_NOT_NEEDED 84 retriable "The leader is the right one.";
    NO_REASSIGNMENT_IN_PROGRESS 85 final "No reassignment is in progress.";
    GROUP_SUBSCRIBED_TO_TOPIC 86 final "The group reads the topic.";
    INVALID_RECORD 87 final "A record breaks a rule of the topic or the format.";
    UNSTABLE_OFFSET_COMMIT 88 retriable "Offsets wait for the end of a transaction.";
    THROTTLING_QUOTA_EXCEEDED 89 retriable "The quota is used up.";
    PRODUCER_FENCED 90 final "Another producer took the transactional id.";
    RESOURCE_NOT_FOUND 91 final "There is no such resource.";
    DUPLICATE_RESOURCE 92 final "The resource exists.";
    UNACCEPTABLE_CREDENTIAL 93 final "The credential is not acceptable.";
    INCONSISTENT_VOTER_SET 94 final "The voters are others.";
    INVALID_UPDATE_VERSION 95 final "The update is for another version.";
    FEATURE_UPDATE_FAILED 96 final "The features cannot be updated.";
    PRINCIPAL_DESERIALIZATION_FAILURE 97 final "The principal is malformed.";
    SNAPSHOT_NOT_FOUND 98 final "There is no such snapshot.";
    POSITION_OUT_OF_RANGE 99 final "The position is outside the snapshot.";
    UNKNOWN_TOPIC_ID 100 retriable "No topic has this id.";
    DUPLICATE_BROKER_REGISTRATION 101 final "The broker id is taken.";
    BROKER_ID_NOT_REGISTERED 102 final "The broker id is not registered.";
    INCONSISTENT_TOPIC_ID 103 retriable "The log has another topic id.";
    INCONSISTENT_CLUSTER_ID 104 final "The cluster is another.";
    TRANSACTIONAL_ID_NOT_FOUND 105 final "There is no such transactional id.";
    FETCH_SESSION_TOPIC_ID_ERROR 106 retriable "The fetch session names topics the other way.";
    INELIGIBLE_REPLICA 107 final "The replica may not join the in-sync set.";
    NEW_LEADER_ELECTED 108 final "The change elected another leader.";
    OFFSET_MOVED_TO_TIERED_STORAGE 109 final "The offset is in tiered storage.";
    FENCED_MEMBER_EPOCH 110 final "The member's epoch is a former one.";
    UNRELEASED_INSTANCE_ID 111 final "The instance id is still in use.";
    UNSUPPORTED_ASSIGNOR 112 final "The assignor is not supported.";
    STALE_MEMBER_EPOCH 113 final "The member must learn its new epoch first.";
    MISMATCHED_ENDPOINT_TYPE 114 final "The request went to the wrong kind of endpoint.";
    UNSUPPORTED_ENDPOINT_TYPE 115 final "The kind of endpoint is not supported.";
    UNKNOWN_CONTROLLER_ID 116 final "The controller id is not known.";
    UNKNOWN_SUBSCRIPTION_ID 117 final "The telemetry subscription is another.";
    TELEMETRY_TOO_LARGE 118 final "The telemetry is too large.";
    INVALID_REGISTRATION 119 final "The registration is invalid.";
    TRANSACTION_ABORTABLE 120 final "The transaction must be aborted.";
    INVALID_RECORD_STATE 121 final "The record is not in a state for this.";
    SHARE_SESSION_NOT_FOUND 122 retriable "There is no such share session.";
    INVALID_SHARE_SESSION_EPOCH 123 retriable "The share session is at another request.";
    FENCED_STATE_EPOCH 124 final "The share coordinator's epoch is a former one.";
    INVALID_VOTER_KEY 125 final "The voter is another.";
    DUPLICATE_VOTER 126 final "The voter exists.";
    VOTER_NOT_FOUND 127 final "There is no such voter.";
    INVALID_REGULAR_EXPRESSION 128 final "The regular expression is invalid.";
    REBOOTSTRAP_REQUIRED 129 final "Start again from the bootstrap addresses.";
    STREAMS_INVALID_TOPOLOGY 130 final "The topology is invalid.";
    STREAMS_INVALID_TOPOLOGY_EPOCH 131 final "The topology's epoch is another.";
    STREAMS_TOPOLOGY_FENCED 132 final "The topology is a former one.";
    SHARE_SESSION_LIMIT_REACHED 133 retriable "There are too many share sessions.";
}

impl ErrorCode {
    /// Kafka's name, or `UNKNOWN`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.known_name() {
            Some(name) => name,
            None => "UNKNOWN",
        }
    }

    /// Whether this is any error.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 != 0
    }

    /// `Ok` for [`ErrorCode::NONE`].
    ///
    /// # Errors
    /// Any other code.
    pub const fn ok(self) -> Result<(), Self> {
        if self.is_error() { Err(self) } else { Ok(()) }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ErrorCode {}

impl Decode<'_> for ErrorCode {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        i16::decode(r).map(Self)
    }
}

impl Encode for ErrorCode {
    fn encode<S: Sink>(&self, w: &mut Writer<'_, S>) {
        self.0.encode(w);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_no_gap() {
        let codes: Vec<i16> = ErrorCode::ALL.iter().map(|code| code.0).collect();
        assert_eq!(codes, (-1..=133).collect::<Vec<i16>>());
    }

    #[test]
    fn unknown_codes_survive() {
        assert_eq!(ErrorCode(999).to_string(), "UNKNOWN (999)");
        assert_eq!(
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.to_string(),
            "UNKNOWN_TOPIC_OR_PARTITION (3)"
        );
    }
}
