//! Why an administrative request is refused. Each text says what, why, and what would be right.

use thiserror::Error;

use crate::base::limits::{
    PARTITIONS_PER_REQUEST_MAX, PARTITIONS_PER_TOPIC_MAX, TOPIC_NAME_BYTES_MAX,
};
use crate::base::{BrokerId, TopicId};
use crate::config::ConfigError;
use crate::quorum::VoterError;

use super::replicas::{DuplicateBroker, RemovalError};

/// Why an administrative request is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AdminError {
    /// The name is not one a topic can have.
    #[error("topic name \"{name}\" is not valid: {reason}")]
    InvalidTopicName {
        /// As asked for, cut to the longest valid length.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A topic of that name exists.
    #[error("topic \"{0}\" already exists")]
    TopicExists(String),
    /// A topic exists whose name differs only in `.` and `_`.
    #[error(
        "topic name \"{name}\" collides with existing topic \"{existing}\": \".\" and \"_\" are the same in metric names"
    )]
    TopicCollides {
        /// As asked for.
        name: String,
        /// The topic in the way.
        existing: String,
    },
    /// One request names a topic twice.
    #[error("topic \"{0}\" is named more than once in the request")]
    DuplicateTopic(String),
    /// No topic has this name.
    #[error("topic \"{0}\" does not exist")]
    UnknownTopic(String),
    /// No topic has this id.
    #[error("no topic has the id {0}")]
    UnknownTopicId(TopicId),
    /// Topics cannot be deleted on this cluster.
    #[error("topics cannot be deleted: delete.topic.enable is false")]
    DeletionDisabled,
    /// The partition count is out of range.
    #[error("{asked} partitions are not possible: a topic has 1 to {}", PARTITIONS_PER_TOPIC_MAX)]
    InvalidPartitions {
        /// As asked for.
        asked: i32,
    },
    /// The topic already has that many partitions, or more.
    #[error("topic \"{topic}\" has {has} partitions: they can only grow, and {asked} is not more")]
    PartitionsNotGrowing {
        /// The topic.
        topic: String,
        /// Partitions it has.
        has: usize,
        /// As asked for.
        asked: i32,
    },
    /// One request asks for too much.
    #[error(
        "one request creates at most {} partitions: make it in parts",
        PARTITIONS_PER_REQUEST_MAX
    )]
    TooManyPartitions,
    /// The replication factor is out of range.
    #[error(
        "replication factor {asked} is not possible: it must be 1 to the number of brokers, {brokers}"
    )]
    InvalidReplicationFactor {
        /// As asked for.
        asked: i16,
        /// Brokers that can hold a replica.
        brokers: usize,
    },
    /// A manual replica assignment makes no sense.
    #[error("replica assignment is not valid: {0}")]
    InvalidReplicaAssignment(String),
    /// A setting is unknown or unusable.
    #[error("{0}")]
    InvalidConfig(ConfigError),
    /// A setting cannot be changed as asked.
    #[error("{0}")]
    InvalidConfigChange(String),
    /// The broker is not known.
    #[error("broker {0} does not exist")]
    UnknownBroker(BrokerId),
    /// The request contradicts itself or names what does not exist.
    #[error("{0}")]
    InvalidRequest(String),
    /// Another process has this broker's id, and it is alive.
    #[error(
        "broker {0} is running already, with other data directories: give this one an id of its own"
    )]
    DuplicateBroker(BrokerId),
    /// The topic has no such partition.
    #[error("topic \"{topic}\" has no partition {index}: it has {has}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// As asked for.
        index: i32,
        /// Partitions it has.
        has: usize,
    },
    /// The right replica leads.
    #[error("{0}")]
    ElectionNotNeeded(String),
    /// The preferred replica cannot lead.
    #[error("{0}")]
    PreferredNotAvailable(String),
    /// No replica can lead.
    #[error("{0}")]
    NobodyEligible(String),
    /// There is nothing to take back.
    #[error("{0}")]
    NoReassignment(String),
    /// The number of replicas is to stay.
    #[error("the partition has {has} replicas and would have {asked}: that was not allowed")]
    FactorMayNotChange {
        /// Replicas it has.
        has: usize,
        /// As asked for.
        asked: usize,
    },
    /// No broker is registered under that id.
    #[error("broker {0} is not registered")]
    NotRegistered(BrokerId),
    /// A feature cannot get that level.
    #[error("{0}")]
    FeatureUpdate(String),
    /// The process was registered anew since, or is not registered any more.
    #[error("the registration of broker {0} is over")]
    StaleRegistration(BrokerId),
    /// The change could not be made durable; nothing is known to have happened.
    #[error("{0}")]
    Storage(String),
    /// The controller could not be reached in time, or was lost while it was at it: what became of
    /// the change is not known.
    #[error("{0}")]
    Unavailable(String),
    /// Another broker refused, as the controller.
    #[error("{text}")]
    Told {
        /// What kind of refusal it is.
        kind: AdminErrorKind,
        /// In its words.
        text: String,
    },
}

/// Kinds of refusals: what a client can be told apart from the text, and what goes from broker to
/// broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // as the variants of `AdminError`
pub enum AdminErrorKind {
    InvalidTopicName,
    TopicExists,
    UnknownTopic,
    UnknownTopicId,
    DeletionDisabled,
    InvalidPartitions,
    TooManyPartitions,
    InvalidReplicationFactor,
    InvalidReplicaAssignment,
    InvalidConfig,
    InvalidRequest,
    DuplicateBroker,
    StaleRegistration,
    Storage,
    Unavailable,
    ElectionNotNeeded,
    PreferredNotAvailable,
    NobodyEligible,
    NoReassignment,
    NotRegistered,
    FeatureUpdate,
    DuplicateVoter,
    VoterNotFound,
}

impl AdminErrorKind {
    const ALL: [Self; 23] = [
        Self::InvalidTopicName,
        Self::TopicExists,
        Self::UnknownTopic,
        Self::UnknownTopicId,
        Self::DeletionDisabled,
        Self::InvalidPartitions,
        Self::TooManyPartitions,
        Self::InvalidReplicationFactor,
        Self::InvalidReplicaAssignment,
        Self::InvalidConfig,
        Self::InvalidRequest,
        Self::DuplicateBroker,
        Self::StaleRegistration,
        Self::Storage,
        Self::Unavailable,
        Self::ElectionNotNeeded,
        Self::PreferredNotAvailable,
        Self::NobodyEligible,
        Self::NoReassignment,
        Self::NotRegistered,
        Self::FeatureUpdate,
        Self::DuplicateVoter,
        Self::VoterNotFound,
    ];

    /// Its number between brokers.
    pub(super) fn number(self) -> u8 {
        let at = Self::ALL.iter().position(|kind| *kind == self);
        at.and_then(|at| u8::try_from(at + 1).ok()).unwrap_or_default()
    }

    /// The kind of a number. One this version does not know is of no special kind.
    pub(super) fn of(number: u8) -> Self {
        let at = usize::from(number).checked_sub(1);
        at.and_then(|at| Self::ALL.get(at).copied()).unwrap_or(Self::InvalidRequest)
    }
}

impl AdminError {
    /// What kind of refusal it is.
    #[must_use]
    pub fn kind(&self) -> AdminErrorKind {
        match self {
            Self::InvalidTopicName { .. } | Self::TopicCollides { .. } => {
                AdminErrorKind::InvalidTopicName
            }
            Self::TopicExists(_) => AdminErrorKind::TopicExists,
            Self::UnknownTopic(_) | Self::UnknownPartition { .. } => AdminErrorKind::UnknownTopic,
            Self::UnknownTopicId(_) => AdminErrorKind::UnknownTopicId,
            Self::DeletionDisabled => AdminErrorKind::DeletionDisabled,
            Self::InvalidPartitions { .. } | Self::PartitionsNotGrowing { .. } => {
                AdminErrorKind::InvalidPartitions
            }
            Self::TooManyPartitions => AdminErrorKind::TooManyPartitions,
            Self::InvalidReplicationFactor { .. } | Self::FactorMayNotChange { .. } => {
                AdminErrorKind::InvalidReplicationFactor
            }
            Self::InvalidReplicaAssignment(_) => AdminErrorKind::InvalidReplicaAssignment,
            Self::InvalidConfig(ConfigError::ReadOnly { .. }) => AdminErrorKind::InvalidRequest,
            Self::InvalidConfig(_) | Self::InvalidConfigChange(_) => AdminErrorKind::InvalidConfig,
            Self::UnknownBroker(_) | Self::DuplicateTopic(_) | Self::InvalidRequest(_) => {
                AdminErrorKind::InvalidRequest
            }
            Self::DuplicateBroker(_) => AdminErrorKind::DuplicateBroker,
            Self::StaleRegistration(_) => AdminErrorKind::StaleRegistration,
            Self::Storage(_) => AdminErrorKind::Storage,
            Self::Unavailable(_) => AdminErrorKind::Unavailable,
            Self::ElectionNotNeeded(_) => AdminErrorKind::ElectionNotNeeded,
            Self::PreferredNotAvailable(_) => AdminErrorKind::PreferredNotAvailable,
            Self::NobodyEligible(_) => AdminErrorKind::NobodyEligible,
            Self::NoReassignment(_) => AdminErrorKind::NoReassignment,
            Self::NotRegistered(_) => AdminErrorKind::NotRegistered,
            Self::FeatureUpdate(_) => AdminErrorKind::FeatureUpdate,
            Self::Told { kind, .. } => *kind,
        }
    }

    /// A refused name, shown in a bounded length.
    pub(crate) fn invalid_name(name: &str, reason: impl Into<String>) -> Self {
        let shown = name.chars().take(TOPIC_NAME_BYTES_MAX).collect();
        Self::InvalidTopicName { name: shown, reason: reason.into() }
    }
}

impl From<DuplicateBroker> for AdminError {
    fn from(error: DuplicateBroker) -> Self {
        Self::DuplicateBroker(error.0)
    }
}

impl From<RemovalError> for AdminError {
    fn from(error: RemovalError) -> Self {
        match error {
            RemovalError::Unknown(broker) => Self::NotRegistered(broker),
            RemovalError::Running(_) => Self::InvalidRequest(error.to_string()),
        }
    }
}

impl From<VoterError> for AdminError {
    fn from(error: VoterError) -> Self {
        let kind = match &error {
            VoterError::Duplicate(_) => AdminErrorKind::DuplicateVoter,
            VoterError::NotFound(_) => AdminErrorKind::VoterNotFound,
            VoterError::Refused(_) => AdminErrorKind::InvalidRequest,
            VoterError::Unfinished(_) | VoterError::NotLeader { .. } => AdminErrorKind::Unavailable,
        };
        Self::Told { kind, text: error.to_string() }
    }
}

impl From<ConfigError> for AdminError {
    fn from(error: ConfigError) -> Self {
        Self::InvalidConfig(error)
    }
}
