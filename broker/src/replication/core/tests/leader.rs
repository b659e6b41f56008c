//! A leader and what its followers report.

use super::*;
use crate::metadata::{AlterAnswer, AlterPartition, AlterRefusal, InSyncReplica};

/// Broker 1 leads epoch 1, with these in sync.
fn leader(isr: &[i32]) -> PartitionCore {
    let mut core = replica();
    image(&mut core, &state(Some(1), (1, 1), isr));
    core
}

fn fetch(replica: BrokerId, offset: i64, durable: i64) -> ReplicaFetch {
    ReplicaFetch {
        replica,
        broker_epoch: BrokerEpoch(20),
        leader_epoch: LeaderEpoch(1),
        fetch_offset: Offset(offset),
        last_epoch: (offset > 0).then_some(LeaderEpoch(1)),
        durable: Offset(durable),
        log_start: Offset(0),
    }
}

/// Returns whether the high watermark moved.
fn report(core: &mut PartitionCore, ms: u64, fetch: &ReplicaFetch) -> bool {
    core.on_fetch(at(ms), fetch, Some(BrokerEpoch(20))).unwrap().moved
}

fn ids(question: &AlterPartition) -> Vec<i32> {
    question.in_sync.iter().map(|replica| replica.broker.0).collect()
}

fn altered(partition_epoch: i32, isr: &[i32]) -> AlterAnswer {
    let in_sync = isr.iter().copied().map(BrokerId).collect();
    AlterAnswer::Altered { leader_epoch: LeaderEpoch(1), partition_epoch, in_sync }
}

fn answer(core: &mut PartitionCore, ms: u64, number: u64, answer: &AlterAnswer) -> bool {
    core.on_alter_answer(at(ms), LeaderEpoch(1), number, answer)
}

#[test]
fn a_write_is_committed_when_every_replica_in_sync_has_it_on_disk() {
    let mut core = leader(&[1, 2]);
    append(&mut core, &batch(None, 3));
    flush(&mut core, 3);
    assert_eq!(core.high_watermark(), Offset(0), "the follower has said nothing");
    assert!(!report(&mut core, 1, &fetch(YOU, 3, 0)), "it has it in memory");
    assert!(report(&mut core, 2, &fetch(YOU, 3, 2)));
    assert_eq!(core.high_watermark(), Offset(2));
    let durable = |durable| DurableReport {
        replica: YOU,
        broker_epoch: BrokerEpoch(20),
        leader_epoch: LeaderEpoch(1),
        durable: Offset(durable),
        log_start: Offset(0),
    };
    assert_eq!(core.on_durable(at(3), &durable(3)), Ok(true));
    assert_eq!(core.ack_state_of(LeaderEpoch(1), Offset(2)), AckState::Committed);
    assert_eq!(core.ack_state_of(LeaderEpoch(0), Offset(2)), AckState::NotLeader);
    assert_eq!(core.latest_offset(), Some(Offset(3)));
}

#[test]
fn without_waiting_for_disks_a_write_is_committed_when_every_replica_has_it() {
    let mut core = leader(&[1, 2]);
    core.on_config(FlushMode::Os, 2);
    append(&mut core, &batch(None, 3));
    assert!(report(&mut core, 1, &fetch(YOU, 3, 0)));
    assert_eq!(core.high_watermark(), Offset(3));
}

#[test]
fn what_no_fetch_has_shown_to_agree_does_not_count_as_durable() {
    let mut core = leader(&[1, 2]);
    append(&mut core, &batch(None, 3));
    flush(&mut core, 3);
    report(&mut core, 1, &fetch(YOU, 1, 1));
    let beyond = DurableReport {
        replica: YOU,
        broker_epoch: BrokerEpoch(20),
        leader_epoch: LeaderEpoch(1),
        durable: Offset(3),
        log_start: Offset(0),
    };
    core.on_durable(at(2), &beyond).unwrap();
    assert_eq!(core.high_watermark(), Offset(1));
}

#[test]
fn the_high_watermark_waits_for_enough_replicas_that_are_committed_to_be_in_sync() {
    let mut core = leader(&[1]);
    core.on_config(FlushMode::Group, 1);
    append(&mut core, &batch(None, 1));
    core.on_config(FlushMode::Group, 2);
    flush(&mut core, 1);
    report(&mut core, 1, &fetch(YOU, 1, 1));
    let question = core.alter_partition(at(1)).unwrap();
    assert_eq!(ids(&question), [1, 2]);
    assert_eq!(core.high_watermark(), Offset(0), "asked for is not committed");
    assert!(answer(&mut core, 2, question.number, &altered(2, &[1, 2])));
    assert_eq!(core.high_watermark(), Offset(1));
}

#[test]
fn a_replica_that_is_to_join_counts_at_once() {
    let mut core = leader(&[1, 2]);
    append(&mut core, &batch(None, 2));
    flush(&mut core, 2);
    report(&mut core, 1, &fetch(THIRD, 0, 0));
    assert_eq!(ids(&core.alter_partition(at(1)).unwrap()), [1, 2, 3]);
    report(&mut core, 2, &fetch(YOU, 2, 2));
    assert_eq!(core.high_watermark(), Offset(0), "the third may be in sync by now");
    assert!(report(&mut core, 3, &fetch(THIRD, 2, 1)));
    assert_eq!(core.high_watermark(), Offset(1));
}

#[test]
fn a_replica_that_is_to_leave_counts_until_the_controller_has_said_so() {
    let mut core = leader(&[1, 2, 3]);
    append(&mut core, &batch(None, 2));
    flush(&mut core, 2);
    report(&mut core, 9_000, &fetch(YOU, 2, 2));
    assert_eq!(core.alter_due_at(), Some(at(10_001)));
    assert_eq!(core.alter_partition(at(10_000)), None);
    let question = core.alter_partition(at(10_001)).unwrap();
    assert_eq!(ids(&question), [1, 2]);
    assert_eq!(core.high_watermark(), Offset(0));
    assert!(answer(&mut core, 10_002, question.number, &altered(2, &[1, 2])));
    assert_eq!(core.high_watermark(), Offset(2));
    assert_eq!(core.in_sync(), [ME, YOU]);
}

#[test]
fn a_follower_whose_disk_hangs_falls_out() {
    let mut core = leader(&[1, 2]);
    append(&mut core, &batch(None, 1));
    for ms in (0..=10_500).step_by(500) {
        report(&mut core, ms, &fetch(YOU, 1, 0));
    }
    assert_eq!(ids(&core.alter_partition(at(10_500)).unwrap()), [1]);
}

#[test]
fn a_replica_joins_with_all_the_epoch_began_with_and_its_own_registration() {
    let mut core = replica();
    image(&mut core, &state(Some(1), (0, 0), &[1, 2]));
    append(&mut core, &batch(None, 5));
    image(&mut core, &state(Some(1), (1, 1), &[1]));
    let mut behind = fetch(YOU, 4, 4);
    behind.last_epoch = Some(LeaderEpoch(0));
    report(&mut core, 1, &behind);
    assert_eq!(core.alter_partition(at(1)), None, "below the start of the epoch");
    let mut whole = fetch(YOU, 5, 5);
    whole.last_epoch = Some(LeaderEpoch(0));
    core.on_fetch(at(2), &whole, Some(BrokerEpoch(21))).unwrap();
    assert_eq!(core.alter_partition(at(2)), None, "another process is registered");
    core.on_fetch(at(3), &whole, None).unwrap();
    assert_eq!(core.alter_partition(at(3)), None, "fenced");
    report(&mut core, 4, &whole);
    let question = core.alter_partition(at(4)).unwrap();
    let joining = InSyncReplica { broker: YOU, epoch: BrokerEpoch(20) };
    assert_eq!(question.in_sync.last(), Some(&joining));
}

#[test]
fn one_question_at_a_time_is_asked_again_until_it_is_answered() {
    let mut core = leader(&[1, 2]);
    report(&mut core, 1, &fetch(THIRD, 0, 0));
    let question = core.alter_partition(at(1)).unwrap();
    assert_eq!(core.alter_partition(at(400)), None);
    assert_eq!(core.alter_due_at(), Some(at(501)));
    assert_eq!(core.alter_partition(at(501)).unwrap(), question);
    answer(&mut core, 502, question.number, &AlterAnswer::Refused(AlterRefusal::NotController));
    assert_eq!(core.alter_partition(at(1_001)).unwrap(), question);
}

#[test]
fn a_refusal_that_knows_more_leaves_the_question_open_until_metadata_arrives() {
    for refusal in [
        AlterRefusal::FencedLeaderEpoch,
        AlterRefusal::InvalidUpdateVersion,
        AlterRefusal::UnknownPartition,
        AlterRefusal::NewLeaderElected,
        AlterRefusal::StaleBrokerEpoch,
    ] {
        let mut core = leader(&[1, 2]);
        append(&mut core, &batch(None, 1));
        flush(&mut core, 1);
        report(&mut core, 1, &fetch(THIRD, 0, 0));
        let question = core.alter_partition(at(1)).unwrap();
        answer(&mut core, 2, question.number, &AlterAnswer::Refused(refusal));
        assert_eq!(core.alter_partition(at(60_000)), None, "{refusal}");
        report(&mut core, 3, &fetch(YOU, 1, 1));
        assert_eq!(core.high_watermark(), Offset(0), "{refusal}: it may have been committed");
        image(&mut core, &state(Some(1), (1, 2), &[1, 2]));
        assert_eq!(core.high_watermark(), Offset(1), "{refusal}: it was not");
    }
}

#[test]
fn a_replica_the_controller_finds_unfit_counts_no_more_and_is_proposed_later() {
    let mut core = leader(&[1, 2]);
    append(&mut core, &batch(None, 1));
    flush(&mut core, 1);
    report(&mut core, 1, &fetch(THIRD, 0, 0));
    let question = core.alter_partition(at(1)).unwrap();
    report(&mut core, 2, &fetch(YOU, 1, 1));
    assert_eq!(core.alter_partition(at(502)).unwrap(), question, "a second copy");
    let unfit = AlterAnswer::Refused(AlterRefusal::IneligibleReplica);
    assert!(!answer(&mut core, 503, question.number, &unfit), "the other may have been taken");
    let withdrawn = core.alter_partition(at(503)).unwrap();
    assert!(withdrawn.number > question.number);
    assert_eq!(withdrawn.partition_epoch, question.partition_epoch);
    let stay: Vec<_> = withdrawn.in_sync.iter().map(|one| one.broker).collect();
    assert_eq!(stay, [ME, YOU]);
    answer(&mut core, 504, question.number, &unfit);
    assert!(core.is_alter_pending(), "a late answer to another question");
    // From this epoch on no copy of the first question is taken.
    let settled = AlterAnswer::Altered {
        leader_epoch: withdrawn.leader_epoch,
        partition_epoch: withdrawn.partition_epoch + 1,
        in_sync: stay,
    };
    assert!(answer(&mut core, 505, withdrawn.number, &settled));
    assert_eq!(core.high_watermark(), Offset(1));
    report(&mut core, 506, &fetch(THIRD, 1, 1));
    assert_eq!(core.alter_partition(at(507)), None, "not at once");
    assert!(core.alter_partition(at(1_004)).unwrap().number > withdrawn.number);
}

#[test]
fn a_withdrawal_that_is_refused_is_asked_again() {
    let mut core = leader(&[1, 2]);
    report(&mut core, 1, &fetch(THIRD, 0, 0));
    let question = core.alter_partition(at(1)).unwrap();
    let unfit = AlterAnswer::Refused(AlterRefusal::IneligibleReplica);
    answer(&mut core, 2, question.number, &unfit);
    let withdrawn = core.alter_partition(at(2)).unwrap();
    answer(&mut core, 3, withdrawn.number, &unfit);
    assert!(core.is_alter_pending(), "a copy of the first question may be taken yet");
    assert_eq!(core.alter_partition(at(3)), None, "not at once");
    assert_eq!(core.alter_partition(at(502)), Some(withdrawn));
}

#[test]
fn who_is_taken_out_by_the_controller_is_proposed_once_it_has_spoken() {
    let mut core = leader(&[1, 2, 3]);
    report(&mut core, 1, &fetch(YOU, 0, 0));
    report(&mut core, 1, &fetch(THIRD, 0, 0));
    image(&mut core, &state(Some(1), (1, 2), &[1, 2]));
    assert_eq!(core.alter_partition(at(2)), None, "it may be dead");
    report(&mut core, 3, &fetch(THIRD, 0, 0));
    let question = core.alter_partition(at(3)).unwrap();
    assert!(question.in_sync.iter().any(|one| one.broker == THIRD));
}

#[test]
fn followers_of_another_epoch_get_nothing() {
    let mut core = leader(&[1, 2]);
    let mut other = fetch(YOU, 0, 0);
    other.leader_epoch = LeaderEpoch(0);
    let refused = core.on_fetch(at(1), &other, None).unwrap_err();
    assert!(matches!(refused, FetchRefusal::Fenced { .. }), "{refused}");
    other.leader_epoch = LeaderEpoch(2);
    let refused = core.on_fetch(at(1), &other, None).unwrap_err();
    assert!(matches!(refused, FetchRefusal::Unknown { .. }), "{refused}");
    let stranger = fetch(BrokerId(9), 0, 0);
    let refused = core.on_fetch(at(1), &stranger, None).unwrap_err();
    assert_eq!(refused, FetchRefusal::NotReplica(BrokerId(9)));
}

#[test]
fn an_earlier_process_of_a_follower_counts_no_more() {
    let mut core = leader(&[1, 2]);
    append(&mut core, &batch(None, 3));
    flush(&mut core, 3);
    let mut new = fetch(YOU, 0, 0);
    new.broker_epoch = BrokerEpoch(30);
    report(&mut core, 1, &new);
    let refused = core.on_fetch(at(2), &fetch(YOU, 3, 3), None).unwrap_err();
    assert!(matches!(refused, FetchRefusal::StaleBrokerEpoch { .. }), "{refused}");
    assert_eq!(core.high_watermark(), Offset(0));
}

#[test]
fn a_log_that_parted_earlier_is_told_where_and_does_not_count() {
    let mut core = replica();
    image(&mut core, &state(Some(1), (0, 0), &[1, 2]));
    append(&mut core, &batch(None, 4));
    image(&mut core, &state(Some(1), (3, 1), &[1, 2]));
    append(&mut core, &batch(None, 2));
    flush(&mut core, 6);
    let mut ask = |last: i32, offset: i64| {
        let mut fetch = fetch(YOU, offset, offset);
        (fetch.leader_epoch, fetch.last_epoch) = (LeaderEpoch(3), Some(LeaderEpoch(last)));
        core.on_fetch(at(1), &fetch, Some(BrokerEpoch(20))).unwrap()
    };
    let diverging =
        |epoch, end| FetchAnswer::Diverging { epoch: LeaderEpoch(epoch), end: Offset(end) };
    assert_eq!(ask(2, 6).answer, diverging(0, 4), "an epoch this log does not have");
    assert_eq!(ask(0, 5).answer, diverging(0, 4), "the epoch ended earlier");
    assert_eq!(ask(3, 7).answer, diverging(3, 6), "more than there is");
    assert!(!ask(0, 5).moved);
    let records = |high_watermark| FetchAnswer::Records {
        high_watermark: Offset(high_watermark),
        log_start: Offset(0),
    };
    assert_eq!(ask(0, 4), Fetched { answer: records(4), moved: true });
    assert_eq!(core.latest_offset(), Some(Offset(4)), "the epoch began there");
}

#[test]
fn below_the_log_start_there_is_nothing_to_fetch() {
    let mut core = leader(&[1]);
    core.on_config(FlushMode::Group, 1);
    append(&mut core, &batch(None, 5));
    flush(&mut core, 5);
    core.on_start_advanced(Offset(3));
    let out_of_range = FetchAnswer::OutOfRange { log_start: Offset(3) };
    let answer = core.on_fetch(at(1), &fetch(YOU, 2, 2), None).unwrap().answer;
    assert_eq!(answer, out_of_range);
    let mut old = fetch(YOU, 3, 3);
    old.last_epoch = Some(LeaderEpoch(0));
    let answer = core.on_fetch(at(1), &old, None).unwrap().answer;
    assert_eq!(answer, out_of_range, "what it has is of an epoch that is gone");
}

#[test]
fn what_is_deleted_is_gone_once_every_replica_that_counts_has_said_so() {
    let mut core = leader(&[1, 2]);
    append(&mut core, &batch(None, 5));
    flush(&mut core, 5);
    assert_eq!(core.low_watermark(), None, "the follower has said nothing");
    report(&mut core, 1, &fetch(YOU, 5, 5));
    core.on_start_advanced(Offset(4));
    assert_eq!(core.low_watermark(), Some(Offset(0)));
    report(&mut core, 2, &ReplicaFetch { log_start: Offset(3), ..fetch(YOU, 5, 5) });
    assert_eq!(core.low_watermark(), Some(Offset(3)));
    let report = DurableReport {
        replica: YOU,
        broker_epoch: BrokerEpoch(20),
        leader_epoch: LeaderEpoch(1),
        durable: Offset(5),
        log_start: Offset(5),
    };
    core.on_durable(at(3), &report).unwrap();
    assert_eq!(core.low_watermark(), Some(Offset(4)), "no further than here");
    core.on_config(FlushMode::Group, 3);
    assert_eq!(core.low_watermark(), None, "others may be eligible that still have it");
}

#[test]
fn a_replica_that_still_has_what_was_deleted_does_not_join() {
    let mut core = leader(&[1]);
    core.on_config(FlushMode::Group, 1);
    append(&mut core, &batch(None, 5));
    flush(&mut core, 5);
    core.on_start_advanced(Offset(4));
    report(&mut core, 1, &fetch(YOU, 5, 5));
    assert_eq!(core.alter_partition(at(1)), None);
    report(&mut core, 2, &ReplicaFetch { log_start: Offset(4), ..fetch(YOU, 5, 5) });
    assert_eq!(ids(&core.alter_partition(at(2)).unwrap()), [1, 2]);
}

#[test]
fn a_near_replica_is_preferred_only_in_sync_and_with_the_records() {
    let mut core = leader(&[1, 2]);
    append(&mut core, &batch(None, 3));
    report(&mut core, 1, &fetch(YOU, 2, 2));
    report(&mut core, 1, &fetch(THIRD, 3, 3));
    assert_eq!(core.preferred_replica(Offset(2), |_| true), Some(YOU));
    assert_eq!(core.preferred_replica(Offset(3), |_| true), None);
    assert_eq!(core.preferred_replica(Offset(0), |broker| broker == THIRD), None);
}

#[test]
fn metadata_that_is_older_begins_nothing() {
    let mut core = replica();
    let lost = core.on_image(at(0), &state(Some(1), (4, 9), &[1]), BrokerEpoch(9));
    assert_eq!(lost, ImageOutcome::default(), "from before this process");
    assert_eq!(core.leader_epoch(), None);
    assert!(image(&mut core, &state(Some(1), (4, 9), &[1])).role_changed);
    assert!(!image(&mut core, &state(Some(2), (3, 8), &[2])).role_changed);
    assert!(!image(&mut core, &state(Some(1), (4, 8), &[1, 2])).role_changed);
    assert_eq!(core.in_sync(), [ME]);
    assert!(image(&mut core, &state(None, (5, 10), &[])).role_changed);
    assert_eq!(core.ack_state(Offset(0)), AckState::NotLeader);
}

#[test]
fn a_follower_with_a_hole_neither_joins_nor_stays_nor_counts() {
    let mut core = leader(&[1]);
    core.on_config(FlushMode::Group, 1);
    append(&mut core, &batch(None, 3));
    flush(&mut core, 3);
    report(&mut core, 1, &fetch(YOU, 3, -1));
    assert_eq!(core.alter_partition(at(1)), None, "all there is, but for what is missing below");
    report(&mut core, 2, &fetch(YOU, 3, 3));
    assert_eq!(ids(&core.alter_partition(at(2)).unwrap()), [1, 2]);

    let mut core = leader(&[1, 2]);
    report(&mut core, 0, &fetch(YOU, 0, 0));
    append(&mut core, &batch(None, 3));
    flush(&mut core, 3);
    assert!(!report(&mut core, 1, &fetch(YOU, 3, -1)));
    assert_eq!(core.high_watermark(), Offset(0));
    for mode in [FlushMode::Group, FlushMode::Os] {
        core.on_config(mode, 2);
        for ms in (500..=10_500).step_by(500) {
            report(&mut core, ms, &fetch(YOU, 3, -1));
        }
        assert_eq!(core.high_watermark(), Offset(0), "{mode:?}");
    }
    assert_eq!(ids(&core.alter_partition(at(10_500)).unwrap()), [1]);
    let healed = DurableReport {
        replica: YOU,
        broker_epoch: BrokerEpoch(20),
        leader_epoch: LeaderEpoch(1),
        durable: Offset(3),
        log_start: Offset(0),
    };
    assert_eq!(core.on_durable(at(10_501), &healed), Ok(true));
    assert_eq!(core.high_watermark(), Offset(3));
}

#[test]
fn a_follower_that_asks_no_more_does_not_join_on_what_it_said_before() {
    let mut core = leader(&[1, 2, 3]);
    append(&mut core, &batch(None, 3));
    flush(&mut core, 3);
    report(&mut core, 1, &fetch(YOU, 3, 3));
    report(&mut core, 1, &fetch(THIRD, 3, 3));
    // Its log has failed, and the controller was told.
    core.on_unfollowed(THIRD, BrokerEpoch(19));
    core.on_unfollowed(THIRD, BrokerEpoch(20));
    image(&mut core, &state(Some(1), (1, 2), &[1, 2]));
    core.on_heard(at(2), (THIRD, BrokerEpoch(20)), Some(BrokerEpoch(20)));
    assert_eq!(core.alter_partition(at(2)), None);
    report(&mut core, 3, &fetch(THIRD, 3, 3));
    assert_eq!(ids(&core.alter_partition(at(3)).unwrap()), [1, 2, 3], "it asks again");
}

#[test]
fn only_a_leader_that_is_followed_says_that_batches_are_missing() {
    let mut core = leader(&[1, 2, 3]);
    append(&mut core, &batch(Some((0, 0)), 1));
    let ahead = batch(Some((0, 4)), 1);
    let told = |core: &PartitionCore, ms, acks| {
        core.as_told(at(ms), acks, core.on_produce(&ahead, acks).unwrap_err())
    };
    let is_refused = |told| matches!(told, AppendRefusal::Producer(_));
    // Another may lead by now, and have what is missing here.
    assert_eq!(told(&core, 1, Acks::All), AppendRefusal::NotLeader);
    assert!(is_refused(told(&core, 1, Acks::Leader)), "it may have lost what it acknowledged");
    report(&mut core, 2, &fetch(YOU, 1, 1));
    assert_eq!(told(&core, 3, Acks::All), AppendRefusal::NotLeader, "one is silent");
    report(&mut core, 4, &fetch(THIRD, 1, 1));
    assert!(is_refused(told(&core, 5, Acks::All)));
    assert_eq!(told(&core, 2_000, Acks::All), AppendRefusal::NotLeader, "they may have left it");
}

#[test]
fn a_leader_that_has_not_heard_of_a_member_for_too_long_knows() {
    let mut core = leader(&[1, 2, 3]);
    append(&mut core, &batch(None, 2));
    assert!(core.is_heard(at(0)), "they get the time to say something");
    // Behind, and there.
    report(&mut core, 4_000, &fetch(YOU, 0, 0));
    assert!(!core.is_heard(at(1_001)), "one is silent");
    report(&mut core, 4_002, &fetch(THIRD, 1, 1));
    assert!(core.is_heard(at(1_003)));
    assert!(!core.is_heard(at(4_003)));
}
