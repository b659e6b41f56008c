//! What copies cost: records a second, latency, and processor time of all brokers together, with three
//! copies, with one, and with three brokers of Apache Kafka.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::json;

use crate::Failure;
use crate::figures::{Better, Figures, Noise, Row, Sheet};
use crate::load::{self, FixedRate, FlatOut, Written};
use crate::nodes::Programs;
use crate::process::{self, Machine, Process};
use crate::stage::Stage;
use crate::variant::{Kind, Variant};
use std::process::ExitCode;

#[derive(Clone, Debug, Args)]
pub(crate) struct CostOptions {
    /// How often everything is measured; the figures are medians
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=25))]
    repetitions: u32,
    /// Parts of a full load, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
    size: u64,
    /// Only what has this text in its name: synced, one copy, os, Kafka
    #[arg(long, value_name = "TEXT", value_delimiter = ';')]
    variants: Vec<String>,
    /// Only loads that have this text in their name: 1 KiB, 100 B, rate
    #[arg(long, value_name = "TEXT", value_delimiter = ';')]
    loads: Vec<String>,
    /// Waits so many seconds before each load, told by its process ids: for profilers
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pause: u64,
}

/// How a topic is kept.
#[derive(Clone, Copy, Debug)]
struct Setup {
    variant: Variant,
    copies: i32,
    settings: &'static [(&'static str, &'static str)],
}

const fn setup(
    name: &'static str,
    kind: Kind,
    copies: i32,
    settings: &'static [(&'static str, &'static str)],
) -> Setup {
    Setup { variant: Variant { name, kind, flush_mode: None }, copies, settings }
}

/// The first of Kafka is what the others are divided by.
const SETUPS: [Setup; 5] = [
    setup("Sawlog, 3 copies, synced", Kind::Sawlog, 3, &[("min.insync.replicas", "2")]),
    setup("Sawlog, one copy, synced", Kind::Sawlog, 1, &[]),
    setup(
        "Sawlog, 3 copies, os",
        Kind::Sawlog,
        3,
        &[("min.insync.replicas", "2"), ("flush.mode", "os")],
    ),
    setup("Kafka, 3 copies", Kind::Kafka, 3, &[("min.insync.replicas", "2")]),
    setup(
        "Kafka, 3 copies, flush.messages=1",
        Kind::Kafka,
        3,
        &[("min.insync.replicas", "2"), ("flush.messages", "1")],
    ),
];

const PARTITIONS: i32 = 6;

/// One load.
#[derive(Clone, Copy, Debug)]
enum Load {
    FlatOut { records: u64, bytes: usize },
    FixedRate { rate: u64, seconds: u64 },
}

const LOADS: [Load; 4] = [
    Load::FlatOut { records: 400_000, bytes: 1024 },
    Load::FlatOut { records: 2_000_000, bytes: 100 },
    Load::FixedRate { rate: 1_000, seconds: 8 },
    Load::FixedRate { rate: 5_000, seconds: 8 },
];

impl Load {
    fn name(self) -> String {
        match self {
            Self::FlatOut { bytes: 1024, .. } => "produce flat out, 1 KiB".to_owned(),
            Self::FlatOut { bytes, .. } => format!("produce flat out, {bytes} B"),
            Self::FixedRate { rate, .. } => format!("fixed rate, {rate}/s of 1 KiB"),
        }
    }
}

/// Measures and tells.
pub(crate) fn run(
    options: &CostOptions,
    programs: &Programs,
    home: &Path,
    json: Option<&Path>,
) -> Result<ExitCode, Failure> {
    let wanted = |texts: &[String], name: &str| {
        texts.is_empty() || texts.iter().any(|text| name.contains(text.as_str()))
    };
    let setups = SETUPS.into_iter().filter(|one| wanted(&options.variants, one.variant.name));
    let setups: Vec<Setup> = setups.collect();
    let loads = LOADS.into_iter().filter(|load| wanted(&options.loads, &load.name()));
    let loads: Vec<Load> = loads.collect();
    let mut figures = Figures::default();
    for repetition in 1..=options.repetitions {
        let mut kinds = [Kind::Sawlog, Kind::Kafka];
        if repetition % 2 == 0 {
            kinds.reverse();
        }
        for kind in kinds {
            let of_kind: Vec<Setup> =
                setups.iter().copied().filter(|one| one.variant.kind == kind).collect();
            let Some(first) = of_kind.first() else { continue };
            let mut sheet =
                Sheet { figures: &mut figures, variant: first.variant.name, repetition };
            let home = home.join(format!("{repetition}-{kind:?}"));
            let measured = measure(options, programs, &home, (&of_kind, &loads), &mut sheet);
            if let Err(error) = measured {
                eprintln!("  failed: {error}");
                sheet.fail("cluster", error.as_ref());
            }
            // Its data is in the way of nobody.
            let _gone = std::fs::remove_dir_all(&home);
        }
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let date = jiff::Timestamp::from_second(i64::try_from(seconds)?)?.to_string();
    let variants: Vec<Variant> = setups.iter().map(|one| one.variant).collect();
    println!("{date}, {}; {} repetitions", process::machine_name(), options.repetitions);
    print!("{}", figures.markdown(&variants));
    if let Some(path) = json {
        let about = json!({ "date": date, "machine": process::machine_name() });
        let text = serde_json::to_string_pretty(&figures.json(&variants, about))?;
        std::fs::write(path, text + "\n")?;
    }
    Ok(if figures.failures().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(
    options: &CostOptions,
    programs: &Programs,
    home: &Path,
    (setups, loads): (&[Setup], &[Load]),
    sheet: &mut Sheet<'_>,
) -> Result<(), Failure> {
    let Some(kind) = setups.first().map(|one| one.variant.kind) else { return Ok(()) };
    eprintln!("repetition {}, three brokers of {kind:?}", sheet.repetition);
    let load_averages = process::load_averages();
    let mut stage = Stage::set(kind, programs, home)?;
    warm_up(&mut stage)?;
    let (machine, ours) = (Machine::now()?, used(&stage)?);
    for setup in setups {
        sheet.variant = setup.variant.name;
        for (number, load) in loads.iter().enumerate() {
            eprintln!("  {}: {}", setup.variant.name, load.name());
            if options.pause > 0 {
                let ids: Vec<String> =
                    stage.nodes.processes().iter().map(|one| one.0.to_string()).collect();
                eprintln!("    processes {}", ids.join(","));
                std::thread::sleep(std::time::Duration::from_secs(options.pause));
            }
            let topic = format!("cost-{}-{number}", topic_name(setup.variant.name));
            let done = match *load {
                Load::FlatOut { records, bytes } => {
                    let records = records * options.size / 100;
                    let partitions = PARTITIONS;
                    let what = FlatOut { records, bytes, partitions, acks: "all" };
                    flat_out(&stage, setup, &topic, what, sheet)
                }
                Load::FixedRate { rate, seconds } => {
                    let records = rate * seconds * options.size / 100;
                    let what = FixedRate { rate, bytes: 1024, warm_up: rate, records };
                    fixed_rate(&stage, setup, &topic, what, sheet)
                }
            };
            if let Err(error) = done {
                eprintln!("  failed: {error}");
                sheet.fail(&load.name(), error.as_ref());
            }
        }
    }
    let (later, ours) = (Machine::now()?, used(&stage)? - ours);
    let total = (later.total - machine.total).max(0.01);
    let others = (later.busy - machine.busy - ours).max(0.0);
    sheet.noise(Noise {
        variant: setups[0].variant.name,
        repetition: sheet.repetition,
        load_averages,
        other_percent: 100.0 * others / total,
        stolen_percent: 100.0 * (later.stolen - machine.stolen) / total,
    });
    Ok(())
}

/// Of brokers and clients.
fn used(stage: &Stage) -> Result<f64, Failure> {
    let this = Process::this();
    Ok(stage.nodes.cpu_seconds()? + this.cpu_seconds()?)
}

/// As in the comparison of single brokers, for the JVMs: large batches first, read once, then requests
/// of one record.
fn warm_up(stage: &mut Stage) -> Result<(), Failure> {
    let address = stage.nodes.bootstrap();
    for (bytes, records) in [(1024, 800_000), (100, 2_000_000)] {
        let topic = format!("warm-up-{bytes}");
        stage.create(&topic, PARTITIONS, 3)?;
        let what = FlatOut { records, bytes, partitions: PARTITIONS, acks: "all" };
        load::produce(&address, &topic, what)?;
        load::consume(&address, &topic, Written { partitions: PARTITIONS, records, bytes })?;
        load::delete_topics(&address, &[topic])?;
    }
    stage.create("warm-up-single", 1, 3)?;
    let what = FixedRate { rate: 2_000, bytes: 1024, warm_up: 0, records: 20_000 };
    load::latency(&address, "warm-up-single", what)?;
    load::delete_topics(&address, &["warm-up-single".to_owned()])
}

fn topic_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

/// Runs a load on a settled cluster; returns what it gives, and the processor time of all brokers,
/// with the background work that follows.
fn counted<T>(
    stage: &Stage,
    load: impl FnOnce() -> Result<T, Failure>,
) -> Result<(T, f64), Failure> {
    rustix::fs::sync();
    let settle = || stage.nodes.processes().into_iter().try_for_each(Process::settle);
    settle()?;
    let before = stage.nodes.cpu_seconds()?;
    let result = load()?;
    settle()?;
    Ok((result, stage.nodes.cpu_seconds()? - before))
}

fn flat_out(
    stage: &Stage,
    setup: &Setup,
    topic: &str,
    what: FlatOut,
    sheet: &mut Sheet<'_>,
) -> Result<(), Failure> {
    let address = stage.nodes.bootstrap();
    load::create_copied_topic(&address, topic, (what.partitions, setup.copies), setup.settings)?;
    let (produced, cpu) = counted(stage, || load::produce(&address, topic, what))?;
    let label = if what.bytes == 1024 { "1 KiB".to_owned() } else { format!("{} B", what.bytes) };
    let rate = what.records as f64 / produced.elapsed.as_secs_f64();
    let row = |name: &str, unit, better, value, sheet: &mut Sheet<'_>| {
        let name = format!("{label}: {name}");
        sheet.add(Row { section: FLAT_OUT, name: &name, unit, better }, value);
    };
    row("records", "a second", Better::More, rate, sheet);
    let per_million = cpu * 1e6 / what.records as f64;
    row("CPU of all brokers", "s per million", Better::Less, per_million, sheet);
    row("records", "a broker CPU second", Better::More, 1e6 / per_million, sheet);
    for (name, share) in [("ack p50", 0.5), ("ack p99", 0.99)] {
        // Far below what a float holds exactly.
        let micros = produced.acks.value_at_quantile(share) as f64;
        row(name, "ms", Better::Less, micros / 1e3, sheet);
    }
    load::delete_topics(&address, &[topic.to_owned()])
}

fn fixed_rate(
    stage: &Stage,
    setup: &Setup,
    topic: &str,
    what: FixedRate,
    sheet: &mut Sheet<'_>,
) -> Result<(), Failure> {
    let address = stage.nodes.bootstrap();
    load::create_copied_topic(&address, topic, (1, setup.copies), setup.settings)?;
    let (latencies, cpu) = counted(stage, || load::latency(&address, topic, what))?;
    let label = format!("{}/s", what.rate);
    let mut row = |name: &str, unit, value| {
        let name = format!("{label}: {name}");
        sheet.add(Row { section: FIXED_RATE, name: &name, unit, better: Better::Less }, value);
    };
    for (kind, times) in [("ack", &latencies.ack), ("end to end", &latencies.end_to_end)] {
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            row(&format!("{kind} {name}"), "ms", times.value_at_quantile(share) as f64 / 1e3);
        }
    }
    let records = (what.records + what.warm_up) as f64;
    row("CPU of all brokers", "s per million", cpu * 1e6 / records);
    load::delete_topics(&address, &[topic.to_owned()])
}

const FLAT_OUT: &str = "Produce flat out, librdkafka, acks=all, 6 partitions";
const FIXED_RATE: &str = "Latency at a fixed rate, 1 KiB, acks=all, 1 partition, linger 0";
