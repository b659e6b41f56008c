//! The way to the controller: ask, read the image, be told of new ones.
//!
//! Always: a request is answered only after its entry is committed, applied, and known to every
//! subscriber here. Callers wait without a thread; the one that decides is `super::worker`.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use sawlog_protocol::Uuid;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::base::watched::{Watched, watched};
use crate::base::{BrokerId, Clock, Threads, TopicId};
use crate::config::BrokerConfig;
use crate::metadata::{ApplyError, Image, ImageCell, Random};
use crate::quorum::{LogError, LogRole, MetadataLog, QuorumStatus, Recovered, VoterChange, Voters};

use super::inbox::Inbox;
use super::replicas::Election;
use super::request::{
    AlterConfigs, CreatePartitions, CreateTopic, CreatedTopic, DeleteTopic, ElectedLeader,
    FeatureUpdate, Reassignment, Request, Response,
};
use super::sessions::Sessions;
use super::worker::{ElectionCounters, Waiting, Worker, replay};
use super::{AdminError, ControllerLink, ImageSubscriber};

/// Brokers that wait to be asked after.
const SUSPECTS_MAX: usize = 64;

/// Why the controller cannot change anything.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ControllerError {
    /// It was stopped, or its thread died.
    #[error("the controller has stopped")]
    Stopped,
    /// The metadata log refused.
    #[error("{0}")]
    Log(#[from] LogError),
    /// An entry of the log does not fit the ones before it.
    #[error("{0}")]
    Apply(#[from] ApplyError),
    /// A part of the request was refused.
    #[error("{0}")]
    Refused(#[from] AdminError),
    /// This node is not the controller; nothing was decided.
    #[error("this node is not the controller")]
    NotController {
        /// Who is, as far as is known.
        leader: Option<BrokerId>,
    },
    /// The leadership was lost while it was decided: what became of it is not known.
    #[error("the controller was lost while it was at it: what became of the change is not known")]
    Uncertain,
    /// No controller could be reached in time.
    #[error("{0}")]
    Unavailable(String),
    /// No thread could be started.
    #[error("cannot start the controller's thread: {0}")]
    Thread(String),
}

/// What a controller is made of.
pub struct ControllerOptions {
    /// The cluster.
    pub cluster_id: Uuid,
    /// This node's configuration, with its node id.
    pub config: Arc<BrokerConfig>,
    /// The log.
    pub log: Box<dyn MetadataLog>,
    /// What the log held when it was opened.
    pub recovered: Recovered,
    /// Where ids come from.
    pub random: Box<dyn Random>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// The way to the controllers of other brokers.
    pub link: Arc<dyn ControllerLink>,
    /// Where it decides.
    pub threads: Threads,
}

/// Leaders elected by one node as the controller, since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Elections {
    /// All of them.
    pub leaders: u64,
    /// Those that may lack what was acknowledged.
    pub unclean: u64,
}

/// The way to change the cluster's metadata. Dropping it stops the thread.
pub struct Controller {
    pub(super) broker: BrokerId,
    images: Arc<ImageCell>,
    pub(super) changes: Watched<Arc<Image>>,
    subscribers: Arc<Mutex<Vec<Arc<dyn ImageSubscriber>>>>,
    pub(super) role: Watched<LogRole>,
    pub(super) inbox: Arc<Inbox<Waiting>>,
    pub(super) link: Arc<dyn ControllerLink>,
    /// The way to change who votes, where others can.
    pub(super) voters: Option<Arc<dyn Voters>>,
    elections: Arc<ElectionCounters>,
    /// Brokers to be asked after, until somebody does.
    pub(super) suspects: Mutex<Option<mpsc::Receiver<(BrokerId, i64)>>>,
    thread: Option<JoinHandle<()>>,
}

impl Controller {
    /// Replays what the log held and starts serving.
    ///
    /// # Errors
    /// The log does not make sense, or no thread can be started.
    pub fn start(options: ControllerOptions) -> Result<Self, ControllerError> {
        let ControllerOptions { cluster_id, config, log, recovered, random, clock, link, threads } =
            options;
        let broker = BrokerId(config.node_id);
        let image = Arc::new(replay(cluster_id, &config, &recovered)?);
        let images = Arc::new(ImageCell::new(Arc::clone(&image)));
        let (change, changes) = watched(Arc::clone(&image));
        let subscribers = Arc::new(Mutex::new(Vec::new()));
        let (role, roles) = watched(LogRole::Follower { leader: None });
        let inbox = Arc::new(Inbox::new());
        let (suspect, suspects) = mpsc::channel(SUSPECTS_MAX);
        let voters = log.voters();
        let elections = Arc::<ElectionCounters>::default();
        let worker = Worker {
            cluster_id,
            config,
            image,
            log,
            random,
            inbox: Arc::clone(&inbox),
            images: Arc::clone(&images),
            change,
            role,
            sessions: Sessions::new(broker),
            balanced_at: clock.monotonic(),
            clock,
            suspects: suspect,
            elections: Arc::clone(&elections),
            subscribers: Arc::clone(&subscribers),
            failed: None,
        };
        let thread = match threads {
            Threads::Real => {
                let thread = std::thread::Builder::new().name("controller".to_owned());
                let thread = thread.spawn(move || worker.run());
                Some(thread.map_err(|error| ControllerError::Thread(error.to_string()))?)
            }
            #[cfg(any(test, feature = "sim"))]
            Threads::Simulated(process) => {
                process.spawn(Box::pin(worker.run_simulated(Arc::clone(&process))));
                None
            }
        };
        Ok(Self {
            broker,
            images,
            changes,
            subscribers,
            role: roles,
            inbox,
            link,
            voters,
            elections,
            suspects: Mutex::new(Some(suspects)),
            thread,
        })
    }

    /// The current image, for any number of readers.
    #[must_use]
    pub fn images(&self) -> Arc<ImageCell> {
        Arc::clone(&self.images)
    }

    /// Wakes at every new image.
    #[must_use]
    pub fn watch(&self) -> Watched<Arc<Image>> {
        self.changes.clone()
    }

    /// What this node is to the metadata log; wakes at every change.
    #[must_use]
    pub fn role(&self) -> Watched<LogRole> {
        self.role.clone()
    }

    /// Leaders elected by this node so far.
    #[must_use]
    pub fn elections(&self) -> Elections {
        self.elections.totals()
    }

    /// Has `subscriber`, which knows the image `seen`, told of what came after it, and of every image
    /// from now on. Returns the image it has been told of last.
    pub fn subscribe(&self, subscriber: Arc<dyn ImageSubscriber>, seen: &Arc<Image>) -> Arc<Image> {
        // Images change under this lock only: none is missed, none is told twice, or too late.
        let mut subscribers = self.subscribers.lock();
        let image = self.images.load();
        if image.offset() != seen.offset() {
            subscriber.image_changed(seen, &image);
        }
        subscribers.push(subscriber);
        image
    }

    /// Creates topics, each on its own. Answers are in the order of `topics`.
    pub async fn create_topics(
        &self,
        topics: Vec<CreateTopic>,
        validate_only: bool,
    ) -> Vec<Result<CreatedTopic, AdminError>> {
        let count = topics.len();
        match self.ask(Request::CreateTopics { topics, validate_only }).await {
            Ok(Response::CreateTopics(results)) => results,
            other => refuse_all(count, other),
        }
    }

    /// Deletes topics, each on its own. Answers are in the order of `topics`.
    pub async fn delete_topics(
        &self,
        topics: Vec<DeleteTopic>,
    ) -> Vec<Result<(String, TopicId), AdminError>> {
        let count = topics.len();
        match self.ask(Request::DeleteTopics(topics)).await {
            Ok(Response::DeleteTopics(results)) => results,
            other => refuse_all(count, other),
        }
    }

    /// Adds partitions to topics, each on its own. Answers are in the order of `topics`.
    pub async fn create_partitions(
        &self,
        topics: Vec<CreatePartitions>,
        validate_only: bool,
    ) -> Vec<Result<(), AdminError>> {
        let count = topics.len();
        match self.ask(Request::CreatePartitions { topics, validate_only }).await {
            Ok(Response::CreatePartitions(results)) => results,
            other => refuse_all(count, other),
        }
    }

    /// Changes settings, each resource on its own. Answers are in the order of `resources`.
    pub async fn alter_configs(
        &self,
        resources: Vec<AlterConfigs>,
        validate_only: bool,
    ) -> Vec<Result<(), AdminError>> {
        let count = resources.len();
        match self.ask(Request::AlterConfigs { resources, validate_only }).await {
            Ok(Response::AlterConfigs(results)) => results,
            other => refuse_all(count, other),
        }
    }

    /// Elects leaders, of `partitions` or where it is needed.
    ///
    /// # Errors
    /// Nothing is known to have changed.
    pub async fn elect_leaders(
        &self,
        election: Election,
        partitions: Option<Vec<(String, i32)>>,
    ) -> Result<Vec<ElectedLeader>, AdminError> {
        match self.ask(Request::ElectLeaders { election, partitions }).await {
            Ok(Response::ElectLeaders(results)) => Ok(results),
            other => Err(refusal(other)),
        }
    }

    /// Moves replicas, each partition on its own. Answers are in the order of `partitions`.
    pub async fn alter_reassignments(
        &self,
        partitions: Vec<Reassignment>,
        may_change_factor: bool,
    ) -> Vec<Result<(), AdminError>> {
        let count = partitions.len();
        match self.ask(Request::AlterReassignments { partitions, may_change_factor }).await {
            Ok(Response::AlterReassignments(results)) => results,
            other => refuse_all(count, other),
        }
    }

    /// Forgets a broker that will not come back.
    ///
    /// # Errors
    /// It is not forgotten.
    pub async fn unregister_broker(&self, broker: BrokerId) -> Result<(), AdminError> {
        match self.ask(Request::UnregisterBroker(broker)).await {
            Ok(Response::UnregisterBroker(result)) => result,
            other => Err(refusal(other)),
        }
    }

    /// Who agrees on the metadata, as its leader knows it.
    ///
    /// # Errors
    /// Nobody leads now, or cannot be reached.
    pub async fn describe_quorum(&self) -> Result<QuorumStatus, AdminError> {
        match self.ask(Request::DescribeQuorum).await {
            Ok(Response::DescribeQuorum(status)) => Ok(status),
            other => Err(refusal(other)),
        }
    }

    /// Changes who agrees on the metadata.
    ///
    /// # Errors
    /// It is not changed, or not yet.
    pub async fn change_voters(&self, change: VoterChange) -> Result<(), AdminError> {
        match self.ask(Request::ChangeVoters(change)).await {
            Ok(Response::ChangeVoters(result)) => result,
            other => Err(refusal(other)),
        }
    }

    /// Changes levels of features, all or none. Answers are in the order of `updates`.
    pub async fn update_features(
        &self,
        updates: Vec<FeatureUpdate>,
        validate_only: bool,
    ) -> Vec<Result<(), AdminError>> {
        let count = updates.len();
        match self.ask(Request::UpdateFeatures { updates, validate_only }).await {
            Ok(Response::UpdateFeatures(results)) => results,
            other => refuse_all(count, other),
        }
    }

    /// Sets producer ids aside that nobody else gets.
    ///
    /// # Errors
    /// The metadata log does not take the change.
    pub async fn allocate_producer_ids(&self) -> Result<Range<i64>, ControllerError> {
        match self.ask(Request::AllocateProducerIds { broker: self.broker }).await? {
            Response::AllocateProducerIds(block) => {
                let (first, count) = block?;
                Ok(first..first.saturating_add(count))
            }
            _ => Err(ControllerError::Stopped),
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.inbox.close();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by its hook.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller")
            .field("broker", &self.broker)
            .field("images", &self.images)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ControllerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControllerOptions")
            .field("cluster_id", &self.cluster_id)
            .finish_non_exhaustive()
    }
}

/// A request that failed as a whole failed in each of its parts.
fn refuse_all<T: Clone>(
    count: usize,
    outcome: Result<Response, ControllerError>,
) -> Vec<Result<T, AdminError>> {
    vec![Err(refusal(outcome)); count]
}

/// Why a request failed as a whole.
fn refusal(outcome: Result<Response, ControllerError>) -> AdminError {
    match outcome {
        Err(error @ (ControllerError::Unavailable(_) | ControllerError::Uncertain)) => {
            AdminError::Unavailable(error.to_string())
        }
        Err(error) => AdminError::Storage(error.to_string()),
        Ok(_) => AdminError::Storage(ControllerError::Stopped.to_string()),
    }
}
