//! A member of a group of the classic protocol: joins, learns or decides who reads what, lives by its
//! heartbeats, and joins again whenever anything changes. Pure.
//!
//! ```text
//!           ┌────────────── anything changes ────────────────┐
//!           ▼                                                │
//! let go ─► Join ─► (leader: count and share out) ─► Sync ─► take on ─► heartbeats
//! ```
//!
//! What always holds:
//! - With an eager assignor the reader has nothing while a Join is on its way; with a cooperative one
//!   it keeps what it has, and lets go of what the new assignment does not give it before it takes
//!   what is new (KIP-429).
//! - Whatever the reader has when the membership ends without its doing is lost, and told so.
//! - One request of Join, Sync is on its way at a time, and one heartbeat.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sawlog_protocol::ErrorCode;

use super::assignor::{Assignor, Layout, Subscriber, assign};
use super::membership::{
    Action, Claims, Identity, JoinFailure, Joined, Leaving, Membership, Partitions, REASON_CLOSED,
    REASON_NOT_POLLED, Reply, Step, StepKind, Trouble, Wanted,
};
use super::retries::Retries;
use crate::error::ClientError;

/// What does not change while a member lives.
#[derive(Debug)]
pub(crate) struct ClassicOptions {
    pub(crate) is_static: bool,
    pub(crate) heartbeat_interval: Duration,
    /// In order of preference; not empty.
    pub(crate) assignors: Vec<Assignor>,
    /// Whether it says where it stands: then it matters to it where replicas do.
    pub(crate) has_rack: bool,
}

/// Where it is on its way into a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// In one, or outside.
    Nowhere,
    Joining,
    /// The leader asks how many partitions there are to share out.
    Counting {
        members: Vec<Subscriber>,
        is_asked: bool,
    },
    /// The leader has shared them out.
    Shared {
        shares: Vec<(Arc<str>, Partitions)>,
    },
    Syncing,
}

/// How long a member that is to leave waits for a rebalance under way.
const STAY: Duration = Duration::from_secs(5);

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
pub(crate) struct Classic {
    options: ClassicOptions,
    retries: Retries,
    wanted: Wanted,
    member: Arc<str>,
    /// -1 outside.
    generation: i32,
    way: Way,
    /// Of the generation.
    assignor: Option<Assignor>,
    is_leader: bool,
    /// What the reader has, the step under way included.
    owned: Partitions,
    owned_generation: i32,
    /// What it was assigned last.
    previous: Partitions,
    /// Assigned; not yet reached.
    target: Option<Partitions>,
    /// The reader is at it.
    step: Option<StepKind>,
    hurried: bool,
    /// What it has is no longer its own.
    is_lost: bool,
    rejoin: Option<String>,
    heartbeat_at: Option<Instant>,
    is_beating: bool,
    is_polled: bool,
    /// It has yet to say that it leaves because it is not polled.
    goodbye: bool,
    is_leaving: bool,
    end: Option<End>,
    /// How long it stays for a rebalance under way although it is to leave.
    stay_until: Option<Instant>,
    /// Of the leader: what the group reads, and which partitions were shared out.
    topics: BTreeSet<Arc<str>>,
    layout: Option<Layout>,
    find_coordinator: bool,
    reports: Vec<ClientError>,
}

impl Classic {
    pub(crate) fn new(options: ClassicOptions, wanted: Wanted, retries: Retries) -> Self {
        Self {
            options,
            retries,
            wanted,
            member: Arc::from(""),
            generation: -1,
            way: Way::Nowhere,
            assignor: None,
            is_leader: false,
            owned: Partitions::new(),
            owned_generation: -1,
            previous: Partitions::new(),
            target: None,
            step: None,
            hurried: false,
            is_lost: false,
            rejoin: Some("joining for the first time".to_owned()),
            heartbeat_at: None,
            is_beating: false,
            is_polled: true,
            goodbye: false,
            is_leaving: false,
            end: None,
            stay_until: None,
            topics: BTreeSet::new(),
            layout: None,
            find_coordinator: false,
            reports: Vec::new(),
        }
    }

    /// Whether what it has is kept while it joins again: all members must be able to.
    fn is_cooperative(&self) -> bool {
        self.options.assignors.iter().all(|one| one.is_cooperative())
    }

    fn join_again(&mut self, why: impl Into<String>) {
        if self.rejoin.is_none() {
            self.rejoin = Some(why.into());
        }
    }

    /// It is out: what it has is lost. `forget` also its id.
    fn out(&mut self, why: &str, forget: bool) {
        self.generation = -1;
        self.way = Way::Nowhere;
        self.target = None;
        self.is_leader = false;
        self.heartbeat_at = None;
        self.is_lost = true;
        if forget {
            self.member = Arc::from("");
        }
        self.join_again(why);
    }

    /// What to do about an error other than those a request has an answer of its own to.
    fn troubled(&mut self, error: ClientError, now: Instant) {
        match Trouble::of(&error) {
            Trouble::Coordinator => {
                self.find_coordinator = true;
                self.reports.extend(self.retries.failed(error, now));
            }
            Trouble::Again => self.reports.extend(self.retries.failed(error, now)),
            Trouble::Rebalance => self.join_again("the group rebalances"),
            Trouble::Unknown => self.out("the coordinator does not know the member", true),
            Trouble::Outdated => self.out("the member's generation is over", false),
            Trouble::Fenced => {
                self.out("another member took over the instance id", true);
                self.end = Some(End::Fenced);
                self.reports.push(error);
            }
            Trouble::Refused => {
                self.retries.refused(now);
                self.reports.push(error);
            }
        }
    }

    fn take(&mut self, kind: StepKind, partitions: Partitions) -> Action {
        self.step = Some(kind);
        self.hurried = false;
        match kind {
            StepKind::Assign => self.owned.extend(partitions.iter().cloned()),
            StepKind::Revoke | StepKind::Lose => {
                self.owned.retain(|key| !partitions.contains(key));
            }
        }
        let owned = self.owned.clone();
        Action::Step(Step { kind, partitions, owned, generation: self.owned_generation })
    }

    /// The reader has something that is lost, or has yet to let go of.
    fn next_loss(&mut self) -> Option<Action> {
        if !std::mem::take(&mut self.is_lost) || self.owned.is_empty() {
            return None;
        }
        let all = self.owned.clone();
        Some(self.take(StepKind::Lose, all))
    }

    /// Whether it waits for a rebalance before it leaves, to commit in the generation that begins.
    fn stays(&self, now: Instant) -> bool {
        self.way != Way::Nowhere && self.stay_until.is_some_and(|until| now < until)
    }

    fn next_end(&mut self, end: End, now: Instant) -> Option<Action> {
        match end {
            End::Leaving(_) if self.is_leaving => None,
            End::Leaving(_) if self.stays(now) => self.next_request(now),
            End::Leaving(_) if !self.owned.is_empty() => {
                self.way = Way::Nowhere;
                let all = self.owned.clone();
                Some(self.take(StepKind::Revoke, all))
            }
            End::Leaving(leaving) => {
                self.way = Way::Nowhere;
                if self.member.is_empty() || leaving == Leaving::ToComeBack {
                    self.end = Some(End::Said);
                    return Some(Action::Done);
                }
                self.is_leaving = true;
                Some(Action::Leave { leaving, reason: REASON_CLOSED })
            }
            End::Said | End::Fenced => Some(Action::Done),
        }
    }

    /// The way to a new generation.
    fn next_join(&mut self, now: Instant) -> Option<Action> {
        let reason = self.rejoin.clone()?;
        if !self.is_cooperative() && !self.owned.is_empty() {
            let all = self.owned.clone();
            return Some(self.take(StepKind::Revoke, all));
        }
        let is_unwanted = |key: &&(Arc<str>, i32)| !self.wanted.topics.contains(&key.0);
        let unwanted: Partitions = self.owned.iter().filter(is_unwanted).cloned().collect();
        if !unwanted.is_empty() {
            return Some(self.take(StepKind::Revoke, unwanted));
        }
        if !self.retries.may_try(now) {
            return None;
        }
        self.rejoin = None;
        self.way = Way::Joining;
        let (owned, previous) = (self.owned.clone(), self.previous.clone());
        let claims = Claims { owned, owned_generation: self.owned_generation, previous };
        Some(Action::Join { topics: self.wanted.topics.clone(), claims, reason })
    }

    /// From what it has to what it was assigned.
    fn next_change(&mut self) -> Option<Action> {
        let target = self.target.as_ref()?;
        let revoked: Partitions = self.owned.difference(target).cloned().collect();
        if !revoked.is_empty() {
            // Somebody waits for them: once they are free, the group shares them out again.
            self.join_again("partitions that change hands are free");
            return Some(self.take(StepKind::Revoke, revoked));
        }
        let added = target.difference(&self.owned).cloned().collect();
        self.target = None;
        Some(self.take(StepKind::Assign, added))
    }

    fn next_request(&mut self, now: Instant) -> Option<Action> {
        match &mut self.way {
            Way::Counting { is_asked, .. } => {
                let asks = !std::mem::replace(is_asked, true);
                return asks.then(|| Action::Count { topics: self.topics.clone() });
            }
            Way::Shared { shares } => {
                let shares = std::mem::take(shares);
                self.way = Way::Syncing;
                let protocol = self.assignor.map_or("", Assignor::name);
                return Some(Action::Sync { protocol, shares });
            }
            Way::Nowhere | Way::Joining | Way::Syncing => {}
        }
        let is_due = self.heartbeat_at.is_some_and(|at| at <= now);
        if is_due && self.way == Way::Nowhere && self.generation >= 0 && !self.is_beating {
            self.is_beating = true;
            self.heartbeat_at = Some(now + self.options.heartbeat_interval);
            return Some(Action::Heartbeat);
        }
        None
    }

    fn joined(&mut self, joined: Joined, now: Instant) {
        (self.member, self.generation) = (joined.member, joined.generation);
        let Some(assignor) = Assignor::named(&joined.protocol) else {
            self.way = Way::Nowhere;
            self.join_again("the group shares out in a way unknown here");
            let message = format!("the group shares out by \"{}\"", joined.protocol);
            let code = ErrorCode::INCONSISTENT_GROUP_PROTOCOL;
            return self.troubled(ClientError::broker(code, Some(&message)), now);
        };
        (self.assignor, self.is_leader) = (Some(assignor), joined.is_leader);
        self.layout = None;
        self.topics = joined.members.iter().flat_map(|one| one.topics.iter().cloned()).collect();
        self.way = if joined.is_leader && !joined.skip_assignment {
            Way::Counting { members: joined.members, is_asked: false }
        } else {
            Way::Shared { shares: Vec::new() }
        };
    }

    fn join_failed(&mut self, failure: JoinFailure, now: Instant) {
        self.way = Way::Nowhere;
        match (failure.error.code(), failure.member) {
            (Some(ErrorCode::MEMBER_ID_REQUIRED), Some(member)) => {
                self.member = member;
                self.join_again("joining with the id that was given");
            }
            _ => {
                self.join_again("the join before failed");
                self.troubled(failure.error, now);
            }
        }
    }

    fn shared_out(&mut self, layout: Layout) {
        let (Way::Counting { members, .. }, Some(assignor)) = (&self.way, self.assignor) else {
            return;
        };
        let shares = assign(assignor, members, &layout);
        let shares =
            members.iter().zip(shares).map(|(one, share)| (one.member.clone(), share)).collect();
        self.way = Way::Shared { shares };
        self.layout = Some(layout);
    }

    fn synced(&mut self, target: Partitions, now: Instant) {
        self.way = Way::Nowhere;
        self.retries.succeeded();
        self.heartbeat_at = Some(now + self.options.heartbeat_interval);
        self.owned_generation = self.generation;
        self.previous.clone_from(&target);
        if target.iter().any(|key| !self.wanted.topics.contains(&key.0)) {
            self.join_again("the subscription changed meanwhile");
        }
        let wanted = &self.wanted.topics;
        self.target = Some(target.into_iter().filter(|key| wanted.contains(&key.0)).collect());
    }
}

impl Membership for Classic {
    fn next(&mut self, now: Instant) -> Option<Action> {
        if let Some(error) = self.reports.pop() {
            return Some(Action::Report(error));
        }
        if std::mem::take(&mut self.find_coordinator) {
            return Some(Action::FindCoordinator);
        }
        // Not after the reader: it may be away for long.
        if std::mem::take(&mut self.goodbye) && !self.member.is_empty() && !self.options.is_static {
            self.is_leaving = true;
            let leaving = Leaving::ForGood;
            return Some(Action::Leave { leaving, reason: REASON_NOT_POLLED });
        }
        if self.step.is_some() {
            if self.is_lost && !std::mem::replace(&mut self.hurried, true) {
                return Some(Action::Hurry);
            }
            // The member lives while its reader takes the step.
            return self.next_request(now);
        }
        if let Some(action) = self.next_loss() {
            return Some(action);
        }
        if let Some(end) = self.end {
            return self.next_end(end, now);
        }
        if !self.is_polled || self.is_leaving {
            return None;
        }
        if let Some(action) = self.next_change() {
            return Some(action);
        }
        if self.way == Way::Nowhere
            && let Some(action) = self.next_join(now)
        {
            return Some(action);
        }
        self.next_request(now)
    }

    fn timer(&self) -> Option<Instant> {
        let beats = self.way == Way::Nowhere && self.generation >= 0 && !self.is_beating;
        let heartbeat = self.heartbeat_at.filter(|_| beats);
        let waits = self.way == Way::Nowhere && self.rejoin.is_some() && self.step.is_none();
        let retry = self.retries.not_before().filter(|_| waits && self.is_polled);
        if self.is_leaving || (self.end.is_some() && self.step.is_none()) {
            return self.stay_until.filter(|_| self.way != Way::Nowhere && !self.is_leaving);
        }
        heartbeat.into_iter().chain(retry).min()
    }

    fn replied(&mut self, reply: Reply, now: Instant) {
        match reply {
            Reply::Beaten(outcome) => {
                self.is_beating = false;
                match outcome {
                    Ok(()) if self.way == Way::Nowhere => self.retries.succeeded(),
                    // An answer to a generation before says nothing of this one.
                    Ok(()) => {}
                    Err(error) if self.generation >= 0 && self.way == Way::Nowhere => {
                        self.troubled(error, now);
                        // Soon again: the session goes on meanwhile.
                        let soon = self.retries.not_before();
                        self.heartbeat_at = match (self.heartbeat_at, soon) {
                            (Some(at), Some(soon)) => Some(at.min(soon)),
                            (at, _) => at,
                        };
                    }
                    Err(_) => {}
                }
            }
            Reply::Left => {
                self.is_leaving = false;
                self.member = Arc::from("");
                if matches!(self.end, Some(End::Leaving(_))) {
                    self.end = Some(End::Said);
                }
            }
            // What was asked before the membership ended is of no use.
            _ if self.way == Way::Nowhere => {}
            Reply::Joined(Ok(joined)) => self.joined(joined, now),
            Reply::Joined(Err(failure)) => self.join_failed(failure, now),
            Reply::Counted(Ok(layout)) => self.shared_out(layout),
            Reply::Synced(Ok(target)) => self.synced(target, now),
            Reply::Counted(Err(error)) | Reply::Synced(Err(error)) => {
                self.way = Way::Nowhere;
                self.join_again("the group was not shared out");
                self.troubled(error, now);
            }
            Reply::Told(_) | Reply::Named(_) => {}
        }
    }

    fn settled(&mut self, _: Instant) {
        self.step = None;
    }

    fn commit_refused(&mut self, identity: &Identity, code: ErrorCode, _: Instant) {
        if *identity != self.identity() || self.generation < 0 {
            return;
        }
        match Trouble::of_code(code) {
            Trouble::Unknown => self.out("a commit was refused: unknown member", true),
            Trouble::Outdated => self.out("a commit was refused: former generation", false),
            Trouble::Fenced => {
                self.out("another member took over the instance id", true);
                self.end = Some(End::Fenced);
                self.reports.push(ClientError::broker(code, None));
            }
            Trouble::Rebalance => self.join_again("the group rebalances"),
            Trouble::Coordinator | Trouble::Again | Trouble::Refused => {}
        }
    }

    fn want(&mut self, wanted: Wanted) {
        if self.wanted != wanted {
            self.wanted = wanted;
            self.join_again("the subscription changed");
        }
    }

    fn counted(&mut self, layout: &Layout) {
        // Of an assignment that the broker kept (KIP-814) this is the first word.
        let known = self.layout.get_or_insert_with(|| layout.clone());
        let other_racks = self.options.has_rack && known.racks != layout.racks;
        let differs = known.counts != layout.counts || other_racks;
        if self.is_leader && self.way == Way::Nowhere && differs {
            self.join_again("topics have other partitions than when they were shared out");
        }
    }

    fn not_polled(&mut self) {
        if std::mem::replace(&mut self.is_polled, false) {
            self.out("the consumer is polled again", false);
            self.goodbye = true;
        }
    }

    fn polled(&mut self) {
        self.is_polled = true;
    }

    fn close(&mut self, leaving: Leaving, now: Instant) {
        self.end.get_or_insert(End::Leaving(leaving));
        self.target = None;
        if self.owned.is_empty() {
            // An answer to a Join must not bring it back in.
            self.way = Way::Nowhere;
        } else {
            // Its progress can be committed again once the generation is complete.
            self.stay_until = Some(now + STAY);
        }
    }

    fn identity(&self) -> Identity {
        Identity { member: self.member.clone(), generation: self.generation, is_epoch: false }
    }

    fn watched(&self) -> BTreeSet<Arc<str>> {
        if self.is_leader { self.topics.clone() } else { BTreeSet::new() }
    }
}
