//! Bits that flip in full segments, and segments that are gone, of one broker of three: what is missing
//! comes from another.

use sawlog_tests::flip;

use super::load::check;
use super::nodes::{Nodes, all_vote, is_whole, until};
use super::{Load, PARTITIONS, TOPIC, create, eventually, full_segments, partition_of};

#[tokio::test(flavor = "multi_thread")]
async fn bits_flipped_under_running_brokers_are_repaired_byte_for_byte() {
    let mut cluster = Nodes::start_with(3, 1, &["log.scrub.interval.ms=300"]).await;
    let client = cluster.client().await;
    create(&client).await;
    let load = Load::start(&client);
    load.progress().await;
    // Of every partition one segment on every broker, another on each: leaders and followers.
    for partition in 0..PARTITIONS {
        for id in 1..=3 {
            let at = usize::try_from(id).unwrap();
            let directory = partition_of(&mut cluster, id, partition).unwrap();
            eventually("there are full segments", || full_segments(&directory).len() > at).await;
            let segment = &full_segments(&directory)[at];
            let whole = std::fs::read(segment).unwrap();
            let position = 300 + u64::try_from(partition).unwrap();
            flip(segment, position);
            assert_ne!(std::fs::read(segment).unwrap(), whole);
            eventually("it is whole again", || std::fs::read(segment).unwrap() == whole).await;
        }
    }
    load.progress().await;
    let written = load.end().await;
    check(&client, TOPIC, PARTITIONS, &written).await;
    until(&client, TOPIC, "nobody is missing", |_, topic| is_whole(topic)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_finds_damaged_when_it_starts_it_gets_from_others() {
    let mut cluster = Nodes::start(3).await;
    let client = cluster.client().await;
    create(&client).await;
    let load = Load::start(&client);
    load.progress().await;
    for id in [2, 1] {
        for partition in 0..PARTITIONS {
            let directory = partition_of(&mut cluster, id, partition).unwrap();
            eventually("there are full segments", || full_segments(&directory).len() > 4).await;
        }
        cluster.kill(id);
        let mut damaged = Vec::new();
        for partition in 0..PARTITIONS {
            let directory = partition_of(&mut cluster, id, partition).unwrap();
            let full = full_segments(&directory);
            let [flipped, gone] = [&full[1], &full[3]];
            damaged
                .extend([flipped, gone].map(|path| (path.clone(), std::fs::read(path).unwrap())));
            flip(flipped, 300);
            std::fs::remove_file(flipped.with_extension("index")).unwrap();
            std::fs::remove_file(gone).unwrap();
        }
        load.progress().await;
        tokio::task::block_in_place(|| cluster.restart(id));
        for (path, whole) in &damaged {
            let is_whole = || std::fs::read(path).is_ok_and(|bytes| bytes == *whole);
            eventually("what is damaged is whole again", is_whole).await;
        }
        until(&client, TOPIC, "it is in sync again", |_, topic| is_whole(topic)).await;
        all_vote(&client).await;
    }
    // What it has now it has to have by itself.
    let written = load.end().await;
    check(&client, TOPIC, PARTITIONS, &written).await;
}
