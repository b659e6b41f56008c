//! Changes of what the reader has, each a task of its own: waits until nothing is in work, commits,
//! has the listener told, and moves partitions in and out.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::commit::{CommitError, Committer};
use super::desk::Desk;
use super::driver::Event;
use super::listener::{Rebalance, RebalanceListener};
use super::membership::{Partitions, Step, StepKind, Trouble};
use super::requests::Line;
use crate::backoff::Random;
use crate::consumer::{PartitionKey, Place, Position, ResetPolicy, Start, now_ms};
use crate::error::ClientError;

/// Pause after the broker refused to tell what is committed.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// What came of a step.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// What is committed of partitions that were assigned.
    pub(crate) found: Vec<(PartitionKey, i64)>,
    /// The step was in vain: partitions were not assigned.
    pub(crate) is_void: bool,
    /// What came of the last commit of what was revoked.
    pub(crate) commit: Option<CommitError>,
}

/// Takes steps.
#[derive(Clone, Debug)]
pub(crate) struct Stepper {
    pub(crate) line: Line,
    pub(crate) desk: Arc<Desk>,
    pub(crate) events: mpsc::UnboundedSender<Event>,
}

/// Says when a step is in vain.
pub(crate) type Hurry = watch::Receiver<bool>;

impl Stepper {
    /// Takes a step and says so. A listener that panics ends the step and nothing else.
    pub(crate) async fn run(self, step: Step, mut hurry: Hurry) {
        let (desk, events) = (self.desk.clone(), self.events.clone());
        let taking = tokio::spawn(async move {
            match step.kind {
                StepKind::Revoke => self.revoke(&step, &mut hurry).await,
                StepKind::Lose => self.lose(&step).await,
                StepKind::Assign => self.assign(&step, &mut hurry).await,
            }
        });
        let _abort = AbortOnDrop(taking.abort_handle());
        let settled = match taking.await {
            Ok(settled) => settled,
            Err(error) => {
                let reason = format!("a rebalance listener failed: {error}");
                desk.report(ClientError::InvalidGroup(reason));
                Settled::default()
            }
        };
        // The task that hears of it lets the reader go on.
        drop(events.send(Event::Settled(settled)));
    }

    fn listener(&self) -> Option<Arc<dyn RebalanceListener>> {
        self.line.options.listener.clone()
    }

    fn rebalance(&self, step: &Step) -> Rebalance {
        let identity = self.desk.identity();
        Rebalance {
            partitions: step.partitions.iter().cloned().collect(),
            owned: step.owned.iter().cloned().collect(),
            generation: step.generation,
            member: identity.member,
            committer: self.committer(),
            consumer: self.desk.consumer.clone(),
        }
    }

    fn committer(&self) -> Committer {
        Committer { events: self.events.clone(), desk: self.desk.clone() }
    }

    async fn revoke(&self, step: &Step, hurry: &mut Hurry) -> Settled {
        self.desk.close().await;
        let mut settled = Settled::default();
        if self.line.options.commit_interval.is_some() && !step.partitions.is_empty() {
            let commit = self.committer().commit_of(|key| step.partitions.contains(key));
            let longest =
                self.line.client.options().timeout.min(self.line.options.rebalance_timeout());
            tokio::select! {
                // The commit goes on without being waited for.
                outcome = tokio::time::timeout(longest, commit) => {
                    settled.commit = match outcome {
                        Ok(outcome) => outcome.err(),
                        Err(_) => Some(CommitError::Failed(ClientError::Closed)),
                    };
                }
                _ = hurry.wait_for(|hurry| *hurry) => {}
            }
        }
        if let Some(listener) = self.listener() {
            let rebalance = self.rebalance(step);
            // The group may have gone on while the reader was busy.
            if *hurry.borrow() {
                listener.lost(&rebalance).await;
            } else {
                listener.revoked(&rebalance).await;
            }
        }
        self.desk.remove(&step.partitions);
        settled
    }

    async fn lose(&self, step: &Step) -> Settled {
        // Nothing more of them, whatever the reader is at.
        self.desk.remove(&step.partitions);
        self.desk.close().await;
        self.desk.remove(&step.partitions);
        if let Some(listener) = self.listener() {
            listener.lost(&self.rebalance(step)).await;
        }
        Settled::default()
    }

    async fn assign(&self, step: &Step, hurry: &mut Hurry) -> Settled {
        let prepared = async {
            let found = self.committed(&step.partitions).await;
            self.desk.close().await;
            found
        };
        let found = tokio::select! {
            found = prepared => found,
            // What it asked for is of no use any more.
            _ = hurry.wait_for(|hurry| *hurry) => {
                return Settled { is_void: true, ..Settled::default() };
            }
        };
        let mut unknown = step.partitions.clone();
        for (key, place) in &found {
            if unknown.remove(key) {
                self.desk.consumer.place(key.clone(), Start::At(*place));
            }
        }
        let start = start(self.line.options.consumer.reset);
        for key in &unknown {
            self.desk.consumer.place(key.clone(), start);
        }
        if let Some(listener) = self.listener() {
            listener.assigned(&self.rebalance(step)).await;
        }
        if start == Start::Nowhere {
            for (topic, partition) in
                unknown.iter().filter(|key| self.desk.consumer.is_stopped(key))
            {
                let (topic, partition) = (topic.to_string(), *partition);
                self.desk.report(ClientError::NoCommittedOffset { topic, partition });
            }
        }
        let found = found.into_iter().map(|(key, place)| (key, place.offset)).collect();
        Settled { found, ..Settled::default() }
    }

    /// What is committed; asks until it is told.
    async fn committed(&self, partitions: &Partitions) -> Vec<(PartitionKey, Place)> {
        if partitions.is_empty() {
            return Vec::new();
        }
        let client = &self.line.client;
        let mut random = Random::new();
        let mut failures = 0;
        loop {
            let error = match self.line.committed(&self.desk.identity(), partitions).await {
                Ok(found) => return found,
                Err(error) => error,
            };
            failures += 1;
            let mut pause = client.backoff().pause(failures, &mut random);
            match Trouble::of(&error) {
                Trouble::Coordinator => client.forget_coordinator(&self.line.options.group),
                // The heartbeats learn the same and see to it.
                Trouble::Again
                | Trouble::Rebalance
                | Trouble::Unknown
                | Trouble::Outdated
                | Trouble::Fenced => {}
                Trouble::Refused => {
                    self.desk.report(error);
                    pause = REFUSED_PAUSE;
                }
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// Ends a task with the one that waits for it.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where a partition begins of which nothing is committed.
fn start(reset: ResetPolicy) -> Start {
    match reset {
        ResetPolicy::Error => Start::Nowhere,
        ResetPolicy::Earliest => Start::From(Position::Start),
        ResetPolicy::Latest => Start::From(Position::End),
        ResetPolicy::ByDuration(age) => {
            let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            Start::From(Position::Time(now_ms().saturating_sub(age).max(0)))
        }
    }
}
