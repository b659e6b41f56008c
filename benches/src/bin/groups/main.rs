//! What many idle consumers cost a broker, and how long a large group takes to rebalance.
//!
//! `cargo run --release -p sawlog-benches --bin sawlog-groups -- --sawlog PATH` starts a broker of its
//! own, has 10,000 members with a connection each join 1,000 groups, and lets them send heartbeats.
//! Then, beside them, 500 members make one group; one more joins, and leaves. The members are tasks
//! of this program, which runs on the same machine as the broker. `--protocol consumer` has them speak the
//! consumer protocol (KIP-848) instead of the classic one; each has one partition of ten, those of the
//! large group two.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

mod board;
mod consumer;
mod member;
#[path = "../compare/process.rs"]
#[allow(dead_code, reason = "shared with the comparison, which uses all of it")]
mod process;
#[path = "../shared/sawlog.rs"]
#[allow(dead_code, reason = "shared: each program uses a part")]
mod sawlog;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use board::{Board, Group, Whole};
use member::Orders;
use process::Process;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sawlog::Sawlog;
use tokio::sync::watch;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// `group.initial.rebalance.delay.ms` by default: an empty group waits this long for more members.
const INITIAL_DELAY: Duration = Duration::from_secs(3);

struct Options {
    sawlog: PathBuf,
    members: usize,
    groups: usize,
    large: usize,
    interval: Duration,
    idle: Duration,
    protocol: Protocol,
    settings: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Classic,
    Consumer,
}

fn main() -> Result<(), Failure> {
    let options = options()?;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let data = tempfile::tempdir()?;
    println!("{}", process::machine_name());
    let mut settings = options.settings.clone();
    if options.protocol == Protocol::Consumer {
        // In the consumer protocol the broker says how often.
        for name in ["group.consumer.min.heartbeat", "group.consumer.heartbeat"] {
            settings.push(format!("{name}.interval.ms={}", options.interval.as_millis()));
        }
    }
    let broker = Sawlog::start(&options.sawlog, data.path(), &settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(&options, &broker))?;
    runtime.shutdown_background();
    broker.stop("-TERM")
}

async fn measure(options: &Options, broker: &Sawlog) -> Result<(), Failure> {
    let run = Run {
        address: broker.address.as_str().into(),
        board: Arc::default(),
        process: Process(broker.id()),
        interval: options.interval,
        protocol: options.protocol,
    };
    member::find_coordinator(&run.address).await?;
    let empty = run.process.memory()?.anonymous;
    run.idle_groups(options).await?;
    let full = run.process.memory()?;
    println!(
        "memory: {:.0} MiB resident, {:.0} MiB of it the broker's own ({empty:.0} before), {:.1} KiB a member",
        full.resident,
        full.anonymous,
        (full.anonymous - empty) * 1024.0 / f64::from(u32::try_from(options.members)?),
    );
    run.one_large_group(options.large).await
}

/// What everything here needs.
struct Run {
    address: Arc<str>,
    board: Arc<Board>,
    process: Process,
    interval: Duration,
    protocol: Protocol,
}

impl Run {
    /// The member `number` of `group`, told to leave by what is returned. `place` is from 0 to 1: where
    /// its heartbeats lie within the interval.
    fn enter(&self, group: &Arc<Group>, number: usize, place: f64) -> watch::Sender<bool> {
        let (sender, leave) = watch::channel(false);
        let orders = Orders {
            address: self.address.clone(),
            board: self.board.clone(),
            group: group.clone(),
            number,
            interval: self.interval,
            first: self.interval.mul_f64(place),
            leave,
        };
        let protocol = self.protocol;
        tokio::spawn(async move {
            let lived = match protocol {
                Protocol::Classic => member::live(orders).await,
                Protocol::Consumer => consumer::live(orders).await,
            };
            if let Err(error) = lived {
                println!("a member failed: {error}");
            }
        });
        sender
    }

    async fn idle_groups(&self, options: &Options) -> Result<(), Failure> {
        let size = options.members / options.groups;
        let topic = self.topic("idle", size).await?;
        let (begun, cpu) = (Instant::now(), self.process.cpu_seconds()?);
        let groups: Vec<Arc<Group>> = (0..options.groups)
            .map(|at| Arc::new(Group::new(format!("idle-{at}"), topic)))
            .collect();
        let mut members = Vec::new();
        for round in 0..size {
            for (at, group) in (0u32..).zip(&groups) {
                let place = f64::from(at) / f64::from(u32::try_from(groups.len())?);
                members.push(self.enter(group, round, place));
                if at % 100 == 99 {
                    // The backlog of a listener is finite.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            if round == 0 {
                println!("{} groups of {size} members, a connection each", groups.len());
            }
        }
        for group in &groups {
            group.whole(size, 0).await;
        }
        println!(
            "all in their groups after {:.1} s{}, {:.1} s of processor time",
            begun.elapsed().as_secs_f64(),
            match self.protocol {
                Protocol::Classic => {
                    format!(" (of which the initial delay, {INITIAL_DELAY:?}, once or twice)")
                }
                Protocol::Consumer => String::new(),
            },
            self.process.cpu_seconds()? - cpu
        );
        // One interval, so that all have begun.
        tokio::time::sleep(self.interval).await;
        self.heartbeats(options.idle).await?;
        // They stay: nobody is told to leave while the senders live.
        std::mem::forget(members);
        Ok(())
    }

    /// Watches heartbeats for a while.
    async fn heartbeats(&self, time: Duration) -> Result<(), Failure> {
        self.board.measuring.store(true, Ordering::Relaxed);
        let cpu = self.process.cpu_seconds()?;
        tokio::time::sleep(time).await;
        self.board.measuring.store(false, Ordering::Relaxed);
        let spent = self.process.cpu_seconds()? - cpu;
        let times = self.board.take_heartbeats();
        let at = |share: usize| times.get((times.len() * share / 1000).min(times.len() - 1));
        let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1000.0);
        println!(
            "heartbeats every {:?}: {:.0} a second, p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, longest {:.2} ms, {} refused; {:.1} % of a core",
            self.interval,
            times.len() as f64 / time.as_secs_f64(),
            ms(at(500)),
            ms(at(990)),
            ms(at(999)),
            ms(times.last()),
            self.board.refused.swap(0, Ordering::Relaxed),
            100.0 * spent / time.as_secs_f64(),
        );
        Ok(())
    }

    async fn one_large_group(&self, size: usize) -> Result<(), Failure> {
        let topic = self.topic("large", 2 * size).await?;
        let group = Arc::new(Group::new("large".to_owned(), topic));
        let (begun, cpu) = (Instant::now(), self.process.cpu_seconds()?);
        let places = (0..u32::try_from(size)?).map(|at| f64::from(at) / size as f64);
        let members: Vec<_> =
            places.enumerate().map(|(number, place)| self.enter(&group, number, place)).collect();
        let first = group.whole(size, 0).await;
        self.tell(&format!("{size} members join an empty group"), begun, &first, cpu)?;

        let (begun, cpu) = (Instant::now(), self.process.cpu_seconds()?);
        let one = self.enter(&group, size, 0.5);
        let second = group.whole(size + 1, first.generation).await;
        self.tell("one more joins", begun, &second, cpu)?;

        let (begun, cpu) = (Instant::now(), self.process.cpu_seconds()?);
        one.send(true)?;
        let third = group.whole(size, second.generation).await;
        self.tell("it leaves", begun, &third, cpu)?;
        drop(members);
        Ok(())
    }

    /// A topic for the members of groups to read, where the broker has to know of one.
    async fn topic(
        &self,
        name: &'static str,
        partitions: usize,
    ) -> Result<Option<(&'static str, usize)>, Failure> {
        if self.protocol == Protocol::Classic {
            return Ok(None);
        }
        consumer::create_topic(&self.address, (name, partitions)).await?;
        Ok(Some((name, partitions)))
    }

    fn tell(&self, what: &str, begun: Instant, whole: &Whole, cpu: f64) -> Result<(), Failure> {
        println!(
            "{what}: all have their assignment after {:.2} s{}; {:.2} s of processor time, generation {}",
            (whole.at - begun).as_secs_f64(),
            match self.protocol {
                Protocol::Classic => {
                    format!(", {:.3} s after the last asked to join", whole.waited().as_secs_f64())
                }
                // They ask once, when they come.
                Protocol::Consumer => String::new(),
            },
            self.process.cpu_seconds()? - cpu,
            whole.generation
        );
        Ok(())
    }
}

fn options() -> Result<Options, Failure> {
    let mut options = Options {
        sawlog: PathBuf::from("target/release/sawlog"),
        members: 10_000,
        groups: 1_000,
        large: 500,
        interval: Duration::from_secs(3),
        idle: Duration::from_secs(30),
        protocol: Protocol::Classic,
        settings: Vec::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--sawlog" => options.sawlog = value()?.into(),
            "--members" => options.members = value()?.parse()?,
            "--groups" => options.groups = value()?.parse()?,
            "--large" => options.large = value()?.parse()?,
            "--interval" => options.interval = Duration::from_millis(value()?.parse()?),
            "--idle" => options.idle = Duration::from_secs(value()?.parse()?),
            "--protocol" => {
                options.protocol = match value()?.as_str() {
                    "classic" => Protocol::Classic,
                    "consumer" => Protocol::Consumer,
                    other => return Err(format!("no protocol is called {other}").into()),
                }
            }
            "-X" => options.settings.push(value()?),
            _ => return Err("usage: sawlog-groups [--protocol classic|consumer] [--sawlog PATH] [--members N] [--groups N] [--large N] [--interval MS] [--idle SECONDS] [-X KEY=VALUE]".into()),
        }
    }
    if options.groups == 0 || options.members < options.groups || options.large == 0 {
        return Err("as many members as groups are needed at least, and one large group".into());
    }
    Ok(options)
}
