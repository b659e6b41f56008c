//! Disks of a cluster's brokers that fail, decay and are lost, one broker at a time: others go on, what
//! was acknowledged is there, and in the end everybody has it again, byte for byte.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests fail, and what a broker says as it panics belongs to their output"
)]

mod decay;
mod failing;
#[allow(dead_code, reason = "topics are created with replicas here")]
#[path = "../client/load.rs"]
mod load;
#[path = "../cluster/nodes.rs"]
mod nodes;
#[path = "../crash/process.rs"]
mod process;
#[path = "../cluster/running.rs"]
mod running;
#[allow(dead_code, reason = "each test binary uses its part")]
#[path = "../faults/strace.rs"]
mod strace;

use std::path::{Path, PathBuf};
use std::time::Duration;

use nodes::{Nodes, is_whole, until};
use running::{Load, PARTITIONS, TOPIC, create_with, go_without_each};
use sawlog_client::Client;
use tokio::time::{Instant, sleep};

/// Longest wait for anything; only what is broken takes that long.
const DEADLINE: Duration = Duration::from_secs(90);

/// A topic of small segments with three replicas, all of them in sync.
async fn create(client: &Client) {
    let small = ("segment.bytes".to_owned(), "16384".to_owned());
    create_with(client, 3, &[small]).await;
    until(client, TOPIC, "three replicas in sync", |_, topic| is_whole(topic)).await;
}

/// Where a broker has a partition of [`TOPIC`].
fn partition_of(cluster: &mut Nodes, id: i32, partition: i32) -> Option<PathBuf> {
    let prefix = format!("{TOPIC}-{partition}.");
    let named = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with(&prefix))
    };
    cluster.directories(id).iter().find_map(|directory| {
        let entries = std::fs::read_dir(directory.join("topics")).ok()?;
        entries.flatten().map(|entry| entry.path()).find(named)
    })
}

/// The segments of a partition's directory that are full and complete, by name.
fn full_segments(directory: &Path) -> Vec<PathBuf> {
    let mut full: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .filter(|path| path.with_extension("index").exists())
        .collect();
    full.sort_unstable();
    full
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(20)).await;
    }
}
