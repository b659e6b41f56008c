//! One rule each, on small logs.

use sawlog_protocol::records::{BatchBuilder, ControlType, EndTransactionMarker};

use super::*;
use crate::base::disk_sim::Fault;

/// A log with one segment for each of these batches, and an active segment behind them.
fn log_of(disk: &SimDisk, segments: &[Vec<u8>]) -> Opened {
    let mut opened = open(disk);
    for bytes in segments {
        opened.append(bytes).unwrap();
        opened.roll();
    }
    opened.append(&batch(&[("active", Some("1"))])).unwrap();
    opened.flush().unwrap();
    opened
}

fn transactional(producer: i64, sequence: i32, key: &str, value: &str) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.producer(producer, 0, sequence).transactional();
    builder.append(0, Some(key.as_bytes()), Some(value.as_bytes()), &[]).unwrap();
    builder.build().to_vec()
}

fn marker(producer: i64, control: ControlType) -> Vec<u8> {
    let marker = EndTransactionMarker {
        control,
        producer_id: producer,
        producer_epoch: 0,
        coordinator_epoch: 0,
        timestamp: 0,
    };
    marker.build().to_vec()
}

fn at(limit: i64) -> CompactionLimits {
    CompactionLimits { stable: Offset(limit), committed: Offset(limit) }
}

fn keys(opened: &Opened) -> Vec<(i64, String)> {
    said(opened).into_iter().map(|(offset, key, _)| (offset, key)).collect()
}

fn offsets(opened: &Opened) -> Vec<i64> {
    opened.records().iter().map(|record| record.offset).collect()
}

fn files(disk: &SimDisk, suffix: &str) -> usize {
    let names = disk.list(Path::new(DIRECTORY)).unwrap();
    names.iter().filter(|name| name.ends_with(suffix)).count()
}

#[test]
fn the_last_record_of_every_key_stays_where_it_was() {
    let disk = disk();
    let mut opened = log_of(
        &disk,
        &[
            batch(&[("a", Some("1")), ("b", Some("1")), ("a", Some("2"))]),
            batch(&[("c", Some("1")), ("b", Some("2"))]),
            batch(&[("a", Some("3"))]),
        ],
    );
    opened.compact_fully(0);
    let text = |text: &str| text.to_owned();
    let expected = [
        (3, text("c"), Some(text("1"))),
        (4, text("b"), Some(text("2"))),
        (5, text("a"), Some(text("3"))),
        (6, text("active"), Some(text("1"))),
    ];
    assert_eq!(said(&opened), expected);
    assert_eq!(files(&disk, ".log"), 2, "small neighbours became one segment");
    drop(opened);
    assert_eq!(said(&open(&disk)), expected);
}

#[test]
fn a_read_at_an_offset_that_is_gone_returns_the_next_batch() {
    let disk = disk();
    let mut opened = log_of(
        &disk,
        &[batch(&[("a", Some("1"))]), batch(&[("a", Some("2"))]), batch(&[("b", Some("1"))])],
    );
    opened.compact_fully(0);
    let reader = opened.log.reader();
    for (from, expected) in [(0, 1), (1, 1), (2, 2), (3, 3)] {
        let bytes = reader.read(Offset(from), Offset(4), 1, true).unwrap();
        assert_eq!(BatchHeader::parse(&bytes).unwrap().base_offset, expected, "from {from}");
    }
}

#[test]
fn the_active_segment_and_what_is_not_committed_are_not_touched() {
    let disk = disk();
    let mut opened = log_of(&disk, &[batch(&[("a", Some("1"))]), batch(&[("a", Some("2"))])]);
    opened.append(&batch(&[("active", Some("2"))])).unwrap();
    let scope = opened.log.compaction_scope(at(1), Timestamp(0), &RULES, &opened.producers);
    let mut throttle = unthrottled();
    let mut pass = scope.begin(options(0, 1 << 20), &mut throttle).unwrap();
    assert!(pass.next_replacement(&mut throttle).unwrap().is_none(), "a=2 is not committed");
    opened.flush().unwrap();
    opened.compact_fully(0);
    let expected = [(1, "a".to_owned()), (2, "active".to_owned()), (3, "active".to_owned())];
    assert_eq!(keys(&opened), expected);
}

#[test]
fn a_tombstone_stays_for_the_retention_after_it_was_first_cleaned() {
    let disk = disk();
    let mut opened = log_of(&disk, &[batch(&[("a", Some("1"))]), batch(&[("a", None)])]);
    // Long after it was written: only cleaning starts its time.
    opened.compact_fully(50_000);
    assert_eq!(offsets(&opened), [1, 2]);
    opened.compact_fully(50_000 + RETENTION_MS - 1);
    assert_eq!(offsets(&opened), [1, 2]);
    let mut opened = {
        drop(opened);
        open(&disk)
    };
    opened.compact_fully(50_000 + RETENTION_MS);
    assert_eq!(offsets(&opened), [2]);
}

#[test]
fn a_record_without_a_key_goes() {
    let disk = disk();
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, None, Some(b"v"), &[]).unwrap();
    let mut opened = log_of(&disk, &[builder.build().to_vec(), batch(&[("a", Some("1"))])]);
    opened.compact_fully(0);
    assert_eq!(offsets(&opened), [1, 2]);
}

#[test]
fn the_last_batch_of_a_producer_stays_without_its_records() {
    let disk = disk();
    let idempotent = |sequence, key: &str| {
        let mut builder = BatchBuilder::new(Compression::Lz4);
        builder.producer(5, 3, sequence);
        builder.append(0, Some(key.as_bytes()), Some(b"v"), &[]).unwrap();
        builder.build().to_vec()
    };
    let segments = [
        idempotent(7, "a"),
        idempotent(8, "a"),
        batch(&[("a", Some("1"))]),
        batch(&[("b", Some("1"))]),
    ];
    let mut opened = log_of(&disk, &segments);
    opened.compact_fully(0);
    assert_eq!(offsets(&opened), [2, 3, 4]);
    let empty: Vec<_> =
        opened.batches().into_iter().filter(|(_, records)| records.is_empty()).collect();
    let [(header, _)] = &empty[..] else { panic!("{empty:?}") };
    assert_eq!((header.base_offset, header.producer_id, header.base_sequence), (1, 5, 8));
    // All that is known of producers is lost: the log itself says what came last.
    let before = opened.producers.clone();
    drop(opened);
    for name in disk.list(Path::new(DIRECTORY)).unwrap() {
        if name.ends_with(".snapshot") {
            disk.remove_file(&Path::new(DIRECTORY).join(&name)).unwrap();
        }
    }
    let after = open(&disk).producers;
    let last =
        |table: &ProducerTable| table.iter().map(|info| info.last_sequence).collect::<Vec<_>>();
    assert_eq!(last(&after), last(&before));
    let mut opened = open(&disk);
    opened.flush().unwrap();
    opened.producers = ProducerTable::default();
    opened.compact_fully(0);
    assert!(opened.batches().iter().all(|(_, records)| !records.is_empty()), "forgotten by then");
}

#[test]
fn kafka_8351_a_marker_stays_with_data_in_another_segment() {
    let disk = disk();
    let commit = ControlType::Commit;
    let segments = [
        transactional(7, 0, "k", "1"),
        marker(7, commit),
        transactional(7, 1, "k", "2"),
        marker(7, commit),
    ];
    let mut opened = log_of(&disk, &segments);
    opened.producers = ProducerTable::default();
    let now = |n| n * (RETENTION_MS + 1);
    let markers = |opened: &Opened| -> Vec<i64> {
        let batches = opened.batches().into_iter().filter(|(header, _)| header.is_control());
        batches.map(|(header, _)| header.base_offset).collect()
    };
    for pass in 0..6 {
        opened.compact_fully(now(pass));
        let kept = markers(&opened);
        assert!(kept.contains(&3), "its data is in the log");
        // First without its data, then dated, then gone.
        assert_eq!(kept.contains(&1), pass < 2, "pass {pass}: {kept:?}");
    }
    assert_eq!(offsets(&opened), [2, 3, 4]);
}

#[test]
fn aborted_records_go_and_take_nobodys_place() {
    let disk = disk();
    let segments = [
        batch(&[("k", Some("kept"))]),
        transactional(7, 0, "k", "aborted"),
        batch(&[("other", Some("1"))]),
        marker(7, ControlType::Abort),
    ];
    let mut opened = log_of(&disk, &segments);
    opened.compact_fully(0);
    let all = said(&opened);
    assert!(all.contains(&(0, "k".to_owned(), Some("kept".to_owned()))), "{all:?}");
    assert!(!all.iter().any(|(offset, ..)| *offset == 1));
}

#[test]
fn nothing_behind_an_open_transaction_is_touched() {
    let disk = disk();
    let segments = [
        batch(&[("k", Some("1"))]),
        transactional(7, 0, "k", "undecided"),
        batch(&[("a", Some("1"))]),
        batch(&[("a", Some("2"))]),
    ];
    let mut opened = log_of(&disk, &segments);
    let report = opened.compact(options(0, 1 << 20)).unwrap();
    assert_eq!(report.clean_upto, Offset(1));
    assert_eq!(offsets(&opened), [0, 1, 2, 3, 4]);
    let report = opened.compact(options(0, 1 << 20)).unwrap();
    assert_eq!(report.records_before, 0, "nothing is done over and over");
    // The marker may lie in the active segment.
    opened.append(&marker(7, ControlType::Commit)).unwrap();
    opened.flush().unwrap();
    opened.compact_fully(0);
    assert_eq!(offsets(&opened), [1, 3, 4, 5]);
}

#[test]
fn keys_that_do_not_fit_are_cleaned_in_several_passes() {
    let disk = disk();
    let mut opened = open(&disk);
    for n in 0..200 {
        opened.append(&batch(&[(&format!("key-{}", n % 40), Some("v"))])).unwrap();
    }
    opened.roll();
    opened.append(&batch(&[("active", Some("1"))])).unwrap();
    opened.flush().unwrap();
    let mut passes = 0;
    while !opened.compact(options(0, 24 * 10)).unwrap().complete {
        passes += 1;
        assert!(passes < 100);
    }
    assert!(passes > 2, "{passes}");
    assert_eq!(offsets(&opened), (160..201).collect::<Vec<_>>());
}

#[test]
fn a_damaged_batch_stops_the_pass_and_nothing_is_replaced() {
    let disk = disk();
    let mut opened = log_of(&disk, &[batch(&[("a", Some("1"))]), batch(&[("a", Some("2"))])]);
    let first = Path::new(DIRECTORY).join("00000000000000000001.log");
    disk.flip_bit(&first, 65, 1);
    let error = opened.compact(options(0, 1 << 20)).unwrap_err();
    assert!(matches!(error, CompactionError::Storage(StorageError::Corrupt { .. })), "{error}");
    assert_eq!(files(&disk, ".cleaned") + files(&disk, ".swap"), 0);
    assert_eq!(files(&disk, ".log"), 3);
}

#[test]
fn a_full_disk_ends_the_pass_and_the_log_goes_on() {
    for at in 1..12 {
        let disk = disk();
        let mut opened = log_of(&disk, &[batch(&[("a", Some("1"))]), batch(&[("a", Some("2"))])]);
        disk.plan(at, Fault::Full);
        let result = opened.compact(options(0, 1 << 20));
        disk.fill_up(false);
        if result.is_err() {
            assert_eq!(files(&disk, ".cleaned") + files(&disk, ".swap"), 0, "operation {at}");
        }
        opened.append(&batch(&[("b", Some("1"))])).unwrap();
        opened.flush().unwrap();
        opened.compact_fully(0);
        assert_eq!(offsets(&opened), [1, 2, 3], "operation {at}");
    }
}

#[test]
fn a_segment_in_use_is_read_on_after_it_was_replaced() {
    let disk = disk();
    let mut opened = open(&disk);
    for n in 0..60 {
        opened.append(&batch(&[(&format!("k{}", n % 7), Some("some value"))])).unwrap();
    }
    opened.roll();
    opened.append(&batch(&[("active", Some("1"))])).unwrap();
    opened.flush().unwrap();
    let before = opened.log.reader().read(Offset(0), Offset(60), 1 << 20, true).unwrap();
    let copy = before.to_vec();
    // A reader that looked up the list of segments before they are replaced.
    let old = opened.log.segment_holding(Offset(30));
    let expected = old.locate(Offset(30)).unwrap();
    opened.compact_fully(0);
    assert_eq!(before, copy[..]);
    assert_eq!(old.locate(Offset(30)).unwrap(), expected);
    assert_ne!(opened.log.segment_holding(Offset(30)).locate(Offset(30)).unwrap(), expected);
}

#[test]
fn retention_beside_a_pass_wins() {
    let disk = disk();
    let mut opened = log_of(&disk, &[batch(&[("a", Some("1"))]), batch(&[("a", Some("2"))])]);
    let limits = opened.limits();
    let scope = opened.log.compaction_scope(limits, Timestamp(0), &RULES, &opened.producers);
    let mut throttle = unthrottled();
    let mut pass = scope.begin(options(0, 1 << 20), &mut throttle).unwrap();
    let replacement = pass.next_replacement(&mut throttle).unwrap().unwrap();
    opened.log.advance_start(Offset(1), &opened.epochs).unwrap();
    let refused = opened.log.begin_swap(replacement).unwrap_err();
    refused.discard().unwrap();
    assert_eq!(files(&disk, ".cleaned"), 0);
    assert_eq!(offsets(&opened), [1, 2]);
}

#[test]
fn what_retention_lets_go_during_a_swap_goes_behind_it() {
    let disk = disk();
    let mut opened = log_of(&disk, &[batch(&[("a", Some("1"))]), batch(&[("a", Some("2"))])]);
    let limits = opened.limits();
    let scope = opened.log.compaction_scope(limits, Timestamp(0), &RULES, &opened.producers);
    let mut throttle = unthrottled();
    let mut pass = scope.begin(options(0, 1 << 20), &mut throttle).unwrap();
    let replacement = pass.next_replacement(&mut throttle).unwrap().unwrap();
    let ticket = opened.log.begin_swap(replacement).unwrap();
    opened.log.advance_start(Offset(2), &opened.epochs).unwrap();
    let swapped = ticket.run();
    opened.log.end_swap(swapped).unwrap();
    assert_eq!(offsets(&opened), [2]);
    assert_eq!(files(&disk, ".log"), 1);
    opened.flush().unwrap();
    drop(opened);
    assert_eq!(offsets(&open(&disk)), [2]);
}

#[test]
fn gaps_are_damage_where_nothing_was_compacted() {
    let disk = disk();
    let mut opened =
        log_of(&disk, &[batch(&[("a", Some("1"))]), batch(&[("a", Some("2")), ("b", Some("1"))])]);
    opened.compact_fully(0);
    drop(opened);
    for name in disk.list(Path::new(DIRECTORY)).unwrap() {
        if name.ends_with("index") || name == "compaction" {
            disk.remove_file(&Path::new(DIRECTORY).join(&name)).unwrap();
        }
    }
    let reopened = open(&disk);
    assert_eq!(reopened.log.quarantined().len(), 1);
    // What is damaged may hold anything: it is not compacted, nor what lies behind it.
    let dirtiness = reopened.log.dirtiness(at(99), Timestamp(0), &RULES);
    assert_eq!(dirtiness.dirty_bytes, 0);
}

#[test]
fn a_lost_index_of_a_compacted_segment_is_rebuilt() {
    let disk = disk();
    let mut opened = log_of(&disk, &[batch(&[("a", Some("1"))]), batch(&[("a", Some("2"))])]);
    opened.compact_fully(0);
    let before = said(&opened);
    drop(opened);
    for name in disk.list(Path::new(DIRECTORY)).unwrap() {
        if name.ends_with("index") {
            disk.remove_file(&Path::new(DIRECTORY).join(&name)).unwrap();
        }
    }
    assert_eq!(said(&open(&disk)), before);
}

#[test]
fn a_compacted_segment_that_was_cut_short_is_damage_and_no_gap() {
    let disk = disk();
    let segments = [batch(&[("a", Some("1")), ("b", Some("1"))]), batch(&[("a", Some("2"))])];
    let mut opened = log_of(&disk, &segments);
    opened.compact_fully(0);
    let (first, _) = opened.batches().remove(0);
    drop(opened);
    for name in disk.list(Path::new(DIRECTORY)).unwrap() {
        if name.ends_with("index") {
            disk.remove_file(&Path::new(DIRECTORY).join(&name)).unwrap();
        }
    }
    // Whole batches are left, and gaps are no damage here: but a segment has its last offset.
    let path = Path::new(DIRECTORY).join("00000000000000000000.log");
    let file = disk.open(&path, crate::base::disk::Create::Never).unwrap();
    file.set_len(u64::try_from(first.total_len()).unwrap()).unwrap();
    let reopened = open(&disk);
    let quarantined = reopened.log.quarantined();
    assert_eq!(quarantined.len(), 1);
    assert_eq!((quarantined[0].from, quarantined[0].to), (Offset(2), Offset(3)));
}
