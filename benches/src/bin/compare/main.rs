//! `sawlog-compare`: Sawlog and Apache Kafka on the same machine, with the same clients, one after
//! the other, repeated. How to run it and how to read it: `benches/README.md`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints")]

mod bare;
mod broker;
mod figures;
mod first_ack;
mod java;
mod load;
mod options;
mod process;
mod scenario;
mod variant;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser as _;
use serde_json::json;

use broker::{Broker, Programs};
use figures::{Better, Figures, Noise, Row, Sheet};
use first_ack::{await_accept, await_first_ack, millis};
use options::Options;
use process::{Machine, Process};
use scenario::{Scenario, Subject};
use variant::Variant;

type Failure = Box<dyn std::error::Error>;

const START: &str = "Start and memory";

/// The start is always made, the broker has to run anyway; this is its name for `--only`.
const START_NAME: &str = "start";

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sawlog-compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<ExitCode, Failure> {
    let scenarios = scenarios(options)?;
    if options.list {
        println!("{START_NAME}");
        scenarios.iter().for_each(|scenario| println!("{}", scenario.name()));
        return Ok(ExitCode::SUCCESS);
    }
    let variants = options.variants()?;
    let mut figures = Figures::default();
    for repetition in 1..=options.repetitions() {
        for variant in in_turn(&variants, repetition) {
            let mut sheet = Sheet { figures: &mut figures, variant: variant.name, repetition };
            if let Err(error) = measure(options, &scenarios, variant, &mut sheet) {
                eprintln!("  failed: {error}");
                sheet.fail("start and warm-up", error.as_ref());
            }
        }
    }
    let about = about(options)?;
    println!("{}", headline(&about));
    print!("{}", figures.markdown(&variants));
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&figures.json(&variants, about))?;
        std::fs::write(path, json + "\n")?;
    }
    Ok(if figures.failures().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn scenarios(options: &Options) -> Result<Vec<Scenario>, Failure> {
    let mut wanted = scenario::all(options.quick);
    wanted.retain(|scenario| options.wants(&scenario.name()));
    if wanted.is_empty() && !options.wants(START_NAME) {
        return Err("nothing has that in its name; see --list".into());
    }
    Ok(wanted)
}

/// Another one begins each repetition, so that what changes with time hits all alike.
fn in_turn(variants: &[Variant], repetition: u32) -> Vec<Variant> {
    let mut order = variants.to_vec();
    if let Some(first) = usize::try_from(repetition - 1).unwrap_or(0).checked_rem(order.len()) {
        order.rotate_left(first);
    }
    order
}

fn measure(
    options: &Options,
    scenarios: &[Scenario],
    variant: Variant,
    sheet: &mut Sheet<'_>,
) -> Result<(), Failure> {
    let load_averages = process::load_averages();
    eprintln!("repetition {}, {}, load {load_averages}", sheet.repetition, variant.name);
    let scratch = scratch(options)?;
    let programs =
        Programs { sawlog: options.sawlog.clone(), kafka_jars: options.kafka_jars.clone() };
    let (mut broker, address, process) = if let Some(address) = &options.address {
        (None, address.clone(), options.pid.map(Process))
    } else {
        let broker = start(options, &programs, variant, scratch.path(), sheet)?;
        let (address, process) = (broker.address.clone(), broker.process());
        (Some(broker), address, Some(process))
    };
    let mut subject = Subject {
        variant,
        address,
        process,
        kafka_jars: options.kafka_jars.clone(),
        scratch: scratch.path().to_owned(),
        prefix: format!("compare-{}-", SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs()),
        topics: Vec::new(),
    };
    if !scenarios.is_empty() {
        eprintln!("  warm-up");
        scenario::warm_up(&mut subject)?;
    }
    let before = Costs::now(&subject)?;
    for scenario in scenarios {
        eprintln!("  {}", scenario.name());
        if let Err(error) = scenario.run(&mut subject, sheet) {
            eprintln!("  failed: {error}");
            sheet.fail(&scenario.name(), error.as_ref());
        }
        if let Some(broker) = &mut broker {
            broker.check_runs()?;
        }
    }
    let (other_percent, stolen_percent) = before.others(&Costs::now(&subject)?);
    let Sheet { variant, repetition, .. } = *sheet;
    sheet.noise(Noise { variant, repetition, load_averages, other_percent, stolen_percent });
    if let Some(process) = subject.process.filter(|_| !scenarios.is_empty()) {
        let memory = process.memory()?;
        sheet.add(start_row("memory peak, mapped files included", "MiB"), memory.peak);
        sheet.add(start_row("memory after the loads, without files", "MiB"), memory.anonymous);
    }
    if options.address.is_some() {
        load::delete_topics(&subject.address, &subject.topics)?;
    }
    Ok(())
}

fn scratch(options: &Options) -> Result<tempfile::TempDir, Failure> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("sawlog-compare-");
    Ok(options.data.as_deref().map_or_else(|| builder.tempdir(), |dir| builder.tempdir_in(dir))?)
}

/// Starts the broker twice: once to make a topic in its data directory and to stop cleanly, and then
/// the start that is measured, on that data.
fn start(
    options: &Options,
    programs: &Programs,
    variant: Variant,
    home: &Path,
    sheet: &mut Sheet<'_>,
) -> Result<Broker, Failure> {
    let topic = "start";
    let mut broker = Broker::spawn(variant.kind, programs, home)?;
    drop(await_accept(&mut broker)?);
    let settings: Vec<_> =
        variant.flush_mode.map(|mode| ("flush.mode", mode)).into_iter().collect();
    load::create_topic(&broker.address, topic, 1, &settings)?;
    await_first_ack(&mut broker, topic)?;
    broker.stop()?;

    let mut broker = Broker::spawn(variant.kind, programs, home)?;
    let started = await_first_ack(&mut broker, topic)?;
    if options.wants(START_NAME) {
        let spawn_to = |what: &str, time| (format!("process start to first {what}"), millis(time));
        for (name, value) in [
            spawn_to("connection", started.accepted_after),
            spawn_to("confirmed record", started.acked_after),
        ] {
            sheet.add(start_row(&name, "ms"), value);
        }
        std::thread::sleep(IDLE);
        let memory = broker.process().memory()?;
        sheet.add(start_row("memory idle", "MiB"), memory.resident);
        sheet.add(start_row("memory idle, without files", "MiB"), memory.anonymous);
    }
    Ok(broker)
}

fn start_row<'a>(name: &'a str, unit: &'static str) -> Row<'a> {
    Row { section: START, name, unit, better: Better::Less }
}

/// Processor time used so far, by whom.
#[derive(Debug)]
struct Costs {
    machine: Machine,
    ours: f64,
}

impl Costs {
    fn now(subject: &Subject) -> Result<Self, Failure> {
        let this = Process::this();
        let broker = subject.process.map_or(Ok(0.0), Process::cpu_seconds)?;
        let ours = broker + this.cpu_seconds()? + this.children_cpu_seconds()?;
        Ok(Self { machine: Machine::now()?, ours })
    }

    /// Percent of all cores used since by others, and taken by the host.
    fn others(&self, later: &Self) -> (f64, f64) {
        let total = (later.machine.total - self.machine.total).max(0.01);
        let busy = later.machine.busy - self.machine.busy;
        let others = (busy - (later.ours - self.ours)).max(0.0);
        let stolen = later.machine.stolen - self.machine.stolen;
        (100.0 * others / total, 100.0 * stolen / total)
    }
}

/// What the figures were taken with.
fn about(options: &Options) -> Result<serde_json::Value, Failure> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let kafka = kafka_version(&options.kafka_jars);
    Ok(json!({
        "date": jiff::Timestamp::from_second(i64::try_from(seconds)?)?.to_string(),
        "machine": process::machine_name(),
        "kafka": kafka,
        "librdkafka": rdkafka::util::get_rdkafka_version().1,
        "size": if options.quick { "quick" } else { "full" },
        "repetitions": options.repetitions(),
    }))
}

fn headline(about: &serde_json::Value) -> String {
    let text = |key: &str| about[key].as_str().unwrap_or("unknown").to_owned();
    format!(
        "{}, {}. Apache Kafka {}, librdkafka {}. {} size, {} repetitions: median (least–most).",
        text("date"),
        text("machine"),
        text("kafka"),
        text("librdkafka"),
        text("size"),
        about["repetitions"]
    )
}

/// From the names of its jars.
fn kafka_version(jars: &Path) -> Option<String> {
    let names = std::fs::read_dir(jars)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let version =
        |name: String| Some(name.strip_prefix("kafka-server-")?.strip_suffix(".jar")?.to_owned());
    names.filter_map(version).find(|version| version.starts_with(|c: char| c.is_ascii_digit()))
}

/// How long a broker is left alone before its idle memory is read.
const IDLE: Duration = Duration::from_secs(2);
