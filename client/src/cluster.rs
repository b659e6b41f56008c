//! A client of one cluster: connections to its brokers, and what is known of its topics.
//!
//! Connections are pooled by broker and channel: long polls and batches on their way each have
//! channels of their own, because a broker answers a connection in order. Whoever needs a
//! connection that another already opens waits for that one; so it is with metadata. A broker that
//! cannot be reached is left alone for a growing, jittered pause.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};

use sawlog_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use sawlog_protocol::{ApiKey, ErrorCode, Request, Uuid, decode_response};

use crate::backoff::{Backoff, Random};
use crate::breaker::Breaker;
use crate::connection::{Connection, ConnectionOptions, Reply};
use crate::coordinator::Coordinators;
use crate::error::{ClientError, check};
use crate::metadata::{BrokerInfo, Cache, ClusterInfo, TopicInfo};
use crate::search::Search;
use crate::transport::{Connector, TcpConnector};

/// First Metadata version that finds topics by id (KIP-516).
const TOPICS_BY_ID: i16 = 12;

/// Attempts at a question any broker can answer.
const ATTEMPTS_MAX: u32 = 3;

/// How a client finds its cluster and names itself.
///
/// ```
/// use std::time::Duration;
/// use sawlog_client::ClientOptions;
///
/// let mut options = ClientOptions::new("one:9092, two:9092");
/// options.client_id = "shop".to_owned();
/// options.timeout = Duration::from_secs(5);
/// options.rack = Some("north".to_owned());
/// assert_eq!(options.bootstrap, ["one:9092", "two:9092"]);
/// ```
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Brokers to ask first, as `host:port`. All others are learned from them.
    pub bootstrap: Vec<String>,
    /// What the client calls itself in logs of the broker. Default `sawlog`.
    pub client_id: String,
    /// Longest wait for a reply; the connection is given up then. Default 30 s.
    pub timeout: Duration,
    /// Longest wait for a connection to be open and negotiated. Default 10 s.
    pub connect_timeout: Duration,
    /// Age from which metadata of a topic is asked for again on use, to see partitions that were
    /// added. Default 5 min.
    pub metadata_max_age: Duration,
    /// Longest pause before a broker that failed is tried again; it begins at 50 ms and doubles with
    /// each failure in a row, each time drawn at random below that. Default 1 s.
    pub reconnect_backoff_max: Duration,
    /// Where the client stands, to read from a replica near it. Default: not told.
    pub rack: Option<String>,
    /// Opens the byte streams. Default [`TcpConnector`].
    pub connector: Arc<dyn Connector>,
}

impl ClientOptions {
    /// Options for the brokers in a comma-separated list of `host:port`.
    #[must_use]
    pub fn new(bootstrap: &str) -> Self {
        let brokers = bootstrap.split(',').map(str::trim).filter(|address| !address.is_empty());
        Self {
            bootstrap: brokers.map(str::to_owned).collect(),
            client_id: "sawlog".to_owned(),
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            metadata_max_age: Duration::from_mins(5),
            reconnect_backoff_max: Duration::from_secs(1),
            rack: None,
            connector: Arc::new(TcpConnector),
        }
    }
}

/// A client of one cluster. Cheap to clone; clones share connections, which close with the last.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

/// Which of several connections to one broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Channel(u32);

impl Channel {
    /// Short questions.
    pub(crate) const GENERAL: Self = Self(0);
}

#[derive(Debug)]
struct Shared {
    options: ClientOptions,
    cache: RwLock<Cache>,
    peers: Mutex<HashMap<(String, Channel), Arc<Peer>>>,
    /// Held while metadata is asked for.
    refreshing: tokio::sync::Mutex<()>,
    next_channel: AtomicU32,
    coordinators: Coordinators,
}

/// One connection of the pool, open or not.
#[derive(Debug)]
struct Peer {
    address: String,
    breaker: Mutex<Breaker>,
    /// Held while it is opened: others wait for the same attempt.
    connection: tokio::sync::Mutex<Option<Connection>>,
}

impl Client {
    /// Connects to the first bootstrap broker that answers.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`]: none does.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), sawlog_client::ClientError> {
    /// use sawlog_client::{Client, ClientOptions};
    ///
    /// let client = Client::connect(ClientOptions::new("127.0.0.1:9092")).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(options: ClientOptions) -> Result<Self, ClientError> {
        let client = Self::unopened(options);
        client.any().await?;
        Ok(client)
    }

    fn unopened(options: ClientOptions) -> Self {
        Self {
            shared: Arc::new(Shared {
                options,
                cache: RwLock::default(),
                peers: Mutex::default(),
                refreshing: tokio::sync::Mutex::default(),
                next_channel: AtomicU32::new(1),
                coordinators: Coordinators::default(),
            }),
        }
    }

    /// Of no cluster, for tests of what needs none.
    #[cfg(test)]
    pub(crate) fn unconnected() -> Self {
        Self::unopened(ClientOptions::new(""))
    }

    /// The options it was made with.
    #[must_use]
    pub fn options(&self) -> &ClientOptions {
        &self.shared.options
    }

    /// Brokers and the named topics; all topics for `None`. Always asks.
    ///
    /// # Errors
    /// No broker answers.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// let cluster = client.describe(Some(&["orders"])).await?;
    /// println!("{} brokers", cluster.brokers.len());
    /// for topic in &cluster.topics {
    ///     println!("{} has {} partitions", topic.name, topic.partitions.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn describe(&self, topics: Option<&[&str]>) -> Result<ClusterInfo, ClientError> {
        let topics = topics.map(|names| {
            names
                .iter()
                .map(|name| MetadataRequestTopic { name: Some(name), ..Default::default() })
                .collect()
        });
        self.describe_asked(topics, i16::MAX).await
    }

    /// Brokers and topics by id; all topics, where brokers do not find them by id.
    pub(crate) async fn describe_ids(
        &self,
        ids: &BTreeSet<Uuid>,
    ) -> Result<ClusterInfo, ClientError> {
        let version = self.any().await?.version(ApiKey::Metadata, i16::MAX)?;
        let by_id = ids.iter().map(|id| MetadataRequestTopic { topic_id: *id, name: None });
        let topics = (version >= TOPICS_BY_ID).then(|| by_id.collect());
        self.describe_asked(topics, version).await
    }

    async fn describe_asked(
        &self,
        topics: Option<Vec<MetadataRequestTopic<'_>>>,
        newest: i16,
    ) -> Result<ClusterInfo, ClientError> {
        let request =
            MetadataRequest { topics, allow_auto_topic_creation: true, ..Default::default() };
        let timeout = self.shared.options.timeout;
        let mut random = Random::new();
        let mut failures = 0;
        let reply = loop {
            let outcome = match self.any().await {
                Ok(connection) => connection.call_up_to(&request, newest, timeout).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(reply) => break reply,
                // The connection at hand may have been dead for long: another is worth trying.
                Err(ClientError::Disconnected { .. }) if failures + 1 < ATTEMPTS_MAX => {
                    failures += 1;
                    tokio::time::sleep(self.backoff().pause(failures, &mut random)).await;
                }
                Err(error) => return Err(error),
            }
        };
        self.remember(&reply)
    }

    /// Asks brokers other than `silent`, which may be hung, for topics; waits neither for it nor for
    /// whoever asks it.
    pub(crate) async fn refresh_from_others(
        &self,
        silent: i32,
        topics: &[&str],
    ) -> Result<ClusterInfo, ClientError> {
        let avoided = self.cache().brokers.get(&silent).map(BrokerInfo::address);
        let mut wanted = Vec::with_capacity(topics.len());
        for name in topics.iter().copied() {
            wanted.push(MetadataRequestTopic { name: Some(name), ..Default::default() });
        }
        let request = MetadataRequest { topics: Some(wanted), ..Default::default() };
        let connection = self.any_but(avoided.as_deref()).await?;
        let timeout = self.shared.options.timeout;
        self.remember(&connection.call_up_to(&request, i16::MAX, timeout).await?)
    }

    fn remember(&self, reply: &Reply) -> Result<ClusterInfo, ClientError> {
        let (_, response) = decode_response::<MetadataRequest<'_>>(&reply.frame, reply.version)?;
        check(response.error_code, None)?;
        let info = ClusterInfo::from_wire(&response);
        let mut cache =
            self.shared.cache.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        cache.remember(&info, Instant::now());
        Ok(info)
    }

    /// One topic, from what is known or freshly asked for.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`], or no broker answers.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// let topic = client.topic("orders").await?;
    /// println!("{} partitions", topic.partitions.len());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn topic(&self, name: &str) -> Result<TopicInfo, ClientError> {
        Ok(self.topic_shared(name).await?.as_ref().clone())
    }

    /// As [`Client::topic`], without a copy.
    pub(crate) async fn topic_shared(&self, name: &str) -> Result<Arc<TopicInfo>, ClientError> {
        let seen = match self.cached(name) {
            (Some(topic), true, _) => return Ok(topic),
            (_, _, generation) => generation,
        };
        match (self.refresh_since(name, seen).await, self.cached(name).0) {
            // Old news are better than none, while no broker answers.
            (Err(error), Some(topic)) if error.is_retriable() => Ok(topic),
            (outcome, _) => outcome,
        }
    }

    /// One topic, freshly asked for.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`], or no broker answers.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// client.create_partitions("orders", 12, false).await?;
    /// assert_eq!(client.refresh("orders").await?.partitions.len(), 12);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn refresh(&self, name: &str) -> Result<TopicInfo, ClientError> {
        let (_, _, seen) = self.cached(name);
        Ok(self.refresh_since(name, seen).await?.as_ref().clone())
    }

    /// A topic of the cache, whether it is still fresh, and how often the cache was refreshed.
    pub(crate) fn cached(&self, name: &str) -> (Option<Arc<TopicInfo>>, bool, u64) {
        let cache = self.cache();
        let topic = cache.topic(name);
        let max_age = self.shared.options.metadata_max_age;
        let is_fresh = topic.is_some_and(|topic| topic.fetched_at.elapsed() < max_age);
        (topic.map(|topic| topic.info.clone()), is_fresh, cache.generation())
    }

    /// A topic as of a refresh later than `seen`. However many ask, one request is made.
    pub(crate) async fn refresh_since(
        &self,
        name: &str,
        seen: u64,
    ) -> Result<Arc<TopicInfo>, ClientError> {
        let _one_at_a_time = self.shared.refreshing.lock().await;
        let newer = |cache: &Cache| {
            cache.topic(name).filter(|t| t.generation > seen).map(|t| t.info.clone())
        };
        if let Some(topic) = newer(&self.cache()) {
            return Ok(topic);
        }
        let info = self.describe(Some(&[name])).await?;
        if let Some(topic) = newer(&self.cache()) {
            return Ok(topic);
        }
        match info.missing.first() {
            Some((_, code)) if *code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
                Err(ClientError::broker(*code, None))
            }
            _ => Err(ClientError::UnknownTopic(name.to_owned())),
        }
    }

    /// Asks anew for many topics at once.
    pub(crate) async fn refresh_many(&self, names: &[&str]) -> Result<ClusterInfo, ClientError> {
        let _one_at_a_time = self.shared.refreshing.lock().await;
        self.describe(Some(names)).await
    }

    fn cache(&self) -> std::sync::RwLockReadGuard<'_, Cache> {
        self.shared.cache.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The broker that leads a partition.
    pub(crate) async fn leader_id(&self, topic: &str, index: i32) -> Result<i32, ClientError> {
        let info = self.topic_shared(topic).await?;
        let found = info.partition(index).ok_or_else(|| no_partition(&info, index))?;
        if found.leader < 0 {
            return Err(ClientError::broker(ErrorCode::LEADER_NOT_AVAILABLE, None));
        }
        Ok(found.leader)
    }

    /// A connection to the leader of a partition, with one attempt at finding and reaching it.
    pub(crate) async fn leader(&self, topic: &str, index: i32) -> Result<Connection, ClientError> {
        self.broker(self.leader_id(topic, index).await?, Channel::GENERAL).await
    }

    /// A connection to the broker administration goes to: to the next one, if this one is gone.
    pub(crate) async fn controller(&self) -> Result<Connection, ClientError> {
        let mut search = Search::new(self);
        let mut controller = self.describe(Some(&[])).await?.controller;
        loop {
            if controller < 0 {
                return self.any().await;
            }
            match self.broker(controller, Channel::GENERAL).await {
                Err(error) => search.after(&[], error).await?,
                connected => return connected,
            }
            controller = self.cache().controller;
        }
    }

    /// A connection to this broker and no other: tried again while the others take it for running.
    pub(crate) async fn this_broker(&self, id: i32) -> Result<Connection, ClientError> {
        let mut search = Search::new(self);
        loop {
            match self.broker(id, Channel::GENERAL).await {
                Err(error) => search.after_unreached(&[], error).await?,
                connected => return connected,
            }
        }
    }

    /// A channel nobody else has.
    pub(crate) fn new_channel(&self) -> Channel {
        Channel(self.shared.next_channel.fetch_add(1, Ordering::Relaxed))
    }

    /// Closes the connections of a channel.
    pub(crate) fn release(&self, channel: Channel) {
        self.peers().retain(|(_, of), _| *of != channel);
    }

    /// A connection to a broker.
    pub(crate) async fn broker(
        &self,
        id: i32,
        channel: Channel,
    ) -> Result<Connection, ClientError> {
        let address = self.cache().brokers.get(&id).map(BrokerInfo::address);
        let address =
            address.ok_or_else(|| ClientError::broker(ErrorCode::BROKER_NOT_AVAILABLE, None))?;
        self.connection_to(&address, channel).await
    }

    /// A connection to the broker at this `host:port`.
    pub(crate) async fn connection_to(
        &self,
        address: &str,
        channel: Channel,
    ) -> Result<Connection, ClientError> {
        self.peer(address, channel).connection(&self.shared.options).await
    }

    /// What is known of coordinators.
    pub(crate) fn coordinators(&self) -> &Coordinators {
        &self.shared.coordinators
    }

    /// A connection to any broker: an open one, else the first that can be reached.
    pub(crate) async fn any(&self) -> Result<Connection, ClientError> {
        self.any_but(None).await
    }

    /// As [`Self::any`], but not to the broker at this address.
    async fn any_but(&self, avoided: Option<&str>) -> Result<Connection, ClientError> {
        let options = &self.shared.options;
        let mut candidates: Vec<String> =
            self.cache().brokers.values().map(BrokerInfo::address).collect();
        candidates.extend(options.bootstrap.iter().cloned());
        candidates.retain(|address| Some(address.as_str()) != avoided);
        let peers: Vec<Arc<Peer>> =
            candidates.iter().map(|address| self.peer(address, Channel::GENERAL)).collect();
        if let Some(open) = peers.iter().find_map(|peer| peer.open()) {
            return Ok(open);
        }
        let mut failure = ClientError::Unreachable {
            address: options.bootstrap.join(","),
            reason: "no address given".to_owned(),
        };
        for peer in peers {
            match peer.connection(options).await {
                Ok(connection) => return Ok(connection),
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

    pub(crate) fn backoff(&self) -> Backoff {
        backoff(&self.shared.options)
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<(String, Channel), Arc<Peer>>> {
        // A map of shared values: whole after any panic.
        self.shared.peers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn peer(&self, address: &str, channel: Channel) -> Arc<Peer> {
        let new = || {
            Arc::new(Peer {
                address: address.to_owned(),
                breaker: Mutex::new(Breaker::new(self.backoff())),
                connection: tokio::sync::Mutex::default(),
            })
        };
        self.peers().entry((address.to_owned(), channel)).or_insert_with(new).clone()
    }
}

fn backoff(options: &ClientOptions) -> Backoff {
    Backoff { first: Duration::from_millis(50), longest: options.reconnect_backoff_max }
}

/// What a caller is told who names a partition that is not there.
pub(crate) fn no_partition(topic: &TopicInfo, index: i32) -> ClientError {
    let (name, count) = (&topic.name, topic.partitions.len());
    ClientError::InvalidRecord(format!("topic \"{name}\" has no partition {index}, it has {count}"))
}

impl Peer {
    /// The connection if it is open right now.
    fn open(&self) -> Option<Connection> {
        self.connection.try_lock().ok()?.clone().filter(Connection::is_open)
    }

    async fn connection(&self, options: &ClientOptions) -> Result<Connection, ClientError> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = connection.as_ref().filter(|one| one.is_open()) {
            return Ok(open.clone());
        }
        *connection = None;
        let refused = {
            let breaker = self.breaker();
            breaker.refuses_for(Instant::now()).map(|left| {
                let (failures, reason) = breaker.failures();
                let left = left.as_millis();
                format!("{reason} ({failures} times in a row, tried again in {left} ms)")
            })
        };
        if let Some(reason) = refused {
            return Err(ClientError::Unreachable { address: self.address.clone(), reason });
        }
        let how = ConnectionOptions {
            client_id: &options.client_id,
            connector: &*options.connector,
            connect_timeout: options.connect_timeout,
            request_timeout: options.timeout,
        };
        let outcome = Connection::open(&self.address, &how).await;
        match &outcome {
            Ok(opened) => {
                self.breaker().succeeded();
                *connection = Some(opened.clone());
            }
            Err(ClientError::Unreachable { reason, .. }) => {
                self.breaker().failed(Instant::now(), reason.clone());
            }
            Err(error) => self.breaker().failed(Instant::now(), error.to_string()),
        }
        outcome
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
