//! `sawlog-clients`: our client and librdkafka on the same broker, one after the other, repeated. How
//! to run it: `benches/README.md`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints")]

#[path = "../compare/bare.rs"]
#[allow(dead_code, reason = "shared with the other comparison, which uses all of it")]
mod bare;
#[path = "../compare/broker.rs"]
#[allow(dead_code, reason = "shared with the other comparison, which uses all of it")]
mod broker;
#[path = "../compare/first_ack.rs"]
#[allow(dead_code, reason = "shared with the other comparison, which uses all of it")]
mod first_ack;
#[path = "../compare/load/mod.rs"]
#[allow(dead_code, reason = "shared with the other comparison, which uses all of it")]
mod load;
mod ours;
#[path = "../compare/process.rs"]
#[allow(dead_code, reason = "shared with the other comparison, which uses all of it")]
mod process;
#[path = "../compare/variant.rs"]
#[allow(dead_code, reason = "shared with the other comparison, which uses all of it")]
mod variant;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use broker::{Broker, Programs};
use first_ack::await_accept;
use load::{FixedRate, FlatOut, Latencies, Written};
use process::Process;
use variant::Kind;

type Failure = Box<dyn std::error::Error>;

/// Our client and librdkafka on the same broker.
#[derive(Clone, Debug, Parser)]
#[command(name = "sawlog-clients")]
struct Options {
    /// A broker that runs already, instead of one of our own
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// The sawlog program
    #[arg(long, value_name = "FILE", default_value = "target/release/sawlog")]
    sawlog: PathBuf,
    /// How often everything is measured; the figures are medians
    #[arg(long, value_name = "N", default_value_t = 3)]
    repetitions: u32,
    /// A quarter of the records
    #[arg(long)]
    quick: bool,
    /// Only this client
    #[arg(long, value_enum)]
    client: Option<Client>,
    /// Only what has this text in its name
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Client {
    Ours,
    Librdkafka,
}

const CLIENTS: [(Client, &str); 2] =
    [(Client::Ours, "sawlog-client"), (Client::Librdkafka, "librdkafka")];

#[derive(Clone, Copy, Debug)]
enum Scenario {
    FlatOut(FlatOut),
    Latency(FixedRate),
}

/// One measured value of one client.
#[derive(Debug)]
struct Value {
    row: String,
    client: Client,
    value: f64,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sawlog-clients: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let home = tempfile::TempDir::new()?;
    let (broker, address) = match &options.address {
        Some(address) => (None, address.clone()),
        None => {
            let programs = Programs { sawlog: options.sawlog.clone(), kafka_jars: PathBuf::new() };
            let mut broker = Broker::spawn(Kind::Sawlog, &programs, home.path())?;
            let address = broker.address.clone();
            await_accept(&mut broker)?;
            (Some(broker), address)
        }
    };
    let mut values = Vec::new();
    for repetition in 0..options.repetitions {
        for (number, scenario) in scenarios(options.quick).into_iter().enumerate() {
            let mut clients = CLIENTS;
            // Each goes first in turn: what one leaves behind hits the other alike.
            if repetition % 2 == 1 {
                clients.reverse();
            }
            for (client, name) in clients {
                let is_wanted = options.client.is_none_or(|only| only == client);
                if !is_wanted || !title(scenario).contains(&options.only) {
                    continue;
                }
                let topic = format!("clients-{repetition}-{number}-{name}");
                eprintln!("repetition {repetition}, {name}, {}", title(scenario));
                measure(&address, &topic, client, scenario, &mut values)?;
                load::delete_topics(&address, &[topic])?;
                if let Some(broker) = &broker {
                    broker.process().settle()?;
                }
            }
        }
    }
    print_table(&values);
    Ok(())
}

fn scenarios(quick: bool) -> Vec<Scenario> {
    let parts = if quick { 4 } else { 1 };
    let mut all = Vec::new();
    for (bytes, records) in [(100, 4_000_000), (1024, 1_000_000)] {
        let records = records / parts;
        all.push(Scenario::FlatOut(FlatOut { records, bytes, partitions: 1, acks: "all" }));
        all.push(Scenario::FlatOut(FlatOut { records, bytes, partitions: 6, acks: "all" }));
    }
    let rate = 10_000;
    let records = rate * 15 / parts;
    all.push(Scenario::Latency(FixedRate { rate, bytes: 1024, warm_up: rate, records }));
    all
}

fn title(scenario: Scenario) -> String {
    match scenario {
        Scenario::FlatOut(FlatOut { bytes, partitions, .. }) => {
            format!("{bytes} B, {partitions} partition(s)")
        }
        Scenario::Latency(what) => format!("{} records/s of {} B", what.rate, what.bytes),
    }
}

fn measure(
    address: &str,
    topic: &str,
    client: Client,
    scenario: Scenario,
    values: &mut Vec<Value>,
) -> Result<(), Failure> {
    let title = title(scenario);
    let mut note = |row: &str, value: f64| {
        values.push(Value { row: format!("{title}: {row}"), client, value });
    };
    match scenario {
        Scenario::FlatOut(what) => {
            load::create_topic(address, topic, what.partitions, &[])?;
            let millions = millions(what.records);
            let before = Process::this().cpu_seconds()?;
            let elapsed = match client {
                Client::Ours => ours::produce(address, topic, what)?,
                Client::Librdkafka => load::produce(address, topic, what)?.elapsed,
            };
            note("produced, thousand records/s", rate(millions, elapsed));
            note("produce CPU, s/million", (Process::this().cpu_seconds()? - before) / millions);
            let written =
                Written { partitions: what.partitions, records: what.records, bytes: what.bytes };
            let before = Process::this().cpu_seconds()?;
            let elapsed = match client {
                Client::Ours => ours::consume(address, topic, written)?,
                Client::Librdkafka => load::consume(address, topic, written)?,
            };
            note("consumed, thousand records/s", rate(millions, elapsed));
            note("consume CPU, s/million", (Process::this().cpu_seconds()? - before) / millions);
        }
        Scenario::Latency(what) => {
            load::create_topic(address, topic, 1, &[])?;
            let before = Process::this().cpu_seconds()?;
            let Latencies { ack, end_to_end } = match client {
                Client::Ours => ours::latency(address, topic, what)?,
                Client::Librdkafka => load::latency(address, topic, what)?,
            };
            let millions = millions(what.records + what.warm_up);
            note("client CPU, s/million", (Process::this().cpu_seconds()? - before) / millions);
            for (name, times) in [("acknowledged", ack), ("end to end", end_to_end)] {
                for (percentile, quantile) in [("p50", 0.5), ("p99", 0.99)] {
                    let micros = u32::try_from(times.value_at_quantile(quantile))?;
                    note(&format!("{name} {percentile}, µs"), f64::from(micros));
                }
            }
        }
    }
    Ok(())
}

fn millions(records: u64) -> f64 {
    f64::from(u32::try_from(records).unwrap_or(u32::MAX)) / 1e6
}

fn rate(millions: f64, elapsed: Duration) -> f64 {
    millions * 1e3 / elapsed.as_secs_f64()
}

fn print_table(values: &[Value]) {
    println!("| median of all repetitions | {} | {} |", CLIENTS[0].1, CLIENTS[1].1);
    println!("|---|---:|---:|");
    let mut rows: Vec<&str> = Vec::new();
    for value in values {
        if !rows.contains(&value.row.as_str()) {
            rows.push(&value.row);
        }
    }
    for row in rows {
        let cells = CLIENTS.map(|(client, _)| {
            let of = values.iter().filter(|value| value.row == row && value.client == client);
            let mut of: Vec<f64> = of.map(|value| value.value).collect();
            of.sort_by(f64::total_cmp);
            of.get(of.len() / 2).map_or_else(|| "–".to_owned(), |median| format!("{median:.3}"))
        });
        println!("| {row} | {} | {} |", cells[0], cells[1]);
    }
}
