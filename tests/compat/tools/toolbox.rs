//! Kafka's tools in one JVM (`../kafka/Tools.java`), all talking to one broker or cluster.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use crate::support::{installed, program};

/// Above the minute a tool gives the broker.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(100);

/// What a command left behind.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: i32,
    pub(super) out: String,
    pub(super) err: String,
}

/// The JVM. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Toolbox {
    process: Child,
    commands: ChildStdin,
    answers: Receiver<Answer>,
    /// What tools are told of where brokers are.
    pub(super) address: String,
    /// Each broker's `host:port` and its data directory.
    pub(super) brokers: Vec<(String, PathBuf)>,
}

impl Toolbox {
    pub(super) fn start(brokers: Vec<(String, PathBuf)>) -> Toolbox {
        let mut process = Command::new("java")
            .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m", "-cp"])
            .arg(installed("kafka").join("*"))
            .arg(program("kafka/Tools.java"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("java starts");
        let commands = process.stdin.take().expect("it is piped");
        let mut output = BufReader::new(process.stdout.take().expect("it is piped"));
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            while let Some(answer) = read_answer(&mut output) {
                if sender.send(answer).is_err() {
                    break;
                }
            }
        });
        let addresses: Vec<&str> = brokers.iter().map(|(address, _)| address.as_str()).collect();
        let address = addresses.join(",");
        Toolbox { process, commands, answers, address, brokers }
    }

    /// Sends one command, as `Tools.java` describes it.
    pub(super) fn send(&mut self, fields: &[String]) {
        assert!(fields.iter().all(|field| !field.contains(['\t', '\n'])), "{fields:?}");
        let line = fields.join("\t") + "\n";
        self.commands.write_all(line.as_bytes()).expect("the JVM reads commands");
    }

    /// Waits for the answer to the oldest `run` or `stop` that has none yet.
    pub(super) fn answer(&self) -> Answer {
        self.answers.recv_timeout(ANSWER_WAIT_MAX).expect("the JVM answers in time")
    }
}

impl Drop for Toolbox {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn read_answer(output: &mut BufReader<ChildStdout>) -> Option<Answer> {
    let mut header = String::new();
    output.read_line(&mut header).ok()?;
    let mut numbers = header.split_whitespace();
    let status = numbers.next()?.parse().ok()?;
    let mut text = || {
        let mut bytes = vec![0; numbers.next()?.parse().ok()?];
        output.read_exact(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    Some(Answer { status, out: text()?, err: text()? })
}
