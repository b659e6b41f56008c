//! What the administrative handlers share: errors to codes, resources, addresses, operations.

use sawlog_protocol::ErrorCode;

use super::RequestContext;
use crate::base::BrokerId;
use crate::controller::{AdminError, AdminErrorKind, ConfigTarget};
use crate::metadata::{Broker, Image, PartitionState};

/// `resource_type` of a topic's settings.
pub(super) const TOPIC: i8 = 2;
/// `resource_type` of a broker's settings.
pub(super) const BROKER: i8 = 4;
/// `resource_type` of a broker's loggers.
pub(super) const BROKER_LOGGER: i8 = 8;
/// `resource_type` of metrics clients are asked for.
pub(super) const CLIENT_METRICS: i8 = 16;
/// `resource_type` of a group's settings.
pub(super) const GROUP: i8 = 32;

/// Operations on a topic when nobody is refused anything: read, write, create, delete, alter,
/// describe, describe and alter settings.
const TOPIC_OPERATIONS: i32 =
    1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// Operations on the cluster when nobody is refused anything: create, alter, describe, act as
/// cluster, describe and alter settings, write idempotently.
const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
/// "Not asked for."
const NO_OPERATIONS: i32 = i32::MIN;

/// The one place where an administrative refusal becomes a protocol error.
pub(super) fn code(error: &AdminError) -> ErrorCode {
    match error.kind() {
        AdminErrorKind::InvalidTopicName => ErrorCode::INVALID_TOPIC_EXCEPTION,
        AdminErrorKind::TopicExists => ErrorCode::TOPIC_ALREADY_EXISTS,
        AdminErrorKind::UnknownTopic => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        AdminErrorKind::UnknownTopicId => ErrorCode::UNKNOWN_TOPIC_ID,
        AdminErrorKind::DeletionDisabled => ErrorCode::TOPIC_DELETION_DISABLED,
        AdminErrorKind::InvalidPartitions => ErrorCode::INVALID_PARTITIONS,
        AdminErrorKind::TooManyPartitions => ErrorCode::POLICY_VIOLATION,
        AdminErrorKind::InvalidReplicationFactor => ErrorCode::INVALID_REPLICATION_FACTOR,
        AdminErrorKind::InvalidReplicaAssignment => ErrorCode::INVALID_REPLICA_ASSIGNMENT,
        AdminErrorKind::InvalidConfig => ErrorCode::INVALID_CONFIG,
        AdminErrorKind::InvalidRequest => ErrorCode::INVALID_REQUEST,
        AdminErrorKind::DuplicateBroker => ErrorCode::DUPLICATE_BROKER_REGISTRATION,
        AdminErrorKind::StaleRegistration => ErrorCode::STALE_BROKER_EPOCH,
        AdminErrorKind::Storage => ErrorCode::KAFKA_STORAGE_ERROR,
        AdminErrorKind::Unavailable => ErrorCode::REQUEST_TIMED_OUT,
        AdminErrorKind::ElectionNotNeeded => ErrorCode::ELECTION_NOT_NEEDED,
        AdminErrorKind::PreferredNotAvailable => ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE,
        AdminErrorKind::NobodyEligible => ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE,
        AdminErrorKind::NoReassignment => ErrorCode::NO_REASSIGNMENT_IN_PROGRESS,
        AdminErrorKind::NotRegistered => ErrorCode::BROKER_ID_NOT_REGISTERED,
        AdminErrorKind::FeatureUpdate => ErrorCode::INVALID_UPDATE_VERSION,
        AdminErrorKind::DuplicateVoter => ErrorCode::DUPLICATE_VOTER,
        AdminErrorKind::VoterNotFound => ErrorCode::VOTER_NOT_FOUND,
    }
}

/// Code and text of an outcome.
pub(super) fn outcome<T>(result: &Result<T, AdminError>) -> (ErrorCode, Option<String>) {
    match result {
        Ok(_) => (ErrorCode::NONE, None),
        Err(error) => (code(error), Some(error.to_string())),
    }
}

/// A request may name the cluster it is for.
///
/// # Errors
/// This is another one, as a sentence.
pub(super) fn check_cluster(ctx: &RequestContext<'_>, meant: Option<&str>) -> Result<(), String> {
    let own = ctx.node.images.load().cluster_id().to_string();
    match meant {
        Some(meant) if meant != own => {
            Err(format!("cluster {meant} is meant, and this broker belongs to cluster {own}"))
        }
        _ => Ok(()),
    }
}

/// Whose settings a request names.
pub(super) fn target(resource_type: i8, name: &str) -> Result<ConfigTarget, AdminError> {
    match resource_type {
        TOPIC => Ok(ConfigTarget::Topic(name.to_owned())),
        BROKER if name.is_empty() => Ok(ConfigTarget::Cluster),
        BROKER => match name.parse() {
            Ok(id) => Ok(ConfigTarget::Broker(BrokerId(id))),
            Err(_) => Err(AdminError::InvalidRequest(format!("\"{name}\" is not a broker id"))),
        },
        GROUP => Ok(ConfigTarget::Group(name.to_owned())),
        CLIENT_METRICS => Ok(ConfigTarget::ClientMetrics(name.to_owned())),
        other => Err(AdminError::InvalidRequest(format!(
            "resource type {other} has no settings here: 2 is a topic, 4 a broker, 16 a subscription to \
             client metrics, 32 a group"
        ))),
    }
}

/// What a client may do with a topic, if it asked.
pub(super) fn topic_operations(asked: bool) -> i32 {
    if asked { TOPIC_OPERATIONS } else { NO_OPERATIONS }
}

/// What a client may do with the cluster, if it asked.
pub(super) fn cluster_operations(asked: bool) -> i32 {
    if asked { CLUSTER_OPERATIONS } else { NO_OPERATIONS }
}

/// The cluster as one client sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) image: &'a Image,
    /// Host and port under which this client reaches this broker.
    pub(super) host: &'a str,
    pub(super) port: u16,
}

impl<'a> View<'a> {
    /// This broker.
    pub(super) fn own_id(&self) -> i32 {
        self.image.config().node_id
    }

    /// Whoever takes administrative requests: all do, and pass them on to the controller. Clients
    /// look for it among the running brokers, so one that does not run yet names another.
    pub(super) fn controller_id(&self) -> i32 {
        let own = self.own_id();
        let runs = |id: i32| self.image.broker(BrokerId(id)).is_some_and(|broker| !broker.fenced);
        let another = || self.image.live_brokers().next().map(|broker| broker.id.0);
        if runs(own) { own } else { another().unwrap_or(own) }
    }

    /// Where this client reaches `broker`: this one where it already does, others where they say.
    pub(super) fn address(&self, broker: &'a Broker) -> (&'a str, i32) {
        match broker.listeners.first() {
            Some(listener) if broker.id.0 != self.own_id() => {
                (listener.host.as_str(), i32::from(listener.port))
            }
            _ => (self.host, i32::from(self.port)),
        }
    }

    /// Replicas on brokers that are not running.
    pub(super) fn offline_replicas(&self, partition: &PartitionState) -> Vec<i32> {
        let running = |id: &BrokerId| self.image.broker(*id).is_some_and(|broker| !broker.fenced);
        let replicas = partition.replicas.iter();
        replicas.filter(|id| !running(id)).map(|id| id.0).collect()
    }
}

/// The leader, or that there is none just now.
pub(super) fn leader(partition: &PartitionState) -> (ErrorCode, i32) {
    match partition.leader {
        Some(leader) => (ErrorCode::NONE, leader.0),
        None => (ErrorCode::LEADER_NOT_AVAILABLE, -1),
    }
}

/// Broker ids as the protocol writes them.
pub(super) fn numbers(brokers: &[BrokerId]) -> Vec<i32> {
    brokers.iter().map(|id| id.0).collect()
}

/// Whether clients should hide the topic unless asked for it.
pub(super) fn is_internal(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_those_kafka_reports_without_an_authorizer() {
        assert_eq!(topic_operations(true), 3576);
        assert_eq!(cluster_operations(true), 8096);
        assert_eq!(topic_operations(false), -2_147_483_648);
    }

    #[test]
    fn resources_are_topics_groups_brokers_or_all_brokers() {
        assert_eq!(target(2, "t"), Ok(ConfigTarget::Topic("t".to_owned())));
        assert_eq!(target(4, "3"), Ok(ConfigTarget::Broker(BrokerId(3))));
        assert_eq!(target(4, ""), Ok(ConfigTarget::Cluster));
        assert_eq!(target(32, "g"), Ok(ConfigTarget::Group("g".to_owned())));
        assert_eq!(target(16, "s"), Ok(ConfigTarget::ClientMetrics("s".to_owned())));
        for (kind, name) in [(4, "x"), (8, "1"), (0, ""), (-1, "")] {
            assert_eq!(target(kind, name).map_err(|e| code(&e)), Err(ErrorCode::INVALID_REQUEST));
        }
    }
}
