//! The controller: one log of metadata that all agree on, sessions in memory.

use std::sync::Arc;

use sawlog_protocol::Uuid;

use super::event::{FromController, Life, Message, NodeAt, PartitionAt, ToController};
use super::sim::World;
use super::weather::Weather;
use crate::base::{BrokerEpoch, BrokerId, LeaderEpoch};
use crate::config::BrokerConfig;
use crate::controller::replicas::{
    BrokerStart, alter_partition, fence, is_released, register, report, shut_down, unfence,
};
use crate::metadata::{
    AlterAnswer, ConfigResource, Image, PartitionRecord, PartitionState, Record, ReplicaReport,
};

/// A broker not heard of for this long is fenced.
const SESSION: u64 = 2_000_000;

pub(super) const TOPIC: Uuid = Uuid([9; 16]);

#[derive(Debug)]
pub(super) struct Controller {
    /// The image after each entry.
    pub(super) images: Vec<Image>,
    heard: Vec<u64>,
    applied: Vec<usize>,
    /// The entry by which a broker began to leave.
    leaving: Vec<usize>,
    /// Nobody is the controller until then.
    pub(super) down_until: u64,
}

/// The id of a broker.
pub(super) fn id(node: NodeAt) -> BrokerId {
    BrokerId(i32::try_from(node).unwrap() + 1)
}

/// Where the broker of an id is.
pub(super) fn at(broker: BrokerId) -> NodeAt {
    usize::try_from(broker.0 - 1).unwrap()
}

impl Controller {
    pub(super) fn new(nodes: usize) -> Self {
        let config = Arc::new(BrokerConfig::default().with_node_id(1));
        Self {
            images: vec![Image::empty(Uuid([7; 16]), config)],
            heard: vec![0; nodes],
            applied: vec![0; nodes],
            leaving: vec![0; nodes],
            down_until: 0,
        }
    }

    pub(super) fn image(&self) -> &Image {
        self.images.last().unwrap()
    }

    pub(super) fn state(&self, partition: PartitionAt) -> Option<&PartitionState> {
        self.image().topic("t")?.partitions.get(partition)
    }

    pub(super) fn leader_epoch(&self, partition: PartitionAt) -> LeaderEpoch {
        self.state(partition).map_or(LeaderEpoch::NONE, |state| state.leader_epoch)
    }

    /// Another one takes over; everybody gets a fresh session.
    pub(super) fn fail_over(&mut self, until: u64) {
        self.down_until = until;
        self.heard.fill(until);
    }
}

/// The topic, created when all brokers are there.
pub(super) fn topic(weather: &Weather) -> Vec<Record> {
    let mut records = vec![Record::Topic { name: "t".to_owned(), id: TOPIC }];
    let mode = if weather.lazy { "os" } else { "group" };
    for (key, value) in
        [("min.insync.replicas", weather.min_in_sync.to_string()), ("flush.mode", mode.to_owned())]
    {
        let resource = ConfigResource::Topic(TOPIC);
        records.push(Record::Config { resource, key: key.to_owned(), value: Some(value) });
    }
    for partition in 0..weather.partitions {
        let replicas: Vec<_> =
            (0..weather.replicas).map(|at| id((at + partition) % weather.nodes)).collect();
        records.push(Record::Partition(PartitionRecord {
            topic: TOPIC,
            index: i32::try_from(partition).unwrap(),
            isr: replicas.clone(),
            elr: Vec::new(),
            leader: replicas.first().copied(),
            replicas,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            adding: Vec::new(),
            removing: Vec::new(),
            storage_ids: Vec::new(),
        }));
    }
    records
}

impl World {
    /// A request reaches the controller.
    pub(super) fn on_controller(&mut self, node: NodeAt, life: Life, body: ToController) {
        if self.now < self.controller.down_until {
            return;
        }
        match body {
            ToController::Register(start) => self.on_register(node, life, *start),
            ToController::Heartbeat { epoch, applied, wants_to_leave } => {
                self.on_heartbeat(node, life, epoch, applied);
                if wants_to_leave {
                    self.on_leaving(node, life, epoch);
                }
            }
            ToController::Report { epoch, failed } => self.on_report(node, epoch, &failed),
            ToController::Alter { partition, question } => {
                let index = i32::try_from(partition).unwrap();
                let image = self.controller.image();
                let (records, answer) = alter_partition(image, TOPIC, index, &question);
                match answer {
                    AlterAnswer::Altered { .. } => {}
                    AlterAnswer::Refused(_) => self.totals.refused += 1,
                }
                self.commit(records);
                let (epoch, number) = (question.leader_epoch, question.number);
                let body = FromController::Altered { partition, epoch, number, answer };
                self.answer(node, life, body);
            }
        }
    }

    fn on_register(&mut self, node: NodeAt, life: Life, mut start: BrokerStart) {
        start.has_session = self.now.saturating_sub(self.controller.heard[node]) < SESSION
            && self.controller.image().broker(id(node)).is_some_and(|known| !known.fenced);
        match register(self.controller.image(), &start) {
            Ok((epoch, records)) => {
                if self.nodes[node].life == life {
                    for (_, partition) in &start.damaged {
                        self.nodes[node].damaged[usize::try_from(*partition).unwrap()] = false;
                    }
                }
                self.commit(records);
                self.controller.heard[node] = self.now;
                self.answer(node, life, FromController::Registered(BrokerEpoch(epoch)));
            }
            Err(_) => self.answer(node, life, FromController::Duplicate),
        }
    }

    fn on_report(&mut self, node: NodeAt, epoch: BrokerEpoch, failed: &[PartitionAt]) {
        let image = self.controller.image();
        if image.broker(id(node)).is_none_or(|known| known.epoch != epoch.0) {
            return;
        }
        let damaged = failed.iter().map(|at| (TOPIC, i32::try_from(*at).unwrap())).collect();
        let (broker, placed) = (id(node), Vec::new());
        let told = ReplicaReport { broker, epoch: epoch.0, placed, damaged };
        let records = report(image, &told);
        self.commit(records);
    }

    fn on_heartbeat(&mut self, node: NodeAt, life: Life, epoch: BrokerEpoch, applied: usize) {
        let Some(known) = self.controller.image().broker(id(node)) else { return };
        if known.epoch != epoch.0 {
            return self.answer(node, life, FromController::Stale);
        }
        let knows_itself = i64::try_from(applied).unwrap() >= known.epoch;
        let comes_back = known.fenced && knows_itself;
        self.controller.heard[node] = self.now;
        self.controller.applied[node] = self.controller.applied[node].max(applied);
        if comes_back {
            let records = unfence(self.controller.image(), id(node));
            self.commit(records);
        }
    }

    fn on_leaving(&mut self, node: NodeAt, life: Life, epoch: BrokerEpoch) {
        let known = self.controller.image().broker(id(node));
        if known.is_none_or(|known| known.epoch != epoch.0 || known.fenced) {
            return;
        }
        let records = shut_down(self.controller.image(), id(node));
        if !records.is_empty() {
            self.commit(records);
            self.controller.leaving[node] = self.controller.images.len() - 1;
        }
        let since = self.controller.leaving[node];
        let image = self.controller.image();
        let all_know =
            image.live_brokers().all(|broker| self.controller.applied[at(broker.id)] >= since);
        if all_know && is_released(image, id(node)) {
            for state in &image.topic("t").unwrap().partitions {
                assert_ne!(state.leader, Some(id(node)), "(20) leads what it leaves");
                assert!(!state.isr.contains(&id(node)), "(20) in sync where it leaves");
            }
            self.totals.released += 1;
            self.answer(node, life, FromController::Released);
        }
    }

    /// Fences whoever was not heard of for too long.
    pub(super) fn look_at_sessions(&mut self) {
        if self.now < self.controller.down_until {
            return;
        }
        for node in 0..self.nodes.len() {
            let silent = self.now.saturating_sub(self.controller.heard[node]) > SESSION;
            let known = self.controller.image().broker(id(node));
            if silent && known.is_some_and(|known| !known.fenced) {
                let records = fence(self.controller.image(), id(node));
                self.commit(records);
            }
        }
    }

    /// An entry that all agree on.
    pub(super) fn commit(&mut self, records: Vec<Record>) {
        if records.is_empty() {
            return;
        }
        let before = self.controller.image();
        let after = before.applied(before.offset().next(), &records).unwrap();
        let before = before.clone();
        self.controller.images.push(after);
        self.check_image(&before);
        for node in 0..self.nodes.len() {
            let delay = 200 + self.random.below(self.weather.metadata_max);
            let life = self.nodes[node].life;
            self.after(delay, super::event::Event::Metadata(node, life));
        }
    }

    fn answer(&mut self, node: NodeAt, life: Life, body: FromController) {
        let controller = self.nodes.len();
        self.send(controller, node, Message::FromController { node, life, body });
    }
}
