//! Bits that flip in the records themselves, of a stopped broker and of a running one: reported, kept
//! as they are, never served; all other records are, and the log goes on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sawlog_protocol::ErrorCode;
use sawlog_tests::flip;

use super::broker::{Broker, Options};
use super::client::{Client, TOPIC};
use super::history::{End, History};
use super::{create_topic, eventually, files};

/// Batches of one record each, so that offsets and batches are the same.
const BATCHES: usize = 60;
const BYTES: usize = 1500;

/// The offset of the first record of a segment.
fn base(path: &Path) -> i64 {
    path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

fn lengths(paths: &[PathBuf]) -> Vec<u64> {
    paths.iter().map(|path| path.metadata().unwrap().len()).collect()
}

/// Reads every offset there is; those that are refused come back.
fn refused(broker: &Broker, history: &History) -> BTreeSet<i64> {
    let mut client = Client::connect(broker.address()).unwrap();
    let mut refused = BTreeSet::new();
    for (number, offset) in history.offsets(0) {
        let (error, bytes, high_watermark) = client.fetch(TOPIC, 0, offset).unwrap();
        if error == ErrorCode::KAFKA_STORAGE_ERROR {
            refused.insert(offset);
            continue;
        }
        assert_eq!(error, ErrorCode::NONE, "offset {offset}");
        assert!(high_watermark > offset, "the log is as long as it was");
        history.check_first(0, number, offset, &bytes);
    }
    refused
}

/// A broker with full segments, the last of which takes appends.
fn filled(options: &Options) -> (Broker, History) {
    let broker = Broker::start(options);
    create_topic(&broker, 1, "16384");
    let mut history = History::default();
    assert_eq!(history.write(broker.address(), 0..1, BATCHES, BYTES), End::Done);
    (broker, history)
}

#[test]
fn bits_flipped_in_records_of_a_stopped_broker_are_found_before_they_are_served() {
    for stop_cleanly in [true, false] {
        let data = tempfile::tempdir().unwrap();
        let options = Options::on(data.path());
        let (mut broker, mut history) = filled(&options);
        if stop_cleanly {
            assert!(broker.terminate(), "{}", broker.said());
        } else {
            broker.kill();
        }
        let segments = files(data.path(), ".log");
        assert!(segments.len() > 4, "{segments:?}");
        // In the value of the first record of one segment, in the second batch's header of another.
        flip(&segments[1], 300);
        flip(&segments[3], u64::try_from(BYTES).unwrap() + 120);
        let before = lengths(&segments[..4]);
        let mut broker = Broker::start(&options);
        let refused = refused(&broker, &history);
        let expected = [base(&segments[1]), base(&segments[3]) + 1];
        assert_eq!(refused, BTreeSet::from(expected), "cleanly: {stop_cleanly}");
        broker.wait_until_said("quarantine");
        for path in [&segments[1], &segments[3]] {
            assert!(broker.said().contains(path.to_str().unwrap()), "{}", broker.said());
        }
        assert_eq!(history.write(broker.address(), 0..1, 5, BYTES), End::Done, "it goes on");
        assert_eq!(lengths(&segments[..4]), before, "nothing is cut");
        // Known from now on, and said with the greeting.
        assert!(broker.terminate(), "{}", broker.said());
        let mut broker = Broker::start(&options);
        broker.wait_until_said("damaged ranges of logs are not served");
        assert_eq!(self::refused(&broker, &history), BTreeSet::from(expected));
        assert!(broker.terminate(), "{}", broker.said());
    }
}

#[test]
fn bits_flipped_under_a_running_broker_are_found_by_the_scrubber() {
    let data = tempfile::tempdir().unwrap();
    let options = Options::on(data.path()).set("log.scrub.interval.ms=200");
    let (mut broker, mut history) = filled(&options);
    let segments = files(data.path(), ".log");
    flip(&segments[2], 300);
    broker.wait_until_said("quarantine");
    assert!(broker.said().contains(segments[2].to_str().unwrap()), "{}", broker.said());
    let expected = BTreeSet::from([base(&segments[2])]);
    eventually(|| refused(&broker, &history) == expected);
    // Damage of another segment, while the broker writes.
    assert_eq!(history.write(broker.address(), 0..1, BATCHES, BYTES), End::Done, "it goes on");
    let behind = files(data.path(), ".log");
    let more = &behind[behind.len() - 3];
    flip(more, 300);
    eventually(|| broker.said().contains(more.to_str().unwrap()));
    let expected = BTreeSet::from([base(&segments[2]), base(more)]);
    eventually(|| refused(&broker, &history) == expected);
    assert_eq!(history.write(broker.address(), 0..1, 5, BYTES), End::Done);
    assert!(broker.terminate(), "{}", broker.said());
    let broker = Broker::start(&options);
    assert_eq!(refused(&broker, &history), expected, "remembered");
}

#[test]
fn a_reader_that_comes_upon_a_damaged_header_has_it_quarantined() {
    let data = tempfile::tempdir().unwrap();
    let options = Options::on(data.path());
    let (mut broker, history) = filled(&options);
    let segments = files(data.path(), ".log");
    // The magic byte: no reader finds its way behind it.
    flip(&segments[1], 16);
    let refused = refused(&broker, &history);
    assert!(refused.iter().all(|offset| *offset == base(&segments[1])), "{refused:?}");
    assert!(broker.terminate(), "{}", broker.said());
}
