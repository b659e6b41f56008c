//! A follower, its fetches and their answers.

use super::*;

/// A log with these batches (epoch, records), followed by broker 2 in epoch 9.
fn follower(batches: &[(i32, usize)]) -> PartitionCore {
    let mut core = replica();
    image(&mut core, &state(Some(2), (0, 0), &[2]));
    let mut next = 0;
    for (epoch, count) in batches {
        replicate(&mut core, *epoch, &mut next, *count);
    }
    image(&mut core, &state(Some(2), (9, 1), &[2]));
    core
}

fn replicate(core: &mut PartitionCore, epoch: i32, next: &mut i64, count: usize) {
    let mut header = batch(None, count);
    (header.partition_leader_epoch, header.base_offset) = (epoch, *next);
    core.on_replicated(&header, Timestamp(0));
    *next += i64::try_from(count).unwrap();
}

fn diverging(epoch: i32, end: i64) -> FetchAnswer {
    FetchAnswer::Diverging { epoch: LeaderEpoch(epoch), end: Offset(end) }
}

/// Asks, is answered, and returns where the log is cut.
fn cut(core: &mut PartitionCore, answer: FetchAnswer) -> i64 {
    let asked = core.next_fetch(at(0)).unwrap();
    match core.on_fetched(at(0), asked.number, answer) {
        FollowerStep::Truncate { to, generation } => {
            assert_eq!(generation, core.generation());
            assert_eq!(core.next_fetch(at(60_000)), None, "not before it is cut");
            core.on_cut(at(0), to, ProducerTable::default());
            to.0
        }
        step => panic!("{step:?}"),
    }
}

#[test]
fn a_follower_says_how_far_it_is_and_asks_one_thing_at_a_time() {
    let mut core = follower(&[(0, 3), (2, 2)]);
    core.on_flushed(Offset(4), core.generation());
    let asked = core.next_fetch(at(0)).unwrap();
    assert_eq!(asked.leader, YOU);
    let expected = ReplicaFetch {
        replica: ME,
        broker_epoch: BrokerEpoch(10),
        leader_epoch: LeaderEpoch(9),
        fetch_offset: Offset(5),
        last_epoch: Some(LeaderEpoch(2)),
        durable: Offset(4),
        log_start: Offset(0),
    };
    assert_eq!(asked.fetch, expected);
    assert_eq!(core.next_fetch(at(100)), None);
    let again = core.next_fetch(at(2_000)).unwrap();
    assert_eq!(core.on_fetched(at(2_001), asked.number, diverging(0, 1)), FollowerStep::Ignore);
    core.on_fetch_failed(at(2_001), again.number);
    assert_eq!(core.next_fetch(at(2_050)), None, "it leaves the leader alone for a while");
    assert!(core.next_fetch(at(2_051)).is_some());
}

#[test]
fn an_answer_of_an_earlier_leader_is_not_used() {
    let mut core = follower(&[(0, 3)]);
    let asked = core.next_fetch(at(0)).unwrap();
    image(&mut core, &state(Some(3), (10, 2), &[3]));
    assert_eq!(core.on_fetched(at(1), asked.number, diverging(0, 1)), FollowerStep::Ignore);
    assert_eq!(core.following(), Some((THIRD, LeaderEpoch(10))));
}

#[test]
fn the_log_is_cut_where_the_epochs_part() {
    // The leader's epoch 2 ended earlier.
    assert_eq!(cut(&mut follower(&[(0, 3), (2, 4)]), diverging(2, 5)), 5);
    // The leader has no epoch 2: what is ours of it goes, and the leader is asked again.
    assert_eq!(cut(&mut follower(&[(0, 3), (2, 4)]), diverging(0, 5)), 3);
    // The leader's largest is one we do not have: back to the epoch before it (KIP-279).
    assert_eq!(cut(&mut follower(&[(0, 3), (2, 4)]), diverging(1, 9)), 3);
    // Nothing in common.
    assert_eq!(cut(&mut follower(&[(2, 4)]), diverging(1, 9)), 0);
}

#[test]
fn what_was_durable_ends_with_the_log_and_flushes_of_before_do_not_count() {
    let mut core = follower(&[(0, 3), (2, 4)]);
    let before = core.generation();
    core.on_flushed(Offset(7), before);
    assert_eq!(cut(&mut core, diverging(2, 5)), 5);
    assert_eq!(core.log().durable, Offset(5));
    let mut next = 5;
    replicate(&mut core, 9, &mut next, 2);
    core.on_flushed(Offset(7), before);
    assert_eq!(core.log().durable, Offset(5), "what was flushed is not there any more");
    core.on_flushed(Offset(7), core.generation());
    assert_eq!(core.log().durable, Offset(7));
}

#[test]
fn the_high_watermark_rises_only_with_records_that_agree() {
    let mut core = follower(&[(0, 3)]);
    assert!(core.on_leader_ends(Offset(2), Offset(0)));
    assert_eq!(core.high_watermark(), Offset(2));
    assert_eq!(cut(&mut core, diverging(0, 2)), 2);
    assert_eq!(core.high_watermark(), Offset(2), "a diverging answer brings none");
    core.on_leader_ends(Offset(9), Offset(1));
    assert_eq!(core.high_watermark(), Offset(2), "no further than the log goes");
    assert_eq!(core.log().start, Offset(1));
    core.on_leader_ends(Offset(1), Offset(0));
    assert_eq!(core.high_watermark(), Offset(2));
}

#[test]
fn a_log_the_leader_has_outlived_begins_anew() {
    let mut core = follower(&[(0, 3)]);
    let asked = core.next_fetch(at(0)).unwrap();
    let step =
        core.on_fetched(at(1), asked.number, FetchAnswer::OutOfRange { log_start: Offset(40) });
    assert!(matches!(step, FollowerStep::Restart { at: Offset(40), .. }), "{step:?}");
    core.on_cut(at(1), core.log().end, ProducerTable::default());
    let asked = core.next_fetch(at(1)).unwrap().fetch;
    assert_eq!((asked.fetch_offset, asked.last_epoch), (Offset(40), None));
    assert_eq!(core.log(), LogView { start: Offset(40), end: Offset(40), durable: Offset(40) });
}

#[test]
fn an_epoch_led_without_a_write_is_forgotten_by_a_follower() {
    let mut core = follower(&[(0, 3)]);
    image(&mut core, &state(Some(1), (10, 2), &[1]));
    assert_eq!(core.end_offset_for(LeaderEpoch(10)), Some((LeaderEpoch(10), Offset(3))));
    image(&mut core, &state(Some(2), (11, 3), &[2]));
    let mut next = 3;
    replicate(&mut core, 9, &mut next, 2);
    image(&mut core, &state(Some(1), (12, 4), &[1]));
    // With epoch 10 at 3 kept, followers would have been told that epoch 9 ends there.
    assert_eq!(core.end_offset_for(LeaderEpoch(9)), Some((LeaderEpoch(9), Offset(5))));
}

#[test]
fn a_broker_without_a_replica_follows_nobody() {
    let mut core = replica();
    let mut elsewhere = state(Some(2), (1, 1), &[2]);
    elsewhere.replicas = vec![YOU, THIRD];
    image(&mut core, &elsewhere);
    assert_eq!((core.following(), core.leader_epoch()), (None, None));
    assert_eq!(core.next_fetch(at(0)), None);
}

#[test]
fn a_new_leader_is_asked_only_once_the_log_is_cut() {
    let mut core = follower(&[(0, 3)]);
    let asked = core.next_fetch(at(0)).unwrap();
    let step = core.on_fetched(at(0), asked.number, diverging(0, 1));
    assert!(matches!(step, FollowerStep::Truncate { to: Offset(1), .. }));
    image(&mut core, &state(Some(3), (10, 2), &[3]));
    assert_eq!((core.next_fetch(at(60_000)), core.fetch_due_at()), (None, None));
    core.on_cut(at(60_000), Offset(1), ProducerTable::default());
    assert_eq!(core.next_fetch(at(60_000)).unwrap().fetch.fetch_offset, Offset(1));
}

#[test]
fn who_is_elected_while_its_log_is_cut_keeps_its_epoch() {
    let mut core = follower(&[(0, 3)]);
    let asked = core.next_fetch(at(0)).unwrap();
    core.on_fetched(at(0), asked.number, diverging(0, 1));
    image(&mut core, &state(Some(1), (10, 2), &[1]));
    core.on_cut(at(0), Offset(1), ProducerTable::default());
    assert_eq!(core.end_offset_for(LeaderEpoch(10)), Some((LeaderEpoch(10), Offset(1))));
    assert_eq!(core.end_offset_for(LeaderEpoch(9)), Some((LeaderEpoch(0), Offset(1))));
}

#[test]
fn a_batch_that_is_being_cut_off_is_not_taken_for_written() {
    let mut core = follower(&[]);
    let mut sent = batch(Some((0, 0)), 1);
    sent.partition_leader_epoch = 8;
    core.on_replicated(&sent, Timestamp(0));
    let asked = core.next_fetch(at(0)).unwrap();
    core.on_fetched(at(0), asked.number, diverging(0, 0));
    image(&mut core, &state(Some(1), (10, 2), &[1, 2]));
    // It would be answered as committed with whatever is written there next.
    assert_eq!(core.on_produce(&sent, Acks::All), Err(AppendRefusal::NotLeader));
    core.on_cut(at(0), Offset(0), ProducerTable::default());
    let again = Decision::Append { base_offset: Offset(0), leader_epoch: LeaderEpoch(10) };
    assert_eq!(core.on_produce(&sent, Acks::All), Ok(again));
}
