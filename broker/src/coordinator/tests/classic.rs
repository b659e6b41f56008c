//! The classic protocol, case by case.

use super::driver::*;
use crate::coordinator::*;
use bytes::Bytes;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_dynamic_member_joins_with_the_id_it_was_given() {
    let mut driver = Driver::new();
    let mut first = join("client-1");
    first.knows_member_id_required = true;
    let id = driver.send(first);
    let refused = driver.reply::<JoinGroup>(id).unwrap().unwrap_err();
    let expected =
        JoinRefused { error: GroupError::MemberIdRequired, member: Some("client-1".into()) };
    assert_eq!(refused, expected);
    assert_eq!(driver.ask(ListGroups::default()).unwrap(), [], "not a group yet");
    let id = driver.send(rejoin("client-1"));
    driver.pass(3 * SECOND);
    let joined = driver.joined(id);
    assert_eq!(joined.leader, joined.member);
    assert_eq!(joined.generation, Generation(1));
    assert_eq!(joined.protocol.as_deref(), Some("range"));
    assert_eq!(joined.members.len(), 1);
}

#[test]
fn an_id_that_is_not_used_in_time_leaves_nothing_behind() {
    let mut driver = Driver::new();
    let mut first = join("client-1");
    first.knows_member_id_required = true;
    driver.send(first);
    driver.pass(10 * SECOND);
    assert_eq!(driver.state(), GroupState::Dead);
    let late = driver.send(rejoin("client-1"));
    assert_eq!(driver.refused(late), GroupError::UnknownMember);
    assert!(driver.log.is_empty());
}

#[test]
fn the_first_rebalance_waits_longer_while_members_come() {
    let mut driver = Driver::new();
    let a = driver.send(join("a"));
    driver.pass(2 * SECOND);
    let b = driver.send(join("b"));
    driver.pass(3 * SECOND);
    assert!(driver.is_waiting(a), "b came, so three seconds more");
    driver.pass(SECOND);
    assert_eq!(driver.joined(a).members.len(), 2);
    assert_eq!(driver.joined(b).members, []);
    let c = driver.send(join("c"));
    assert!(driver.is_waiting(c), "the others have to join again");
}

#[test]
fn the_first_rebalance_ends_with_the_rebalance_timeout_whoever_comes() {
    let mut driver = Driver::new();
    let mut ids = Vec::new();
    for count in 0..5 {
        let mut request = join(&format!("m{count}"));
        request.rebalance_timeout = 7 * SECOND;
        ids.push(driver.send(request));
        driver.pass(2 * SECOND);
    }
    assert!(!driver.is_waiting(ids[0]), "3 s, 3 s more, 1 s more, and that is all");
    assert_eq!(driver.joined(ids[0]).generation, Generation(1));
}

#[test]
fn the_leader_assigns_and_everyone_gets_its_own() {
    let mut driver = Driver::new();
    let (a, b) = (driver.send(join("a")), driver.send(join("b")));
    driver.pass(6 * SECOND);
    let generation = driver.joined(a).generation;
    assert_eq!(driver.joined(b).leader.as_str(), "a");
    let waiting = driver.send(sync("b", generation));
    assert!(driver.is_waiting(waiting), "no assignment yet");
    let leader = driver.ask(assign("a", generation, &["a", "b"])).unwrap();
    assert_eq!(leader.assignment, "a");
    assert_eq!(driver.reply::<SyncGroup>(waiting).unwrap().unwrap().assignment, "b");
    let again = driver.ask(sync("b", generation)).unwrap();
    assert_eq!((again.assignment, again.protocol.as_deref()), ("b".into(), Some("range")));
    let described = driver.ask(DescribeGroup { group: group() }).unwrap().unwrap();
    assert_eq!(&*described.protocol, "range");
    assert_eq!(described.members[1].assignment, "b");
}

#[test]
fn a_member_the_leader_forgot_gets_an_empty_assignment() {
    let mut driver = Driver::new();
    let (a, _) = (driver.send(join("a")), driver.send(join("b")));
    driver.pass(6 * SECOND);
    let generation = driver.joined(a).generation;
    let waiting = driver.send(sync("b", generation));
    driver.ask(assign("a", generation, &["a", "stranger"])).unwrap();
    assert_eq!(driver.reply::<SyncGroup>(waiting).unwrap().unwrap().assignment, Bytes::new());
}

#[test]
fn generations_members_and_protocols_are_checked() {
    let mut driver = Driver::new();
    let now = driver.stable(&["a", "b"]);
    let old = Generation(now.0 - 1);
    assert_eq!(driver.ask(heartbeat("a", now)), Ok(()));
    assert_eq!(driver.ask(heartbeat("a", old)), Err(GroupError::IllegalGeneration));
    assert_eq!(driver.ask(heartbeat("c", now)), Err(GroupError::UnknownMember));
    assert_eq!(driver.ask(sync("a", old)), Err(GroupError::IllegalGeneration));
    let mut other = sync("a", now);
    other.protocol = Some("sticky".into());
    assert_eq!(driver.ask(other), Err(GroupError::InconsistentProtocol));
    let mut other = sync("a", now);
    other.protocol_type = Some("connect".into());
    assert_eq!(driver.ask(other), Err(GroupError::InconsistentProtocol));
    let mut stranger = join("c");
    stranger.protocols = protocols(&["sticky"]);
    let stranger = driver.send(stranger);
    assert_eq!(driver.refused(stranger), GroupError::InconsistentProtocol);
    let mut stranger = join("c");
    stranger.protocol_type = "connect".into();
    let stranger = driver.send(stranger);
    assert_eq!(driver.refused(stranger), GroupError::InconsistentProtocol);
}

#[test]
fn requests_without_a_group_or_outside_the_limits_are_refused() {
    let mut driver = Driver::new();
    let mut nameless = join("a");
    nameless.group = "".into();
    let id = driver.send(nameless);
    assert_eq!(driver.refused(id), GroupError::InvalidGroupId);
    for timeout in [5999, 1_800_001] {
        let mut request = join("a");
        request.session_timeout = Duration::from_millis(timeout);
        let id = driver.send(request);
        assert_eq!(driver.refused(id), GroupError::InvalidSessionTimeout);
    }
    let mut request = join("a");
    request.protocols.clear();
    let id = driver.send(request);
    assert_eq!(driver.refused(id), GroupError::InconsistentProtocol);
    assert_eq!(driver.ask(heartbeat("a", Generation(1))), Err(GroupError::UnknownMember));
    assert_eq!(driver.ask(leave("a")), Err(GroupError::UnknownMember));
    assert_eq!(driver.ask(sync("a", Generation(1))), Err(GroupError::UnknownMember));
    assert!(driver.log.is_empty());
}

#[test]
fn the_protocol_most_prefer_among_those_all_know_is_chosen() {
    let mut driver = Driver::new();
    let wishes = [
        ("a", ["sticky", "range", "roundrobin"]),
        ("b", ["roundrobin", "range", "other"]),
        ("c", ["roundrobin", "third", "range"]),
    ];
    let ids = wishes.map(|(name, known)| {
        let mut request = join(name);
        request.protocols = protocols(&known);
        driver.send(request)
    });
    driver.pass(10 * SECOND);
    for id in ids {
        assert_eq!(driver.joined(id).protocol.as_deref(), Some("roundrobin"));
    }
}

#[test]
fn a_new_member_makes_the_others_join_again() {
    let mut driver = Driver::new();
    let generation = driver.stable(&["a", "b"]);
    let c = driver.send(join("c"));
    assert_eq!(driver.ask(heartbeat("a", generation)), Err(GroupError::RebalanceInProgress));
    assert_eq!(driver.ask(sync("a", generation)), Err(GroupError::RebalanceInProgress));
    let a = driver.send(rejoin("a"));
    assert!(driver.is_waiting(a));
    let b = driver.send(rejoin("b"));
    let ids = [a, b, c].map(|id| driver.joined(id));
    assert!(ids.iter().all(|joined| joined.generation.0 == generation.0 + 1));
    assert_eq!(ids.map(|joined| joined.members.len()), [3, 0, 0]);
}

#[test]
fn who_does_not_join_again_in_time_is_out() {
    let mut driver = Driver::new();
    let generation = driver.stable(&["a", "b"]);
    let c = driver.send(join("c"));
    let b = driver.send(rejoin("b"));
    for _ in 0..11 {
        driver.pass(5 * SECOND);
        let _ = driver.ask(heartbeat("a", generation));
    }
    assert!(driver.is_waiting(b), "a shows that it lives, and has a minute");
    driver.pass(5 * SECOND);
    let joined = driver.joined(b);
    assert_eq!((joined.leader.as_str(), joined.members.len()), ("b", 2), "the leader is out");
    assert!(!driver.is_waiting(c));
    assert_eq!(driver.ask(heartbeat("a", generation)), Err(GroupError::UnknownMember));
    let events = driver.ask(GroupTimeline { group: group() }).unwrap().unwrap();
    let is_late = |kind: &EventKind| match kind {
        EventKind::TimedOut { member, timeout: Timeout::Rejoin, limit, client } => {
            member.as_str() == "a" && *limit == Some(60 * SECOND) && client.is_some()
        }
        _ => false,
    };
    assert!(events.iter().any(|event| is_late(&event.kind)), "{events:?}");
}

#[test]
fn who_is_not_heard_of_for_its_session_is_out() {
    let mut driver = Driver::new();
    let generation = driver.stable(&["a", "b"]);
    driver.pass(9 * SECOND);
    assert_eq!(driver.ask(heartbeat("a", generation)), Ok(()));
    driver.pass(2 * SECOND);
    assert_eq!(driver.ask(heartbeat("a", generation)), Err(GroupError::RebalanceInProgress));
    assert_eq!(driver.ask(heartbeat("b", generation)), Err(GroupError::UnknownMember));
    let a = driver.send(rejoin("a"));
    assert_eq!(driver.joined(a).members.len(), 1);
}

#[test]
fn a_commit_shows_that_its_member_lives() {
    let mut driver = Driver::new();
    let generation = driver.stable(&["a"]);
    for offset in 0..5 {
        driver.pass(9 * SECOND);
        assert_eq!(driver.ask(commit(Some("a"), generation, offset)), Ok(vec![Ok(())]));
    }
    assert_eq!(driver.state(), GroupState::Stable);
}

#[test]
fn a_waiting_member_needs_no_heartbeats_unless_it_is_new() {
    let mut driver = Driver::new();
    driver.stable(&["a", "b"]);
    let c = driver.send(JoinGroup { rebalance_timeout: 600 * SECOND, ..join("c") });
    let a = driver.send(rejoin("a"));
    let generation = Generation(1);
    for _ in 0..39 {
        driver.pass(8 * SECOND);
        let _ = driver.ask(heartbeat("b", generation));
    }
    assert!(driver.is_waiting(a), "312 s without a heartbeat");
    assert_eq!(driver.refused(c), GroupError::UnknownMember, "a new one has 300 s");
}

#[test]
fn who_does_not_fetch_its_assignment_in_time_is_out() {
    let mut driver = Driver::new();
    let (a, b) = (driver.send(join("a")), driver.send(join("b")));
    driver.pass(6 * SECOND);
    let generation = driver.joined(a).generation;
    driver.joined(b);
    driver.ask(assign("a", generation, &["a", "b"])).unwrap();
    for _ in 0..12 {
        driver.pass(5 * SECOND);
        let _ = driver.ask(heartbeat("a", generation));
        let _ = driver.ask(heartbeat("b", generation));
    }
    assert_eq!(driver.ask(heartbeat("b", generation)), Err(GroupError::UnknownMember));
    assert_eq!(driver.ask(heartbeat("a", generation)), Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_rebalance_during_the_assignment_tells_those_who_wait_for_it() {
    let mut driver = Driver::new();
    let (a, _) = (driver.send(join("a")), driver.send(join("b")));
    driver.pass(6 * SECOND);
    let generation = driver.joined(a).generation;
    let waiting = driver.send(sync("b", generation));
    driver.send(join("c"));
    let told = driver.reply::<SyncGroup>(waiting).unwrap();
    assert_eq!(told, Err(GroupError::RebalanceInProgress));
    let late = driver.ask(assign("a", generation, &["a", "b"]));
    assert_eq!(late, Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_repeated_join_does_not_disturb_the_generation() {
    let mut driver = Driver::new();
    let (a, b) = (driver.send(join("a")), driver.send(join("b")));
    driver.pass(6 * SECOND);
    let generation = driver.joined(a).generation;
    driver.joined(b);
    let again = driver.send(rejoin("a"));
    assert_eq!(driver.joined(again).members.len(), 2, "the leader is told everyone again");
    driver.ask(assign("a", generation, &["a", "b"])).unwrap();
    let again = driver.send(rejoin("b"));
    assert_eq!(driver.joined(again).generation, generation);
    let leader = driver.send(rejoin("a"));
    assert!(driver.is_waiting(leader), "a leader that joins again wants another assignment");
    let mut changed = rejoin("b");
    changed.protocols = protocols(&["roundrobin"]);
    let changed = driver.send(changed);
    assert_eq!(driver.joined(changed).protocol.as_deref(), Some("roundrobin"));
    assert!(!driver.is_waiting(leader));
}

#[test]
fn of_two_joins_of_one_member_the_later_counts() {
    let mut driver = Driver::new();
    driver.stable(&["a", "b"]);
    driver.send(join("c"));
    let first = driver.send(rejoin("a"));
    let second = driver.send(rejoin("a"));
    assert_eq!(driver.refused(first), GroupError::RebalanceInProgress);
    let b = driver.send(rejoin("b"));
    assert_eq!(driver.joined(second).generation, driver.joined(b).generation);
}

#[test]
fn members_leave_one_by_one_until_the_group_is_empty() {
    let mut driver = Driver::new();
    let generation = driver.stable(&["a", "b"]);
    let left = driver.ask(leave("a")).unwrap();
    assert_eq!(left[0].result, Ok(()));
    let b = driver.send(rejoin("b"));
    let joined = driver.joined(b);
    assert_eq!(joined.generation.0, generation.0 + 1);
    assert_eq!(joined.leader.as_str(), "b");
    driver.ask(leave("b")).unwrap();
    assert_eq!(driver.state(), GroupState::Empty);
    assert!(matches!(
        driver.log.last(),
        Some(Record::Group { value: Some(record), .. })
            if record.members.is_empty() && record.generation.0 == generation.0 + 2
                && record.protocol.is_none() && &*record.protocol_type == "consumer"
    ));
    driver.restart(GroupOptions::default());
    let id = driver.send(join("a"));
    driver.pass(3 * SECOND);
    assert_eq!(driver.joined(id).generation.0, generation.0 + 3, "generations never repeat");
}

#[test]
fn several_leave_at_once_and_each_has_its_own_result() {
    let mut driver = Driver::new();
    let id = driver.send(join_static("one", "one-1"));
    driver.send(join("a"));
    driver.pass(6 * SECOND);
    driver.joined(id);
    let leaving = |member: Option<&str>, instance: Option<&str>| LeavingMember {
        member: member.map(MemberId::from),
        instance: instance.map(InstanceId::from),
        reason: None,
    };
    let request = LeaveGroup {
        group: group(),
        members: vec![
            leaving(Some("one-2"), Some("one")),
            leaving(None, Some("two")),
            leaving(Some("b"), None),
            leaving(None, Some("one")),
            leaving(Some("a"), None),
        ],
    };
    let results: Vec<_> =
        driver.ask(request).unwrap().into_iter().map(|left| left.result).collect();
    assert_eq!(
        results,
        [
            Err(GroupError::FencedInstance),
            Err(GroupError::UnknownMember),
            Err(GroupError::UnknownMember),
            Ok(()),
            Ok(()),
        ]
    );
    assert_eq!(driver.state(), GroupState::Empty);
}

/// A stable group of the static member `one` (its leader) and the dynamic member `zed`.
fn with_static_member(driver: &mut Driver) -> Generation {
    let (one, zed) = (driver.send(join_static("one", "one-1")), driver.send(join("zed")));
    driver.pass(6 * SECOND);
    let generation = driver.joined(one).generation;
    driver.joined(zed);
    driver.ask(assign("one-1", generation, &["one-1", "zed"])).unwrap();
    driver.ask(sync("zed", generation)).unwrap();
    generation
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let mut driver = Driver::new();
    let generation = with_static_member(&mut driver);
    let back = driver.send(join_static("one", "one-2"));
    let joined = driver.joined(back);
    assert_eq!((joined.generation, joined.member.as_str()), (generation, "one-2"));
    assert!(joined.skip_assignment && joined.members.len() == 2, "it leads and need not assign");
    assert_eq!(driver.state(), GroupState::Stable);
    let mut old = heartbeat("one-1", generation);
    old.instance = Some("one".into());
    assert_eq!(driver.ask(old), Err(GroupError::FencedInstance));
    let mut new = sync("one-2", generation);
    new.instance = Some("one".into());
    assert_eq!(driver.ask(new).unwrap().assignment, "one-1", "what it had");
    let mut stale = commit(Some("one-1"), generation, 4);
    stale.instance = Some("one".into());
    assert_eq!(driver.ask(stale), Err(GroupError::FencedInstance));
    driver.restart(GroupOptions::default());
    assert_eq!(driver.ask(heartbeat("one-2", generation)), Ok(()), "the new id is in the log");
}

#[test]
fn an_old_client_that_comes_back_is_not_told_that_it_leads() {
    let mut driver = Driver::new();
    with_static_member(&mut driver);
    let mut back = join_static("one", "one-2");
    back.knows_skip_assignment = false;
    let back = driver.send(back);
    let joined = driver.joined(back);
    assert_eq!((joined.leader.as_str(), joined.members.len()), ("one-1", 0));
    assert!(!joined.skip_assignment);
}

#[test]
fn a_static_member_that_changes_the_protocol_makes_the_group_rebalance() {
    let mut driver = Driver::new();
    with_static_member(&mut driver);
    let mut back = join_static("one", "one-2");
    back.protocols = protocols(&["roundrobin"]);
    let back = driver.send(back);
    assert!(driver.is_waiting(back));
    let zed = driver.send(rejoin("zed"));
    assert_eq!(driver.joined(zed).protocol.as_deref(), Some("roundrobin"));
    assert_eq!(driver.joined(back).members.len(), 2);
}

#[test]
fn a_process_that_still_waits_is_told_that_its_instance_was_taken() {
    let mut driver = Driver::new();
    let old = driver.send(join_static("one", "one-1"));
    let new = driver.send(join_static("one", "one-2"));
    assert_eq!(driver.refused(old), GroupError::FencedInstance);
    driver.pass(6 * SECOND);
    let generation = driver.joined(new).generation;
    assert_eq!(driver.state(), GroupState::CompletingRebalance);
    let newer = driver.send(join_static("one", "one-3"));
    assert_eq!(driver.joined(newer).generation.0, generation.0 + 1, "the assignment was for one-2");
}

#[test]
fn a_static_member_is_not_missed_before_its_session_ends() {
    let mut driver = Driver::new();
    let generation = with_static_member(&mut driver);
    let mut slow = rejoin("zed");
    slow.protocols = protocols(&["roundrobin", "range"]);
    slow.rebalance_timeout = 2 * SECOND;
    let mut one = join_static("one", "one-2");
    one.rebalance_timeout = 2 * SECOND;
    one.session_timeout = 30 * SECOND;
    let one = driver.send(one);
    driver.joined(one);
    let zed = driver.send(slow);
    assert!(driver.is_waiting(zed));
    driver.pass(2 * SECOND);
    let joined = driver.joined(zed);
    assert_eq!(joined.generation.0, generation.0 + 1);
    assert_eq!(joined.members.len(), 2, "the static member keeps its place: {joined:?}");
}

#[test]
fn a_full_group_takes_no_more_members() {
    let mut driver = Driver::with(GroupOptions { size_max: 2, ..Default::default() });
    driver.stable(&["a", "b"]);
    let c = driver.send(join("c"));
    assert_eq!(driver.refused(c), GroupError::GroupMaxSizeReached);
    assert_eq!(driver.state(), GroupState::Stable);
    let b = driver.send(rejoin("b"));
    assert!(!driver.is_waiting(b), "a member may always join again");
}

#[test]
fn a_group_that_is_larger_than_now_allowed_shrinks_at_the_next_start() {
    let mut driver = Driver::new();
    driver.stable(&["a", "b", "c"]);
    driver.restart(GroupOptions { size_max: 2, ..Default::default() });
    assert_eq!(driver.state(), GroupState::PreparingRebalance);
    let ids = ["a", "b", "c"].map(|name| driver.send(rejoin(name)));
    assert_eq!(driver.refused(ids[2]), GroupError::GroupMaxSizeReached);
    assert_eq!(driver.joined(ids[0]).members.len(), 2);
}

#[test]
fn a_restart_brings_the_stable_group_back_and_gives_it_a_fresh_session() {
    let mut driver = Driver::new();
    let generation = driver.stable(&["a", "b"]);
    let before = driver.ask(DescribeGroup { group: group() });
    driver.pass(9 * SECOND);
    driver.restart(GroupOptions::default());
    assert_eq!(driver.ask(DescribeGroup { group: group() }), before);
    driver.pass(9 * SECOND);
    assert_eq!(driver.ask(heartbeat("a", generation)), Ok(()));
    assert_eq!(driver.ask(sync("b", generation)).unwrap().assignment, "b");
    driver.pass(2 * SECOND);
    assert_eq!(driver.ask(heartbeat("b", generation)), Err(GroupError::UnknownMember));
}

#[test]
fn a_rebalance_cut_off_by_a_restart_begins_again_from_the_members_before_it() {
    let mut driver = Driver::new();
    let generation = driver.stable(&["a", "b"]);
    driver.send(join("c"));
    let (a, b) = (driver.send(rejoin("a")), driver.send(rejoin("b")));
    assert_eq!(driver.joined(a).generation.0, generation.0 + 1);
    driver.joined(b);
    driver.restart(GroupOptions::default());
    assert_eq!(driver.ask(heartbeat("a", generation)), Ok(()));
    let unknown = driver.ask(assign("a", Generation(generation.0 + 1), &["a"]));
    assert_eq!(unknown, Err(GroupError::IllegalGeneration), "it was never assigned");
    let c = driver.send(rejoin("c"));
    assert_eq!(driver.refused(c), GroupError::UnknownMember);
}

#[test]
fn a_group_of_another_type_is_assigned_just_so() {
    let mut driver = Driver::new();
    let mut request = join("worker");
    request.protocol_type = "connect".into();
    request.protocols = vec![Protocol { name: "sessioned".into(), metadata: "?".into() }];
    let id = driver.send(request);
    driver.pass(3 * SECOND);
    let generation = driver.joined(id).generation;
    driver.ask(assign("worker", generation, &["worker"])).unwrap();
    assert_eq!(driver.state(), GroupState::Stable);
    let listed = driver.ask(ListGroups::default()).unwrap();
    assert_eq!(&*listed[0].protocol_type, "connect");
}

#[test]
fn lists_are_filtered_by_state_and_type() {
    let mut driver = Driver::new();
    driver.stable(&["a"]);
    let filter = |states: &[GroupState], types: &[GroupType]| ListGroups {
        states: Some(states.to_vec()),
        types: Some(types.to_vec()),
    };
    let both = [GroupType::Classic, GroupType::Consumer];
    assert_eq!(driver.ask(filter(&[GroupState::Stable], &both)).unwrap().len(), 1);
    assert_eq!(driver.ask(filter(&[GroupState::Empty], &both)).unwrap(), []);
    let consumer = filter(&[GroupState::Stable], &[GroupType::Consumer]);
    assert_eq!(driver.ask(consumer).unwrap(), []);
}
