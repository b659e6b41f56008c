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
mod running;
mod tls;
#[path = "../crash/wire.rs"]
mod wire;

use load::check;
use nodes::{Nodes, all_vote, is_whole, until};
use running::{Load, PARTITIONS, TOPIC, create_with, go_without_each};
use sawlog_client::Client;

fn rounds() -> u64 {
    let rounds = std::env::var("SAWLOG_CLUSTER_ROUNDS").ok();
    rounds.and_then(|text| text.parse().ok()).unwrap_or(1)
}

async fn create(client: &Client, replication_factor: i16) {
    create_with(client, replication_factor, &[]).await;
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
    go_without_each(&mut cluster, &client, &load, [1, 2]).await;
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
