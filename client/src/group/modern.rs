//! A member of a group of the consumer protocol (KIP-848): the broker shares out, and the member
//! follows. Pure.
//!
//! Heartbeats carry everything: what the member wants and owns on the way there, its epoch and what it
//! shall have on the way back. What differs it lets go of first, says so, and takes what is new, which
//! nobody else has any more:
//!
//! ```text
//!  told {1, 2}, owns {2, 3}:  revoke 3 ─► say {2} ─► assign 1 ─► say {1, 2}
//! ```
//!
//! What always holds:
//! - What the member says to own, and no more, is with its reader, or on the way there.
//! - It joins, with epoch 0, owning nothing: what it had when it was fenced is lost first.
//! - One heartbeat is on its way at a time. After one that failed the next says everything again,
//!   because nobody knows what of it arrived.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sawlog_protocol::{ErrorCode, Uuid};

use super::assignor::Layout;
use super::membership::{
    Action, Heartbeat, Identity, Leaving, Membership, Partitions, REASON_CLOSED, REASON_NOT_POLLED,
    Reply, Step, StepKind, Told, Trouble, Wanted,
};
use super::retries::Retries;
use crate::error::ClientError;

/// Partitions by the ids of their topics.
type ById = BTreeMap<Uuid, BTreeSet<i32>>;

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It is to leave; `Said` once it did.
    Leaving(Leaving),
    Said,
    /// Another has its instance id.
    Fenced,
}

/// One member.
#[derive(Debug)]
pub(crate) struct Modern {
    is_static: bool,
    retries: Retries,
    /// Of looking up names.
    naming: Retries,
    wanted: Wanted,
    member: Arc<str>,
    /// 0 outside.
    epoch: i32,
    interval: Duration,
    heartbeat_at: Option<Instant>,
    is_beating: bool,
    /// The answer to the heartbeat under way is about a membership that is over.
    is_void: bool,
    says_wanted: bool,
    /// What the coordinator knows it to own; `None` if that is not sure.
    said: Option<ById>,
    target: ById,
    names: BTreeMap<Uuid, Arc<str>>,
    is_naming: bool,
    /// What the reader has, the step under way included.
    owned: ById,
    /// The same without that: what the member says to own.
    settled: ById,
    step: Option<StepKind>,
    hurried: bool,
    is_lost: bool,
    /// The listener has yet to hear of the epoch.
    is_news: bool,
    is_polled: bool,
    goodbye: bool,
    is_leaving: bool,
    end: Option<End>,
    find_coordinator: bool,
    reports: Vec<ClientError>,
}

impl Modern {
    /// `member` is an id nobody else has.
    pub(crate) fn new(
        (member, is_static): (Arc<str>, bool),
        wanted: Wanted,
        (retries, naming): (Retries, Retries),
    ) -> Self {
        Self {
            is_static,
            retries,
            naming,
            wanted,
            member,
            epoch: 0,
            interval: Duration::ZERO,
            heartbeat_at: None,
            is_beating: false,
            is_void: false,
            says_wanted: true,
            said: None,
            target: ById::new(),
            names: BTreeMap::new(),
            is_naming: false,
            owned: ById::new(),
            settled: ById::new(),
            step: None,
            hurried: false,
            is_lost: false,
            is_news: false,
            is_polled: true,
            goodbye: false,
            is_leaving: false,
            end: None,
            find_coordinator: false,
            reports: Vec::new(),
        }
    }

    /// It is out: what it has is lost.
    fn out(&mut self) {
        self.epoch = 0;
        self.is_void = self.is_beating;
        self.target.clear();
        (self.said, self.says_wanted) = (None, true);
        self.heartbeat_at = None;
        (self.is_lost, self.is_news) = (true, false);
    }

    fn troubled(&mut self, error: ClientError, now: Instant) {
        (self.said, self.says_wanted) = (None, true);
        match Trouble::of(&error) {
            Trouble::Coordinator => {
                self.find_coordinator = true;
                self.reports.extend(self.retries.failed(error, now));
            }
            Trouble::Again | Trouble::Rebalance => {
                self.reports.extend(self.retries.failed(error, now));
            }
            Trouble::Unknown | Trouble::Outdated => self.out(),
            Trouble::Fenced => self.fenced(error),
            Trouble::Refused => {
                self.retries.refused(now);
                self.reports.push(error);
            }
        }
    }

    fn fenced(&mut self, error: ClientError) {
        self.out();
        self.end = Some(End::Fenced);
        self.reports.push(error);
    }

    fn named(&self, by_id: &ById) -> Partitions {
        let mut partitions = Partitions::new();
        for (id, indexes) in by_id {
            if let Some(name) = self.names.get(id) {
                partitions.extend(indexes.iter().map(|index| (name.clone(), *index)));
            }
        }
        partitions
    }

    fn take(&mut self, kind: StepKind, change: &ById) -> Action {
        self.step = Some(kind);
        self.hurried = false;
        self.is_news = false;
        match kind {
            StepKind::Assign => {
                for (id, indexes) in change {
                    self.owned.entry(*id).or_default().extend(indexes);
                }
            }
            StepKind::Revoke | StepKind::Lose => self.owned = difference(&self.owned, change),
        }
        let (partitions, owned) = (self.named(change), self.named(&self.owned));
        Action::Step(Step { kind, partitions, owned, generation: self.epoch })
    }

    fn next_loss(&mut self) -> Option<Action> {
        if !std::mem::take(&mut self.is_lost) || self.owned.is_empty() {
            return None;
        }
        let all = self.owned.clone();
        Some(self.take(StepKind::Lose, &all))
    }

    fn next_end(&mut self, end: End) -> Option<Action> {
        match end {
            End::Leaving(_) if self.is_leaving => None,
            End::Leaving(_) if !self.owned.is_empty() => {
                let all = self.owned.clone();
                Some(self.take(StepKind::Revoke, &all))
            }
            // A heartbeat under way may be the one that joins.
            End::Leaving(_) if self.epoch == 0 && !self.is_beating => {
                self.end = Some(End::Said);
                Some(Action::Done)
            }
            End::Leaving(leaving) => {
                self.is_leaving = true;
                Some(Action::Leave { leaving, reason: REASON_CLOSED })
            }
            End::Said | End::Fenced => Some(Action::Done),
        }
    }

    /// From what it has to what it shall have, as far as names are known.
    fn next_change(&mut self, now: Instant) -> Option<Action> {
        let gone = difference(&self.owned, &self.target);
        if !gone.is_empty() {
            return Some(self.take(StepKind::Revoke, &gone));
        }
        let unnamed: BTreeSet<Uuid> =
            self.target.keys().filter(|id| !self.names.contains_key(id)).copied().collect();
        if !unnamed.is_empty() && !self.is_naming && self.naming.may_try(now) {
            self.is_naming = true;
            return Some(Action::Name { ids: unnamed });
        }
        let mut new = difference(&self.target, &self.owned);
        new.retain(|id, _| self.names.contains_key(id));
        (!new.is_empty() || self.is_news).then(|| self.take(StepKind::Assign, &new))
    }

    fn next_heartbeat(&mut self, now: Instant) -> Option<Action> {
        if self.is_beating || self.is_leaving || !self.retries.may_try(now) {
            return None;
        }
        let changed = self.said.as_ref() != Some(&self.settled);
        let is_due = self.heartbeat_at.is_none_or(|at| at <= now);
        if !is_due && !changed && !self.says_wanted {
            return None;
        }
        self.is_beating = true;
        self.heartbeat_at = Some(now + self.interval);
        let wanted = std::mem::take(&mut self.says_wanted).then(|| self.wanted.clone());
        let owned = changed.then(|| self.settled.clone());
        if changed {
            self.said.clone_from(&owned);
        }
        let (member, epoch) = (self.member.clone(), self.epoch);
        Some(Action::Tell(Heartbeat { member, epoch, wanted, owned }))
    }

    fn told(&mut self, told: Told, now: Instant) {
        self.retries.succeeded();
        if let Some(member) = told.member.filter(|member| !member.is_empty()) {
            self.member = member;
        }
        if told.epoch != self.epoch {
            (self.epoch, self.is_news) = (told.epoch, true);
        }
        self.interval = told.interval;
        self.heartbeat_at = Some(now + told.interval);
        if let Some(assignment) = told.assignment {
            self.target = assignment;
            self.target.retain(|_, indexes| !indexes.is_empty());
            self.naming.succeeded();
        }
    }
}

/// What is in `left` and not in `right`.
fn difference(left: &ById, right: &ById) -> ById {
    let mut rest = ById::new();
    for (id, indexes) in left {
        let taken = right.get(id);
        let kept: BTreeSet<i32> = indexes
            .iter()
            .copied()
            .filter(|index| taken.is_none_or(|taken| !taken.contains(index)))
            .collect();
        if !kept.is_empty() {
            rest.insert(*id, kept);
        }
    }
    rest
}

impl Membership for Modern {
    fn next(&mut self, now: Instant) -> Option<Action> {
        if let Some(error) = self.reports.pop() {
            return Some(Action::Report(error));
        }
        if std::mem::take(&mut self.find_coordinator) {
            return Some(Action::FindCoordinator);
        }
        // Not after the reader: it may be away for long.
        if std::mem::take(&mut self.goodbye) {
            self.is_leaving = true;
            let leaving = if self.is_static { Leaving::ToComeBack } else { Leaving::ForGood };
            return Some(Action::Leave { leaving, reason: REASON_NOT_POLLED });
        }
        if self.step.is_some() {
            if self.is_lost && !std::mem::replace(&mut self.hurried, true) {
                return Some(Action::Hurry);
            }
            // The member lives while its reader takes the step.
            return if self.epoch > 0 { self.next_heartbeat(now) } else { None };
        }
        if let Some(action) = self.next_loss() {
            return Some(action);
        }
        if let Some(end) = self.end {
            return self.next_end(end);
        }
        if !self.is_polled || self.is_leaving {
            return None;
        }
        if self.epoch > 0 {
            // What was let go of is said before anything else: others wait for it.
            let releases =
                self.said.as_ref().is_some_and(|said| !difference(said, &self.settled).is_empty());
            if releases && let Some(action) = self.next_heartbeat(now) {
                return Some(action);
            }
            if let Some(action) = self.next_change(now) {
                return Some(action);
            }
        }
        self.next_heartbeat(now)
    }

    fn timer(&self) -> Option<Instant> {
        if self.is_leaving || !self.is_polled || (self.end.is_some() && self.step.is_none()) {
            return None;
        }
        if self.step.is_some() && self.epoch == 0 {
            return None;
        }
        let heartbeat = self.heartbeat_at.filter(|_| !self.is_beating);
        let retry = self.retries.not_before().filter(|_| !self.is_beating);
        // A heartbeat waits for both.
        let heartbeat = heartbeat.into_iter().chain(retry).max();
        let waits = !self.is_naming && self.step.is_none() && self.epoch > 0;
        let naming = self.naming.not_before().filter(|_| waits);
        heartbeat.into_iter().chain(naming).min()
    }

    fn replied(&mut self, reply: Reply, now: Instant) {
        match reply {
            Reply::Told(outcome) => {
                self.is_beating = false;
                if std::mem::take(&mut self.is_void) {
                    return;
                }
                match outcome {
                    Ok(told) => self.told(told, now),
                    Err(error) => {
                        self.heartbeat_at = None;
                        self.troubled(error, now);
                    }
                }
            }
            Reply::Named(outcome) => {
                self.is_naming = false;
                match outcome {
                    Ok(names) => {
                        let wanted = self
                            .target
                            .keys()
                            .all(|id| names.contains_key(id) || self.names.contains_key(id));
                        self.names.extend(names);
                        if wanted {
                            self.naming.succeeded();
                        } else {
                            // Deleted, or too new for the broker that was asked.
                            let error = ClientError::broker(ErrorCode::UNKNOWN_TOPIC_ID, None);
                            let _pause = self.naming.failed(error, now);
                        }
                    }
                    Err(error) => self.reports.extend(self.naming.failed(error, now)),
                }
            }
            Reply::Left => {
                self.is_leaving = false;
                self.epoch = 0;
                if matches!(self.end, Some(End::Leaving(_))) {
                    self.end = Some(End::Said);
                }
            }
            Reply::Joined(_) | Reply::Counted(_) | Reply::Synced(_) | Reply::Beaten(_) => {}
        }
    }

    fn settled(&mut self, _: Instant) {
        self.step = None;
        self.settled.clone_from(&self.owned);
        let (owned, target) = (&self.owned, &self.target);
        self.names.retain(|id, _| owned.contains_key(id) || target.contains_key(id));
    }

    fn commit_refused(&mut self, identity: &Identity, code: ErrorCode, _: Instant) {
        // The epoch may be a later one by now; the member is the same or it is not.
        if identity.member != self.member || self.epoch == 0 {
            return;
        }
        match Trouble::of_code(code) {
            Trouble::Unknown => self.out(),
            Trouble::Fenced => self.fenced(ClientError::broker(code, None)),
            // Heartbeats know better which epoch it is.
            Trouble::Outdated
            | Trouble::Rebalance
            | Trouble::Coordinator
            | Trouble::Again
            | Trouble::Refused => {}
        }
    }

    fn want(&mut self, wanted: Wanted) {
        if self.wanted != wanted {
            (self.wanted, self.says_wanted) = (wanted, true);
        }
    }

    fn counted(&mut self, _: &Layout) {}

    fn not_polled(&mut self) {
        if std::mem::replace(&mut self.is_polled, false) {
            self.goodbye = self.epoch > 0;
            self.out();
        }
    }

    fn polled(&mut self) {
        self.is_polled = true;
    }

    fn close(&mut self, leaving: Leaving, _: Instant) {
        self.end.get_or_insert(End::Leaving(leaving));
    }

    fn identity(&self) -> Identity {
        let generation = if self.epoch > 0 { self.epoch } else { -1 };
        Identity { member: self.member.clone(), generation, is_epoch: true }
    }

    fn watched(&self) -> BTreeSet<Arc<str>> {
        BTreeSet::new()
    }
}
