//! Partitions: the state of their replicas, and who writes to them.

use sawlog_protocol::messages::describe_producers::{
    DescribeProducersRequest, ProducerState, TopicRequest as WritersOf,
};
use sawlog_protocol::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponsePartition, TopicRequest,
};
use sawlog_protocol::{ErrorCode, decode_response};

use super::{MISSING, unknown_topic};
use crate::cluster::Client;
use crate::error::{ClientError, check};
use crate::metadata::PartitionInfo;
use crate::search::Search;

/// A partition with the state of its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    /// What metadata says of it.
    pub partition: PartitionInfo,
    /// Replicas on brokers that are not in use.
    pub offline: Vec<i32>,
    /// Replicas out of sync that have everything acknowledged all the same (KIP-966), where told.
    pub eligible_leaders: Vec<i32>,
    /// Those that were in sync last, where there is no other left to lead (KIP-966).
    pub last_eligible_leaders: Vec<i32>,
}

/// A producer a partition knows: one that is idempotent, or in a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionWriter {
    /// Its id.
    pub producer_id: i64,
    /// Counts its restarts.
    pub producer_epoch: i32,
    /// Number of the last record it wrote, of its own, -1 for none.
    pub last_sequence: i32,
    /// When it wrote last, in milliseconds since the Unix epoch, -1 if not known.
    pub last_timestamp: i64,
    /// Epoch of the coordinator that ended its last transaction, -1 for none.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins in this partition; `None` if there is none.
    pub transaction_start: Option<i64>,
}

impl Client {
    /// The partitions of a topic with the state of their replicas, by index.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`], or the broker refuses.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// let partitions = client.describe_partitions("orders").await?;
    /// let offline = partitions.iter().filter(|one| !one.offline.is_empty()).count();
    /// println!("{offline} of {} partitions lack a replica", partitions.len());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn describe_partitions(
        &self,
        topic: &str,
    ) -> Result<Vec<PartitionStatus>, ClientError> {
        let mut search = Search::new(self);
        loop {
            match self.describe_partitions_once(topic).await {
                // A topic without a leader is described, too: only who is asked may be another.
                Err(error) => search.after_unreached(&[], error).await?,
                found => return found,
            }
        }
    }

    async fn describe_partitions_once(
        &self,
        topic: &str,
    ) -> Result<Vec<PartitionStatus>, ClientError> {
        let connection = self.any().await?;
        let mut found: Vec<PartitionStatus> = Vec::new();
        loop {
            // A page ends where the broker likes; the next begins behind what is here.
            let next = found.last().map(|last| last.partition.index + 1);
            let request = DescribeTopicPartitionsRequest {
                topics: vec![TopicRequest { name: topic }],
                cursor: next.map(|index| Cursor { topic_name: topic, partition_index: index }),
                ..Default::default()
            };
            let reply = connection.call(&request).await?;
            let (_, response) =
                decode_response::<DescribeTopicPartitionsRequest<'_>>(&reply.frame, reply.version)?;
            let told = response.topics.first().ok_or(MISSING)?;
            unknown_topic(topic, check(told.error_code, None))?;
            let before = found.len();
            let first = next.unwrap_or(0);
            found.extend(told.partitions.iter().map(status).filter(|s| s.partition.index >= first));
            found.sort_by_key(|one| one.partition.index);
            // A page that brings nothing on would never end.
            if response.next_cursor.is_none() || found.len() == before {
                return Ok(found);
            }
        }
    }

    /// The producers a partition knows.
    ///
    /// # Errors
    /// The partition does not exist, or its leader does not answer or refuses.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// for writer in client.describe_producers("orders", 0).await? {
    ///     println!("producer {} wrote record {}", writer.producer_id, writer.last_sequence);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn describe_producers(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Vec<PartitionWriter>, ClientError> {
        let mut search = Search::new(self);
        loop {
            match self.describe_producers_once(topic, partition).await {
                Err(error) => search.after(&[topic], error).await?,
                found => return found,
            }
        }
    }

    async fn describe_producers_once(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Vec<PartitionWriter>, ClientError> {
        let of = WritersOf { name: topic, partition_indexes: vec![partition] };
        let request = DescribeProducersRequest { topics: vec![of] };
        let reply = self.leader(topic, partition).await?.call(&request).await?;
        let (_, response) =
            decode_response::<DescribeProducersRequest<'_>>(&reply.frame, reply.version)?;
        let told = response.topics.first().and_then(|topic| topic.partitions.first());
        let told = told.ok_or(MISSING)?;
        check(told.error_code, told.error_message)?;
        Ok(told.active_producers.iter().map(writer).collect())
    }
}

fn status(told: &DescribeTopicPartitionsResponsePartition) -> PartitionStatus {
    let is_led = told.error_code != ErrorCode::LEADER_NOT_AVAILABLE;
    PartitionStatus {
        partition: PartitionInfo {
            index: told.partition_index,
            leader: if is_led { told.leader_id } else { -1 },
            leader_epoch: told.leader_epoch,
            replicas: told.replica_nodes.clone(),
            isr: told.isr_nodes.clone(),
        },
        offline: told.offline_replicas.clone(),
        eligible_leaders: told.eligible_leader_replicas.clone().unwrap_or_default(),
        last_eligible_leaders: told.last_known_elr.clone().unwrap_or_default(),
    }
}

fn writer(told: &ProducerState) -> PartitionWriter {
    PartitionWriter {
        producer_id: told.producer_id,
        producer_epoch: told.producer_epoch,
        last_sequence: told.last_sequence,
        last_timestamp: told.last_timestamp,
        coordinator_epoch: told.coordinator_epoch,
        transaction_start: u64::try_from(told.current_txn_start_offset)
            .is_ok()
            .then_some(told.current_txn_start_offset),
    }
}
