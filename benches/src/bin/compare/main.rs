//! `sawlog-compare`: Sawlog and Apache Kafka on the same machine, with the same client, one after the
//! other, repeated. See `benches/README.md`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints")]

mod broker;
mod load;

use std::path::PathBuf;
use std::time::Duration;

use broker::{Broker, Kind, Programs};
use load::Write;

type Failure = Box<dyn std::error::Error>;

/// One way to run a broker.
#[derive(Clone, Copy, Debug)]
struct Variant {
    name: &'static str,
    kind: Kind,
    settings: &'static [(&'static str, &'static str)],
}

const VARIANTS: [Variant; 3] = [
    Variant { name: "Sawlog, fsync", kind: Kind::Sawlog, settings: &[("flush.mode", "group")] },
    Variant {
        name: "Sawlog, flush.mode=os",
        kind: Kind::Sawlog,
        settings: &[("flush.mode", "os")],
    },
    Variant { name: "Apache Kafka", kind: Kind::Kafka, settings: &[] },
];

/// A figure: name, unit, whether more is better, and the repetitions of each variant.
#[derive(Debug)]
struct Figure {
    name: String,
    values: Vec<Vec<f64>>,
}

#[derive(Debug, Default)]
struct Figures(Vec<Figure>);

impl Figures {
    fn add(&mut self, name: &str, variant: usize, value: f64) {
        let at = self.0.iter().position(|figure| figure.name == name).unwrap_or_else(|| {
            let values = vec![Vec::new(); VARIANTS.len()];
            self.0.push(Figure { name: name.to_owned(), values });
            self.0.len() - 1
        });
        if let Some(values) = self.0.get_mut(at).and_then(|figure| figure.values.get_mut(variant)) {
            values.push(value);
        }
    }

    fn print(&self) {
        let names: Vec<&str> = VARIANTS.iter().map(|variant| variant.name).collect();
        println!("| | {} |", names.join(" | "));
        println!("|---|{}", "---:|".repeat(names.len()));
        for figure in &self.0 {
            let reference = figure.values.last().and_then(|values| median(values));
            let cells: Vec<String> = figure
                .values
                .iter()
                .map(|values| match (median(values), reference) {
                    (Some(value), Some(reference)) if reference > 0.0 => {
                        format!("{} ({:.2}x)", short(value), value / reference)
                    }
                    (Some(value), _) => short(value),
                    (None, _) => "-".to_owned(),
                })
                .collect();
            println!("| {} | {} |", figure.name, cells.join(" | "));
        }
    }

    fn json(&self) -> String {
        let figures = self.0.iter().map(|figure| {
            let values = figure
                .values
                .iter()
                .zip(VARIANTS)
                .map(|(values, variant)| format!("{:?}:{values:?}", variant.name));
            format!("{:?}:{{{}}}", figure.name, values.collect::<Vec<_>>().join(","))
        });
        format!("{{{}}}\n", figures.collect::<Vec<_>>().join(",\n"))
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 10_000.0 => format!("{:.0}k", value / 1000.0),
        middle if middle >= 100.0 => format!("{value:.0}"),
        small if small >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// What to run.
struct Plan {
    programs: Programs,
    repetitions: usize,
    quick: bool,
    only: Option<String>,
    variants: Vec<usize>,
    json: Option<PathBuf>,
}

fn main() -> Result<(), Failure> {
    let plan = plan()?;
    let mut figures = Figures::default();
    for repetition in 0..plan.repetitions {
        for variant in &plan.variants {
            let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
            let name = VARIANTS.get(*variant).map_or("", |variant| variant.name);
            eprintln!("repetition {}, {name}, load {}", repetition + 1, load.trim());
            run(&plan, *variant, &mut figures)?;
        }
    }
    figures.print();
    if let Some(path) = &plan.json {
        std::fs::write(path, figures.json())?;
    }
    Ok(())
}

fn plan() -> Result<Plan, Failure> {
    let mut plan = Plan {
        programs: Programs {
            sawlog: "target/release/sawlog".into(),
            kafka_jars: "target/compat/kafka".into(),
        },
        repetitions: 3,
        quick: false,
        only: None,
        variants: (0..VARIANTS.len()).collect(),
        json: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--quick" => plan.quick = true,
            "--repetitions" => plan.repetitions = value()?.parse()?,
            "--only" => plan.only = Some(value()?),
            "--json" => plan.json = Some(value()?.into()),
            "--sawlog" => plan.programs.sawlog = value()?.into(),
            "--kafka-jars" => plan.programs.kafka_jars = value()?.into(),
            "--broker" => {
                let wanted = value()?.to_lowercase();
                plan.variants.retain(|at| {
                    VARIANTS.get(*at).is_some_and(|v| v.name.to_lowercase().contains(&wanted))
                });
            }
            other => {
                return Err(format!(
                    "unknown option {other}: expected --quick, --repetitions N, --only TEXT, \
                     --broker TEXT, --json FILE, --sawlog FILE, --kafka-jars DIR"
                )
                .into());
            }
        }
    }
    Ok(plan)
}

fn run(plan: &Plan, at: usize, figures: &mut Figures) -> Result<(), Failure> {
    let Some(variant) = VARIANTS.get(at) else { return Ok(()) };
    let scratch = tempfile::tempdir()?;
    let data = scratch.path().join("data");
    let mut broker = variant.kind.start(&plan.programs, &data)?;
    let wanted = |name: &str| plan.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    if wanted("start") {
        load::create_topic(&broker.address, "start", 1, variant.settings)?;
        load::first_ack(&broker.address, "start")?;
        drop(broker);
        // Again on its own data: what a restart takes.
        broker = variant.kind.start(&plan.programs, &data)?;
        let to_ack = broker.ready_after + load::first_ack(&broker.address, "start")?;
        figures.add("start to accepting, ms", at, broker.ready_after.as_secs_f64() * 1e3);
        figures.add("start to first ack (client included), ms", at, to_ack.as_secs_f64() * 1e3);
        figures.add("memory idle, MiB", at, broker.memory_mib("VmRSS:")?);
    }
    warm_up(&broker, variant)?;
    let scale = if plan.quick { 4 } else { 1 };
    for bytes in [100usize, 1024] {
        for acks in ["all", "1"] {
            for partitions in [1, 6] {
                let name = format!("{bytes} B, acks={acks}, {partitions} partitions");
                if wanted(&format!("throughput {name}")) {
                    let records = if bytes == 100 { 4_000_000 } else { 1_000_000 } / scale;
                    let what = Write { records, bytes, partitions, acks };
                    throughput(&broker, variant, at, &name, what, figures)?;
                }
            }
        }
    }
    for rate in [1_000, 10_000] {
        let name = format!("latency at {rate}/s");
        if wanted(&name) {
            let topic = format!("latency-{rate}");
            load::create_topic(&broker.address, &topic, 1, variant.settings)?;
            let seconds = if plan.quick { 4 } else { 10 };
            let latencies = load::latency(&broker.address, &topic, rate, seconds)?;
            for (what, times) in [("ack", &latencies.ack), ("end to end", &latencies.end_to_end)] {
                for (label, percentile) in [("p50", 50.0), ("p99", 99.0), ("p99.9", 99.9)] {
                    let micros = f64::from(u32::try_from(times.value_at_percentile(percentile))?);
                    figures.add(&format!("{name}, {what}, {label}, us"), at, micros);
                }
            }
        }
    }
    if wanted("memory") {
        figures.add("memory peak, MiB", at, broker.memory_mib("VmHWM:")?);
    }
    Ok(())
}

/// The JVM compiles what is hot: both brokers get the same warm-up.
fn warm_up(broker: &Broker, variant: &Variant) -> Result<(), Failure> {
    load::create_topic(&broker.address, "warm-up", 6, variant.settings)?;
    let what = Write { records: 500_000, bytes: 512, partitions: 6, acks: "all" };
    load::write(&broker.address, "warm-up", what)?;
    load::read(&broker.address, "warm-up", 6, what.records)?;
    Ok(())
}

fn throughput(
    broker: &Broker,
    variant: &Variant,
    at: usize,
    name: &str,
    what: Write,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let topic = format!("t-{}-{}-{}", what.bytes, what.acks, what.partitions);
    load::create_topic(&broker.address, &topic, what.partitions, variant.settings)?;
    settle();
    prime_page_cache(what.records * u64::try_from(what.bytes)?)?;
    #[expect(clippy::cast_precision_loss, reason = "a few million")]
    let records = what.records as f64;
    let before = broker.cpu_seconds()?;
    let took = load::write(&broker.address, &topic, what)?;
    settle();
    let cpu = broker.cpu_seconds()? - before;
    figures.add(&format!("produce {name}, records/s"), at, records / took.as_secs_f64());
    figures.add(&format!("produce {name}, broker CPU s per million"), at, cpu * 1e6 / records);
    if what.acks == "all" {
        let before = broker.cpu_seconds()?;
        let took = load::read(&broker.address, &topic, what.partitions, what.records)?;
        settle();
        let cpu = broker.cpu_seconds()? - before;
        let name = format!("{} B, {} partitions", what.bytes, what.partitions);
        figures.add(&format!("consume {name}, records/s"), at, records / took.as_secs_f64());
        figures.add(&format!("consume {name}, broker CPU s per million"), at, cpu * 1e6 / records);
    }
    Ok(())
}

/// On a virtual machine the first touch of a page the host has taken back costs more than all a
/// broker does with it. Writing and removing as much as the load will write leaves pages that are
/// backed, for whichever broker comes next.
fn prime_page_cache(bytes: u64) -> Result<(), Failure> {
    let mut file = tempfile::tempfile()?;
    let chunk = vec![1; 1 << 20];
    for _ in 0..(bytes + bytes / 2) >> 20 {
        std::io::Write::write_all(&mut file, &chunk)?;
    }
    Ok(())
}

/// Lets background work of the last load end before the next is measured.
fn settle() {
    std::thread::sleep(Duration::from_millis(1200));
}
