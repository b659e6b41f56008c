//! Data that is not in memory is waited for by threads that serve nobody else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{BrokerProcess, free_address};
use super::wire::Wire;
use super::{create_topic, fetch, produce};

const RECORDS: i64 = 120;
const RECORD_BYTES: usize = 900_000;

/// Major page faults of the broker's threads so far, by name: each was a wait for the disk.
fn major_faults(broker: &BrokerProcess) -> BTreeMap<String, u64> {
    let mut faults = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{}/task", broker.pid())).unwrap() {
        // A thread may end at any moment.
        let Ok(stat) = fs::read_to_string(task.unwrap().path().join("stat")) else { continue };
        let (head, rest) = stat.rsplit_once(')').unwrap();
        let name = head.split_once('(').unwrap().1.to_owned();
        let count: u64 = rest.split_whitespace().nth(9).unwrap().parse().unwrap();
        *faults.entry(name).or_default() += count;
    }
    faults
}

fn of_serving_threads(faults: &BTreeMap<String, u64>) -> u64 {
    faults.iter().filter(|(name, _)| name.starts_with("net-")).map(|(_, count)| count).sum()
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in fs::read_dir(data.join("topics")).unwrap() {
        for file in fs::read_dir(directory.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|suffix| suffix == "log" || suffix == "index") {
                found.push(path);
            }
        }
    }
    found
}

/// Has the kernel drop what it holds of a file in memory. Returns whether it knows how to say so.
fn evict(path: &Path) -> bool {
    File::open(path).unwrap().sync_all().unwrap();
    // POSIX_FADV_DONTNEED on the whole file.
    let done = Command::new("dd")
        .arg(format!("if={}", path.display()))
        .args(["iflag=nocache", "count=0", "status=none"])
        .status();
    done.is_ok_and(|status| status.success())
}

/// Reads all records, with a fetch of new data beside each.
fn read_all(broker: &BrokerProcess) {
    let mut consumer = Wire::connect(broker.address()).unwrap();
    let mut other = Wire::connect(broker.address()).unwrap();
    let hot = produce(&mut other, 0, b"hot");
    let mut offset = 0;
    while offset < RECORDS {
        let batches = fetch(&mut consumer, 0, offset, 1 << 20);
        for (header, bytes) in &batches {
            let expected = u8::try_from(header.base_offset % 251).unwrap();
            let whole = header.base_offset >= RECORDS || bytes[bytes.len() - 2] == expected;
            assert!(whole, "offset {}", header.base_offset);
        }
        offset = batches.last().unwrap().0.next_offset();
        // Served by the one thread there is.
        assert_eq!(fetch(&mut other, 0, hot, 1 << 20).len(), 1);
    }
}

#[test]
fn a_cold_fetch_makes_no_thread_wait_that_serves_connections() {
    let data = tempfile::tempdir().unwrap();
    let start =
        || BrokerProcess::start(data.path(), free_address(), &["-X", "num.network.threads=1"]);
    let broker = start();
    let mut wire = Wire::connect(broker.address()).unwrap();
    create_topic(&mut wire, 1, &[("segment.bytes", "16777216")]);
    for n in 0..RECORDS {
        produce(&mut wire, 0, &vec![u8::try_from(n % 251).unwrap(); RECORD_BYTES]);
    }
    assert!(broker.terminate());

    // Twice: the first time the broker's own code may have to be read from disk, too. A new process
    // has nothing mapped, so that all of the log can be dropped.
    for last in [false, true] {
        let broker = start();
        if !segments(data.path()).iter().all(|path| evict(path)) {
            eprintln!("skipped: dd cannot drop files from the page cache here");
            return;
        }
        let before = major_faults(&broker);
        read_all(&broker);
        let after = major_faults(&broker);
        assert!(broker.terminate());
        let serving = of_serving_threads(&after) - of_serving_threads(&before);
        let all = after.values().sum::<u64>() - before.values().sum::<u64>();
        if all == 0 {
            eprintln!("skipped: this file system keeps its files in memory");
            return;
        }
        // Some may be the broker's own code: the machine reclaims that, too.
        let none = serving * 10 <= all;
        assert!(!last || none, "{serving} of {all} waits, before {before:?}, after {after:?}");
    }
}
