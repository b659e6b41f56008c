//! `sawlog bench`: how fast a cluster takes and gives records, from this machine.
//!
//! With `--rate` each record has a time at which it is due, and its latency counts from then, sent
//! or not: a broker that stalls is not excused by a generator that waits for it (coordinated
//! omission). Without it records are sent as fast as the producer takes them, and latency counts
//! from the moment it is asked to. Every run ends by count or by time, and what it keeps in memory is
//! bounded by the producer's buffer.

mod consume;
mod keys;
mod latency;
mod produce;
mod topic;

use std::time::Duration;

use clap::{Args, Subcommand};
use sawlog_client::{Acks, Compression, ProducerOptions};
use serde_json::json;

use self::keys::KeysOption;
use self::latency::Latencies;
use crate::Global;
use crate::failure::Failure;
use crate::output::{Output, Rows};
use crate::position::{parse_bytes, parse_duration};
use crate::progress::per_second;

/// Measure a cluster from this machine.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Write records: throughput, and latency up to the confirmation
    Produce(Load),
    /// Read records: throughput. Without a topic, one is filled first
    Consume(Load),
    /// Write records and read them: latency from one end to the other. 1000 records/s unless --rate
    /// says otherwise
    E2e(Load),
}

/// What to send.
#[derive(Clone, Debug, Args)]
pub(crate) struct Load {
    /// An existing topic; one is made and deleted again if not given
    #[arg(add = clap_complete::engine::ArgValueCandidates::new(crate::complete::topics))]
    topic: Option<String>,
    /// Partitions of the topic that is made
    #[arg(short = 'p', long, default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// Bytes of a record's value
    #[arg(long, value_name = "BYTES", default_value = "1KiB", value_parser = parse_size)]
    size: usize,
    /// Keys: none, uniform:COUNT or zipf:EXPONENT[:COUNT]
    #[arg(long, value_name = "DISTRIBUTION", default_value = "none", value_parser = keys::parse)]
    keys: KeysOption,
    /// Records a second in all; as fast as possible if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: Option<u64>,
    /// End after this time
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// End after this many records, if that is before the time
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// What is confirmed: all, 1 or 0
    #[arg(long, default_value = "all", value_parser = parse_acks)]
    acks: Acks,
    /// Codec: none, gzip, snappy, lz4 or zstd
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none", value_parser = crate::produce::codec)]
    compression: Compression,
    /// Longest wait for a batch to fill; 5ms if not given, and none for e2e
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    linger: Option<Duration>,
    /// Comma-separated figures with a heading
    #[arg(long, conflicts_with = "form")]
    csv: bool,
    #[command(flatten)]
    output: Output,
}

fn parse_size(text: &str) -> Result<usize, String> {
    let bytes = parse_bytes(text)?;
    let size = usize::try_from(bytes).ok().filter(|size| (16..=8 * 1024 * 1024).contains(size));
    size.ok_or_else(|| format!("\"{text}\": a value has 16 bytes to 8 MiB here"))
}

fn parse_acks(text: &str) -> Result<Acks, String> {
    match text {
        "all" | "-1" => Ok(Acks::All),
        "1" => Ok(Acks::Leader),
        "0" => Ok(Acks::None),
        _ => Err("expected all, 1 or 0".to_owned()),
    }
}

impl Load {
    fn producer_options(&self) -> ProducerOptions {
        let defaults = ProducerOptions::default();
        ProducerOptions {
            acks: self.acks,
            idempotent: self.acks == Acks::All,
            compression: self.compression,
            linger: self.linger.unwrap_or(defaults.linger),
            ..defaults
        }
    }
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Figures {
    what: &'static str,
    records: u64,
    failed: u64,
    bytes: u64,
    elapsed: Duration,
    latencies: Option<Latencies>,
}

impl Figures {
    fn print(&self, load: &Load) -> Result<(), Failure> {
        let mut rows = Rows::new(&[
            "bench",
            "records",
            "failed",
            "seconds",
            "records per s",
            "MB per s",
            "p50 ms",
            "p90 ms",
            "p99 ms",
            "p99.9 ms",
            "max ms",
        ]);
        let mut row = vec![
            json!(self.what),
            json!(self.records),
            json!(self.failed),
            json!(rounded(self.elapsed.as_secs_f64())),
            json!(per_second(self.records, self.elapsed)),
            json!(rounded(megabytes(per_second(self.bytes, self.elapsed)))),
        ];
        match &self.latencies {
            Some(latencies) => row.extend(latencies.figures().map(|ms| json!(rounded(ms)))),
            None => row.extend([json!(null), json!(null), json!(null), json!(null), json!(null)]),
        }
        rows.push(row);
        if load.csv { rows.print_csv() } else { load.output.print(&rows) }
    }
}

/// To three decimals.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn megabytes(bytes: u64) -> f64 {
    Duration::from_micros(bytes).as_secs_f64()
}

impl Bench {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.connect().await?;
        let mut bench = self;
        if let Self::E2e(load) = &mut bench {
            load.linger.get_or_insert(Duration::ZERO);
        }
        let (Self::Produce(load) | Self::Consume(load) | Self::E2e(load)) = &bench;
        let topic = topic::Target::prepare(&client, load).await?;
        let measured = match &bench {
            Self::Produce(load) => produce::measure(&client, &topic, load).await,
            Self::Consume(load) => consume::measure(&client, &topic, load).await,
            Self::E2e(load) => consume::measure_end_to_end(&client, &topic, load).await,
        };
        // A topic made for this goes even if the run failed; the run's failure is told first.
        let removed = topic.remove(&client).await;
        let figures = measured?;
        removed?;
        figures.print(load)?;
        if figures.failed > 0 {
            return Err(Failure::new(
                crate::failure::Kind::Partial,
                format!(
                    "{} of {} records failed",
                    figures.failed,
                    figures.records + figures.failed
                ),
            ));
        }
        Ok(())
    }
}
