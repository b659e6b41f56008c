//! Kafka's own command-line tools, unmodified: what they print against Sawlog is what they print against
//! Apache Kafka, which runs beside it. `commands.txt` is what is run, `differences.txt` what may differ.
//!
//! With `BOOTSTRAP` set, that broker stands in Sawlog's place; nothing differs if it is Apache Kafka.

mod cluster;
mod differences;
mod normal;
mod toolbox;

use std::env;
use std::fs;
use std::time::{Duration, Instant};

use sawlog_tests::Server;

use self::differences::Differences;
use self::toolbox::{Answer, Toolbox};
use crate::support::kafka::Kafka;
use crate::support::{available, installed, on_path, program};

/// Tools of `bin/` and their classes.
const TOOLS: [(&str, &str); 18] = [
    ("kafka-topics", "org.apache.kafka.tools.TopicCommand"),
    ("kafka-configs", "kafka.admin.ConfigCommand"),
    ("kafka-client-metrics", "org.apache.kafka.tools.ClientMetricsCommand"),
    ("kafka-consumer-groups", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"),
    ("kafka-groups", "org.apache.kafka.tools.GroupsCommand"),
    ("kafka-get-offsets", "org.apache.kafka.tools.GetOffsetShell"),
    ("kafka-log-dirs", "org.apache.kafka.tools.LogDirsCommand"),
    ("kafka-delete-records", "org.apache.kafka.tools.DeleteRecordsCommand"),
    ("kafka-cluster", "org.apache.kafka.tools.ClusterTool"),
    ("kafka-features", "org.apache.kafka.tools.FeatureCommand"),
    ("kafka-metadata-quorum", "org.apache.kafka.tools.MetadataQuorumCommand"),
    ("kafka-leader-election", "org.apache.kafka.tools.LeaderElectionCommand"),
    ("kafka-reassign-partitions", "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"),
    ("kafka-broker-api-versions", "org.apache.kafka.tools.BrokerApiVersionsCommand"),
    ("kafka-transactions", "org.apache.kafka.tools.TransactionsCommand"),
    ("kafka-console-producer", "org.apache.kafka.tools.ConsoleProducer"),
    ("kafka-console-consumer", "org.apache.kafka.tools.consumer.ConsoleConsumer"),
    ("kafka-producer-perf-test", "org.apache.kafka.tools.ProducerPerformance"),
];

/// The one tool whose name does not start like those above.
const CONSUMER_PERF: (&str, &str) =
    ("kafka-consumer-perf-test", "org.apache.kafka.tools.ConsumerPerformance");

/// How long a change may take until whoever asks sees it, or a group until it has settled.
const SETTLE_WAIT_MAX: Duration = Duration::from_secs(20);

#[test]
fn kafka_tools_print_what_they_print_against_kafka() {
    if !available("Kafka's tools", &[on_path("java"), installed("kafka")]) {
        return;
    }
    let server = Server::start();
    let mut kafka = Kafka::start(server.scratch());
    let sawlog = Toolbox::start(vec![(server.address().to_owned(), server.data().to_owned())]);
    kafka.wait_until_it_listens();
    let mut both = Both {
        kafka: Toolbox::start(vec![(kafka.address().to_owned(), kafka.logs())]),
        sawlog,
        known: Differences::read(&script("differences.txt")),
        wrong: Vec::new(),
    };
    let commands = script("commands.txt");
    for line in commands.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        both.step(line);
    }
    if env::var_os("BOOTSTRAP").is_none() {
        let stale = both.known.never_seen();
        assert!(stale.is_empty(), "differences.txt: not met: {stale:#?}");
    }
    assert!(
        both.wrong.is_empty(),
        "{} commands differ\n{}",
        both.wrong.len(),
        both.wrong.join("\n")
    );
}

fn script(name: &str) -> String {
    fs::read_to_string(program("tools").join(name)).expect("a file of this directory")
}

/// Both brokers, each with its tools.
struct Both {
    kafka: Toolbox,
    sawlog: Toolbox,
    known: Differences,
    wrong: Vec<String>,
}

/// What to do with a command's line of `commands.txt`.
#[derive(Debug)]
struct Step<'a> {
    /// `run`, `start` or `stop`.
    verb: &'a str,
    /// The file of standard input, or the name of a command in the background.
    with: String,
    /// The tool and its arguments, as written.
    command: &'a str,
    /// What both must print.
    until: Option<&'a str>,
}

impl<'a> Step<'a> {
    fn parse(line: &'a str) -> Step<'a> {
        let run = Step { verb: "run", with: String::new(), command: line, until: None };
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        match first {
            "stop" => Step { verb: "stop", with: rest.to_owned(), command: line, ..run },
            "start" => {
                let (name, command) = rest.split_once(' ').expect("start NAME COMMAND");
                Step { verb: "start", with: name.to_owned(), command, ..run }
            }
            "<" => {
                let (file, command) = rest.split_once(' ').expect("< FILE COMMAND");
                Step { with: path_of(file), command, ..run }
            }
            "until" => {
                let quoted = rest.strip_prefix('"').and_then(|rest| rest.split_once("\" "));
                let (text, command) = quoted.expect("until \"TEXT\" COMMAND");
                Step { command, until: Some(text), ..run }
            }
            _ => run,
        }
    }

    /// The fields that `Tools.java` reads.
    fn fields(&self, broker: &Toolbox) -> Vec<String> {
        let mut fields = vec![self.verb.to_owned(), self.with.clone()];
        let (tool, arguments) = self.command.split_once(' ').unwrap_or((self.command, ""));
        if self.verb != "stop" {
            let known = TOOLS.iter().chain([&CONSUMER_PERF]).find(|(name, _)| *name == tool);
            fields.push(known.unwrap_or_else(|| panic!("no such tool: {tool}")).1.to_owned());
            let bootstrap = ["--bootstrap-server".to_owned(), broker.address.clone()];
            if ["kafka-features", "kafka-transactions", "kafka-metadata-quorum"].contains(&tool) {
                // Options of the tool itself, which come before what it is to do.
                fields.extend(bootstrap);
                fields.extend(words(arguments));
            } else {
                fields.extend(words(arguments));
                fields.extend(bootstrap);
            }
        }
        fields
    }

    /// Whether it can be run again, until both brokers have caught up with the changes before it.
    fn only_reads(&self) -> bool {
        let reads = [
            " --describe",
            " --list",
            " --verify",
            " list-endpoints",
            "kafka-get-offsets",
            "kafka-transactions",
            "kafka-metadata-quorum",
        ];
        self.verb == "run" && reads.iter().any(|word| self.command.contains(word))
    }
}

/// The words of a command; quotes keep what is inside together.
fn words(arguments: &str) -> Vec<String> {
    let words = arguments.split(' ').filter(|word| !word.is_empty());
    words.map(|word| path_of(word.trim_matches('"'))).collect()
}

/// `@NAME` is a file of this directory.
fn path_of(word: &str) -> String {
    match word.strip_prefix('@') {
        Some(name) => program("tools").join(name).display().to_string(),
        None => word.to_owned(),
    }
}

impl Both {
    /// Runs a line on both, and remembers if they differ.
    fn step(&mut self, line: &str) {
        let step = Step::parse(line);
        let deadline = Instant::now() + SETTLE_WAIT_MAX;
        loop {
            self.kafka.send(&step.fields(&self.kafka));
            self.sawlog.send(&step.fields(&self.sawlog));
            if step.verb == "start" {
                return;
            }
            let answers = [self.kafka.answer(), self.sawlog.answer()];
            let Some(why) = self.difference(&step, &answers) else { return };
            let again = step.only_reads() || step.until.is_some();
            if !again || Instant::now() > deadline {
                self.wrong.push(format!("$ {line}\n{why}"));
                return;
            }
        }
    }

    fn difference(&self, step: &Step<'_>, answers: &[Answer; 2]) -> Option<String> {
        let mut kafka = normal::lines(step.command, &answers[0], &self.kafka);
        let mut sawlog = normal::lines(step.command, &answers[1], &self.sawlog);
        let arrived = |lines: &[String]| {
            step.until.is_none_or(|text| lines.iter().any(|line| line.ends_with(text)))
        };
        let settled = arrived(&kafka) && arrived(&sawlog);
        if step.command.ends_with("--all") || step.command.starts_with("kafka-broker-api-versions")
        {
            normal::only_shared(&mut kafka, &mut sawlog);
        }
        self.known.take_out(step.command, &mut kafka, &mut sawlog);
        let mut why = differing(&kafka, &sawlog).unwrap_or_default();
        if !settled {
            why += &format!("not {:?}: {kafka:#?} {sawlog:#?}\n", step.until);
        }
        (!why.is_empty()).then_some(why)
    }
}

/// Lines only one of the two has, if there are any.
fn differing(kafka: &[String], sawlog: &[String]) -> Option<String> {
    let missing = kafka.iter().filter(|line| !sawlog.contains(line)).map(|l| format!("- {l}\n"));
    let added = sawlog.iter().filter(|line| !kafka.contains(line)).map(|l| format!("+ {l}\n"));
    let why: String = missing.chain(added).collect();
    if why.is_empty() && kafka != sawlog {
        return Some(format!("repeated lines: {kafka:#?} {sawlog:#?}"));
    }
    (!why.is_empty()).then_some(why)
}
