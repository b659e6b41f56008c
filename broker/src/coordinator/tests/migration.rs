//! Groups that go from one protocol to the other while they have members.

use std::time::Duration;

use bytes::Bytes;
use sawlog_protocol::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicPartition,
};

use super::consumer::{beat, described, enter, enter_static, orders};
use super::driver::*;
use crate::coordinator::*;

const SECOND: Duration = Duration::from_secs(1);

/// What a consumer that owns these partitions of `orders` sends with JoinGroup.
fn subscription(owned: &[i32]) -> Bytes {
    let owned = TopicPartition { topic: "orders", partitions: owned.to_vec() };
    let subscription = ConsumerProtocolSubscription {
        topics: vec!["orders"],
        owned_partitions: vec![owned],
        ..Default::default()
    };
    subscription.to_bytes(3)
}

fn assignment_of(partitions: &[i32]) -> Bytes {
    let assigned = TopicPartition { topic: "orders", partitions: partitions.to_vec() };
    ConsumerProtocolAssignment { assigned_partitions: vec![assigned], user_data: None }.to_bytes(3)
}

fn read(assignment: &Bytes) -> Vec<i32> {
    let assignment = ConsumerProtocolAssignment::from_bytes(assignment).unwrap();
    let mut partitions: Vec<i32> =
        assignment.assigned_partitions.iter().flat_map(|topic| topic.partitions.clone()).collect();
    partitions.sort_unstable();
    partitions
}

fn joining(name: &str, owned: &[i32]) -> JoinGroup {
    let protocol = Protocol { name: "cooperative-sticky".into(), metadata: subscription(owned) };
    JoinGroup { protocols: vec![protocol], ..rejoin(name) }
}

/// A classic group at generation 1 in which `a` and `b` read two partitions each.
fn classic_group() -> Driver {
    let options = GroupOptions { initial_rebalance_delay: SECOND, ..GroupOptions::default() };
    let mut driver = Driver::with(options);
    driver.topics(&[("orders", 4)]);
    let joins =
        ["a", "b"].map(|name| driver.send(JoinGroup { member: None, ..joining(name, &[]) }));
    driver.pass(3 * SECOND);
    for id in joins {
        assert_eq!(driver.joined(id).generation, Generation(1));
    }
    let assignments =
        vec![("a".into(), assignment_of(&[0, 1])), ("b".into(), assignment_of(&[2, 3]))];
    driver.send(SyncGroup { assignments, ..sync("a", Generation(1)) });
    driver.send(sync("b", Generation(1)));
    assert_eq!(driver.state(), GroupState::Stable);
    driver
}

/// Joins and fetches; gives the generation and what it may read.
fn rejoined(driver: &mut Driver, name: &str, owned: &[i32]) -> (i32, Vec<i32>) {
    let id = driver.send(joining(name, owned));
    let joined = driver.joined(id);
    assert_eq!(joined.leader.as_str(), "", "nobody leads");
    let synced = driver.ask(sync(name, joined.generation)).unwrap();
    (joined.generation.0, read(&synced.assignment))
}

fn rebalance(driver: &mut Driver, name: &str, generation: i32) -> bool {
    match driver.ask(heartbeat(name, Generation(generation))) {
        Ok(()) => false,
        Err(error) => {
            assert_eq!(error, GroupError::RebalanceInProgress);
            true
        }
    }
}

fn group_type(driver: &mut Driver) -> GroupType {
    driver.ask(ListGroups::default()).unwrap()[0].group_type
}

/// `a`, `b` of the classic protocol and `c` of the consumer protocol, at rest.
fn mixed() -> (Driver, Vec<i32>) {
    let mut driver = classic_group();
    let told = driver.ask(enter("c", &["orders"])).unwrap();
    assert_eq!((told.epoch, told.assignment), (2, Some(orders(&[]))), "all is in use");
    assert_eq!(group_type(&mut driver), GroupType::Consumer);
    assert!(rebalance(&mut driver, "a", 1));
    assert!(rebalance(&mut driver, "b", 1));
    for (name, mut owned) in [("a", vec![0, 1]), ("b", vec![2, 3])] {
        let (mut generation, kept) = rejoined(&mut driver, name, &owned);
        if kept != owned {
            assert_eq!(generation, 1, "gives back before it goes on");
            assert!(rebalance(&mut driver, name, 1));
            (generation, owned) = rejoined(&mut driver, name, &kept);
        }
        assert_eq!((generation, &owned), (2, &kept));
        assert!(!rebalance(&mut driver, name, 2));
    }
    let told = driver.ask(beat("c", 2)).unwrap();
    let taken = told.assignment.expect("gets what is free");
    assert_eq!(described(&mut driver).state, GroupState::Stable);
    let taken: Vec<i32> = taken.into_values().flatten().collect();
    (driver, taken)
}

#[test]
fn a_classic_group_is_taken_over_without_anybody_reading_twice() {
    let (mut driver, taken) = mixed();
    assert_eq!(taken.len(), 1);
    let group = described(&mut driver);
    let speak: Vec<GroupType> = group.members.iter().map(|member| member.speaks).collect();
    assert_eq!(speak, [GroupType::Classic, GroupType::Classic, GroupType::Consumer]);
    driver.restart(GroupOptions::default());
    assert_eq!(described(&mut driver), group);
    assert!(!rebalance(&mut driver, "a", 2));
}

#[test]
fn a_group_goes_back_when_only_classic_members_are_left() {
    let (mut driver, _) = mixed();
    driver.ask(beat("c", -1)).unwrap();
    assert_eq!(group_type(&mut driver), GroupType::Classic);
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
    assert!(rebalance(&mut driver, "a", 2), "is told gently");
    driver.ask(commit(Some("a"), Generation(2), 42)).unwrap();
    let joins = [("a", &[0, 1][..]), ("b", &[2][..])]
        .map(|(name, owned)| driver.send(joining(name, owned)));
    for id in joins {
        assert_eq!(driver.joined(id).generation, Generation(3));
    }
}

#[test]
fn the_rebalance_of_a_group_that_went_back_outlives_restarts() {
    let (mut driver, _) = mixed();
    driver.ask(beat("c", -1)).unwrap();
    for _ in 0..2 {
        driver.restart(GroupOptions::default());
        assert_eq!(group_type(&mut driver), GroupType::Classic);
        assert!(rebalance(&mut driver, "a", 2), "else nobody would read what c has left");
        assert!(rebalance(&mut driver, "b", 2));
    }
    let joins = [("a", &[0, 1][..]), ("b", &[2][..])]
        .map(|(name, owned)| driver.send(joining(name, owned)));
    let joined = joins.map(|id| driver.joined(id));
    assert_eq!(joined[0].generation, Generation(3));
    let leader = joined[0].leader.as_str().to_owned();
    let assignments =
        vec![("a".into(), assignment_of(&[0, 1])), ("b".into(), assignment_of(&[2, 3]))];
    driver.send(SyncGroup { assignments, ..sync(&leader, Generation(3)) });
    driver.restart(GroupOptions::default());
    assert_eq!(driver.state(), GroupState::Stable, "an assignment ends it");
    assert!(!rebalance(&mut driver, "a", 3));
}

#[test]
fn a_group_goes_back_when_the_last_other_is_late() {
    let (mut driver, _) = mixed();
    for _ in 0..8 {
        driver.pass(5 * SECOND);
        driver.ask(heartbeat("a", Generation(2))).unwrap();
        driver.ask(heartbeat("b", Generation(2))).unwrap();
    }
    driver.pass(5 * SECOND);
    assert_eq!(group_type(&mut driver), GroupType::Classic);
    assert!(rebalance(&mut driver, "a", 2));
}

#[test]
fn migration_can_be_forbidden() {
    let mut driver = classic_group();
    driver.restart(GroupOptions { migration: Migration::Downgrade, ..GroupOptions::default() });
    assert_eq!(driver.ask(enter("c", &["orders"])), Err(GroupError::OtherProtocol));
    assert_eq!(driver.state(), GroupState::Stable);
    let (mut driver, _) = mixed();
    driver.restart(GroupOptions { migration: Migration::Upgrade, ..GroupOptions::default() });
    driver.ask(beat("c", -1)).unwrap();
    assert_eq!(group_type(&mut driver), GroupType::Consumer);
    assert!(rebalance(&mut driver, "a", 2), "there is more to read");
}

#[test]
fn classic_members_come_and_go_in_a_group_of_the_other_protocol() {
    let (mut driver, _) = mixed();
    let mut first = joining("d", &[]);
    (first.member, first.knows_member_id_required) = (None, true);
    let id = driver.send(first);
    assert_eq!(driver.refused(id), GroupError::MemberIdRequired);
    let (generation, partitions) = rejoined(&mut driver, "d", &[]);
    assert_eq!((generation, partitions), (3, vec![]), "all is in use");
    let odd = Protocol { name: "odd".into(), metadata: subscription(&[]) };
    let id = driver.send(JoinGroup { protocols: vec![odd], ..joining("e", &[]) });
    assert_eq!(driver.refused(id), GroupError::InconsistentProtocol);
    let stale = driver.ask(heartbeat("d", Generation(2)));
    assert_eq!(stale, Err(GroupError::IllegalGeneration));
    let left = driver.ask(leave("d")).unwrap();
    assert_eq!(left[0].result, Ok(()));
    let left = driver.ask(leave("c")).unwrap();
    assert_eq!(left[0].result, Err(GroupError::UnknownMember), "leaves by heartbeat");
    driver.ask(commit(Some("a"), Generation(2), 42)).unwrap();
    let old = driver.ask(commit(Some("a"), Generation(1), 43));
    assert_eq!(old, Err(GroupError::IllegalGeneration));
}

#[test]
fn what_is_not_given_back_yet_stays_in_use_through_both_ways() {
    let (mut driver, _) = mixed();
    let group = described(&mut driver);
    let most = group.members.iter().max_by_key(|it| it.assigned.values().flatten().count());
    let most = most.unwrap();
    let (name, two) = (most.member.to_string(), most.assigned.clone());
    let owned: Vec<i32> = two.values().flatten().copied().collect();
    assert_eq!((owned.len(), most.speaks), (2, GroupType::Classic));
    driver.ask(enter("d", &["orders"])).unwrap();
    assert!(rebalance(&mut driver, &name, 2));
    let id = driver.send(joining(&name, &owned));
    assert_eq!(driver.joined(id).generation, Generation(2), "has to give back");
    driver.ask(beat("d", -1)).unwrap();
    driver.ask(beat("c", -1)).unwrap();
    assert_eq!(group_type(&mut driver), GroupType::Classic);
    let told = driver.ask(enter("e", &["orders"])).unwrap();
    let given: Vec<i32> = told.assignment.unwrap().into_values().flatten().collect();
    assert!(given.iter().all(|partition| !owned.contains(partition)), "{given:?} of {owned:?}");
}

#[test]
fn who_was_a_member_and_still_reads_has_to_start_anew() {
    let (mut driver, _) = mixed();
    driver.ask(leave("b")).unwrap();
    let id = driver.send(joining("b", &[2]));
    assert_eq!(driver.refused(id), GroupError::UnknownMember);
    let id = driver.send(joining("b", &[]));
    assert_eq!(driver.joined(id).member, "b".into());
}

#[test]
fn a_classic_member_that_does_not_join_again_is_out() {
    let mut driver = classic_group();
    driver.ask(enter("c", &["orders"])).unwrap();
    assert!(rebalance(&mut driver, "a", 1));
    assert!(rebalance(&mut driver, "b", 1));
    for _ in 0..12 {
        driver.pass(5 * SECOND);
        let _ = driver.ask(heartbeat("a", Generation(1)));
        let _ = driver.ask(heartbeat("b", Generation(1)));
        driver.ask(beat("c", 2)).or_else(|_| driver.ask(beat("c", 4))).unwrap();
    }
    let members = described(&mut driver).members;
    assert_eq!(members.iter().map(|it| it.member.as_str()).collect::<Vec<_>>(), ["c"]);
}

#[test]
fn the_newest_process_of_a_classic_instance_wins() {
    let (mut driver, _) = mixed();
    let mut first = joining("p", &[]);
    (first.member, first.instance) = (None, Some("i".into()));
    let id = driver.send(first.clone());
    let joined = driver.joined(id);
    assert_eq!(joined.member, "p".into());
    let second = JoinGroup { fresh_member: "q".into(), ..first };
    let id = driver.send(second);
    assert_eq!(driver.joined(id).member, "q".into());
    let old = Heartbeat { instance: Some("i".into()), ..heartbeat("p", joined.generation) };
    assert_eq!(driver.ask(old), Err(GroupError::FencedInstance));
    let told = driver.ask(enter_static("i", "r")).unwrap();
    assert_eq!(told.member, "r".into(), "also when it has moved on to the other protocol");
}

#[test]
fn who_waits_in_the_classic_group_joins_the_new_one() {
    let mut driver = classic_group();
    let waits = driver.send(joining("a", &[0, 1]));
    let new = driver.send(JoinGroup { member: None, ..joining("d", &[]) });
    driver.ask(enter("c", &["orders"])).unwrap();
    assert_eq!(driver.refused(waits), GroupError::RebalanceInProgress);
    assert_eq!(driver.refused(new), GroupError::UnknownMember);
    let members = described(&mut driver).members;
    assert_eq!(members.iter().map(|it| it.member.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
}
