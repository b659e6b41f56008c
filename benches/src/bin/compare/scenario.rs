//! What is measured on a running broker, and how its costs are counted.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::bare;
use crate::figures::{Better, Row, Sheet};
use crate::java::{self, PerfTest};
use crate::load::{self, FixedRate, FlatOut, Written};
use crate::process::Process;
use crate::variant::Variant;

/// One thing to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scenario {
    /// Produce and, after acks=all, consume it again.
    FlatOut(FlatOut),
    FixedRate(FixedRate),
    /// One socket, one request at a time, no client library.
    Bare(FixedRate),
    PerfTest(PerfTest),
}

/// The broker under measurement.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) variant: Variant,
    pub(crate) address: String,
    /// Not known for a broker somebody else started, unless they say.
    pub(crate) process: Option<Process>,
    pub(crate) kafka_jars: PathBuf,
    /// On the file system of the broker's data.
    pub(crate) scratch: PathBuf,
    /// Before the names of all topics, so that runs on one broker do not meet.
    pub(crate) prefix: String,
    pub(crate) topics: Vec<String>,
}

const PRODUCE: &str = "Produce flat out, librdkafka";
const CONSUME: &str = "Consume flat out, librdkafka";
const LATENCY: &str = "Latency at a fixed rate, 1 KiB, acks=all, 1 partition, linger 0";
const BARE: &str = "Round trip of one record at a fixed rate, 1 KiB, acks=all, one bare socket";
const PERF_TEST: &str = "Produce flat out, kafka-producer-perf-test, 6 partitions";

/// Everything, in order.
pub(crate) fn all(quick: bool) -> Vec<Scenario> {
    let parts = if quick { 4 } else { 1 };
    let mut all = Vec::new();
    for (bytes, records) in [(100, 4_000_000), (1024, 1_000_000)] {
        for acks in ["all", "1"] {
            for partitions in [1, 6] {
                let records = records / parts;
                all.push(Scenario::FlatOut(FlatOut { records, bytes, partitions, acks }));
            }
        }
    }
    for rate in [1_000, 10_000] {
        let records = rate * if quick { 5 } else { 15 };
        all.push(Scenario::FixedRate(FixedRate { rate, bytes: 1024, warm_up: rate, records }));
    }
    let records = if quick { 5_000 } else { 15_000 };
    all.push(Scenario::Bare(FixedRate { rate: 1_000, bytes: 1024, warm_up: 1_000, records }));
    for (bytes, acks, records) in
        [(100, "all", 3_000_000), (1024, "all", 1_000_000), (1024, "1", 1_000_000)]
    {
        all.push(Scenario::PerfTest(PerfTest { records: records / parts, bytes, acks }));
    }
    all
}

impl Scenario {
    pub(crate) fn name(self) -> String {
        match self {
            Self::FlatOut(what) => format!("flat out {}", describe(what)),
            Self::FixedRate(what) => format!("latency at {}/s", what.rate),
            Self::Bare(what) => format!("bare round trip at {}/s", what.rate),
            Self::PerfTest(what) => format!("perf-test {}, acks={}", size(what.bytes), what.acks),
        }
    }

    pub(crate) fn run(self, subject: &mut Subject, sheet: &mut Sheet<'_>) -> Result<(), Failure> {
        match self {
            Self::FlatOut(what) => flat_out(subject, sheet, what),
            Self::FixedRate(what) => fixed_rate(subject, sheet, what),
            Self::Bare(what) => bare_round_trip(subject, sheet, what),
            Self::PerfTest(what) => perf_test(subject, sheet, what),
        }
    }
}

/// The JVM compiles what has run often, requests as well as records, and touches its heap for the
/// first time: every broker gets the same 2,000,000 records in large batches, read once, and then
/// 20,000 requests of one record.
pub(crate) fn warm_up(subject: &mut Subject) -> Result<(), Failure> {
    for (bytes, records) in [(1024, 1_200_000), (100, 800_000)] {
        let topic = subject.create_topic(&format!("warm-up-{bytes}"), 6)?;
        let what = FlatOut { records, bytes, partitions: 6, acks: "all" };
        load::produce(&subject.address, &topic, what)?;
        load::consume(&subject.address, &topic, Written { partitions: 6, records, bytes })?;
    }
    let topic = subject.create_topic("warm-up-single", 1)?;
    let what = FixedRate { rate: 5_000, bytes: 1024, warm_up: 0, records: 20_000 };
    load::latency(&subject.address, &topic, what)?;
    Ok(())
}

fn flat_out(subject: &mut Subject, sheet: &mut Sheet<'_>, what: FlatOut) -> Result<(), Failure> {
    let name = format!("flat-{}-{}-{}", what.bytes, what.acks, what.partitions);
    let topic = subject.create_topic(&name, what.partitions)?;
    let address = subject.address.as_str();
    let FlatOut { records, bytes, .. } = what;

    let label = describe(what);
    let (produced, used) =
        subject.measure(Volume { records, bytes }, || load::produce(address, &topic, what))?;
    rate(sheet, PRODUCE, &label, bytes, float(records) / produced.elapsed.as_secs_f64());
    used.add(sheet, PRODUCE, &label, records);
    for (percentile, micros) in percentiles(&produced.acks) {
        sheet.add(row(PRODUCE, &format!("{label}: ack {percentile}"), "ms"), micros / 1e3);
    }
    if what.acks != "all" {
        return Ok(());
    }

    let label = format!("{}, {}", size(bytes), partitions(what.partitions));
    let written = Written { partitions: what.partitions, records, bytes };
    let (elapsed, used) = subject
        .measure(Volume { records: 0, bytes }, || load::consume(address, &topic, written))?;
    rate(sheet, CONSUME, &label, bytes, float(records) / elapsed.as_secs_f64());
    used.add(sheet, CONSUME, &label, records);
    Ok(())
}

fn fixed_rate(
    subject: &mut Subject,
    sheet: &mut Sheet<'_>,
    what: FixedRate,
) -> Result<(), Failure> {
    let topic = subject.create_topic(&format!("latency-{}", what.rate), 1)?;
    let label = format!("{}/s", what.rate);
    let records = what.warm_up + what.records;
    let (latencies, used) = subject.measure(Volume { records, bytes: what.bytes }, || {
        load::latency(&subject.address, &topic, what)
    })?;
    for (kind, times) in [("ack", &latencies.ack), ("end to end", &latencies.end_to_end)] {
        for (percentile, micros) in percentiles(times) {
            sheet.add(row(LATENCY, &format!("{label}: {kind} {percentile}"), "µs"), micros);
        }
    }
    used.add(sheet, LATENCY, &label, records);
    Ok(())
}

fn bare_round_trip(
    subject: &mut Subject,
    sheet: &mut Sheet<'_>,
    what: FixedRate,
) -> Result<(), Failure> {
    let topic = subject.create_topic(&format!("bare-{}", what.rate), 1)?;
    let label = format!("{}/s", what.rate);
    let records = what.warm_up + what.records;
    let (times, used) = subject.measure(Volume { records, bytes: what.bytes }, || {
        bare::round_trips(&subject.address, &topic, what)
    })?;
    for (percentile, micros) in percentiles(&times) {
        sheet.add(row(BARE, &format!("{label}: {percentile}"), "µs"), micros);
    }
    used.add(sheet, BARE, &label, records);
    for (percentile, micros) in percentiles(&bare::echo(what)?) {
        let name = format!("{label}: a mere echo, for comparison, {percentile}");
        sheet.add(row(BARE, &name, "µs"), micros);
    }
    Ok(())
}

fn perf_test(subject: &mut Subject, sheet: &mut Sheet<'_>, what: PerfTest) -> Result<(), Failure> {
    let topic = subject.create_topic(&format!("perf-{}-{}", what.bytes, what.acks), 6)?;
    let PerfTest { records, bytes, acks } = what;
    let label = format!("{}, acks={acks}", size(bytes));
    let (perf, used) = subject.measure(Volume { records, bytes }, || {
        java::producer_perf_test(&subject.kafka_jars, &subject.address, &topic, what)
    })?;
    rate(sheet, PERF_TEST, &label, bytes, perf.records_per_second);
    used.add(sheet, PERF_TEST, &label, records);
    let times = [("p50", perf.p50_millis), ("p99", perf.p99_millis), ("p99.9", perf.p999_millis)];
    for (percentile, millis) in times {
        sheet.add(row(PERF_TEST, &format!("{label}: ack {percentile}"), "ms"), millis);
    }
    Ok(())
}

impl Subject {
    /// Creates a topic with the variant's flush mode; returns its full name.
    pub(crate) fn create_topic(&mut self, name: &str, partitions: i32) -> Result<String, Failure> {
        let topic = format!("{}{name}", self.prefix);
        let settings: Vec<_> =
            self.variant.flush_mode.map(|mode| ("flush.mode", mode)).into_iter().collect();
        load::create_topic(&self.address, &topic, partitions, &settings)?;
        self.topics.push(topic.clone());
        Ok(topic)
    }

    /// Runs a load on a machine in the same state each time: nothing left to be written, and as much
    /// page cache at hand as the load will fill. Counts what it costs the broker, background work
    /// after it included, and the client.
    fn measure<T>(
        &self,
        volume: Volume,
        load: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<(T, Used), Failure> {
        let client = || -> Result<f64, Failure> {
            Ok(Process::this().cpu_seconds()? + Process::this().children_cpu_seconds()?)
        };
        rustix::fs::sync();
        if let Some(broker) = self.process {
            broker.settle()?;
        }
        // Last, since the host soon takes free pages back.
        prime_page_cache(&self.scratch, volume)?;
        let broker_before = self.process.map(Process::cpu_seconds).transpose()?;
        let client_before = client()?;
        let result = load()?;
        let client_seconds = client()? - client_before;
        let broker_seconds = match (self.process, broker_before) {
            (Some(broker), Some(before)) => {
                broker.settle()?;
                Some(broker.cpu_seconds()? - before)
            }
            _ => None,
        };
        Ok((result, Used { broker_seconds, client_seconds }))
    }
}

/// How much a load writes.
#[derive(Clone, Copy, Debug)]
struct Volume {
    records: u64,
    bytes: usize,
}

/// Processor time a load took.
#[derive(Clone, Copy, Debug)]
struct Used {
    broker_seconds: Option<f64>,
    client_seconds: f64,
}

impl Used {
    fn add(self, sheet: &mut Sheet<'_>, section: &'static str, label: &str, records: u64) {
        let per_million = 1e6 / float(records);
        let both = [("broker", self.broker_seconds), ("client", Some(self.client_seconds))];
        for (who, seconds) in both {
            let name = format!("{label}: {who} CPU");
            if let Some(seconds) = seconds {
                sheet.add(row(section, &name, "s per million records"), seconds * per_million);
            }
        }
    }
}

/// On a virtual machine the first touch of a page the host has taken back costs more than all a
/// broker does with it. Writing and removing as much as the load will write, and half as much
/// again, leaves pages that are backed, for whichever broker comes next.
fn prime_page_cache(directory: &Path, volume: Volume) -> Result<(), Failure> {
    let bytes = volume.records * (volume.bytes as u64 + RECORD_OVERHEAD_BYTES);
    let mut file = tempfile::tempfile_in(directory)?;
    let chunk = vec![1; 1 << 20];
    for _ in 0..(bytes + bytes / 2) >> 20 {
        file.write_all(&chunk)?;
    }
    Ok(())
}

fn rate(sheet: &mut Sheet<'_>, section: &'static str, name: &str, bytes: usize, per_second: f64) {
    let row = |unit| Row { section, name, unit, better: Better::More };
    sheet.add(row("records/s"), per_second);
    sheet.add(row("MB/s"), per_second * bytes as f64 / 1e6);
}

fn row<'a>(section: &'static str, name: &'a str, unit: &'static str) -> Row<'a> {
    Row { section, name, unit, better: Better::Less }
}

fn percentiles(times: &hdrhistogram::Histogram<u64>) -> [(&'static str, f64); 3] {
    [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)]
        .map(|(name, quantile)| (name, float(times.value_at_quantile(quantile))))
}

fn describe(what: FlatOut) -> String {
    format!("{}, acks={}, {}", size(what.bytes), what.acks, partitions(what.partitions))
}

fn partitions(count: i32) -> String {
    if count == 1 { "1 partition".to_owned() } else { format!("{count} partitions") }
}

fn size(bytes: usize) -> String {
    if bytes == 1024 { "1 KiB".to_owned() } else { format!("{bytes} B") }
}

/// Counts here stay far below what a float holds exactly.
fn float(count: u64) -> f64 {
    count as f64
}

/// About what a record takes beside its value.
const RECORD_OVERHEAD_BYTES: u64 = 10;
