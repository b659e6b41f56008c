//! What goes wrong, and what operators ask for.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::members::FIRST_MEMBER;
use super::net::Place;
use super::weather::Fault;
use super::world::World;
use crate::base::BrokerId;
use crate::base::disk_sim::{Fault as DiskFault, SimDisk};
use crate::controller::replicas::Election;
use crate::controller::{
    AlterConfigs, Alteration, ConfigChange, ConfigOperation, ConfigTarget, DeleteTopic,
    Reassignment, Request,
};

impl World {
    fn below(&mut self, bound: usize) -> usize {
        let below = self.random.below(u64::try_from(bound).unwrap_or(1));
        usize::try_from(below).unwrap_or(0)
    }

    fn ms(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.random.below(most))
    }

    fn any_broker(&mut self) -> i32 {
        1 + i32::try_from(self.below(self.machines.len())).unwrap_or(0)
    }

    /// Makes something happen.
    pub(super) fn make_fault(&mut self) {
        let at = self.below(self.weather.faults.len());
        let Some(fault) = self.weather.faults.get(at).copied() else { return };
        let broker = self.any_broker();
        // Disks are lost more rarely than power: who loses two of three has nothing to find.
        if matches!(fault, Fault::Wipe | Fault::FailSync) && self.random.below(6) > 0 {
            return;
        }
        // One disk is bad already.
        if fault == Fault::Wipe && self.decay.is_some() {
            return;
        }
        self.oracle.with(|known| {
            known.totals.faults += 1;
            known.note(&[5, i64::from(broker)]);
            known.tell(|| format!("{fault:?} {broker}"));
        });
        match fault {
            Fault::Kill => self.end(broker, true),
            Fault::PowerCut => self.end(broker, false),
            Fault::PowerCutOfAll => {
                (1..=self.weather.brokers).for_each(|broker| self.end(broker, false));
            }
            Fault::Wipe => self.wipe(broker),
            Fault::Part => self.part(),
            Fault::Isolate => self.isolate(broker),
            Fault::Hang => {
                let ms = self.random.below(6000);
                self.with_process(broker, |process| process.hang(ms));
            }
            Fault::Pause => {
                let until = Instant::now() + self.ms(9000);
                self.resumes.insert(broker, until);
                self.with_process(broker, |process| process.stop(true));
            }
            Fault::Depose => self.quorum.depose(),
            Fault::FailSync => {
                let at = 1 + self.random.below(20);
                if let Some(machine) = self.machines.get(&broker) {
                    machine.disk.plan(at, DiskFault::Io);
                }
            }
            Fault::ClockJump => {
                let by = i64::try_from(self.random.below(7_200_000)).unwrap_or(0) - 3_600_000;
                if let Some(machine) = self.machines.get(&broker) {
                    machine.skew.store(by, Ordering::Relaxed);
                }
            }
            Fault::Shutdown => {
                if let Some(running) =
                    self.machines.get(&broker).and_then(|machine| machine.running.as_ref())
                {
                    running.leave.notify_one();
                }
            }
            Fault::Reassign => self.reassign(false),
            Fault::Cancel => self.reassign(true),
            Fault::Elect => {
                let election = Election::Preferred;
                self.request(Request::ElectLeaders { election, partitions: None });
            }
            Fault::Recreate => self.recreate(),
            Fault::Configure => self.configure(),
            Fault::Join => self.join(),
        }
    }

    fn with_process(&self, broker: i32, act: impl FnOnce(&super::process::Process)) {
        let machine = self.machines.get(&broker);
        if let Some(running) = machine.and_then(|machine| machine.running.as_ref()) {
            act(&running.process);
        }
    }

    fn wipe(&mut self, broker: i32) {
        self.end(broker, false);
        self.quorum.wipe(broker);
        if let Some(machine) = self.machines.get_mut(&broker) {
            machine.disk = SimDisk::new();
        }
        self.oracle.with(|known| {
            known.totals.wiped += 1;
            known.on_wiped(broker);
        });
    }

    fn heal_later(&mut self) {
        let after = Duration::from_millis(100) + self.ms(9000);
        self.heals = Some(Instant::now() + after);
    }

    fn part(&mut self) {
        let one_way = self.random.below(3) == 0;
        let mut places: Vec<(Place, bool)> = (1..=self.weather.brokers)
            .map(Place::Broker)
            .chain((1..=10).map(Place::Client))
            .map(|place| (place, self.random.below(2) == 0))
            .collect();
        // Members are with other clients: nothing more is drawn for them.
        for number in 0..self.weather.crew.map_or(0, |crew| crew.members) {
            let beside = places.iter().find(|(place, _)| *place == Place::Client(number + 1));
            let side = beside.is_some_and(|(_, side)| *side);
            places.push((Place::Client(FIRST_MEMBER + number), side));
        }
        for (from, from_side) in &places {
            for (to, to_side) in &places {
                if from_side != to_side && (!one_way || *from_side) {
                    self.net.cut(*from, *to);
                }
            }
        }
        self.heal_later();
    }

    fn isolate(&mut self, broker: i32) {
        let me = Place::Broker(broker);
        for other in (1..=self.weather.brokers).filter(|other| *other != broker) {
            let is_cut = self.random.below(4) > 0;
            if is_cut {
                self.net.cut(me, Place::Broker(other));
                self.net.cut(Place::Broker(other), me);
            }
        }
        self.heal_later();
    }

    /// A partition that there is.
    fn any_partition(&mut self) -> Option<(String, i32, usize)> {
        let partitions: Vec<(String, i32, usize)> = self.oracle.with(|known| {
            let image = known.image().clone();
            let of = |topic: &std::sync::Arc<crate::metadata::Topic>| {
                let name = topic.name.to_string();
                topic
                    .indexed()
                    .map(|(index, state)| (name.clone(), index, state.replicas.len()))
                    .collect::<Vec<_>>()
            };
            image.topics().flat_map(of).collect()
        });
        let at = self.below(partitions.len());
        partitions.into_iter().nth(at)
    }

    fn reassign(&mut self, cancel: bool) {
        let Some((topic, index, replicas)) = self.any_partition() else { return };
        let mut target: Vec<BrokerId> = (1..=self.weather.brokers).map(BrokerId).collect();
        // Fewer than have to be in sync would take no writes.
        let count = match self.random.below(4) {
            0 => 2 + self.below(target.len()),
            _ => replicas.min(3),
        };
        while target.len() > count.max(if replicas == 1 { 1 } else { 2 }) {
            let at = self.below(target.len());
            target.remove(at);
        }
        let first = self.below(target.len());
        target.rotate_left(first);
        let replicas = (!cancel).then_some(target);
        self.oracle.with(|known| known.totals.reassigned += 1);
        self.request(Request::AlterReassignments {
            partitions: vec![Reassignment { topic, index, replicas }],
            may_change_factor: true,
        });
    }

    fn recreate(&mut self) {
        let at = self.below(self.weather.topics.len());
        let name = format!("t{at}");
        match self.oracle.topic(&name) {
            Some(_) => {
                let topic = DeleteTopic::Name(name);
                self.request(Request::DeleteTopics(vec![topic]));
            }
            None => {
                if let Some(subject) = self.weather.topics.get(at).copied() {
                    let topics = vec![Self::topic(&subject, name)];
                    self.request(Request::CreateTopics { topics, validate_only: false });
                }
            }
        }
    }

    fn configure(&mut self) {
        let Some((topic, ..)) = self.any_partition() else { return };
        // More in sync than there are replicas would take no writes.
        let at = topic.trim_start_matches('t').parse::<usize>().unwrap_or(0);
        let is_single = self.weather.topics.get(at).is_none_or(|subject| subject.replicas == 1);
        let (name, value) = match self.random.below(if is_single { 3 } else { 5 }) {
            0 => ("segment.bytes", "8192"),
            3 => ("min.insync.replicas", "1"),
            4 => ("min.insync.replicas", "2"),
            1 => ("segment.bytes", "65536"),
            _ => ("max.message.bytes", "500000"),
        };
        let change = ConfigChange {
            name: name.to_owned(),
            operation: ConfigOperation::Set,
            value: Some(value.to_owned()),
        };
        let target = ConfigTarget::Topic(topic);
        let resources =
            vec![AlterConfigs { target, change: Alteration::Incremental(vec![change]) }];
        self.request(Request::AlterConfigs { resources, validate_only: false });
    }

    /// A broker that was not there before.
    fn join(&mut self) {
        if self.machines.len() >= 5 || self.is_calm {
            return;
        }
        let broker = i32::try_from(self.machines.len()).unwrap_or(0) + 1;
        let machine = super::machine::Machine {
            disk: SimDisk::new(),
            skew: std::sync::Arc::default(),
            running: None,
        };
        self.machines.insert(broker, machine);
        self.weather.brokers = broker;
        self.start(broker);
    }
}
