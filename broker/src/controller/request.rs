//! What can be asked of the controller, and its answers.

use sawlog_protocol::Uuid;

use crate::base::{BrokerId, TopicId};
use crate::config::Endpoint;
use crate::metadata::{AlterAnswer, AlterPartition, MetadataOffset, ReplicaReport};
use crate::quorum::{QuorumStatus, VoterChange};

use super::AdminError;
use super::replicas::{BrokerStart, Elected, Election};

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
    /// A broker's process started.
    RegisterBroker(BrokerStart),
    /// A broker is there.
    Heartbeat(Heartbeat),
    /// A leader wants other in-sync sets.
    AlterPartitions(Vec<AlterRequest>),
    /// A broker tells where its replicas are, and which are no good.
    ReportReplicas(ReplicaReport),
    /// A broker's process is gone: it says so with its last word, or its machine does.
    BrokerGone {
        /// The broker.
        broker: BrokerId,
        /// Its registration.
        epoch: i64,
        /// It says so itself, or its machine did when its connections had ended: no silence is needed
        /// to believe it.
        by_itself: bool,
    },
    /// Elect leaders.
    ElectLeaders {
        /// Which replicas are to lead.
        election: Election,
        /// Each on its own, by topic and index; all if `None`.
        partitions: Option<Vec<(String, i32)>>,
    },
    /// Move replicas, or take that back.
    AlterReassignments {
        /// Each on its own.
        partitions: Vec<Reassignment>,
        /// Whether a partition may have more or fewer replicas afterwards.
        may_change_factor: bool,
    },
    /// Forget a broker that will not come back.
    UnregisterBroker(BrokerId),
    /// Tell who agrees on the metadata.
    DescribeQuorum,
    /// Change who agrees on the metadata.
    ChangeVoters(VoterChange),
    /// Change what the cluster as a whole does, all of it or nothing.
    UpdateFeatures {
        /// Each feature once.
        updates: Vec<FeatureUpdate>,
        /// Only say what would happen.
        validate_only: bool,
    },
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
    /// What the broker is to the cluster.
    Heartbeat(Result<Standing, AdminError>),
    /// Per partition.
    AlterPartitions(Vec<AlterAnswer>),
    /// Whether it was taken note of.
    ReportReplicas(Result<(), AdminError>),
    /// Whether it was fenced.
    BrokerGone(bool),
    /// Per partition; of all of them, those where something was to be done.
    ElectLeaders(Vec<ElectedLeader>),
    /// Per partition.
    AlterReassignments(Vec<Result<(), AdminError>>),
    /// Whether it is forgotten.
    UnregisterBroker(Result<(), AdminError>),
    /// Who agrees, and how far each is.
    DescribeQuorum(QuorumStatus),
    /// Whether it is done.
    ChangeVoters(Result<(), AdminError>),
    /// Per feature; if one is refused none has changed.
    UpdateFeatures(Vec<Result<(), AdminError>>),
}

/// A broker is there, and this is how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The broker.
    pub broker: BrokerId,
    /// Its registration.
    pub epoch: i64,
    /// The last metadata entry it acts by.
    pub applied: MetadataOffset,
    /// It wants to stop, and that others take over first.
    pub wants_to_leave: bool,
}

/// What a broker is to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// It is kept out of leadership and in-sync sets.
    pub fenced: bool,
    /// It is on its way out.
    pub leaving: bool,
    /// It is needed for nothing that anybody else could do, and all know.
    pub may_leave: bool,
}

/// A leader wants another in-sync set for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterRequest {
    /// The topic.
    pub topic: TopicId,
    /// The partition's index.
    pub index: i32,
    /// What it wants.
    pub question: AlterPartition,
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
    /// A subscription's to metrics of clients; it need not exist.
    ClientMetrics(String),
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
    /// Where other brokers reach it; nowhere if it is alone.
    pub peer: Option<Endpoint>,
    /// Where it stands.
    pub rack: Option<String>,
}

/// What became of an election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectedLeader {
    /// The topic.
    pub topic: String,
    /// The partition's index.
    pub index: i32,
    /// Who leads now.
    pub result: Result<Elected, AdminError>,
}

/// Where the replicas of a partition are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassignment {
    /// The topic.
    pub topic: String,
    /// The partition's index.
    pub index: i32,
    /// The brokers, the preferred leader first; `None` takes back what is under way.
    pub replicas: Option<Vec<BrokerId>>,
}

/// A feature that is to have another level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureUpdate {
    /// The feature.
    pub name: String,
    /// The level.
    pub level: i16,
    /// In which direction.
    pub upgrade: UpgradeType,
}

/// How a level may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeType {
    /// Up.
    Upgrade,
    /// Down, where nothing is lost by it.
    SafeDowngrade,
    /// Down, whatever is lost by it.
    UnsafeDowngrade,
}
