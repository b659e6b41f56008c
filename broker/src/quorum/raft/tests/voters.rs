//! Voters added, removed and forgotten on request.

use std::time::Duration;

use sawlog_protocol::Uuid;

use super::cluster::Cluster;
use crate::base::BrokerId;
use crate::quorum::{VoterChange, VoterError};

fn add(cluster: &Cluster, node: usize) -> Result<bool, VoterError> {
    let (broker, directory) = cluster.who(node);
    cluster.change(VoterChange::Add { broker, directory, patience: Duration::from_secs(60) })
}

fn remove(cluster: &Cluster, node: usize) -> Result<bool, VoterError> {
    let (broker, directory) = cluster.who(node);
    cluster.change(VoterChange::Remove { broker, directory })
}

fn forget(cluster: &Cluster, node: usize) -> Result<bool, VoterError> {
    cluster.change(VoterChange::Forget(cluster.who(node).0))
}

/// Four nodes of which three vote: which of them leads, which follow, which is told.
fn four() -> (Cluster, usize, Vec<usize>, usize) {
    let cluster = Cluster::of_with(4, 3);
    cluster.until(|| cluster.is_of(3).then_some(()));
    cluster.progress(10);
    let (leader, voters) = (cluster.place(cluster.leader().state().raft_id), cluster.voters());
    let voters: Vec<usize> = voters.into_iter().map(|id| cluster.place(id)).collect();
    let told = (0..4).find(|node| !voters.contains(node)).unwrap();
    let follow = voters.into_iter().filter(|node| *node != leader).collect();
    (cluster, leader, follow, told)
}

#[test]
fn who_is_told_takes_the_place_of_a_voter_that_is_gone_for_good() {
    let (mut cluster, leader, follow, told) = four();
    let gone = follow[0];
    cluster.cut_power(gone, 1);
    assert_eq!(forget(&cluster, gone), Ok(true));
    let mut expected: Vec<u64> =
        [leader, follow[1], told].iter().map(|node| cluster.nodes[*node].raft_id).collect();
    expected.sort_unstable();
    // Who is told and behind just then votes once it is not: until then one votes alone.
    cluster.until(|| (cluster.voters() == expected).then_some(()));
    let state = cluster.leader().state();
    assert_eq!(state.members.len(), 3, "it is not told either: {state:?}");
    assert_eq!(forget(&cluster, gone), Ok(false), "asked again there is nothing to do");
    // Two of these three are a majority.
    cluster.cut_power(follow[1], 2);
    cluster.progress(20);
    cluster.start(follow[1]);
    cluster.settle();
}

#[test]
fn of_three_of_which_one_is_gone_for_good_one_votes_and_the_other_can_go_too() {
    let mut cluster = Cluster::of_with(3, 3);
    cluster.until(|| cluster.is_of(3).then_some(()));
    let leader = cluster.place(cluster.leader().state().raft_id);
    for gone in (0..3).filter(|node| *node != leader) {
        cluster.cut_power(gone, 1);
        assert_eq!(forget(&cluster, gone), Ok(true));
        assert_eq!(cluster.voters(), [cluster.nodes[leader].raft_id]);
        cluster.progress(10);
    }
    assert_eq!(cluster.leader().state().members.len(), 1);
    cluster.settle();
}

#[test]
fn who_runs_is_not_forgotten_and_who_leads_neither() {
    let (cluster, leader, follow, told) = four();
    for node in [leader, follow[0], told] {
        let refused = forget(&cluster, node);
        assert!(
            matches!(&refused, Err(VoterError::Refused(why)) if why.contains("stop it first")),
            "{refused:?}"
        );
    }
    assert_eq!(forget(&cluster, 9), Ok(false));
    cluster.until(|| cluster.is_of(3).then_some(()));
}

#[test]
fn a_leader_that_votes_no_more_hands_over_and_another_votes_in_its_place() {
    let (cluster, leader, _, told) = four();
    assert_eq!(remove(&cluster, leader), Ok(true));
    let voters = cluster.until(|| {
        let voters = cluster.voters();
        (cluster.leader().state().raft_id != cluster.nodes[leader].raft_id).then_some(voters)
    });
    assert!(voters.contains(&cluster.nodes[told].raft_id), "{voters:?}");
    assert!(!voters.contains(&cluster.nodes[leader].raft_id), "{voters:?}");
    cluster.progress(20);
    cluster.settle();
}

#[test]
fn a_voter_that_would_be_one_again_at_once_is_not_removed_while_it_runs() {
    let mut cluster = Cluster::of_with(3, 3);
    cluster.until(|| cluster.is_of(3).then_some(()));
    let leader = cluster.place(cluster.leader().state().raft_id);
    let other = (leader + 1) % 3;
    let refused = remove(&cluster, other);
    assert!(
        matches!(&refused, Err(VoterError::Refused(why)) if why.contains("metadata.voters")),
        "{refused:?}"
    );
    cluster.cut_power(other, 1);
    assert_eq!(remove(&cluster, other), Ok(true));
    cluster.until(|| cluster.is_of(2).then_some(()));
    assert!(matches!(remove(&cluster, other), Err(VoterError::NotFound(_))));
    // Back, it votes again.
    cluster.start(other);
    cluster.until(|| cluster.is_of(3).then_some(()));
    cluster.settle();
}

#[test]
fn one_more_votes_than_there_would_be_where_that_is_asked_for() {
    let (cluster, leader, _, told) = four();
    assert!(matches!(add(&cluster, leader), Err(VoterError::Duplicate(_))));
    let (broker, _) = cluster.who(told);
    let (directory, patience) = (Uuid([77; 16]), Duration::ZERO);
    let refused = cluster.change(VoterChange::Add { broker, directory, patience });
    assert!(
        matches!(&refused, Err(VoterError::Refused(why)) if why.contains("--join")),
        "{refused:?}"
    );
    assert_eq!(add(&cluster, told), Ok(true));
    cluster.until(|| cluster.is_of(4).then_some(()));
    assert_eq!(remove(&cluster, told), Ok(true));
    cluster.until(|| cluster.is_of(3).then_some(()));
    let unknown = cluster.change(VoterChange::Remove { broker: BrokerId(9), directory });
    assert!(matches!(unknown, Err(VoterError::NotFound(_))));
    cluster.settle();
}
