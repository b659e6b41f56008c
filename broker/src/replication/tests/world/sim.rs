//! The world of one seed: what happens next, and what goes over the network.

use std::collections::BTreeMap;

use sawlog_protocol::Uuid;

use super::clients::Client;
use super::controller::{Controller, at, id, topic};
use super::event::{Event, Message, NodeAt, ToNode};
use super::node::Node;
use super::oracle::{Ledger, Totals};
use super::weather::Weather;
use crate::base::disk_sim::SimRandom;
use crate::controller::replicas::{register, unfence};
use crate::metadata::{Image, PartitionState};

/// How long things go wrong, and how long there is to come to rest.
const TROUBLE: u64 = 12_000_000;
const REST: u64 = 10_000_000;

/// Before the end nothing is written any more.
const SILENCE: u64 = 8_000_000;

pub(super) struct World {
    pub(super) random: SimRandom,
    /// Microseconds since the beginning.
    pub(super) now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    next: u64,
    pub(super) weather: Weather,
    pub(super) nodes: Vec<Node>,
    pub(super) controller: Controller,
    pub(super) clients: Vec<Client>,
    pub(super) ledgers: Vec<Ledger>,
    /// Who cannot reach whom; the controller is behind the brokers.
    pub(super) cut: Vec<Vec<bool>>,
    pub(super) cuts: u64,
    pub(super) calm: bool,
    pub(super) value: u64,
    pub(super) totals: Totals,
    /// Tells what happens.
    pub(super) is_telling: bool,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = SimRandom::new(seed);
        let weather = Weather::of(&mut random);
        let places = weather.nodes + 1;
        let mut world = Self {
            random,
            now: 1_000_000,
            queue: BTreeMap::new(),
            next: 0,
            nodes: Vec::new(),
            controller: Controller::new(weather.nodes),
            clients: Vec::new(),
            ledgers: (0..weather.partitions).map(|_| Ledger::default()).collect(),
            cut: vec![vec![false; places]; places],
            cuts: 0,
            calm: false,
            value: 0,
            totals: Totals::default(),
            is_telling: false,
            weather,
        };
        for node in 0..world.weather.nodes {
            let storage = world.new_storage();
            world.nodes.push(Node::new(world.weather.partitions, storage));
            world.introduce(node);
        }
        let records = topic(&world.weather);
        world.commit(records);
        for node in 0..world.nodes.len() {
            world.after(0, Event::Start(node));
        }
        for client in 0..world.weather.clients {
            let partition = client % world.weather.partitions;
            world.clients.push(Client::new(client, partition));
            world.after(500_000, Event::Client(client));
        }
        for event in [Event::Noise, Event::Sessions, Event::Fault] {
            world.after(1_000_000, event);
        }
        world
    }

    /// As of a process before those that are seen.
    fn introduce(&mut self, node: NodeAt) {
        let start = self.registration(node, 0, true, &[]);
        let (_, records) = register(self.controller.image(), &start).unwrap();
        self.commit(records);
        let records = unfence(self.controller.image(), id(node));
        self.commit(records);
    }

    pub(super) fn new_storage(&mut self) -> Uuid {
        self.value += 1;
        Uuid(u128::from(self.value).to_be_bytes())
    }

    /// Lives through it. Panics where a promise is broken.
    pub(super) fn run(mut self) -> Totals {
        let calm_at = self.now + TROUBLE;
        let end = calm_at + REST;
        while let Some(((time, _), event)) = self.queue.pop_first() {
            if time >= calm_at && !self.calm {
                self.calm_down();
            }
            if time >= end {
                break;
            }
            self.now = time;
            self.handle(event);
        }
        self.check_rest();
        for ledger in &self.ledgers {
            ledger.finish();
            self.totals.committed += u64::try_from(ledger.committed.len()).unwrap();
            self.totals.acknowledged += u64::try_from(ledger.acknowledged.len()).unwrap();
        }
        self.totals
    }

    /// Whether the producers still write.
    pub(super) fn is_writing(&self) -> bool {
        !self.calm || self.now < 1_000_000 + TROUBLE + REST - SILENCE
    }

    pub(super) fn after(&mut self, delay: u64, event: Event) {
        self.next += 1;
        self.queue.insert((self.now + delay, self.next), event);
    }

    /// Over the network. Brokers come first, then the controller.
    pub(super) fn send(&mut self, from: NodeAt, to: NodeAt, message: Message) {
        if self.cut[from][to] || self.random.below(1000) < self.weather.lost {
            return;
        }
        if self.random.below(1000) < self.weather.doubled {
            let delay = self.delay() + self.random.below(self.weather.late_max);
            self.after(delay, Event::Deliver(message.clone()));
        }
        let delay = self.delay();
        self.after(delay, Event::Deliver(message));
    }

    pub(super) fn delay(&mut self) -> u64 {
        let late = self.random.below(1000) < self.weather.late;
        200 + self.random.below(if late { self.weather.late_max } else { 1_000 })
    }

    fn handle(&mut self, event: Event) {
        if let Some(node) = concerned(&event)
            && self.nodes[node].paused_until > self.now
        {
            let delay = self.nodes[node].paused_until - self.now;
            return self.after(delay, event);
        }
        self.totals.events += 1;
        self.note(&event);
        match event {
            Event::Deliver(message) => self.deliver(message),
            Event::Tick(node, life) => self.on_tick(node, life),
            Event::Flushed { node, life, partition, upto, of } => {
                self.on_flushed(node, life, partition, (upto, of));
            }
            Event::Metadata(node, life) => self.on_metadata(node, life),
            Event::Start(node) => self.start(node),
            Event::Client(client) => self.on_client(client),
            Event::GiveUp(node, life) if self.nodes[node].is_alive(life) => self.kill(node),
            Event::GiveUp(..) => {}
            Event::Noise => self.on_noise(),
            Event::Sessions => {
                self.look_at_sessions();
                self.after(200_000, Event::Sessions);
            }
            Event::Fault => self.on_fault(),
            Event::Heal(cut) if cut == self.cuts => self.heal(),
            Event::Heal(_) => {}
        }
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::ToNode { node, from, body } => match body {
                ToNode::Fetch { partition, asked } => self.on_fetch(node, partition, asked),
                ToNode::Fetched { partition, life, number, answer } => {
                    self.on_fetched(node, life, partition, (number, answer));
                }
                ToNode::Durable { partition, report } => {
                    self.on_durable(node, from, partition, report);
                }
            },
            Message::ToController { node, life, body } => self.on_controller(node, life, body),
            Message::FromController { node, life, body } => self.on_answer(node, life, body),
            Message::Produce { node, client, call, entry } => {
                self.on_produce(node, client, call, entry);
            }
            Message::Produced { client, call, outcome } => self.on_produced(client, call, outcome),
        }
    }

    fn note(&mut self, event: &Event) {
        let mixed = self.totals.trace ^ self.now ^ (self.random.clone().bits() << 1);
        self.totals.trace = mixed.rotate_left(5).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if self.is_telling {
            println!("{:>10} {event:?}", self.now);
        }
    }

    /// (8, 12–14, 19) What holds of every image.
    pub(super) fn check_image(&mut self, before: &Image) {
        self.controller.image().check();
        for partition in 0..self.weather.partitions {
            let was = before.topic("t").and_then(|topic| topic.partitions.get(partition));
            let Some(state) = self.controller.state(partition) else { continue };
            if Some(state) == was {
                continue;
            }
            self.check_state(state);
            if let Some(was) = was {
                self.totals.elections += u64::from(state.leader_epoch > was.leader_epoch);
                self.totals.joined += u64::from(state.isr.len() > was.isr.len());
                self.totals.left += u64::from(state.isr.len() < was.isr.len());
                self.totals.reassigned +=
                    u64::from(state.adding.is_empty() && !was.adding.is_empty());
                check_change(was, state);
            }
            self.check_durable(partition);
        }
    }

    fn check_state(&self, state: &PartitionState) {
        let image = self.controller.image();
        for member in &state.isr {
            let broker = image.broker(*member).unwrap();
            assert!(!broker.fenced, "(13, 14) {member} is fenced: {state:?}");
            let is_last = state.isr.len() == 1;
            assert!(!broker.shutting_down || is_last, "(13) {member} leaves: {state:?}");
        }
        assert_eq!(state.leader.is_none(), state.isr.is_empty(), "(13) {state:?}");
    }

    /// (8) Who is in sync or eligible has what is committed, on a disk that is not lost.
    pub(super) fn check_durable(&self, partition: usize) {
        let Some(state) = self.controller.state(partition).filter(|_| !self.weather.lazy) else {
            return;
        };
        let ledger = &self.ledgers[partition];
        for member in state.isr.iter().chain(&state.elr) {
            let node = &self.nodes[at(*member)];
            let known = self.controller.image().broker(*member).unwrap();
            if !known.storage_ids.contains(&node.storage) || node.damaged[partition] {
                continue;
            }
            let log = &node.logs[partition];
            assert!(
                log.durable >= ledger.committed.len() && ledger.is_whole(&log.entries),
                "(8) {member} has {} of {} committed on disk: {state:?}",
                log.durable,
                ledger.committed.len()
            );
        }
    }
}

/// (12) What one entry makes of a partition.
fn check_change(was: &PartitionState, state: &PartitionState) {
    assert!(state.partition_epoch > was.partition_epoch, "(12) {was:?} {state:?}");
    assert!(state.leader_epoch >= was.leader_epoch, "(12) {was:?} {state:?}");
    let same = state.leader == was.leader;
    assert!(same || state.leader_epoch > was.leader_epoch, "(12) {was:?} {state:?}");
    let removed = was.replicas.iter().any(|id| !state.replicas.contains(id));
    assert!(!removed || state.leader_epoch > was.leader_epoch, "(12) {was:?} {state:?}");
}

/// The process that has to do something, if it is one.
fn concerned(event: &Event) -> Option<NodeAt> {
    match event {
        Event::Deliver(message) => match message {
            Message::ToNode { node, .. }
            | Message::FromController { node, .. }
            | Message::Produce { node, .. } => Some(*node),
            Message::ToController { .. } | Message::Produced { .. } => None,
        },
        Event::Tick(node, _) | Event::Metadata(node, _) | Event::Flushed { node, .. } => {
            Some(*node)
        }
        Event::Start(_)
        | Event::GiveUp(..)
        | Event::Client(_)
        | Event::Noise
        | Event::Sessions
        | Event::Fault
        | Event::Heal(_) => None,
    }
}
