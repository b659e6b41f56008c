//! `sawlog dev`: the command sees the broker, its exit code comes back, nothing stays behind.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{assert_fails, sawlog, stderr};

/// With a temporary directory of the test's own, to see what stays in it.
fn dev(scratch: &Path) -> Command {
    let mut command = sawlog();
    command.arg("dev").env("TMPDIR", scratch);
    command
}

fn assert_empty(directory: &Path) {
    let left: Vec<_> = std::fs::read_dir(directory).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_command_finds_the_broker_and_its_exit_code_is_passed_on() {
    let scratch = tempfile::tempdir().unwrap();
    let script = r#"test "$SAWLOG_BROKERS" = "$KAFKA_BOOTSTRAP_SERVERS" || exit 9
        "$0" topic create inside && echo hello | "$0" produce inside && "$0" consume inside -e
        exit 7"#;
    let output = dev(scratch.path())
        .args(["--", "sh", "-c", script, env!("CARGO_BIN_EXE_sawlog")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n");
    assert_empty(scratch.path());
}

#[test]
fn alone_it_runs_until_told_to_end_and_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    for signal in ["-TERM", "-INT"] {
        let mut child =
            dev(scratch.path()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("SAWLOG_BROKERS=").unwrap();
        let listed = sawlog().args(["-b", address, "topic", "list"]).output().unwrap();
        assert!(listed.status.success(), "{}", stderr(&listed));
        let killed = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(killed.unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_empty(scratch.path());
    }
}

#[test]
fn a_signal_reaches_the_command() {
    let scratch = tempfile::tempdir().unwrap();
    let mut child = dev(scratch.path())
        .args(["--", "sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
    assert_empty(scratch.path());
}

#[test]
fn what_cannot_run_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let output = dev(scratch.path()).args(["--", "/no/such/program"]).output().unwrap();
    assert_fails(&output, 3, "/no/such/program");
    let output = dev(scratch.path()).args(["-X", "num.partitons=3"]).output().unwrap();
    assert_fails(&output, 2, "num.partitions");
    assert_empty(scratch.path());
    let output = dev(&scratch.path().join("gone")).output().unwrap();
    assert_fails(&output, 1, "TMPDIR");
}
