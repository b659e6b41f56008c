//! Administration: topics, settings, records, disk usage; groups, replicas and the quorum in files of
//! their own.

mod group_info;
mod group_offsets;
mod group_timeline;
mod groups;
mod quorum;
mod replicas;

pub use group_info::{GroupInfo, GroupMember};
pub use group_offsets::{CommittedOffset, OffsetOutcome};
pub use group_timeline::{GroupEvent, GroupEventKind};
pub use groups::{GroupFilter, ListedGroup, MemberToRemove};
pub use quorum::{QuorumInfo, QuorumReplica};
pub use replicas::{
    ClusterNode, ElectionType, NewReplicas, PartitionOutcome, Reassignment, TopicPartition,
};

use std::time::Duration;

use sawlog_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use sawlog_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use sawlog_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use sawlog_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use sawlog_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use sawlog_protocol::messages::describe_log_dirs::DescribeLogDirsRequest;
use sawlog_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use sawlog_protocol::{ErrorCode, Request, decode_response};

use crate::backoff::Random;
use crate::cluster::{Channel, Client};
use crate::connection::Reply;
use crate::consumer::{EARLIEST, LATEST};
use crate::error::{ClientError, check};

/// Longest wait of the broker for a change to take effect.
const TIMEOUT_MS: i32 = 30_000;

/// Last DeleteTopics version that takes plain names.
const DELETE_BY_NAME: i16 = 5;

/// A resource with settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigResource<'a> {
    /// A topic, by name.
    Topic(&'a str),
    /// A broker, by id.
    Broker(i32),
}

impl ConfigResource<'_> {
    fn wire(self) -> (i8, String) {
        match self {
            Self::Topic(name) => (2, name.to_owned()),
            Self::Broker(id) => (4, id.to_string()),
        }
    }
}

/// A topic to create. -1 leaves partitions or replication to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic<'a> {
    /// Its name.
    pub name: &'a str,
    /// How many partitions.
    pub partitions: i32,
    /// How many copies of each.
    pub replication_factor: i16,
    /// Settings of its own.
    pub configs: &'a [(String, String)],
    /// Only say whether it could be created.
    pub validate_only: bool,
}

/// A setting in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value; `None` where it is secret or unset.
    pub value: Option<String>,
    /// Kafka's code for where it comes from: 1 topic, 2 broker (dynamic), 3 all brokers (dynamic),
    /// 4 start of the broker, 5 default.
    pub source: i8,
    /// Whether it can only be set at the start.
    pub read_only: bool,
    /// What it means, where told.
    pub documentation: Option<String>,
}

impl ConfigEntry {
    /// Where it comes from, in a word.
    #[must_use]
    pub fn source_name(&self) -> &'static str {
        match self.source {
            1 => "topic",
            2 => "broker",
            3 => "cluster",
            4 => "static",
            5 => "default",
            _ => "unknown",
        }
    }
}

/// A change of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// Set it.
    Set(String, String),
    /// Back to what it inherits.
    Delete(String),
}

/// Bytes of a partition on one broker's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionSize {
    /// The broker.
    pub broker: i32,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Bytes on disk.
    pub bytes: i64,
}

/// Longest wait for a new topic to be known.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

impl Client {
    /// Creates a topic, and returns once it can be used: where a cluster takes its time to tell its
    /// brokers, that is waited for, for a few seconds.
    ///
    /// # Errors
    /// The broker refuses, and says why.
    pub async fn create_topic(&self, topic: &NewTopic<'_>) -> Result<(), ClientError> {
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: topic.name,
                num_partitions: topic.partitions,
                replication_factor: topic.replication_factor,
                configs: topic
                    .configs
                    .iter()
                    .map(|(name, value)| CreatableTopicConfig { name, value: Some(value) })
                    .collect(),
                ..Default::default()
            }],
            timeout_ms: TIMEOUT_MS,
            validate_only: topic.validate_only,
        };
        let reply = self.ask_controller(&request).await?;
        let (_, response) =
            decode_response::<CreateTopicsRequest<'_>>(&reply.frame, reply.version)?;
        let result = response.topics.first().ok_or(MISSING)?;
        check(result.error_code, result.error_message)?;
        if !topic.validate_only {
            self.wait_until_known(topic.name).await;
        }
        Ok(())
    }

    /// Waits for metadata to know the topic. That it was created is certain before: if it stays
    /// unknown, its first use says so.
    async fn wait_until_known(&self, name: &str) {
        let known = async {
            let mut random = Random::new();
            for attempt in 1.. {
                match self.refresh(name).await {
                    Ok(info) if !info.partitions.is_empty() => return,
                    Ok(_) | Err(_) => {
                        tokio::time::sleep(self.backoff().pause(attempt, &mut random)).await;
                    }
                }
            }
        };
        // Either way it is created.
        let _known = tokio::time::timeout(KNOWN_WITHIN, known).await;
    }

    /// Deletes a topic with all its records.
    ///
    /// # Errors
    /// The broker refuses, and says why.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState { name: Some(name), ..Default::default() }],
            topic_names: vec![name],
            timeout_ms: TIMEOUT_MS,
        };
        let connection = self.controller().await?;
        let reply = connection.call_up_to(&request, DELETE_BY_NAME, connection.timeout()).await?;
        let (_, response) =
            decode_response::<DeleteTopicsRequest<'_>>(&reply.frame, reply.version)?;
        let result = response.responses.first().ok_or(MISSING)?;
        unknown_topic(name, check(result.error_code, result.error_message))
    }

    /// Grows a topic to `count` partitions.
    ///
    /// # Errors
    /// The broker refuses, and says why.
    pub async fn create_partitions(
        &self,
        topic: &str,
        count: i32,
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic { name: topic, count, assignments: None }],
            timeout_ms: TIMEOUT_MS,
            validate_only,
        };
        let reply = self.ask_controller(&request).await?;
        let (_, response) =
            decode_response::<CreatePartitionsRequest<'_>>(&reply.frame, reply.version)?;
        let result = response.results.first().ok_or(MISSING)?;
        unknown_topic(topic, check(result.error_code, result.error_message))
    }

    /// The settings in force for a topic or broker.
    ///
    /// # Errors
    /// The broker refuses, and says why.
    pub async fn configs(
        &self,
        resource: ConfigResource<'_>,
    ) -> Result<Vec<ConfigEntry>, ClientError> {
        let (resource_type, name) = resource.wire();
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type,
                resource_name: &name,
                configuration_keys: None,
            }],
            include_documentation: true,
            ..Default::default()
        };
        let reply = self.ask_about(resource, &request).await?;
        let (_, response) =
            decode_response::<DescribeConfigsRequest<'_>>(&reply.frame, reply.version)?;
        let result = response.results.first().ok_or(MISSING)?;
        unknown_topic(&name, check(result.error_code, result.error_message))?;
        Ok(result
            .configs
            .iter()
            .map(|config| ConfigEntry {
                name: config.name.to_owned(),
                value: config.value.map(str::to_owned),
                source: config.config_source,
                read_only: config.read_only,
                documentation: config.documentation.map(str::to_owned),
            })
            .collect())
    }

    /// Asks whoever knows: a broker about itself.
    async fn ask_about<'a, R: Request<'a>>(
        &self,
        resource: ConfigResource<'_>,
        request: &R,
    ) -> Result<Reply, ClientError> {
        match resource {
            ConfigResource::Topic(_) => self.ask_controller(request).await,
            ConfigResource::Broker(id) => {
                self.describe(Some(&[])).await?;
                self.broker(id, Channel::GENERAL).await?.call(request).await
            }
        }
    }

    /// Changes settings of a topic or broker, all or none of them.
    ///
    /// # Errors
    /// The broker refuses, and says why.
    pub async fn alter_configs(
        &self,
        resource: ConfigResource<'_>,
        changes: &[ConfigChange],
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let (resource_type, name) = resource.wire();
        let configs = changes
            .iter()
            .map(|change| match change {
                ConfigChange::Set(name, value) => {
                    AlterableConfig { name, config_operation: 0, value: Some(value) }
                }
                ConfigChange::Delete(name) => {
                    AlterableConfig { name, config_operation: 1, value: None }
                }
            })
            .collect();
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource { resource_type, resource_name: &name, configs }],
            validate_only,
        };
        let reply = self.ask_controller(&request).await?;
        let (_, response) =
            decode_response::<IncrementalAlterConfigsRequest<'_>>(&reply.frame, reply.version)?;
        let result = response.responses.first().ok_or(MISSING)?;
        unknown_topic(&name, check(result.error_code, result.error_message))
    }

    /// Deletes the records of a partition below `offset`, -1 for all; returns the new first offset.
    ///
    /// # Errors
    /// The broker refuses, and says why.
    pub async fn delete_records(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<i64, ClientError> {
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: topic,
                partitions: vec![DeleteRecordsPartition { partition_index: partition, offset }],
            }],
            timeout_ms: TIMEOUT_MS,
        };
        let reply = self.leader(topic, partition).await?.call(&request).await?;
        let (_, response) =
            decode_response::<DeleteRecordsRequest<'_>>(&reply.frame, reply.version)?;
        let result = response.topics.first().and_then(|topic| topic.partitions.first());
        let result = result.ok_or(MISSING)?;
        check(result.error_code, None)?;
        Ok(result.low_watermark)
    }

    /// First offset of a partition and the offset behind its last record.
    ///
    /// # Errors
    /// The partition does not exist, or no broker answers.
    pub async fn offsets(&self, topic: &str, partition: i32) -> Result<(i64, i64), ClientError> {
        let start = self.offset_for(topic, partition, EARLIEST).await?.unwrap_or(0);
        let end = self.offset_for(topic, partition, LATEST).await?.unwrap_or(0);
        Ok((start, end))
    }

    /// Offset of the first record with at least this timestamp, in milliseconds since the Unix
    /// epoch; `None` if all records are older.
    ///
    /// # Errors
    /// The partition does not exist, or no broker answers.
    pub async fn offset_at(
        &self,
        topic: &str,
        partition: i32,
        timestamp: i64,
    ) -> Result<Option<i64>, ClientError> {
        self.offset_for(topic, partition, timestamp.max(0)).await
    }

    /// Bytes on disk, of every replica of every partition, on all brokers that run.
    ///
    /// # Errors
    /// A broker does not answer, or refuses.
    pub async fn partition_sizes(&self) -> Result<Vec<PartitionSize>, ClientError> {
        let brokers = self.describe(Some(&[])).await?.brokers;
        let mut sizes = Vec::new();
        for broker in brokers {
            sizes.extend(self.partition_sizes_of(broker.id).await?);
        }
        Ok(sizes)
    }

    async fn partition_sizes_of(&self, broker: i32) -> Result<Vec<PartitionSize>, ClientError> {
        let request = DescribeLogDirsRequest { topics: None };
        let reply = self.broker(broker, Channel::GENERAL).await?.call(&request).await?;
        let (_, response) =
            decode_response::<DescribeLogDirsRequest<'_>>(&reply.frame, reply.version)?;
        check(response.error_code, None)?;
        let mut sizes = Vec::new();
        for directory in &response.results {
            check(directory.error_code, None)?;
            for topic in &directory.topics {
                sizes.extend(topic.partitions.iter().map(|partition| PartitionSize {
                    broker,
                    topic: topic.name.to_owned(),
                    partition: partition.partition_index,
                    bytes: partition.partition_size,
                }));
            }
        }
        Ok(sizes)
    }
}

/// A reply without the part that was asked for.
const MISSING: ClientError = ClientError::Malformed(sawlog_protocol::DecodeError::Truncated);

fn unknown_topic(name: &str, result: Result<(), ClientError>) -> Result<(), ClientError> {
    match result {
        Err(error) if error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => {
            Err(ClientError::UnknownTopic(name.to_owned()))
        }
        other => other,
    }
}
