//! What goes wrong, and how it ends.

use super::controller::{TOPIC, id};
use super::event::{Event, NodeAt};
use super::sim::World;
use super::weather::Fault;
use crate::base::BrokerId;
use crate::controller::replicas::{cancel_reassignment, reassign};

impl World {
    pub(super) fn on_fault(&mut self) {
        let every = 1 + self.random.below(2 * self.weather.fault_every);
        self.after(every, Event::Fault);
        let count = self.weather.faults.len().try_into().unwrap();
        let which = usize::try_from(self.random.below(count)).unwrap();
        let Some(fault) = self.weather.faults.get(which).copied() else { return };
        let node = self.any_node();
        // Disks are lost more rarely than power: who loses two of three has nothing to find.
        let is_rare = matches!(fault, Fault::Wipe | Fault::Damage);
        if is_rare && self.random.below(8) > 0 {
            return;
        }
        if self.is_telling {
            println!("{:>10} {fault:?} {node}", self.now);
        }
        match fault {
            Fault::Kill => self.kill(node),
            Fault::PowerCut => self.cut_power(node),
            Fault::PowerCutOfAll => (0..self.nodes.len()).for_each(|node| self.cut_power(node)),
            Fault::Wipe => self.wipe(node),
            Fault::Damage => self.damage(node),
            Fault::Fail => self.fail(node),
            Fault::Partition => self.part(),
            Fault::Isolate => self.isolate(node),
            Fault::Hang => self.nodes[node].hung_until = self.now + self.random.below(6_000_000),
            Fault::Pause => {
                if self.nodes[node].process.is_some() {
                    self.nodes[node].paused_until = self.now + self.random.below(5_000_000);
                }
            }
            Fault::ControllerFailover => {
                let until = self.now + self.random.below(1_500_000);
                self.controller.fail_over(until);
            }
            Fault::Shutdown => {
                let now = self.now;
                if let Some(process) = &mut self.nodes[node].process {
                    process.leaving_since.get_or_insert(now);
                }
            }
            Fault::Reassign => self.move_replicas(),
        }
    }

    pub(super) fn kill(&mut self, node: NodeAt) {
        self.nodes[node].stop();
        let away = 1 + self.random.below(self.weather.away_max);
        self.after(away, Event::Start(node));
    }

    fn cut_power(&mut self, node: NodeAt) {
        self.kill(node);
        self.nodes[node].was_clean = false;
        for partition in 0..self.weather.partitions {
            self.nodes[node].logs[partition].lose_power(&mut self.random);
        }
    }

    fn wipe(&mut self, node: NodeAt) {
        self.kill(node);
        self.totals.lost_disks += 1;
        let storage = self.new_storage();
        let node = &mut self.nodes[node];
        for (log, ledger) in node.logs.iter_mut().zip(&mut self.ledgers) {
            ledger.on_lost(log);
            *log = super::disk::StoredLog::default();
        }
        node.storage = storage;
        node.damaged.fill(false);
        node.was_clean = false;
        node.applied = 0;
    }

    /// A disk loses what it has confirmed; the next start finds out.
    fn damage(&mut self, node: NodeAt) {
        self.kill(node);
        let node = &mut self.nodes[node];
        node.was_clean = false;
        for (at, log) in node.logs.iter_mut().enumerate() {
            let before = log.clone();
            if log.lose_durable(&mut self.random) {
                self.ledgers[at].on_lost(&before);
                node.damaged[at] = true;
                self.totals.lost_disks += 1;
            }
        }
    }

    /// A write or sync of one log fails: its process serves nothing of it any more.
    fn fail(&mut self, node: NodeAt) {
        let count = u64::try_from(self.weather.partitions).unwrap();
        let partition = usize::try_from(self.random.below(count)).unwrap();
        let again = self.random.below(5_000_000);
        let life = self.nodes[node].life;
        let Some(replica) = self.nodes[node].replica(partition) else { return };
        if !replica.core.is_failed() {
            replica.core.on_failed();
            self.totals.failed_logs += 1;
            self.after(again, Event::GiveUp(node, life));
        }
    }

    /// Two groups that do not hear each other, or only one the other.
    fn part(&mut self) {
        let places = self.cut.len();
        let group: Vec<bool> = (0..places).map(|_| self.random.below(2) == 0).collect();
        let one_way = self.random.below(3) == 0;
        for from in 0..places {
            for to in 0..places {
                self.cut[from][to] = group[from] != group[to] && (!one_way || group[from]);
            }
        }
        self.heal_later();
    }

    /// One hears nobody, or nobody but the controller, or everybody but the controller.
    fn isolate(&mut self, node: NodeAt) {
        let controller = self.nodes.len();
        let kind = self.random.below(3);
        for other in 0..self.cut.len() {
            let is_cut = match kind {
                0 => true,
                1 => other != controller,
                _ => other == controller,
            };
            if other != node && is_cut {
                self.cut[node][other] = true;
                self.cut[other][node] = true;
            }
        }
        self.heal_later();
    }

    fn heal_later(&mut self) {
        self.cuts += 1;
        let delay = 100_000 + self.random.below(6_000_000);
        self.after(delay, Event::Heal(self.cuts));
    }

    pub(super) fn heal(&mut self) {
        self.cut.iter_mut().for_each(|row| row.fill(false));
    }

    /// Replicas move to others, or what moves is cancelled.
    fn move_replicas(&mut self) {
        if self.now < self.controller.down_until {
            return;
        }
        let partition = self.random.below(self.weather.partitions.try_into().unwrap());
        let index = i32::try_from(partition).unwrap();
        let image = self.controller.image();
        let records = if self.random.below(4) == 0 {
            cancel_reassignment(image, TOPIC, index)
        } else {
            let mut target: Vec<BrokerId> = (0..self.nodes.len()).map(id).collect();
            while target.len() > self.weather.replicas {
                let at = self.random.below(target.len().try_into().unwrap());
                target.remove(usize::try_from(at).unwrap());
            }
            let first = self.random.below(target.len().try_into().unwrap());
            target.rotate_left(usize::try_from(first).unwrap());
            reassign(image, TOPIC, index, &target)
        };
        if let Ok(records) = records {
            self.commit(records);
        }
    }

    /// Nothing goes wrong any more, and what has ends.
    pub(super) fn calm_down(&mut self) {
        self.calm = true;
        self.weather.clear_up();
        self.cuts += 1;
        self.heal();
        self.controller.down_until = self.controller.down_until.min(self.now);
        for node in 0..self.nodes.len() {
            self.nodes[node].hung_until = 0;
            self.nodes[node].paused_until = 0;
            if self.nodes[node].has_failed() {
                self.nodes[node].stop();
            }
            self.after(0, Event::Start(node));
        }
    }

    /// (26) Everybody is back, and all have the same.
    pub(super) fn check_rest(&mut self) {
        for partition in 0..self.weather.partitions {
            let state = self.controller.state(partition).unwrap().clone();
            if state.isr.is_empty() && state.elr.is_empty() {
                self.totals.offline += 1;
                continue;
            }
            assert!(state.leader.is_some(), "(26) nobody leads: {state:?}");
            assert_eq!(state.isr.len(), state.replicas.len(), "(26) not all in sync: {state:?}");
            assert!(state.adding.is_empty() && state.removing.is_empty(), "(26) {state:?}");
            for client in self.clients.iter().filter(|client| client.partition() == partition) {
                assert!(!client.is_waiting(), "(26) not answered: {client:?}");
            }
            for broker in &state.replicas {
                self.check_replica(super::controller::at(*broker), partition);
            }
        }
    }

    fn check_replica(&self, node: NodeAt, partition: usize) {
        let process = self.nodes[node].process.as_ref().expect("(26) every broker runs");
        assert_eq!(process.applied + 1, self.controller.images.len(), "(26) metadata of {node}");
        let replica = process.replicas[partition].as_ref().expect("(26) has its replica");
        let log = &self.nodes[node].logs[partition];
        assert_eq!(log.entries, self.ledgers[partition].committed, "(26) the log of {node}");
        assert!(!replica.core.is_alter_pending(), "(26) {node} still asks");
        assert_eq!(
            replica.core.high_watermark(),
            replica.core.log().end,
            "(26) the high watermark of {node}"
        );
    }
}
