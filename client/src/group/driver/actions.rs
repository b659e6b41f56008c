//! What a membership wants done, done.

use std::time::Instant;

use tokio::sync::watch;

use super::{Driver, Event, UnderWay};
use crate::error::ClientError;
use crate::group::membership::{Action, Leaving, Reply, Step, StepKind};

impl Driver {
    /// Does what the membership wants, until there is nothing.
    pub(super) fn act(&mut self, now: Instant) {
        loop {
            let Some(membership) = &mut self.membership else { return };
            let action = membership.next(now);
            self.desk.set_identity(membership.identity());
            match action {
                Some(action) => self.perform(action),
                None => return,
            }
            if self.is_over {
                return;
            }
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Join { topics, claims, reason } => {
                let member = self.desk.identity().member;
                let line = self.line.clone();
                self.ask(async move {
                    Reply::Joined(line.join(&member, &topics, &claims, &reason).await)
                });
            }
            Action::Count { topics } => {
                let line = self.line.clone();
                self.ask(async move { Reply::Counted(line.count(&topics).await) });
            }
            Action::Sync { protocol, shares } => {
                let (line, identity) = (self.line.clone(), self.desk.identity());
                let synced =
                    async move { Reply::Synced(line.sync(&identity, protocol, &shares).await) };
                self.ask(synced);
            }
            Action::Heartbeat => {
                let (line, identity) = (self.line.clone(), self.desk.identity());
                self.ask_beside(async move { Reply::Beaten(line.heartbeat(&identity).await) });
            }
            Action::Leave { leaving, reason } => self.leave(leaving, reason),
            Action::Step(step) => self.take(step),
            Action::Hurry => {
                if let Some(step) = &self.step {
                    step.hurry.send_replace(true);
                }
            }
            Action::FindCoordinator => {
                self.line.client.forget_coordinator(&self.line.options.group);
            }
            Action::Report(error) => {
                if matches!(error.code(), Some(sawlog_protocol::ErrorCode::FENCED_INSTANCE_ID)) {
                    self.desk.end(error.clone());
                }
                if self.falls_back(&error) {
                    return;
                }
                self.desk.report(error);
            }
            Action::Done => self.done(),
            Action::Tell(heartbeat) => {
                let line = self.line.clone();
                self.ask_beside(async move { Reply::Told(line.tell(&heartbeat).await) });
            }
            Action::Name { ids } => {
                let line = self.line.clone();
                self.ask_beside(async move { Reply::Named(line.names(&ids).await) });
            }
        }
    }

    /// A request on the way into a generation: answers to those before it are void.
    fn ask(&mut self, request: impl Future<Output = Reply> + Send + 'static) {
        self.turn += 1;
        self.send(Some(self.turn), request);
    }

    /// A request beside those.
    fn ask_beside(&self, request: impl Future<Output = Reply> + Send + 'static) {
        self.send(None, request);
    }

    fn send(&self, turn: Option<u64>, request: impl Future<Output = Reply> + Send + 'static) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let reply = request.await;
            // Without the task nobody waits for it.
            drop(events.send(Event::Replied { turn, reply }));
        });
    }

    fn leave(&self, leaving: Leaving, reason: &'static str) {
        let (line, identity) = (self.line.clone(), self.desk.identity());
        self.ask_beside(async move {
            // The session ends without it, too.
            let _left: Result<(), ClientError> = if identity.is_epoch {
                line.leave_epochs(&identity.member, leaving).await
            } else {
                line.leave(&identity.member, reason).await
            };
            Reply::Left
        });
    }

    fn take(&mut self, mut step: Step) {
        if step.kind == StepKind::Lose {
            // What was never begun with is not lost.
            step.partitions.retain(|key| self.placed.contains(key));
            self.desk.remove(&step.partitions);
        }
        let (hurry, hurried) = watch::channel(false);
        let task = tokio::spawn(self.stepper().run(step.clone(), hurried)).abort_handle();
        self.step = Some(UnderWay { step, hurry, task });
    }
}
