//! Coordinator, log, network and clock of one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::classic::Unseen;
use super::client::{Call, Client, Phase};
use super::watch::{Readers, Told, Totals};
use crate::base::disk_sim::SimRandom;
use crate::config::{BrokerConfig, Sources};
use crate::coordinator::tests::driver::{cluster_of, group};
use crate::coordinator::tests::seeded::CallId;
use crate::coordinator::tests::seeded::later::Later;
use crate::coordinator::tests::seeded::scene::Scene;
use crate::coordinator::tests::seeded::shell::{Shell, ask};
use crate::coordinator::*;

/// Something on its way.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    Request(CallId),
    Reply(CallId, Reply),
    Commit(usize),
    Wake(usize),
    Assigned { done: AssignDone, core: u64 },
    Grow,
}

/// Everything of one seed.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) random: SimRandom,
    shell: Shell,
    later: Later<Packet>,
    config: Arc<BrokerConfig>,
    pub(super) partitions: i32,
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
            shell: Shell::new(options, image),
            later: Later::default(),
            config,
            partitions,
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
        let output = world.shell.core.on_loaded(world.shell.now);
        world.take(output, None);
        world
    }

    /// Lives through it. Panics where a promise is broken.
    pub(super) fn run(mut self) -> Totals {
        self.totals.events = self.live();
        self.check_rest();
        self.totals
    }

    /// A request reaches the coordinator, unless a newer one of its process has.
    fn deliver(&mut self, id: CallId) {
        let Some(call) = self.calls.get(&id) else { return };
        let newest = self.arrived.entry(call.process).or_insert(id);
        if *newest > id {
            return;
        }
        *newest = id;
        let request = RequestId(self.later.number());
        let mut asked = call.request.clone();
        if let Request::Join(join) = &mut asked {
            // The broker makes them up, one for each time a request arrives.
            self.value += 1;
            join.fresh_member = MemberId::from(&*format!("k{}#{}", call.place, self.value));
        }
        let output = self.shell.ask((request, id), asked);
        self.take(output, Some(request));
    }

    /// Does what the shell does: appends the records, holds the replies back until they are
    /// committed, has assignments computed.
    fn take(&mut self, output: Output, request: Option<RequestId>) {
        if !output.records.is_empty() && !self.is_calm && self.random.below(80) == 0 {
            return self.refuse(&output, request);
        }
        self.check_committer(&output, request);
        let was_consumer = self.told.is_consumer && !self.told.members.is_empty();
        let was_classic = !self.told.is_consumer && !self.told.members.is_empty();
        self.trace(&output, request);
        let call = self.call_of(request).cloned();
        for record in &output.records {
            if let Some(call) = &call {
                self.note_returned_leader(call, record);
            }
            self.told.add(record);
        }
        self.totals.upgrades += u64::from(was_classic && self.told.is_consumer);
        self.totals.downgrades += u64::from(was_consumer && !self.told.is_consumer);
        let wrote = self.shell.append(&output.records);
        if wrote.is_some() {
            let delay = if self.random.below(10) == 0 { 2_000 } else { 20 };
            let delay = Duration::from_millis(self.random.below(delay));
            self.send_later(delay, Packet::Commit(self.shell.log.len()));
        }
        self.shell.hold(output.replies, wrote);
        for job in output.jobs {
            self.totals.jobs += 1;
            let delay = Duration::from_millis(self.random.below(3_000));
            let packet = Packet::Assigned { done: job.run(), core: self.shell.core_number };
            self.send_later(delay, packet);
        }
        self.release();
        self.shell.check_waiting(self.seed);
    }

    /// What a request of the core was sent with.
    fn call_of(&self, request: Option<RequestId>) -> Option<&Call> {
        self.calls.get(&self.shell.call_of(request?)?)
    }

    /// Prints what happens, if that is wanted.
    fn trace(&self, output: &Output, request: Option<RequestId>) {
        if !self.is_traced {
            return;
        }
        let asked = self.call_of(request);
        println!("{:?} {:?}", self.now(), asked.map(|call| (call.place, &call.request)));
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
        let Some(Request::Commit(commit)) = self.call_of(request).map(|call| call.request.clone())
        else {
            return;
        };
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
    fn refuse(&mut self, output: &Output, request: Option<RequestId>) {
        if !output.is_offsets_only() {
            return self.restart(false);
        }
        let refusal =
            self.call_of(request).map(|call| call.request.refuse(GroupError::NotAvailable));
        self.shell.refuse(request.zip(refusal));
        self.release();
    }

    fn release(&mut self) {
        for (call, held) in self.shell.release() {
            self.transmit(Packet::Reply(call, held.reply));
        }
    }

    /// The coordinator starts anew. With `is_cut`, part of what was not committed is gone.
    fn restart(&mut self, is_cut: bool) {
        self.totals.restarts += 1;
        if is_cut {
            self.check_replay();
            let keep = self.random.below(self.shell.uncommitted() + 1);
            self.shell.lose(keep);
            self.told = Told::default();
            for record in &self.shell.log {
                self.told.add(record);
            }
        }
        let output = self.shell.restart();
        self.take(output, None);
    }

    /// The log gives back what is here. A classic group may be on its way to what is not written yet.
    fn check_replay(&mut self) {
        let (mut copy, now) = (self.shell.copy(), self.shell.now);
        self.shell.check_offsets(&mut copy, self.seed);
        if self.told.is_consumer {
            let members =
                |core: &mut GroupCore| ask(core, now, DescribeConsumerGroup { group: group() });
            let ours = members(&mut self.shell.core);
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
                && (speaks || self.told.is_consumer || self.shell.options.migration.upgrades())
        };
        let wanted = self.clients.iter().filter(may_join).count();
        assert_eq!(active, wanted, "seed {seed}: {:?}", self.clients);
        if self.told.is_consumer {
            let asked = DescribeConsumerGroup { group: group() };
            let group = ask(&mut self.shell.core, self.shell.now, asked).unwrap().unwrap();
            assert_eq!(group.state, GroupState::Stable, "seed {seed}: {group:?}");
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.shell.now.monotonic
    }

    pub(super) fn call(&mut self, call: Call) -> CallId {
        let id = CallId(self.later.number());
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
        self.later.send(self.now() + delay, packet);
    }
}

impl Scene for World {
    type Packet = Packet;

    const RESTART_ODDS: u64 = 250;

    fn around(&mut self) -> (&mut Shell, &mut Later<Packet>, &mut SimRandom) {
        (&mut self.shell, &mut self.later, &mut self.random)
    }

    fn handle(&mut self, packet: Packet) {
        match packet {
            Packet::Request(call) => self.deliver(call),
            Packet::Reply(call, reply) => self.on_reply(call, reply),
            Packet::Commit(upto) => {
                self.shell.commit(upto);
                self.release();
            }
            Packet::Wake(place) => self.on_wake(place),
            Packet::Assigned { done, core } if core == self.shell.core_number => {
                let output = self.shell.core.on_assigned(self.shell.now, done);
                self.take(output, None);
            }
            Packet::Assigned { .. } => {}
            Packet::Grow => {
                self.partitions += 1;
                self.shell.see(cluster_of(&self.config, &[("orders", self.partitions)]));
            }
        }
    }

    fn on_deadline(&mut self, output: Output) {
        self.take(output, None);
    }

    fn restart_and_lose(&mut self) {
        self.restart(true);
    }

    fn calm(&mut self) {
        self.is_calm = true;
        self.calm_clients();
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
