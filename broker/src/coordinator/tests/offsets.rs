//! Committed offsets, case by case.

use super::driver::*;
use crate::base::{LeaderEpoch, Offset, TopicPartition};
use crate::coordinator::*;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const NOBODY: Generation = Generation::NONE;

fn committed(driver: &mut Driver) -> Vec<(TopicPartition, i64)> {
    let all = driver.ask(fetch_all()).unwrap();
    all.into_iter()
        .map(|fetched| (fetched.partition, fetched.committed.unwrap().unwrap().offset.0))
        .collect()
}

#[test]
fn a_consumer_without_a_group_commits_and_fetches() {
    let mut driver = Driver::new();
    assert_eq!(driver.ask(commit(None, NOBODY, 41)), Ok(vec![Ok(())]));
    assert_eq!(driver.ask(commit(None, NOBODY, 42)), Ok(vec![Ok(())]));
    driver.restart(GroupOptions::default());
    let request =
        OffsetFetch { partitions: Some(vec![at("orders", 0), at("orders", 1)]), ..fetch_all() };
    let fetched = driver.ask(request).unwrap();
    let value =
        Committed { offset: Offset(42), leader_epoch: LeaderEpoch(3), metadata: "note".into() };
    assert_eq!(fetched[0].committed, Ok(Some(value)));
    assert_eq!(fetched[1].committed, Ok(None));
    assert_eq!(driver.state(), GroupState::Empty);
}

#[test]
fn only_members_of_the_generation_commit_while_the_group_has_members() {
    let mut driver = Driver::new();
    let generation = driver.stable(&["a", "b"]);
    let old = Generation(generation.0 - 1);
    assert_eq!(driver.ask(commit(Some("a"), generation, 7)), Ok(vec![Ok(())]));
    assert_eq!(driver.ask(commit(Some("a"), old, 8)), Err(GroupError::IllegalGeneration));
    assert_eq!(driver.ask(commit(Some("c"), generation, 8)), Err(GroupError::UnknownMember));
    assert_eq!(driver.ask(commit(None, NOBODY, 8)), Err(GroupError::UnknownMember));
    assert_eq!(driver.ask(commit(Some("a"), NOBODY, 8)), Err(GroupError::IllegalGeneration));
    assert_eq!(committed(&mut driver), [(at("orders", 0), 7)]);
}

#[test]
fn a_commit_to_a_group_that_is_not_there_is_refused_by_version() {
    let mut driver = Driver::new();
    let new = commit(Some("a"), Generation(4), 1);
    assert_eq!(driver.ask(new.clone()), Err(GroupError::GroupIdNotFound));
    let old = OffsetCommit { knows_member_epochs: false, ..new };
    assert_eq!(driver.ask(old), Err(GroupError::IllegalGeneration));
}

#[test]
fn members_commit_what_they_have_while_others_join_and_not_before_they_know_the_next() {
    let mut driver = Driver::new();
    let generation = driver.stable(&["a", "b"]);
    driver.send(join("c"));
    assert_eq!(driver.ask(commit(Some("a"), generation, 7)), Ok(vec![Ok(())]));
    driver.send(rejoin("a"));
    driver.send(rejoin("b"));
    assert_eq!(driver.state(), GroupState::CompletingRebalance);
    let next = Generation(generation.0 + 1);
    assert_eq!(driver.ask(commit(Some("a"), next, 8)), Err(GroupError::RebalanceInProgress));
    assert_eq!(driver.ask(commit(Some("a"), generation, 8)), Err(GroupError::IllegalGeneration));
}

#[test]
fn a_note_that_is_too_long_refuses_its_partition_alone() {
    let mut driver = Driver::new();
    let mut request = commit(None, NOBODY, 1);
    let mut long = request.offsets[0].clone();
    long.partition = at("orders", 1);
    long.metadata = "x".repeat(4097).into();
    request.offsets.push(long);
    let results = driver.ask(request).unwrap();
    assert_eq!(results, [Ok(()), Err(GroupError::OffsetMetadataTooLarge)]);
    assert_eq!(committed(&mut driver), [(at("orders", 0), 1)]);
}

#[test]
fn offsets_of_topics_that_are_read_cannot_be_deleted() {
    let mut driver = Driver::new();
    let generation = driver.stable(&["a"]);
    let mut request = commit(Some("a"), generation, 1);
    let mut other = request.offsets[0].clone();
    other.partition = at("other", 0);
    request.offsets.push(other);
    driver.ask(request).unwrap().into_iter().for_each(|result| result.unwrap());
    let request = OffsetDelete {
        group: group(),
        partitions: vec![at("orders", 0), at("other", 0), at("other", 9)],
    };
    let results = driver.ask(request).unwrap();
    assert_eq!(results, [Err(GroupError::GroupSubscribedToTopic), Ok(()), Ok(())]);
    assert_eq!(committed(&mut driver), [(at("orders", 0), 1)]);
    let unknown = OffsetDelete { group: "unknown".into(), partitions: Vec::new() };
    assert_eq!(driver.ask(unknown), Err(GroupError::GroupIdNotFound));
}

#[test]
fn offsets_of_groups_that_are_not_consumers_are_deleted_only_when_empty() {
    let mut driver = Driver::new();
    let mut request = join("worker");
    request.protocol_type = "connect".into();
    driver.send(request);
    let request = OffsetDelete { group: group(), partitions: vec![at("orders", 0)] };
    assert_eq!(driver.ask(request), Err(GroupError::NonEmptyGroup));
}

#[test]
fn a_group_is_deleted_with_its_offsets_once_it_is_empty() {
    let mut driver = Driver::new();
    let generation = driver.stable(&["a"]);
    driver.ask(commit(Some("a"), generation, 5)).unwrap()[0].unwrap();
    let request = DeleteGroup { group: group() };
    assert_eq!(driver.ask(request.clone()), Err(GroupError::NonEmptyGroup));
    driver.ask(leave("a")).unwrap();
    assert_eq!(driver.ask(request.clone()), Ok(()));
    assert_eq!(driver.ask(request.clone()), Err(GroupError::GroupIdNotFound));
    for _ in 0..2 {
        assert_eq!(committed(&mut driver), []);
        assert_eq!(driver.ask(ListGroups::default()).unwrap(), []);
        driver.restart(GroupOptions::default());
    }
}

#[test]
fn offsets_of_a_deleted_topic_are_forgotten() {
    let mut driver = Driver::new();
    driver.ask(commit(None, NOBODY, 5)).unwrap()[0].unwrap();
    let mut other = commit(None, NOBODY, 6);
    other.offsets[0].partition = at("other", 2);
    driver.ask(other).unwrap()[0].unwrap();
    driver.ask(TopicsDeleted { topics: vec!["orders".into()] }).unwrap();
    assert_eq!(committed(&mut driver), [(at("other", 2), 6)]);
    driver.restart(GroupOptions::default());
    assert_eq!(committed(&mut driver), [(at("other", 2), 6)]);
}

#[test]
fn offsets_outlive_their_retention_while_the_topic_is_read() {
    let hour = Duration::from_secs(3600);
    let mut driver = Driver::with(GroupOptions { offsets_retention: hour, ..Default::default() });
    let generation = driver.stable(&["a"]);
    driver.ask(commit(Some("a"), generation, 5)).unwrap()[0].unwrap();
    let mut other = commit(Some("a"), generation, 6);
    other.offsets[0].partition = at("other", 0);
    driver.ask(other).unwrap()[0].unwrap();
    for _ in 0..2 * 3600 / 9 {
        driver.pass(Duration::from_secs(9));
        driver.ask(heartbeat("a", generation)).unwrap();
    }
    assert_eq!(committed(&mut driver), [(at("orders", 0), 5)], "only the topic nobody reads");
}

#[test]
fn offsets_of_an_empty_group_last_from_when_it_became_empty() {
    let hour = Duration::from_secs(3600);
    let options = GroupOptions { offsets_retention: hour, ..Default::default() };
    let mut driver = Driver::with(options.clone());
    let generation = driver.stable(&["a"]);
    driver.ask(commit(Some("a"), generation, 5)).unwrap()[0].unwrap();
    for _ in 0..3000 / 9 {
        driver.pass(Duration::from_secs(9));
        driver.ask(heartbeat("a", generation)).unwrap();
    }
    driver.ask(leave("a")).unwrap();
    driver.restart(options);
    driver.pass(hour - Duration::from_secs(60));
    assert_eq!(committed(&mut driver), [(at("orders", 0), 5)]);
    driver.pass(Duration::from_secs(60 + 600));
    assert_eq!(committed(&mut driver), []);
    assert_eq!(driver.ask(ListGroups::default()).unwrap(), [], "and the group with them");
}

#[test]
fn what_is_committed_for_a_group_long_empty_has_its_full_retention() {
    let mut driver = Driver::new();
    driver.stable(&["a"]);
    driver.ask(leave("a")).unwrap();
    driver.ask(commit(None, NOBODY, 5)).unwrap()[0].unwrap();
    driver.pass(6 * DAY);
    driver.ask(commit(None, NOBODY, 6)).unwrap()[0].unwrap();
    driver.pass(6 * DAY);
    assert_eq!(committed(&mut driver), [(at("orders", 0), 6)]);
    driver.pass(2 * DAY);
    assert_eq!(committed(&mut driver), []);
}

/// KAFKA-13636: a group that rebalances for longer than the retention lost its offsets.
#[test]
fn offsets_never_expire_during_a_rebalance() {
    let options = GroupOptions {
        offsets_retention: Duration::from_secs(60),
        offsets_check_interval: Duration::from_secs(1),
        ..Default::default()
    };
    let mut driver = Driver::with(options);
    let generation = driver.stable(&["a", "b"]);
    driver.ask(commit(Some("a"), generation, 5)).unwrap()[0].unwrap();
    let mut patient = rejoin("a");
    patient.rebalance_timeout = 30 * DAY;
    driver.send(patient);
    for _ in 0..1000 {
        driver.pass(Duration::from_secs(5));
        let told = driver.ask(heartbeat("b", generation));
        assert_eq!(told, Err(GroupError::RebalanceInProgress));
    }
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
    assert_eq!(committed(&mut driver), [(at("orders", 0), 5)]);
}

#[test]
fn offsets_of_consumers_without_a_group_last_from_their_commit() {
    let mut driver = Driver::new();
    driver.ask(commit(None, NOBODY, 5)).unwrap()[0].unwrap();
    let mut brief = commit(None, NOBODY, 6);
    brief.offsets[0].partition = at("brief", 0);
    brief.retention = Some(DAY);
    driver.ask(brief).unwrap()[0].unwrap();
    driver.pass(DAY + Duration::from_secs(600));
    assert_eq!(committed(&mut driver), [(at("orders", 0), 5)], "the client said one day");
    driver.pass(4 * DAY);
    driver.ask(commit(None, NOBODY, 6)).unwrap()[0].unwrap();
    driver.pass(4 * DAY);
    assert_eq!(committed(&mut driver), [(at("orders", 0), 6)]);
    driver.pass(4 * DAY);
    assert_eq!(committed(&mut driver), []);
}
