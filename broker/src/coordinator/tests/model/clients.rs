//! Members as real clients are: they join, assign, beat, commit, leave, hang and die.

use std::time::Duration;

use bytes::Bytes;

use super::world::{Answer, PARTITIONS, World};
use crate::base::LeaderEpoch;
use crate::base::Offset;
use crate::base::disk_sim::SimRandom;
use crate::coordinator::tests::driver::{at, client, group, protocols};
use crate::coordinator::tests::seeded::CallId;
use crate::coordinator::*;

/// A request, and what its sender knew.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) member: usize,
    pub(super) request: Request,
    /// Lost or sent twice: it cannot be told what became of it.
    pub(super) is_doubled: bool,
    /// Of the caller's member id.
    number: u64,
    instance: Option<InstanceId>,
    generation: i32,
    /// By life of the group: the newest generation somebody had when this was sent.
    newest: (u64, i32),
    was_fenced: bool,
    required: Option<usize>,
    value: (i32, i64),
    sent: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// The process is gone.
    Down,
    Joining,
    Syncing(Vec<MemberId>),
    Owning,
}

/// One place in the group, filled by one process after another.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Two places may share an instance: then their processes fight for it.
    instance: Option<InstanceId>,
    /// Tells processes apart: a reply to an earlier one reaches nobody.
    call: Option<CallId>,
    id: Option<MemberId>,
    generation: i32,
    phase: Phase,
    partitions: Vec<i32>,
    protocols: Vec<Protocol>,
    is_retired: bool,
}

impl Member {
    pub(super) fn new(index: usize, random: &mut SimRandom) -> Self {
        let instance = match random.below(6) {
            0 => Some(InstanceId::from("shared")),
            1 | 2 => Some(InstanceId::from(&*format!("own{index}"))),
            _ => None,
        };
        Self {
            instance,
            call: None,
            id: None,
            generation: -1,
            phase: Phase::Down,
            partitions: Vec::new(),
            protocols: protocols(&["range", "roundrobin"]),
            is_retired: false,
        }
    }

    /// What it reads now.
    pub(super) fn owned(&self) -> impl Iterator<Item = i32> {
        let is_owning = self.phase == Phase::Owning;
        self.partitions.iter().copied().filter(move |_| is_owning)
    }

    /// Who owns what it owns: a static member's next process takes over.
    fn identity(&self) -> String {
        let id = self.id.as_ref().map(|id| id.to_string()).unwrap_or_default();
        self.instance.as_ref().map_or(id, |instance| instance.to_string())
    }

    /// Starts over as the member it is, or as nobody.
    fn rejoin(&mut self, as_nobody: bool) {
        self.phase = Phase::Joining;
        self.partitions.clear();
        if as_nobody {
            self.id = None;
        }
    }

    fn die(&mut self) {
        self.phase = Phase::Down;
        self.call = None;
        self.id = None;
        self.generation = -1;
        self.partitions.clear();
    }
}

/// The number in a member id of this test's making.
fn number(id: Option<&MemberId>) -> u64 {
    id.and_then(|id| id.as_str().rsplit_once('#')?.1.parse().ok()).unwrap_or(u64::MAX)
}

impl World {
    /// From now on everyone who is left stays, and no two fight for an instance.
    pub(super) fn calm_members(&mut self) {
        let mut taken = Vec::new();
        for member in &mut self.members {
            let Some(instance) = member.instance.clone() else { continue };
            if taken.contains(&instance) {
                member.die();
                member.is_retired = true;
            }
            taken.push(instance);
        }
    }

    /// A member does the next thing.
    pub(super) fn on_wake(&mut self, index: usize) {
        let Some(member) = self.members.get(index) else { return };
        if member.is_retired {
            return;
        }
        let waits = member.call.and_then(|call| self.calls.get(&call)).map(|call| call.sent);
        if let Some(sent) = waits {
            let patience = if member.phase == Phase::Joining { 40 } else { 5 };
            if self.now() < sent + Duration::from_secs(patience) {
                self.wake(index, Duration::from_secs(1));
                return;
            }
        }
        let dice = if self.is_calm { 0 } else { self.random.below(100) };
        match self.members[index].phase.clone() {
            Phase::Down if dice >= 70 => {
                let request = DeleteGroup { group: group() }.into_request();
                self.send(index, request, (0, 0));
            }
            Phase::Down => {
                self.members[index].rejoin(true);
                self.send_join(index);
            }
            _ if dice >= 97 => self.members[index].die(),
            Phase::Joining => self.send_join(index),
            Phase::Syncing(everyone) => self.send_sync(index, &everyone),
            Phase::Owning => self.act(index, dice),
        }
        let is_away = self.members[index].phase == Phase::Down && self.is_sleepy && !self.is_calm;
        let nap = match dice {
            _ if is_away => 30_000,
            // Beyond every session timeout.
            90..=92 => 25_000,
            _ => 500 + self.random.below(3_000),
        };
        self.wake(index, Duration::from_millis(nap));
    }

    fn act(&mut self, index: usize, dice: u64) {
        match dice {
            40..=64 => self.send_commit(index),
            65..=79 => self.send_fetch(index),
            80..=83 => self.send_leave(index),
            84 => {
                let names: &[&str] =
                    if self.random.below(2) == 0 { &["roundrobin", "range"] } else { &["range"] };
                self.members[index].protocols = protocols(names);
                self.members[index].rejoin(false);
                self.send_join(index);
            }
            _ => {
                let member = &self.members[index];
                let Some(id) = member.id.clone() else { return };
                let request = Heartbeat {
                    group: group(),
                    member: id,
                    instance: member.instance.clone(),
                    generation: Generation(member.generation),
                };
                self.send(index, request.into_request(), (0, 0));
            }
        }
    }

    fn send(&mut self, index: usize, request: Request, value: (i32, i64)) {
        let member = &self.members[index];
        let number = number(member.id.as_ref());
        let instance = member.instance.clone();
        let was_fenced =
            instance.as_ref().is_some_and(|it| self.oracle.is_fenced(it.as_str(), number));
        let life = self.shell.life();
        let call = Call {
            member: index,
            request,
            is_doubled: false,
            number,
            instance,
            generation: member.generation,
            newest: (life, self.oracle.newest(life)),
            was_fenced,
            required: self.oracle.required(value.0),
            value,
            sent: self.now(),
        };
        let id = self.call(call);
        self.members[index].call = Some(id);
    }

    fn send_join(&mut self, index: usize) {
        let seconds = |random: &mut SimRandom, most| Duration::from_secs(6 + random.below(most));
        let member = &self.members[index];
        let request = JoinGroup {
            group: group(),
            member: member.id.clone(),
            instance: member.instance.clone(),
            fresh_member: "".into(),
            client: client(),
            protocol_type: "consumer".into(),
            protocols: member.protocols.clone(),
            session_timeout: seconds(&mut self.random, 14),
            rebalance_timeout: seconds(&mut self.random, 20),
            reason: None,
            knows_member_id_required: index.is_multiple_of(2),
            knows_skip_assignment: self.random.below(2) == 0,
        };
        self.send(index, request.into_request(), (0, 0));
    }

    /// The leader spreads the partitions over those it was told of.
    fn send_sync(&mut self, index: usize, everyone: &[MemberId]) {
        let mut shares: Vec<(MemberId, String)> =
            everyone.iter().map(|id| (id.clone(), String::new())).collect();
        let start = usize::try_from(self.random.below(4)).unwrap();
        for partition in 0..PARTITIONS {
            let count = shares.len().max(1);
            let turn = (start + usize::try_from(partition).unwrap()) % count;
            if let Some((_, share)) = shares.get_mut(turn) {
                share.push_str(&format!("{partition},"));
            }
        }
        let member = &self.members[index];
        let Some(id) = member.id.clone() else { return };
        let request = SyncGroup {
            group: group(),
            member: id,
            instance: member.instance.clone(),
            generation: Generation(member.generation),
            protocol_type: Some("consumer".into()),
            protocol: None,
            assignments: shares.into_iter().map(|(id, it)| (id, Bytes::from(it))).collect(),
        };
        self.send(index, request.into_request(), (0, 0));
    }

    fn send_commit(&mut self, index: usize) {
        self.value += 1;
        let member = &self.members[index];
        let Some(partition) = member.partitions.first().copied() else { return };
        let request = OffsetCommit {
            group: group(),
            member: member.id.clone(),
            instance: member.instance.clone(),
            generation: Generation(member.generation),
            retention: None,
            knows_member_epochs: true,
            offsets: vec![OffsetToCommit {
                partition: at("orders", partition),
                offset: Offset(self.value),
                leader_epoch: LeaderEpoch(0),
                metadata: "".into(),
            }],
        };
        let value = (partition, self.value);
        self.send(index, request.into_request(), value);
    }

    fn send_fetch(&mut self, index: usize) {
        let partition = i32::try_from(self.random.below(4)).unwrap();
        let request = OffsetFetch {
            group: group(),
            member: None,
            member_epoch: -1,
            partitions: Some(vec![at("orders", partition)]),
        };
        self.send(index, request.into_request(), (partition, 0));
    }

    fn send_leave(&mut self, index: usize) {
        let member = &self.members[index];
        let leaving = LeavingMember {
            member: member.id.clone(),
            instance: member.instance.clone(),
            reason: None,
        };
        let request = LeaveGroup { group: group(), members: vec![leaving] };
        self.send(index, request.into_request(), (0, 0));
        self.members[index].die();
    }

    /// A reply arrives; the log is `committed` as far as that.
    pub(super) fn on_reply(&mut self, id: CallId, answer: Answer, committed: usize) {
        let Some(call) = self.calls.get(&id).cloned() else { return };
        self.check_reply(&call, &answer, committed);
        let Answer { reply, life, .. } = answer;
        if self.members[call.member].call != Some(id) {
            return;
        }
        self.members[call.member].call = None;
        let index = call.member;
        match reply {
            Reply::Join(Ok(joined)) => {
                let member = &mut self.members[index];
                member.generation = joined.generation.0;
                member.id = Some(joined.member);
                let everyone = joined.members.into_iter().map(|known| known.member);
                let everyone = if joined.skip_assignment { Vec::new() } else { everyone.collect() };
                self.send_sync(index, &everyone);
                self.members[index].phase = Phase::Syncing(everyone);
            }
            Reply::Join(Err(refused)) => self.on_error(index, refused.error, refused.member),
            Reply::Sync(Ok(synced)) => {
                let partitions = share(&synced.assignment);
                let generation = (life, call.generation);
                let member = &mut self.members[index];
                member.phase = Phase::Owning;
                member.partitions.clone_from(&partitions);
                let identity = member.identity();
                self.oracle.on_assigned(generation, &identity, &partitions);
                if let Some(instance) = &call.instance {
                    self.oracle.on_instance(instance.as_str(), call.number);
                }
            }
            Reply::Sync(Err(error)) | Reply::Heartbeat(Err(error)) | Reply::Commit(Err(error)) => {
                self.on_error(index, error, None);
            }
            _ => {}
        }
    }

    /// What must hold of a reply, whoever hears it.
    fn check_reply(&mut self, call: &Call, answer: &Answer, committed: usize) {
        let Answer { reply, life, wrote } = answer;
        let is_ok = match reply {
            Reply::Sync(result) => result.is_ok(),
            Reply::Heartbeat(result) => result.is_ok(),
            Reply::Commit(result) => result.is_ok(),
            _ => false,
        };
        if is_ok {
            assert!(!call.was_fenced, "a fenced process had its way: {call:?}");
            let is_stale = call.newest.0 == *life && call.generation < call.newest.1;
            assert!(!is_stale, "a stale generation had its way: {call:?}");
        }
        match reply {
            Reply::Commit(Ok(_)) => {
                let at = wrote.expect("a commit is written");
                assert!(at < committed, "answered before it was committed");
                self.oracle.on_committed(call.value.0, at);
            }
            Reply::Delete(Ok(())) => {
                self.oracle.on_deleted(wrote.expect("a deletion is written"));
            }
            Reply::Commit(Err(error)) => {
                let is_final = *error != GroupError::NotAvailable && !call.is_doubled;
                if is_final {
                    self.oracle.on_commit_refused(call.value.1);
                }
            }
            Reply::Fetch(Ok(fetched)) => {
                let offset = fetched[0].committed.clone().unwrap().map(|value| value.offset.0);
                self.oracle.on_fetched(call.value.0, offset, call.required, committed);
            }
            _ => {}
        }
    }

    fn on_error(&mut self, index: usize, error: GroupError, given: Option<MemberId>) {
        let member = &mut self.members[index];
        match error {
            GroupError::MemberIdRequired => {
                member.id = given;
                self.send_join(index);
            }
            GroupError::RebalanceInProgress => member.rejoin(false),
            GroupError::UnknownMember
            | GroupError::IllegalGeneration
            | GroupError::GroupIdNotFound => member.rejoin(true),
            GroupError::FencedInstance => {
                self.oracle.totals.fenced += 1;
                member.die();
            }
            GroupError::InconsistentProtocol => {
                member.protocols = protocols(&["range", "roundrobin"]);
                member.rejoin(true);
            }
            GroupError::GroupMaxSizeReached => member.die(),
            _ => {}
        }
    }
}

fn share(assignment: &Bytes) -> Vec<i32> {
    let text = std::str::from_utf8(assignment).unwrap();
    text.split(',').filter_map(|part| part.parse().ok()).collect()
}
