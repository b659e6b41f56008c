//! Kafka's own segment dump tool reads the segments Sawlog wrote.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sawlog_tests::Server;

use crate::real_input::index;
use crate::support::program::run_ok;
use crate::support::{available, installed, on_path};

/// The uncompressed records come last: what is still in the open segment is theirs.
const CODECS: [&str; 5] = ["gzip", "snappy", "lz4", "zstd", "none"];
const RECORDS_PER_CODEC: usize = 4_000;

#[test]
fn kafka_dump_tool_reads_sealed_segments() {
    let needs = [on_path("java"), on_path("kcat"), on_path("apt-cache"), installed("kafka")];
    if !available("segment dump", &needs) {
        return;
    }
    let server = Server::start();
    if server.data().as_os_str().is_empty() {
        return; // somebody else's broker, and its directory is not known
    }
    let topic = format!("segments-{}", std::process::id());
    let mut create = server.command();
    create.args([
        "topic",
        "create",
        &topic,
        "--partitions",
        "1",
        "--config",
        "segment.bytes=1048576",
    ]);
    run_ok(create, server.scratch());
    let values = values(server.scratch());
    for (codec, lines) in CODECS.iter().zip(values.chunks(RECORDS_PER_CODEC)) {
        produce(&server, &topic, codec, lines);
    }

    let mut segments = segments(server.data(), &topic);
    let open = segments.pop().expect("a segment");
    assert!(segments.len() >= 3, "sealed: {segments:?}, open: {open:?}");
    let dump = dump(&segments, server.scratch());
    let mut codecs = BTreeSet::new();
    let mut next_offset = 0;
    for line in dump.lines() {
        if let Some(codec) =
            field(line, "compresscodec: ").filter(|_| line.starts_with("baseOffset: "))
        {
            assert!(line.contains("isvalid: true"), "{line}");
            assert_eq!(
                field(line, "baseOffset: "),
                Some(next_offset.to_string().as_str()),
                "{line}"
            );
            codecs.insert(codec.to_lowercase());
        } else if line.starts_with("| offset: ") {
            assert_eq!(field(line, "| offset: "), Some(next_offset.to_string().as_str()), "{line}");
            let (_, payload) = line.split_once(" payload: ").expect("a value");
            assert_eq!(payload, values[next_offset], "offset {next_offset}");
            next_offset += 1;
        } else {
            let known = ["Dumping ", "Log starting offset: "];
            assert!(known.iter().any(|start| line.starts_with(start)), "unexpected: {line}");
        }
    }
    let open_base = open.file_stem().and_then(|name| name.to_str()?.parse().ok());
    assert_eq!(
        Some(next_offset),
        open_base,
        "the open segment continues where the sealed ones end"
    );
    assert_eq!(codecs, CODECS.map(str::to_owned).into());
}

/// One line each, as the dump tool prints them.
fn values(scratch: &Path) -> Vec<String> {
    let count = CODECS.len() * RECORDS_PER_CODEC;
    let values: Vec<String> =
        index(scratch).into_iter().take(count).map(|(_, value)| value.replace('\n', "~")).collect();
    assert_eq!(values.len(), count, "the package index is too short");
    values
}

fn produce(server: &Server, topic: &str, codec: &str, lines: &[String]) {
    let file = server.scratch().join("lines");
    fs::write(&file, lines.join("\n") + "\n").expect("a file");
    let mut kcat = Command::new("kcat");
    kcat.args(["-b", server.address(), "-P", "-t", topic, "-p", "0", "-z", codec]);
    kcat.args(["-X", "enable.idempotence=true", "-l"]).arg(&file);
    run_ok(kcat, server.scratch());
}

/// The partition's segment files, in order: `DATA/topics/TOPIC-0.ID/*.log`.
fn segments(data: &Path, topic: &str) -> Vec<PathBuf> {
    let partition = format!("{topic}-0");
    let directories = [data.join("topics"), data.to_owned()];
    let entries =
        directories.iter().find_map(|dir| fs::read_dir(dir).ok()).expect("a data directory");
    let is_it = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix(&partition).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let directory =
        entries.flatten().map(|entry| entry.path()).find(is_it).expect("the partition's directory");
    let files = fs::read_dir(directory).expect("a directory").flatten().map(|entry| entry.path());
    let mut logs: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|e| e == "log")).collect();
    logs.sort();
    logs
}

fn dump(segments: &[PathBuf], scratch: &Path) -> String {
    let files: Vec<String> = segments.iter().map(|file| file.display().to_string()).collect();
    let mut java = Command::new("java");
    java.arg("-cp").arg(installed("kafka").join("*")).arg("org.apache.kafka.tools.DumpLogSegments");
    java.args(["--deep-iteration", "--print-data-log", "--files", &files.join(",")]);
    String::from_utf8(run_ok(java, scratch)).expect("the index is text")
}

/// The word after `name` in a line of `name: value` pairs.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_once(name)?.1.split(' ').next()
}
