//! How a command ends that did not work: one line on standard error, and an exit code.

use std::fmt;
use std::io::Write as _;

use sawlog_client::ClientError;
use sawlog_protocol::ErrorCode;

/// What scripts can tell apart by the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anything without a code of its own.
    Failed = 1,
    /// The command line or a setting does not make sense.
    Usage = 2,
    /// The topic, partition, group or file is not there.
    NotFound = 3,
    /// Not allowed.
    Denied = 4,
    /// No broker answers.
    Unreachable = 5,
    /// The state is another than the command needs.
    Precondition = 6,
    /// Some parts worked and some did not.
    Partial = 7,
    /// Something answers, but not as it should; or a disk failed under the broker.
    Unhealthy = 8,
    /// Stopped by the user.
    Interrupted = 130,
}

/// Why a command ends.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    message: String,
    /// The reader of standard output has gone: nothing to say.
    quiet: bool,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), quiet: false }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// A failed read or write of standard input or output.
    pub(crate) fn output(error: std::io::Error) -> Self {
        let quiet = error.kind() == std::io::ErrorKind::BrokenPipe;
        Self { kind: Kind::Failed, message: format!("cannot write: {error}"), quiet }
    }

    /// Says it and returns the exit code.
    pub(crate) fn report(&self) -> u8 {
        if self.quiet {
            return 0;
        }
        say(format!("error: {}", self.message));
        match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::NotFound => 3,
            Kind::Denied => 4,
            Kind::Unreachable => 5,
            Kind::Precondition => 6,
            Kind::Partial => 7,
            Kind::Unhealthy => 8,
            Kind::Interrupted => 130,
        }
    }

    /// The same failure with what was tried in front.
    pub(crate) fn while_doing(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let kind = match &error {
            ClientError::Unreachable { .. }
            | ClientError::Disconnected { .. }
            | ClientError::Timeout { .. } => Kind::Unreachable,
            ClientError::UnknownTopic(_) => Kind::NotFound,
            ClientError::Broker { code, .. } => kind_of(*code),
            ClientError::InvalidRecord(_) | ClientError::InvalidGroup(_) => Kind::Usage,
            ClientError::LogTruncated { .. } | ClientError::NoCommittedOffset { .. } => {
                Kind::Precondition
            }
            ClientError::Unsupported { .. }
            | ClientError::NotPolled { .. }
            | ClientError::Malformed(_)
            | ClientError::Unreadable { .. }
            | ClientError::Closed => Kind::Failed,
        };
        let hint = match &error {
            ClientError::Unreachable { .. } => {
                "; start one with `sawlog serve`, or name another with -b HOST:PORT"
            }
            _ => "",
        };
        Self::new(kind, format!("{error}{hint}"))
    }
}

fn kind_of(code: ErrorCode) -> Kind {
    match code {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::GROUP_ID_NOT_FOUND
        | ErrorCode::UNKNOWN_MEMBER_ID
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::BROKER_ID_NOT_REGISTERED
        | ErrorCode::RESOURCE_NOT_FOUND => Kind::NotFound,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED
        | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
        | ErrorCode::GROUP_AUTHORIZATION_FAILED => Kind::Denied,
        ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::COORDINATOR_NOT_AVAILABLE
        | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
        | ErrorCode::NOT_COORDINATOR
        | ErrorCode::NOT_CONTROLLER => Kind::Unreachable,
        ErrorCode::TOPIC_ALREADY_EXISTS
        | ErrorCode::OFFSET_OUT_OF_RANGE
        | ErrorCode::NON_EMPTY_GROUP
        | ErrorCode::NO_REASSIGNMENT_IN_PROGRESS
        | ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE
        | ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE
        | ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC => Kind::Precondition,
        ErrorCode::INVALID_CONFIG
        | ErrorCode::INVALID_PARTITIONS
        | ErrorCode::INVALID_REPLICATION_FACTOR
        | ErrorCode::INVALID_REPLICA_ASSIGNMENT
        | ErrorCode::INVALID_TOPIC_EXCEPTION
        | ErrorCode::INVALID_GROUP_ID
        | ErrorCode::INVALID_REQUEST => Kind::Usage,
        _ => Kind::Failed,
    }
}

/// One line on standard error.
pub(crate) fn say(line: impl fmt::Display) {
    // With standard error gone there is nobody to tell.
    let _gone = writeln!(std::io::stderr().lock(), "{line}");
}
