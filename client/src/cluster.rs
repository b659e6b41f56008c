//! The cluster as this client knows it: brokers, connections to them, topics and their leaders.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sawlog_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use sawlog_protocol::{ErrorCode, Request, Uuid, decode_response};
use tokio::sync::Mutex;

use crate::connection::{Connection, Reply};
use crate::error::{ClientError, check};

/// How a client finds and names itself.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Brokers to ask first, as `host:port`.
    pub bootstrap: Vec<String>,
    /// What the client calls itself in logs of the broker.
    pub client_id: String,
    /// Longest wait for a connection or a reply.
    pub timeout: Duration,
}

impl ClientOptions {
    /// Options for the brokers in a comma-separated list.
    #[must_use]
    pub fn new(bootstrap: &str) -> Self {
        let brokers = bootstrap.split(',').map(str::trim).filter(|address| !address.is_empty());
        Self {
            bootstrap: brokers.map(str::to_owned).collect(),
            client_id: "sawlog".to_owned(),
            timeout: Duration::from_secs(30),
        }
    }
}

/// A broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerInfo {
    /// Its id.
    pub id: i32,
    /// Host it is reached at.
    pub host: String,
    /// Port it is reached at.
    pub port: i32,
    /// Where it stands, if it says so.
    pub rack: Option<String>,
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Index within the topic, from 0.
    pub index: i32,
    /// Broker that leads it, -1 for none.
    pub leader: i32,
    /// Counts its leaders, -1 where not told.
    pub leader_epoch: i32,
    /// Brokers that hold a copy.
    pub replicas: Vec<i32>,
    /// Those that hold everything acknowledged.
    pub isr: Vec<i32>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its id, zero where not told.
    pub id: Uuid,
    /// Whether the cluster keeps it for itself.
    pub internal: bool,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionInfo>,
}

/// Brokers and topics at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterInfo {
    /// The cluster's id, where told.
    pub cluster_id: Option<String>,
    /// The broker to send administration to.
    pub controller: i32,
    /// All brokers, by id.
    pub brokers: Vec<BrokerInfo>,
    /// The topics asked for that exist, by name.
    pub topics: Vec<TopicInfo>,
    /// Topics asked for that cannot be told of, and why.
    pub missing: Vec<(String, ErrorCode)>,
}

/// A client of one cluster. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: ClientOptions,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// A connection to whichever bootstrap broker answered.
    seed: Option<Connection>,
    brokers: HashMap<i32, BrokerInfo>,
    connections: HashMap<i32, Connection>,
    topics: HashMap<String, TopicInfo>,
}

impl Client {
    /// Connects to the first bootstrap broker that answers.
    ///
    /// # Errors
    /// None does.
    pub async fn connect(options: ClientOptions) -> Result<Self, ClientError> {
        let client =
            Self { shared: Arc::new(Shared { options, state: Mutex::new(State::default()) }) };
        client.any().await?;
        Ok(client)
    }

    /// Brokers and the named topics; all topics for `None`.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn describe(&self, topics: Option<&[&str]>) -> Result<ClusterInfo, ClientError> {
        let request = MetadataRequest {
            topics: topics.map(|names| {
                names
                    .iter()
                    .map(|name| MetadataRequestTopic { name: Some(name), ..Default::default() })
                    .collect()
            }),
            allow_auto_topic_creation: true,
            ..Default::default()
        };
        let reply = self.any().await?.call(&request).await?;
        let (_, response) = decode_response::<MetadataRequest<'_>>(&reply.frame, reply.version)?;
        check(response.error_code, None)?;
        let mut info = ClusterInfo {
            cluster_id: response.cluster_id.map(str::to_owned),
            controller: response.controller_id,
            ..ClusterInfo::default()
        };
        info.brokers = response
            .brokers
            .iter()
            .map(|broker| BrokerInfo {
                id: broker.node_id,
                host: broker.host.to_owned(),
                port: broker.port,
                rack: broker.rack.map(str::to_owned),
            })
            .collect();
        for topic in &response.topics {
            let name = topic.name.unwrap_or_default().to_owned();
            if topic.error_code.is_error() && topic.partitions.is_empty() {
                info.missing.push((name, topic.error_code));
                continue;
            }
            let mut partitions: Vec<PartitionInfo> = topic
                .partitions
                .iter()
                .map(|partition| PartitionInfo {
                    index: partition.partition_index,
                    leader: partition.leader_id,
                    leader_epoch: partition.leader_epoch,
                    replicas: partition.replica_nodes.clone(),
                    isr: partition.isr_nodes.clone(),
                })
                .collect();
            partitions.sort_by_key(|partition| partition.index);
            info.topics.push(TopicInfo {
                name,
                id: topic.topic_id,
                internal: topic.is_internal,
                partitions,
            });
        }
        info.brokers.sort_by_key(|broker| broker.id);
        info.topics.sort_by(|a, b| a.name.cmp(&b.name));
        self.remember(&info).await;
        Ok(info)
    }

    /// One topic, from what is known or freshly asked for.
    ///
    /// # Errors
    /// It does not exist, or no broker answers.
    pub async fn topic(&self, name: &str) -> Result<TopicInfo, ClientError> {
        if let Some(topic) = self.shared.state.lock().await.topics.get(name) {
            return Ok(topic.clone());
        }
        self.refresh(name).await
    }

    /// One topic, freshly asked for.
    ///
    /// # Errors
    /// It does not exist, or no broker answers.
    pub async fn refresh(&self, name: &str) -> Result<TopicInfo, ClientError> {
        let info = self.describe(Some(&[name])).await?;
        match (info.topics.into_iter().next(), info.missing.first()) {
            (Some(topic), _) => Ok(topic),
            (None, Some((_, code))) if *code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
                Err(ClientError::broker(*code, None))
            }
            (None, _) => Err(ClientError::UnknownTopic(name.to_owned())),
        }
    }

    async fn remember(&self, info: &ClusterInfo) {
        let mut state = self.shared.state.lock().await;
        state.brokers = info.brokers.iter().map(|broker| (broker.id, broker.clone())).collect();
        for topic in &info.topics {
            state.topics.insert(topic.name.clone(), topic.clone());
        }
        for (name, _) in &info.missing {
            state.topics.remove(name);
        }
    }

    /// A connection to the leader of a partition.
    pub(crate) async fn leader(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Connection, ClientError> {
        let info = self.topic(topic).await?;
        let found = info.partitions.iter().find(|known| known.index == partition);
        let leader = found
            .ok_or_else(|| {
                let count = info.partitions.len();
                ClientError::InvalidRecord(format!(
                    "topic \"{topic}\" has no partition {partition}, it has {count}"
                ))
            })?
            .leader;
        if leader < 0 {
            return Err(ClientError::broker(ErrorCode::LEADER_NOT_AVAILABLE, None));
        }
        self.broker(leader).await
    }

    /// A connection to the broker administration goes to.
    pub(crate) async fn controller(&self) -> Result<Connection, ClientError> {
        let info = self.describe(Some(&[])).await?;
        if info.controller < 0 { self.any().await } else { self.broker(info.controller).await }
    }

    async fn broker(&self, id: i32) -> Result<Connection, ClientError> {
        let mut state = self.shared.state.lock().await;
        if let Some(connection) = state.connections.get(&id).filter(|open| open.is_open()) {
            return Ok(connection.clone());
        }
        let address = match state.brokers.get(&id) {
            Some(broker) if broker.host.contains(':') => {
                format!("[{}]:{}", broker.host, broker.port)
            }
            Some(broker) => format!("{}:{}", broker.host, broker.port),
            None => return Err(ClientError::broker(ErrorCode::BROKER_NOT_AVAILABLE, None)),
        };
        let options = &self.shared.options;
        let connection = Connection::open(&address, &options.client_id, options.timeout).await?;
        state.connections.insert(id, connection.clone());
        Ok(connection)
    }

    /// A connection to any broker.
    pub(crate) async fn any(&self) -> Result<Connection, ClientError> {
        let mut state = self.shared.state.lock().await;
        if let Some(open) = state.seed.as_ref().filter(|seed| seed.is_open()) {
            return Ok(open.clone());
        }
        if let Some(open) = state.connections.values().find(|connection| connection.is_open()) {
            return Ok(open.clone());
        }
        let options = &self.shared.options;
        let mut failure = ClientError::Unreachable {
            address: options.bootstrap.join(","),
            reason: "no address given".to_owned(),
        };
        for address in &options.bootstrap {
            match Connection::open(address, &options.client_id, options.timeout).await {
                Ok(connection) => {
                    state.seed = Some(connection.clone());
                    return Ok(connection);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Sends a request to the controller.
    pub(crate) async fn ask_controller<'a, R: Request<'a>>(
        &self,
        request: &R,
    ) -> Result<Reply, ClientError> {
        self.controller().await?.call(request).await
    }
}
