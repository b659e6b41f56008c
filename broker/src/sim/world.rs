//! A world: brokers on machines, a network, clients, and somebody who makes things go wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use super::chronicle::{Chronicle, Lived};
use super::clients::{Client, Shared, Target};
use super::committer::COMMITTED_TOPIC;
use super::decay::Decay;
use super::deleter::DELETER;
use super::machine::{Boot, Machine, start};
use super::members::{Group, SHARED_TOPIC};
use super::net::Net;
use super::oracle::Oracle;
use super::process::{Process, guarded};
use super::quorum::SimQuorum;
use super::weather::{Subject, Weather};
use crate::base::disk_sim::{SimDisk, SimRandom};
use crate::base::tasks::SimulatedProcess as _;
use crate::base::{BrokerId, PartitionId};
use crate::controller::{Controller, CreateTopic, Request};
use crate::metadata::{Random as _, SeededRandom};

/// How long things go wrong: with the calm after it, a world lives for half a minute or longer.
const CHAOS: Duration = Duration::from_secs(26);

/// How long it may take until all is well again.
const CALM: Duration = Duration::from_secs(40);

/// A world.
pub(super) struct World {
    pub(super) weather: Weather,
    /// The disk that decays, if one does.
    pub(super) decay: Option<Decay>,
    pub(super) random: SimRandom,
    pub(super) net: Net,
    pub(super) quorum: SimQuorum,
    pub(super) oracle: Arc<Oracle>,
    pub(super) machines: BTreeMap<i32, Machine>,
    begun: Instant,
    cluster_id: sawlog_protocol::Uuid,
    lives: u64,
    /// All there were.
    pub(super) processes: Arc<Mutex<Vec<Weak<Process>>>>,
    pub(super) clients: Arc<Shared>,
    /// The group its members are in.
    group: Option<Arc<Group>>,
    /// When what is off is started again.
    pub(super) starts: BTreeMap<i32, Instant>,
    /// When what is stopped goes on, and what is cut is healed.
    pub(super) resumes: BTreeMap<i32, Instant>,
    pub(super) heals: Option<Instant>,
    pub(super) is_calm: bool,
}

impl World {
    /// The world of a seed. Within a runtime.
    pub(super) fn new(seed: u64, is_telling: bool) -> Self {
        let mut world = Self::plain(seed, is_telling);
        world.weather.add_later(seed);
        world.decay = Decay::of(seed, world.weather.brokers);
        let broker = world.decay.as_ref().map(|decay| decay.broker);
        world.oracle.with(|known| known.bad_disk = broker);
        if world.decay.is_some() {
            world.weather.deletions = None;
        }
        world
    }

    /// The world of a seed without what came into worlds later.
    pub(super) fn plain(seed: u64, is_telling: bool) -> Self {
        let mut random = SimRandom::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let weather = Weather::of(&mut random);
        let net = Net::new(random.bits(), weather.lines);
        let voters = (1..=weather.brokers).take(weather.voters).collect();
        let quorum = SimQuorum::new(random.bits(), voters, weather.manners, net.clone());
        let cluster_id = SeededRandom::new(random.bits()).next_uuid();
        let oracle = Oracle::new(cluster_id, quorum.clone(), is_telling);
        let clients = Arc::new(Shared {
            net: net.clone(),
            oracle: oracle.clone(),
            brokers: weather.brokers,
            next_value: AtomicU64::new(1),
            is_over: AtomicBool::new(false),
            open: Mutex::new(0),
            chronicle: Mutex::new(Chronicle::new(Instant::now())),
        });
        Self {
            weather,
            decay: None,
            random,
            net,
            quorum,
            oracle,
            machines: BTreeMap::new(),
            begun: Instant::now(),
            cluster_id,
            lives: 0,
            processes: Arc::default(),
            clients,
            group: None,
            starts: BTreeMap::new(),
            resumes: BTreeMap::new(),
            heals: None,
            is_calm: false,
        }
    }

    /// Lives through it.
    pub(super) async fn run(mut self) -> Lived {
        self.begin().await;
        self.start_clients();
        let end = Instant::now() + CHAOS;
        let mut fault_at = Instant::now();
        while Instant::now() < end {
            if Instant::now() >= fault_at {
                let every = 1 + self.random.below(2 * self.weather.fault_every);
                fault_at += Duration::from_millis(every);
                self.make_fault();
            }
            self.decay();
            self.keep_up();
            let next = fault_at.min(end).min(Instant::now() + Duration::from_millis(50));
            sleep_until(next).await;
        }
        self.calm_down();
        self.await_rest().await;
        self.finish()
    }

    /// Starts everybody, and makes the topics.
    pub(super) async fn begin(&mut self) {
        self.oracle.with(|known| known.tell(|| format!("{:#?}", self.weather)));
        tokio::spawn(self.quorum.clone().run());
        for broker in 1..=self.weather.brokers {
            let machine = Machine { disk: SimDisk::new(), skew: Arc::default(), running: None };
            self.machines.insert(broker, machine);
            self.start(broker);
        }
        self.make_topics().await;
    }

    /// A process is started on a machine.
    pub(super) fn start(&mut self, broker: i32) {
        self.lives += 1;
        let life = self.lives;
        let (seed, pace) = (self.random.bits(), self.weather.pace);
        let process = Process::new((broker, life), pace, seed, self.oracle.clone());
        self.processes.lock().push(Arc::downgrade(&process));
        let Some(machine) = self.machines.get_mut(&broker) else { return };
        let boot = Boot {
            process,
            disk: machine.disk.clone(),
            skew: machine.skew.clone(),
            seed: self.random.bits(),
            world: self.begun,
            cluster_id: self.cluster_id,
            net: self.net.clone(),
            quorum: self.quorum.clone(),
            oracle: self.oracle.clone(),
            // Only what is full decays.
            group_segment_bytes: self.decay.as_ref().map(|_| 4096),
        };
        machine.running = Some(start(boot));
        self.starts.remove(&broker);
        self.oracle.with(|known| {
            known.totals.starts += 1;
            known.note(&[4, i64::from(broker)]);
            known.tell(|| format!("broker {broker} starts, life {life}"));
        });
    }

    /// The process of a machine is gone, with or without its power. While that stays on, the next one reads
    /// what this one wrote, also where a sync of it has failed.
    pub(super) fn end(&mut self, broker: i32, stays_on: bool) {
        let seed = self.random.bits();
        let flip = self.flip_while_away(broker);
        let Some(machine) = self.machines.get_mut(&broker) else { return };
        self.net.end(broker, stays_on);
        self.quorum.end(broker);
        let running = machine.running.take();
        let was_running = running.is_some();
        machine.disk =
            if stays_on { machine.disk.after_kill() } else { machine.disk.restart(seed) };
        if let Some(running) = running {
            running.end();
        }
        if let Some(flip) = flip {
            self.flip(flip);
        }
        self.resumes.remove(&broker);
        if was_running {
            let away = 1 + self.random.below(self.weather.away_max);
            self.starts.insert(broker, Instant::now() + Duration::from_millis(away));
        }
    }

    /// Starts what is to be started, and lets go on what is to go on.
    pub(super) fn keep_up(&mut self) {
        let now = Instant::now();
        let over: Vec<(i32, String)> = self
            .machines
            .iter()
            .filter_map(|(broker, machine)| {
                Some((*broker, machine.running.as_ref()?.over.get()?.clone()))
            })
            .collect();
        for (broker, why) in over {
            self.oracle.with(|known| known.tell(|| format!("broker {broker} ends: {why}")));
            self.end(broker, true);
        }
        let due = |times: &BTreeMap<i32, Instant>| -> Vec<i32> {
            times.iter().filter(|(_, at)| **at <= now).map(|(broker, _)| *broker).collect()
        };
        for broker in due(&self.starts) {
            self.start(broker);
        }
        for broker in due(&self.resumes) {
            self.resumes.remove(&broker);
            if let Some(running) = self.machines.get(&broker).and_then(|it| it.running.as_ref()) {
                running.process.stop(false);
            }
        }
        if self.heals.is_some_and(|at| at <= now) {
            self.heals = None;
            self.net.heal();
        }
    }

    /// A controller of a broker that runs.
    pub(super) fn controller(&self, broker: i32) -> Option<(Arc<Process>, Arc<Controller>)> {
        let running = self.machines.get(&broker)?.running.as_ref()?;
        let controller = running.broker.lock().clone()?;
        Some((running.process.clone(), controller))
    }

    /// Asks the controller through a broker, and does not wait for what comes of it.
    pub(super) fn request(&mut self, request: Request) {
        let brokers: Vec<i32> =
            self.machines.keys().copied().filter(|it| self.controller(*it).is_some()).collect();
        let at = self.random.below(u64::try_from(brokers.len()).unwrap_or(0));
        let broker = brokers.get(usize::try_from(at).unwrap_or(0)).copied();
        let Some((process, controller)) = broker.and_then(|it| self.controller(it)) else { return };
        let (oracle, since) = (self.oracle.clone(), self.oracle.metadata_end());
        process.spawn(Box::pin(async move {
            if let Ok(answer) = controller.ask(request.clone()).await {
                oracle.on_answer(&request, &answer, since);
            }
        }));
    }

    /// The topics of the world, made again where they are gone.
    pub(super) fn topic(subject: &Subject, name: String) -> CreateTopic {
        let setting = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
        let mut configs = vec![setting("segment.bytes", "16384")];
        if let Some(least) = subject.min_in_sync {
            configs.push(setting("min.insync.replicas", &least.to_string()));
        }
        if subject.is_os {
            configs.push(setting("flush.mode", "os"));
        }
        CreateTopic {
            name,
            partitions: Some(subject.partitions),
            replication_factor: Some(subject.replicas),
            configs,
            ..CreateTopic::default()
        }
    }

    async fn make_topics(&mut self) {
        let everybody = Instant::now() + Duration::from_secs(20);
        while self.oracle.with(|known| known.image().live_brokers().count())
            < usize::try_from(self.weather.brokers).unwrap_or(0)
        {
            assert!(Instant::now() < everybody, "(26) not all brokers are there at the start");
            self.keep_up();
            sleep(Duration::from_millis(20)).await;
        }
        self.make_missing_topics();
        let made = Instant::now() + Duration::from_secs(20);
        while self.oracle.with(|known| known.image().topic_count()) < self.subjects().len() {
            assert!(Instant::now() < made, "(26) topics cannot be made");
            self.keep_up();
            sleep(Duration::from_millis(100)).await;
            self.make_missing_topics();
        }
    }

    fn make_missing_topics(&mut self) {
        for (name, subject) in self.subjects() {
            if self.oracle.topic(&name).is_none() {
                let topics = vec![Self::topic(&subject, name)];
                self.request(Request::CreateTopics { topics, validate_only: false });
            }
        }
    }

    /// The topics there should be, by name.
    fn subjects(&self) -> Vec<(String, Subject)> {
        let topics = self.weather.topics.iter().enumerate();
        let mut subjects: Vec<_> = topics.map(|(at, it)| (format!("t{at}"), *it)).collect();
        if self.weather.committers > 0 {
            let kept = Subject { partitions: 1, replicas: 3, min_in_sync: None, is_os: false };
            subjects.push((COMMITTED_TOPIC.to_owned(), kept));
        }
        if let Some(crew) = self.weather.crew {
            let partitions = crew.partitions;
            let shared = Subject { partitions, replicas: 3, min_in_sync: None, is_os: false };
            subjects.push((SHARED_TOPIC.to_owned(), shared));
        }
        subjects
    }

    fn spawn(&self, client: impl Future<Output = ()> + Send + 'static) {
        let (mut client, oracle) = (Box::pin(client), self.oracle.clone());
        tokio::spawn(std::future::poll_fn(move |context| {
            guarded(&*oracle, || client.as_mut().poll(context))
        }));
    }

    fn start_clients(&mut self) {
        let topics = self.weather.topics.clone();
        let mut number = 0;
        let mut client = |world: &mut Self| {
            number += 1;
            let random = SimRandom::new(world.random.bits());
            Client { shared: world.clients.clone(), number, random }
        };
        let every = self.weather.write_every;
        for _ in 0..self.weather.producers {
            let target = self.any_target(&topics);
            let client = client(self);
            self.spawn(client.produce(target, every));
        }
        let (target, careless) = (self.any_target(&topics), client(self));
        self.spawn(careless.produce_carelessly(target, every));
        for _ in 0..2 {
            let target = self.any_target(&topics);
            let client = client(self);
            self.spawn(client.consume(target, self.weather.deletions.is_some()));
        }
        for _ in 0..self.weather.committers {
            let client = client(self);
            self.spawn(client.commit());
        }
        if let Some(seed) = self.weather.deletions {
            let shared = self.clients.clone();
            let client = Client { shared, number: DELETER, random: SimRandom::new(seed) };
            self.spawn(client.delete(topics));
        }
        if let Some(crew) = self.weather.crew {
            let (group, members) = crew.members(&self.clients);
            self.group = Some(group);
            members.into_iter().for_each(|member| self.spawn(member.live()));
        }
    }

    fn any_target(&mut self, topics: &[Subject]) -> Target {
        let at = usize::try_from(self.random.below(u64::try_from(topics.len()).unwrap_or(1)))
            .unwrap_or(0);
        let partitions = topics.get(at).map_or(1, |topic| topic.partitions);
        let index = self.random.below(u64::from(partitions.unsigned_abs()));
        Target { topic: format!("t{at}"), index: i32::try_from(index).unwrap_or(0) }
    }

    /// Nothing goes wrong any more, and what has ends.
    fn calm_down(&mut self) {
        self.is_calm = true;
        self.weather.clear_up();
        self.net.set_lines(self.weather.lines);
        self.quorum.set_manners(self.weather.manners);
        self.net.heal();
        self.heals = None;
        let now = Instant::now();
        for at in self.starts.values_mut().chain(self.resumes.values_mut()) {
            *at = now;
        }
        for machine in self.machines.values() {
            machine.disk.cancel_plan();
            if let Some(running) = &machine.running {
                running.process.set_pace(self.weather.pace);
                running.process.hang(0);
            }
        }
        self.weather.away_max = 100;
        self.keep_up();
        self.oracle.with(|known| known.tell(|| "all is calm".to_owned()));
    }

    /// (26) Waits until all is well: clients for a while, then until there is nothing to do.
    async fn await_rest(&mut self) {
        let begun = Instant::now();
        let deadline = begun + CALM;
        let writes_until = begun + Duration::from_secs(4);
        let mut reason = "it has just begun".to_owned();
        while Instant::now() < deadline {
            self.keep_up();
            if Instant::now() >= writes_until {
                self.make_missing_topics();
                self.clients.is_over.store(true, Ordering::Relaxed);
                match self.unrest() {
                    None => return,
                    Some(why) => reason = why,
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("(26) after {CALM:?} of calm: {reason}");
    }

    /// Why the world is not at rest, if it is not.
    fn unrest(&mut self) -> Option<String> {
        if let Some(broker) =
            self.machines.keys().find(|broker| self.controller(**broker).is_none())
        {
            return Some(format!("broker {broker} does not run"));
        }
        let mut lost = 0;
        let unrest = self.oracle.with(|known| {
            let image = known.image().clone();
            for (broker, machine) in &self.machines {
                let running = machine.running.as_ref()?;
                let controller = running.broker.lock().clone()?;
                let has = controller.images().load().offset();
                if has != image.offset() {
                    return Some(format!(
                        "broker {broker} has metadata {} of {}",
                        has.0,
                        image.offset().0
                    ));
                }
            }
            for topic in image.topics() {
                for (index, state) in topic.indexed() {
                    let id = PartitionId { topic: topic.id, index };
                    if state.isr.is_empty() && state.elr.is_empty() {
                        lost += 1;
                        continue;
                    }
                    let leader = state.leader.filter(|_| state.isr.len() == state.replicas.len());
                    let Some(BrokerId(leader)) = leader else {
                        return Some(format!("{}-{index}: {state:?}", topic.name));
                    };
                    if !state.adding.is_empty() || !state.removing.is_empty() {
                        return Some(format!("{}-{index} moves: {state:?}", topic.name));
                    }
                    let committed = known.ledgers.get(&id).map_or(0, |it| it.committed.len());
                    for BrokerId(broker) in &state.replicas {
                        let (start, all) = (known.start(*broker, id), known.start(leader, id));
                        // It may be ahead: what was deleted where nobody was told so.
                        if start < all {
                            let name = &topic.name;
                            return Some(format!(
                                "{name}-{index} of broker {broker} starts at {start}, and should at {all}"
                            ));
                        }
                        let replica = known.replica(*broker, id);
                        let (log, durable, high_watermark) = replica.unwrap_or_default();
                        if (log.len(), high_watermark) != (committed, committed) {
                            return Some(format!(
                                "{}-{index} of broker {broker}: end {}, durable {durable}, high \
                                 watermark {high_watermark}, committed {committed}",
                                topic.name,
                                log.len()
                            ));
                        }
                    }
                }
            }
            None
        });
        let open = *self.clients.open.lock();
        let waits = (lost == 0 && open > 0).then(|| format!("{open} writes are not answered"));
        let group = self.group.as_ref().and_then(|group| group.unrest());
        let unrest = unrest.or(group.filter(|_| lost == 0)).or(waits);
        unrest.or_else(|| self.oracle.with(|known| known.damage()))
    }

    fn finish(self) -> Lived {
        let messages = self.net.sent();
        let (controllers, uncertain) = self.quorum.counts();
        self.oracle.with(|known| {
            known.ledgers.values().for_each(super::oracle::Ledger::finish);
            let image = known.image().clone();
            let states = image.topics().flat_map(|topic| topic.partitions.iter());
            let offline = states.filter(|it| it.isr.is_empty() && it.elr.is_empty()).count();
            known.totals.offline = u64::try_from(offline).unwrap_or(0);
            known.note(&[i64::try_from(messages).unwrap_or(0)]);
            let mut lived = self.clients.chronicle.lock().finish(known);
            let totals = &mut lived.totals;
            (totals.messages, totals.controllers, totals.uncertain) =
                (messages, controllers, uncertain);
            lived
        })
    }
}

/// Processes, the network and the metadata log know each other: one has to begin to forget.
impl Drop for World {
    fn drop(&mut self) {
        for (broker, machine) in &mut self.machines {
            self.net.end(*broker, false);
            self.quorum.end(*broker);
            if let Some(running) = machine.running.take() {
                running.end();
            }
        }
    }
}
