//! Members of a group: they find its coordinator, join, read what they are told to, commit how far they
//! are, each time a higher number, and leave, or are gone without a word and come back as somebody new.
//! Now and then one commits under a name it had before, as a process does that was away for too long.
//!
//! In some worlds they speak the classic protocol ([`classic`]), in others that of KIP-848 ([`consumer`]).
//! What they are told is held against each other by [`facts`]. Once nothing goes wrong any more the
//! group has to come to rest (26).

mod classic;
mod consumer;
mod facts;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use sawlog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use sawlog_protocol::{ErrorCode, Request, decode_response};
use tokio::time::{Instant, sleep};

use self::facts::{Facts, Moment, Standing};
use super::clients::{Client, Shared};
use super::machine::GROUP_PARTITIONS;
use crate::base::LeaderEpoch;
use crate::base::disk_sim::SimRandom;
use crate::coordinator::partition_for;

/// Sets apart what is drawn for members of groups.
const MEMBERS: u64 = 0x006d_656d_6265_7273;

/// The topic that members read: nobody deletes it.
pub(super) const SHARED_TOPIC: &str = "shared";

/// The first of them, as a client of the network.
pub(super) const FIRST_MEMBER: u32 = 21;

/// The first version for members of the consumer protocol.
const COMMIT: i16 = 9;

/// How long a member waits for most answers.
const PATIENCE: Duration = Duration::from_secs(3);

/// The protocol of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// Its leader shares the partitions out.
    Classic,
    /// The broker does.
    Consumer,
}

/// A group that a seed has in its world.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crew {
    protocol: Protocol,
    pub(super) members: u32,
    /// Those of the topic they read.
    pub(super) partitions: i32,
    /// Part of its name: where it is kept.
    name: u64,
    seed: u64,
}

impl Crew {
    /// The group of a seed, if its world has one.
    pub(super) fn of(seed: u64) -> Option<Self> {
        let mut random = SimRandom::new(seed ^ MEMBERS);
        if random.below(3) > 0 {
            return None;
        }
        Some(Self {
            protocol: match random.below(2) {
                0 => Protocol::Classic,
                _ => Protocol::Consumer,
            },
            members: if random.below(2) == 0 { 2 } else { 3 },
            partitions: if random.below(2) == 0 { 3 } else { 4 },
            name: random.below(4),
            seed: random.bits(),
        })
    }

    /// Its members.
    pub(super) fn members(self, shared: &Arc<Shared>) -> (Arc<Group>, Vec<Member>) {
        let name = format!("crew-{}", self.name);
        let home = partition_for(&name, GROUP_PARTITIONS).unwrap_or(0);
        let group = Arc::new(Group { crew: self, name, home, facts: Mutex::default() });
        let mut random = SimRandom::new(self.seed);
        let numbers = FIRST_MEMBER..FIRST_MEMBER + self.members;
        let members = numbers.map(|number| {
            let random = SimRandom::new(random.bits());
            Member::new(Client { shared: shared.clone(), number, random }, group.clone())
        });
        let members = members.collect();
        (group, members)
    }
}

/// A group.
pub(super) struct Group {
    crew: Crew,
    name: String,
    /// Its partition of `__consumer_offsets`.
    home: i32,
    facts: Mutex<Facts>,
}

impl Group {
    /// (26) Why it has not come to rest, if it has not.
    pub(super) fn unrest(&self) -> Option<String> {
        self.facts.lock().unrest(self.crew.members, self.crew.partitions)
    }
}

/// When something was asked, and of whom.
#[derive(Clone, Copy, Debug)]
struct Asked {
    broker: i32,
    moment: Moment,
    at: Instant,
    /// Where the broker led the group's partition, and knew.
    leads: Option<LeaderEpoch>,
}

/// What a member does next.
enum Act {
    Beat,
    Commit,
    CommitLate,
    Fetch,
    Leave,
    Vanish,
}

/// A member of a group, or who is to become one.
pub(super) struct Member {
    client: Client,
    group: Arc<Group>,
    coordinator: Option<i32>,
    /// Its name in the group; empty where it has none.
    id: String,
    /// The generation it is in, or its epoch; none where it is in none.
    epoch: Option<i32>,
    reads: BTreeSet<i32>,
    /// What it was before.
    past: Option<(String, i32)>,
    /// How often it has come as somebody new.
    lives: u32,
    /// The next heartbeat is to say everything.
    says_all: bool,
}

impl Member {
    fn new(client: Client, group: Arc<Group>) -> Self {
        Self {
            client,
            group,
            coordinator: None,
            id: String::new(),
            epoch: None,
            reads: BTreeSet::new(),
            past: None,
            lives: 0,
            says_all: true,
        }
    }

    /// Lives until the group is at rest, and looks whether all that was committed is there then.
    pub(super) async fn live(mut self) {
        *self.client.shared.open.lock() += 1;
        while !(self.is_over() && self.group.unrest().is_none()) {
            self.go_on().await;
        }
        for partition in 0..self.group.crew.partitions {
            while !self.fetch(partition).await {
                self.client.pause(300).await;
            }
        }
        *self.client.shared.open.lock() -= 1;
        // Others may not be at rest yet: it stays who it is until all are.
        loop {
            self.go_on().await;
        }
    }

    async fn go_on(&mut self) {
        self.client.pause(300).await;
        let Some(at) = self.find().await else { return };
        if self.epoch.is_none() {
            self.join(at).await;
        } else {
            self.act(at).await;
        }
    }

    fn is_over(&self) -> bool {
        self.client.shared.is_over.load(Ordering::Relaxed)
    }

    fn is_classic(&self) -> bool {
        self.group.crew.protocol == Protocol::Classic
    }

    /// The coordinator, as known or as some broker says.
    async fn find(&mut self) -> Option<i32> {
        if self.coordinator.is_none() {
            self.coordinator = self.client.coordinator(&self.group.name).await;
        }
        self.coordinator
    }

    async fn join(&mut self, at: i32) {
        if self.is_classic() {
            self.join_classic(at).await;
        } else {
            self.beat_consumer(at).await;
        }
    }

    async fn act(&mut self, at: i32) {
        match self.choose() {
            Act::Beat if self.is_classic() => self.beat_classic(at).await,
            Act::Beat => self.beat_consumer(at).await,
            Act::Commit => self.commit_one(at).await,
            Act::CommitLate => self.commit_late(at).await,
            Act::Fetch => {
                let partition = self.any_partition();
                self.fetch(partition).await;
            }
            Act::Leave => {
                if self.is_classic() {
                    self.leave_classic(at).await;
                } else {
                    self.leave_consumer(at).await;
                }
                self.vanish().await;
            }
            Act::Vanish => self.vanish().await,
        }
    }

    fn choose(&mut self) -> Act {
        if self.is_over() {
            return Act::Beat;
        }
        match self.client.random.below(100) {
            0 => Act::Leave,
            1 => Act::Vanish,
            2..40 => Act::Commit,
            40..48 => Act::CommitLate,
            48..58 => Act::Fetch,
            _ => Act::Beat,
        }
    }

    fn any_partition(&mut self) -> i32 {
        let partitions = u64::from(self.group.crew.partitions.unsigned_abs());
        i32::try_from(self.client.random.below(partitions)).unwrap_or(0)
    }

    /// Something of the group has happened.
    fn note(&self, what: [i64; 2], tell: impl FnOnce() -> String) {
        self.client.shared.oracle.with(|known| {
            known.note(&[9, i64::from(self.client.number), what[0], what[1]]);
            known.tell(|| format!("member {} {}", self.client.number, tell()));
        });
    }

    fn begin(&self, broker: i32) -> Asked {
        let leads = self.client.shared.oracle.coordinates(broker, self.group.home);
        let moment = self.group.facts.lock().tick();
        Asked { broker, moment, at: Instant::now(), leads }
    }

    /// Whether who was asked led from then until now, and knew.
    fn is_sure(&self, asked: &Asked) -> bool {
        let leads = self.client.shared.oracle.coordinates(asked.broker, self.group.home);
        asked.leads.is_some() && asked.leads == leads
    }

    async fn ask<'a, R: Request<'a>>(
        &mut self,
        at: i32,
        request: &R,
        version: i16,
        patience: Duration,
    ) -> Option<Bytes> {
        let answer = self.client.ask_within(at, request, version, patience).await;
        if answer.is_none() {
            (self.coordinator, self.says_all) = (None, true);
        }
        answer
    }

    fn standing(&self, id: &str, epoch: i32) -> Standing {
        let of = if self.is_classic() { String::new() } else { id.to_owned() };
        Standing { of, epoch }
    }

    /// It has these partitions from now on.
    fn settle(&mut self, epoch: i32, reads: BTreeSet<i32>) {
        self.note([1, i64::from(epoch)], || format!("({}) is at {epoch}: {reads:?}", self.id));
        self.epoch = Some(epoch);
        self.reads.clone_from(&reads);
        self.group.facts.lock().on_place(self.client.number, Some((epoch, reads)));
    }

    /// It is in no generation any more, and reads nothing.
    fn drop_out(&mut self) {
        if let Some(epoch) = self.epoch.take() {
            self.past = Some((self.id.clone(), epoch));
        }
        self.reads.clear();
        self.says_all = true;
        let mut facts = self.group.facts.lock();
        facts.on_place(self.client.number, None);
        facts.on_released(&self.id, &BTreeSet::new());
    }

    /// It is gone, and comes back as somebody new.
    async fn vanish(&mut self) {
        self.note([2, 0], || format!("({}) is gone", self.id));
        self.drop_out();
        self.id.clear();
        self.coordinator = None;
        let most = if self.client.random.below(2) == 0 { 500 } else { 9000 };
        let away = self.client.random.below(most);
        sleep(Duration::from_millis(away)).await;
    }

    /// What an error asks of a member.
    fn react(&mut self, error: ErrorCode) {
        self.note([3, 0], || format!("({}) is told {error}", self.id));
        match error {
            ErrorCode::NOT_COORDINATOR
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => {
                (self.coordinator, self.says_all) = (None, true);
            }
            // Who is new to the group, or was deposed, may not know even that.
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::GROUP_ID_NOT_FOUND => {
                self.drop_out();
                // Members of the consumer protocol keep the name they have given themselves.
                if self.is_classic() {
                    self.id.clear();
                }
            }
            ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::REBALANCE_IN_PROGRESS
            | ErrorCode::FENCED_MEMBER_EPOCH => self.drop_out(),
            ErrorCode::STALE_MEMBER_EPOCH => self.says_all = true,
            // The broker does not know of the topic yet.
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {}
            other => panic!("(24) a member is told {other}"),
        }
    }

    /// Commits how far it is in one of its partitions.
    async fn commit_one(&mut self, at: i32) {
        let nth = self.client.random.below(u64::try_from(self.reads.len()).unwrap_or(1));
        let nth = usize::try_from(nth).unwrap_or(0);
        let (Some(partition), Some(epoch)) = (self.reads.iter().nth(nth).copied(), self.epoch)
        else {
            return;
        };
        if let Some(error) = self.commit(at, (&self.id.clone(), epoch), partition).await {
            self.react(error);
        }
    }

    /// Commits as who it was before, of whom others may know better.
    async fn commit_late(&mut self, at: i32) {
        let Some((id, epoch)) = self.past.clone() else { return };
        let partition = self.any_partition();
        // Whatever is said to that concerns nobody.
        let _error = self.commit(at, (&id, epoch), partition).await;
    }

    /// The error, where there is one and an answer.
    async fn commit(
        &mut self,
        at: i32,
        (id, epoch): (&str, i32),
        partition: i32,
    ) -> Option<ErrorCode> {
        let by = self.standing(id, epoch);
        let (commit, offset) = self.group.facts.lock().on_commit(partition, by);
        let partitions = vec![OffsetCommitRequestPartition {
            partition_index: partition,
            committed_offset: offset,
            committed_leader_epoch: -1,
            ..Default::default()
        }];
        let topic =
            OffsetCommitRequestTopic { name: SHARED_TOPIC, partitions, ..Default::default() };
        let group = self.group.name.clone();
        let request = OffsetCommitRequest {
            group_id: &group,
            generation_id_or_member_epoch: epoch,
            member_id: id,
            topics: vec![topic],
            ..Default::default()
        };
        let answer = self.ask(at, &request, COMMIT, PATIENCE).await?;
        let decoded = decode_response::<OffsetCommitRequest<'_>>(&answer, COMMIT);
        let (_, response) = decoded.expect("an answer that can be read");
        let error = response.topics.first()?.partitions.first()?.error_code;
        self.note([4, offset], || {
            format!("commits {offset} of {partition} as {id} at {epoch}: {error}")
        });
        match error {
            ErrorCode::NONE => {
                self.group.facts.lock().on_outcome(commit, true);
                self.client.shared.oracle.with(|known| known.totals.member_commits += 1);
                return None;
            }
            // What was appended may be committed yet.
            ErrorCode::NOT_COORDINATOR
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => {}
            _ => self.group.facts.lock().on_outcome(commit, false),
        }
        Some(error)
    }

    /// Asks what is committed of a partition. Whether it was told for sure.
    async fn fetch(&mut self, partition: i32) -> bool {
        let Some(at) = self.find().await else { return false };
        let asked = self.begin(at);
        let group = self.group.name.clone();
        let found = self.client.committed(at, &group, (SHARED_TOPIC, partition)).await;
        let Some(found) = found else {
            self.coordinator = None;
            return false;
        };
        self.note([5, found], || format!("is told that {found} of {partition} is committed"));
        if !self.is_sure(&asked) {
            self.coordinator = None;
            return false;
        }
        let mut facts = self.group.facts.lock();
        facts.on_serving(asked.leads);
        facts.on_found(partition, found, asked.moment);
        true
    }
}
