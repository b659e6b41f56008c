//! Clusters of real processes, killed, stopped, wiped and left by their brokers under load: what was
//! acknowledged is there, once, in order, and everybody has it again in the end.
//!
//! `SAWLOG_CLUSTER_ROUNDS` makes it longer.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "what a broker says as it panics belongs to the test's output"
)]

mod cut_off;
mod ends;
mod growing;
mod heard;
#[allow(dead_code, reason = "topics are created with replicas here")]
#[path = "../client/load.rs"]
mod load;
mod nodes;
#[path = "../crash/process.rs"]
mod process;
mod refusals;
mod tls;
#[path = "../crash/wire.rs"]
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use load::{Written, check, write};
use nodes::{Nodes, all_vote, is_whole, until};
use sawlog_client::{Client, NewTopic, Producer, ProducerOptions};
use tokio::task::JoinHandle;
use tokio::time::sleep;

const TOPIC: &str = "history";
const PARTITIONS: i32 = 6;

fn rounds() -> u64 {
    let rounds = std::env::var("SAWLOG_CLUSTER_ROUNDS").ok();
    rounds.and_then(|text| text.parse().ok()).unwrap_or(1)
}

async fn create(client: &Client, replication_factor: i16) {
    let (partitions, validate_only) = (PARTITIONS, false);
    let topic =
        NewTopic { name: TOPIC, partitions, replication_factor, configs: &[], validate_only };
    client.create_topic(&topic).await.expect("a new topic");
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
        let written = self.written.await.expect("no panic");
        assert_eq!(written.failures(), 0, "everything is confirmed in the end");
        written
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_brokers_share_a_topic_and_any_of_them_takes_requests_for_the_cluster() {
    let cluster = Nodes::start(3).await;
    let client = cluster.client_at(3).await;
    create(&client, -1).await;
    let topic = until(&client, TOPIC, "three replicas in sync", |_, topic| is_whole(topic)).await;
    for one in &topic.partitions {
        assert_eq!(one.replicas.len(), 3, "{one:?}");
    }
    let mut leads: Vec<i32> = topic.partitions.iter().map(|one| one.leader).collect();
    leads.sort_unstable();
    assert_eq!(leads, [1, 1, 2, 2, 3, 3], "leaders take turns");
    let load = Load::start(&client);
    load.progress().await;
    let written = load.end().await;
    check(&client, TOPIC, PARTITIONS, &written).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_each_broker_under_load_loses_doubles_and_reorders_nothing() {
    let mut cluster = Nodes::start(3).await;
    let client = cluster.client().await;
    create(&client, 3).await;
    let load = Load::start(&client);
    load.progress().await;
    for round in 0..rounds() {
        for id in 1..=3 {
            cluster.kill(id);
            let what = format!("round {round}: others lead what broker {id} led");
            until(&client, TOPIC, &what, |_, topic| {
                let leaders = topic.partitions.iter().map(|one| one.leader);
                leaders.into_iter().all(|leader| leader >= 0 && leader != id)
            })
            .await;
            load.progress().await;
            tokio::task::block_in_place(|| cluster.restart(id));
            let what = format!("round {round}: broker {id} is in sync again");
            until(&client, TOPIC, &what, |_, topic| is_whole(topic)).await;
            all_vote(&client).await;
        }
    }
    let written = load.end().await;
    check(&client, TOPIC, PARTITIONS, &written).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_stopped_beyond_its_session_comes_back_as_a_follower() {
    let mut cluster = Nodes::start(3).await;
    let client = cluster.client().await;
    create(&client, 3).await;
    let load = Load::start(&client);
    load.progress().await;
    for id in [2, 1] {
        cluster.signal(id, "-STOP");
        let what = format!("others lead what broker {id} led");
        until(&client, TOPIC, &what, |_, topic| {
            topic.partitions.iter().all(|one| one.leader >= 0 && one.leader != id)
        })
        .await;
        load.progress().await;
        cluster.signal(id, "-CONT");
        let what = format!("broker {id} is in sync again");
        until(&client, TOPIC, &what, |_, topic| is_whole(topic)).await;
        all_vote(&client).await;
    }
    let written = load.end().await;
    check(&client, TOPIC, PARTITIONS, &written).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_stopped_one_after_another_hand_over_and_take_back_what_they_led() {
    let mut cluster = Nodes::start(3).await;
    let client = cluster.client().await;
    create(&client, 3).await;
    let load = Load::start(&client);
    load.progress().await;
    for id in [3, 2, 1] {
        let is_clean = tokio::task::block_in_place(|| cluster.terminate(id));
        assert!(is_clean, "broker {id} stops cleanly");
        load.progress().await;
        tokio::task::block_in_place(|| cluster.restart(id));
        let what = format!("broker {id} leads again what it is the first replica of");
        until(&client, TOPIC, &what, |_, topic| {
            let first =
                |one: &sawlog_client::PartitionInfo| one.replicas.first() == Some(&one.leader);
            is_whole(topic) && topic.partitions.iter().all(first)
        })
        .await;
        all_vote(&client).await;
    }
    let written = load.end().await;
    check(&client, TOPIC, PARTITIONS, &written).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_a_new_disk_gets_everything_again() {
    let mut cluster = Nodes::start(3).await;
    let client = cluster.client().await;
    create(&client, 3).await;
    let load = Load::start(&client);
    load.progress().await;
    cluster.kill(3);
    cluster.wipe(3);
    load.progress().await;
    tokio::task::block_in_place(|| cluster.restart(3));
    until(&client, TOPIC, "broker 3 is in sync again", |_, topic| is_whole(topic)).await;
    // The new disk votes in place of the old one, or two of three could not go without a third.
    all_vote(&client).await;
    assert!(cluster.data(3).join("meta").exists());
    // What it has now it has to have by itself.
    for id in [1, 2] {
        cluster.kill(id);
        load.progress().await;
        tokio::task::block_in_place(|| cluster.restart(id));
        until(&client, TOPIC, "in sync again", |_, topic| is_whole(topic)).await;
        all_vote(&client).await;
    }
    let written = load.end().await;
    check(&client, TOPIC, PARTITIONS, &written).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_killed_as_a_whole_has_everything_when_it_is_back() {
    let mut cluster = Nodes::start(3).await;
    let client = cluster.client().await;
    create(&client, 3).await;
    let load = Load::start(&client);
    load.progress().await;
    for id in 1..=3 {
        cluster.kill(id);
    }
    // None of them is ready before there are two.
    tokio::task::block_in_place(|| cluster.restart_all());
    until(&client, TOPIC, "all are in sync again", |_, topic| is_whole(topic)).await;
    load.progress().await;
    let written = load.end().await;
    check(&client, TOPIC, PARTITIONS, &written).await;
}
