//! The tools that concern several brokers, unmodified, against three: what they print is what they printed
//! against three of Apache Kafka, which `cluster-kafka.txt` has. `cluster.txt` is what is run,
//! `cluster-differences.txt` what may differ.
//!
//! With `COMPAT_BROKER=kafka` three nodes of Apache Kafka are asked instead, and `cluster-kafka.txt` is
//! written anew: they are too heavy to run each time.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use sawlog_tests::cluster;
use tempfile::TempDir;

use super::differences::Differences;
use super::toolbox::{Answer, Toolbox};
use super::{Step, normal, script};
use crate::support::kafka::KafkaCluster;
use crate::support::{available, installed, on_path, program};

/// Brokers of the cluster.
const BROKERS: i32 = 3;

/// How long it may take until a broker that was killed is missed, or one that came back has everything.
const SETTLE_WAIT_MAX: Duration = Duration::from_secs(30);

/// What Kafka prints is written down once it prints the same after this time.
const SETTLED_FOR: Duration = Duration::from_secs(3);

#[test]
fn kafka_tools_print_of_a_cluster_what_they_print_of_kafkas() {
    if !available("Kafka's tools on a cluster", &[on_path("java"), installed("kafka")]) {
        return;
    }
    if env::var("COMPAT_BROKER").is_ok_and(|broker| broker == "kafka") {
        return record();
    }
    let settings = [("num.partitions", "1"), ("offsets.topic.num.partitions", "1")];
    let sawlog = cluster::Cluster::start(BROKERS, &settings, None);
    let brokers = (1..=BROKERS).map(|id| (sawlog.address(id), sawlog.data(id))).collect();
    let mut run = Run { tools: Toolbox::start(brokers), cluster: Cluster::Sawlog(sawlog) };
    let known = Differences::read(&script("cluster-differences.txt"));
    let recorded = script("cluster-kafka.txt");
    let mut recorded = answers(&recorded);
    let mut wrong = Vec::new();
    for line in steps(&script("cluster.txt")) {
        let Some(step) = run.step(line) else { continue };
        let (of, expected) = recorded.next().unwrap_or_default();
        assert_eq!(of, line, "cluster-kafka.txt is of other commands: record it, see cluster.rs");
        let why = run.compare(&step, &expected, &known);
        wrong.extend(why.map(|why| format!("$ {line}\n{why}")));
    }
    let stale = known.never_seen();
    assert!(stale.is_empty(), "cluster-differences.txt: not met: {stale:#?}");
    assert!(wrong.is_empty(), "{} commands differ\n{}", wrong.len(), wrong.join("\n"));
}

/// Writes down what Apache Kafka prints.
fn record() {
    let directory = TempDir::new().expect("a scratch directory");
    let kafka = KafkaCluster::start(directory.path(), BROKERS);
    let brokers = (1..=BROKERS).map(|id| (kafka.address(id), kafka.logs(id))).collect();
    let mut run = Run { tools: Toolbox::start(brokers), cluster: Cluster::Kafka(kafka) };
    let mut text = String::from(
        "What Kafka's tools print of three brokers of Apache Kafka 4.3.1. Written by the test with\n\
         COMPAT_BROKER=kafka; do not edit.\n",
    );
    for line in steps(&script("cluster.txt")) {
        let Some(step) = run.step(line) else { continue };
        let lines = run.settled(&step);
        // What could not be written does not go into a string.
        let _ = write!(text, "\n$ {line}\n{}\n", lines.join("\n"));
    }
    fs::write(program("tools").join("cluster-kafka.txt"), text).expect("the file can be written");
}

fn steps(commands: &str) -> impl Iterator<Item = &str> {
    commands.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The commands written down, each with what it printed.
fn answers(recorded: &str) -> impl Iterator<Item = (&str, Vec<String>)> {
    recorded.split("\n$ ").skip(1).map(|answer| {
        let mut lines = answer.lines();
        let command = lines.next().unwrap_or_default();
        (command, lines.filter(|line| !line.is_empty()).map(str::to_owned).collect())
    })
}

enum Cluster {
    Sawlog(cluster::Cluster),
    Kafka(KafkaCluster),
}

/// A cluster and the tools that ask it.
struct Run {
    tools: Toolbox,
    cluster: Cluster,
}

impl Run {
    /// Does a line that concerns the brokers themselves; the others are for the tools.
    fn step<'a>(&mut self, line: &'a str) -> Option<Step<'a>> {
        let id = |text: &str| text.parse().expect("the id of a broker");
        match (line.split_once(' '), &mut self.cluster) {
            (Some(("kill", of)), Cluster::Sawlog(sawlog)) => sawlog.kill(id(of)),
            (Some(("kill", of)), Cluster::Kafka(kafka)) => kafka.kill(id(of)),
            (Some(("up", of)), Cluster::Sawlog(sawlog)) => {
                sawlog.run(id(of));
                sawlog.wait_until_it_listens(id(of));
            }
            (Some(("up", of)), Cluster::Kafka(kafka)) => kafka.up(id(of)),
            _ => return Some(Step::parse(line)),
        }
        None
    }

    fn lines(&mut self, step: &Step<'_>) -> Vec<String> {
        self.tools.send(&step.fields(&self.tools));
        let answer: Answer = self.tools.answer();
        normal::lines_of_cluster(step.command, &answer, &self.tools)
    }

    /// What is printed once it stays the same, for a command that changes nothing.
    fn settled(&mut self, step: &Step<'_>) -> Vec<String> {
        let deadline = Instant::now() + SETTLE_WAIT_MAX;
        let mut lines = self.lines(step);
        while step.only_reads() {
            thread::sleep(SETTLED_FOR);
            let now = self.lines(step);
            let arrived = step.until.is_none_or(|text| now.iter().any(|l| l.contains(text)));
            if arrived && now == lines {
                break;
            }
            lines = now;
            assert!(Instant::now() < deadline, "{}: {lines:#?}", step.command);
        }
        lines
    }

    /// How what is printed differs from what was written down.
    fn compare(
        &mut self,
        step: &Step<'_>,
        expected: &[String],
        known: &Differences,
    ) -> Option<String> {
        let deadline = Instant::now() + SETTLE_WAIT_MAX;
        loop {
            let mut kafka = expected.to_vec();
            let mut sawlog = self.lines(step);
            if step.command.starts_with("kafka-broker-api-versions") {
                normal::only_shared(&mut kafka, &mut sawlog);
            }
            known.take_out(step.command, &mut kafka, &mut sawlog);
            let why = super::differing(&kafka, &sawlog)?;
            if !step.only_reads() || Instant::now() > deadline {
                return Some(why);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}
