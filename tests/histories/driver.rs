//! Starts the cluster and the clients, lets faults happen, waits after each until the cluster takes writes again,
//! and checks what all of them were told.

mod inflict;
mod stalls;
mod summary;
mod verdict;

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use sawlog_client::{Client as Sawlog, NewTopic, TopicInfo};
use sawlog_tests::cluster::{Cluster, Machines};
use sawlog_tests::history::Micros;
use tokio::runtime::Runtime;

use crate::draw::Draw;
use crate::faults::{Abilities, Fault, Who};
use crate::ours::{Looking, Ours, micros, options};
use crate::programs::{Client, Program, Target, Told};
use crate::support::on_path;
use stalls::{Stalls, Watched};

const TOPIC: &str = "numbered";
const PARTITIONS: i32 = 6;
const BROKERS: i32 = 3;

/// After a fault every producer has to have something acknowledged in every partition within this.
const ACK_WAIT_MAX: Duration = Duration::from_secs(30);
/// And all replicas have to be in sync within this.
const WHOLE_WAIT_MAX: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) faults: usize,
    /// Records a second, of each producer.
    pub(crate) rate: u32,
    /// Beginnings of the names of the faults to draw from; none are all.
    pub(crate) only: Vec<String>,
}

/// A fault that happened.
#[derive(Debug)]
struct Happened {
    from: Micros,
    healed: Micros,
    kind: String,
    what: String,
    /// The longest time in which some partition acknowledged nothing.
    silence: Duration,
    /// From its end until every producer had something acknowledged in every partition.
    recovery: Duration,
}

#[derive(Debug)]
pub(crate) struct Driver {
    plan: Plan,
    draw: Draw,
    deck: Vec<Fault>,
    abilities: Abilities,
    cluster: Cluster,
    admin: Sawlog,
    programs: Vec<(u32, Program)>,
    readers: Vec<Program>,
    ours: Vec<(u32, Ours)>,
    our_reader: Option<Ours>,
    looking: Option<Looking>,
    stalls: Option<Stalls>,
    happened: Vec<Happened>,
    /// What programs said, once they have ended.
    said: Vec<(String, Vec<String>)>,
    started: Instant,
    runtime: Runtime,
}

impl Driver {
    /// Starts three brokers, and a producer and a consumer of each client there is.
    pub(crate) fn start(plan: Plan) -> Driver {
        let machines = Machines::make(BROKERS);
        if let Err(why) = &machines {
            eprintln!("not run: faults of networks and disks: {why}");
        }
        let abilities =
            Abilities { machines: machines.is_ok(), tracer: on_path("strace").is_file() };
        let settings = [
            ("leader.imbalance.check.interval.seconds", "2"),
            ("log.dirs.reserve.bytes", "1048576"),
        ];
        let cluster = Cluster::start(BROKERS, &settings, machines.ok());
        let runtime = Runtime::new().expect("a runtime");
        let bootstrap = cluster.bootstrap();
        let admin = runtime.block_on(Sawlog::connect(options(&bootstrap))).expect("a broker");
        let (draw, deck, started) = (Draw::new(plan.seed), Vec::new(), Instant::now());
        let mut driver = Driver {
            plan,
            draw,
            deck,
            abilities,
            cluster,
            admin,
            programs: Vec::new(),
            readers: Vec::new(),
            ours: Vec::new(),
            our_reader: None,
            looking: None,
            stalls: None,
            happened: Vec::new(),
            said: Vec::new(),
            started,
            runtime,
        };
        driver.all_vote();
        driver.create();
        driver.load(&Target { bootstrap, topic: TOPIC.to_owned(), partitions: PARTITIONS });
        driver
    }

    fn create(&self) {
        // Small segments: faults hit rolls and seals too.
        let config = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let configs = [config("segment.bytes", "4194304"), config("min.insync.replicas", "2")];
        let (partitions, replication_factor, validate_only) = (PARTITIONS, 3, false);
        let topic = NewTopic {
            name: TOPIC,
            partitions,
            replication_factor,
            configs: &configs,
            validate_only,
        };
        self.runtime.block_on(self.admin.create_topic(&topic)).expect("a new topic");
        // Whoever is asked first has to know it.
        let deadline = Instant::now() + WHOLE_WAIT_MAX;
        for id in self.cluster.ids() {
            let client = Sawlog::connect(options(&self.cluster.address(id)));
            let client = self.runtime.block_on(client).expect("a broker");
            while !self
                .runtime
                .block_on(client.describe(Some(&[TOPIC])))
                .is_ok_and(|info| !info.topics.is_empty())
            {
                assert!(Instant::now() < deadline, "broker {id} knows the topic");
                thread::sleep(LOOK_AGAIN);
            }
        }
    }

    fn load(&mut self, target: &Target) {
        let rate = self.plan.rate;
        let _entered = self.runtime.enter();
        self.ours.push((0, Ours::write(target, 0, rate)));
        self.our_reader = Some(Ours::read(target));
        self.looking = Some(Looking::start(target));
        for (number, client) in (1..).zip(Client::installed()) {
            self.programs.push((number, Program::write(client, target, number, rate)));
            self.readers.push(Program::read(client, target));
        }
        let ours = self
            .ours
            .iter()
            .map(|(_, ours)| Watched { told: Arc::clone(&ours.told), ask: Box::new(|| {}) });
        let programs = self
            .programs
            .iter()
            .map(|(_, program)| Watched { told: program.shared(), ask: Box::new(program.asker()) });
        self.stalls = Some(Stalls::watch(ours.chain(programs).collect()));
    }

    /// All faults, one after another; then everything is checked.
    pub(crate) fn run(mut self) {
        let began = micros();
        let waited = self.wait_for_acks(began, WHOLE_WAIT_MAX);
        waited.unwrap_or_else(|why| self.give_up(&why));
        println!(
            "seed {}, {} faults, producers: ours, {:?}; networks and a disk of their own: {}",
            self.plan.seed,
            self.plan.faults,
            self.programs.iter().map(|(_, program)| program.name()).collect::<Vec<_>>(),
            self.abilities.machines
        );
        for number in 0..self.plan.faults {
            let fault = self.next_fault();
            let whole = fault.needs_all_in_sync() || !self.draw.one_in(3);
            if let Err(why) = self.suffer(number, &fault, whole) {
                self.give_up(&why);
            }
        }
        self.wait_until_whole().unwrap_or_else(|why| self.give_up(&why));
        self.finish();
    }

    fn next_fault(&mut self) -> Fault {
        while self.deck.is_empty() {
            self.deck = Fault::all(&mut self.draw, self.abilities);
            let only = &self.plan.only;
            self.deck.retain(|fault| {
                only.is_empty() || only.iter().any(|name| fault.kind().starts_with(name))
            });
        }
        self.deck.pop().expect("not empty")
    }

    fn suffer(&mut self, number: usize, fault: &Fault, whole: bool) -> Result<(), String> {
        if whole {
            self.wait_until_whole()?;
        }
        let from = micros();
        let watch = Watch::start(self.all_told());
        let seconds = self.started.elapsed().as_secs();
        eprintln!("{seconds:4} s, fault {number}: {fault}{}", if whole { "" } else { ", at once" });
        let done = self.inflict(fault);
        let healed = micros();
        let happened = |silence, recovery| Happened {
            from,
            healed,
            kind: fault.kind(),
            what: fault.to_string(),
            silence,
            recovery,
        };
        let recovered = done.and_then(|()| self.wait_for_acks(healed, ACK_WAIT_MAX));
        let recovery = Duration::from_micros(micros() - healed);
        self.happened.push(happened(watch.end(), recovery));
        recovered
    }

    fn resolve(&self, who: Who) -> i32 {
        let found = match who {
            Who::Broker(id) => return id,
            Who::LeaderOf(partition) => self.leader_of(partition),
            Who::Controller => {
                self.runtime.block_on(self.admin.describe_quorum()).ok().map(|quorum| quorum.leader)
            }
        };
        found.filter(|id| self.cluster.running().contains(id)).unwrap_or(1)
    }

    fn leader_of(&self, partition: i32) -> Option<i32> {
        let topic = self.topic().ok()?;
        Some(topic.partition(partition)?.leader)
    }

    fn topic(&self) -> Result<TopicInfo, String> {
        let info = self.runtime.block_on(self.admin.describe(Some(&[TOPIC])));
        let info = info.map_err(|why| why.to_string())?;
        info.topics.into_iter().next().ok_or_else(|| format!("no topic: {:?}", info.missing))
    }

    fn wait_until_whole(&mut self) -> Result<(), String> {
        let whole = |topic: &TopicInfo| {
            let count = usize::try_from(BROKERS).expect("few");
            topic.partitions.iter().all(|one| one.leader > 0 && one.isr.len() == count)
        };
        let deadline = Instant::now() + WHOLE_WAIT_MAX;
        loop {
            let topic = self.topic();
            if topic.as_ref().is_ok_and(whole) {
                return Ok(());
            }
            self.nobody_has_ended()?;
            if Instant::now() > deadline {
                let quorum = self.runtime.block_on(self.admin.describe_quorum());
                return Err(format!(
                    "not all in sync within {WHOLE_WAIT_MAX:?}: {topic:#?}\n{quorum:#?}"
                ));
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits until three brokers agree on the metadata and all of them have it: from then on one can go.
    fn all_vote(&self) {
        let deadline = Instant::now() + WHOLE_WAIT_MAX;
        loop {
            let seen = self.runtime.block_on(self.admin.describe_quorum());
            if let Ok(quorum) = &seen {
                let voters = quorum.replicas.iter().filter(|one| one.is_voter);
                let known = voters.filter(|one| one.log_end >= quorum.high_watermark);
                if known.count() == 3 {
                    return;
                }
            }
            assert!(Instant::now() < deadline, "three brokers vote: {seen:#?}");
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits until every producer heard of something acknowledged in every partition that is later than this.
    fn wait_for_acks(&mut self, since: Micros, longest: Duration) -> Result<(), String> {
        let deadline = Instant::now() + longest;
        let told = self.all_told();
        loop {
            let silent: Vec<String> =
                told.iter().filter_map(|one| silent_since(one, since)).collect();
            if silent.is_empty() {
                return Ok(());
            }
            self.nobody_has_ended()?;
            if Instant::now() > deadline {
                let topic = self.topic();
                return Err(format!(
                    "nothing acknowledged for {longest:?} to {silent:#?}\n{topic:#?}"
                ));
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    fn all_told(&self) -> Vec<Arc<Mutex<Told>>> {
        let programs = self.programs.iter().map(|(_, program)| program.shared());
        programs.chain(self.ours.iter().map(|(_, ours)| Arc::clone(&ours.told))).collect()
    }

    fn nobody_has_ended(&mut self) -> Result<(), String> {
        if let Some((id, status)) = self.cluster.ended() {
            return Err(format!("broker {id} ended by itself: {status}"));
        }
        let programs = self.programs.iter_mut().map(|(_, program)| program);
        for program in programs.chain(&mut self.readers) {
            if program.has_ended() {
                let told = program.told();
                let tail = told.said[told.said.len().saturating_sub(30)..].join("\n  ");
                return Err(format!("{} ended by itself:\n  {tail}", program.name()));
            }
        }
        let ours = self.ours.iter().map(|(_, ours)| ours).chain(&self.our_reader);
        if ours.into_iter().any(Ours::has_ended) {
            return Err("our client ended by itself".to_owned());
        }
        Ok(())
    }
}

fn silent_since(told: &Mutex<Told>, since: Micros) -> Option<String> {
    let told = told.lock().expect("no holder panics");
    let silent = (0..).zip(&told.acked_at).filter(|(_, at)| **at <= since);
    let silent: Vec<i32> = silent.map(|(partition, _)| partition).collect();
    (!silent.is_empty()).then(|| format!("{} partitions {silent:?}", told.sent.name))
}

/// Measures the longest time in which some partition acknowledges nothing to anybody.
#[derive(Debug)]
struct Watch {
    over: Arc<std::sync::atomic::AtomicBool>,
    watcher: thread::JoinHandle<Duration>,
}

impl Watch {
    fn start(told: Vec<Arc<Mutex<Told>>>) -> Watch {
        use std::sync::atomic::Ordering;
        let over = Arc::<std::sync::atomic::AtomicBool>::default();
        let stop = Arc::clone(&over);
        let watcher = thread::spawn(move || {
            let began = micros();
            let mut longest = Duration::ZERO;
            while !stop.load(Ordering::Relaxed) {
                let mut last = vec![began; usize::try_from(PARTITIONS).expect("few")];
                for one in &told {
                    let one = one.lock().expect("no holder panics");
                    last.iter_mut()
                        .zip(&one.acked_at)
                        .for_each(|(last, at)| *last = (*last).max(*at));
                }
                let silent = last.iter().min().map_or(0, |oldest| micros().saturating_sub(*oldest));
                longest = longest.max(Duration::from_micros(silent));
                thread::sleep(LOOK_AGAIN);
            }
            longest
        });
        Watch { over, watcher }
    }

    fn end(self) -> Duration {
        self.over.store(true, std::sync::atomic::Ordering::Relaxed);
        self.watcher.join().expect("it ends")
    }
}
