//! Where replicas are and who leads: brokers, elections, reassignments.
//!
//! Every change is begun by the controller and goes on by itself: [`Client::reassignments`] says what
//! is still under way.

use std::collections::BTreeMap;

use sawlog_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use sawlog_protocol::messages::describe_cluster::DescribeClusterRequest;
use sawlog_protocol::messages::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use sawlog_protocol::messages::list_partition_reassignments::ListPartitionReassignmentsRequest;
use sawlog_protocol::messages::unregister_broker::UnregisterBrokerRequest;
use sawlog_protocol::{ApiKey, ErrorCode, decode_response};

use super::TIMEOUT_MS;
use crate::cluster::Client;
use crate::error::{ClientError, check};
use crate::metadata::BrokerInfo;
use crate::search::Search;

/// The first DescribeCluster version that tells of brokers that are not running.
const FENCED_BROKERS: i16 = 2;

/// A broker, running or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNode {
    /// Who, and where.
    pub broker: BrokerInfo,
    /// Whether it takes part: heard of, and not on its way in or out.
    pub is_running: bool,
}

/// A partition by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

/// Who is to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElectionType {
    /// The first replica, if it is in sync.
    Preferred,
    /// Where nobody who has everything runs: anyone who runs. What only the others had is lost.
    Unclean,
}

/// What became of one partition of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionOutcome {
    /// The partition.
    pub of: TopicPartition,
    /// The refusal, if it was refused.
    pub result: Result<(), ClientError>,
}

/// A partition whose replicas are to be elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewReplicas {
    /// The partition.
    pub of: TopicPartition,
    /// The brokers, the preferred leader first; `None` takes back what is under way.
    pub replicas: Option<Vec<i32>>,
}

/// A reassignment under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassignment {
    /// The partition.
    pub of: TopicPartition,
    /// All replicas for now, old and new.
    pub replicas: Vec<i32>,
    /// Those that copy what they do not have yet.
    pub adding: Vec<i32>,
    /// Those that go once enough others are in sync.
    pub removing: Vec<i32>,
}

impl Client {
    /// Every broker that is registered, by id; only those that run, where brokers do not tell of
    /// others.
    ///
    /// # Errors
    /// No broker answers.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// for node in client.nodes().await? {
    ///     println!("{} at {}: runs {}", node.broker.id, node.broker.address(), node.is_running);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn nodes(&self) -> Result<Vec<ClusterNode>, ClientError> {
        let mut search = Search::new(self);
        loop {
            match self.nodes_once().await {
                Err(error) => search.after_unreached(&[], error).await?,
                nodes => return nodes,
            }
        }
    }

    async fn nodes_once(&self) -> Result<Vec<ClusterNode>, ClientError> {
        let connection = self.any().await?;
        let newest = connection.version(ApiKey::DescribeCluster, i16::MAX)?;
        let request = DescribeClusterRequest {
            include_fenced_brokers: newest >= FENCED_BROKERS,
            endpoint_type: 1,
            ..Default::default()
        };
        let reply = connection.call(&request).await?;
        let (_, response) = decode_response::<DescribeClusterRequest>(&reply.frame, reply.version)?;
        check(response.error_code, response.error_message)?;
        let node = |broker: &sawlog_protocol::messages::describe_cluster::DescribeClusterBroker<
            '_,
        >| ClusterNode {
            broker: BrokerInfo {
                id: broker.broker_id,
                host: broker.host.to_owned(),
                port: broker.port,
                rack: broker.rack.map(str::to_owned),
            },
            is_running: !broker.is_fenced,
        };
        let mut nodes: Vec<ClusterNode> = response.brokers.iter().map(node).collect();
        nodes.sort_by_key(|node| node.broker.id);
        Ok(nodes)
    }

    /// Has leaders elected, of `partitions` or of all. Those where nothing is to be done are left
    /// out of the answer.
    ///
    /// # Errors
    /// The request as a whole is refused, or no controller answers.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// use sawlog_client::ElectionType;
    ///
    /// for one in client.elect_leaders(ElectionType::Preferred, None).await? {
    ///     println!("{:?}: {:?}", one.of, one.result);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn elect_leaders(
        &self,
        election: ElectionType,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<Vec<PartitionOutcome>, ClientError> {
        let by_topic = partitions.map(|all| group(all.iter().map(|it| (it, it.partition))));
        let request = ElectLeadersRequest {
            election_type: match election {
                ElectionType::Preferred => 0,
                ElectionType::Unclean => 1,
            },
            topic_partitions: by_topic.map(|topics| {
                let topics = topics.into_iter();
                topics.map(|(topic, partitions)| TopicPartitions { topic, partitions }).collect()
            }),
            timeout_ms: TIMEOUT_MS,
        };
        let connection = self.controller().await?;
        if election == ElectionType::Unclean
            && connection.version(ApiKey::ElectLeaders, i16::MAX)? == 0
        {
            let address = connection.address().to_owned();
            return Err(ClientError::Unsupported { address, api: "unclean elections" });
        }
        let reply = connection.call(&request).await?;
        let (_, response) =
            decode_response::<ElectLeadersRequest<'_>>(&reply.frame, reply.version)?;
        check(response.error_code, None)?;
        let mut outcomes = Vec::new();
        for topic in &response.replica_election_results {
            for result in &topic.partition_result {
                if result.error_code != ErrorCode::ELECTION_NOT_NEEDED {
                    outcomes.push(PartitionOutcome {
                        of: TopicPartition {
                            topic: topic.topic.to_owned(),
                            partition: result.partition_id,
                        },
                        result: check(result.error_code, result.error_message),
                    });
                }
            }
        }
        outcomes.sort_by(|a, b| a.of.cmp(&b.of));
        Ok(outcomes)
    }

    /// Begins to move replicas, or takes back what is under way.
    ///
    /// # Errors
    /// The request as a whole is refused, or no controller answers.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// use sawlog_client::{NewReplicas, TopicPartition};
    ///
    /// let of = TopicPartition { topic: "orders".to_owned(), partition: 0 };
    /// client.reassign(&[NewReplicas { of, replicas: Some(vec![2, 3, 4]) }]).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn reassign(
        &self,
        partitions: &[NewReplicas],
    ) -> Result<Vec<PartitionOutcome>, ClientError> {
        let by_topic = group(partitions.iter().map(|it| (&it.of, it)));
        let topic = |(name, partitions): (_, Vec<&NewReplicas>)| ReassignableTopic {
            name,
            partitions: partitions
                .into_iter()
                .map(|it| ReassignablePartition {
                    partition_index: it.of.partition,
                    replicas: it.replicas.clone(),
                })
                .collect(),
        };
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms: TIMEOUT_MS,
            topics: by_topic.into_iter().map(topic).collect(),
            ..Default::default()
        };
        let reply = self.ask_controller(&request).await?;
        let (_, response) =
            decode_response::<AlterPartitionReassignmentsRequest<'_>>(&reply.frame, reply.version)?;
        check(response.error_code, response.error_message)?;
        let mut outcomes = Vec::new();
        for topic in &response.responses {
            outcomes.extend(topic.partitions.iter().map(|result| PartitionOutcome {
                of: TopicPartition {
                    topic: topic.name.to_owned(),
                    partition: result.partition_index,
                },
                result: check(result.error_code, result.error_message),
            }));
        }
        outcomes.sort_by(|a, b| a.of.cmp(&b.of));
        Ok(outcomes)
    }

    /// The reassignments under way.
    ///
    /// # Errors
    /// The controller refuses or does not answer.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// for one in client.reassignments().await? {
    ///     println!("{:?} is copied to {:?}", one.of, one.adding);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn reassignments(&self) -> Result<Vec<Reassignment>, ClientError> {
        let request = ListPartitionReassignmentsRequest { timeout_ms: TIMEOUT_MS, topics: None };
        let reply = self.ask_controller(&request).await?;
        let (_, response) =
            decode_response::<ListPartitionReassignmentsRequest<'_>>(&reply.frame, reply.version)?;
        check(response.error_code, response.error_message)?;
        let mut all = Vec::new();
        for topic in &response.topics {
            all.extend(topic.partitions.iter().map(|partition| Reassignment {
                of: TopicPartition {
                    topic: topic.name.to_owned(),
                    partition: partition.partition_index,
                },
                replicas: partition.replicas.clone(),
                adding: partition.adding_replicas.clone(),
                removing: partition.removing_replicas.clone(),
            }));
        }
        all.sort_by(|a, b| a.of.cmp(&b.of));
        Ok(all)
    }

    /// Has a broker forgotten that is stopped and will not come back.
    ///
    /// # Errors
    /// It runs, or is not known, or no controller answers.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// client.unregister_broker(4).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn unregister_broker(&self, broker_id: i32) -> Result<(), ClientError> {
        let reply = self.ask_controller(&UnregisterBrokerRequest { broker_id }).await?;
        let (_, response) =
            decode_response::<UnregisterBrokerRequest>(&reply.frame, reply.version)?;
        check(response.error_code, response.error_message)
    }
}

/// By topic, as requests have it.
fn group<'a, T>(
    partitions: impl Iterator<Item = (&'a TopicPartition, T)>,
) -> BTreeMap<&'a str, Vec<T>> {
    let mut topics = BTreeMap::<&str, Vec<T>>::new();
    for (of, value) in partitions {
        topics.entry(&of.topic).or_default().push(value);
    }
    topics
}
