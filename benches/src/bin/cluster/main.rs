//! `sawlog-cluster`: three brokers on this machine, killed, stopped, restarted and refilled while
//! clients write, and what copies cost beside Apache Kafka. How to run it and how to read it:
//! `benches/README.md`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints")]

mod cost;
#[path = "../compare/figures.rs"]
mod figures;
#[path = "../compare/load/mod.rs"]
#[allow(dead_code, reason = "shared with the comparison of single brokers, which uses all of it")]
mod load;
mod nodes;
mod outages;
#[path = "../compare/process.rs"]
#[allow(dead_code, reason = "shared with the comparison of single brokers, which uses all of it")]
mod process;
mod refill;
mod report;
mod stage;
#[path = "../compare/variant.rs"]
#[allow(dead_code, reason = "shared with the comparison of single brokers, which uses all of it")]
mod variant;
mod writers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use serde_json::json;

use nodes::Programs;
use outages::Fault;
use report::Report;
use stage::Stage;
use variant::Kind;

type Failure = Box<dyn std::error::Error>;

/// Three brokers on this machine under faults, and what copies cost.
#[derive(Clone, Debug, Parser)]
#[command(name = "sawlog-cluster")]
struct Options {
    /// The sawlog program
    #[arg(long, global = true, value_name = "FILE", default_value = "target/release/sawlog")]
    sawlog: PathBuf,
    /// Directory of Apache Kafka's jars
    #[arg(long, global = true, value_name = "DIR", default_value = "target/compare/kafka")]
    kafka_jars: PathBuf,
    /// Where the brokers' data is, until the end of the run [default: the system's temporary directory]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Writes every single value, too, as JSON
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// How long clients cannot write when a broker goes
    Outages {
        /// How often each fault
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=200))]
        rounds: u32,
        /// Only these faults
        #[arg(long, value_name = "FAULT", value_delimiter = ',')]
        only: Vec<Which>,
        /// Three brokers of Apache Kafka instead
        #[arg(long)]
        kafka: bool,
    },
    /// How fast a follower with an empty disk catches up
    Refill {
        /// MiB of records
        #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=65536))]
        size: u64,
        /// How often
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
        rounds: u32,
    },
    /// What copies cost: three against one, and against Apache Kafka
    Cost(cost::CostOptions),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    Kill,
    KillController,
    Stop,
    Shutdown,
    Rolling,
}

impl Which {
    fn fault(self) -> Option<Fault> {
        match self {
            Self::Kill => Some(Fault::KillLeader),
            Self::KillController => Some(Fault::KillController),
            Self::Stop => Some(Fault::StopLeader),
            Self::Shutdown => Some(Fault::Terminate),
            Self::Rolling => None,
        }
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sawlog-cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<ExitCode, Failure> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("sawlog-cluster-");
    let home =
        options.data.as_deref().map_or_else(|| builder.tempdir(), |dir| builder.tempdir_in(dir))?;
    let programs =
        Programs { sawlog: options.sawlog.clone(), kafka_jars: options.kafka_jars.clone() };
    let load = process::load_averages();
    let mut report = Report::default();
    match &options.what {
        What::Outages { rounds, only, kafka } => {
            let kind = if *kafka { Kind::Kafka } else { Kind::Sawlog };
            let mut stage = Stage::set(kind, &programs, home.path())?;
            outages(&mut stage, *rounds, only, &mut report);
        }
        What::Refill { size, rounds } => {
            let mut stage = Stage::set(Kind::Sawlog, &programs, home.path())?;
            if let Err(error) = refill::refill(&mut stage, *size, *rounds, &mut report) {
                report.fail("empty follower", error.as_ref());
            }
        }
        What::Cost(cost) => {
            return cost::run(cost, &programs, home.path(), options.json.as_deref());
        }
    }
    println!("{}; load averages before: {load}\n", process::machine_name());
    print!("{}", report.markdown());
    if let Some(path) = &options.json {
        let about = json!({ "machine": process::machine_name(), "load_averages": load });
        let json = json!({ "about": about, "report": report.json() });
        std::fs::write(path, serde_json::to_string_pretty(&json)? + "\n")?;
    }
    Ok(if report.failures().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn outages(stage: &mut Stage, rounds: u32, only: &[Which], report: &mut Report) {
    let wanted = |which: Which| only.is_empty() || only.contains(&which);
    for which in Which::value_variants().iter().copied().filter(|which| wanted(*which)) {
        let (name, outcome) = match which.fault() {
            Some(fault) => (fault.name(), outages::faults(stage, fault, rounds, report)),
            None => {
                ("rolling restart", outages::rolling_restart(stage, rounds.div_ceil(3), report))
            }
        };
        if let Err(error) = outcome {
            eprintln!("  failed: {error}");
            report.fail(name, error.as_ref());
        }
    }
}
