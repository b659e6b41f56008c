//! A lane against a broker that is played by hand, and against one that fails at random.

use std::time::Duration;

use sawlog_protocol::records::BatchHeader;

use super::*;
use crate::backoff::Random;
use crate::producer::delivery::Delivery;
use crate::producer::queue::Filling;
use crate::producer::record::RecordRef;

const IDENTITY: Identity = Identity { id: 7, epoch: 0 };

struct Bench {
    lane: Lane,
    now: Instant,
    deliveries: Vec<Delivery>,
    request: u64,
    leader: i32,
}

impl Bench {
    fn new(rules: Rules) -> Self {
        let queue = Arc::new(PartitionQueue::new(Arc::from("t"), 0, 0));
        let mut lane = Lane::new(queue, rules);
        if rules.is_idempotent {
            assert!(lane.lacks_identity());
            lane.identify(IDENTITY);
        }
        Self { lane, now: Instant::now(), deliveries: Vec::new(), request: 0, leader: 1 }
    }

    /// A batch of so many records in the queue.
    fn fill(&mut self, records: usize) {
        for number in 0..records {
            let value = number.to_be_bytes();
            let record = RecordRef { value: Some(&value), ..RecordRef::default() };
            let filling = Filling { codec: RULES.codec, batch_bytes: usize::MAX };
            let appended = self.lane.queue.append(&record, record.weight(), 0, &filling);
            self.deliveries.push(appended.expect("a small record").delivery);
        }
    }

    /// Sends the next batch; returns the number of its request and its epoch and sequence.
    fn send(&mut self) -> (u64, i16, i32) {
        assert!(self.lane.may_send());
        let batch = self.lane.next().expect("a batch to send");
        let header = BatchHeader::parse(&batch.bytes).expect("a batch");
        self.request += 1;
        self.lane.sent(self.request, self.leader, batch);
        (self.request, header.producer_epoch, header.base_sequence)
    }

    fn send_new(&mut self, records: usize) -> (u64, i16, i32) {
        self.fill(records);
        self.send()
    }

    fn confirm(&mut self, request: u64, base_offset: i64) {
        let Settled { batch, outcome } =
            self.lane.confirm(request, base_offset).expect("in flight");
        batch.settle(outcome);
    }

    fn fail(&mut self, request: u64, code: ErrorCode) {
        self.lane.fail(request, ClientError::broker(code, None));
    }

    fn regroup(&mut self) -> usize {
        assert!(self.lane.is_broken());
        let round = self.lane.regroup(self.now);
        for Settled { batch, outcome } in round.settled {
            batch.settle(outcome);
        }
        round.repeats
    }

    fn outcomes(&self) -> Vec<Option<Result<i64, ErrorCode>>> {
        let outcome = |one: &Delivery| {
            let outcome = one.try_confirmed()?;
            Some(outcome.map(|done| done.offset).map_err(|e| e.code().unwrap_or_default()))
        };
        self.deliveries.iter().map(outcome).collect()
    }
}

const RULES: Rules = Rules {
    is_idempotent: true,
    in_flight_max: IN_FLIGHT_MAX,
    codec: (Compression::None, None),
    delivery_timeout: Duration::from_secs(60),
};

/// A lane with something confirmed: five may be on their way.
fn proven() -> Bench {
    let mut bench = Bench::new(RULES);
    let (first, epoch, sequence) = bench.send_new(1);
    assert_eq!((epoch, sequence), (0, 0));
    bench.fill(1);
    assert!(!bench.lane.may_send(), "the first batch of an identity goes alone");
    bench.confirm(first, 0);
    let (second, _, sequence) = bench.send();
    assert_eq!(sequence, 1);
    bench.confirm(second, 1);
    bench.deliveries.clear();
    bench
}

#[test]
fn five_are_on_their_way_and_sequences_count_records() {
    let mut bench = proven();
    let sent: Vec<_> = (0..5).map(|_| bench.send_new(10)).collect();
    assert_eq!(sent.iter().map(|one| one.2).collect::<Vec<_>>(), [2, 12, 22, 32, 42]);
    bench.fill(1);
    assert!(!bench.lane.may_send());
    bench.confirm(sent[0].0, 2);
    assert!(bench.lane.may_send());
}

#[test]
fn what_failed_goes_out_again_in_order_with_its_numbers() {
    let mut bench = proven();
    let [first, second, third] = [1, 1, 1].map(|records| bench.send_new(records));
    bench.fail(first.0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    bench.fill(1);
    assert!(!bench.lane.may_send(), "nothing new before all answers are there");
    bench.fail(second.0, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    bench.fail(third.0, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(bench.regroup(), 3);
    let again: Vec<_> = (0..4).map(|_| bench.send()).collect();
    let numbers: Vec<_> = again.iter().map(|(_, epoch, sequence)| (*epoch, *sequence)).collect();
    assert_eq!(numbers, [(0, 2), (0, 3), (0, 4), (0, 5)]);
}

#[test]
fn a_refused_batch_leaves_a_gap_that_a_new_epoch_closes() {
    let mut bench = proven();
    let (refused, ..) = bench.send_new(3);
    let (behind, ..) = bench.send_new(2);
    bench.fail(refused, ErrorCode::INVALID_RECORD);
    bench.fail(behind, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(bench.regroup(), 1);
    let (again, epoch, sequence) = bench.send();
    assert_eq!((epoch, sequence), (1, 0), "KIP-360");
    bench.fill(1);
    assert!(!bench.lane.may_send(), "the first of the new epoch goes alone");
    bench.confirm(again, 2);
    let refused = Some(Err(ErrorCode::INVALID_RECORD));
    assert_eq!(bench.outcomes()[..5], [refused, refused, refused, Some(Ok(2)), Some(Ok(3))]);
}

#[test]
fn a_gap_behind_something_given_up_begins_a_new_epoch() {
    let mut bench = proven();
    let (lost, ..) = bench.send_new(1);
    bench.lane.fail(lost, ClientError::Disconnected { address: "b".into(), reason: "cut".into() });
    bench.now = Instant::now() + RULES.delivery_timeout;
    assert_eq!(bench.regroup(), 0, "given up: whether it is in the log is not known");
    let (next, epoch, sequence) = bench.send_new(1);
    assert_eq!((epoch, sequence), (0, 3), "it may be there, so its number stays taken");
    bench.now = Instant::now();
    bench.fail(next, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(bench.regroup(), 1);
    let (_, epoch, sequence) = bench.send();
    assert_eq!((epoch, sequence), (1, 0));
}

#[test]
fn an_unknown_producer_goes_on_only_with_what_cannot_be_there_already() {
    let mut bench = proven();
    let (clean, ..) = bench.send_new(1);
    bench.fail(clean, ErrorCode::UNKNOWN_PRODUCER_ID);
    assert_eq!(bench.regroup(), 1);
    let (again, epoch, sequence) = bench.send();
    assert_eq!((epoch, sequence), (1, 0));
    bench.fail(again, ErrorCode::REQUEST_TIMED_OUT);
    assert_eq!(bench.regroup(), 1);
    let (again, epoch, sequence) = bench.send();
    assert_eq!((epoch, sequence), (1, 0), "the same batch, the same number");
    bench.fail(again, ErrorCode::UNKNOWN_PRODUCER_ID);
    assert_eq!(bench.regroup(), 0, "it may be there already");
    assert_eq!(bench.outcomes(), [Some(Err(ErrorCode::UNKNOWN_PRODUCER_ID))]);
}

/// A leader that hangs, and another one: the new one would take what follows, and what is on its way
/// to the old one would come too late to be known as sent before.
#[test]
fn what_is_on_its_way_to_a_leader_of_before_goes_first_to_the_new_one() {
    let mut bench = proven();
    let held = [bench.send_new(1), bench.send_new(1)];
    bench.leader = 2;
    assert!(!bench.lane.is_elsewhere(1) && bench.lane.is_elsewhere(2));
    bench.lane.leave();
    assert_eq!(bench.regroup(), 2);
    let again = [bench.send(), bench.send(), bench.send_new(1)];
    assert_eq!(again.map(|one| (one.1, one.2)), [(0, 2), (0, 3), (0, 4)]);
    assert!(bench.lane.confirm(held[0].0, 2).is_none(), "a late answer of the old one");
    for (request, ..) in again {
        bench.confirm(request, 7);
    }
    assert_eq!(bench.outcomes(), [Some(Ok(7)); 3]);
}

/// A leader that just began refuses the first of five it has from the leader before, and knows the
/// others.
#[test]
fn nothing_goes_out_that_makes_a_broker_forget_what_is_not_confirmed() {
    let mut bench = proven();
    let five = [(); 5].map(|()| bench.send_new(1));
    bench.fail(five[0].0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    for (request, ..) in &five[1..] {
        bench.confirm(*request, 9);
    }
    assert_eq!(bench.regroup(), 1);
    let (again, _, sequence) = bench.send();
    assert_eq!(sequence, 2);
    bench.fill(1);
    assert!(!bench.lane.may_send(), "behind a sixth the first is not known any more");
    bench.confirm(again, 2);
    assert_eq!(bench.send().2, 7);
}

#[test]
fn a_batch_behind_a_confirmed_one_is_not_sent_under_other_numbers() {
    let mut bench = proven();
    let (first, ..) = bench.send_new(1);
    let (second, ..) = bench.send_new(1);
    bench.confirm(second, 3);
    bench.fail(first, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(bench.regroup(), 0, "it may be there already");
    let refused = Some(Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    assert_eq!(bench.outcomes(), [refused, Some(Ok(3))]);
}

#[test]
fn a_batch_too_large_goes_out_in_halves() {
    let mut bench = proven();
    let (large, ..) = bench.send_new(5);
    bench.fail(large, ErrorCode::MESSAGE_TOO_LARGE);
    assert_eq!(bench.regroup(), 2);
    let (first, epoch, sequence) = bench.send();
    assert_eq!((epoch, sequence), (1, 0));
    bench.confirm(first, 10);
    let (second, _, sequence) = bench.send();
    assert_eq!(sequence, 2);
    bench.confirm(second, 20);
    let offsets = [10, 11, 20, 21, 22].map(|offset| Some(Ok(offset)));
    assert_eq!(bench.outcomes(), offsets);
    let (single, ..) = bench.send_new(1);
    bench.fail(single, ErrorCode::MESSAGE_TOO_LARGE);
    assert_eq!(bench.regroup(), 0, "one record cannot be halved");
}

#[test]
fn epochs_run_out_and_a_new_id_is_asked_for() {
    let mut bench = proven();
    bench.lane.identify(Identity { id: 7, epoch: i16::MAX });
    let (refused, ..) = bench.send_new(1);
    bench.fail(refused, ErrorCode::INVALID_RECORD);
    bench.regroup();
    assert!(bench.lane.lacks_identity());
    bench.lane.identify(Identity { id: 8, epoch: 0 });
    let (_, epoch, sequence) = bench.send_new(1);
    assert_eq!((epoch, sequence), (0, 0));
}

#[test]
fn what_waits_too_long_is_given_up() {
    let mut bench = proven();
    bench.fill(2);
    assert!(bench.lane.expire(bench.now).is_empty());
    let late = bench.now + RULES.delivery_timeout + Duration::from_secs(1);
    for Settled { batch, outcome } in bench.lane.expire(late) {
        batch.settle(outcome);
    }
    assert_eq!(bench.outcomes(), [Some(Err(ErrorCode::REQUEST_TIMED_OUT)); 2]);
}

/// What a broker keeps of one producer: the reference's rules (five batches, epochs from 0).
#[derive(Default)]
struct Broker {
    log: Vec<u64>,
    epoch: i16,
    /// First and last sequence, and base offset, of the last five batches.
    last: VecDeque<(i32, i32, i64)>,
}

impl Broker {
    fn append(&mut self, batch: &Batch) -> Result<i64, ErrorCode> {
        let header = BatchHeader::parse(&batch.bytes).expect("a batch");
        if header.producer_epoch > self.epoch {
            if header.base_sequence != 0 {
                return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
            }
            self.epoch = header.producer_epoch;
            self.last.clear();
        } else if header.producer_epoch < self.epoch {
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        let span = (header.base_sequence, header.last_sequence());
        if let Some(known) = self.last.iter().find(|known| (known.0, known.1) == span) {
            return Ok(known.2);
        }
        let expected = self.last.back().map(|known| increment_sequence(known.1, 1));
        if expected.is_some_and(|expected| expected != header.base_sequence) {
            return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        }
        let base = i64::try_from(self.log.len()).expect("a short log");
        let records = sawlog_protocol::records::Batch::parse(batch.bytes.clone()).expect("whole");
        for record in records.records(1 << 20).expect("records") {
            let value = record.expect("a record").value.expect("a value");
            self.log.push(u64::from_be_bytes(value[..].try_into().expect("eight bytes")));
        }
        self.last.push_back((span.0, span.1, base));
        if self.last.len() > 5 {
            self.last.pop_front();
        }
        Ok(base)
    }
}

/// Thousands of batches through a broker that loses requests, loses replies, refuses for a while
/// and cuts connections: everything confirmed is there once, in order, where it was said to be.
#[test]
fn nothing_is_lost_doubled_or_reordered_whatever_fails() {
    for seed in 0..200 {
        let mut random = Random::seeded(seed);
        let mut bench = Bench::new(RULES);
        let mut broker = Broker::default();
        let mut sent = 0u64;
        let mut replies: VecDeque<(u64, Result<i64, ClientError>)> = VecDeque::new();
        let mut is_cut = false;
        let cut = || ClientError::Disconnected { address: "b".into(), reason: "cut".into() };
        while sent < 200 || !bench.lane.is_idle() || bench.lane.queue.unsettled() > 0 {
            if random.below(3) == 0 && sent < 200 {
                let value = sent.to_be_bytes();
                let record = RecordRef { value: Some(&value), ..RecordRef::default() };
                let filling = Filling { codec: RULES.codec, batch_bytes: 200 };
                let appended = bench.lane.queue.append(&record, record.weight(), 0, &filling);
                bench.deliveries.push(appended.expect("a small record").delivery);
                sent += 1;
            }
            if bench.lane.may_send()
                && random.below(2) == 0
                && let Some(batch) = bench.lane.next()
            {
                bench.request += 1;
                is_cut |= random.below(15) == 0;
                // Behind the place where a connection is cut nothing arrives.
                let outcome = match (is_cut, random.below(20)) {
                    (true, _) => Err(cut()),
                    (false, 0) => Err(ClientError::broker(ErrorCode::NOT_ENOUGH_REPLICAS, None)),
                    (false, 1) => {
                        // Written, and the reply is lost with the connection.
                        let _written = broker.append(&batch);
                        is_cut = true;
                        Err(cut())
                    }
                    (false, _) => {
                        broker.append(&batch).map_err(|code| ClientError::broker(code, None))
                    }
                };
                replies.push_back((bench.request, outcome));
                bench.lane.sent(bench.request, bench.leader, batch);
            }
            if random.below(2) == 0
                && let Some((request, outcome)) = replies.pop_front()
            {
                match outcome {
                    Ok(base) => {
                        bench.confirm(request, base);
                        bench.lane.queue.settled();
                    }
                    Err(error) => bench.lane.fail(request, error),
                }
                if bench.lane.is_broken() {
                    let before = bench.lane.queue.unsettled();
                    bench.regroup();
                    assert!(bench.lane.queue.unsettled() == before, "seed {seed}: given up");
                    is_cut = false;
                }
            }
        }
        assert_eq!(broker.log, (0..200).collect::<Vec<u64>>(), "seed {seed}");
        for (number, outcome) in (0..).zip(bench.outcomes()) {
            assert_eq!(outcome, Some(Ok(number)), "seed {seed}");
        }
    }
}
