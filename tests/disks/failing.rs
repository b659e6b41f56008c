//! Syncs that fail, and data directories that are lost, on one broker of three.

use super::load::check;
use super::nodes::{Nodes, all_vote, is_whole, until};
use super::strace::{self, Strace};
use super::{Load, PARTITIONS, TOPIC, create, eventually, go_without_each, partition_of};

/// Says that a test cannot run here, and why.
fn not_run(why: &str) {
    println!("not run: {why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_ends_a_broker_with_one_directory_and_others_lead() {
    if let Err(why) = strace::check() {
        return not_run(&why);
    }
    let mut cluster = Nodes::start(3).await;
    let client = cluster.client().await;
    create(&client).await;
    let load = Load::start(&client);
    load.progress().await;
    for id in [1, 2, 3] {
        let failing = Strace::attach(cluster.pid(id), "fdatasync,syncfs:error=EIO").unwrap();
        tokio::task::block_in_place(|| cluster.wait_until_ended(id));
        drop(failing);
        until(&client, TOPIC, "others lead", |_, topic| {
            topic.partitions.iter().all(|one| one.leader >= 0 && one.leader != id)
        })
        .await;
        load.progress().await;
        tokio::task::block_in_place(|| cluster.restart(id));
        until(&client, TOPIC, "it is in sync again", |_, topic| is_whole(topic)).await;
        all_vote(&client).await;
    }
    let written = load.end().await;
    check(&client, TOPIC, PARTITIONS, &written).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_fails_hands_over_what_it_leads_and_its_broker_goes_on() {
    if let Err(why) = strace::check() {
        return not_run(&why);
    }
    let mut cluster = Nodes::start_with(3, 2, &[]).await;
    let client = cluster.client().await;
    create(&client).await;
    let load = Load::start(&client);
    load.progress().await;
    let id = 1;
    let [first, second] = <[_; 2]>::try_from(cluster.directories(id)).unwrap();
    let info = until(&client, TOPIC, "all lead", |_, topic| is_whole(topic)).await;
    let led = info.partitions.iter().filter(|one| one.leader == id).map(|one| one.index);
    let led: Vec<i32> = led.collect();
    let is_in = |cluster: &mut Nodes, partition, directory: &std::path::Path| {
        partition_of(cluster, id, partition).unwrap().starts_with(directory)
    };
    let all = 0..PARTITIONS;
    let lost: Vec<i32> = all.filter(|one| is_in(&mut cluster, *one, &second)).collect();
    assert!(!lost.is_empty() && lost.len() < 6, "{lost:?}");
    // Every full segment has it written.
    let directory = partition_of(&mut cluster, id, lost[0]).unwrap();
    let inject = "pwrite64,pwritev,fdatasync:error=EIO";
    let file = directory.join("checkpoint-0");
    let failing = Strace::attach_at(cluster.pid(id), inject, Some(&file)).unwrap();
    let info = until(&client, TOPIC, "others lead what it had there", |_, topic| {
        let of = |one: &&sawlog_client::PartitionInfo| lost.contains(&one.index);
        let has_gone = |one: &sawlog_client::PartitionInfo| {
            one.leader >= 0 && one.leader != id && !one.isr.contains(&id)
        };
        topic.partitions.iter().filter(of).all(has_gone)
    })
    .await;
    drop(failing);
    for partition in led.iter().filter(|one| !lost.contains(one)) {
        let found = info.partitions.iter().find(|one| one.index == *partition).unwrap();
        assert_eq!(found.leader, id, "what is in {} it leads as before", first.display());
    }
    load.progress().await;
    cluster.kill(id);
    tokio::task::block_in_place(|| cluster.restart(id));
    until(&client, TOPIC, "it is in sync again", |_, topic| is_whole(topic)).await;
    all_vote(&client).await;
    let written = load.end().await;
    check(&client, TOPIC, PARTITIONS, &written).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_lost_is_filled_again_and_the_other_is_as_it_was() {
    let mut cluster = Nodes::start_with(3, 2, &[]).await;
    let client = cluster.client().await;
    create(&client).await;
    let load = Load::start(&client);
    load.progress().await;
    cluster.kill(3);
    let second = cluster.directories(3).pop().unwrap();
    std::fs::remove_dir_all(&second).unwrap();
    load.progress().await;
    cluster.set("log.dirs.allow.missing=true");
    tokio::task::block_in_place(|| cluster.restart(3));
    until(&client, TOPIC, "it is in sync again", |_, topic| is_whole(topic)).await;
    all_vote(&client).await;
    for partition in 0..PARTITIONS {
        let find = || partition_of(&mut cluster, 3, partition).is_some();
        eventually("everything is somewhere", find).await;
    }
    go_without_each(&mut cluster, &client, &load, [1, 2]).await;
    let written = load.end().await;
    check(&client, TOPIC, PARTITIONS, &written).await;
}
