//! Seeded groups of the classic protocol, [on stage](super::stage).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sawlog_protocol::ErrorCode;

use super::assignor::{Assignor, PartitionCounts, Subscriber};
use super::classic::{Classic, ClassicOptions};
use super::membership::{Action, JoinFailure, Joined, Membership, Partitions, Reply, Wanted};
use super::stage::{Play, Stage, disconnected, live};
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

/// What a member waits for.
#[derive(Debug, Default)]
struct Waits {
    joining: Option<Subscriber>,
    /// The generation a sync waits in.
    syncing: Option<i32>,
}

struct World {
    stage: Stage<Classic, Waits>,
    coordinator: Coordinator,
    counts: PartitionCounts,
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
        Self { stage: Stage::new(seed), coordinator, counts }
    }

    fn answer(&mut self, at: usize, reply: Reply) {
        self.stage.players[at].replies.push(reply);
    }

    fn joins(&mut self, at: usize, mut subscriber: Subscriber) {
        let member = subscriber.member.clone();
        if member.is_empty() {
            let coordinator = &mut self.coordinator;
            coordinator.next_id += 1;
            let given: Arc<str> = Arc::from(format!("m{}", coordinator.next_id));
            let known = Known { seen_at: self.stage.now, joined: None, share: None };
            coordinator.known.insert(given.clone(), known);
            coordinator.gather(self.stage.now);
            subscriber.member = given.clone();
            let error = refused(ErrorCode::MEMBER_ID_REQUIRED);
            let failure = JoinFailure { error, member: Some(given) };
            return self.answer(at, Reply::Joined(Err(failure)));
        }
        if !self.coordinator.known.contains_key(&member) {
            let error = refused(ErrorCode::UNKNOWN_MEMBER_ID);
            return self.answer(at, Reply::Joined(Err(JoinFailure { error, member: None })));
        }
        self.coordinator.gather(self.stage.now);
        if let Some(known) = self.coordinator.known.get_mut(&member) {
            (known.seen_at, known.joined) = (self.stage.now, Some(subscriber.clone()));
        }
        self.stage.players[at].waits.joining = Some(subscriber);
        self.stage.players[at].waits.syncing = None;
    }

    /// Everybody is answered; replies may be lost on the way.
    fn begin_generation(&mut self) {
        let members: Vec<Subscriber> =
            self.coordinator.known.values_mut().filter_map(|one| one.joined.take()).collect();
        let leader = self.coordinator.leader();
        for at in 0..self.stage.players.len() {
            let Some(joining) = self.stage.players[at].waits.joining.take() else { continue };
            let is_leader = leader.as_ref() == Some(&joining.member);
            let lost = self.stage.is_lost();
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
            self.answer(at, Reply::Joined(reply));
        }
    }

    fn syncs(&mut self, at: usize, shares: Vec<(Arc<str>, Partitions)>) {
        let identity = self.stage.players[at].machine.identity();
        if let Err(error) = self.knows(&identity.member, identity.generation) {
            return self.answer(at, Reply::Synced(Err(error)));
        }
        if !shares.is_empty() {
            for (member, share) in shares {
                if let Some(known) = self.coordinator.known.get_mut(&member) {
                    known.share = Some(share);
                }
            }
            self.coordinator.is_shared = true;
        }
        self.stage.players[at].waits.syncing = Some(identity.generation);
    }

    fn knows(&mut self, member: &Arc<str>, generation: i32) -> Result<(), ClientError> {
        let Some(known) = self.coordinator.known.get_mut(member) else {
            return Err(refused(ErrorCode::UNKNOWN_MEMBER_ID));
        };
        known.seen_at = self.stage.now;
        if generation != self.coordinator.generation {
            return Err(refused(ErrorCode::ILLEGAL_GENERATION));
        }
        if self.coordinator.gathering.is_some() {
            return Err(refused(ErrorCode::REBALANCE_IN_PROGRESS));
        }
        Ok(())
    }

    fn heartbeat(&mut self, at: usize) -> Result<(), ClientError> {
        let identity = self.stage.players[at].machine.identity();
        self.knows(&identity.member, identity.generation)
    }

    fn answer_syncs(&mut self) {
        for at in 0..self.stage.players.len() {
            let Some(generation) = self.stage.players[at].waits.syncing else { continue };
            let member = self.stage.players[at].machine.identity().member;
            let reply = match self.knows(&member, generation) {
                Err(error) => Err(error),
                Ok(()) if !self.coordinator.is_shared => continue,
                Ok(()) => {
                    let known = self.coordinator.known.get(&member);
                    Ok(known.and_then(|one| one.share.clone()).unwrap_or_default())
                }
            };
            self.stage.players[at].waits.syncing = None;
            self.answer(at, Reply::Synced(reply));
        }
    }
}

impl Play for World {
    type Machine = Classic;
    type Waits = Waits;

    fn stage(&mut self) -> &mut Stage<Classic, Waits> {
        &mut self.stage
    }

    fn member(&mut self) -> Classic {
        let options = ClassicOptions {
            is_static: false,
            heartbeat_interval: INTERVAL,
            assignors: vec![self.coordinator.assignor],
            has_rack: false,
        };
        let topics = self.counts.keys().cloned().collect();
        Classic::new(options, Wanted { topics, pattern: None }, self.stage.retries())
    }

    fn tick(&mut self) {
        self.coordinator.tick(self.stage.now);
    }

    fn ask(&mut self, at: usize, action: Action) {
        let lost = self.stage.is_lost();
        match action {
            Action::Join { topics, claims, .. } => {
                let eager = !self.coordinator.assignor.is_cooperative();
                let has = &self.stage.players[at].has;
                assert!(!eager || has.is_empty(), "eager members own nothing");
                assert_eq!(claims.owned, *has);
                if lost {
                    let failure = JoinFailure { error: disconnected(), member: None };
                    return self.answer(at, Reply::Joined(Err(failure)));
                }
                let member = self.stage.players[at].machine.identity().member;
                let is_sticky = self.coordinator.assignor == Assignor::Sticky;
                let owned = if is_sticky { claims.previous } else { claims.owned };
                let generation = claims.owned_generation;
                let subscriber =
                    Subscriber { member, topics, owned, generation, ..Subscriber::default() };
                self.joins(at, subscriber);
            }
            Action::Count { .. } => {
                let counted =
                    if lost { Err(disconnected()) } else { Ok(self.counts.clone().into()) };
                self.answer(at, Reply::Counted(counted));
            }
            Action::Sync { protocol, shares } => {
                assert_eq!(protocol, self.coordinator.assignor.name());
                if lost {
                    return self.answer(at, Reply::Synced(Err(disconnected())));
                }
                self.syncs(at, shares);
            }
            Action::Heartbeat => {
                let answer = if lost { Err(disconnected()) } else { self.heartbeat(at) };
                self.answer(at, Reply::Beaten(answer));
            }
            Action::Leave { .. } => {
                let member = self.stage.players[at].machine.identity().member;
                if !lost && self.coordinator.known.remove(&member).is_some() {
                    self.coordinator.gather(self.stage.now);
                }
                self.answer(at, Reply::Left);
            }
            other => panic!("of the other protocol: {other:?}"),
        }
    }

    fn turned(&mut self) {
        if self.coordinator.complete(self.stage.now) {
            self.begin_generation();
        }
        self.answer_syncs();
    }

    fn is_at_rest(&self, has: usize) -> bool {
        let all: i32 = self.counts.values().sum();
        has == usize::try_from(all).expect("few") && self.coordinator.gathering.is_none()
    }

    fn grow(&mut self) {
        *self.counts.values_mut().next().expect("one") += 1;
    }

    fn look(&mut self) {
        for player in &mut self.stage.players {
            player.machine.counted(&self.counts.clone().into());
        }
    }

    fn is_known(&self, member: &Arc<str>) -> bool {
        self.coordinator.known.contains_key(member)
    }
}

#[test]
fn groups_settle_and_no_partition_has_two_owners_whatever_is_lost() {
    for seed in 0..200 {
        let three = [Assignor::Range, Assignor::CooperativeSticky, Assignor::Sticky];
        let assignor = three[usize::try_from(seed % 3).expect("few")];
        live(World::new(seed, assignor), seed);
    }
}
