//! The members' programs, by client.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use super::history::{Event, What};
use super::member::Parse;
use crate::support::{available, installed, on_path, program};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    JavaNewest,
    Java39,
    Confluent,
    KafkaPython,
    Aiokafka,
    FranzGo,
    Sarama,
    KafkaJs,
    Kcat,
}

impl Client {
    pub(super) fn name(self) -> &'static str {
        match self {
            Client::JavaNewest => "java-newest",
            Client::Java39 => "java-v3",
            Client::Confluent => "confluent-kafka",
            Client::KafkaPython => "kafka-python",
            Client::Aiokafka => "aiokafka",
            Client::FranzGo => "franz-go",
            Client::Sarama => "sarama",
            Client::KafkaJs => "kafkajs",
            Client::Kcat => "kcat",
        }
    }

    /// Whether it is installed; says so if not.
    pub(super) fn is_available(self) -> bool {
        let needs = match self {
            Client::JavaNewest | Client::Java39 => {
                vec![on_path("java"), installed(self.name()).join("classes/Member.class")]
            }
            Client::Confluent | Client::KafkaPython | Client::Aiokafka => {
                vec![installed("venv").join("bin/python")]
            }
            Client::FranzGo | Client::Sarama => vec![installed("compat-go")],
            Client::KafkaJs => vec![on_path("node"), installed("kafkajs").join("node_modules")],
            Client::Kcat => vec![on_path("kcat")],
        };
        available(&format!("groups of {}", self.name()), &needs)
    }

    /// Whether its members can be static (KIP-345).
    pub(super) fn has_static_members(self) -> bool {
        self != Client::KafkaJs
    }

    /// Whether members know of partitions that they have lost, rather than given up. Others are checked
    /// by their generations.
    pub(super) fn tells_what_is_lost(self) -> bool {
        matches!(self, Client::JavaNewest | Client::Java39 | Client::Confluent | Client::FranzGo)
    }

    /// A member of the group.
    pub(super) fn member(self, arguments: &[&str]) -> Command {
        let mut command = match self {
            Client::JavaNewest | Client::Java39 => {
                let (jars, classes) =
                    (installed(self.name()).join("jars"), installed(self.name()).join("classes"));
                let mut java = Command::new("java");
                java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m", "-cp"]);
                java.arg(format!("{}:{}/*", classes.display(), jars.display())).arg("Member");
                java
            }
            Client::Confluent => python("confluent_member.py"),
            Client::KafkaPython => python("kafka_python_member.py"),
            Client::Aiokafka => python("aiokafka_member.py"),
            Client::FranzGo | Client::Sarama => {
                let mut go = Command::new(installed("compat-go"));
                go.arg(format!("{}-member", self.name()));
                go
            }
            Client::KafkaJs => {
                let mut node = Command::new("node");
                node.env("NODE_PATH", installed("kafkajs").join("node_modules"));
                node.arg(program("kafkajs/member.js"));
                node
            }
            Client::Kcat => return kcat(arguments),
        };
        command.args(arguments);
        command
    }

    pub(super) fn parse(self) -> Parse {
        match self {
            Client::Kcat => parse_kcat,
            _ => Event::parse,
        }
    }
}

fn python(file: &str) -> Command {
    let mut python = Command::new(installed("venv").join("bin/python"));
    python.arg("-B").arg(program("python").join(file));
    python
}

/// kcat commits by itself what it has printed, ten times a second. With `-E` it outlives the broker.
fn kcat(arguments: &[&str]) -> Command {
    let [bootstrap, group, topic, protocol, instance @ ..] = arguments else {
        panic!("BOOTSTRAP GROUP TOPIC PROTOCOL [INSTANCE]: {arguments:?}")
    };
    let strategy = if *protocol == "cooperative" { "cooperative-sticky" } else { protocol };
    let mut kcat = Command::new("kcat");
    kcat.args(["-b", bootstrap, "-G", group, "-E", "-u", "-f", "record %p %o\n"]);
    let settings = [
        "auto.offset.reset=earliest",
        "auto.commit.interval.ms=100",
        if instance.is_empty() { "session.timeout.ms=6000" } else { "session.timeout.ms=30000" },
        "heartbeat.interval.ms=500",
        "reconnect.backoff.max.ms=200",
        &format!("partition.assignment.strategy={strategy}"),
    ];
    for setting in settings {
        kcat.args(["-X", setting]);
    }
    for name in instance {
        kcat.arg("-X").arg(format!("group.instance.id={name}"));
    }
    kcat.arg(topic);
    kcat
}

/// Lines of kcat: our format of records, and what it says of rebalances:
///
/// ```text
/// % Group G rebalanced (memberid M): assigned: T [0], T [1]
/// % Group G rebalanced: incremental assignment of 2 partition(s) (memberid M, …): T [0], T [1]
/// ```
fn parse_kcat(member: &str, line: &str) -> Option<Event> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
    let what = if let Some(record) = line.strip_prefix("record ") {
        let (partition, offset) = record.split_once(' ')?;
        What::Records(partition.parse().ok()?, vec![offset.parse().ok()?])
    } else if line.starts_with("% Reached end ") {
        What::Other
    } else {
        let (_, change) = line.strip_prefix("% Group ")?.split_once(" rebalanced")?;
        let (what, partitions) = change.rsplit_once(": ")?;
        let numbers =
            partitions.split('[').skip(1).map(|rest| rest.split(']').next()?.parse().ok());
        let partitions = numbers.collect::<Option<Vec<i32>>>()?;
        // A revocation may be of an "assignment lost".
        if what.contains("revoke") {
            What::Revoked(partitions)
        } else {
            What::Assigned(partitions, None)
        }
    };
    Some(Event { member: member.to_owned(), at: u64::try_from(now).ok()?, what })
}
