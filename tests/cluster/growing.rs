//! Clusters that grow and shrink under load: nobody who uses them notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sawlog_client::{Assignment, Client, Consumer, Position};
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::sleep;

use crate::load::check;
use crate::nodes::{Nodes, is_whole, until, vote};
use crate::{Load, PARTITIONS, TOPIC, create};

/// A consumer that follows a topic, and fails at the first error or record out of order.
struct Follower {
    over: Arc<AtomicBool>,
    read: JoinHandle<u64>,
}

impl Follower {
    async fn start(client: &Client) -> Self {
        let assignment = |partition| Assignment {
            topic: TOPIC.to_owned(),
            partition,
            from: Position::Start,
            until: None,
        };
        let all: Vec<Assignment> = (0..PARTITIONS).map(assignment).collect();
        let mut consumer = Consumer::assign(client, &all).await.expect("partitions to read");
        let over = Arc::<AtomicBool>::default();
        let stop = over.clone();
        let read = tokio::spawn(async move {
            let mut count = 0;
            let mut next = vec![0; usize::try_from(PARTITIONS).expect("few")];
            while !stop.load(Ordering::Relaxed) {
                let records = consumer.poll(Duration::from_millis(100)).await;
                for record in records.expect("a consumer sees no error") {
                    let partition = usize::try_from(record.partition).expect("few");
                    assert_eq!(record.offset, next[partition], "of partition {partition}");
                    next[partition] += 1;
                    count += 1;
                }
            }
            count
        });
        Self { over, read }
    }

    async fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        assert!(self.read.await.expect("no error and no gap") > 0, "something was read");
    }
}

/// Who agrees on the metadata, looked at all the time: never an even number that was not asked for, and
/// the voters are there.
struct Watch {
    over: Arc<AtomicBool>,
    watched: JoinHandle<Vec<usize>>,
}

impl Watch {
    fn start(client: &Client) -> Self {
        let over = Arc::<AtomicBool>::default();
        let (stop, client) = (over.clone(), client.clone());
        let watched = tokio::spawn(async move {
            let mut seen = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let quorum = client.describe_quorum().await.expect("the quorum answers");
                let voters = quorum.replicas.iter().filter(|one| one.is_voter).count();
                if seen.last() != Some(&voters) {
                    seen.push(voters);
                }
                sleep(Duration::from_millis(10)).await;
            }
            seen
        });
        Self { over, watched }
    }

    /// How many voted, one after another.
    async fn end(self) -> Vec<usize> {
        self.over.store(true, Ordering::Relaxed);
        self.watched.await.expect("there was a controller all the time")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broker_grows_to_three_under_load_and_nobody_notices() {
    let mut cluster = Nodes::start(1).await;
    let client = cluster.client().await;
    create(&client, 1).await;
    until(&client, TOPIC, "the topic", |_, topic| is_whole(topic)).await;
    let (load, follower) = (Load::start(&client), Follower::start(&client).await);
    let watch = Watch::start(&client);
    load.progress().await;
    for id in [2, 3] {
        cluster.add(id);
        block_in_place(|| cluster.restart(id));
        load.progress().await;
    }
    vote(&client, &[1, 2, 3]).await;
    block_in_place(|| cluster.sawlog(&["cluster", "spread", TOPIC, "--replicas", "3"]));
    let has_three = |topic: &sawlog_client::TopicInfo| {
        is_whole(topic) && topic.partitions.iter().all(|one| one.replicas.len() == 3)
    };
    until(&client, TOPIC, "three replicas in sync", |_, topic| has_three(topic)).await;
    load.progress().await;
    assert_eq!(watch.end().await, [1, 3], "from one voter to three in one step");
    // The first one is not needed any more.
    let all = cluster.client().await;
    cluster.kill(1);
    until(&all, TOPIC, "others lead", |_, topic| topic.partitions.iter().all(|one| one.leader > 1))
        .await;
    block_in_place(|| cluster.restart(1));
    until(&all, TOPIC, "in sync again", |_, topic| is_whole(topic)).await;
    load.progress().await;
    follower.end().await;
    let written = load.end().await;
    check(&client, TOPIC, PARTITIONS, &written).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_broker_takes_the_replicas_and_the_vote_of_one_that_is_taken_out() {
    let mut cluster = Nodes::start(3).await;
    let client = cluster.client().await;
    create(&client, 3).await;
    until(&client, TOPIC, "three replicas in sync", |_, topic| is_whole(topic)).await;
    let (load, follower) = (Load::start(&client), Follower::start(&client).await);
    load.progress().await;
    cluster.add(4);
    block_in_place(|| cluster.restart(4));
    vote(&client, &[1, 2, 3]).await;
    for id in 1..=4 {
        let one = cluster.client_at(id).await;
        until(&one, TOPIC, "four brokers", |info, _| info.brokers.len() == 4).await;
    }
    // Also the one that leads the metadata, in one life of this test or another.
    let leader = client.describe_quorum().await.expect("a quorum").leader;
    let out = if leader == 1 { 1 } else { 2 };
    let watch = Watch::start(&client);
    block_in_place(|| cluster.sawlog(&["cluster", "drain", &out.to_string()]));
    let left = until(&client, TOPIC, "nothing on the drained one", |_, topic| {
        is_whole(topic) && topic.partitions.iter().all(|one| !one.replicas.contains(&out))
    });
    left.await;
    load.progress().await;
    let topics = cluster.data(out).join("topics");
    let directories = || std::fs::read_dir(&topics).expect("a directory of partitions").count();
    for _ in 0..1000 {
        if directories() == 0 {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(directories(), 0, "the data of a drained broker goes away");
    watch.end().await;
    assert!(block_in_place(|| cluster.terminate(out)), "broker {out} stops cleanly");
    load.progress().await;
    let watch = Watch::start(&client);
    cluster.take_out(out);
    let said = block_in_place(|| cluster.sawlog(&["cluster", "remove", &out.to_string()]));
    assert!(said.contains("is forgotten"), "{said}");
    let stay: Vec<i32> = (1..=4).filter(|id| *id != out).collect();
    vote(&client, &stay).await;
    let seen = watch.end().await;
    // While one takes the place of another, neither is counted.
    assert!(seen.iter().all(|voters| *voters >= 2), "two stay all the time: {seen:?}");
    assert_eq!(seen.last(), Some(&3));
    let quorum = client.describe_quorum().await.expect("a quorum");
    assert!(quorum.replicas.iter().all(|one| one.node != out), "{quorum:#?}");
    let nodes = client.nodes().await.expect("nodes");
    assert_eq!(nodes.iter().map(|node| node.broker.id).collect::<Vec<_>>(), stay);
    // Three that vote are three of which one can go.
    let gone = if out == 1 { 2 } else { 1 };
    cluster.kill(gone);
    load.progress().await;
    block_in_place(|| cluster.restart(gone));
    until(&client, TOPIC, "in sync again", |_, topic| is_whole(topic)).await;
    follower.end().await;
    let written = load.end().await;
    check(&client, TOPIC, PARTITIONS, &written).await;
}
