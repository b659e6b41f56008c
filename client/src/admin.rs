//! Administration: topics and their records here; settings, disks, partitions, groups, replicas and the
//! quorum in files of their own.

mod configs;
mod disks;
mod group_info;
mod group_offsets;
mod group_timeline;
mod groups;
mod partitions;
mod quorum;
mod replicas;

pub use configs::{ConfigChange, ConfigEntry, ConfigKind, ConfigResource, ConfigSynonym};
pub use disks::{LogDir, PartitionCopy, PartitionSize};
pub use group_info::{GroupInfo, GroupMember};
pub use group_offsets::{CommittedOffset, OffsetOutcome};
pub use group_timeline::{GroupEvent, GroupEventKind};
pub use groups::{GroupFilter, ListedGroup, MemberToRemove};
pub use partitions::{PartitionStatus, PartitionWriter};
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
use sawlog_protocol::{ErrorCode, decode_response};

use crate::backoff::Random;
use crate::cluster::Client;
use crate::consumer::{Position, TimeQuery};
use crate::error::{ClientError, check};
use crate::search::Search;

/// Longest wait of the broker for a change to take effect.
const TIMEOUT_MS: i32 = 30_000;

/// Last DeleteTopics version that takes plain names.
const DELETE_BY_NAME: i16 = 5;

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

/// Longest wait for a new topic to be known.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

impl Client {
    /// Creates a topic, and returns once it can be used: where a cluster takes its time to tell its
    /// brokers, that is waited for, for a few seconds.
    ///
    /// # Errors
    /// The broker refuses, and says why.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// use sawlog_client::NewTopic;
    ///
    /// let configs = [("retention.ms".to_owned(), "3600000".to_owned())];
    /// let topic = NewTopic {
    ///     name: "orders",
    ///     partitions: 6,
    ///     replication_factor: -1,
    ///     configs: &configs,
    ///     validate_only: false,
    /// };
    /// client.create_topic(&topic).await?;
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// client.delete_topic("orders").await?;
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// client.create_partitions("orders", 12, false).await?;
    /// # Ok(())
    /// # }
    /// ```
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

    /// Deletes the records of a partition below `offset`, -1 for all; returns the new first offset once
    /// they are gone from every in-sync replica, so that no later leader has them.
    ///
    /// # Errors
    /// The broker refuses, and says why. `REQUEST_TIMED_OUT`: they are gone where the partition is led, and
    /// not yet everywhere; it does no harm to ask again.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// let first = client.delete_records("orders", 0, 1_000).await?;
    /// println!("the log begins at {first}");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn delete_records(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<i64, ClientError> {
        let mut search = Search::new(self);
        loop {
            match self.delete_records_once(topic, partition, offset).await {
                // What is deleted already is deleted once more without harm.
                Err(error) => search.after(&[topic], error).await?,
                deleted => return deleted,
            }
        }
    }

    async fn delete_records_once(
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
            // The broker is to say that it takes too long before nobody listens.
            timeout_ms: i32::try_from(self.options().timeout.as_millis() * 2 / 3)
                .unwrap_or(i32::MAX),
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
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// let (first, end) = client.offsets("orders", 0).await?;
    /// println!("{} records", end - first);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn offsets(&self, topic: &str, partition: i32) -> Result<(i64, i64), ClientError> {
        let start = self.position_of(topic, partition, Position::Start).await?;
        let end = self.position_of(topic, partition, Position::End).await?;
        Ok((start, end))
    }

    /// Offset of the first record with at least this timestamp, in milliseconds since the Unix
    /// epoch; `None` if all records are older.
    ///
    /// # Errors
    /// The partition does not exist, or no broker answers.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// let new_year = 1_767_225_600_000;
    /// match client.offset_at("orders", 0, new_year).await? {
    ///     Some(offset) => println!("the first of this year is at {offset}"),
    ///     None => println!("nothing this year"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn offset_at(
        &self,
        topic: &str,
        partition: i32,
        timestamp: i64,
    ) -> Result<Option<i64>, ClientError> {
        let timestamp = timestamp.max(0);
        let query = TimeQuery { topic: topic.to_owned(), partition, timestamp };
        Ok(self.offsets_for_times(&[query]).await?.into_iter().next().flatten())
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
