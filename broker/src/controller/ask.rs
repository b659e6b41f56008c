//! Asking the controller, wherever it is.
//!
//! A request goes to the thread of this node if it leads the metadata log, else to the broker that
//! does; while nobody does, or nobody can be reached, it is tried again until a deadline. What may
//! have been decided already is tried again only where deciding it twice changes nothing.
//!
//! Always: who asked for a change of what this node serves is answered only once this node has
//! applied it.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use crate::base::BrokerId;
use crate::base::watched::Closed;
use crate::metadata::MetadataOffset;
use crate::quorum::{LogRole, VoterChange, VoterError};

use super::AdminError;
use super::codec::{Reply, decode_reply, decode_request, encode_reply, encode_request};
use super::link::LinkError;
use super::replicas::BrokerStart;
use super::request::{Request, Response};
use super::shell::{Controller, ControllerError};
use super::worker::{Answer, Waiting};

/// How long a request is tried, unless told otherwise: longer than an election takes, shorter than
/// clients wait for an answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// The first wait before a request is tried again; it doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(250);

/// How long one broker may think about a request that can as well be given to another.
const ATTEMPT: Duration = Duration::from_secs(5);

/// What came of one attempt.
enum Attempt {
    Answered(Answer),
    /// Nothing was decided. Who may know better.
    NotTaken(Option<BrokerId>, String),
    /// It may have been decided.
    Uncertain(String),
}

impl Controller {
    /// Asks the controller.
    ///
    /// # Errors
    /// It cannot be reached, or cannot change anything now.
    pub async fn ask(&self, request: Request) -> Result<Response, ControllerError> {
        self.ask_within(request, PATIENCE).await
    }

    /// Registers a process of this broker; returns its epoch. Keeps trying for as long as it is
    /// polled where no controller can be reached.
    ///
    /// # Errors
    /// It is refused.
    pub async fn register_broker(&self, start: BrokerStart) -> Result<i64, ControllerError> {
        loop {
            match self.ask(Request::RegisterBroker(start.clone())).await {
                Ok(Response::RegisterBroker(epoch)) => return Ok(epoch?),
                Ok(_) => return Err(ControllerError::Stopped),
                Err(ControllerError::Unavailable(why)) => {
                    tracing::warn!(why, "waiting for a controller to register with");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// As [`Controller::ask`], with other patience.
    ///
    /// # Errors
    /// It cannot be reached, or cannot change anything now.
    pub async fn ask_within(
        &self,
        request: Request,
        patience: Duration,
    ) -> Result<Response, ControllerError> {
        let deadline = Instant::now() + patience;
        let mut roles = self.role.clone();
        let mut backoff = BACKOFF_MIN;
        let mut hint = None;
        loop {
            let role = roles.get();
            let why = match self.attempt(&request, role, hint.take(), deadline).await? {
                Attempt::Answered(answer) => {
                    let is_here = !request.changes_what_is_served()
                        || self.await_offset(answer.offset, deadline).await;
                    // An in-sync set goes with the settings it was decided under: a leader that took a
                    // smaller one and did not know of a higher minimum would commit on too few.
                    if !is_here && matches!(request, Request::AlterPartitions(_)) {
                        return Err(ControllerError::Uncertain);
                    }
                    return Ok(answer.response);
                }
                Attempt::NotTaken(leader, why) => {
                    hint = leader.filter(|leader| *leader != self.broker);
                    why
                }
                Attempt::Uncertain(why) if request.is_repeatable() => why,
                Attempt::Uncertain(why) => return Err(ControllerError::Unavailable(why)),
            };
            let now = Instant::now();
            if now + backoff >= deadline {
                let why = format!("the controller cannot be reached: {why}");
                return Err(ControllerError::Unavailable(why));
            }
            // Dropping the wait loses nothing: the role is looked at again.
            if let Ok(Err(Closed)) = timeout(backoff, roles.changed()).await {
                return Err(ControllerError::Stopped);
            }
            backoff = (2 * backoff).min(BACKOFF_MAX);
        }
    }

    async fn attempt(
        &self,
        request: &Request,
        role: LogRole,
        hint: Option<BrokerId>,
        deadline: Instant,
    ) -> Result<Attempt, ControllerError> {
        match role {
            LogRole::Leader { .. } => match self.ask_here(request.clone()).await {
                Ok(answer) => Ok(Attempt::Answered(answer)),
                Err(ControllerError::NotController { leader }) => {
                    Ok(Attempt::NotTaken(leader, "nobody is the controller just now".to_owned()))
                }
                Err(error @ ControllerError::Uncertain) => {
                    Ok(Attempt::Uncertain(error.to_string()))
                }
                Err(error) => Err(error),
            },
            LogRole::Follower { leader } => match hint.or(leader) {
                Some(leader) if leader != self.broker => {
                    self.ask_there(request, leader, deadline).await
                }
                _ => Ok(Attempt::NotTaken(None, "nobody is the controller just now".to_owned())),
            },
        }
    }

    /// Asks this node: the thread, but for who votes, which only the log knows.
    pub(super) async fn ask_here(&self, request: Request) -> Result<Answer, ControllerError> {
        let Some(voters) = &self.voters else { return self.ask_thread(request).await };
        match request {
            Request::ChangeVoters(change) => {
                let changed = voters.change(change).await;
                self.voters_changed(changed, Response::ChangeVoters)
            }
            Request::UnregisterBroker(broker) => {
                let image = self.images().load();
                let known = image.broker(broker);
                if known.is_some_and(|known| !known.fenced) {
                    // It is running, and will be refused.
                    return self.ask_thread(request).await;
                }
                // First its vote: without a majority it is not forgotten either, and asked again
                // it is all the same.
                match voters.change(VoterChange::Forget(broker)).await {
                    Ok(true) if known.is_none() => {
                        self.voters_changed(Ok(true), Response::UnregisterBroker)
                    }
                    Ok(_) => self.ask_thread(request).await,
                    refused => self.voters_changed(refused, Response::UnregisterBroker),
                }
            }
            request => self.ask_thread(request).await,
        }
    }

    fn voters_changed(
        &self,
        changed: Result<bool, VoterError>,
        response: impl FnOnce(Result<(), AdminError>) -> Response,
    ) -> Result<Answer, ControllerError> {
        if let Err(VoterError::NotLeader { leader }) = changed {
            return Err(ControllerError::NotController { leader });
        }
        let response = response(changed.map(drop).map_err(AdminError::from));
        Ok(Answer { offset: self.images().load().offset(), response })
    }

    async fn ask_thread(&self, request: Request) -> Result<Answer, ControllerError> {
        let (answer, answered) = oneshot::channel();
        if !self.inbox.put(Waiting { request, answer }).await {
            return Err(ControllerError::Stopped);
        }
        answered.await.map_err(|_| ControllerError::Stopped)?
    }

    /// Asks another broker; gives up on it once somebody else leads.
    async fn ask_there(
        &self,
        request: &Request,
        leader: BrokerId,
        deadline: Instant,
    ) -> Result<Attempt, ControllerError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let patience = if request.is_repeatable() { left.min(ATTEMPT) } else { left };
        let bytes = Bytes::from(encode_request(request));
        let mut roles = self.role.clone();
        let is_another = |role: &LogRole| match role {
            LogRole::Leader { .. } => true,
            LogRole::Follower { leader: now } => now.is_some_and(|now| now != leader),
        };
        let was_another = is_another(&roles.get());
        // Dropping the call leaves it undecided whether it was carried out; dropping the wait for
        // another leader loses nothing.
        let reply = tokio::select! {
            biased;
            reply = self.link.call(leader, bytes, patience) => reply,
            other = roles.wait_for(is_another), if !was_another => {
                other.map_err(|Closed| ControllerError::Stopped)?;
                return Ok(Attempt::Uncertain(format!("broker {leader} is not the controller any more")));
            }
        };
        let reply = match reply {
            Ok(reply) => decode_reply(&reply),
            Err(LinkError::Gone(why) | LinkError::NotSent(why)) => {
                return Ok(Attempt::NotTaken(None, why));
            }
            Err(LinkError::NoAnswer(why)) => return Ok(Attempt::Uncertain(why)),
        };
        match reply {
            Ok(Reply::Answered(offset, response)) => {
                Ok(Attempt::Answered(Answer { offset, response }))
            }
            Ok(Reply::NotLeader(hint)) => {
                Ok(Attempt::NotTaken(hint, format!("broker {leader} is not the controller")))
            }
            Ok(Reply::UnknownOutcome) => {
                Ok(Attempt::Uncertain(ControllerError::Uncertain.to_string()))
            }
            Ok(Reply::Failed(why)) => {
                Err(ControllerError::Unavailable(format!("broker {leader}: {why}")))
            }
            Ok(Reply::NotUnderstood(why)) => Err(ControllerError::Unavailable(format!(
                "broker {leader} is of another version and does not understand: {why}"
            ))),
            Err(error) => Err(ControllerError::Unavailable(format!(
                "broker {leader} is of another version and is not understood: {error}"
            ))),
        }
    }

    /// Answers another broker's request: here or not at all, so that none goes in circles.
    pub async fn answer(&self, request: &[u8]) -> Bytes {
        let reply = match decode_request(request) {
            Err(error) => Reply::NotUnderstood(error.to_string()),
            Ok(request) => match self.ask_here(request).await {
                Ok(Answer { offset, response }) => Reply::Answered(offset, response),
                Err(ControllerError::NotController { leader }) => Reply::NotLeader(leader),
                Err(ControllerError::Uncertain) => Reply::UnknownOutcome,
                Err(error) => Reply::Failed(error.to_string()),
            },
        };
        encode_reply(&reply).into()
    }

    /// Waits until this node has applied `offset`, or the deadline: what was decided stands. Returns
    /// whether it has.
    pub(crate) async fn await_offset(&self, offset: MetadataOffset, deadline: Instant) -> bool {
        let mut changes = self.changes.clone();
        // Dropping the wait loses nothing.
        let reached =
            timeout_at(deadline, changes.wait_for(|image| image.offset() >= offset)).await;
        matches!(reached, Ok(Ok(_)))
    }

    /// Has brokers fenced whose processes are gone, for as long as it is polled and departures are told.
    /// Does nothing while this node is not the controller: who becomes it asks after everybody.
    pub async fn heed_departures(&self, mut departures: Receiver<BrokerId>) {
        loop {
            let broker = match departures.recv().await {
                Ok(broker) => broker,
                // Whoever was missed is found silent.
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            if !matches!(self.role.clone().get(), LogRole::Leader { .. }) {
                continue;
            }
            let known =
                self.images().load().broker(broker).map(|known| (known.epoch, known.fenced));
            // A process that took its place meanwhile is fenced with it until its next beat.
            if let Some((epoch, false)) = known {
                tracing::warn!(broker = broker.0, "a broker's process is gone: it is fenced");
                let gone = Request::BrokerGone { broker, epoch, by_itself: true };
                // If this is not the controller any more, the next one sees for itself.
                let _ = self.ask_here(gone).await;
            }
        }
    }

    /// Asks after brokers that are silent, for as long as it is polled, and has those fenced whose
    /// machine says that nobody listens any more. Does nothing while this node is not the controller.
    pub async fn ask_after_suspects(&self) {
        let Some(mut suspects) = self.suspects.lock().take() else { return };
        let question = encode_request(&Request::BrokerGone {
            broker: BrokerId(-1),
            epoch: -1,
            by_itself: false,
        });
        let question = Bytes::from(question);
        while let Some((broker, epoch)) = suspects.recv().await {
            // Any answer will do, also that it is not the controller.
            let answer = self.link.call(broker, question.clone(), ATTEMPT_AFTER).await;
            if let Err(LinkError::Gone(why)) = answer {
                tracing::warn!(broker = broker.0, why, "a broker's process is gone: it is fenced");
                let gone = Request::BrokerGone { broker, epoch, by_itself: false };
                // If this is not the controller any more, the next one sees for itself.
                let _ = self.ask_here(gone).await;
            }
        }
    }
}

/// How long a silent broker is waited for. A refused connection is refused at once.
const ATTEMPT_AFTER: Duration = Duration::from_millis(200);

impl Request {
    /// Whether deciding it twice comes to the same as once.
    fn is_repeatable(&self) -> bool {
        match self {
            // The second time the topic is there already, or is not there any more.
            Self::CreateTopics { .. }
            | Self::DeleteTopics(_)
            | Self::CreatePartitions { .. }
            | Self::UnregisterBroker(_)
            | Self::ChangeVoters(_) => false,
            Self::AlterConfigs { .. }
            | Self::AllocateProducerIds { .. }
            | Self::RegisterBroker(_)
            | Self::Heartbeat(_)
            | Self::AlterPartitions(_)
            | Self::ReportReplicas(_)
            | Self::BrokerGone { .. }
            | Self::ElectLeaders { .. }
            | Self::AlterReassignments { .. }
            | Self::DescribeQuorum
            | Self::UpdateFeatures { .. } => true,
        }
    }

    /// Whether who asked has to see the change in its own image before it goes on.
    fn changes_what_is_served(&self) -> bool {
        match self {
            Self::CreateTopics { .. }
            | Self::DeleteTopics(_)
            | Self::CreatePartitions { .. }
            | Self::AlterConfigs { .. }
            | Self::RegisterBroker(_)
            | Self::ReportReplicas(_)
            | Self::ElectLeaders { .. }
            | Self::AlterReassignments { .. }
            | Self::AlterPartitions(_)
            | Self::UnregisterBroker(_)
            | Self::UpdateFeatures { .. } => true,
            // Beats must not stop where metadata is late; the others are told all they need.
            Self::Heartbeat(_)
            | Self::AllocateProducerIds { .. }
            | Self::DescribeQuorum
            | Self::ChangeVoters(_)
            | Self::BrokerGone { .. } => false,
        }
    }
}
