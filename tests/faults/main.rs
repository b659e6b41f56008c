//! Real faults under a real broker: killed at chosen system calls, disks that fail or fill up, bits
//! that flip, too few descriptors. Nothing acknowledged is lost, nothing wrong is served, nothing
//! panics.
//!
//! Faults need tools and rights: strace to inject, root to mount. A test that lacks them says
//! "NOT RUN" and why; with `SAWLOG_FAULTS=required` that is a failure.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests fail and talk"
)]

mod broker;
mod client;
mod decay;
mod directories;
mod full;
mod full_groups;
#[path = "../crash/groups.rs"]
mod groups;
mod groups_offline;
mod history;
#[path = "../crash/process.rs"]
mod process;
mod strace;
#[path = "../crash/wire.rs"]
mod wire;

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use broker::{Broker, Options};
use client::{Client, TOPIC};
use history::{End, History};
use sawlog_protocol::ErrorCode;
use strace::Strace;

/// Whether a test whose tool is missing may pass.
fn not_run(why: &str) {
    // Not captured with what a passing test prints.
    let _gone = writeln!(std::io::stderr(), "NOT RUN: {why}");
    let required = std::env::var("SAWLOG_FAULTS").is_ok_and(|value| value == "required");
    assert!(!required, "SAWLOG_FAULTS=required: {why}");
}

/// Waits for what must come.
fn eventually(mut what: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !what() {
        assert!(Instant::now() < deadline, "it does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A topic whose segments are full after a few batches, so that rolls and seals are hit too.
fn create_topic(broker: &Broker, partitions: i32, segment_bytes: &str) {
    let mut client = Client::connect(broker.address()).unwrap();
    let created = client.create_topic(TOPIC, partitions, &[("segment.bytes", segment_bytes)]);
    assert_eq!(created.unwrap(), ErrorCode::NONE);
}

/// Writes to every partition from a thread of its own, so that syncs of several coincide.
fn write_all(broker: &Broker, histories: &mut [History], batches: usize) -> Vec<End> {
    let address = broker.address();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..)
            .zip(histories)
            .map(|(partition, history)| {
                scope.spawn(move || history.write(address, partition..partition + 1, batches, 3000))
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    })
}

fn verify_all(broker: &Broker, histories: &[History]) {
    histories.iter().for_each(|history| history.verify(broker.address()));
}

fn histories(partitions: usize) -> Vec<History> {
    (0..partitions).map(|_| History::default()).collect()
}

#[test]
fn nothing_acknowledged_is_lost_whatever_system_call_the_broker_dies_at() {
    if let Err(why) = strace::check() {
        return not_run(&why);
    }
    let data = tempfile::tempdir().unwrap();
    let options = Options::on(data.path());
    let mut broker = Broker::start(&options);
    create_topic(&broker, 6, "16384");
    let mut histories = histories(6);
    let mut reached = Vec::new();
    for point in [
        "pwritev:signal=KILL:when=1",
        "pwritev:signal=KILL:when=50",
        "fdatasync:signal=KILL:when=1",
        "fdatasync:signal=KILL:when=9",
        "syncfs:signal=KILL:when=1",
        "syncfs:signal=KILL:when=5",
        "fsync:signal=KILL:when=1",
        "fsync:signal=KILL:when=4",
        "ftruncate:signal=KILL:when=1",
        "ftruncate:signal=KILL:when=3",
        "fallocate:signal=KILL:when=1",
        "fallocate:signal=KILL:when=3",
        "rename,renameat,renameat2:signal=KILL:when=1",
        "rename,renameat,renameat2:signal=KILL:when=4",
    ] {
        let injected = Strace::attach(broker.pid(), point).unwrap();
        let ends = write_all(&broker, &mut histories, 300);
        if ends.iter().all(|end| *end == End::Done) {
            // Whether several partitions are dirty at once is a matter of timing.
            assert!(point.starts_with("syncfs"), "{point} was never reached");
            drop(injected);
            broker.kill();
        } else {
            assert_eq!(broker.wait().signal(), Some(9), "{point}");
            reached.push(point);
        }
        broker = Broker::start(&options);
        verify_all(&broker, &histories);
    }
    let acknowledged: usize = histories.iter().map(History::acknowledged).sum();
    println!("{} kill points reached, {acknowledged} batches acknowledged", reached.len());
    assert!(broker.terminate(), "{}", broker.said());
}

#[test]
fn a_failed_write_or_sync_stops_a_broker_with_one_directory_and_loses_nothing() {
    if let Err(why) = strace::check() {
        return not_run(&why);
    }
    for (point, partitions) in [
        ("fdatasync:error=EIO:when=1", 1),
        ("fdatasync:error=EIO:when=7", 2),
        ("pwritev:error=EIO:when=20", 1),
        ("fsync:error=EIO:when=1", 1),
        ("ftruncate:error=EIO:when=1", 1),
        ("syncfs:error=EIO:when=1", 8),
    ] {
        let data = tempfile::tempdir().unwrap();
        let options = Options::on(data.path());
        let mut broker = Broker::start(&options);
        create_topic(&broker, i32::try_from(partitions).unwrap(), "16384");
        let mut histories = histories(partitions);
        let ends = write_all(&broker, &mut histories, 3);
        assert!(ends.iter().all(|end| *end == End::Done), "{ends:?}");
        let injected = Strace::attach(broker.pid(), point).unwrap();
        let ends = write_all(&broker, &mut histories, 300);
        if !ends.contains(&End::Done) {
            let told = [End::Refused(ErrorCode::KAFKA_STORAGE_ERROR), End::Gone];
            assert!(ends.iter().all(|end| told.contains(end)), "{point}: {ends:?}");
            assert_eq!(broker.wait().code(), Some(8), "{point}: {}", broker.said());
            let said = broker.said();
            for words in ["data directory", "has failed", "start the broker again"] {
                assert!(said.contains(words), "{point}: no \"{words}\" in {said}");
            }
            assert!(said.contains(data.path().to_str().unwrap()), "it says where: {said}");
        } else {
            assert!(point.starts_with("syncfs"), "{point} was never reached: {ends:?}");
            broker.kill();
        }
        drop(injected);
        let mut broker = Broker::start(&options);
        verify_all(&broker, &histories);
        let ends = write_all(&broker, &mut histories, 3);
        assert!(ends.iter().all(|end| *end == End::Done), "it goes on after a restart: {ends:?}");
        assert!(broker.terminate(), "{}", broker.said());
    }
}

/// The files of partition 0 with this ending, by name.
fn files(data: &Path, suffix: &str) -> Vec<PathBuf> {
    let topics = std::fs::read_dir(data.join("topics")).unwrap().flatten();
    let partition = topics
        .map(|entry| entry.path())
        .find(|path| path.to_str().unwrap().contains(&format!("{TOPIC}-0.")))
        .unwrap();
    let mut found: Vec<PathBuf> = std::fs::read_dir(partition)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.to_str().unwrap().contains(suffix))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "files with {suffix}");
    found
}

/// Flips one bit in the middle of a file.
fn flip(path: &Path) {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let at = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    byte[0] ^= 0x10;
    file.write_all_at(&byte, at).unwrap();
}

#[test]
fn flipped_bits_beside_the_records_cost_nothing() {
    for suffix in [".index", ".timeindex", ".snapshot", "checkpoint-0", "checkpoint-1"] {
        for stop_cleanly in [true, false] {
            let data = tempfile::tempdir().unwrap();
            let options = Options::on(data.path());
            let mut broker = Broker::start(&options);
            create_topic(&broker, 1, "16384");
            let mut history = History::default();
            assert_eq!(history.write(broker.address(), 0..1, 40, 1500), End::Done);
            if stop_cleanly {
                assert!(broker.terminate());
            } else {
                broker.kill();
            }
            files(data.path(), suffix).iter().for_each(|path| flip(path));
            let mut broker = Broker::start(&options);
            history.verify(broker.address());
            assert_eq!(history.write(broker.address(), 0..1, 40, 1500), End::Done, "{suffix}");
            // Under its feet.
            files(data.path(), suffix).iter().for_each(|path| flip(path));
            history.verify(broker.address());
            assert!(broker.terminate(), "{}", broker.said());
        }
    }
}

#[test]
fn with_64_descriptors_writes_are_refused_and_nothing_is_lost() {
    let data = tempfile::tempdir().unwrap();
    let few = Options { open_files_max: Some(64), ..Options::on(data.path()) };
    let mut broker = Broker::start(&few);
    create_topic(&broker, 100, "16384");
    let mut history = History::default();
    let (mut done, mut refused) = (0, 0);
    for round in 0..3 {
        for partition in 0..100 {
            match history.write(broker.address(), partition..partition + 1, 2, 1500) {
                End::Done => done += 1,
                End::Refused(ErrorCode::KAFKA_STORAGE_ERROR) => refused += 1,
                other => panic!("round {round} partition {partition}: {other:?}"),
            }
        }
    }
    println!("{done} writes done, {refused} refused for want of descriptors");
    assert!(done > 0);
    history.verify(broker.address());
    assert!(broker.is_running());
    broker.kill();
    let mut broker = Broker::start(&Options::on(data.path()));
    history.verify(broker.address());
    assert_eq!(history.write(broker.address(), 0..100, 100, 10), End::Done);
    assert!(broker.terminate(), "{}", broker.said());
}
