//! Several data directories: partitions spread over them, found again, and one that fails alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use sawlog_protocol::ErrorCode;
use sawlog_tests::http;
use serde_json::Value;

use super::broker::{Broker, Options};
use super::client::{Client, LogDir, TOPIC};
use super::history::{End, History};
use super::strace::{self, Strace};
use super::{create_topic, not_run};

pub(crate) fn options(directories: &[&Path]) -> Options {
    let data = directories.iter().map(|directory| directory.to_path_buf()).collect();
    Options { data, settings: Vec::new(), open_files_max: None }
}

pub(crate) fn log_dirs(broker: &Broker) -> Vec<LogDir> {
    Client::connect(broker.address()).unwrap().log_dirs().unwrap()
}

/// The active segment of a partition of [`TOPIC`].
fn segment(directory: &Path, partition: i32) -> PathBuf {
    segment_of(directory, TOPIC, partition)
}

/// A partition's active segment.
pub(crate) fn segment_of(directory: &Path, topic: &str, partition: i32) -> PathBuf {
    let topics = std::fs::read_dir(directory.join("topics")).unwrap().flatten();
    let prefix = format!("{topic}-{partition}.");
    let of_partition = topics
        .map(|entry| entry.path())
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&prefix));
    let files = std::fs::read_dir(of_partition.unwrap()).unwrap().flatten();
    files
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .max()
        .unwrap()
}

#[test]
fn partitions_are_spread_and_found_wherever_they_are() {
    let scratch = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| scratch.path().join(name));
    let mut broker = Broker::start(&options(&[&a, &b]));
    create_topic(&broker, 8, "65536");
    let mut history = History::default();
    assert_eq!(history.write(broker.address(), 0..8, 80, 20_000), End::Done);
    let before = log_dirs(&broker);
    assert_eq!(before.iter().map(|dir| Path::new(&dir.path)).collect::<Vec<_>>(), [&a, &b]);
    for dir in &before {
        assert_eq!((dir.error, dir.partitions.len()), (ErrorCode::NONE, 4), "{before:?}");
        assert!(dir.total_bytes >= dir.usable_bytes && dir.usable_bytes > 0, "{dir:?}");
        for (_, partition, size) in &dir.partitions {
            assert!((200_000..210_000).contains(size), "partition {partition}: {size} bytes");
            assert!(segment(Path::new(&dir.path), *partition).exists());
        }
    }
    broker.kill();
    let mut broker = Broker::start(&options(&[&b, &a]));
    history.verify(broker.address());
    let after = log_dirs(&broker);
    assert_eq!(after[0].partitions, before[1].partitions);
    assert_eq!(after[1].partitions, before[0].partitions);
    assert!(broker.terminate(), "{}", broker.said());
}

#[test]
fn a_start_without_one_of_the_directories_is_refused_until_it_is_given_up() {
    let scratch = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| scratch.path().join(name));
    let mut broker = Broker::start(&options(&[&a, &b]));
    create_topic(&broker, 2, "65536");
    let mut history = History::default();
    assert_eq!(history.write(broker.address(), 0..2, 4, 100), End::Done);
    let lost = log_dirs(&broker)[1].partitions[0].1;
    assert!(broker.terminate(), "{}", broker.said());
    for (given, words) in [(&a, "log.dirs.allow.missing"), (&b, "metadata is missing")] {
        let mut refused = Broker::spawn(&options(&[given]));
        assert!(!refused.wait().success());
        assert!(refused.said().contains(words), "{}", refused.said());
    }
    let mut broker = Broker::start(&options(&[&a]).set("log.dirs.allow.missing=true"));
    let mut client = Client::connect(broker.address()).unwrap();
    assert_eq!(client.read_from(TOPIC, lost, 0).unwrap(), Ok(Vec::new()), "it begins empty");
    assert_eq!(client.read_from(TOPIC, 1 - lost, 0).unwrap().unwrap().len(), 2);
    assert!(broker.terminate());
    // Given up once; the next start asks no more.
    let mut broker = Broker::start(&options(&[&a]));
    assert!(broker.terminate(), "{}", broker.said());
}

/// `sawlog topic describe` while a disk is offline.
fn describe_tells_what_is_reachable(broker: &Broker, offline: &Path) {
    let mut sawlog = Command::new(sawlog_tests::sawlog());
    sawlog.args(["topic", "describe", TOPIC, "--output", "jsonl"]);
    let told = sawlog.env("SAWLOG_BROKERS", broker.address().to_string()).output().unwrap();
    let said = String::from_utf8(told.stderr).unwrap();
    assert!(told.status.success(), "{said}");
    let rows: Vec<Value> = String::from_utf8(told.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 4);
    let known = |row: &&Value| row["end_offset"].is_u64() && row["bytes"].is_u64();
    let lost: Vec<String> = rows
        .iter()
        .filter(|row| !known(row))
        .inspect(|row| assert!(row["records"].is_null() && row["bytes"].is_null(), "{row}"))
        .map(|row| row["partition"].to_string())
        .collect();
    assert_eq!(lost.len(), 2, "{rows:?}");
    let which = format!("data directory {} is offline", offline.display());
    let copies = format!("on a disk that is offline: {}", lost.join(", "));
    assert!(said.contains(&which) && said.contains(&copies), "{said}");
}

#[test]
fn a_directory_that_fails_is_offline_and_the_others_go_on() {
    if let Err(why) = strace::check() {
        return not_run(&why);
    }
    for (call, error) in [("fdatasync", "EIO"), ("pwritev", "EIO"), ("pwritev", "ENOSPC")] {
        let scratch = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| scratch.path().join(name));
        let mut broker = Broker::start(&options(&[&a, &b]));
        create_topic(&broker, 4, "16777216");
        let mut history = History::default();
        assert_eq!(history.write(broker.address(), 0..4, 8, 100), End::Done);
        let of = |dir: &LogDir| dir.partitions.iter().map(|found| found.1).collect::<Vec<i32>>();
        let dirs = log_dirs(&broker);
        let (good, bad) = (of(&dirs[0]), of(&dirs[1]));
        let inject = format!("{call}:error={error}:when=2");
        let file = segment(&b, bad[0]);
        let injected = Strace::attach_at(broker.pid(), &inject, Some(&file)).unwrap();
        let end = history.write(broker.address(), bad[0]..bad[0] + 1, 10, 100);
        let storage_error = ErrorCode::KAFKA_STORAGE_ERROR;
        assert_eq!(end, End::Refused(storage_error), "{inject}: {}", broker.said());
        drop(injected);
        broker.wait_until_said("data directory is offline");
        let mut client = Client::connect(broker.address()).unwrap();
        for partition in bad {
            // Its neighbours, on which nothing failed, too.
            let end = history.write(broker.address(), partition..partition + 1, 1, 100);
            assert_eq!(end, End::Refused(storage_error));
            assert_eq!(client.fetch(TOPIC, partition, 0).unwrap().0, storage_error);
        }
        for partition in good {
            assert_eq!(
                history.write(broker.address(), partition..partition + 1, 5, 100),
                End::Done
            );
        }
        let ready = http::get(http::address_in(&broker.said()), "/readyz");
        let offline = format!("data directory {} is offline: ", b.display());
        assert_eq!((ready.status, ready.body.contains(&offline)), (503, true), "{ready:?}");
        let dirs = log_dirs(&broker);
        assert_eq!([dirs[0].error, dirs[1].error], [ErrorCode::NONE, storage_error]);
        assert!(dirs[1].partitions.is_empty());
        describe_tells_what_is_reachable(&broker, &b);
        // New topics go where they can.
        assert_eq!(client.create_topic("new", 3, &[]).unwrap(), ErrorCode::NONE);
        for partition in 0..3 {
            assert_eq!(client.produce("new", partition, &[b"v".to_vec()]).unwrap(), Ok(0));
        }
        assert!(broker.terminate(), "{}", broker.said());
        let mut broker = Broker::start(&options(&[&a, &b]));
        history.verify(broker.address());
        assert_eq!(history.write(broker.address(), 0..4, 8, 100), End::Done);
        broker.wait_until_said("/readyz");
        assert_eq!(http::get(http::address_in(&broker.said()), "/readyz").status, 200);
        assert!(broker.terminate(), "{}", broker.said());
    }
}
