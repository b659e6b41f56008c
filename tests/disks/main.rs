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
#[allow(dead_code, reason = "each test binary uses its part")]
#[path = "../faults/strace.rs"]
mod strace;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use load::{Written, write};
use nodes::{Nodes, is_whole, until};
use sawlog_client::{Client, NewTopic, Producer, ProducerOptions};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

const TOPIC: &str = "history";
const PARTITIONS: i32 = 6;

/// Longest wait for anything; only what is broken takes that long.
const DEADLINE: Duration = Duration::from_secs(90);

/// A topic of small segments with three replicas, all of them in sync.
async fn create(client: &Client) {
    let configs = [("segment.bytes".to_owned(), "16384".to_owned())];
    let (partitions, validate_only) = (PARTITIONS, false);
    let topic = NewTopic {
        name: TOPIC,
        partitions,
        replication_factor: 3,
        configs: &configs,
        validate_only,
    };
    client.create_topic(&topic).await.unwrap();
    until(client, TOPIC, "three replicas in sync", |_, topic| is_whole(topic)).await;
}

/// A load that goes on until it is told to end.
struct Load {
    over: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    written: JoinHandle<Written>,
}

impl Load {
    fn start(client: &Client) -> Self {
        let (over, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let options = ProducerOptions {
            batch_bytes: 2048,
            // Nothing is on its way for long: the next record waits for room, and so for the cluster.
            buffer_bytes: 64 * 1024,
            linger: Duration::from_millis(1),
            retry_backoff_max: Duration::from_millis(200),
            ..ProducerOptions::default()
        };
        let producer = Producer::new(client.clone(), options);
        let (stop, count) = (over.clone(), sent.clone());
        let written = tokio::spawn(async move {
            let is_over = |number| {
                count.store(number, Ordering::Relaxed);
                stop.load(Ordering::Relaxed)
            };
            write(&producer, TOPIC, PARTITIONS, is_over).await
        });
        Self { over, sent, written }
    }

    /// Waits until many more records were taken than fit into the producer: the cluster takes writes.
    async fn progress(&self) {
        let before = self.sent.load(Ordering::Relaxed);
        while self.sent.load(Ordering::Relaxed) < before + 20_000 {
            assert!(!self.written.is_finished(), "the load goes on");
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) -> Written {
        self.over.store(true, Ordering::Relaxed);
        let written = self.written.await.unwrap();
        assert_eq!(written.failures(), 0, "everything is confirmed in the end");
        written
    }
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
