//! Seeded groups of members against a coordinator of a few lines, with requests that get lost,
//! members that die and readers that stay away. No clock, no socket.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sawlog_protocol::ErrorCode;

use super::assignor::{Assignor, PartitionCounts, Subscriber};
use super::classic::{Classic, ClassicOptions};
use super::membership::{
    Action, JoinFailure, Joined, Leaving, Membership, Partitions, Reply, Step, StepKind, Wanted,
};
use super::retries::Retries;
use crate::backoff::{Backoff, Random};
use crate::error::ClientError;

const INTERVAL: Duration = Duration::from_millis(100);
const SESSION: Duration = Duration::from_secs(1);
const REBALANCE: Duration = Duration::from_secs(2);

/// A member as the coordinator knows it.
#[derive(Debug)]
struct Known {
    seen_at: Instant,
    joined: Option<Subscriber>,
    share: Option<Partitions>,
}

/// A group coordinator: joins gather until everybody is there, then the leader shares out.
#[derive(Debug)]
struct Coordinator {
    known: BTreeMap<Arc<str>, Known>,
    generation: i32,
    /// Since when it waits for joins.
    gathering: Option<Instant>,
    is_shared: bool,
    assignor: Assignor,
    next_id: u32,
}

fn refused(code: ErrorCode) -> ClientError {
    ClientError::broker(code, None)
}

impl Coordinator {
    fn leader(&self) -> Option<Arc<str>> {
        self.known.keys().next().cloned()
    }

    fn gather(&mut self, now: Instant) {
        self.gathering.get_or_insert(now);
        for member in self.known.values_mut() {
            member.share = None;
        }
        self.is_shared = false;
    }

    /// Sessions end; who does not come to a rebalance in time is out.
    fn tick(&mut self, now: Instant) {
        let before = self.known.len();
        let joining = self.gathering.is_some();
        self.known.retain(|_, one| {
            (joining && one.joined.is_some())
                || now.saturating_duration_since(one.seen_at) < SESSION
        });
        if let Some(since) =
            self.gathering.filter(|since| now.saturating_duration_since(*since) >= REBALANCE)
        {
            let _ = since;
            self.known.retain(|_, one| one.joined.is_some());
        }
        if self.known.is_empty() {
            self.gathering = None;
        }
        if self.known.len() != before && self.gathering.is_none() && !self.known.is_empty() {
            self.gather(now);
        }
    }

    /// Whether all have joined; the generation begins then.
    fn complete(&mut self, now: Instant) -> bool {
        if self.gathering.is_none() || self.known.is_empty() {
            return false;
        }
        if self.known.values().any(|one| one.joined.is_none()) {
            return false;
        }
        self.gathering = None;
        self.generation += 1;
        for one in self.known.values_mut() {
            one.seen_at = now;
        }
        true
    }
}

/// A member of the test: its machine, its reader, and what is on its way.
#[derive(Debug)]
struct Player {
    machine: Classic,
    wanted: BTreeSet<Arc<str>>,
    /// What the reader has, by the steps it took.
    has: Partitions,
    step: Option<(Step, Instant)>,
    joining: Option<Subscriber>,
    /// The generation a sync waits in.
    syncing: Option<i32>,
    replies: Vec<Reply>,
    is_away: bool,
    reports: usize,
    is_over: bool,
}

struct World {
    random: Random,
    now: Instant,
    coordinator: Coordinator,
    players: Vec<Player>,
    counts: PartitionCounts,
    loss: u64,
}

impl World {
    fn new(seed: u64, assignor: Assignor) -> Self {
        let counts = PartitionCounts::from([(Arc::from("a"), 5), (Arc::from("b"), 3)]);
        let coordinator = Coordinator {
            known: BTreeMap::new(),
            generation: 0,
            gathering: None,
            is_shared: false,
            assignor,
            next_id: 0,
        };
        let (now, random) = (Instant::now(), Random::seeded(seed));
        Self { random, now, coordinator, players: Vec::new(), counts, loss: 0 }
    }

    fn join(&mut self) {
        let backoff =
            Backoff { first: Duration::from_millis(20), longest: Duration::from_millis(200) };
        let retries =
            Retries::new(backoff, Random::seeded(self.random.next()), Duration::from_secs(60));
        let options = ClassicOptions {
            is_static: false,
            heartbeat_interval: INTERVAL,
            assignors: vec![self.coordinator.assignor],
            has_rack: false,
        };
        let wanted: BTreeSet<Arc<str>> = self.counts.keys().cloned().collect();
        let machine =
            Classic::new(options, Wanted { topics: wanted.clone(), pattern: None }, retries);
        self.players.push(Player {
            machine,
            wanted,
            has: Partitions::new(),
            step: None,
            joining: None,
            syncing: None,
            replies: Vec::new(),
            is_away: false,
            reports: 0,
            is_over: false,
        });
    }

    fn is_lost(&mut self) -> bool {
        self.random.below(100) < self.loss
    }

    /// Some time passes and everything that can happen does.
    fn turn(&mut self) {
        self.now += Duration::from_millis(1 + self.random.below(20));
        self.coordinator.tick(self.now);
        for at in 0..self.players.len() {
            self.steps(at);
            let replies = std::mem::take(&mut self.players[at].replies);
            for reply in replies {
                self.players[at].machine.replied(reply, self.now);
            }
            for round in 0.. {
                if self.players[at].is_over {
                    break;
                }
                assert!(round < 50, "it does not come to rest: {:?}", self.players[at].machine);
                let Some(action) = self.players[at].machine.next(self.now) else { break };
                self.act(at, action);
            }
            if let Some(timer) =
                self.players[at].machine.timer().filter(|_| !self.players[at].is_over)
            {
                assert!(
                    timer > self.now,
                    "a timer in the past is a busy loop: {:?}",
                    self.players[at].machine
                );
            }
        }
        if self.coordinator.complete(self.now) {
            self.begin_generation();
        }
        self.check();
    }

    /// The reader takes its step after a while, unless it is away.
    fn steps(&mut self, at: usize) {
        let player = &mut self.players[at];
        let is_due = player.step.as_ref().is_some_and(|(_, until)| *until <= self.now);
        if !is_due || player.is_away {
            return;
        }
        let Some((step, _)) = player.step.take() else { return };
        match step.kind {
            StepKind::Assign => player.has.extend(step.partitions),
            StepKind::Revoke | StepKind::Lose => {
                player.has.retain(|key| !step.partitions.contains(key));
            }
        }
        assert_eq!(player.has, step.owned, "what is said to be owned is what it has");
        player.machine.settled(self.now);
    }

    fn act(&mut self, at: usize, action: Action) {
        let lost = self.is_lost();
        let connection =
            ClientError::Disconnected { address: String::new(), reason: String::new() };
        match action {
            Action::Join { topics, claims, .. } => {
                let eager = !self.coordinator.assignor.is_cooperative();
                assert!(!eager || self.players[at].has.is_empty(), "eager members own nothing");
                assert_eq!(claims.owned, self.players[at].has);
                if lost {
                    let failure = JoinFailure { error: connection, member: None };
                    return self.players[at].replies.push(Reply::Joined(Err(failure)));
                }
                let member = self.players[at].machine.identity().member;
                let is_sticky = self.coordinator.assignor == Assignor::Sticky;
                let owned = if is_sticky { claims.previous } else { claims.owned };
                let generation = claims.owned_generation;
                let subscriber =
                    Subscriber { member, topics, owned, generation, ..Subscriber::default() };
                self.joins(at, subscriber);
            }
            Action::Count { .. } => {
                let counted = if lost { Err(connection) } else { Ok(self.counts.clone().into()) };
                self.players[at].replies.push(Reply::Counted(counted));
            }
            Action::Sync { protocol, shares } => {
                assert_eq!(protocol, self.coordinator.assignor.name());
                if lost {
                    return self.players[at].replies.push(Reply::Synced(Err(connection)));
                }
                self.syncs(at, shares);
            }
            Action::Heartbeat => {
                let answer = if lost { Err(connection) } else { self.heartbeat(at) };
                self.players[at].replies.push(Reply::Beaten(answer));
            }
            Action::Leave { .. } => {
                let member = self.players[at].machine.identity().member;
                if !lost && self.coordinator.known.remove(&member).is_some() {
                    self.coordinator.gather(self.now);
                }
                self.players[at].replies.push(Reply::Left);
            }
            Action::Step(step) => {
                if step.kind == StepKind::Lose {
                    // Gone at once, whatever the reader is at.
                    self.players[at].has.retain(|key| !step.partitions.contains(key));
                }
                let until = self.now + Duration::from_millis(self.random.below(60));
                assert!(self.players[at].step.replace((step, until)).is_none(), "one at a time");
            }
            Action::Hurry | Action::FindCoordinator => {}
            Action::Report(_) => self.players[at].reports += 1,
            Action::Done => self.players[at].is_over = true,
            Action::Tell(_) | Action::Name { .. } => panic!("of the other protocol"),
        }
    }

    fn joins(&mut self, at: usize, mut subscriber: Subscriber) {
        let member = subscriber.member.clone();
        if member.is_empty() {
            let coordinator = &mut self.coordinator;
            coordinator.next_id += 1;
            let given: Arc<str> = Arc::from(format!("m{}", coordinator.next_id));
            let known = Known { seen_at: self.now, joined: None, share: None };
            coordinator.known.insert(given.clone(), known);
            coordinator.gather(self.now);
            subscriber.member = given.clone();
            let error = refused(ErrorCode::MEMBER_ID_REQUIRED);
            let failure = JoinFailure { error, member: Some(given) };
            return self.players[at].replies.push(Reply::Joined(Err(failure)));
        }
        if !self.coordinator.known.contains_key(&member) {
            let error = refused(ErrorCode::UNKNOWN_MEMBER_ID);
            return self.players[at]
                .replies
                .push(Reply::Joined(Err(JoinFailure { error, member: None })));
        }
        self.coordinator.gather(self.now);
        if let Some(known) = self.coordinator.known.get_mut(&member) {
            (known.seen_at, known.joined) = (self.now, Some(subscriber.clone()));
        }
        self.players[at].joining = Some(subscriber);
        self.players[at].syncing = None;
    }

    /// Everybody is answered; replies may be lost on the way.
    fn begin_generation(&mut self) {
        let members: Vec<Subscriber> =
            self.coordinator.known.values_mut().filter_map(|one| one.joined.take()).collect();
        let leader = self.coordinator.leader();
        for at in 0..self.players.len() {
            let Some(joining) = self.players[at].joining.take() else { continue };
            let is_leader = leader.as_ref() == Some(&joining.member);
            let lost = self.is_lost();
            let reply = if lost || !self.coordinator.known.contains_key(&joining.member) {
                let code =
                    if lost { ErrorCode::NOT_COORDINATOR } else { ErrorCode::UNKNOWN_MEMBER_ID };
                Err(JoinFailure { error: refused(code), member: None })
            } else {
                Ok(Joined {
                    generation: self.coordinator.generation,
                    member: joining.member.clone(),
                    protocol: self.coordinator.assignor.name().to_owned(),
                    members: if is_leader { members.clone() } else { Vec::new() },
                    is_leader,
                    skip_assignment: false,
                })
            };
            self.players[at].replies.push(Reply::Joined(reply));
        }
    }

    fn syncs(&mut self, at: usize, shares: Vec<(Arc<str>, Partitions)>) {
        let identity = self.players[at].machine.identity();
        if let Err(error) = self.knows(&identity.member, identity.generation) {
            return self.players[at].replies.push(Reply::Synced(Err(error)));
        }
        if !shares.is_empty() {
            for (member, share) in shares {
                if let Some(known) = self.coordinator.known.get_mut(&member) {
                    known.share = Some(share);
                }
            }
            self.coordinator.is_shared = true;
        }
        self.players[at].syncing = Some(identity.generation);
    }

    fn knows(&mut self, member: &Arc<str>, generation: i32) -> Result<(), ClientError> {
        let Some(known) = self.coordinator.known.get_mut(member) else {
            return Err(refused(ErrorCode::UNKNOWN_MEMBER_ID));
        };
        known.seen_at = self.now;
        if generation != self.coordinator.generation {
            return Err(refused(ErrorCode::ILLEGAL_GENERATION));
        }
        if self.coordinator.gathering.is_some() {
            return Err(refused(ErrorCode::REBALANCE_IN_PROGRESS));
        }
        Ok(())
    }

    fn heartbeat(&mut self, at: usize) -> Result<(), ClientError> {
        let identity = self.players[at].machine.identity();
        self.knows(&identity.member, identity.generation)
    }

    /// Answers syncs, and checks that no partition has two owners that could both be right.
    fn check(&mut self) {
        for at in 0..self.players.len() {
            let Some(generation) = self.players[at].syncing else { continue };
            let member = self.players[at].machine.identity().member;
            let reply = match self.knows(&member, generation) {
                Err(error) => Err(error),
                Ok(()) if !self.coordinator.is_shared => continue,
                Ok(()) => {
                    let known = self.coordinator.known.get(&member);
                    Ok(known.and_then(|one| one.share.clone()).unwrap_or_default())
                }
            };
            self.players[at].syncing = None;
            self.players[at].replies.push(Reply::Synced(reply));
        }
        // A member the coordinator has thrown out cannot know; all others must not overlap.
        let mut owners: BTreeMap<_, usize> = BTreeMap::new();
        for (at, player) in self.players.iter().enumerate() {
            if self.coordinator.known.contains_key(&player.machine.identity().member) {
                for key in &player.has {
                    let before = owners.insert(key.clone(), at);
                    assert_eq!(before, None, "{key:?} has two owners: {at} and {before:?}");
                }
            }
        }
    }

    /// Whether every partition is with somebody and nobody is on the way anywhere.
    fn is_settled(&self) -> bool {
        let has: usize = self.players.iter().map(|player| player.has.len()).sum();
        let all: i32 = self.counts.values().sum();
        has == usize::try_from(all).expect("few")
            && self.coordinator.gathering.is_none()
            && self.players.iter().all(|player| player.step.is_none())
    }

    fn settle(&mut self, seed: u64) {
        self.loss = 0;
        for _ in 0..3_000 {
            if self.is_settled() {
                return;
            }
            self.turn();
            self.players.retain(|player| !player.is_over);
            if self.players.is_empty() {
                self.join();
            }
        }
        panic!("seed {seed}: it does not settle: {:#?}", self.players);
    }
}

#[test]
fn groups_settle_and_no_partition_has_two_owners_whatever_is_lost() {
    for seed in 0..200 {
        let three = [Assignor::Range, Assignor::CooperativeSticky, Assignor::Sticky];
        let assignor = three[usize::try_from(seed % 3).expect("few")];
        let mut world = World::new(seed, assignor);
        world.join();
        world.settle(seed);
        for _ in 0..6 {
            world.loss = world.random.below(30);
            match world.random.below(6) {
                0 | 1 => world.join(),
                2 if world.players.len() > 1 => {
                    // It dies: its session has to end.
                    world.players.pop();
                }
                3 => {
                    let at = usize::try_from(world.random.below(world.players.len() as u64));
                    let now = world.now;
                    world.players[at.expect("few")].machine.close(Leaving::ForGood, now);
                }
                4 => *world.counts.values_mut().next().expect("one") += 1,
                _ => {
                    let player = &mut world.players[0];
                    player.is_away = true;
                    player.machine.not_polled();
                }
            }
            let counts = world.counts.clone();
            for player in &mut world.players {
                player.machine.counted(&counts.clone().into());
            }
            for _ in 0..world.random.below(200) {
                world.turn();
            }
            for player in &mut world.players {
                if std::mem::take(&mut player.is_away) {
                    player.machine.polled();
                }
            }
            let counts = world.counts.clone();
            for player in &mut world.players {
                player.machine.counted(&counts.clone().into());
            }
            world.settle(seed);
            for player in &world.players {
                assert!(player.has.iter().all(|key| player.wanted.contains(&key.0)));
            }
        }
        let reports: usize = world.players.iter().map(|player| player.reports).sum();
        assert_eq!(reports, 0, "seed {seed}: what passes is not told");
    }
}
