//! What a broker does around its cores: the shell of the model.

use std::time::Duration;

use sawlog_protocol::Uuid;

use super::controller::{TOPIC, at, id};
use super::disk::{Entry, index, offset};
use super::event::{
    Asked, Event, FromController, Life, Message, NodeAt, Outcome, PartitionAt, ToController, ToNode,
};
use super::node::{Node, Replica};
use super::oracle::Ledger;
use super::sim::World;
use crate::base::{BrokerEpoch, Timestamp};
use crate::controller::Registration;
use crate::controller::replicas::BrokerStart;
use crate::metadata::Image;
use crate::replication::{
    AckState, DurableReport, FetchAnswer, FetchRefusal, FollowerStep, LogGeneration,
};

/// Times between ticks, heartbeats, and attempts to register.
const TICK: u64 = 60_000;
const HEARTBEAT: u64 = 300_000;

/// How long a leader waits for news, and how long a broker tries to leave in order.
const FETCH_WAIT: u64 = 500_000;
const LEAVE_MAX: u64 = 4_000_000;

/// Records in one answer.
const FETCH_RECORDS: usize = 20;

impl World {
    pub(super) fn clock(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    /// What a process says of itself when it starts.
    pub(super) fn registration(
        &self,
        node: NodeAt,
        life: Life,
        was_clean: bool,
        damaged: &[PartitionAt],
    ) -> BrokerStart {
        let damaged = damaged.iter().map(|at| (TOPIC, i32::try_from(*at).unwrap())).collect();
        BrokerStart {
            registration: Registration {
                id: id(node),
                incarnation: Uuid(u128::from(life).to_be_bytes()),
                storage_ids: vec![self.nodes[node].storage],
                listeners: Vec::new(),
                peer: None,
                rack: None,
            },
            was_clean,
            damaged,
            gives_up_missing: false,
            has_session: false,
        }
    }

    /// A process starts, with metadata that may be older than what was applied before.
    pub(super) fn start(&mut self, node: NodeAt) {
        if self.nodes[node].process.is_some() {
            return;
        }
        if self.nodes[node].hung_until > self.now {
            let delay = self.nodes[node].hung_until - self.now;
            return self.after(delay, Event::Start(node));
        }
        let known = u64::try_from(self.nodes[node].applied).unwrap();
        let applied = usize::try_from(self.random.below(known + 1)).unwrap();
        let life = self.nodes[node].start(applied);
        self.after(0, Event::Tick(node, life));
    }

    pub(super) fn on_tick(&mut self, node: NodeAt, life: Life) {
        if !self.nodes[node].is_alive(life) {
            return;
        }
        self.after(TICK, Event::Tick(node, life));
        self.speak(node, life);
        let leaving = self.nodes[node].process.as_ref().and_then(|process| process.leaving_since);
        if leaving.is_some_and(|since| self.now - since > LEAVE_MAX) {
            return self.leave(node);
        }
        for partition in 0..self.weather.partitions {
            self.pump(node, partition);
        }
    }

    /// Registers, or says that it is there.
    fn speak(&mut self, node: NodeAt, life: Life) {
        let now = self.now;
        let Some(process) = &mut self.nodes[node].process else { return };
        if now.saturating_sub(process.spoke_at) < HEARTBEAT {
            return;
        }
        process.spoke_at = now;
        let body = match process.epoch {
            Some(epoch) => {
                let (applied, wants_to_leave) = (process.applied, process.leaving_since.is_some());
                ToController::Heartbeat { epoch, applied, wants_to_leave }
            }
            None => {
                let (was_clean, damaged) = (process.was_clean, process.damaged.clone());
                let start = self.registration(node, life, was_clean, &damaged);
                ToController::Register(Box::new(start))
            }
        };
        self.ask(node, life, body);
        self.report(node, life);
        self.on_metadata_soon(node, life);
    }

    /// Tells of logs that have failed, for as long as they have.
    fn report(&mut self, node: NodeAt, life: Life) {
        let Some(process) = &self.nodes[node].process else { return };
        let Some(epoch) = process.epoch else { return };
        let has_failed = |replica: &Option<Replica>| {
            replica.as_ref().is_some_and(|replica| replica.core.is_failed())
        };
        let all = process.replicas.iter().enumerate();
        let failed: Vec<_> = all.filter(|(_, one)| has_failed(one)).map(|(at, _)| at).collect();
        if !failed.is_empty() {
            self.ask(node, life, ToController::Report { epoch, failed });
        }
    }

    fn on_metadata_soon(&mut self, node: NodeAt, life: Life) {
        let delay = self.random.below(self.weather.metadata_max);
        self.after(delay, Event::Metadata(node, life));
    }

    fn ask(&mut self, node: NodeAt, life: Life, body: ToController) {
        let controller = self.nodes.len();
        self.send(node, controller, Message::ToController { node, life, body });
    }

    /// The controller answers.
    pub(super) fn on_answer(&mut self, node: NodeAt, life: Life, body: FromController) {
        if !self.nodes[node].is_alive(life) {
            return;
        }
        let Some(process) = &mut self.nodes[node].process else { return };
        match body {
            FromController::Registered(epoch) => {
                process.epoch = process.epoch.max(Some(epoch));
                let epoch = process.epoch.unwrap_or(epoch);
                for replica in process.replicas.iter_mut().flatten() {
                    replica.core.on_registered(epoch);
                }
                process.spoke_at = 0;
                self.apply(node);
            }
            // Tries again.
            FromController::Duplicate => {}
            FromController::Stale => process.epoch = None,
            FromController::Released => self.leave(node),
            FromController::Altered { partition, epoch, number, answer } => {
                let now = self.clock();
                if let Some(replica) = self.nodes[node].replica(partition) {
                    replica.core.on_alter_answer(now, epoch, number, &answer);
                    self.pump(node, partition);
                }
            }
        }
    }

    /// The process ends in order.
    fn leave(&mut self, node: NodeAt) {
        if self.nodes[node].hung_until <= self.now {
            self.nodes[node].was_clean = true;
            for log in &mut self.nodes[node].logs {
                log.recover();
            }
        }
        self.nodes[node].stop();
        let away = 1 + self.random.below(self.weather.away_max);
        self.after(away, Event::Start(node));
    }

    /// Metadata arrives, up to some entry.
    pub(super) fn on_metadata(&mut self, node: NodeAt, life: Life) {
        let last = self.controller.images.len() - 1;
        let is_cut = self.cut[self.nodes.len()][node];
        if !self.nodes[node].is_alive(life) || is_cut || self.now < self.controller.down_until {
            return;
        }
        let whole = self.random.below(4) > 0;
        let part = self.random.bits();
        let Some(process) = &mut self.nodes[node].process else { return };
        if process.applied >= last {
            return;
        }
        let ahead = u64::try_from(last - process.applied).unwrap();
        let step = if whole { ahead } else { 1 + part % ahead };
        process.applied += usize::try_from(step).unwrap();
        self.apply(node);
        if !whole {
            self.on_metadata_soon(node, life);
        }
    }

    /// Takes roles by the metadata it has.
    fn apply(&mut self, node: NodeAt) {
        let Some(process) = &self.nodes[node].process else { return };
        let Some(epoch) = process.epoch else { return };
        let image = self.controller.images[process.applied].clone();
        let registered = image.broker(id(node)).map_or(-1, |known| known.epoch);
        if registered < epoch.0 {
            // From before this process (E2); the cores would not listen either.
            return;
        }
        for partition in 0..self.weather.partitions {
            self.apply_to(node, partition, &image, epoch);
        }
    }

    fn apply_to(&mut self, node: NodeAt, partition: usize, image: &Image, epoch: BrokerEpoch) {
        let Some(state) = image.topic("t").and_then(|topic| topic.partitions.get(partition)) else {
            return;
        };
        let now = self.clock();
        let (weather, nodes) = (&self.weather, &mut self.nodes);
        let Node { process, logs, .. } = &mut nodes[node];
        let Some(process) = process else { return };
        if !state.replicas.contains(&id(node)) {
            process.replicas[partition] = None;
            logs[partition] = super::disk::StoredLog::default();
            return;
        }
        let log = &logs[partition];
        let replica = process.replicas[partition]
            .get_or_insert_with(|| Replica::new(id(node), epoch, log, weather));
        let registered = image.broker(id(node)).map_or(-1, |known| known.epoch);
        let outcome = replica.core.on_image(now, state, BrokerEpoch(registered));
        if !outcome.role_changed {
            return self.pump(node, partition);
        }
        let (waiting, held) =
            (std::mem::take(&mut replica.waiting), std::mem::take(&mut replica.held));
        self.on_role(node, partition);
        for write in waiting {
            self.tell(write.client, write.call, Outcome::Retry);
        }
        for (asked, _) in held {
            self.refuse(node, partition, asked, FetchRefusal::NotLeader);
        }
        self.pump(node, partition);
    }

    fn on_role(&mut self, node: NodeAt, partition: usize) {
        let life = self.nodes[node].life;
        let current = self.controller.leader_epoch(partition);
        let Node { process: Some(process), logs, .. } = &self.nodes[node] else { return };
        let Some(replica) = &process.replicas[partition] else { return };
        Ledger::check_epochs(&replica.core, &logs[partition]);
        if let Some(epoch) = replica.core.leader_epoch() {
            let log = &logs[partition].entries;
            self.ledgers[partition].on_leader((node, life), epoch, current, log);
        }
    }

    /// Whatever may have become due or possible.
    pub(super) fn pump(&mut self, node: NodeAt, partition: PartitionAt) {
        let (now, clock, life) = (self.now, self.clock(), self.nodes[node].life);
        let log_end = self.nodes[node].logs[partition].entries.len();
        let durable = self.nodes[node].logs[partition].durable;
        let Some(replica) = self.nodes[node].replica(partition) else { return };
        let flushes = log_end > durable && !replica.flushing;
        replica.flushing |= flushes;
        let of = replica.core.generation();
        let fetch = replica.core.next_fetch(clock);
        let question = replica.core.alter_partition(clock);
        let known = index(replica.core.high_watermark());
        if flushes {
            let delay = 100 + self.random.below(self.weather.flush_max);
            let flushed = Event::Flushed { node, life, partition, upto: log_end, of };
            self.after(delay, flushed);
        }
        if let Some(request) = fetch {
            let (number, fetch) = (request.number, request.fetch);
            let asked = Asked { from: node, life, number, fetch, known };
            let (to, body) = (at(request.leader), ToNode::Fetch { partition, asked });
            self.send(node, to, Message::ToNode { node: to, from: node, body });
        }
        if let Some(question) = question {
            self.ask(node, life, ToController::Alter { partition, question });
        }
        self.observe(node, partition);
        self.answer_held(node, partition, now);
        self.acknowledge(node, partition);
    }

    /// Checks what a replica exposes.
    fn observe(&mut self, node: NodeAt, partition: usize) {
        let min_in_sync = self.weather.min_in_sync;
        let World { nodes, ledgers, .. } = self;
        let Node { process: Some(process), logs, .. } = &mut nodes[node] else { return };
        let Some(replica) = &mut process.replicas[partition] else { return };
        let now = index(replica.core.high_watermark());
        if now == replica.seen {
            return;
        }
        let before = std::mem::replace(&mut replica.seen, now);
        assert!(now > before, "(12) the high watermark of {node} went from {before} to {now}");
        let log = &logs[partition].entries;
        let more = ledgers[partition].on_high_watermark(&replica.core, log, before, min_in_sync);
        if more {
            self.check_durable(partition);
            self.check_successor(partition);
        }
    }

    /// (11) What is committed is in the log of whoever leads by now.
    fn check_successor(&self, partition: usize) {
        let current = self.controller.leader_epoch(partition);
        for node in &self.nodes {
            let Some(process) = &node.process else { continue };
            let Some(replica) = &process.replicas[partition] else { continue };
            if replica.core.leader_epoch() == Some(current) {
                let log = &node.logs[partition].entries;
                assert!(self.ledgers[partition].is_whole(log), "(11) epoch {current} lacks some");
            }
        }
    }

    fn acknowledge(&mut self, node: NodeAt, partition: usize) {
        let Some(replica) = self.nodes[node].replica(partition) else { return };
        let mut done = Vec::new();
        let core = &replica.core;
        replica.waiting.retain(|write| match core.ack_state_of(write.epoch, offset(write.at)) {
            AckState::Waiting => true,
            state => {
                done.push((*write, state));
                false
            }
        });
        for (write, state) in done {
            let outcome = match state {
                AckState::Committed => {
                    self.check_acknowledged(partition, write.at, write.value);
                    Outcome::Ok { offset: write.at }
                }
                AckState::NotEnoughReplicas
                | AckState::NotLeader
                | AckState::Offline
                | AckState::Waiting => Outcome::Retry,
            };
            self.tell(write.client, write.call, outcome);
        }
    }

    /// (10)
    fn check_acknowledged(&mut self, partition: usize, at: usize, value: u64) {
        let World { ledgers, nodes, weather, .. } = self;
        let ledger = &mut ledgers[partition];
        let committed = ledger.committed.get(at).map(|entry| entry.value);
        assert_eq!(committed, Some(value), "(10) acknowledged at {at}");
        if !weather.lazy {
            let copies = ledger.copies(at, nodes.iter().map(|node| &node.logs[partition]));
            assert!(copies >= weather.min_in_sync, "(10) {at} is on {copies} disks");
        }
        ledger.acknowledged.push((at, value));
    }

    /// A disk is done.
    pub(super) fn on_flushed(
        &mut self,
        node: NodeAt,
        life: Life,
        partition: usize,
        (upto, of): (usize, LogGeneration),
    ) {
        if !self.nodes[node].is_alive(life) {
            return;
        }
        if self.nodes[node].hung_until > self.now {
            let delay = self.nodes[node].hung_until - self.now;
            return self.after(delay, Event::Flushed { node, life, partition, upto, of });
        }
        let Node { process: Some(process), logs, .. } = &mut self.nodes[node] else { return };
        let Some(replica) = &mut process.replicas[partition] else { return };
        replica.flushing = false;
        if replica.core.generation() == of && upto <= logs[partition].entries.len() {
            logs[partition].flushed(upto);
            replica.core.on_flushed(offset(upto), of);
        }
        if let Some((leader, report)) = replica.core.durable_report() {
            let (to, body) = (at(leader), ToNode::Durable { partition, report });
            self.send(node, to, Message::ToNode { node: to, from: node, body });
        }
        self.pump(node, partition);
    }

    /// A follower asks.
    pub(super) fn on_fetch(&mut self, node: NodeAt, partition: PartitionAt, asked: Asked) {
        let (now, clock) = (self.now, self.clock());
        let registered = self.registered(node, asked.from);
        let Some(replica) = self.nodes[node].replica(partition) else {
            return self.refuse(node, partition, asked, FetchRefusal::NotLeader);
        };
        match replica.core.on_fetch(clock, &asked.fetch, registered) {
            Ok(fetched) => {
                if matches!(fetched.answer, FetchAnswer::Records { .. }) {
                    replica.held.push((asked, now + FETCH_WAIT));
                } else {
                    self.reply(node, partition, asked, Ok((fetched.answer, Vec::new())));
                }
            }
            Err(refusal) => self.refuse(node, partition, asked, refusal),
        }
        self.pump(node, partition);
    }

    /// The registration of a broker in the metadata another one has, if it may be in sync.
    fn registered(&self, node: NodeAt, of: NodeAt) -> Option<BrokerEpoch> {
        let process = self.nodes[node].process.as_ref()?;
        let known = self.controller.images[process.applied].broker(id(of))?;
        (!known.fenced && !known.shutting_down).then_some(BrokerEpoch(known.epoch))
    }

    /// Answers fetches there is something new for, or that have waited long enough.
    fn answer_held(&mut self, node: NodeAt, partition: usize, now: u64) {
        let Node { process: Some(process), logs, .. } = &mut self.nodes[node] else { return };
        let Some(replica) = &mut process.replicas[partition] else { return };
        if replica.held.is_empty() {
            return;
        }
        let log = &logs[partition].entries;
        let high_watermark = replica.core.high_watermark();
        let mut due = Vec::new();
        replica.held.retain(|(asked, until)| {
            let from = index(asked.fetch.fetch_offset);
            let news = log.len() > from || index(high_watermark).min(from) > asked.known;
            if news || *until <= now {
                due.push(*asked);
            }
            !news && *until > now
        });
        let mut answers = Vec::new();
        for asked in due {
            let from = index(asked.fetch.fetch_offset).min(log.len());
            let records = log[from..log.len().min(from + FETCH_RECORDS)].to_vec();
            let answer = FetchAnswer::Records { high_watermark, log_start: offset(0) };
            answers.push((asked, (answer, records)));
        }
        for (asked, answer) in answers {
            self.reply(node, partition, asked, Ok(answer));
        }
    }

    fn refuse(&mut self, node: NodeAt, partition: usize, asked: Asked, refusal: FetchRefusal) {
        self.reply(node, partition, asked, Err(refusal));
    }

    fn reply(
        &mut self,
        node: NodeAt,
        partition: PartitionAt,
        asked: Asked,
        answer: Result<(FetchAnswer, Vec<Entry>), FetchRefusal>,
    ) {
        let (to, life, number) = (asked.from, asked.life, asked.number);
        let body = ToNode::Fetched { partition, life, number, answer };
        self.send(node, to, Message::ToNode { node: to, from: node, body });
    }

    /// A leader answers.
    pub(super) fn on_fetched(
        &mut self,
        node: NodeAt,
        life: Life,
        partition: PartitionAt,
        (number, answer): (u64, Result<(FetchAnswer, Vec<Entry>), FetchRefusal>),
    ) {
        if !self.nodes[node].is_alive(life) {
            return;
        }
        let now = self.clock();
        let World { nodes, ledgers, totals, .. } = self;
        let Node { process: Some(process), logs, .. } = &mut nodes[node] else { return };
        let Some(Replica { core, .. }) = &mut process.replicas[partition] else { return };
        let (log, ledger) = (&mut logs[partition], &ledgers[partition]);
        let Ok((answer, records)) = answer else {
            core.on_fetch_failed(now, number);
            return self.pump(node, partition);
        };
        match core.on_fetched(now, number, answer) {
            FollowerStep::Ignore => return,
            FollowerStep::Append { high_watermark, log_start } => {
                for entry in records {
                    let at = log.entries.len();
                    log.entries.push(entry);
                    ledger.on_replicated(&log.entries);
                    core.on_replicated(&entry.header(at), Timestamp(0));
                }
                core.on_leader_ends(high_watermark, log_start);
            }
            FollowerStep::Truncate { to, .. } | FollowerStep::Restart { at: to, .. } => {
                totals.cuts += u64::from(index(to) < log.entries.len());
                ledger.on_cut(&log.entries, index(to));
                log.truncate(index(to));
                core.on_cut(now, to, log.producers());
                Ledger::check_epochs(core, log);
            }
        }
        self.pump(node, partition);
    }

    /// A follower's disk has caught up.
    pub(super) fn on_durable(
        &mut self,
        node: NodeAt,
        _from: NodeAt,
        partition: PartitionAt,
        report: DurableReport,
    ) {
        let now = self.clock();
        if let Some(replica) = self.nodes[node].replica(partition) {
            // One that does not count says nothing.
            let _ = replica.core.on_durable(now, &report);
            self.pump(node, partition);
        }
    }
}
