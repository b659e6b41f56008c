//! Lives of clusters: elections, partitions, power cuts, disks that are replaced.

use std::time::Duration;

use super::cluster::Cluster;
use crate::base::BrokerId;
use crate::metadata::{Random as _, SeededRandom};

#[test]
fn one_node_leads_at_once_and_goes_on_after_power_cuts() {
    let mut cluster = Cluster::of(1);
    for seed in 0..5 {
        cluster.progress(30);
        cluster.cut_power(0, seed);
        cluster.start(0);
    }
    cluster.progress(5);
    cluster.settle();
}

#[test]
fn three_nodes_become_three_voters_in_one_change_and_two_do_not() {
    let mut cluster = Cluster::of(2);
    cluster.progress(50);
    assert_eq!(cluster.voters(), [cluster.nodes[0].raft_id], "two voters are worse than one");
    drop(cluster);
    cluster = Cluster::of(3);
    let all: Vec<u64> = cluster.nodes.iter().map(|node| node.raft_id).collect();
    cluster.until(|| (cluster.voters() == all).then_some(()));
    cluster.settle();
}

#[test]
fn a_leader_that_is_gone_is_followed_and_catches_up_when_it_is_back() {
    let mut cluster = Cluster::of(3);
    cluster.until(|| cluster.is_of(3).then_some(()));
    for round in 0..3 {
        let leader = cluster.leader().state().raft_id;
        let node = cluster.nodes.iter().position(|node| node.raft_id == leader).unwrap();
        cluster.cut_power(node, round);
        cluster.progress(60);
        cluster.start(node);
    }
    cluster.settle();
}

#[test]
fn a_leader_without_a_majority_says_so_and_commits_nothing() {
    let cluster = Cluster::of(3);
    cluster.until(|| cluster.is_of(3).then_some(()));
    let old = cluster.leader();
    let others = cluster.nodes.iter().map(|node| node.raft_id);
    cluster.net.isolate(old.state().raft_id, others.filter(|id| *id != old.state().raft_id));
    cluster.until(|| {
        let role = *old.role().borrow();
        matches!(role, crate::quorum::LogRole::Follower { leader: None }).then_some(())
    });
    cluster.progress(30);
    cluster.net.heal();
    cluster.settle();
}

#[test]
fn a_wiped_disk_is_another_node_and_takes_the_votes_of_the_old_one() {
    let mut cluster = Cluster::of(3);
    cluster.until(|| cluster.is_of(3).then_some(()));
    cluster.progress(20);
    let leader = cluster.leader().state().raft_id;
    let node = cluster.nodes.iter().position(|node| node.raft_id != leader).unwrap();
    let old = cluster.nodes[node].raft_id;
    let broker = BrokerId(i32::try_from(node).unwrap() + 1);
    cluster.wipe(node, 40);
    let new = cluster.nodes[node].raft_id;
    assert_eq!(cluster.admit(node, new, Some(broker)), broker);
    cluster.start_new(node);
    cluster.until(|| {
        let voters = cluster.voters();
        (voters.len() == 3 && voters.contains(&new) && !voters.contains(&old)).then_some(())
    });
    cluster.progress(20);
    cluster.settle();
}

#[test]
fn what_is_acknowledged_stays_through_partitions_and_power_cuts() {
    for (seed, count) in [(1, 3), (2, 5), (3, 3)] {
        let mut random = SeededRandom::new(seed);
        let mut below = move |bound: usize| {
            usize::try_from(random.next_u64() % u64::try_from(bound).unwrap()).unwrap()
        };
        let mut cluster = Cluster::of(count);
        cluster.until(|| cluster.is_of(count).then_some(()));
        for _ in 0..12 {
            let node = below(count);
            let running = (0..count).filter(|node| cluster.is_running(*node)).count();
            match below(4) {
                0 if running > count / 2 + 1 => cluster.cut_power(node, seed),
                1 => {
                    let others = cluster.nodes.iter().map(|node| node.raft_id);
                    let own = cluster.nodes[node].raft_id;
                    cluster.net.isolate(own, others.filter(|id| *id != own));
                }
                2 => {
                    cluster.net.heal();
                    for node in 0..count {
                        if !cluster.is_running(node) {
                            cluster.start(node);
                        }
                    }
                }
                // Lightning: all at once.
                _ if below(3) == 0 => {
                    for node in 0..count {
                        cluster.cut_power(node, seed);
                    }
                    for node in 0..count {
                        cluster.start(node);
                    }
                }
                _ => {}
            }
            // Some time for something to happen, however much.
            std::thread::sleep(Duration::from_millis(u64::try_from(below(1500)).unwrap()));
        }
        cluster.net.heal();
        for node in 0..count {
            if !cluster.is_running(node) {
                cluster.start(node);
            }
        }
        cluster.progress(20);
        cluster.settle();
    }
}
