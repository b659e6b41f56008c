//! A load on a topic of a cluster of real processes, while things happen to its brokers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sawlog_client::{Client, NewTopic, Producer, ProducerOptions};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::load::{Written, write};
use super::nodes::{Nodes, all_vote, is_whole, until};

pub(crate) const TOPIC: &str = "history";
pub(crate) const PARTITIONS: i32 = 6;

/// Makes [`TOPIC`].
pub(crate) async fn create_with(
    client: &Client,
    replication_factor: i16,
    configs: &[(String, String)],
) {
    let (partitions, validate_only) = (PARTITIONS, false);
    let topic = NewTopic { name: TOPIC, partitions, replication_factor, configs, validate_only };
    client.create_topic(&topic).await.expect("a new topic");
}

/// Kills these brokers, one after another: what the others have they have to have by themselves.
pub(crate) async fn go_without_each<const N: usize>(
    cluster: &mut Nodes,
    client: &Client,
    load: &Load,
    ids: [i32; N],
) {
    for id in ids {
        cluster.kill(id);
        load.progress().await;
        tokio::task::block_in_place(|| cluster.restart(id));
        until(client, TOPIC, "in sync again", |_, topic| is_whole(topic)).await;
        all_vote(client).await;
    }
}

/// A load that goes on until it is told to end.
pub(crate) struct Load {
    over: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    written: JoinHandle<Written>,
}

impl Load {
    pub(crate) fn start(client: &Client) -> Self {
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
    pub(crate) async fn progress(&self) {
        let before = self.sent.load(Ordering::Relaxed);
        while self.sent.load(Ordering::Relaxed) < before + 20_000 {
            assert!(!self.written.is_finished(), "the load goes on");
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn end(self) -> Written {
        self.over.store(true, Ordering::Relaxed);
        let written = self.written.await.expect("no panic");
        assert_eq!(written.failures(), 0, "everything is confirmed in the end");
        written
    }
}
