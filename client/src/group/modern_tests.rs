//! Seeded members of the consumer protocol against a coordinator of a few lines: requests and replies
//! get lost, members die, readers stay away. No clock, no socket.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sawlog_protocol::{ErrorCode, Uuid};

use super::membership::{
    Action, Heartbeat, Leaving, Membership, Partitions, Reply, Step, StepKind, Told, Wanted,
};
use super::modern::Modern;
use super::retries::Retries;
use crate::backoff::{Backoff, Random};
use crate::error::ClientError;

const INTERVAL: Duration = Duration::from_millis(100);
const SESSION: Duration = Duration::from_secs(1);

type Indexes = BTreeSet<(Uuid, i32)>;
type ById = BTreeMap<Uuid, BTreeSet<i32>>;

fn flat(by_id: &ById) -> Indexes {
    by_id.iter().flat_map(|(id, all)| all.iter().map(|index| (*id, *index))).collect()
}

fn by_id(indexes: &Indexes) -> ById {
    let mut all = ById::new();
    for (id, index) in indexes {
        all.entry(*id).or_default().insert(*index);
    }
    all
}

/// A member as the coordinator knows it.
#[derive(Debug)]
struct Known {
    epoch: i32,
    former_epoch: i32,
    /// What it may use.
    given: Indexes,
    /// What it says to own.
    owned: Indexes,
    seen_at: Instant,
}

/// A coordinator that deals partitions out in turn.
#[derive(Debug)]
struct Coordinator {
    known: BTreeMap<Arc<str>, Known>,
    epoch: i32,
    partitions: Indexes,
}

fn refused(code: ErrorCode) -> ClientError {
    ClientError::broker(code, None)
}

impl Coordinator {
    fn tick(&mut self, now: Instant) {
        let before = self.known.len();
        self.known.retain(|_, one| now.saturating_duration_since(one.seen_at) < SESSION);
        self.epoch += i32::from(self.known.len() != before);
    }

    fn target(&self, member: &str) -> Indexes {
        let place = self.known.keys().position(|known| **known == *member);
        let dealt = self.partitions.iter().enumerate();
        let own = dealt.filter(|(at, _)| Some(at % self.known.len()) == place);
        own.map(|(_, key)| *key).collect()
    }

    fn heartbeat(&mut self, said: &Heartbeat, now: Instant) -> Result<Told, ClientError> {
        if said.epoch < 0 {
            self.epoch += i32::from(self.known.remove(&said.member).is_some());
            return Ok(self.told(said.epoch, None));
        }
        let joins = said.epoch == 0;
        if joins {
            assert!(said.wanted.is_some(), "who joins says everything");
            assert_eq!(said.owned, Some(ById::new()), "and owns nothing");
            self.known.remove(&said.member);
            self.epoch += 1;
            let nothing = Indexes::new;
            let (given, owned) = (nothing(), nothing());
            let one = Known { epoch: 0, former_epoch: 0, given, owned, seen_at: now };
            self.known.insert(said.member.clone(), one);
        }
        let target = self.target(&said.member);
        let taken: Indexes = {
            let others = self.known.iter().filter(|(member, _)| **member != said.member);
            others.flat_map(|(_, one)| one.given.union(&one.owned).copied()).collect()
        };
        let group_epoch = self.epoch;
        let Some(one) = self.known.get_mut(&said.member) else {
            return Err(refused(ErrorCode::UNKNOWN_MEMBER_ID));
        };
        if !joins && said.epoch != one.epoch && said.epoch != one.former_epoch {
            return Err(refused(ErrorCode::FENCED_MEMBER_EPOCH));
        }
        one.seen_at = now;
        if let Some(owned) = &said.owned {
            one.owned = flat(owned);
        }
        let kept: Indexes = one.given.intersection(&target).copied().collect();
        one.given = if one.owned.is_subset(&kept) || one.given == kept {
            if one.epoch != group_epoch {
                (one.former_epoch, one.epoch) = (one.epoch, group_epoch);
            }
            target.difference(&taken).copied().collect()
        } else {
            kept
        };
        let (epoch, given) = (one.epoch, by_id(&one.given));
        Ok(self.told(epoch, Some(given)))
    }

    fn told(&self, epoch: i32, assignment: Option<ById>) -> Told {
        Told { member: None, epoch, interval: INTERVAL, assignment }
    }
}

#[derive(Debug)]
struct Player {
    machine: Modern,
    has: Partitions,
    step: Option<(Step, Instant)>,
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
    names: BTreeMap<Uuid, Arc<str>>,
    loss: u64,
    next: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let ids = [Uuid([1; 16]), Uuid([2; 16])];
        let partitions = ids.iter().flat_map(|id| (0..4).map(|index| (*id, index))).collect();
        let names = [(ids[0], Arc::from("a")), (ids[1], Arc::from("b"))].into();
        Self {
            random: Random::seeded(seed),
            now: Instant::now(),
            coordinator: Coordinator { known: BTreeMap::new(), epoch: 0, partitions },
            players: Vec::new(),
            names,
            loss: 0,
            next: 0,
        }
    }

    fn join(&mut self) {
        self.next += 1;
        let backoff =
            Backoff { first: Duration::from_millis(20), longest: Duration::from_millis(200) };
        let mut retries = || {
            let random = Random::seeded(self.random.next());
            Retries::new(backoff, random, Duration::from_secs(60))
        };
        let both = (retries(), retries());
        let topics = self.names.values().cloned().collect();
        let member = (Arc::from(format!("m{}", self.next)), false);
        let machine = Modern::new(member, Wanted { topics, pattern: None }, both);
        self.players.push(Player {
            machine,
            has: Partitions::new(),
            step: None,
            replies: Vec::new(),
            is_away: false,
            reports: 0,
            is_over: false,
        });
    }

    fn turn(&mut self) {
        self.now += Duration::from_millis(1 + self.random.below(20));
        self.coordinator.tick(self.now);
        for at in 0..self.players.len() {
            self.steps(at);
            for reply in std::mem::take(&mut self.players[at].replies) {
                self.players[at].machine.replied(reply, self.now);
            }
            for round in 0.. {
                if self.players[at].is_over {
                    break;
                }
                let player = &mut self.players[at];
                assert!(round < 50, "it does not come to rest: {player:?}");
                let Some(action) = player.machine.next(self.now) else { break };
                self.act(at, action);
            }
            let player = &self.players[at];
            let timer = player.machine.timer().filter(|_| !player.is_over);
            assert!(timer.is_none_or(|timer| timer > self.now), "a busy loop: {player:?}");
        }
        self.check();
    }

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
        match action {
            Action::Tell(heartbeat) => {
                let says: Option<Partitions> =
                    heartbeat.owned.as_ref().map(|owned| self.named(owned));
                let has = &self.players[at].has;
                assert!(says.is_none_or(|says| says == *has), "it says what its reader has");
                let reply = self.sends(&heartbeat);
                self.players[at].replies.push(Reply::Told(reply));
            }
            Action::Name { ids } => {
                let mut names = self.names.clone();
                // Metadata may be behind.
                names.retain(|id, _| ids.contains(id) && self.random.below(3) > 0);
                self.players[at].replies.push(Reply::Named(Ok(names)));
            }
            Action::Leave { leaving, .. } => {
                assert_eq!(leaving, Leaving::ForGood);
                let member = self.players[at].machine.identity().member;
                let goodbye = Heartbeat { member, epoch: -1, wanted: None, owned: None };
                let _whatever = self.sends(&goodbye);
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
            other => panic!("of the other protocol: {other:?}"),
        }
    }

    /// A request or its reply may be lost.
    fn sends(&mut self, heartbeat: &Heartbeat) -> Result<Told, ClientError> {
        let lost = || ClientError::Disconnected { address: String::new(), reason: String::new() };
        if self.random.below(100) < self.loss {
            return Err(lost());
        }
        let told = self.coordinator.heartbeat(heartbeat, self.now);
        if self.random.below(100) < self.loss { Err(lost()) } else { told }
    }

    fn named(&self, owned: &ById) -> Partitions {
        flat(owned).into_iter().map(|(id, index)| (self.names[&id].clone(), index)).collect()
    }

    /// Of members the coordinator has not thrown out no two have the same.
    fn check(&self) {
        let mut owners: BTreeMap<_, usize> = BTreeMap::new();
        for (at, player) in self.players.iter().enumerate() {
            let member = player.machine.identity().member;
            if self.coordinator.known.get(&member).is_some_and(|known| known.epoch > 0) {
                for key in &player.has {
                    let before = owners.insert(key.clone(), at);
                    assert_eq!(before, None, "{key:?} has two owners: {at} and {before:?}");
                }
            }
        }
    }

    fn settle(&mut self, seed: u64) {
        self.loss = 0;
        for _ in 0..3_000 {
            let has: usize = self.players.iter().map(|player| player.has.len()).sum();
            let at_rest = self.players.iter().all(|player| player.step.is_none());
            if has == self.coordinator.partitions.len() && at_rest {
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
fn members_follow_and_no_partition_has_two_owners_whatever_is_lost() {
    for seed in 0..200 {
        let mut world = World::new(seed);
        world.join();
        world.settle(seed);
        for _ in 0..6 {
            world.loss = world.random.below(30);
            match world.random.below(6) {
                0 | 1 => world.join(),
                2 if world.players.len() > 1 => drop(world.players.pop()),
                3 => {
                    let at = world.random.below(u64::try_from(world.players.len()).expect("few"));
                    let at = usize::try_from(at).expect("few");
                    let now = world.now;
                    world.players[at].machine.close(Leaving::ForGood, now);
                }
                4 => {
                    let count = i32::try_from(world.coordinator.partitions.len()).expect("few");
                    world.coordinator.partitions.insert((Uuid([2; 16]), count));
                    world.coordinator.epoch += 1;
                }
                _ => {
                    world.players[0].is_away = true;
                    world.players[0].machine.not_polled();
                }
            }
            for _ in 0..world.random.below(200) {
                world.turn();
            }
            for player in &mut world.players {
                if std::mem::take(&mut player.is_away) {
                    player.machine.polled();
                }
            }
            world.settle(seed);
        }
        let reports: usize = world.players.iter().map(|player| player.reports).sum();
        assert_eq!(reports, 0, "seed {seed}: what passes is not told");
    }
}
