//! The controller's thread: queue, decide, propose, apply, tell, answer.
//!
//! Always: a request is answered only after its entry is committed, applied, and known to every
//! subscriber. The thread is the only one that writes the metadata log, and may block on the disk;
//! callers wait without a thread.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use sawlog_protocol::Uuid;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::base::{BrokerId, TopicId};
use crate::config::BrokerConfig;
use crate::metadata::{ApplyError, Image, ImageCell, MetadataOffset, Random};
use crate::quorum::{LogError, MetadataLog, Recovered, Snapshot};

use super::decide::decide;
use super::request::{
    AlterConfigs, CreatePartitions, CreateTopic, CreatedTopic, DeleteTopic, Registration, Request,
    Response,
};
use super::{AdminError, ImageSubscriber};

/// Requests that may wait; more callers wait for room.
const QUEUE_MAX: usize = 1024;

/// Requests decided together: with the bounds on one request, one entry stays small.
const BATCH_MAX: usize = 64;

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
}

/// The way to change the cluster's metadata. Dropping it stops the thread.
pub struct Controller {
    broker: BrokerId,
    images: Arc<ImageCell>,
    changes: watch::Receiver<Arc<Image>>,
    subscribers: Arc<Mutex<Vec<Arc<dyn ImageSubscriber>>>>,
    queue: Option<mpsc::Sender<Waiting>>,
    thread: Option<JoinHandle<()>>,
}

/// A request and who waits for its answer.
struct Waiting {
    request: Request,
    answer: oneshot::Sender<Result<Response, ControllerError>>,
}

impl Controller {
    /// Replays what the log held and starts serving.
    ///
    /// # Errors
    /// The log does not make sense, or no thread can be started.
    pub fn start(options: ControllerOptions) -> Result<Self, ControllerError> {
        let ControllerOptions { cluster_id, config, log, recovered, random } = options;
        let broker = BrokerId(config.node_id);
        let image = Arc::new(replay(cluster_id, config, &recovered)?);
        let images = Arc::new(ImageCell::new(Arc::clone(&image)));
        let (change, changes) = watch::channel(Arc::clone(&image));
        let subscribers = Arc::new(Mutex::new(Vec::new()));
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let worker = Worker {
            image,
            log,
            random,
            images: Arc::clone(&images),
            change,
            subscribers: Arc::clone(&subscribers),
            failed: None,
        };
        let thread = std::thread::Builder::new()
            .name("controller".to_owned())
            .spawn(move || worker.run(waiting))
            .map_err(|error| ControllerError::Thread(error.to_string()))?;
        Ok(Self { broker, images, changes, subscribers, queue: Some(queue), thread: Some(thread) })
    }

    /// The current image, for any number of readers.
    #[must_use]
    pub fn images(&self) -> Arc<ImageCell> {
        Arc::clone(&self.images)
    }

    /// Wakes at every new image.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Image>> {
        self.changes.clone()
    }

    /// Has `subscriber` told of every image after the one returned.
    pub fn subscribe(&self, subscriber: Arc<dyn ImageSubscriber>) -> Arc<Image> {
        let mut subscribers = self.subscribers.lock();
        subscribers.push(subscriber);
        // Images change under this lock only: none is missed, none is told twice.
        self.images.load()
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

    /// Registers this broker's process; returns its epoch.
    ///
    /// # Errors
    /// The metadata log does not take the change.
    pub async fn register_broker(
        &self,
        registration: Registration,
    ) -> Result<i64, ControllerError> {
        match self.ask(Request::RegisterBroker(registration)).await? {
            Response::RegisterBroker(epoch) => Ok(epoch?),
            _ => Err(ControllerError::Stopped),
        }
    }

    async fn ask(&self, request: Request) -> Result<Response, ControllerError> {
        let queue = self.queue.as_ref().ok_or(ControllerError::Stopped)?;
        let (answer, answered) = oneshot::channel();
        queue.send(Waiting { request, answer }).await.map_err(|_| ControllerError::Stopped)?;
        answered.await.map_err(|_| ControllerError::Stopped)?
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.queue = None;
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
fn refuse_all<T>(
    count: usize,
    outcome: Result<Response, ControllerError>,
) -> Vec<Result<T, AdminError>> {
    let error = match outcome {
        Err(error) => error,
        Ok(_) => ControllerError::Stopped,
    };
    (0..count).map(|_| Err(AdminError::Storage(error.to_string()))).collect()
}

fn replay(
    cluster_id: Uuid,
    config: Arc<BrokerConfig>,
    recovered: &Recovered,
) -> Result<Image, ControllerError> {
    let Snapshot { offset, records } = &recovered.snapshot;
    let mut image = Image::from_snapshot(cluster_id, config, *offset, records)?;
    for entry in &recovered.entries {
        image = image.applied(entry.offset, &entry.records)?;
    }
    Ok(image)
}

/// What the thread owns.
struct Worker {
    image: Arc<Image>,
    log: Box<dyn MetadataLog>,
    random: Box<dyn Random>,
    images: Arc<ImageCell>,
    change: watch::Sender<Arc<Image>>,
    subscribers: Arc<Mutex<Vec<Arc<dyn ImageSubscriber>>>>,
    /// Set once the image can no longer follow the log; nothing is accepted after that.
    failed: Option<ControllerError>,
}

impl Worker {
    fn run(mut self, mut waiting: mpsc::Receiver<Waiting>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX {
                match waiting.try_recv() {
                    Ok(next) => batch.push(next),
                    Err(_) => break,
                }
            }
            self.serve(batch);
            self.snapshot_if_due();
        }
    }

    fn serve(&mut self, batch: Vec<Waiting>) {
        let (requests, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.request, waiting.answer)).unzip();
        let outcome = match self.decide_and_commit(&requests) {
            // Together they were too much: each for itself.
            Err(ControllerError::Log(LogError::TooLarge { .. })) if requests.len() > 1 => {
                requests.iter().map(|one| self.serve_one(one)).collect()
            }
            Ok(responses) => responses.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); answers.len()],
        };
        for (answer, response) in answers.into_iter().zip(outcome) {
            // Who asked may have gone away; what was decided stands.
            let _ = answer.send(response);
        }
    }

    fn serve_one(&mut self, request: &Request) -> Result<Response, ControllerError> {
        let responses = self.decide_and_commit(std::slice::from_ref(request))?;
        responses.into_iter().next().ok_or(ControllerError::Stopped)
    }

    fn decide_and_commit(
        &mut self,
        requests: &[Request],
    ) -> Result<Vec<Response>, ControllerError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let decision = decide(&self.image, requests, &mut *self.random);
        if !decision.records.is_empty() {
            let offset = self.log.propose(decision.records)?;
            self.follow()?;
            self.assert_applied(offset);
        }
        Ok(decision.responses)
    }

    /// Applies what was committed and tells everyone.
    fn follow(&mut self) -> Result<(), ControllerError> {
        for entry in self.log.committed() {
            match self.image.applied(entry.offset, &entry.records) {
                Ok(image) => self.publish(Arc::new(image)),
                Err(error) => {
                    tracing::error!(%error, "committed metadata cannot be applied, the controller stops");
                    self.failed = Some(error.clone().into());
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    fn assert_applied(&self, offset: MetadataOffset) {
        assert!(
            self.image.offset() >= offset,
            "entry {offset} is committed but the image is at {}",
            self.image.offset()
        );
    }

    /// Subscribers first: who sees a topic in the image finds its partitions.
    fn publish(&mut self, image: Arc<Image>) {
        let subscribers = self.subscribers.lock();
        for subscriber in subscribers.iter() {
            subscriber.image_changed(&self.image, &image);
        }
        self.images.store(Arc::clone(&image));
        self.change.send_replace(Arc::clone(&image));
        self.image = image;
    }

    fn snapshot_if_due(&mut self) {
        if self.failed.is_some() || !self.log.wants_snapshot() {
            return;
        }
        let snapshot = Snapshot { offset: self.image.offset(), records: self.image.snapshot() };
        match self.log.store_snapshot(&snapshot) {
            Ok(()) => tracing::info!(offset = snapshot.offset.0, "metadata snapshot stored"),
            Err(error) => tracing::error!(%error, "metadata snapshot cannot be stored"),
        }
    }
}
