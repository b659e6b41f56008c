//! The task behind a member of a group: does what its membership wants done, and tells it what came
//! of that.
//!
//! Requests, commits and steps of the reader run beside it, one of a kind at a time, and come back as
//! events. So heartbeats go on whatever the reader, a listener or a request is at.

mod actions;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use regex::{Regex, RegexBuilder};
use sawlog_protocol::{ErrorCode, Uuid};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use super::assignor::Layout;
use super::classic::{Classic, ClassicOptions};
use super::commit::{CommitError, Committing, offsets};
use super::desk::{Desk, Extent};
use super::ledger::{After, Ledger};
use super::membership::{
    Identity, Leaving, Membership, Partitions, Reply, Step, StepKind, Trouble, Wanted,
};
use super::modern::Modern;
use super::options::{GroupProtocol, Kind, Topics};
use super::requests::{Line, Spoken};
use super::retries::Retries;
use super::steps::{Settled, Stepper};
use crate::backoff::Random;
use crate::consumer::PartitionKey;
use crate::error::ClientError;
use crate::metadata::ClusterInfo;

/// Pause before topics that were not there are looked for again.
const MISSING_PAUSE: Duration = Duration::from_secs(5);

/// Memory a pattern for topics may compile to.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// For each partition of a commit what became of it, or why nothing is known.
type CommitOutcome = Result<Vec<(PartitionKey, ErrorCode)>, ClientError>;

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// The caller commits.
    Commit(Committing),
    /// The caller subscribes to something else.
    Subscribe(Topics),
    /// The caller closes.
    Close { leaving: Leaving, answer: oneshot::Sender<Result<(), CommitError>> },
    /// A request was answered; `turn` tells those of a membership that is over by now.
    Replied { turn: Option<u64>, reply: Reply },
    /// The reader took a step.
    Settled(Settled),
    /// A commit was answered.
    Committed { identity: Identity, outcome: CommitOutcome },
    /// It is known what the coordinator speaks.
    Chosen(Result<Spoken, ClientError>),
    /// Metadata came.
    Refreshed(Result<ClusterInfo, ClientError>),
}

/// The state of the task.
#[derive(Debug)]
pub(crate) struct Driver {
    line: Line,
    desk: Arc<Desk>,
    events: mpsc::UnboundedSender<Event>,
    topics: Topics,
    pattern: Option<Regex>,
    /// `None` until it is known.
    spoken: Option<Spoken>,
    is_choosing: bool,
    choosing: Retries,
    /// `None` until it is known what to subscribe to.
    membership: Option<Box<dyn Membership>>,
    ledger: Ledger,
    /// Counts what was asked on the way into generations.
    turn: u64,
    step: Option<UnderWay>,
    /// What the reader has, by the steps it took.
    placed: Partitions,
    is_unpolled: bool,
    commit_at: Option<Instant>,
    /// Nothing is committed before: the coordinator was not ready.
    commit_not_before: Option<Instant>,
    commit_retries: Retries,
    refresh_at: Instant,
    is_refreshing: bool,
    closing: Option<oneshot::Sender<Result<(), CommitError>>>,
    commit_failure: Option<CommitError>,
    is_over: bool,
}

/// A step the reader is at.
#[derive(Debug)]
struct UnderWay {
    step: Step,
    hurry: watch::Sender<bool>,
    task: AbortHandle,
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(step) = &self.step {
            step.task.abort();
        }
        self.line.client.release(self.line.channel);
    }
}

impl Driver {
    pub(crate) fn new(
        line: Line,
        desk: Arc<Desk>,
        events: mpsc::UnboundedSender<Event>,
        topics: Topics,
    ) -> Self {
        let commit_retries = retries(&line);
        let now = Instant::now();
        let commit_at = line.options.commit_interval.map(|interval| now + interval);
        let choosing = retries(&line);
        // There is nothing to ask about the protocol every broker serves.
        let spoken = (line.options.protocol == GroupProtocol::Classic).then_some(Spoken::Classic);
        let mut driver = Self {
            line,
            desk,
            events,
            topics: topics.clone(),
            pattern: None,
            spoken,
            is_choosing: false,
            choosing,
            membership: None,
            ledger: Ledger::default(),
            turn: 0,
            step: None,
            placed: Partitions::new(),
            is_unpolled: false,
            commit_at,
            commit_not_before: None,
            commit_retries,
            refresh_at: now,
            is_refreshing: false,
            closing: None,
            commit_failure: None,
            is_over: false,
        };
        driver.subscribe(topics);
        driver
    }

    /// Runs until the member has left, or may not come back.
    pub(crate) async fn run(mut self, mut happened: mpsc::UnboundedReceiver<Event>) {
        let desk = self.desk.clone();
        loop {
            let now = Instant::now();
            self.advance(now);
            if self.is_over {
                return;
            }
            let timer = self.timer(now);
            tokio::select! {
                // Dropping any of these loses nothing: events stay, and a wake-up leaves a permit.
                event = happened.recv() => {
                    let mut event = event;
                    while let Some(one) = event {
                        self.handle(one, Instant::now());
                        event = happened.try_recv().ok();
                    }
                }
                () = desk.driver.notified() => {}
                () = tokio::time::sleep_until(timer.into()) => {}
            }
        }
    }

    fn timer(&self, now: Instant) -> Instant {
        let away = self.desk.away_until(self.line.options.max_poll_interval);
        let refresh = self.wants_refresh().then_some(self.refresh_at);
        let waits = [
            away.filter(|_| self.minds_reader()),
            self.commit_at,
            self.commit_not_before,
            refresh,
            self.choosing.not_before().filter(|_| self.spoken.is_none() && !self.is_choosing),
            self.membership.as_ref().and_then(|membership| membership.timer()),
        ];
        let next = waits.into_iter().flatten().min();
        next.unwrap_or(now + IDLE_PAUSE).min(now + IDLE_PAUSE)
    }

    fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Commit(committing) => {
                self.note_ends();
                let deadline = now + self.line.client.options().timeout;
                self.ledger.submit(committing, deadline);
            }
            Event::Subscribe(topics) => self.subscribe(topics),
            Event::Close { leaving, answer } => {
                self.closing = Some(answer);
                match &mut self.membership {
                    Some(membership) => membership.close(leaving, now),
                    None => self.done(),
                }
            }
            Event::Replied { turn, .. } if turn.is_some_and(|turn| turn != self.turn) => {}
            Event::Replied { reply, .. } => {
                if let Some(membership) = &mut self.membership {
                    membership.replied(reply, now);
                }
            }
            Event::Settled(settled) => self.settled(settled, now),
            Event::Committed { identity, outcome } => self.committed(&identity, outcome, now),
            Event::Chosen(outcome) => self.chosen(outcome, now),
            Event::Refreshed(outcome) => self.refreshed(outcome, now),
        }
    }

    /// Finds out what the coordinator speaks.
    fn choose(&mut self, now: Instant) {
        if self.spoken.is_some() || self.is_choosing || !self.choosing.may_try(now) {
            return;
        }
        self.is_choosing = true;
        let (line, events) = (self.line.clone(), self.events.clone());
        tokio::spawn(async move {
            let outcome = line.spoken().await;
            drop(events.send(Event::Chosen(outcome)));
        });
    }

    fn chosen(&mut self, outcome: Result<Spoken, ClientError>, now: Instant) {
        self.is_choosing = false;
        match outcome {
            Ok(spoken) => {
                self.spoken = Some(spoken);
                self.subscribe(self.topics.clone());
            }
            Err(error) => match Trouble::of(&error) {
                Trouble::Refused => {
                    self.choosing.refused(now);
                    self.desk.report(error);
                }
                trouble => {
                    if trouble == Trouble::Coordinator {
                        self.line.client.forget_coordinator(&self.line.options.group);
                    }
                    if let Some(error) = self.choosing.failed(error, now) {
                        self.desk.report(error);
                    }
                }
            },
        }
    }

    /// A broker may know the consumer protocol and not serve it: with a choice, the classic one will
    /// do. Returns whether it does.
    fn falls_back(&mut self, error: &ClientError) -> bool {
        let is_refused = error.code() == Some(ErrorCode::UNSUPPORTED_VERSION);
        let is_open = self.line.options.protocol == GroupProtocol::Auto && self.placed.is_empty();
        if !is_refused || !is_open || self.spoken == Some(Spoken::Classic) || self.step.is_some() {
            return false;
        }
        self.spoken = Some(Spoken::Classic);
        self.membership = None;
        self.subscribe(self.topics.clone());
        true
    }

    /// Takes in what the caller subscribes to.
    fn subscribe(&mut self, topics: Topics) {
        self.topics = topics;
        self.pattern = None;
        let Some(spoken) = self.spoken else { return };
        match &self.topics.0 {
            Kind::Named(names) => {
                let wanted = Wanted { topics: names.clone(), pattern: None };
                self.want(wanted);
            }
            Kind::Matching(pattern) if spoken == Spoken::Consumer { finds_topics: true } => {
                let wanted = Wanted { topics: BTreeSet::new(), pattern: Some(pattern.clone()) };
                self.want(wanted);
            }
            Kind::Matching(pattern) => match compiled(pattern) {
                // What matches is known after a look at all topics.
                Ok(regex) => {
                    self.pattern = Some(regex);
                    self.refresh_at = Instant::now();
                }
                Err(error) => self.desk.report(error),
            },
        }
    }

    fn want(&mut self, wanted: Wanted) {
        match &mut self.membership {
            Some(membership) => membership.want(wanted),
            None if self.spoken != Some(Spoken::Classic) => {
                let member = Arc::from(unique_id().as_str());
                let is_static = self.line.options.instance.is_some();
                let both = (retries(&self.line), retries(&self.line));
                self.membership = Some(Box::new(Modern::new((member, is_static), wanted, both)));
            }
            None => {
                let options = ClassicOptions {
                    is_static: self.line.options.instance.is_some(),
                    heartbeat_interval: self.line.options.heartbeat_interval,
                    assignors: self.line.options.assignors.clone(),
                    has_rack: self.line.client.options().rack.is_some(),
                };
                let classic = Classic::new(options, wanted, retries(&self.line));
                self.membership = Some(Box::new(classic));
            }
        }
    }

    /// Does everything that can be done now.
    fn advance(&mut self, now: Instant) {
        self.choose(now);
        self.mind_reader(now);
        self.act(now);
        if let Some(at) = self.commit_at.filter(|at| *at <= now) {
            let interval = self.line.options.commit_interval.unwrap_or(IDLE_PAUSE);
            self.commit_at = Some(at.max(now - interval) + interval);
            self.note_ends();
            let offsets = offsets(self.desk.progress(Extent::Processed));
            let committing = Committing { offsets, is_explicit: false, answer: None };
            self.ledger.submit(committing, now);
        }
        self.commit(now);
        self.refresh(now);
    }

    /// A reader that stays away costs the member its place, until it is back.
    fn mind_reader(&mut self, now: Instant) {
        let interval = self.line.options.max_poll_interval;
        if self.is_unpolled && !self.desk.is_away_too_long() {
            self.is_unpolled = false;
            if let Some(membership) = &mut self.membership {
                membership.polled();
            }
        }
        let is_late = self.desk.away_until(interval).is_some_and(|at| at <= now);
        if is_late && self.minds_reader() {
            self.is_unpolled = true;
            self.desk.note_away(ClientError::NotPolled { interval_ms: interval.as_millis() });
            if let Some(membership) = &mut self.membership {
                membership.not_polled();
            }
        }
    }

    /// Whether there is a place to lose.
    fn minds_reader(&self) -> bool {
        !self.is_unpolled && self.closing.is_none() && self.membership.is_some()
    }

    fn settled(&mut self, settled: Settled, now: Instant) {
        let Some(UnderWay { step, .. }) = self.step.take() else { return };
        match step.kind {
            StepKind::Assign if settled.is_void => {}
            StepKind::Assign => {
                self.placed.extend(step.partitions);
                self.ledger.assigned(&self.placed, &settled.found);
            }
            StepKind::Revoke | StepKind::Lose => {
                self.placed.retain(|key| !step.partitions.contains(key));
                self.ledger.removed(&step.partitions);
            }
        }
        if let Some(failure) = settled.commit {
            self.commit_failure = Some(failure);
        }
        if let Some(membership) = &mut self.membership {
            membership.settled(now);
        }
        self.desk.open();
    }

    fn note_ends(&mut self) {
        for (key, end) in self.desk.consumer.ends() {
            self.ledger.ends(&key, end);
        }
    }

    /// Sends the next commit, if there is one.
    fn commit(&mut self, now: Instant) {
        if self.commit_not_before.is_some_and(|at| at > now) {
            return;
        }
        self.commit_not_before = None;
        let identity = self.desk.identity();
        if identity.generation < 0 {
            return self.ledger.refuse();
        }
        let Some(offsets) = self.ledger.next() else { return };
        let (line, events) = (self.line.clone(), self.events.clone());
        tokio::spawn(async move {
            let outcome = line.commit(&identity, &offsets).await;
            drop(events.send(Event::Committed { identity, outcome }));
        });
    }

    fn committed(&mut self, identity: &Identity, outcome: CommitOutcome, now: Instant) {
        match self.ledger.answered(outcome, now) {
            After::Nothing => self.commit_retries.succeeded(),
            After::Again(error) => {
                if Trouble::of(&error) == Trouble::Coordinator {
                    self.line.client.forget_coordinator(&self.line.options.group);
                }
                // Whoever waits for the commit is told by the ledger.
                let _told = self.commit_retries.failed(error, now);
                self.commit_not_before = self.commit_retries.not_before();
            }
            After::Refused(code) => {
                if let Some(membership) = &mut self.membership {
                    membership.commit_refused(identity, code, now);
                }
            }
        }
    }

    fn wants_refresh(&self) -> bool {
        let watches = self.membership.as_ref().is_some_and(|one| !one.watched().is_empty());
        !self.is_refreshing && (self.pattern.is_some() || watches)
    }

    /// Looks at the topics now and then.
    fn refresh(&mut self, now: Instant) {
        if self.refresh_at > now || !self.wants_refresh() {
            return;
        }
        self.is_refreshing = true;
        let watched = self.membership.as_ref().map(|one| one.watched()).unwrap_or_default();
        let (client, events) = (self.line.client.clone(), self.events.clone());
        let everything = self.pattern.is_some();
        tokio::spawn(async move {
            let names: Vec<&str> = watched.iter().map(|name| &**name).collect();
            let outcome = if everything {
                client.describe(None).await
            } else {
                client.refresh_many(&names).await
            };
            drop(events.send(Event::Refreshed(outcome)));
        });
    }

    fn refreshed(&mut self, outcome: Result<ClusterInfo, ClientError>, now: Instant) {
        self.is_refreshing = false;
        let max_age = self.line.client.options().metadata_max_age;
        let Ok(info) = outcome else {
            // Requests to the coordinator fail as well, and are told.
            self.refresh_at = now + max_age.min(MISSING_PAUSE);
            return;
        };
        if let Some(pattern) = &self.pattern {
            let found = info.topics.iter().filter(|one| !one.internal);
            let found = found.filter(|one| pattern.is_match(&one.name));
            let topics: BTreeSet<Arc<str>> =
                found.map(|one| Arc::from(one.name.as_str())).collect();
            self.want(Wanted { topics, pattern: None });
        }
        let Some(membership) = &mut self.membership else { return };
        let watched = membership.watched();
        let layout = Layout::of(&info, |name| watched.contains(name));
        membership.counted(&layout);
        let all_there = layout.counts.len() == watched.len();
        self.refresh_at = now + if all_there { max_age } else { max_age.min(MISSING_PAUSE) };
    }

    fn done(&mut self) {
        self.is_over = true;
        let failure = self.commit_failure.take();
        if let Some(answer) = self.closing.take() {
            // Who no longer waits does not need to know.
            drop(answer.send(failure.map_or(Ok(()), Err)));
        }
        self.desk.end(ClientError::Closed);
    }

    fn stepper(&self) -> Stepper {
        let (line, desk) = (self.line.clone(), self.desk.clone());
        Stepper { line, desk, events: self.events.clone() }
    }
}

/// Longest sleep of the task: nothing depends on it.
const IDLE_PAUSE: Duration = Duration::from_secs(60);

fn retries(line: &Line) -> Retries {
    Retries::new(line.client.backoff(), Random::new(), line.client.options().timeout)
}

/// An id as Kafka's clients make them up: 128 random bits, none of which says what it is not.
fn unique_id() -> String {
    let mut random = Random::new();
    let bits = u128::from(random.next()) << 64 | u128::from(Random::new().next());
    Uuid(bits.to_be_bytes()).to_string()
}

/// A pattern that matches whole names.
fn compiled(pattern: &str) -> Result<Regex, ClientError> {
    let wrong = |error: regex::Error| {
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default();
        let why = last.trim_start_matches("error: ");
        ClientError::InvalidGroup(format!("\"{pattern}\" is no regular expression: {why}"))
    };
    // Alone first: `a)(b` would be well-formed between the parentheses below.
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build().map_err(wrong)?;
    let whole = format!("^(?:{pattern})$");
    RegexBuilder::new(&whole).size_limit(PATTERN_BYTES_MAX).build().map_err(wrong)
}
