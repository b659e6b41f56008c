//! Seeded groups of the consumer protocol, [on stage](super::stage).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sawlog_protocol::{ErrorCode, Uuid};

use super::membership::{Action, Heartbeat, Leaving, Membership, Partitions, Reply, Told, Wanted};
use super::modern::Modern;
use super::stage::{Play, Stage, disconnected, live};
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

struct World {
    stage: Stage<Modern, ()>,
    coordinator: Coordinator,
    names: BTreeMap<Uuid, Arc<str>>,
    next: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let ids = [Uuid([1; 16]), Uuid([2; 16])];
        let partitions = ids.iter().flat_map(|id| (0..4).map(|index| (*id, index))).collect();
        let names = [(ids[0], Arc::from("a")), (ids[1], Arc::from("b"))].into();
        let coordinator = Coordinator { known: BTreeMap::new(), epoch: 0, partitions };
        Self { stage: Stage::new(seed), coordinator, names, next: 0 }
    }

    /// A request or its reply may be lost.
    fn sends(&mut self, heartbeat: &Heartbeat) -> Result<Told, ClientError> {
        if self.stage.is_lost() {
            return Err(disconnected());
        }
        let told = self.coordinator.heartbeat(heartbeat, self.stage.now);
        if self.stage.is_lost() { Err(disconnected()) } else { told }
    }

    fn named(&self, owned: &ById) -> Partitions {
        flat(owned).into_iter().map(|(id, index)| (self.names[&id].clone(), index)).collect()
    }
}

impl Play for World {
    type Machine = Modern;
    type Waits = ();

    fn stage(&mut self) -> &mut Stage<Modern, ()> {
        &mut self.stage
    }

    fn member(&mut self) -> Modern {
        self.next += 1;
        let both = (self.stage.retries(), self.stage.retries());
        let topics = self.names.values().cloned().collect();
        let member = (Arc::from(format!("m{}", self.next)), false);
        Modern::new(member, Wanted { topics, pattern: None }, both)
    }

    fn tick(&mut self) {
        self.coordinator.tick(self.stage.now);
    }

    fn ask(&mut self, at: usize, action: Action) {
        let reply = match action {
            Action::Tell(heartbeat) => {
                let says: Option<Partitions> =
                    heartbeat.owned.as_ref().map(|owned| self.named(owned));
                let has = &self.stage.players[at].has;
                assert!(says.is_none_or(|says| says == *has), "it says what its reader has");
                Reply::Told(self.sends(&heartbeat))
            }
            Action::Name { ids } => {
                let mut names = self.names.clone();
                // Metadata may be behind.
                names.retain(|id, _| ids.contains(id) && self.stage.random.below(3) > 0);
                Reply::Named(Ok(names))
            }
            Action::Leave { leaving, .. } => {
                assert_eq!(leaving, Leaving::ForGood);
                let member = self.stage.players[at].machine.identity().member;
                let goodbye = Heartbeat { member, epoch: -1, wanted: None, owned: None };
                let _whatever = self.sends(&goodbye);
                Reply::Left
            }
            other => panic!("of the other protocol: {other:?}"),
        };
        self.stage.players[at].replies.push(reply);
    }

    fn turned(&mut self) {}

    fn is_at_rest(&self, has: usize) -> bool {
        has == self.coordinator.partitions.len()
    }

    fn grow(&mut self) {
        let count = i32::try_from(self.coordinator.partitions.len()).expect("few");
        self.coordinator.partitions.insert((Uuid([2; 16]), count));
        self.coordinator.epoch += 1;
    }

    fn is_known(&self, member: &Arc<str>) -> bool {
        self.coordinator.known.get(member).is_some_and(|known| known.epoch > 0)
    }
}

#[test]
fn members_follow_and_no_partition_has_two_owners_whatever_is_lost() {
    for seed in 0..200 {
        live(World::new(seed), seed);
    }
}
