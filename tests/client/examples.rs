//! The client's examples, run as a reader would run them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::process::{BrokerProcess, free_address};

/// An example, built.
pub(crate) fn built(name: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .args(["build", "--quiet", "-p", "sawlog-client", "--target-dir"])
        .arg(sawlog_tests::target_dir())
        .args(["--example", name])
        .status()
        .expect("cargo runs, it runs this test");
    assert!(status.success(), "{name}: {status}");
    sawlog_tests::target_dir().join("debug/examples").join(name)
}

/// Runs an example to its end and returns what it printed.
fn run(name: &str, arguments: &[&str], input: &str) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut child = Command::new(cargo)
        .current_dir(workspace)
        .args(["run", "--quiet", "-p", "sawlog-client", "--target-dir"])
        .arg(sawlog_tests::target_dir())
        .args(["--example", name, "--"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cargo runs, it runs this test");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{name}: {}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_examples_do_what_they_say() {
    let directory = TempDir::new().expect("a scratch directory");
    let broker = BrokerProcess::start(&directory.path().join("data"), free_address(), &[]);
    let address = broker.address().to_string();
    let address = address.as_str();
    for topic in ["from", "to"] {
        let mut create = Command::new(sawlog_tests::sawlog());
        create.args(["-b", address, "topic", "create", topic, "-p", "1"]);
        assert!(create.stdout(Stdio::null()).status().expect("sawlog runs").success());
    }
    let said = run("produce", &[address, "from"], "one\ntwo\nthree\n");
    assert_eq!(said, "partition 0 offset 0\npartition 0 offset 1\npartition 0 offset 2\n");
    assert_eq!(run("consume", &[address, "from"], ""), "0-0: one\n0-1: two\n0-2: three\n");

    let position = directory.path().join("position");
    let position = position.to_str().expect("text");
    run("at_least_once", &[address, "from", "to", position], "");
    run("produce", &[address, "from"], "four\n");
    run("at_least_once", &[address, "from", "to", position], "");
    let copied = run("consume", &[address, "to"], "");
    assert_eq!(copied, "0-0: one\n0-1: two\n0-2: three\n0-3: four\n");

    let said = run("group", &[address, "from", "readers", "4"], "");
    assert_eq!(said, "0-0: one\n0-1: two\n0-2: three\n0-3: four\n");
    run("produce", &[address, "from"], "five\n");
    let said = run("group", &[address, "from", "readers", "1"], "");
    assert_eq!(said, "0-4: five\n", "it goes on where the one before it was");
    run("at_least_once_group", &[address, "from", "to", "copiers"], "");
    let copied = run("consume", &[address, "to"], "");
    assert!(copied.ends_with("0-4: one\n0-5: two\n0-6: three\n0-7: four\n0-8: five\n"), "{copied}");

    let said = run("admin", &[address], "");
    assert!(said.contains("partition 2: offsets 0 to 0\n"), "{said}");
    assert!(said.contains("retention.ms = 7200000 (topic)"), "{said}");
}
