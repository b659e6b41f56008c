//! What many partitions cost a broker: time to start, memory, processor time while idle.
//!
//! `cargo run --release -p sawlog-benches --bin partitions -- --sawlog PATH` makes a broker of its
//! own in a temporary directory, gives it partitions with one record each, stops it cleanly, starts
//! it again, kills it, starts it again; after each start it looks at what the process holds and does.
//! Everything it starts is stopped by its process id.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

#[path = "../compare/process.rs"]
#[allow(dead_code, reason = "shared with the comparison, which uses all of it")]
mod process;
#[path = "../shared/sawlog.rs"]
mod sawlog;
#[path = "../shared/wire.rs"]
#[allow(dead_code, reason = "shared: each program uses a part")]
mod wire;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use process::{Machine, Process};
use sawlog::Sawlog;
use wire::Wire;

pub(crate) type Failure = Box<dyn std::error::Error>;

/// Topics the partitions are spread over.
const TOPICS: usize = 10;

/// Partitions that take a record in one request.
const PARTITIONS_PER_REQUEST: usize = 100;

struct Options {
    sawlog: PathBuf,
    partitions: usize,
    idle: Duration,
    settings: Vec<String>,
}

fn main() -> Result<(), Failure> {
    let options = options()?;
    let data = tempfile::tempdir()?;
    println!("{}", process::machine_name());
    println!("{} partitions in {TOPICS} topics, idle for {:?}", options.partitions, options.idle);
    println!();
    println!(
        "| | start s | first ack s | resident MiB | without files | idle % of a core | descriptors | mappings |"
    );
    println!("|---|---|---|---|---|---|---|---|");

    let broker = Broker::start(&options, data.path())?;
    let mut wire = broker.connect()?;
    let made = Instant::now();
    let per_topic = options.partitions.div_ceil(TOPICS);
    for topic in 0..TOPICS {
        wire.create_topic(&name(topic), per_topic)?;
    }
    let made = made.elapsed();
    broker.report("empty partitions, just made", &options, None)?;
    let wrote = Instant::now();
    write_everywhere(&mut wire, per_topic)?;
    let wrote = wrote.elapsed();
    broker.report("one record in each", &options, None)?;
    let stopping = Instant::now();
    broker.stop("-TERM")?;
    let stopped = stopping.elapsed();

    let broker = Broker::start(&options, data.path())?;
    let first_ack = broker.first_ack()?;
    broker.report("started after a clean stop", &options, Some(first_ack))?;
    write_everywhere(&mut broker.connect()?, per_topic)?;
    broker.stop("-KILL")?;

    let broker = Broker::start(&options, data.path())?;
    let first_ack = broker.first_ack()?;
    broker.report("started after kill -9", &options, Some(first_ack))?;
    broker.stop("-TERM")?;

    println!();
    println!(
        "creating took {:.2} s, a synced record in each {:.2} s, stopping cleanly {:.2} s",
        made.as_secs_f64(),
        wrote.as_secs_f64(),
        stopped.as_secs_f64()
    );
    Ok(())
}

fn name(topic: usize) -> String {
    format!("many-{topic}")
}

/// One record into each partition, acknowledged by all.
fn write_everywhere(wire: &mut Wire, per_topic: usize) -> Result<(), Failure> {
    for topic in 0..TOPICS {
        let mut from = 0;
        while from < per_topic {
            let upto = per_topic.min(from + PARTITIONS_PER_REQUEST);
            wire.produce(&name(topic), from..upto)?;
            from = upto;
        }
    }
    Ok(())
}

/// The broker, and what is asked of it.
struct Broker(Sawlog);

impl Broker {
    fn start(options: &Options, data: &Path) -> Result<Self, Failure> {
        Ok(Self(Sawlog::start(&options.sawlog, data, &options.settings)?))
    }

    fn stop(self, signal: &str) -> Result<(), Failure> {
        self.0.stop(signal)
    }

    fn connect(&self) -> Result<Wire, Failure> {
        Wire::connect(&self.0.address)
    }

    /// Time from the making of the process to a record acknowledged by all.
    fn first_ack(&self) -> Result<Duration, Failure> {
        self.connect()?.produce(&name(0), 0..1)?;
        Ok(self.0.begun.elapsed())
    }

    /// Prints one row, after having been idle.
    fn report(
        &self,
        what: &str,
        options: &Options,
        first_ack: Option<Duration>,
    ) -> Result<(), Failure> {
        let process = Process(self.0.id());
        process.settle()?;
        let (before, machine_before) = (process.cpu_seconds()?, Machine::now()?);
        std::thread::sleep(options.idle);
        let spent = process.cpu_seconds()? - before;
        let machine = Machine::now()?;
        let others = machine.busy - machine_before.busy - spent;
        let memory = process.memory()?;
        let proc_dir = PathBuf::from(format!("/proc/{}", self.0.id()));
        let descriptors = std::fs::read_dir(proc_dir.join("fd"))?.count();
        let mappings = std::fs::read_to_string(proc_dir.join("maps"))?.lines().count();
        println!(
            "| {what} | {:.2} | {} | {:.0} | {:.0} | {:.2} | {descriptors} | {mappings} |",
            self.0.started.as_secs_f64(),
            first_ack.map_or_else(String::new, |ack| format!("{:.2}", ack.as_secs_f64())),
            memory.resident,
            memory.anonymous,
            100.0 * spent / options.idle.as_secs_f64(),
        );
        if others > 0.2 * options.idle.as_secs_f64() {
            println!("| (others used {others:.1} s of processor time meanwhile) | | | | | | | |");
        }
        Ok(())
    }
}

fn options() -> Result<Options, Failure> {
    let mut options = Options {
        sawlog: PathBuf::from("target/release/sawlog"),
        partitions: 10_000,
        idle: Duration::from_secs(20),
        settings: Vec::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--sawlog" => options.sawlog = value()?.into(),
            "--partitions" => options.partitions = value()?.parse()?,
            "--idle" => options.idle = Duration::from_secs(value()?.parse()?),
            "-X" => options.settings.push(value()?),
            _ => return Err("usage: partitions [--sawlog PATH] [--partitions N] [--idle SECONDS] [-X KEY=VALUE]".into()),
        }
    }
    Ok(options)
}
