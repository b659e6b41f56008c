//! The scenario, by each client.

use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use sawlog_tests::Server;

use crate::support::program::{run, run_ok};
use crate::support::{available, facts, installed, on_path, program};

/// Runs `command BOOTSTRAP TOPIC` against a broker of its own.
fn scenario(client: &str, command: Command) {
    // There is no such policy in their words.
    let has_reset_none = !["franz-go", "sarama", "kafkajs"].contains(&client);
    let not_available: &[&str] = if has_reset_none { &[] } else { &["reset-none"] };
    let server = Server::start();
    let ended = run(arguments(&server, command, &topic(client)), server.scratch());
    facts::check(&ended, not_available);
}

fn arguments(server: &Server, mut command: Command, topic: &str) -> Command {
    command.arg(server.address()).arg(topic);
    command
}

/// A new name each time, for a broker that outlives the test.
fn topic(client: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    format!("{client}-{}", now.as_millis())
}

fn java(client: &str) {
    let (jars, classes) = (installed(client).join("jars"), installed(client).join("classes"));
    if available(client, &[on_path("java"), jars.clone(), classes.clone()]) {
        let mut command = Command::new("java");
        command.arg("-cp").arg(format!("{}:{}/*", classes.display(), jars.display())).arg("Facts");
        scenario(client, command);
    }
}

#[test]
fn java_newest() {
    java("java-newest");
}

#[test]
fn java_3_9() {
    java("java-v3");
}

fn python(client: &str, file: &str) {
    let interpreter = installed("venv").join("bin/python");
    if available(client, std::slice::from_ref(&interpreter)) {
        let mut command = Command::new(interpreter);
        command.arg("-B").arg(program("python").join(file));
        scenario(client, command);
    }
}

#[test]
fn confluent_kafka() {
    python("confluent-kafka", "confluent_facts.py");
}

#[test]
fn kafka_python() {
    python("kafka-python", "kafka_python_facts.py");
}

#[test]
fn aiokafka() {
    python("aiokafka", "aiokafka_facts.py");
}

fn go(client: &str) {
    let binary = installed("compat-go");
    if available(client, std::slice::from_ref(&binary)) {
        let mut command = Command::new(binary);
        command.arg(client);
        scenario(client, command);
    }
}

#[test]
fn franz_go() {
    go("franz-go");
}

#[test]
fn sarama() {
    go("sarama");
}

#[test]
fn kafkajs() {
    let modules: PathBuf = installed("kafkajs").join("node_modules");
    if available("kafkajs", &[on_path("node"), modules.clone()]) {
        let mut command = Command::new("node");
        command.env("NODE_PATH", modules).arg(program("kafkajs/facts.js"));
        scenario("kafkajs", command);
    }
}

#[test]
fn kcat() {
    if !available("kcat", &[on_path("kcat"), on_path("bash")]) {
        return;
    }
    let server = Server::start();
    let topic = topic("kcat");
    for (name, partitions) in [(topic.clone(), "6"), (format!("{topic}-edge"), "1")] {
        let mut create = server.command();
        create.args(["topic", "create", &name, "--partitions", partitions]);
        run_ok(create, server.scratch());
    }
    let ended =
        run(arguments(&server, Command::new(program("kcat/facts.sh")), &topic), server.scratch());
    let not_available = [
        "committed-with-metadata",
        "group-seeks-to-time",
        "topic-created",
        "topic-exists-refused",
        "records-deleted",
        "configs-described",
        "config-altered",
        "wrong-config-refused",
        "partitions-added",
        "topic-deleted",
    ];
    facts::check(&ended, &not_available);
}
