//! The controller's thread: take, follow the log, decide, propose, apply, tell, answer.
//!
//! The thread is the only one that writes the metadata log, and may block on the disk. It decides
//! only while this node leads the log and has applied all there is; otherwise it just follows.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sawlog_protocol::Uuid;
use tokio::sync::{mpsc, oneshot};

#[cfg(any(test, feature = "sim"))]
use crate::base::tasks::{SimulatedProcess, Step};
use crate::base::watched::Source;
use crate::base::{BrokerId, Clock};
use crate::config::BrokerConfig;
use crate::metadata::{
    ApplyError, Image, ImageCell, MetadataOffset, PartitionChange, Random, Record,
};
use crate::metrics::Counter;
use crate::quorum::{
    LogError, LogEvent, LogRole, MetadataLog, QuorumReplica, QuorumStatus, Recovered, Snapshot,
};

use super::decide::{decide, fence_all};
use super::inbox::{Inbox, Work};
use super::request::{ElectedLeader, Request, Response};
use super::sessions::Sessions;
use super::shell::{ControllerError, Elections};
use super::{ImageSubscriber, replicas};

/// Requests decided together: with the bounds on one request, one entry stays small.
const BATCH_MAX: usize = 64;

/// A request and who waits for its answer.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) request: Request,
    pub(super) answer: oneshot::Sender<Result<Answer, ControllerError>>,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Who has applied this has applied what was decided, and what it was decided on.
    pub(super) offset: MetadataOffset,
    pub(super) response: Response,
}

/// Leaders elected by this node, as the controller.
#[derive(Debug, Default)]
pub(super) struct ElectionCounters {
    leaders: Counter,
    unclean: Counter,
}

impl ElectionCounters {
    pub(super) fn totals(&self) -> Elections {
        Elections { leaders: self.leaders.get(), unclean: self.unclean.get() }
    }

    fn on_answer(&self, response: &Response) {
        if let Response::ElectLeaders(all) = response {
            let is_unclean =
                |one: &&ElectedLeader| one.result.as_ref().is_ok_and(|elected| elected.is_unclean);
            self.unclean.add(crate::metrics::count(all.iter().filter(is_unclean).count()));
        }
    }
}

fn is_election(record: &Record) -> bool {
    matches!(record, Record::PartitionChange(PartitionChange { leader: Some(Some(_)), .. }))
}

/// What the thread owns.
pub(super) struct Worker {
    pub(super) cluster_id: Uuid,
    pub(super) config: Arc<BrokerConfig>,
    pub(super) image: Arc<Image>,
    pub(super) log: Box<dyn MetadataLog>,
    pub(super) random: Box<dyn Random>,
    pub(super) inbox: Arc<Inbox<Waiting>>,
    pub(super) images: Arc<ImageCell>,
    pub(super) change: Source<Arc<Image>>,
    pub(super) role: Source<LogRole>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) sessions: Sessions,
    /// Brokers to be asked after. One too many for it will be named again.
    pub(super) suspects: mpsc::Sender<(BrokerId, i64)>,
    /// When leaders were put back last.
    pub(super) balanced_at: Duration,
    pub(super) subscribers: Arc<Mutex<Vec<Arc<dyn ImageSubscriber>>>>,
    pub(super) elections: Arc<ElectionCounters>,
    /// Set once the image can no longer follow the log; nothing is accepted after that.
    pub(super) failed: Option<ControllerError>,
}

/// Who asks is told when the thread is gone, for whatever reason.
struct Leaving(Arc<Inbox<Waiting>>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// The image of what a log held when it was opened.
pub(super) fn replay(
    cluster_id: Uuid,
    config: &Arc<BrokerConfig>,
    recovered: &Recovered,
) -> Result<Image, ApplyError> {
    let Snapshot { offset, records } = &recovered.snapshot;
    let mut image = Image::from_snapshot(cluster_id, Arc::clone(config), *offset, records)?;
    for entry in &recovered.entries {
        image = image.applied(entry.offset, &entry.records)?;
    }
    Ok(image)
}

impl Worker {
    pub(super) fn run(mut self) {
        let (inbox, _leaving) = self.begin();
        loop {
            let work = inbox.take(BATCH_MAX, self.patience());
            if self.step(work) {
                return;
            }
        }
    }

    /// As [`Self::run`], as a task of a simulated process.
    #[cfg(any(test, feature = "sim"))]
    pub(super) async fn run_simulated(mut self, process: Arc<dyn SimulatedProcess>) {
        let (inbox, _leaving) = self.begin();
        loop {
            inbox.ready(self.patience()).await;
            process.take_time(Step::Decide).await;
            let work = inbox.take(BATCH_MAX, Some(Duration::ZERO));
            if self.step(work) {
                return;
            }
        }
    }

    fn begin(&mut self) -> (Arc<Inbox<Waiting>>, Leaving) {
        let inbox = Arc::clone(&self.inbox);
        let leaving = Leaving(Arc::clone(&inbox));
        let wake = Arc::clone(&inbox);
        self.log.on_news(Arc::new(move || wake.tell_news()));
        (inbox, leaving)
    }

    /// Does what there is to do. Returns whether that was all there will be.
    fn step(&mut self, work: Work<Waiting>) -> bool {
        // Why it failed was logged, and is what everyone who asks is told.
        let _ = self.follow();
        if !work.batch.is_empty() {
            self.serve(work.batch);
        }
        if self.leads() {
            // Who waits to be heard is not silent. That somebody is heard says nothing of the others.
            self.look_around(work.is_all);
        }
        self.snapshot_if_due();
        work.is_over
    }

    /// How long nothing has to be done unless somebody asks. A broker alone has no timer at all.
    fn patience(&self) -> Option<Duration> {
        if self.leads() { self.sessions.look_again(&self.image) } else { None }
    }

    fn current_role(&self) -> LogRole {
        self.role.look(|role| *role)
    }

    fn leads(&self) -> bool {
        self.failed.is_none() && matches!(self.current_role(), LogRole::Leader { .. })
    }

    /// Does what is due by time.
    fn look_around(&mut self, may_fence: bool) {
        let Some(interval) = self.sessions.look_again(&self.image) else { return };
        let now = self.clock.monotonic();
        if !may_fence || !self.sessions.is_due(now, interval) {
            return;
        }
        let silent = self.sessions.expired(&self.image, now);
        for broker in &silent {
            tracing::warn!(broker = broker.0, "nothing is heard of a broker: it is fenced");
        }
        self.commit_unasked(fence_all(&self.image, &silent));
        self.ask_after_suspects(now);
        self.commit_unasked(replicas::raise_internal(&self.image));
        let config = self.image.config();
        let interval = Duration::from_secs(config.leader_imbalance_check_interval_seconds);
        if config.auto_leader_rebalance_enable && now.saturating_sub(self.balanced_at) >= interval {
            self.balanced_at = now;
            self.commit_unasked(replicas::prefer_first(&self.image));
        }
    }

    /// Commits what nobody asked for. If it fails, it is due again at the next look.
    fn commit_unasked(&mut self, records: Vec<Record>) {
        if records.is_empty() || !self.leads() {
            return;
        }
        if let Err(error) = self.commit(records) {
            tracing::warn!(%error, "the controller could not commit what is due");
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

    fn serve_one(&mut self, request: &Request) -> Result<Answer, ControllerError> {
        let answers = self.decide_and_commit(std::slice::from_ref(request))?;
        answers.into_iter().next().ok_or(ControllerError::Stopped)
    }

    fn decide_and_commit(&mut self, requests: &[Request]) -> Result<Vec<Answer>, ControllerError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        if let LogRole::Follower { leader } = self.current_role() {
            return Err(ControllerError::NotController { leader });
        }
        let now = self.clock.monotonic();
        let decision = decide(&self.image, &mut self.sessions, requests, now, &mut *self.random);
        if !decision.records.is_empty() {
            self.commit(decision.records)?;
        }
        decision.responses.iter().for_each(|response| self.elections.on_answer(response));
        let offset = self.image.offset();
        let answer = |response| match response {
            Response::DescribeQuorum(_) => {
                Answer { offset, response: Response::DescribeQuorum(self.quorum()) }
            }
            response => Answer { offset, response },
        };
        Ok(decision.responses.into_iter().map(answer).collect())
    }

    /// Who agrees on the metadata; this node, where it is alone.
    fn quorum(&self) -> QuorumStatus {
        let mut status = self.quorum_of_log();
        let (own, now) = (self.sessions.own(), self.clock.monotonic());
        for replica in status.replicas.iter_mut().filter(|replica| replica.broker != own) {
            replica.heard_of = self.sessions.silence(replica.broker, now);
        }
        status
    }

    fn quorum_of_log(&self) -> QuorumStatus {
        self.log.status().unwrap_or_else(|| {
            let own = self.sessions.own();
            let committed = self.image.offset();
            let known = self.image.broker(own).and_then(|broker| broker.storage_ids.first());
            let term = match self.current_role() {
                LogRole::Leader { term } => term,
                LogRole::Follower { .. } => 0,
            };
            let alone = QuorumReplica {
                broker: own,
                directory: known.copied().unwrap_or_default(),
                is_voter: true,
                last: Some(committed),
                heard_of: None,
            };
            QuorumStatus { leader: Some(own), term, committed, replicas: vec![alone] }
        })
    }

    /// Proposes an entry and applies it.
    fn commit(&mut self, records: Vec<Record>) -> Result<(), ControllerError> {
        let elected = records.iter().filter(|record| is_election(record)).count();
        let proposed = self.log.propose(records);
        if let Err(LogError::NotLeader { leader }) = proposed {
            // What became of the entry is not known: nothing is decided on top of it until the log
            // says that all there is came out.
            self.take_role(LogRole::Follower { leader });
            if planted!(AnswerUncertain) {
                return Ok(());
            }
            return Err(ControllerError::Uncertain);
        }
        let offset = proposed?;
        self.elections.leaders.add(crate::metrics::count(elected));
        self.follow()?;
        self.assert_applied(offset);
        Ok(())
    }

    /// Applies what was committed and tells everyone.
    fn follow(&mut self) -> Result<(), ControllerError> {
        let mut takes_over = false;
        for event in self.log.poll() {
            let next = match event {
                LogEvent::Entry(entry) => self.image.applied(entry.offset, &entry.records),
                // It may be older than what was replayed at the start.
                LogEvent::Snapshot(snapshot) if snapshot.offset <= self.image.offset() => continue,
                LogEvent::Snapshot(Snapshot { offset, records }) => {
                    let config = Arc::clone(&self.config);
                    Image::from_snapshot(self.cluster_id, config, offset, &records)
                }
                LogEvent::Role(role) => {
                    takes_over |= self.take_role(role);
                    continue;
                }
            };
            match next {
                Ok(image) => self.publish(Arc::new(image)),
                Err(error) => return Err(self.fail(error)),
            }
        }
        // Not before all that came with it is applied.
        if takes_over && self.leads() {
            self.take_over();
        }
        Ok(())
    }

    fn fail(&mut self, error: ApplyError) -> ControllerError {
        tracing::error!(%error, "committed metadata cannot be applied, the controller stops");
        let failed = ControllerError::from(error);
        self.failed = Some(failed.clone());
        failed
    }

    /// Returns whether this node became the controller.
    fn take_role(&mut self, role: LogRole) -> bool {
        if !self.role.change(|before| std::mem::replace(before, role) != role) {
            return false;
        }
        match role {
            LogRole::Leader { term } => tracing::debug!(term, "this node is the controller"),
            LogRole::Follower { leader } => {
                let leader = leader.map(|id| id.0);
                tracing::debug!(leader, "this node is not the controller");
            }
        }
        matches!(role, LogRole::Leader { .. })
    }

    /// P10: everybody gets a fresh session, and what the one before may have left undone is done.
    fn take_over(&mut self) {
        let now = self.clock.monotonic();
        self.sessions.begin(&self.image, now);
        self.balanced_at = now;
        self.commit_unasked(replicas::elect_missing(&self.image));
        self.ask_after_suspects(now);
    }

    fn ask_after_suspects(&mut self, now: Duration) {
        for suspect in self.sessions.suspects(&self.image, now) {
            // One too many is named again at a later look.
            let _ = self.suspects.try_send(suspect);
        }
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
        self.change.set(Arc::clone(&image));
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
