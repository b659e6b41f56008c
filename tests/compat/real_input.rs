//! Real input: this machine's Debian package index, one record per package, its name the key.
//!
//! Produced by kcat and by `sawlog produce` with each codec into six partitions, and read back by
//! five consumers. Every value must come back byte for byte, and the values of one key in order.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use sawlog_tests::Server;
use serde_json::Value;

use crate::support::manifest::{Manifest, assert_same, without_partition};
use crate::support::program::run_ok;
use crate::support::{available, installed, on_path, program};

/// A larger index is read this far.
const INDEX_BYTES_MAX: usize = 60_000_000;
/// The index names a package once. The first ones come twice more, so that a key has an order to keep.
const REPEATED: usize = 5_000;
/// Occur nowhere in the index: checked below.
const KEY_END: u8 = 0x1f;
const RECORD_END: u8 = 0x1e;

#[test]
fn package_index_uncompressed() {
    package_index("none");
}

#[test]
fn package_index_gzip() {
    package_index("gzip");
}

#[test]
fn package_index_snappy() {
    package_index("snappy");
}

#[test]
fn package_index_lz4() {
    package_index("lz4");
}

#[test]
fn package_index_zstd() {
    package_index("zstd");
}

fn package_index(codec: &str) {
    let needs = [
        on_path("apt-cache"),
        on_path("kcat"),
        on_path("java"),
        installed("java-newest/classes"),
        installed("venv/bin/python"),
        installed("compat-go"),
    ];
    if !available(&format!("package index, {codec}"), &needs) {
        return;
    }
    let server = Server::start();
    let records = records(server.scratch());
    let mut expected = Manifest::default();
    for record in &records {
        expected.add(0, record.key.as_bytes(), record.value.as_bytes());
    }
    let expected = without_partition(&expected.lines());

    for (producer, produce) in
        [("kcat", kcat_produces as fn(&_, &_, &_, &_)), ("sawlog", sawlog_produces)]
    {
        let topic = format!("packages-{producer}-{codec}-{}", std::process::id());
        let mut create = server.command();
        create.args(["topic", "create", &topic, "--partitions", "6"]);
        run_ok(create, server.scratch());
        produce(&server, &topic, codec, &records);

        let seen = read_by_kcat(&server, &topic);
        assert_same(&format!("{topic} by kcat"), &expected, &without_partition(&seen));
        assert_same(&format!("{topic} by sawlog"), &seen, &read_by_sawlog(&server, &topic));
        for (consumer, command) in consumers() {
            let lines = read_by(&server, &topic, command);
            assert_same(&format!("{topic} by {consumer}"), &seen, &lines);
        }
    }
}

struct Record {
    key: String,
    value: String,
}

/// The index as records; see [`REPEATED`] for what is added to it.
pub(crate) fn index(scratch: &Path) -> Vec<(String, String)> {
    let mut apt = Command::new("apt-cache");
    apt.arg("dumpavail");
    let mut index = run_ok(apt, scratch);
    index.truncate(INDEX_BYTES_MAX);
    assert!(index.len() > 1_000_000, "the package index is empty: apt-get update fills it");
    assert!(!index.contains(&KEY_END) && !index.contains(&RECORD_END));
    let index = String::from_utf8_lossy(&index);
    let stanzas = index.split("\n\n").filter(|stanza| !stanza.is_empty());
    let named = |stanza: &str| {
        let name = stanza.lines().next().and_then(|line| line.strip_prefix("Package: "));
        (name.expect("a stanza begins with its package").to_owned(), stanza.to_owned())
    };
    stanzas.map(named).collect()
}

fn records(scratch: &Path) -> Vec<Record> {
    let stanzas = index(scratch);
    let mut records: Vec<Record> = stanzas
        .iter()
        .map(|(key, value)| Record { key: key.clone(), value: value.clone() })
        .collect();
    for sequence in [2, 3] {
        for (key, value) in stanzas.iter().take(REPEATED) {
            records
                .push(Record { key: key.clone(), value: format!("Sequence: {sequence}\n{value}") });
        }
    }
    records
}

fn kcat_produces(server: &Server, topic: &str, codec: &str, records: &[Record]) {
    let file = server.scratch().join("records");
    let mut bytes = Vec::new();
    for record in records {
        bytes.extend_from_slice(record.key.as_bytes());
        bytes.push(KEY_END);
        bytes.extend_from_slice(record.value.as_bytes());
        bytes.push(RECORD_END);
    }
    fs::write(&file, bytes).expect("a file");
    let mut kcat = Command::new("kcat");
    kcat.args(["-b", server.address(), "-P", "-t", topic, "-z", codec]);
    kcat.args(["-K", "\\x1f", "-D", "\\x1e", "-X", "enable.idempotence=true", "-l"]).arg(&file);
    run_ok(kcat, server.scratch());
}

fn sawlog_produces(server: &Server, topic: &str, codec: &str, records: &[Record]) {
    let file = server.scratch().join("records.jsonl");
    let mut lines = Vec::new();
    for Record { key, value } in records {
        writeln!(lines, "{}", serde_json::json!({ "key": key, "value": value })).expect("memory");
    }
    fs::write(&file, lines).expect("a file");
    let mut sawlog = server.command();
    sawlog.args(["produce", topic, "-f", "json", "-z", codec]).arg(&file);
    run_ok(sawlog, server.scratch());
}

fn read_by_kcat(server: &Server, topic: &str) -> Vec<String> {
    let mut kcat = Command::new("kcat");
    kcat.args(["-b", server.address(), "-C", "-q", "-e", "-t", topic, "-o", "beginning"]);
    kcat.args(["-f", "%p %K %S\\n%k%s"]);
    let output = run_ok(kcat, server.scratch());
    let (mut manifest, mut rest) = (Manifest::default(), &output[..]);
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').expect("a line of numbers");
        let line = std::str::from_utf8(&rest[..end]).expect("a line of numbers");
        let numbers: Vec<usize> = line.split(' ').map(|n| n.parse().expect("a number")).collect();
        let [partition, key, value] = numbers[..] else { panic!("three numbers: {line}") };
        let (key, after) = rest[end + 1..].split_at(key);
        let (value, after) = after.split_at(value);
        manifest.add(i32::try_from(partition).expect("a small number"), key, value);
        rest = after;
    }
    manifest.lines()
}

fn read_by_sawlog(server: &Server, topic: &str) -> Vec<String> {
    let mut sawlog = server.command();
    sawlog.args(["consume", topic, "-o", "start", "-e", "-f", "json"]);
    let output = run_ok(sawlog, server.scratch());
    let mut manifest = Manifest::default();
    for line in output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let record: Value = serde_json::from_slice(line).expect("a line of JSON");
        let text =
            |field: &str| record[field].as_str().unwrap_or_else(|| panic!("no {field}: {record}"));
        let partition = record["partition"].as_i64().expect("a partition");
        manifest.add(
            i32::try_from(partition).expect("a small number"),
            text("key").as_bytes(),
            text("value").as_bytes(),
        );
    }
    manifest.lines()
}

/// Those that write the manifest themselves: `command BOOTSTRAP TOPIC FILE`.
fn consumers() -> [(&'static str, Command); 3] {
    let classpath = format!(
        "{}:{}/*",
        installed("java-newest/classes").display(),
        installed("java-newest/jars").display()
    );
    let mut java = Command::new("java");
    java.args(["-Xmx512m", "-cp", &classpath, "Manifest"]);
    let mut python = Command::new(installed("venv/bin/python"));
    python.arg("-B").arg(program("python/confluent_manifest.py"));
    let mut franz = Command::new(installed("compat-go"));
    franz.arg("manifest");
    [("java", java), ("confluent-kafka", python), ("franz-go", franz)]
}

fn read_by(server: &Server, topic: &str, mut command: Command) -> Vec<String> {
    let file: PathBuf = server.scratch().join("manifest");
    command.arg(server.address()).arg(topic).arg(&file);
    run_ok(command, server.scratch());
    let text = fs::read_to_string(&file).expect("the manifest it wrote");
    text.lines().map(str::to_owned).collect()
}
