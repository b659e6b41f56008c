//! Producers: idempotent ones with acks=all, and one without that does not care.

use super::controller::at;
use super::disk::{Entry, offset};
use super::event::{Event, Message, NodeAt, Outcome};
use super::node::Waiting;
use super::sim::World;
use crate::base::Timestamp;
use crate::replication::{Acks, Decision};

/// After how long a write is sent again.
const TIMEOUT: u64 = 700_000;

/// An idempotent producer with one write on its way.
#[derive(Debug)]
pub(super) struct Client {
    producer: i64,
    partition: usize,
    sequence: i32,
    outstanding: Option<Entry>,
    /// Tells the attempts apart.
    call: u64,
    /// When the last attempt was made; none waits for an answer.
    sent_at: Option<u64>,
}

impl Client {
    pub(super) fn new(index: usize, partition: usize) -> Self {
        Self {
            producer: i64::try_from(index).unwrap() + 1,
            partition,
            sequence: 0,
            outstanding: None,
            call: 0,
            sent_at: None,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.outstanding.is_some()
    }

    pub(super) fn partition(&self) -> usize {
        self.partition
    }
}

impl World {
    pub(super) fn on_client(&mut self, index: usize) {
        let every = 1 + self.random.below(self.weather.write_every);
        self.after(every, Event::Client(index));
        let is_writing = self.is_writing();
        self.value += 1;
        let client = &mut self.clients[index];
        if client.outstanding.is_none() {
            if !is_writing {
                return;
            }
            client.outstanding = Some(Entry {
                epoch: -1,
                producer: client.producer,
                sequence: client.sequence,
                value: self.value,
            });
        }
        if client.sent_at.is_some_and(|sent| self.now.saturating_sub(sent) < TIMEOUT) {
            return;
        }
        client.call += 1;
        client.sent_at = Some(self.now);
        let (call, partition) = (client.call, client.partition);
        let Some(entry) = client.outstanding else { return };
        let node = self.leader_as_told(partition);
        self.send_from_client(Message::Produce { node, client: index, call, entry });
    }

    /// Whom a producer believes to lead.
    fn leader_as_told(&mut self, partition: usize) -> NodeAt {
        let images = &self.controller.images;
        let back = self.random.below(8).saturating_sub(5);
        let known = images.len() - 1 - usize::try_from(back).unwrap().min(images.len() - 1);
        let state = images[known].topic("t").and_then(|topic| topic.partitions.get(partition));
        match state.and_then(|state| state.leader).filter(|_| self.random.below(8) > 0) {
            Some(leader) => at(leader),
            None => self.any_node(),
        }
    }

    pub(super) fn any_node(&mut self) -> NodeAt {
        let count = u64::try_from(self.nodes.len()).unwrap();
        usize::try_from(self.random.below(count)).unwrap()
    }

    fn send_from_client(&mut self, message: Message) {
        if self.random.below(1000) < self.weather.lost {
            return;
        }
        if self.random.below(1000) < self.weather.doubled {
            let delay = self.delay() + self.random.below(self.weather.late_max);
            self.after(delay, Event::Deliver(message.clone()));
        }
        let delay = self.delay();
        self.after(delay, Event::Deliver(message));
    }

    /// A write reaches a broker.
    pub(super) fn on_produce(&mut self, node: NodeAt, client: usize, call: u64, entry: Entry) {
        let partition = self.clients[client].partition;
        match self.append(node, partition, entry, Acks::All) {
            Some((epoch, at)) => {
                let value = entry.value;
                let waiting = Waiting { client, call, epoch, at, value };
                if let Some(replica) = self.nodes[node].replica(partition) {
                    replica.waiting.push(waiting);
                }
                self.pump(node, partition);
            }
            None => self.tell(client, call, Outcome::Retry),
        }
    }

    /// Appends at a leader: its epoch, and the record's offset, also of one written before.
    fn append(
        &mut self,
        node: NodeAt,
        partition: usize,
        mut entry: Entry,
        acks: Acks,
    ) -> Option<(crate::base::LeaderEpoch, usize)> {
        let World { nodes, ledgers, .. } = self;
        let node = &mut nodes[node];
        let replica = node.process.as_mut()?.replicas[partition].as_mut()?;
        let log = &mut node.logs[partition];
        let at = log.entries.len();
        let epoch = replica.core.leader_epoch()?;
        match replica.core.on_produce(&entry.header(at), acks).ok()? {
            Decision::Append { base_offset, leader_epoch } => {
                assert_eq!((base_offset, leader_epoch), (offset(at), epoch));
                entry.epoch = epoch.0;
                log.entries.push(entry);
                ledgers[partition].on_written(&log.entries);
                replica.core.on_appended(&entry.header(at), base_offset, Timestamp(0));
                Some((epoch, at))
            }
            Decision::Duplicate { last_offset, .. } => {
                Some((epoch, super::disk::index(last_offset)))
            }
            // A message that was on its way for long: who sent it has its answer.
            Decision::Older { .. } => None,
        }
    }

    pub(super) fn tell(&mut self, client: usize, call: u64, outcome: Outcome) {
        let delay = self.delay();
        self.after(delay, Event::Deliver(Message::Produced { client, call, outcome }));
    }

    /// A producer is answered.
    pub(super) fn on_produced(&mut self, index: usize, call: u64, outcome: Outcome) {
        let client = &mut self.clients[index];
        if client.call != call || client.sent_at.is_none() {
            return;
        }
        match outcome {
            Outcome::Ok { .. } => {
                client.outstanding = None;
                client.sequence += 1;
                client.sent_at = None;
            }
            // At its next turn.
            Outcome::Retry => client.sent_at = None,
        }
    }

    /// acks=1, to whoever takes it: what may be lost.
    pub(super) fn on_noise(&mut self) {
        let every = 1 + self.random.below(3 * self.weather.write_every);
        self.after(every, Event::Noise);
        if !self.is_writing() {
            return;
        }
        let partition = self.random.below(self.weather.partitions.try_into().unwrap());
        let partition = usize::try_from(partition).unwrap();
        let node = self.any_node();
        if self.nodes[node].paused_until > self.now {
            return;
        }
        self.value += 1;
        let entry = Entry { epoch: -1, producer: -1, sequence: -1, value: self.value };
        if self.append(node, partition, entry, Acks::Leader).is_some() {
            self.pump(node, partition);
        }
    }
}
