//! The binary as a person uses it: right and wrong, with the exit codes scripts go by.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bench;
mod cluster;
mod dev;
mod doctor;
mod groups;
mod nodes;
mod records;
mod setup;
mod support;
mod topics;

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::Stdio;

use support::{Broker, assert_fails, free_address, path, sawlog, serve_fails, stderr};

#[test]
fn lines_go_in_and_come_out_by_key_and_format() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "fruit", "-p", "3"], b"");
    broker.ok(
        &["produce", "fruit", "-k", ":", "-H", "from:test"],
        b"a:apple\nb:pear\na:plum\nbare\n",
    );
    let mut lines: Vec<String> = broker
        .ok(&["consume", "fruit", "-e", "-f", "%k=%v %h\\n"], b"")
        .lines()
        .map(str::to_owned)
        .collect();
    let (apple, plum) = ("a=apple from=test".to_owned(), "a=plum from=test".to_owned());
    let at = |line: &String| lines.iter().position(|known| known == line).unwrap();
    assert!(at(&apple) < at(&plum), "order within a key");
    lines.sort();
    assert_eq!(lines, ["=bare from=test".to_owned(), apple, plum, "b=pear from=test".to_owned()]);
}

#[test]
fn ranges_counts_and_json_round_trips() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "n"], b"");
    let numbers: String = (0..100).map(|n| format!("{n}\n")).collect();
    broker.ok(&["produce", "n", "-z", "zstd"], numbers.as_bytes());
    assert_eq!(broker.ok(&["consume", "n", "-e"], b""), numbers);
    assert_eq!(broker.ok(&["consume", "n", "-o", "-2", "-e"], b""), "98\n99\n");
    assert_eq!(broker.ok(&["consume", "n", "-o", "5:8"], b""), "5\n6\n7\n");
    assert_eq!(broker.ok(&["consume", "n", "-o", "+97", "-n", "1"], b""), "97\n");
    assert_eq!(broker.ok(&["consume", "n", "-o", "@1h", "-n", "1"], b""), "0\n");

    broker.ok(&["topic", "create", "copy"], b"");
    let dumped = broker.ok(&["consume", "n", "-e", "-f", "json"], b"");
    broker.ok(&["produce", "copy", "-f", "json"], dumped.as_bytes());
    let copied = broker.ok(&["consume", "copy", "-e", "-f", "json"], b"");
    assert_eq!(copied, dumped.replace("\"topic\":\"n\"", "\"topic\":\"copy\""));
}

#[test]
fn topics_are_described_altered_and_deleted() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t", "-p", "2", "-c", "retention.ms=3600000"], b"");
    let list = broker.ok(&["topic", "list", "-o", "json"], b"");
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list[0]["name"], "t");
    assert_eq!(list[0]["partitions"], 2);
    broker
        .ok(&["topic", "alter", "t", "-s", "flush.mode=os", "-d", "retention.ms", "-p", "4"], b"");
    let configs = broker.ok(&["topic", "describe", "t", "--configs"], b"");
    assert!(configs.contains("flush.mode\tos\ttopic\n"), "{configs}");
    assert!(configs.contains("retention.ms\t604800000\tdefault\n"), "{configs}");
    assert_eq!(broker.ok(&["topic", "describe", "t"], b"").lines().count(), 4);
    broker.fails(&["topic", "delete", "t"], 2, "--yes");
    broker.ok(&["topic", "delete", "t", "--yes"], b"");
    assert_eq!(broker.ok(&["topic", "list"], b""), "");
}

#[test]
fn old_records_are_trimmed_to_an_offset_a_time_and_the_end() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t", "-p", "2"], b"");
    let lines = |from: i32| (from..from + 10).map(|n| format!("{n}\n")).collect::<String>();
    broker.ok(&["produce", "t", "-p", "0"], lines(0).as_bytes());
    broker.ok(&["produce", "t", "-p", "1"], lines(10).as_bytes());
    let first_offsets = || {
        let described = broker.ok(&["topic", "describe", "t", "-o", "json"], b"");
        let rows: serde_json::Value = serde_json::from_str(&described).unwrap();
        [0, 1].map(|at| rows[at]["first_offset"].as_i64().unwrap())
    };

    let dry = broker.ok(&["topic", "trim", "t", "--to", "3", "--dry-run"], b"");
    assert_eq!(dry, "0\t3\t10\t3\t\n1\t3\t10\t3\t\n");
    assert_eq!(first_offsets(), [0, 0], "a dry run deletes nothing");
    broker.fails(&["topic", "trim", "t", "--to", "3"], 2, "--yes");
    assert_eq!(first_offsets(), [0, 0], "nothing without being told so");

    broker.ok(&["topic", "trim", "t", "--to", "3", "-p", "1", "-y"], b"");
    assert_eq!(first_offsets(), [0, 3]);
    broker.ok(&["topic", "trim", "t", "--to", "-6", "-y"], b"");
    assert_eq!(first_offsets(), [4, 4], "the last six are kept");
    broker.ok(&["topic", "trim", "t", "--to", "2", "-y"], b"");
    assert_eq!(first_offsets(), [4, 4], "what is gone is gone");
    broker.ok(&["topic", "trim", "t", "--to", "@1h", "-y"], b"");
    assert_eq!(first_offsets(), [4, 4], "nothing is older than an hour");
    assert_eq!(broker.ok(&["consume", "t", "-p", "0", "-e"], b""), "4\n5\n6\n7\n8\n9\n");

    broker.ok(&["produce", "t", "-p", "0"], b"more\n");
    let beyond = broker.run(&["topic", "trim", "t", "--to", "11", "-y"], b"");
    assert_eq!(beyond.status.code(), Some(7), "one of two: {}", stderr(&beyond));
    assert!(stderr(&beyond).contains("1 of 2 partitions"), "{}", stderr(&beyond));
    assert_eq!(first_offsets(), [11, 4], "the other is trimmed");
    broker.ok(&["topic", "trim", "t", "--to", "end", "-y"], b"");
    assert_eq!(first_offsets(), [11, 10]);
    assert_eq!(broker.ok(&["consume", "t", "-e"], b""), "");
    broker.fails(&["topic", "trim", "tt", "--to", "end", "-y"], 3, "does not exist");
    broker.fails(&["topic", "trim", "t", "--to", "end", "-p", "5", "-y"], 3, "no partition 5");
    let beyond = broker.run(&["topic", "trim", "t", "--to", "99", "-p", "0", "-y"], b"");
    assert_eq!(beyond.status.code(), Some(6));
    assert!(stderr(&beyond).contains("beyond the end"), "{}", stderr(&beyond));
    for wrong in [&["topic", "trim", "t", "-y"][..], &["topic", "trim", "t", "--to", "soon", "-y"]]
    {
        let output = broker.run(wrong, b"");
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", stderr(&output));
    }
}

#[test]
fn mistakes_are_named_with_their_exit_code() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "orders"], b"");
    broker.fails(&["consume", "ordrs", "-e"], 3, "did you mean \"orders\"?");
    broker.fails(&["topic", "describe", "nothing-like-it"], 3, "does not exist");
    broker.fails(&["topic", "create", "orders"], 6, "exists");
    broker.fails(&["topic", "create", "a/b"], 2, "a/b");
    broker.fails(&["topic", "create", "x", "-c", "retention.mss=1"], 2, "retention.ms");
    broker.fails(&["topic", "create", "x", "-r", "3"], 2, "INVALID_REPLICATION_FACTOR");
    broker.fails(&["topic", "alter", "orders", "-p", "1"], 2, "INVALID_PARTITIONS");
    broker.fails(&["consume", "orders", "-p", "7", "-e"], 3, "no partition 7");
    broker.fails(&["produce", "orders", "/no/such/file"], 3, "/no/such/file");
    broker.fails(&["produce", "orders", "-p", "99"], 3, "no partition 99");
    broker.fails(&["cat", "-P", "-t", "orders", "-p", "99"], 3, "no partition 99");
    broker.fails(&["cluster", "config", "--broker", "9"], 3, "no broker 9");
    broker.fails(&["-b", "localhost", "topic", "list"], 2, "\"localhost\" is no address");
    for (wrong, says) in [
        (["consume", "orders", "-o", "5:3"], "ends before it begins"),
        (["topic", "create", "x", "-pthree"], "expected a whole number"),
        (["bench", "produce", "--rate", "fast"], "expected a whole number"),
        (["produce", "orders", "-f", "xml"], "expected lines, json, file, or verbs"),
    ] {
        let output = broker.run(&wrong, b"");
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{wrong:?}: {}", stderr(&output));
    }
    let nobody = sawlog().args(["-b", &free_address(), "topic", "list"]).output().unwrap();
    assert_fails(&nobody, 5, "sawlog serve");
}

#[test]
fn a_broker_that_cannot_start_says_why_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_address = taken.local_addr().unwrap().to_string();
    let data = tempfile::tempdir().unwrap();
    let own = data.path().join("data");
    let free = free_address();
    serve_fails(&["--data", path(&own), "--listen", &taken_address], 1, "another process");

    let file = data.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let below = file.join("data");
    serve_fails(&["--data", path(&below), "--listen", &free], 1, "cannot use data directory");
    serve_fails(&["--data", path(data.path()), "--listen", &free], 1, "holds other files");
    serve_fails(&["-X", "log.segment.byts=1", "--data", path(&own)], 2, "log.segment.bytes");
    serve_fails(&["-X", "num.partitions=many", "--data", path(&own)], 2, "num.partitions");
    serve_fails(&["--listen", "nonsense", "--data", path(&own)], 2, "host:port");

    serve_fails(&["--listen", "0.0.0.0:0", "--data", path(&own)], 2, "--insecure");

    let config = data.path().join("sawlog.toml");
    std::fs::write(&config, "\"log.retention.hous\" = 3\n").unwrap();
    serve_fails(&["-c", path(&config), "--data", path(&own)], 2, "log.retention.hours");
}

#[test]
fn an_exposed_listener_is_a_choice_and_said() {
    let data = tempfile::tempdir().unwrap();
    let mut child = sawlog()
        .args(["serve", "--insecure", "--listen", "0.0.0.0:0"])
        .args(["--advertise", "127.0.0.1:9092", "--data", path(&data.path().join("data"))])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let warned = said.take_while(|line| !line.contains(" next ")).any(|line| {
        line.contains("WARNING") && line.contains("whoever reaches it may do everything")
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(warned);
}

#[test]
fn a_data_directory_belongs_to_one_broker_of_one_cluster() {
    let mut first = Broker::start();
    let own = first.directory();
    serve_fails(&["--data", path(&own), "--listen", &free_address()], 1, "in use");
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    serve_fails(
        &[
            "--data",
            path(&own),
            "--listen",
            &free_address(),
            "-X",
            "cluster.id=AAAAAAAAAAAAAAAAAAAAAQ",
        ],
        1,
        "belongs to cluster",
    );
    serve_fails(
        &["--data", path(&own), "--listen", &free_address(), "-X", "node.id=7"],
        1,
        "belongs to node",
    );
}

#[test]
fn a_segment_is_dumped_and_damage_found() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t"], b"");
    broker.ok(&["produce", "t", "-k", "="], b"k=one\nk=two\n");
    let topics = broker.directory().join("topics");
    let directory = std::fs::read_dir(&topics).unwrap().next().unwrap().unwrap().path();
    let records = broker.ok(&["log", "dump", "-r", path(&directory)], b"");
    assert_eq!(records.lines().filter(|line| line.contains("\tk\t")).count(), 2, "{records}");
    let copy = broker.data.path().join("copy.log");
    let mut bytes = std::fs::read(directory.join("00000000000000000000.log")).unwrap();
    bytes[70] ^= 1;
    std::fs::write(&copy, bytes).unwrap();
    let output = broker.run(&["log", "dump", path(&copy)], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("damaged at byte 0"), "{}", stderr(&output));
}

#[test]
fn a_data_directory_is_verified_beside_a_broker_and_mended_without_one() {
    let mut broker = Broker::start();
    broker.ok(&["topic", "create", "t", "-c", "segment.bytes=4096"], b"");
    for _ in 0..5 {
        broker.ok(&["produce", "t"], &[b'v'; 3000]);
    }
    let data = broker.directory();
    broker.ok(&["log", "verify", path(&data)], b"");
    broker.fails(&["log", "repair-index", path(&data)], 6, "stop it first");
    broker.child.kill().unwrap();
    broker.child.wait().unwrap();

    let topics = data.join("topics");
    let directory = std::fs::read_dir(&topics).unwrap().next().unwrap().unwrap().path();
    let log = directory.join("00000000000000000000.log");
    std::fs::remove_file(log.with_extension("index")).unwrap();
    let run = |arguments: &[&str]| {
        let output = sawlog().args(arguments).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), printed, stderr(&output))
    };
    let (code, printed, said) = run(&["log", "verify", path(&directory)]);
    assert_eq!(code, Some(1), "{printed}{said}");
    assert!(printed.contains("00000000000000000000.index: "), "{printed}");
    let (code, printed, said) = run(&["log", "repair-index", path(&data)]);
    assert_eq!((code, printed.contains("rebuilt: ")), (Some(0), true), "{printed}{said}");
    let (code, printed, said) = run(&["log", "verify", path(&data)]);
    assert_eq!((code, &printed[..]), (Some(0), ""), "{said}");
    assert!(said.contains("ok: 5 batches in 5 segments of 1 partition"), "{said}");

    let mut bytes = std::fs::read(&log).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let (code, printed, said) = run(&["log", "verify", path(&data)]);
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(printed.lines().count(), 1, "{printed}");
    assert!(printed.contains(path(&log)) && printed.contains("offsets 0 to 0"), "{printed}");
    std::fs::remove_file(log.with_extension("index")).unwrap();
    let (code, printed, said) = run(&["log", "repair-index", path(&data)]);
    assert_eq!(code, Some(7), "{printed}{said}");
    assert!(printed.contains("quarantined: offsets 0 to 0"), "{printed}");
    let (code, ..) = run(&["log", "verify", path(&data.join("topics/none"))]);
    assert_eq!(code, Some(3));
}

#[test]
fn completions_and_version_print() {
    let output = sawlog().args(["completion", "bash"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("_sawlog"));
    let output = sawlog().args(["version", "--json"]).output().unwrap();
    let version: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
}
