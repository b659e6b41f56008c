//! What can go wrong between a client and a broker.

use sawlog_protocol::{DecodeError, ErrorCode};

/// Why a request, a record or a read failed.
///
/// ```
/// use sawlog_client::ClientError;
///
/// fn advice(error: &ClientError) -> &'static str {
///     match error {
///         ClientError::UnknownTopic(_) => "create it",
///         error if error.is_retriable() => "later",
///         _ => "never",
///     }
/// }
/// assert_eq!(advice(&ClientError::Closed), "never");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No broker could be reached.
    #[error("cannot reach a broker at {address}: {reason}")]
    Unreachable {
        /// The addresses tried.
        address: String,
        /// What the last of them said.
        reason: String,
    },
    /// The connection ended before the reply.
    #[error("the connection to {address} ended: {reason}")]
    Disconnected {
        /// The broker.
        address: String,
        /// What is known of it.
        reason: String,
    },
    /// No reply within the time allowed.
    #[error("no reply from {address} within {timeout_ms} ms")]
    Timeout {
        /// The broker.
        address: String,
        /// The time allowed.
        timeout_ms: u128,
    },
    /// The broker does not serve the API, or no version of it that this client speaks.
    #[error("the broker at {address} does not serve {api} in a version this client speaks")]
    Unsupported {
        /// The broker.
        address: String,
        /// The API.
        api: &'static str,
    },
    /// A reply that is not what the protocol says.
    #[error("malformed reply: {0}")]
    Malformed(#[from] DecodeError),
    /// The broker refused.
    #[error("{} [{}]", detail(.message, *.code), .code)]
    Broker {
        /// The error code.
        code: ErrorCode,
        /// The broker's words, if it had any.
        message: Option<String>,
    },
    /// A topic that does not exist, as far as the broker tells.
    #[error("topic \"{0}\" does not exist")]
    UnknownTopic(String),
    /// A record that cannot be sent: too large, or for a partition that is not there.
    #[error("{0}")]
    InvalidRecord(String),
    /// A fetched batch that does not read.
    #[error("unreadable records in {topic}-{partition} at offset {offset}: {reason}")]
    Unreadable {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Where.
        offset: i64,
        /// What is wrong.
        reason: String,
    },
    /// The log was cut below what was read, by a leader that never had those records (KIP-320).
    #[error(
        "{topic}-{partition} was cut at offset {end_offset}, and offset {position} is to be read: \
         records that were read are no longer there"
    )]
    LogTruncated {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that was to be read next.
        position: i64,
        /// Where the log parts from what was read.
        end_offset: i64,
    },
    /// Options or a subscription no group can be joined with.
    #[error("{0}")]
    InvalidGroup(String),
    /// A partition was assigned of which the group has committed nothing, and
    /// [`ResetPolicy::Error`](crate::ResetPolicy::Error) is to be told: it waits for a seek.
    #[error("the group has committed no offset of {topic}-{partition}: say where to begin")]
    NoCommittedOffset {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The consumer was not asked for records within its max poll interval and left its group. It is
    /// joining again.
    #[error(
        "the consumer was not asked for records for {interval_ms} ms and left its group; its \
         partitions went to others"
    )]
    NotPolled {
        /// The max poll interval.
        interval_ms: u128,
    },
    /// The producer or consumer was closed.
    #[error("closed")]
    Closed,
}

fn detail(message: &Option<String>, code: ErrorCode) -> String {
    let text = message.as_deref().unwrap_or_else(|| code.message());
    text.trim_end_matches('.').to_owned()
}

impl ClientError {
    pub(crate) fn broker(code: ErrorCode, message: Option<&str>) -> Self {
        Self::Broker { code, message: message.filter(|m| !m.is_empty()).map(str::to_owned) }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Disconnected { .. }
            | Self::Timeout { .. }
            | Self::NotPolled { .. } => true,
            Self::Broker { code, .. } => code.is_retriable(),
            Self::Unsupported { .. }
            | Self::Malformed(_)
            | Self::UnknownTopic(_)
            | Self::InvalidRecord(_)
            | Self::Unreadable { .. }
            | Self::LogTruncated { .. }
            | Self::InvalidGroup(_)
            | Self::NoCommittedOffset { .. }
            | Self::Closed => false,
        }
    }

    /// The broker's error code, if it is the broker that refused.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Broker { code, .. } => Some(*code),
            Self::UnknownTopic(_) => Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            _ => None,
        }
    }
}

/// Turns an error code of a reply into a result.
pub(crate) fn check(code: ErrorCode, message: Option<&str>) -> Result<(), ClientError> {
    if code.is_error() { Err(ClientError::broker(code, message)) } else { Ok(()) }
}
