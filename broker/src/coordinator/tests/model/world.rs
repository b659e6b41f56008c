//! Coordinator, log, network and clock of one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::clients::{Call, CallId, Member};
use super::oracle::{Oracle, Totals};
use crate::base::disk_sim::SimRandom;
use crate::base::{Offset, Timestamp};
use crate::coordinator::tests::driver::{cluster, group};
use crate::coordinator::*;

/// Partitions of the one topic, `orders`.
pub(super) const PARTITIONS: i32 = 4;

/// How long things go wrong, and how long the group has then to come to rest.
const TROUBLE: Duration = Duration::from_secs(60);
const REST: Duration = Duration::from_secs(100);

/// Something on its way.
#[derive(Clone, Debug)]
enum Packet {
    Request(CallId),
    Reply { call: CallId, reply: Reply, life: u64, wrote: Option<usize> },
    Commit(usize),
    Wake(usize),
}

/// A reply that waits for the log.
#[derive(Debug)]
struct Held {
    /// Records that have to be committed.
    needs: usize,
    request: RequestId,
    reply: Reply,
    life: u64,
    wrote: Option<usize>,
}

/// Everything of one seed.
pub(super) struct World {
    seed: u64,
    pub(super) random: SimRandom,
    pub(super) now: Now,
    options: GroupOptions,
    core: GroupCore,
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
    pub(super) members: Vec<Member>,
    pub(super) oracle: Oracle,
    /// Counts how often the group was removed for good.
    life: u64,
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
            now: Now { monotonic: Duration::from_secs(1), wall: Timestamp(1_795_000_000_000) },
            core: GroupCore::new(options.clone(), cluster(&[])),
            options,
            log: Vec::new(),
            batches: vec![0],
            committed: 0,
            held: Vec::new(),
            asked: BTreeMap::new(),
            on_its_way: BTreeMap::new(),
            next: 0,
            calls: BTreeMap::new(),
            members: Vec::new(),
            oracle: Oracle::default(),
            life: 0,
            is_calm: false,
            is_sleepy: members < 3,
            value: 0,
        };
        for index in 0..usize::try_from(members).unwrap() {
            let member = Member::new(index, &mut world.random);
            world.members.push(member);
            world.wake(index, Duration::ZERO);
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
            if self.random.below(200) == 0 {
                self.restart(true);
            }
        }
        self.is_calm = true;
        self.calm_members();
        let end = calm_at + REST;
        while self.now.monotonic < end {
            self.step();
        }
        self.check_rest();
        self.oracle.finish();
        self.oracle.totals
    }

    /// The next thing that happens.
    fn step(&mut self) {
        self.oracle.totals.events += 1;
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
                self.check_expiry(&output);
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
            Packet::Reply { call, reply, life, wrote } => {
                self.on_reply(call, reply, (life, wrote, self.committed));
            }
            Packet::Commit(upto) => {
                self.committed = self.committed.max(upto.min(self.log.len()));
                self.release();
            }
            Packet::Wake(member) => self.on_wake(member),
        }
    }

    /// A request reaches the coordinator.
    fn deliver(&mut self, id: CallId) {
        let Some(call) = self.calls.get(&id) else { return };
        let request = RequestId(self.next);
        self.next += 1;
        let (member, mut asked) = (call.member, call.request.clone());
        if let Request::Join(join) = &mut asked {
            // The broker makes them up, one for each time a request arrives.
            self.value += 1;
            join.fresh_member = MemberId::from(&*format!("m{member}#{}", self.value));
        }
        self.asked.insert(request, id);
        let output = self.core.on_request(self.now, request, asked);
        self.take(output, Some(request));
    }

    /// Does what the shell does: appends the records, holds the replies back until they are
    /// committed.
    fn take(&mut self, output: Output, request: Option<RequestId>) {
        if !output.records.is_empty() && !self.is_calm && self.random.below(60) == 0 {
            return self.refuse(output, request);
        }
        let base = self.log.len();
        for (at, record) in (base..).zip(&output.records) {
            self.oracle.on_appended(at, record);
            if matches!(record, Record::Group { value: None, .. }) {
                self.life += 1;
            }
        }
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
            self.held.push(Held {
                needs: after.max(if end > base { end } else { 0 }),
                request: outgoing.request,
                reply: outgoing.reply,
                life: self.life,
                wrote: (end > base).then_some(base),
            });
        }
        self.release();
        self.check_waiting();
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
            self.held.push(Held { needs: 0, request: id, reply, life: self.life, wrote: None });
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
            let Held { reply, life, wrote, .. } = held;
            self.transmit(Packet::Reply { call, reply, life, wrote });
        }
    }

    /// Every request is waiting in the core, held back here, or answered.
    fn check_waiting(&self) {
        let open = self.core.waiting_requests().len() + self.held.len();
        assert_eq!(open, self.asked.len(), "seed {}: a request is forgotten", self.seed);
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
        let mut copy = replayed(&self.options, &self.log, self.now);
        describe(&mut copy, self.now)
    }

    /// The coordinator starts anew. With `is_cut`, part of what was not committed is gone.
    fn restart(&mut self, is_cut: bool) {
        self.oracle.totals.restarts += 1;
        if is_cut {
            self.check_replay();
        }
        if is_cut && self.committed < self.log.len() {
            let keep = self.committed
                + usize::try_from(
                    self.random.below(u64::try_from(self.log.len() - self.committed + 1).unwrap()),
                )
                .unwrap();
            let batch = |end: &&usize| **end <= keep && **end >= self.committed;
            let end = self.batches.iter().rev().find(batch).copied().unwrap_or(self.committed);
            self.log.truncate(end);
            self.batches.retain(|batch| *batch <= end);
            self.oracle.on_lost(end);
        }
        // A new leader serves once all it has is committed.
        self.committed = self.log.len();
        self.held.clear();
        self.asked.clear();
        self.core = GroupCore::new(self.options.clone(), cluster(&[]));
        for (at, record) in (0..).zip(self.log.clone()) {
            self.core.replay(record, Offset(at));
        }
        let output = self.core.on_loaded(self.now);
        self.take(output, None);
    }

    /// The log gives back what is here: offsets always, the group unless it rebalances.
    fn check_replay(&mut self) {
        let mut copy = replayed(&self.options, &self.log, self.now);
        assert_eq!(offsets(&mut self.core, self.now), offsets(&mut copy, self.now));
        let ours = describe(&mut self.core, self.now);
        let at_rest = |group: &DescribedGroup| {
            matches!(group.state, GroupState::Stable | GroupState::Empty)
                && (group.state == GroupState::Stable || !group.protocol_type.is_empty())
        };
        if ours.as_ref().is_some_and(at_rest) {
            assert_eq!(ours, describe(&mut copy, self.now), "seed {}: replayed", self.seed);
        }
    }

    /// After the rest: one generation, and every partition read by one member.
    fn check_rest(&mut self) {
        let seed = self.seed;
        let group = describe(&mut self.core, self.now).expect("there is a group");
        assert_eq!(group.state, GroupState::Stable, "seed {seed}: {group:?}");
        let owned: Vec<i32> = self.members.iter().flat_map(Member::owned).collect();
        let distinct: BTreeSet<i32> = owned.iter().copied().collect();
        assert_eq!(owned.len(), distinct.len(), "seed {seed}: a partition read twice");
        assert_eq!(distinct, (0..PARTITIONS).collect(), "seed {seed}: a partition not read");
    }

    pub(super) fn life(&self) -> u64 {
        self.life
    }

    pub(super) fn call(&mut self, call: Call) -> CallId {
        let id = CallId(self.next);
        self.next += 1;
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
        self.next += 1;
        self.on_its_way.insert((self.now.monotonic + delay, self.next), packet);
    }
}

fn replayed(options: &GroupOptions, log: &[Record], now: Now) -> GroupCore {
    let mut core = GroupCore::new(options.clone(), cluster(&[]));
    for (at, record) in (0..).zip(log) {
        core.replay(record.clone(), Offset(at));
    }
    let records = core.on_loaded(now).records;
    core.on_appended(records, Offset(i64::try_from(log.len()).unwrap()));
    core
}

fn ask<A: Ask>(core: &mut GroupCore, now: Now, ask: A) -> A::Answer {
    let mut output = core.on_request(now, RequestId(u64::MAX), ask.into_request());
    A::answer(output.replies.pop().expect("answered").reply).expect("its kind")
}

fn describe(core: &mut GroupCore, now: Now) -> Option<DescribedGroup> {
    ask(core, now, DescribeGroup { group: group() }).expect("described")
}

fn offsets(core: &mut GroupCore, now: Now) -> Vec<FetchedOffset> {
    let request = OffsetFetch { group: group(), member: None, member_epoch: -1, partitions: None };
    ask(core, now, request).expect("fetched")
}
