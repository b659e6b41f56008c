//! Members of the consumer protocol as real clients are, and what they share with classic ones.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::world::World;
use crate::base::disk_sim::SimRandom;
use crate::base::{LeaderEpoch, Offset};
use crate::coordinator::tests::driver::{at, client, group, topic_id};
use crate::coordinator::tests::seeded::CallId;
use crate::coordinator::*;

/// A request, and who sent it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) place: usize,
    pub(super) process: u64,
    pub(super) request: Request,
    sent: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The process is gone.
    Down,
    Joining,
    /// Classic: members and what they say they own, for the leader.
    Syncing(Vec<(MemberId, BTreeSet<i32>)>),
    Active,
}

/// One place in the group, filled by one process after another.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// Two places may share an instance: then their processes fight for it.
    pub(super) instance: Option<InstanceId>,
    pub(super) speaks: GroupType,
    /// Tells processes apart.
    pub(super) process: u64,
    /// A reply to an earlier one reaches nobody.
    pub(super) call: Option<CallId>,
    pub(super) id: Option<MemberId>,
    pub(super) epoch: i32,
    pub(super) phase: Phase,
    /// What it reads.
    pub(super) owned: BTreeSet<i32>,
    /// What it is to read, while it has not let go of the rest.
    goal: Option<BTreeSet<i32>>,
    /// What it last said that it reads.
    reported: Option<BTreeSet<i32>>,
    /// Something went wrong: it says everything again.
    is_full: bool,
    uses_pattern: bool,
    /// Partitions there were when it joined a classic group.
    pub(super) known_partitions: i32,
    pub(super) is_retired: bool,
}

impl Client {
    pub(super) fn new(place: usize, random: &mut SimRandom) -> Self {
        let instance = match random.below(6) {
            0 => Some(InstanceId::from("shared")),
            1 | 2 => Some(InstanceId::from(&*format!("own{place}"))),
            _ => None,
        };
        Self {
            instance,
            speaks: GroupType::Consumer,
            process: 0,
            call: None,
            id: None,
            epoch: 0,
            phase: Phase::Down,
            owned: BTreeSet::new(),
            goal: None,
            reported: None,
            is_full: true,
            uses_pattern: random.below(4) == 0,
            known_partitions: 0,
            is_retired: false,
        }
    }
}

impl World {
    /// From now on everyone who is left stays, and no two fight for an instance.
    pub(super) fn calm_clients(&mut self) {
        let mut taken = Vec::new();
        for place in 0..self.clients.len() {
            let Some(instance) = self.clients[place].instance.clone() else { continue };
            if taken.contains(&instance) {
                self.die(place);
                self.clients[place].is_retired = true;
            }
            taken.push(instance);
        }
    }

    /// A client does the next thing.
    pub(super) fn on_wake(&mut self, place: usize) {
        if self.clients[place].is_retired {
            return;
        }
        let waits = self.clients[place].call.and_then(|call| self.calls.get(&call));
        if let Some(sent) = waits.map(|call| call.sent) {
            let is_join = self.clients[place].phase == Phase::Joining;
            let patience = if is_join && self.speaks_classic(place) { 40 } else { 4 };
            if self.now() < sent + Duration::from_secs(patience) {
                return self.wake(place, Duration::from_secs(1));
            }
            self.clients[place].call = None;
            self.clients[place].is_full = true;
        }
        let dice = if self.is_calm { 0 } else { self.random.below(100) };
        match self.clients[place].phase {
            Phase::Down => self.start(place),
            _ if dice >= 97 => self.die(place),
            Phase::Joining | Phase::Syncing(_) if self.speaks_classic(place) => {
                self.classic_join(place);
            }
            Phase::Joining | Phase::Syncing(_) => self.beat(place),
            Phase::Active if dice >= 94 => self.leave(place),
            Phase::Active if (50..70).contains(&dice) => self.commit(place),
            Phase::Active if self.speaks_classic(place) => self.classic_beat(place),
            Phase::Active => self.beat(place),
        }
        let nap = match dice {
            // Beyond every session timeout.
            90 | 91 => 15_000,
            _ if self.clients[place].phase == Phase::Down && !self.is_calm => {
                self.random.below(20_000)
            }
            _ => 1_000 + self.random.below(2_000),
        };
        self.wake(place, Duration::from_millis(nap));
    }

    pub(super) fn speaks_classic(&self, place: usize) -> bool {
        self.clients[place].speaks == GroupType::Classic
    }

    /// A new process.
    fn start(&mut self, place: usize) {
        self.value += 1;
        let is_classic = self.random.below(100) < self.classic_share;
        let id = MemberId::from(&*format!("c{place}#{}", self.value));
        let process = u64::try_from(self.value).unwrap();
        let client = &mut self.clients[place];
        client.process = process;
        client.phase = Phase::Joining;
        client.epoch = 0;
        if is_classic {
            (client.speaks, client.id) = (GroupType::Classic, None);
            self.classic_join(place);
        } else {
            (client.speaks, client.id) = (GroupType::Consumer, Some(id));
            self.beat(place);
        }
    }

    /// The process ends without a word.
    pub(super) fn die(&mut self, place: usize) {
        self.read(place, BTreeSet::new());
        let client = &mut self.clients[place];
        client.phase = Phase::Down;
        client.call = None;
        client.goal = None;
        client.reported = None;
        client.id = None;
    }

    /// The client reads these from now on, and nothing else.
    pub(super) fn read(&mut self, place: usize, partitions: BTreeSet<i32>) {
        let client = &mut self.clients[place];
        self.totals.taken += u64::from(!partitions.is_subset(&client.owned));
        client.owned = partitions;
        let nobody = MemberId::from("");
        let id = client.id.clone().unwrap_or(nobody);
        let owned = client.owned.clone();
        // A static member of a classic group that does not join in time stays in the group, and what
        // it read goes to others (KIP-345): it hears so with its next request.
        let (clients, told) = (&self.clients, &self.told);
        let is_excused = |other: usize| {
            let other = &clients[other];
            let known = other.id.as_ref().and_then(|id| *told.members.get(id)?);
            let is_static = other.speaks == GroupType::Classic && other.instance.is_some();
            is_static && (!told.is_consumer || known != Some(other.epoch))
        };
        self.readers.set((place, &id), &owned, (told, is_excused));
    }

    pub(super) fn send(&mut self, place: usize, request: Request) {
        let process = self.clients[place].process;
        let call = Call { place, process, request, sent: self.now() };
        let id = self.call(call);
        self.clients[place].call = Some(id);
    }

    /// A heartbeat: it joins, or goes on.
    fn beat(&mut self, place: usize) {
        if let Some(goal) = self.clients[place].goal.take() {
            self.read(place, goal);
        }
        let seconds = 5 + self.random.below(10);
        let known = &mut self.clients[place];
        let is_full = known.is_full || known.epoch == 0;
        let says_owned = is_full || known.reported.as_ref() != Some(&known.owned);
        if says_owned {
            known.reported = Some(known.owned.clone());
        }
        let (topics, pattern): (BTreeSet<Arc<str>>, &str) = if known.uses_pattern {
            (BTreeSet::new(), "ord.*")
        } else {
            (["orders".into()].into(), "")
        };
        let request = ConsumerHeartbeat {
            group: group(),
            member: known.id.clone(),
            fresh_member: "".into(),
            epoch: known.epoch,
            instance: known.instance.clone(),
            client: client(),
            rack: None,
            rebalance_timeout: is_full.then(|| Duration::from_secs(seconds)),
            topics: is_full.then_some(topics),
            pattern: is_full.then(|| pattern.into()),
            assignor: None,
            owned: says_owned.then(|| partitions(&known.owned)),
            charge: None,
        };
        self.send(place, request.into_request());
    }

    fn commit(&mut self, place: usize) {
        let client = &self.clients[place];
        let count = u64::try_from(client.owned.len()).unwrap();
        if count == 0 {
            return;
        }
        let nth = usize::try_from(self.random.below(count)).unwrap();
        self.value += 1;
        let client = &self.clients[place];
        let Some(partition) = client.owned.iter().nth(nth) else { return };
        let request = OffsetCommit {
            group: group(),
            member: client.id.clone(),
            instance: client.instance.clone(),
            generation: Generation(client.epoch),
            retention: None,
            knows_member_epochs: true,
            offsets: vec![OffsetToCommit {
                partition: at("orders", *partition),
                offset: Offset(self.value),
                leader_epoch: LeaderEpoch(0),
                metadata: "".into(),
            }],
        };
        self.send(place, request.into_request());
    }

    /// Says goodbye and ends; a static member of the consumer protocol mostly comes back.
    fn leave(&mut self, place: usize) {
        self.read(place, BTreeSet::new());
        let comes_back = self.clients[place].instance.is_some() && self.random.below(4) > 0;
        let known = &self.clients[place];
        let request = if known.speaks == GroupType::Classic {
            let leaving = LeavingMember {
                member: known.id.clone(),
                instance: known.instance.clone(),
                reason: None,
            };
            LeaveGroup { group: group(), members: vec![leaving] }.into_request()
        } else {
            let request = ConsumerHeartbeat {
                group: group(),
                member: known.id.clone(),
                fresh_member: "".into(),
                epoch: if comes_back { -2 } else { -1 },
                instance: known.instance.clone(),
                client: client(),
                rack: None,
                rebalance_timeout: None,
                topics: None,
                pattern: None,
                assignor: None,
                owned: None,
                charge: None,
            };
            request.into_request()
        };
        self.send(place, request);
        self.die(place);
    }

    /// A reply arrives.
    pub(super) fn on_reply(&mut self, id: CallId, reply: Reply) {
        let Some(call) = self.calls.remove(&id) else { return };
        let place = call.place;
        if self.clients[place].call != Some(id) {
            return;
        }
        self.clients[place].call = None;
        match reply {
            Reply::ConsumerHeartbeat(Ok(beat)) => self.on_beat(place, &beat),
            Reply::ConsumerHeartbeat(Err(error)) => self.on_error(place, error),
            Reply::Commit(Err(error)) if self.speaks_classic(place) => {
                self.on_classic_error(place, error, None);
            }
            reply => self.on_classic_reply(place, reply),
        }
    }

    fn on_beat(&mut self, place: usize, beat: &Beat) {
        let is_first = self.clients[place].epoch == 0;
        let returns = is_first && beat.assignment.as_ref().is_some_and(|all| !all.is_empty());
        self.totals.static_returns += u64::from(returns && self.clients[place].instance.is_some());
        let client = &mut self.clients[place];
        assert!(beat.epoch > 0 && beat.epoch >= client.epoch, "{place}: {beat:?} {client:?}");
        client.epoch = beat.epoch;
        client.phase = Phase::Active;
        client.is_full = false;
        let Some(assignment) = &beat.assignment else { return };
        let assigned = assignment.get(&topic_id("orders")).cloned().unwrap_or_default();
        if client.owned.is_subset(&assigned) {
            client.goal = None;
            return self.read(place, assigned);
        }
        self.totals.revoked += 1;
        if self.random.below(2) == 0 {
            self.clients[place].goal = None;
            self.read(place, assigned);
        } else {
            // What it reads now it finishes first.
            self.clients[place].goal = Some(assigned);
        }
    }

    fn on_error(&mut self, place: usize, error: GroupError) {
        match error {
            GroupError::FencedMemberEpoch | GroupError::UnknownMember => {
                self.totals.fenced += 1;
                self.read(place, BTreeSet::new());
                let client = &mut self.clients[place];
                (client.epoch, client.goal, client.is_full) = (0, None, true);
                client.phase = Phase::Joining;
            }
            GroupError::FencedInstance | GroupError::UnreleasedInstance if !self.is_calm => {
                self.totals.fenced += 1;
                self.die(place);
            }
            _ => self.clients[place].is_full = true,
        }
    }
}

fn partitions(owned: &BTreeSet<i32>) -> TopicPartitions {
    if owned.is_empty() {
        return TopicPartitions::new();
    }
    [(topic_id("orders"), owned.clone())].into()
}
