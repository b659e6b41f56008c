//! Coordinator, log, network and clock of one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::classic::Unseen;
use super::client::{Call, CallId, Client, Phase};
use super::watch::{Readers, Told, Totals};
use crate::base::disk_sim::SimRandom;
use crate::base::{Offset, Timestamp};
use crate::config::{BrokerConfig, Sources};
use crate::coordinator::tests::driver::{cluster_of, group};
use crate::coordinator::*;
use crate::metadata::Image;

/// How long things go wrong, and how long the group has then to come to rest.
const TROUBLE: Duration = Duration::from_secs(60);
const REST: Duration = Duration::from_secs(100);

/// Something on its way.
#[derive(Clone, Debug)]
enum Packet {
    Request(CallId),
    Reply { call: CallId, reply: Reply },
    Commit(usize),
    Wake(usize),
    Assigned { done: AssignDone, core: u64 },
    Grow,
}

/// A reply that waits for the log.
#[derive(Debug)]
struct Held {
    /// Records that have to be committed.
    needs: usize,
    request: RequestId,
    reply: Reply,
}

/// Everything of one seed.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) random: SimRandom,
    pub(super) now: Now,
    options: GroupOptions,
    config: Arc<BrokerConfig>,
    image: Arc<Image>,
    pub(super) partitions: i32,
    core: GroupCore,
    core_number: u64,
    log: Vec<Record>,
    /// Ends of batches: what a restart may cut.
    batches: Vec<usize>,
    committed: usize,
    held: Vec<Held>,
    /// Who gets the reply; requests whose reply has left are gone.
    asked: BTreeMap<RequestId, CallId>,
    on_its_way: BTreeMap<(Duration, u64), Packet>,
    next: u64,
    pub(super) calls: BTreeMap<CallId, Call>,
    /// By process, the newest request that has arrived.
    arrived: BTreeMap<u64, CallId>,
    pub(super) clients: Vec<Client>,
    pub(super) told: Told,
    /// How many partitions a leader knew of when it shared them out, by generation.
    pub(super) shared_out: BTreeMap<(i32, MemberId), i32>,
    pub(super) unseen: Option<Unseen>,
    pub(super) readers: Readers,
    pub(super) totals: Totals,
    pub(super) is_calm: bool,
    is_traced: bool,
    /// Whether classic members keep reading through a rebalance.
    pub(super) is_cooperative: bool,
    /// Of a hundred processes, how many speak the classic protocol.
    pub(super) classic_share: u64,
    pub(super) value: i64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = SimRandom::new(seed);
        let options = GroupOptions {
            initial_rebalance_delay: Duration::from_secs(random.below(3)),
            assign_at_once_max: if random.below(2) == 0 { 0 } else { 1_000 },
            migration: match random.below(12) {
                0 => Migration::Disabled,
                1 => Migration::Upgrade,
                2 => Migration::Downgrade,
                _ => Migration::Bidirectional,
            },
            ..GroupOptions::default()
        };
        let config = Arc::new(settings());
        let partitions = 2 + i32::try_from(random.below(4)).unwrap();
        let image = cluster_of(&config, &[("orders", partitions)]);
        let classic_share = [0, 0, 30, 50, 70][usize::try_from(random.below(5)).unwrap()];
        let mut world = Self {
            seed,
            now: Now { monotonic: Duration::from_secs(1), wall: Timestamp(1_795_000_000_000) },
            core: GroupCore::new(options.clone(), image.clone()),
            core_number: 0,
            options,
            config,
            image,
            partitions,
            log: Vec::new(),
            batches: vec![0],
            committed: 0,
            held: Vec::new(),
            asked: BTreeMap::new(),
            on_its_way: BTreeMap::new(),
            next: 0,
            calls: BTreeMap::new(),
            arrived: BTreeMap::new(),
            clients: Vec::new(),
            told: Told::default(),
            shared_out: BTreeMap::new(),
            unseen: None,
            readers: Readers::default(),
            totals: Totals::default(),
            is_calm: false,
            is_traced: std::env::var_os("SAWLOG_MIXED_TRACE").is_some(),
            is_cooperative: random.below(2) == 0,
            classic_share,
            value: 0,
            random,
        };
        for place in 0..usize::try_from(2 + world.random.below(4)).unwrap() {
            let client = Client::new(place, &mut world.random);
            world.clients.push(client);
            world.wake(place, Duration::from_millis(world.random.clone().below(3_000)));
        }
        for _ in 0..world.random.below(3) {
            let at = Duration::from_secs(world.random.below(60));
            world.send_later(at, Packet::Grow);
        }
        let output = world.core.on_loaded(world.now);
        world.take(output, None);
        world
    }

    /// Lives through it. Panics where a promise is broken.
    pub(super) fn run(mut self) -> Totals {
        let calm_at = self.now.monotonic + TROUBLE;
        while self.now.monotonic < calm_at {
            self.step();
            if self.random.below(250) == 0 {
                self.restart(true);
            }
        }
        self.is_calm = true;
        self.calm_clients();
        let end = calm_at + REST;
        while self.now.monotonic < end {
            self.step();
        }
        self.check_rest();
        self.totals
    }

    /// The next thing that happens.
    fn step(&mut self) {
        self.totals.events += 1;
        let packet = self.on_its_way.keys().next().copied();
        let deadline = self.core.next_deadline();
        match (packet, deadline) {
            (Some((at, _)), deadline) if deadline.is_none_or(|deadline| at <= deadline) => {
                self.jump(at);
                if let Some((_, packet)) = self.on_its_way.pop_first() {
                    self.handle(packet);
                }
            }
            (_, Some(deadline)) => {
                self.jump(deadline);
                let output = self.core.on_timers(self.now);
                self.take(output, None);
            }
            (_, None) => panic!("seed {}: nothing will ever happen again", self.seed),
        }
    }

    fn jump(&mut self, to: Duration) {
        let by = to.saturating_sub(self.now.monotonic);
        self.now.monotonic += by;
        self.now.wall.0 += i64::try_from(by.as_millis()).unwrap();
    }

    fn handle(&mut self, packet: Packet) {
        match packet {
            Packet::Request(call) => self.deliver(call),
            Packet::Reply { call, reply } => self.on_reply(call, reply),
            Packet::Commit(upto) => {
                self.committed = self.committed.max(upto.min(self.log.len()));
                self.release();
            }
            Packet::Wake(place) => self.on_wake(place),
            Packet::Assigned { done, core } if core == self.core_number => {
                let output = self.core.on_assigned(self.now, done);
                self.take(output, None);
            }
            Packet::Assigned { .. } => {}
            Packet::Grow => {
                self.partitions += 1;
                self.image = cluster_of(&self.config, &[("orders", self.partitions)]);
                self.core.see(&self.image);
            }
        }
    }

    /// A request reaches the coordinator, unless a newer one of its process has.
    fn deliver(&mut self, id: CallId) {
        let Some(call) = self.calls.get(&id) else { return };
        let newest = self.arrived.entry(call.process).or_insert(id);
        if *newest > id {
            return;
        }
        *newest = id;
        let request = RequestId(self.next);
        self.next += 1;
        let mut asked = call.request.clone();
        if let Request::Join(join) = &mut asked {
            // The broker makes them up, one for each time a request arrives.
            self.value += 1;
            join.fresh_member = MemberId::from(&*format!("k{}#{}", call.place, self.value));
        }
        self.asked.insert(request, id);
        let output = self.core.on_request(self.now, request, asked);
        self.take(output, Some(request));
    }

    /// Does what the shell does: appends the records, holds the replies back until they are
    /// committed, has assignments computed.
    fn take(&mut self, output: Output, request: Option<RequestId>) {
        if !output.records.is_empty() && !self.is_calm && self.random.below(80) == 0 {
            return self.refuse(output, request);
        }
        self.check_committer(&output, request);
        let was_consumer = self.told.is_consumer && !self.told.members.is_empty();
        let was_classic = !self.told.is_consumer && !self.told.members.is_empty();
        self.trace(&output, request);
        let call = request.and_then(|id| self.calls.get(self.asked.get(&id)?)).cloned();
        for record in &output.records {
            if let Some(call) = &call {
                self.note_returned_leader(call, record);
            }
            self.told.add(record);
        }
        self.totals.upgrades += u64::from(was_classic && self.told.is_consumer);
        self.totals.downgrades += u64::from(was_consumer && !self.told.is_consumer);
        let base = self.log.len();
        self.log.extend(output.records.iter().cloned());
        self.core.on_appended(output.records, Offset(i64::try_from(base).unwrap()));
        let end = self.log.len();
        if end > base {
            self.batches.push(end);
            let delay = if self.random.below(10) == 0 { 2_000 } else { 20 };
            let delay = Duration::from_millis(self.random.below(delay));
            self.send_later(delay, Packet::Commit(end));
        }
        for outgoing in output.replies {
            let after = outgoing.after.map_or(0, |after| usize::try_from(after.0).unwrap() + 1);
            let needs = after.max(if end > base { end } else { 0 });
            let (request, reply) = (outgoing.request, outgoing.reply);
            self.held.push(Held { needs, request, reply });
        }
        for job in output.jobs {
            self.totals.jobs += 1;
            let delay = Duration::from_millis(self.random.below(3_000));
            let packet = Packet::Assigned { done: job.run(), core: self.core_number };
            self.send_later(delay, packet);
        }
        self.release();
        let open = self.core.waiting_requests().len() + self.held.len();
        assert_eq!(open, self.asked.len(), "seed {}: a request is forgotten", self.seed);
    }

    /// Prints what happens, if that is wanted.
    fn trace(&self, output: &Output, request: Option<RequestId>) {
        if !self.is_traced {
            return;
        }
        let asked = request.and_then(|id| self.calls.get(self.asked.get(&id)?));
        println!("{:?} {:?}", self.now.monotonic, asked.map(|call| (call.place, &call.request)));
        for record in &output.records {
            println!("    writes {record:?}");
        }
        for reply in &output.replies {
            println!("    answers {reply:?}");
        }
    }

    /// Whose commit is taken is a member, at the epoch it says.
    fn check_committer(&mut self, output: &Output, request: Option<RequestId>) {
        let takes = |record: &Record| matches!(record, Record::Offset { value: Some(_), .. });
        let Some(call) = request.and_then(|id| self.calls.get(self.asked.get(&id)?)) else {
            return;
        };
        let Request::Commit(commit) = &call.request else { return };
        if !output.records.iter().any(takes) {
            self.totals.refused += 1;
            return;
        }
        self.totals.commits += 1;
        if self.told.is_consumer {
            let epoch = commit.member.as_ref().and_then(|id| *self.told.members.get(id)?);
            assert_eq!(epoch, Some(commit.generation.0), "{commit:?} of a stale epoch");
        }
    }

    /// The log takes no records just now.
    fn refuse(&mut self, output: Output, request: Option<RequestId>) {
        if !output.is_offsets_only() {
            return self.restart(false);
        }
        self.core.on_refused();
        if let Some((id, call)) =
            request.and_then(|id| Some((id, self.calls.get(self.asked.get(&id)?)?)))
        {
            let reply = call.request.refuse(GroupError::NotAvailable);
            self.held.push(Held { needs: 0, request: id, reply });
        }
        self.release();
    }

    fn release(&mut self) {
        let (ready, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|held| held.needs <= self.committed);
        self.held = held;
        for held in ready {
            let call = self.asked.remove(&held.request).expect("answered once");
            self.transmit(Packet::Reply { call, reply: held.reply });
        }
    }

    /// The coordinator starts anew. With `is_cut`, part of what was not committed is gone.
    fn restart(&mut self, is_cut: bool) {
        self.totals.restarts += 1;
        if is_cut {
            self.check_replay();
            let lost = self.log.len() - self.committed;
            let keep = self.random.below(u64::try_from(lost + 1).unwrap());
            let keep = self.committed + usize::try_from(keep).unwrap();
            let batch = |end: &&usize| **end <= keep && **end >= self.committed;
            let end = self.batches.iter().rev().find(batch).copied().unwrap_or(self.committed);
            self.log.truncate(end);
            self.batches.retain(|batch| *batch <= end);
            self.told = Told::default();
            for record in &self.log {
                self.told.add(record);
            }
        }
        // A new leader serves once all it has is committed.
        self.committed = self.log.len();
        self.held.clear();
        self.asked.clear();
        self.core_number += 1;
        self.core = GroupCore::new(self.options.clone(), self.image.clone());
        for (at, record) in (0..).zip(self.log.clone()) {
            self.core.replay(record, Offset(at));
        }
        let output = self.core.on_loaded(self.now);
        self.take(output, None);
    }

    /// The log gives back what is here. A classic group may be on its way to what is not written yet.
    fn check_replay(&mut self) {
        let mut copy = GroupCore::new(self.options.clone(), self.image.clone());
        for (at, record) in (0..).zip(&self.log) {
            copy.replay(record.clone(), Offset(at));
        }
        let records = copy.on_loaded(self.now).records;
        copy.on_appended(records, Offset(i64::try_from(self.log.len()).unwrap()));
        let offsets = |core: &mut GroupCore| {
            let all =
                OffsetFetch { group: group(), member: None, member_epoch: -1, partitions: None };
            ask(core, self.now, all)
        };
        assert_eq!(offsets(&mut self.core), offsets(&mut copy), "seed {}", self.seed);
        if self.told.is_consumer {
            let members = |core: &mut GroupCore| {
                ask(core, self.now, DescribeConsumerGroup { group: group() })
            };
            let ours = members(&mut self.core);
            if ours.is_ok() {
                assert_eq!(ours, members(&mut copy), "seed {}: replayed", self.seed);
            }
        }
    }

    /// After the rest every partition is read by one member, but those no leader has seen.
    fn check_rest(&mut self) {
        let seed = self.seed;
        let read = self.readers.all();
        let distinct: BTreeSet<i32> = read.iter().copied().collect();
        assert_eq!(read.len(), distinct.len(), "seed {seed}: a partition read twice");
        let unseen = self.unseen();
        let wanted = (0..self.partitions).filter(|partition| !unseen.contains(partition)).collect();
        assert_eq!(distinct, wanted, "seed {seed}: not all is read");
        let active = self.clients.iter().filter(|client| client.phase == Phase::Active).count();
        let may_join = |client: &&Client| {
            let speaks = client.speaks == GroupType::Classic;
            !client.is_retired
                && (speaks || self.told.is_consumer || self.options.migration.upgrades())
        };
        let wanted = self.clients.iter().filter(may_join).count();
        assert_eq!(active, wanted, "seed {seed}: {:?}", self.clients);
        if self.told.is_consumer {
            let asked = DescribeConsumerGroup { group: group() };
            let group = ask(&mut self.core, self.now, asked).unwrap().unwrap();
            assert_eq!(group.state, GroupState::Stable, "seed {seed}: {group:?}");
        }
    }

    pub(super) fn call(&mut self, call: Call) -> CallId {
        let id = CallId(self.next);
        self.next += 1;
        self.calls.insert(id, call);
        self.transmit(Packet::Request(id));
        id
    }

    pub(super) fn wake(&mut self, place: usize, after: Duration) {
        self.send_later(after, Packet::Wake(place));
    }

    /// The network: late and lost.
    fn transmit(&mut self, packet: Packet) {
        if !self.is_calm && self.random.below(100) < 4 {
            return;
        }
        let limit = if !self.is_calm && self.random.below(20) == 0 { 8_000 } else { 5 };
        let delay = Duration::from_millis(self.random.below(limit));
        self.send_later(delay, packet);
    }

    fn send_later(&mut self, delay: Duration, packet: Packet) {
        self.next += 1;
        self.on_its_way.insert((self.now.monotonic + delay, self.next), packet);
    }
}

/// Sessions of ten seconds, so that much happens in little time.
fn settings() -> BrokerConfig {
    let settings = [
        ("group.consumer.min.session.timeout.ms", "1000"),
        ("group.consumer.min.heartbeat.interval.ms", "1000"),
        ("group.consumer.heartbeat.interval.ms", "2000"),
        ("group.consumer.session.timeout.ms", "10000"),
    ];
    let sources = settings
        .iter()
        .fold(Sources::new(), |sources, (key, value)| sources.flag("--set", key, value));
    sources.load().expect("settings that hold together").with_node_id(1)
}

fn ask<A: Ask>(core: &mut GroupCore, now: Now, ask: A) -> A::Answer {
    let mut output = core.on_request(now, RequestId(u64::MAX), ask.into_request());
    A::answer(output.replies.pop().expect("answered").reply).expect("its kind")
}
