//! The consumer protocol, case by case.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::driver::*;
use crate::coordinator::*;

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn beat(name: &str, epoch: i32) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        group: group(),
        member: Some(name.into()),
        fresh_member: "fresh".into(),
        epoch,
        instance: None,
        client: client(),
        rack: None,
        rebalance_timeout: None,
        topics: None,
        pattern: None,
        assignor: None,
        owned: None,
        charge: None,
    }
}

fn topics(names: &[&str]) -> Option<BTreeSet<Arc<str>>> {
    Some(names.iter().map(|name| Arc::from(*name)).collect())
}

pub(super) fn enter(name: &str, names: &[&str]) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        rebalance_timeout: Some(Duration::from_secs(60)),
        topics: topics(names),
        owned: Some(TopicPartitions::new()),
        ..beat(name, 0)
    }
}

pub(super) fn enter_static(instance: &str, name: &str) -> ConsumerHeartbeat {
    ConsumerHeartbeat { instance: Some(instance.into()), ..enter(name, &["orders"]) }
}

pub(super) fn orders(partitions: &[i32]) -> TopicPartitions {
    if partitions.is_empty() {
        return TopicPartitions::new();
    }
    [(topic_id("orders"), partitions.iter().copied().collect())].into()
}

fn owning(name: &str, epoch: i32, partitions: &[i32]) -> ConsumerHeartbeat {
    ConsumerHeartbeat { owned: Some(orders(partitions)), ..beat(name, epoch) }
}

fn with_topics(topics: &[(&str, i32)]) -> Driver {
    let mut driver = Driver::new();
    driver.topics(topics);
    driver
}

pub(super) fn described(driver: &mut Driver) -> DescribedConsumerGroup {
    driver.ask(DescribeConsumerGroup { group: group() }).unwrap().expect("is there")
}

/// `a` has all four partitions of `orders`, at epoch 1.
fn one_member() -> Driver {
    let mut driver = with_topics(&[("orders", 4)]);
    let told = driver.ask(enter("a", &["orders"])).unwrap();
    assert_eq!((told.epoch, told.assignment), (1, Some(orders(&[0, 1, 2, 3]))));
    driver
}

/// `a` has 0 and 1 or so, `b` the rest, at epoch 2; gives what they have.
fn two_members() -> (Driver, TopicPartitions, TopicPartitions) {
    let mut driver = one_member();
    let told = driver.ask(enter("b", &["orders"])).unwrap();
    assert_eq!((told.epoch, told.assignment), (2, Some(orders(&[]))), "all is held by a");
    let told = driver.ask(beat("a", 1)).unwrap();
    let kept = told.assignment.expect("is asked to give back");
    assert_eq!(told.epoch, 1, "has to give back first");
    let told = driver.ask(ConsumerHeartbeat { owned: Some(kept.clone()), ..beat("a", 1) }).unwrap();
    assert_eq!((told.epoch, told.assignment), (2, Some(kept.clone())));
    let told = driver.ask(beat("b", 2)).unwrap();
    let taken = told.assignment.expect("gets what is free");
    assert_eq!(kept.values().map(BTreeSet::len).sum::<usize>(), 2);
    assert_eq!(taken.values().map(BTreeSet::len).sum::<usize>(), 2);
    assert_eq!(described(&mut driver).state, GroupState::Stable);
    (driver, kept, taken)
}

#[test]
fn members_share_partitions_and_none_is_held_twice() {
    let (mut driver, ..) = two_members();
    let group = described(&mut driver);
    assert_eq!((group.epoch, group.assignment_epoch, group.assignor), (2, 2, "uniform"));
    let told = driver.ask(beat("a", 2)).unwrap();
    assert_eq!((told.epoch, told.assignment), (2, None), "nothing new");
    assert_eq!(told.heartbeat_interval, 5 * SECOND);
}

#[test]
fn a_member_that_leaves_makes_room() {
    let (mut driver, kept, _) = two_members();
    driver.ask(beat("b", -1)).unwrap();
    assert_eq!(described(&mut driver).state, GroupState::Assigning);
    let told = driver.ask(ConsumerHeartbeat { owned: Some(kept), ..beat("a", 2) }).unwrap();
    assert_eq!((told.epoch, told.assignment), (3, Some(orders(&[0, 1, 2, 3]))));
    driver.ask(beat("a", -1)).unwrap();
    assert_eq!(described(&mut driver).state, GroupState::Empty);
    assert_eq!(driver.ask(beat("a", 3)).unwrap_err(), GroupError::UnknownMember);
}

#[test]
fn who_is_not_heard_of_is_out_after_the_session() {
    let (mut driver, ..) = two_members();
    driver.pass(40 * SECOND);
    driver.ask(beat("a", 2)).unwrap();
    driver.pass(4 * SECOND);
    assert_eq!(described(&mut driver).members.len(), 2);
    driver.pass(SECOND);
    assert_eq!(described(&mut driver).members.len(), 1);
    let told = driver.ask(beat("a", 2)).unwrap();
    assert_eq!(told.assignment, Some(orders(&[0, 1, 2, 3])));
    assert_eq!(driver.ask(beat("b", 2)).unwrap_err(), GroupError::UnknownMember);
}

#[test]
fn who_does_not_give_back_in_time_is_out() {
    let mut driver = one_member();
    driver.ask(enter("b", &["orders"])).unwrap();
    driver.ask(beat("a", 1)).unwrap();
    for _ in 0..3 {
        driver.pass(19 * SECOND);
        driver.ask(beat("a", 1)).unwrap();
        driver.ask(beat("b", 2)).unwrap();
    }
    driver.pass(3 * SECOND);
    assert_eq!(driver.ask(beat("a", 1)).unwrap_err(), GroupError::UnknownMember);
    let told = driver.ask(beat("b", 2)).unwrap();
    assert_eq!((told.epoch, told.assignment), (3, Some(orders(&[0, 1, 2, 3]))));
}

#[test]
fn epochs_fence() {
    let (mut driver, kept, _) = two_members();
    let fenced = Err(GroupError::FencedMemberEpoch);
    assert_eq!(driver.ask(beat("a", 3)), fenced, "ahead");
    assert_eq!(driver.ask(beat("a", 1)), fenced, "behind, and does not say what it uses");
    assert_eq!(driver.ask(owning("a", 1, &[0, 1, 2, 3])), fenced, "uses more than it has");
    let again = ConsumerHeartbeat { owned: Some(kept.clone()), ..beat("a", 1) };
    let told = driver.ask(again).unwrap();
    assert_eq!((told.epoch, told.assignment), (2, Some(kept)), "the reply was lost");
    assert_eq!(driver.ask(enter("a", &["orders"])), fenced, "a join that is late");
    assert_eq!(driver.ask(beat("nobody", 2)), Err(GroupError::UnknownMember));
}

#[test]
fn a_join_whose_reply_was_lost_can_be_repeated() {
    let mut driver = one_member();
    let told = driver.ask(enter("a", &["orders"])).unwrap();
    assert_eq!((told.epoch, told.assignment), (1, Some(orders(&[0, 1, 2, 3]))));
    let mut driver = with_topics(&[("orders", 4)]);
    for _ in 0..2 {
        let told = driver.ask(enter_static("i", "a")).unwrap();
        assert_eq!((told.epoch, told.assignment), (1, Some(orders(&[0, 1, 2, 3]))));
    }
}

#[test]
fn requests_that_contradict_themselves_are_refused() {
    let mut driver = one_member();
    let join = enter("b", &["orders"]);
    let wrong = [
        ConsumerHeartbeat { group: "".into(), ..join.clone() },
        ConsumerHeartbeat { instance: Some("".into()), ..join.clone() },
        ConsumerHeartbeat { rack: Some("".into()), ..join.clone() },
        ConsumerHeartbeat { rebalance_timeout: None, ..join.clone() },
        ConsumerHeartbeat { owned: None, ..join.clone() },
        ConsumerHeartbeat { owned: Some(orders(&[1])), ..join.clone() },
        ConsumerHeartbeat { topics: None, ..join.clone() },
        ConsumerHeartbeat { member: None, ..beat("b", 1) },
        ConsumerHeartbeat { member: None, ..beat("b", -1) },
        beat("b", -3),
    ];
    for request in wrong {
        let what = format!("{request:?}");
        assert_eq!(driver.ask(request), Err(GroupError::InvalidRequest), "{what}");
    }
    let assignor = ConsumerHeartbeat { assignor: Some("sticky".into()), ..join.clone() };
    assert_eq!(driver.ask(assignor), Err(GroupError::UnsupportedAssignor));
    let pattern = ConsumerHeartbeat { pattern: Some("a(".into()), ..join.clone() };
    assert_eq!(driver.ask(pattern), Err(GroupError::InvalidRegularExpression));
    let nameless = ConsumerHeartbeat { member: None, ..join };
    assert_eq!(driver.ask(nameless).unwrap().member, "fresh".into());
}

#[test]
fn a_full_group_lets_nobody_in() {
    let options = GroupOptions { consumer_size_max: 1, ..GroupOptions::default() };
    let mut driver = Driver::with(options);
    driver.topics(&[("orders", 4)]);
    driver.ask(enter("a", &["orders"])).unwrap();
    assert_eq!(driver.ask(enter("b", &["orders"])), Err(GroupError::GroupMaxSizeReached));
    driver.ask(enter("a", &["orders"])).unwrap();
}

#[test]
fn topics_that_come_grow_and_go_begin_epochs() {
    let mut driver = with_topics(&[("orders", 2)]);
    driver.ask(enter("a", &["orders", "bills"])).unwrap();
    driver.topics(&[("orders", 3)]);
    let told = driver.ask(beat("a", 1)).unwrap();
    assert_eq!((told.epoch, told.assignment), (2, Some(orders(&[0, 1, 2]))));
    driver.topics(&[("orders", 3), ("others", 3)]);
    assert_eq!(driver.ask(beat("a", 2)).unwrap().epoch, 2, "not of its topics");
    driver.topics(&[("orders", 3), ("bills", 1)]);
    let told = driver.ask(beat("a", 2)).unwrap();
    assert_eq!(told.assignment.map(|all| all.len()), Some(2));
    assert_eq!(told.epoch, 3);
    driver.topics(&[("bills", 1)]);
    let told = driver.ask(beat("a", 3)).unwrap();
    assert_eq!(told.assignment.map(|all| all.len()), Some(1));
    assert_eq!(told.epoch, 3, "has to give back what is gone");
}

#[test]
fn patterns_stand_for_the_topics_there_are() {
    let mut driver = with_topics(&[("orders", 1), ("order-lines", 1), ("__consumer_offsets", 1)]);
    let with_pattern = |name, pattern: &str| ConsumerHeartbeat {
        pattern: Some(pattern.into()),
        topics: None,
        ..enter(name, &[])
    };
    let told = driver.ask(with_pattern("a", "order.*")).unwrap();
    assert_eq!(told.assignment.map(|all| all.len()), Some(2));
    driver.topics(&[("orders", 1), ("order-lines", 1), ("order-heads", 1), ("xorder", 1)]);
    let told = driver.ask(beat("a", 1)).unwrap();
    assert_eq!((told.epoch, told.assignment.map(|all| all.len())), (2, Some(3)));
    driver.restart(GroupOptions::default());
    let told = driver.ask(beat("a", 2)).unwrap();
    assert_eq!((told.epoch, told.assignment), (2, None), "a restart moves nothing");
    let none = ConsumerHeartbeat { pattern: Some("".into()), ..beat("a", 2) };
    let told = driver.ask(none).unwrap();
    assert_eq!(told.assignment.map(|all| all.len()), Some(0));
    let last = driver.log.iter().rev().find_map(|record| match record {
        Record::Consumer { part: ConsumerPart::Pattern(_, value), .. } => Some(value.clone()),
        _ => None,
    });
    assert_eq!(last, Some(None), "nobody subscribes by it");
    assert_eq!(
        driver.ask(with_pattern("b", ".*")).unwrap().epoch,
        4,
        "internal topics are not meant, and the group goes on"
    );
}

#[test]
fn what_is_no_longer_subscribed_to_is_given_back() {
    let mut driver = with_topics(&[("orders", 1), ("bills", 1)]);
    driver.ask(enter("a", &["orders", "bills"])).unwrap();
    let fewer = ConsumerHeartbeat { topics: topics(&["orders"]), ..beat("a", 1) };
    let told = driver.ask(fewer).unwrap();
    assert_eq!((told.epoch, told.assignment), (1, Some(orders(&[0]))));
    let told = driver.ask(owning("a", 1, &[0])).unwrap();
    assert_eq!(told.epoch, 2);
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let mut driver = with_topics(&[("orders", 4)]);
    driver.ask(enter_static("i", "a")).unwrap();
    let told = driver.ask(enter_static("j", "b")).unwrap();
    assert_eq!(told.epoch, 2);
    let kept = driver.ask(beat("a", 1)).unwrap().assignment.unwrap();
    driver.ask(ConsumerHeartbeat { owned: Some(kept.clone()), ..beat("a", 1) }).unwrap();
    let refused = driver.ask(enter_static("i", "c"));
    assert_eq!(refused, Err(GroupError::UnreleasedInstance), "its process is alive");
    // With its instance or, as franz-go says it, without.
    let away = ConsumerHeartbeat { instance: Some("i".into()), ..beat("a", -2) };
    assert_eq!(driver.ask(away).unwrap().epoch, -2);
    assert_eq!(driver.ask(beat("a", -2)).unwrap().epoch, -2);
    assert_eq!(driver.ask(beat("a", 2)), Err(GroupError::FencedMemberEpoch));
    driver.ask(beat("b", 2)).unwrap();
    assert_eq!(described(&mut driver).epoch, 2, "nobody else notices");
    driver.restart(GroupOptions::default());
    let told = driver.ask(enter_static("i", "c")).unwrap();
    assert_eq!((told.epoch, told.assignment), (2, Some(kept)));
    let old = ConsumerHeartbeat { instance: Some("i".into()), ..beat("a", 2) };
    assert_eq!(driver.ask(old), Err(GroupError::FencedInstance));
    assert_eq!(described(&mut driver).epoch, 2);
}

#[test]
fn a_static_member_that_stays_away_is_out_after_its_session() {
    let mut driver = with_topics(&[("orders", 4)]);
    driver.ask(enter_static("i", "a")).unwrap();
    driver.ask(ConsumerHeartbeat { instance: Some("i".into()), ..beat("a", -2) }).unwrap();
    driver.pass(45 * SECOND);
    assert_eq!(described(&mut driver).members, []);
    let left = ConsumerHeartbeat { instance: Some("i".into()), ..beat("a", -1) };
    assert_eq!(driver.ask(left), Err(GroupError::UnknownMember));
}

#[test]
fn a_restart_brings_everything_back_and_sessions_begin_anew() {
    let (mut driver, ..) = two_members();
    driver.ask(enter("c", &["orders"])).unwrap();
    driver.ask(beat("a", 2)).unwrap();
    let before = described(&mut driver);
    driver.pass(30 * SECOND);
    driver.restart(GroupOptions::default());
    assert_eq!(described(&mut driver), before);
    driver.pass(44 * SECOND);
    assert_eq!(described(&mut driver).members.len(), 3);
    driver.pass(SECOND);
    assert_eq!(described(&mut driver).state, GroupState::Empty);
}

#[test]
fn the_majority_chooses_the_assignor() {
    let mut driver = with_topics(&[("orders", 6)]);
    let with = |name, assignor: &str| ConsumerHeartbeat {
        assignor: Some(assignor.into()),
        ..enter(name, &["orders"])
    };
    driver.ask(with("a", "range")).unwrap();
    assert_eq!(described(&mut driver).assignor, "range");
    driver.ask(with("b", "uniform")).unwrap();
    assert_eq!(described(&mut driver).assignor, "uniform", "at a tie the first");
    driver.ask(with("c", "range")).unwrap();
    assert_eq!(described(&mut driver).assignor, "range");
    let targets: Vec<_> =
        described(&mut driver).members.into_iter().map(|member| member.target).collect();
    assert_eq!(targets, [orders(&[0, 1]), orders(&[2, 3]), orders(&[4, 5])]);
}

#[test]
fn a_large_group_goes_on_while_its_assignment_is_computed() {
    let options = GroupOptions { assign_at_once_max: 0, ..GroupOptions::default() };
    let mut driver = Driver::with(options);
    driver.topics(&[("orders", 4)]);
    driver.holds_jobs = true;
    driver.ask(enter("a", &["orders"])).unwrap();
    let told = driver.ask(enter("b", &["orders"])).unwrap();
    assert_eq!((told.epoch, told.assignment), (1, Some(orders(&[]))), "of the epoch there is");
    driver.ask(enter("c", &["orders"])).unwrap();
    assert_eq!((driver.jobs.len(), described(&mut driver).epoch), (1, 3), "one at a time");
    assert_eq!(described(&mut driver).state, GroupState::Assigning);
    driver.ask(beat("b", -1)).unwrap();
    driver.run_jobs();
    let group = described(&mut driver);
    assert_eq!((group.assignment_epoch, group.epoch), (2, 4));
    driver.ask(beat("a", 1)).unwrap();
    driver.run_jobs();
    let group = described(&mut driver);
    assert_eq!((group.assignment_epoch, group.epoch), (4, 4));
    assert!(group.members.iter().all(|member| member.target.len() == 1), "{group:?}");
}

#[test]
fn offsets_are_committed_by_members_at_their_epoch() {
    let (mut driver, ..) = two_members();
    let commit_at = |name, epoch| commit(Some(name), Generation(epoch), 42);
    driver.ask(commit_at("a", 2)).unwrap();
    assert_eq!(driver.ask(commit_at("a", 1)), Err(GroupError::StaleMemberEpoch));
    assert_eq!(driver.ask(commit_at("x", 2)), Err(GroupError::UnknownMember));
    assert_eq!(driver.ask(commit(None, Generation(-1), 1)), Err(GroupError::UnknownMember));
    let old = OffsetCommit { knows_member_epochs: false, ..commit_at("a", 2) };
    assert_eq!(driver.ask(old), Err(GroupError::VersionTooOld));
    let fetch = |name: &str, epoch| OffsetFetch {
        member: Some(name.into()),
        member_epoch: epoch,
        ..fetch_all()
    };
    assert_eq!(driver.ask(fetch("a", 2)).unwrap().len(), 1);
    assert_eq!(driver.ask(fetch("a", 1)), Err(GroupError::StaleMemberEpoch));
    assert_eq!(driver.ask(fetch("x", 1)), Err(GroupError::UnknownMember));
    assert_eq!(driver.ask(fetch_all()).unwrap().len(), 1);
    let delete = OffsetDelete { group: group(), partitions: vec![at("orders", 0)] };
    let deleted = driver.ask(delete.clone()).unwrap();
    assert_eq!(deleted, [Err(GroupError::GroupSubscribedToTopic)]);
    driver.ask(beat("a", -1)).unwrap();
    driver.ask(beat("b", -1)).unwrap();
    driver.ask(commit(None, Generation(-1), 43)).unwrap();
    assert_eq!(driver.ask(delete).unwrap(), [Ok(())]);
}

#[test]
fn an_empty_group_can_be_deleted_and_leaves_nothing() {
    let (mut driver, ..) = two_members();
    let delete = DeleteGroup { group: group() };
    assert_eq!(driver.ask(delete.clone()), Err(GroupError::NonEmptyGroup));
    driver.ask(beat("a", -1)).unwrap();
    driver.ask(beat("b", -1)).unwrap();
    driver.ask(delete).unwrap();
    assert_eq!(driver.ask(ListGroups::default()).unwrap(), []);
    driver.restart(GroupOptions::default());
    assert_eq!(driver.ask(ListGroups::default()).unwrap(), []);
}

#[test]
fn an_empty_group_takes_up_either_protocol_and_its_epochs_go_on() {
    let (mut driver, ..) = two_members();
    driver.ask(commit(Some("a"), Generation(2), 42)).unwrap();
    driver.ask(beat("a", -1)).unwrap();
    driver.ask(beat("b", -1)).unwrap();
    let generation = driver.stable(&["classic"]);
    assert_eq!(generation, Generation(5));
    let listed = driver.ask(ListGroups::default()).unwrap();
    assert_eq!(listed[0].group_type, GroupType::Classic);
    driver.restart(GroupOptions::default());
    assert_eq!(driver.state(), GroupState::Stable);
    driver.ask(leave("classic")).unwrap();
    let told = driver.ask(enter("a", &["orders"])).unwrap();
    assert_eq!(told.epoch, 7);
    driver.restart(GroupOptions::default());
    let listed = driver.ask(ListGroups::default()).unwrap();
    assert_eq!((listed.len(), listed[0].group_type), (1, GroupType::Consumer));
    assert_eq!(driver.ask(fetch_all()).unwrap().len(), 1, "offsets outlive it");
    let refused = driver.ask(DescribeGroup { group: group() });
    assert_eq!(refused, Err(GroupError::OtherProtocol));
}

#[test]
fn offsets_of_topics_nobody_reads_expire() {
    let options = GroupOptions {
        offsets_retention: 100 * SECOND,
        offsets_check_interval: 10 * SECOND,
        ..GroupOptions::default()
    };
    let mut driver = Driver::with(options);
    driver.topics(&[("orders", 1), ("bills", 1)]);
    driver.ask(enter("a", &["orders"])).unwrap();
    let mut both = commit(Some("a"), Generation(1), 42);
    both.offsets.push(OffsetToCommit { partition: at("bills", 0), ..both.offsets[0].clone() });
    driver.ask(both).unwrap();
    for _ in 0..11 {
        driver.ask(beat("a", 1)).unwrap();
        driver.pass(10 * SECOND);
    }
    let left = driver.ask(fetch_all()).unwrap();
    assert_eq!(left.iter().map(|it| it.partition.clone()).collect::<Vec<_>>(), [at("orders", 0)]);
    driver.ask(beat("a", -1)).unwrap();
    driver.pass(110 * SECOND);
    assert_eq!(driver.ask(ListGroups::default()).unwrap(), [], "nothing is left");
}

#[test]
fn the_timeline_tells_what_happened() {
    let (mut driver, ..) = two_members();
    driver.ask(beat("b", -1)).unwrap();
    let events = driver.ask(GroupTimeline { group: group() }).unwrap().unwrap();
    let kinds: Vec<String> = events
        .iter()
        .map(|event| format!("{:?}", event.kind).split([' ', '{']).next().unwrap().to_owned())
        .collect();
    let expected = [
        "Joined",
        "EpochStarted",
        "TargetAssigned",
        "Reconciled",
        "Joined",
        "EpochStarted",
        "TargetAssigned",
        "Reconciled",
        "Left",
        "EpochStarted",
    ];
    assert_eq!(kinds, expected);
}
