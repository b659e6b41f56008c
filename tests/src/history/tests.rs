//! The checker against histories with one thing wrong.

use super::*;

/// Two producers, one partition, two replicas, one consumer: all is well.
fn good() -> (History, Vec<Replica>) {
    let run = |offset, producer, first, count| Run { partition: 0, offset, count, producer, first };
    let sent = |name: &str, acked: &[(Run, u64, u64)], total| Sent {
        name: name.to_owned(),
        acked: acked
            .iter()
            .map(|(run, invoked, done)| Acked { run: *run, invoked: *invoked, done: *done })
            .collect(),
        totals: BTreeMap::from([(0, total)]),
        ..Sent::default()
    };
    let runs = [run(0, 1, 0, 3), run(3, 2, 0, 2), run(5, 1, 3, 2)];
    let one = sent("one", &[(runs[0], 10, 20), (runs[2], 40, 50)], 5);
    let two = sent("two", &[(runs[1], 15, 35)], 2);
    let seen = Seen { name: "reader".to_owned(), runs: runs.to_vec(), wrong: Vec::new() };
    let looked = |asked, end| Looked { partition: 0, asked, end };
    let history = History {
        producers: BTreeMap::from([(1, one), (2, two)]),
        consumers: vec![seen],
        looked: vec![looked(12, 0), looked(30, 3), looked(60, 7)],
    };
    (history, vec![replica("a"), replica("b")])
}

fn replica(name: &str) -> Replica {
    let numbers = [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (1, 3), (1, 4)];
    let log = PartitionLog {
        batches: [(0, 3), (3, 5), (5, 7)].map(|(base, next)| Batch { base, next, crc: 7 }).to_vec(),
        records: numbers.map(|(producer, number)| RecordAt { producer, number }).to_vec(),
        bytes: 300,
        wrong: Vec::new(),
    };
    Replica { name: name.to_owned(), partitions: BTreeMap::from([(0, log)]) }
}

fn found(change: impl FnOnce(&mut History, &mut Vec<Replica>)) -> Vec<Property> {
    let (mut history, mut replicas) = good();
    change(&mut history, &mut replicas);
    check(&history, &replicas).counts.into_keys().collect()
}

/// Both replicas lose, or get, the same.
fn everywhere(replicas: &mut [Replica], change: impl Fn(&mut PartitionLog)) {
    for replica in replicas {
        change(replica.partitions.get_mut(&0).expect("it has it"));
    }
}

#[test]
fn a_good_history_is_good() {
    let (history, replicas) = good();
    let checked = check(&history, &replicas);
    assert!(checked.violations.is_empty(), "{:?}", checked.violations);
    assert_eq!((checked.acked, checked.seen, checked.records, checked.bytes), (7, 7, 7, 600));
}

#[test]
fn a_lost_record_is_found() {
    let lost = found(|_, replicas| everywhere(replicas, |log| log.records.truncate(6)));
    assert_eq!(lost, [Property::NothingLost, Property::NothingDirty]);
    let hole = found(|_, replicas| {
        everywhere(replicas, |log| {
            log.records.remove(1);
        });
    });
    assert!(hole.contains(&Property::NothingLost) && hole.contains(&Property::ProducerOrder));
    assert!(hole.contains(&Property::OffsetsHold));
}

#[test]
fn a_record_that_moved_is_found() {
    let moved = found(|history, _| {
        history.producers.get_mut(&2).expect("two").acked[0].run.offset = 4;
    });
    assert_eq!(moved, [Property::OffsetsHold]);
}

#[test]
fn a_record_acknowledged_without_its_offset_has_to_be_somewhere() {
    let unknown = |history: &mut History| {
        history.producers.get_mut(&2).expect("two").acked[0].run =
            Run { partition: 0, offset: -1, count: 1, producer: 2, first: 1 };
    };
    assert_eq!(found(|history, _| unknown(history)), []);
    let lost = found(|history, replicas| {
        unknown(history);
        everywhere(replicas, |log| log.records[4] = RecordAt { producer: 1, number: 0 });
    });
    assert!(lost.contains(&Property::NothingLost), "{lost:?}");
}

#[test]
fn a_doubled_record_is_found() {
    let doubled = found(|_, replicas| {
        everywhere(replicas, |log| log.records.push(RecordAt { producer: 1, number: 4 }));
    });
    assert_eq!(doubled, [Property::NothingTwice]);
}

#[test]
fn records_nobody_sent_are_found() {
    let total = found(|history, _| {
        history.producers.get_mut(&1).expect("one").totals.insert(0, 4);
    });
    assert_eq!(total, [Property::NothingInvented]);
    let unknown = found(|_, replicas| {
        everywhere(replicas, |log| log.records.push(RecordAt { producer: 9, number: 0 }));
    });
    assert_eq!(unknown, [Property::NothingInvented]);
    let damaged = found(|_, replicas| {
        replicas[1].partitions.get_mut(&0).expect("it has it").wrong.push("damage".to_owned());
    });
    assert_eq!(damaged, [Property::NothingInvented]);
}

#[test]
fn swapped_records_are_found() {
    let swapped = found(|_, replicas| everywhere(replicas, |log| log.records.swap(0, 1)));
    assert!(swapped.contains(&Property::ProducerOrder), "{swapped:?}");
    assert!(swapped.contains(&Property::NothingTwice), "{swapped:?}");
}

#[test]
fn what_failed_may_be_missing_and_is_told() {
    let failed = found(|history, replicas| {
        let one = history.producers.get_mut(&1).expect("one");
        let why = "gave up".to_owned();
        one.failed.push(Failed { partition: 0, number: 5, why, at: 70 });
        one.totals.insert(0, 7);
        everywhere(replicas, |log| log.records.push(RecordAt { producer: 1, number: 6 }));
    });
    assert_eq!(failed, [Property::NothingFails]);
}

#[test]
fn what_a_consumer_passed_over_or_made_up_is_found() {
    let skipped = found(|history, _| {
        history.consumers[0].runs.remove(1);
    });
    assert_eq!(skipped, [Property::ConsumerOrder]);
    let twice = found(|history, _| {
        let again = history.consumers[0].runs[1];
        history.consumers[0].runs.insert(1, again);
    });
    assert_eq!(twice, [Property::ConsumerOrder]);
    let dirty = found(|history, _| history.consumers[0].runs[2].producer = 2);
    assert_eq!(dirty, [Property::NothingDirty]);
}

#[test]
fn a_record_put_before_one_acknowledged_earlier_is_found() {
    let early = found(|history, _| {
        // The first was there before the second was sent, and stands behind it.
        let two = history.producers.get_mut(&2).expect("two");
        (two.acked[0].invoked, two.acked[0].done) = (52, 60);
    });
    assert_eq!(early, [Property::RealTime]);
}

#[test]
fn an_end_that_is_behind_or_goes_back_is_found() {
    let stale = found(|history, _| history.looked[2].end = 5);
    assert_eq!(stale, [Property::FreshEnd]);
    let back = found(|history, _| {
        history.looked.insert(1, Looked { partition: 0, asked: 13, end: 2 });
        history.looked.insert(2, Looked { partition: 0, asked: 14, end: 1 });
    });
    assert_eq!(back, [Property::EndGrows]);
}

#[test]
fn replicas_that_differ_are_found() {
    let other = |change: fn(&mut PartitionLog)| {
        found(|_, replicas| change(replicas[1].partitions.get_mut(&0).expect("it has it")))
    };
    assert_eq!(other(|log| log.batches[1].crc = 8), [Property::ReplicasEqual]);
    assert_eq!(other(|log| log.batches.truncate(2)), [Property::ReplicasEqual]);
}

#[test]
fn a_value_tells_whose_it_is_and_nothing_else_does() {
    for number in [0, 7, 99, 100, 12_345] {
        assert_eq!(decode_value(&value(3, 2, number), 2), Ok((3, number)));
    }
    assert!(decode_value(&value(3, 2, 7), 1).is_err());
    assert!(decode_value(&value(3, 2, 7)[..6], 2).is_err());
    assert!(decode_value(b"x/y", 2).is_err());
}
