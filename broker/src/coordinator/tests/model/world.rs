//! Coordinator, log, network and clock of one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::clients::{Call, Member};
use super::oracle::{Oracle, Totals};
use crate::base::disk_sim::SimRandom;
use crate::coordinator::tests::driver::{cluster, group};
use crate::coordinator::tests::seeded::CallId;
use crate::coordinator::tests::seeded::later::Later;
use crate::coordinator::tests::seeded::scene::Scene;
use crate::coordinator::tests::seeded::shell::{Held, Shell, ask};
use crate::coordinator::*;

/// Partitions of the one topic, `orders`.
pub(super) const PARTITIONS: i32 = 4;

/// Something on its way.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    Request(CallId),
    Reply(CallId, Answer),
    Commit(usize),
    Wake(usize),
}

/// A reply, and what it was decided on.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) reply: Reply,
    /// The group's life.
    pub(super) life: u64,
    /// Where the records that were written for it are.
    pub(super) wrote: Option<usize>,
}

/// Everything of one seed.
pub(super) struct World {
    seed: u64,
    pub(super) random: SimRandom,
    pub(super) shell: Shell,
    later: Later<Packet>,
    pub(super) calls: BTreeMap<CallId, Call>,
    pub(super) members: Vec<Member>,
    pub(super) oracle: Oracle,
    pub(super) is_calm: bool,
    /// Who goes stays away for long: the group is empty at times.
    pub(super) is_sleepy: bool,
    pub(super) value: i64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = SimRandom::new(seed);
        let options = GroupOptions {
            initial_rebalance_delay: Duration::from_secs(random.below(4)),
            size_max: if random.below(8) == 0 { 3 } else { usize::MAX },
            offsets_retention: Duration::from_secs(if random.below(2) == 0 { 20 } else { 3600 }),
            offsets_check_interval: Duration::from_secs(5),
            first_join_timeout: Duration::from_secs(30),
            ..GroupOptions::default()
        };
        let members = 1 + random.below(5);
        let mut world = Self {
            seed,
            random,
            shell: Shell::new(options, cluster(&[])),
            later: Later::default(),
            calls: BTreeMap::new(),
            members: Vec::new(),
            oracle: Oracle::default(),
            is_calm: false,
            is_sleepy: members < 3,
            value: 0,
        };
        for index in 0..usize::try_from(members).unwrap() {
            let member = Member::new(index, &mut world.random);
            world.members.push(member);
            world.wake(index, Duration::ZERO);
        }
        let output = world.shell.core.on_loaded(world.shell.now);
        world.take(output, None);
        world
    }

    /// Lives through it. Panics where a promise is broken.
    pub(super) fn run(mut self) -> Totals {
        self.oracle.totals.events = self.live();
        self.check_rest();
        self.oracle.finish();
        self.oracle.totals
    }

    /// A request reaches the coordinator.
    fn deliver(&mut self, id: CallId) {
        let Some(call) = self.calls.get(&id) else { return };
        let request = RequestId(self.later.number());
        let (member, mut asked) = (call.member, call.request.clone());
        if let Request::Join(join) = &mut asked {
            // The broker makes them up, one for each time a request arrives.
            self.value += 1;
            join.fresh_member = MemberId::from(&*format!("m{member}#{}", self.value));
        }
        let output = self.shell.ask((request, id), asked);
        self.take(output, Some(request));
    }

    /// Does what the shell does: appends the records, holds the replies back until they are
    /// committed.
    fn take(&mut self, output: Output, request: Option<RequestId>) {
        if !output.records.is_empty() && !self.is_calm && self.random.below(60) == 0 {
            return self.refuse(&output, request);
        }
        for (at, record) in (self.shell.log.len()..).zip(&output.records) {
            self.oracle.on_appended(at, record);
        }
        let wrote = self.shell.append(&output.records);
        if wrote.is_some() {
            let delay = if self.random.below(10) == 0 { 2_000 } else { 20 };
            let delay = Duration::from_millis(self.random.below(delay));
            self.send_later(delay, Packet::Commit(self.shell.log.len()));
        }
        self.shell.hold(output.replies, wrote);
        self.release();
        self.shell.check_waiting(self.seed);
    }

    /// The log takes no records just now.
    fn refuse(&mut self, output: &Output, request: Option<RequestId>) {
        if !output.is_offsets_only() {
            return self.restart(false);
        }
        let refusal = request.and_then(|id| {
            let call = self.calls.get(&self.shell.call_of(id)?)?;
            Some((id, call.request.refuse(GroupError::NotAvailable)))
        });
        self.shell.refuse(refusal);
        self.release();
    }

    fn release(&mut self) {
        for (call, Held { reply, life, wrote, .. }) in self.shell.release() {
            self.transmit(Packet::Reply(call, Answer { reply, life, wrote }));
        }
    }

    /// Whoever loses offsets by age has no members, or none that reads the topic.
    fn check_expiry(&mut self, output: &Output) {
        for record in &output.records {
            let Record::Offset { partition, value: None, .. } = record else { continue };
            let described = self.peek();
            let state = described.as_ref().map_or(GroupState::Dead, |group| group.state);
            assert_eq!(state, GroupState::Empty, "{partition} expired, and all members read it");
            self.oracle.totals.expired += 1;
        }
    }

    /// Looks at the group without taking part. Not while records are unreported: they are, when
    /// this is called for expiry, so a copy of the log is asked.
    fn peek(&self) -> Option<DescribedGroup> {
        describe(&mut self.shell.copy(), self.shell.now)
    }

    /// The coordinator starts anew. With `is_cut`, part of what was not committed is gone.
    fn restart(&mut self, is_cut: bool) {
        self.oracle.totals.restarts += 1;
        if is_cut {
            self.check_replay();
        }
        if is_cut && self.shell.uncommitted() > 0 {
            let keep = self.random.below(self.shell.uncommitted() + 1);
            let end = self.shell.lose(keep);
            self.oracle.on_lost(end);
        }
        let output = self.shell.restart();
        self.take(output, None);
    }

    /// The log gives back what is here: offsets always, the group unless it rebalances. One that is
    /// larger than allowed does after a restart: static members that were away for a rebalance are
    /// members besides those it has admitted, as with Apache Kafka.
    fn check_replay(&mut self) {
        let (mut copy, now) = (self.shell.copy(), self.shell.now);
        self.shell.check_offsets(&mut copy, self.seed);
        let ours = describe(&mut self.shell.core, now);
        let size_max = self.shell.options.size_max;
        let at_rest = |group: &DescribedGroup| match group.state {
            GroupState::Stable => group.members.len() <= size_max,
            GroupState::Empty => !group.protocol_type.is_empty(),
            _ => false,
        };
        if ours.as_ref().is_some_and(at_rest) {
            assert_eq!(ours, describe(&mut copy, now), "seed {}: replayed", self.seed);
        }
    }

    /// After the rest: one generation, and every partition read by one member.
    fn check_rest(&mut self) {
        let seed = self.seed;
        let group = describe(&mut self.shell.core, self.shell.now).expect("there is a group");
        assert_eq!(group.state, GroupState::Stable, "seed {seed}: {group:?}");
        let owned: Vec<i32> = self.members.iter().flat_map(Member::owned).collect();
        let distinct: BTreeSet<i32> = owned.iter().copied().collect();
        assert_eq!(owned.len(), distinct.len(), "seed {seed}: a partition read twice");
        assert_eq!(distinct, (0..PARTITIONS).collect(), "seed {seed}: a partition not read");
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

    pub(super) fn wake(&mut self, member: usize, after: Duration) {
        self.send_later(after, Packet::Wake(member));
    }

    /// The network: late, lost, doubled.
    fn transmit(&mut self, packet: Packet) {
        let trouble = if self.is_calm { 100 } else { self.random.below(100) };
        if let (Packet::Request(call), 0..=4) = (&packet, trouble)
            && let Some(call) = self.calls.get_mut(call)
        {
            call.is_doubled = true;
        }
        let copies = match trouble {
            0..=2 => 0,
            3 | 4 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let limit = if !self.is_calm && self.random.below(20) == 0 { 8_000 } else { 5 };
            let delay = Duration::from_millis(self.random.below(limit));
            self.send_later(delay, packet.clone());
        }
    }

    fn send_later(&mut self, delay: Duration, packet: Packet) {
        self.later.send(self.now() + delay, packet);
    }
}

impl Scene for World {
    type Packet = Packet;

    const RESTART_ODDS: u64 = 200;

    fn around(&mut self) -> (&mut Shell, &mut Later<Packet>, &mut SimRandom) {
        (&mut self.shell, &mut self.later, &mut self.random)
    }

    fn handle(&mut self, packet: Packet) {
        match packet {
            Packet::Request(call) => self.deliver(call),
            Packet::Reply(call, answer) => self.on_reply(call, answer, self.shell.committed),
            Packet::Commit(upto) => {
                self.shell.commit(upto);
                self.release();
            }
            Packet::Wake(member) => self.on_wake(member),
        }
    }

    fn on_deadline(&mut self, output: Output) {
        self.check_expiry(&output);
        self.take(output, None);
    }

    fn restart_and_lose(&mut self) {
        self.restart(true);
    }

    fn calm(&mut self) {
        self.is_calm = true;
        self.calm_members();
    }
}

fn describe(core: &mut GroupCore, now: Now) -> Option<DescribedGroup> {
    ask(core, now, DescribeGroup { group: group() }).expect("described")
}
