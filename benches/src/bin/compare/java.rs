//! The second client: Kafka's own `kafka-producer-perf-test`.

use std::path::Path;
use std::process::Command;

use crate::Failure;

/// What its last line says: the steady state, without the first third of the records.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Perf {
    pub(crate) records_per_second: f64,
    pub(crate) p50_millis: f64,
    pub(crate) p99_millis: f64,
    pub(crate) p999_millis: f64,
}

/// What it is to produce.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PerfTest {
    pub(crate) records: u64,
    pub(crate) bytes: usize,
    pub(crate) acks: &'static str,
}

/// Runs it with the Java client's own settings (16 KiB batches, linger 5 ms) but for acks.
pub(crate) fn producer_perf_test(
    jars: &Path,
    address: &str,
    topic: &str,
    what: PerfTest,
) -> Result<Perf, Failure> {
    let output = Command::new("timeout")
        .args([DEADLINE_SECONDS, "java"])
        // As kafka-producer-perf-test.sh and kafka-run-class.sh set them.
        .args(["-Xmx512M", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"])
        .args(["-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"])
        .args(["-cp", &format!("{}/*", jars.display())])
        .args(["org.apache.kafka.tools.ProducerPerformance", "--topic", topic])
        .args(["--bootstrap-server", address, "--throughput", "-1"])
        .args(["--num-records", &what.records.to_string()])
        // Its own JVM is cold at the start.
        .args(["--warmup-records", &(what.records / 3).to_string()])
        .args(["--record-size", &what.bytes.to_string()])
        .args(["--command-property", &format!("acks={}", what.acks)])
        .output()
        .map_err(|error| format!("cannot run java: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(perf) = text.lines().rev().find_map(parse).filter(|_| output.status.success()) {
        return Ok(perf);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("kafka-producer-perf-test ended with {}: {said}{text}", output.status).into())
}

/// `N steady state records sent, R records/sec (..), .., .., P ms 50th, P ms 95th, P ms 99th, P ms 99.9th.`
fn parse(line: &str) -> Option<Perf> {
    let rate = line.split_once("records sent, ")?.1.split_once(' ')?.0;
    let percentile = |name: &str| {
        let before = line.split_once(name)?.0;
        before.rsplit_once(", ")?.1.trim().parse::<f64>().ok()
    };
    Some(Perf {
        records_per_second: rate.parse().ok()?,
        p50_millis: percentile(" ms 50th")?,
        p99_millis: percentile(" ms 99th")?,
        p999_millis: percentile(" ms 99.9th")?,
    })
}

/// Longest a run may take; a shell's `timeout` sees to it.
const DEADLINE_SECONDS: &str = "180";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_read_and_progress_lines_are_not() {
        let progress = "49986 records sent, 9997.2 records/sec (0.95 MB/sec), 0.6 ms avg latency, \
                        3.0 ms max latency.";
        let summary = "200000 steady state records sent, 93545.4 records/sec (91.35 MB/sec), 234.56 ms avg \
                       latency, 456.00 ms max latency, 211 ms 50th, 400 ms 95th, 433 ms 99th, 450 \
                       ms 99.9th.";
        assert_eq!(parse(progress), None);
        assert_eq!(
            parse(summary),
            Some(Perf {
                records_per_second: 93545.4,
                p50_millis: 211.0,
                p99_millis: 433.0,
                p999_millis: 450.0
            })
        );
    }
}
