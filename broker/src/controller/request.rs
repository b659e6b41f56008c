//! What can be asked of the controller, and its answers.

use sawlog_protocol::Uuid;

use crate::base::{BrokerId, TopicId};
use crate::config::Endpoint;

use super::AdminError;

/// A request to change the metadata. Parts of one request succeed and fail on their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Make topics.
    CreateTopics {
        /// Each on its own.
        topics: Vec<CreateTopic>,
        /// Only say what would happen.
        validate_only: bool,
    },
    /// Remove topics.
    DeleteTopics(Vec<DeleteTopic>),
    /// Give topics more partitions.
    CreatePartitions {
        /// Each on its own.
        topics: Vec<CreatePartitions>,
        /// Only say what would happen.
        validate_only: bool,
    },
    /// Change settings.
    AlterConfigs {
        /// Each resource on its own, its changes together.
        resources: Vec<AlterConfigs>,
        /// Only say what would happen.
        validate_only: bool,
    },
    /// Set a block of producer ids aside for a broker.
    AllocateProducerIds {
        /// The broker.
        broker: BrokerId,
    },
    /// A broker started.
    RegisterBroker(Registration),
}

/// The answers, in the order of the request's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Per topic.
    CreateTopics(Vec<Result<CreatedTopic, AdminError>>),
    /// Per topic: what was deleted.
    DeleteTopics(Vec<Result<(String, TopicId), AdminError>>),
    /// Per topic.
    CreatePartitions(Vec<Result<(), AdminError>>),
    /// Per resource.
    AlterConfigs(Vec<Result<(), AdminError>>),
    /// The first id of the block, and how many.
    AllocateProducerIds(Result<(i64, i64), AdminError>),
    /// The broker's epoch.
    RegisterBroker(Result<i64, AdminError>),
}

/// A topic to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateTopic {
    /// Its name.
    pub name: String,
    /// Partitions; `None` for the broker's default. Not with `assignments`.
    pub partitions: Option<i32>,
    /// Replicas of each; `None` for the broker's default. Not with `assignments`.
    pub replication_factor: Option<i16>,
    /// Which brokers hold which partition, chosen by hand.
    pub assignments: Vec<(i32, Vec<BrokerId>)>,
    /// Settings; `None` is the inherited value.
    pub configs: Vec<(String, Option<String>)>,
    /// The broker makes it for itself: the name may be a reserved one.
    pub is_internal: bool,
}

/// A topic made, or that would have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its name.
    pub name: String,
    /// Its id; zero if it was only validated.
    pub id: TopicId,
    /// Its partitions.
    pub partitions: i32,
    /// Replicas of each.
    pub replication_factor: i16,
    /// What is set on the topic itself.
    pub configs: crate::config::Overrides,
}

/// A topic to remove, named in one of two ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeleteTopic {
    /// By name.
    Name(String),
    /// By id.
    Id(TopicId),
}

/// A topic to give more partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreatePartitions {
    /// The topic.
    pub name: String,
    /// How many it has afterwards.
    pub count: i32,
    /// Which brokers hold the new ones, chosen by hand.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

/// Whose settings to change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigTarget {
    /// A topic's.
    Topic(String),
    /// One broker's.
    Broker(BrokerId),
    /// All brokers'.
    Cluster,
    /// A group's; it need not exist.
    Group(String),
}

/// Settings of one resource to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterConfigs {
    /// Whose.
    pub target: ConfigTarget,
    /// How.
    pub change: Alteration,
}

/// How the settings of a resource change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alteration {
    /// These and no others are set afterwards.
    Replace(Vec<(String, Option<String>)>),
    /// These change, the others stay.
    Incremental(Vec<ConfigChange>),
}

/// One setting to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// The property.
    pub name: String,
    /// How.
    pub operation: ConfigOperation,
    /// With what; not needed to delete.
    pub value: Option<String>,
}

/// How one setting changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigOperation {
    /// To the value.
    Set,
    /// Back to what is inherited.
    Delete,
    /// The list gets the values it does not have yet.
    Append,
    /// The list loses the values.
    Subtract,
}

/// A broker that started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its id.
    pub id: BrokerId,
    /// This process.
    pub incarnation: Uuid,
    /// Its data directories.
    pub storage_ids: Vec<Uuid>,
    /// Addresses it advertises.
    pub listeners: Vec<Endpoint>,
    /// Where it stands.
    pub rack: Option<String>,
}
