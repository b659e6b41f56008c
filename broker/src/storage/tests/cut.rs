//! Logs that are cut, begun anew, and copied from a leader.

use super::*;
use crate::storage::{Cut, StorageError};

fn truncate(log: &mut Log, to: i64) -> Option<Cut> {
    log.truncate(Offset(to), &EpochCache::default(), Timestamp(0)).unwrap()
}

/// `batch` as a leader has it at `base`.
fn as_led(batch: &[u8], base: i64) -> (Vec<u8>, BatchHeader) {
    let mut bytes = patched_prefix(&BatchHeader::parse(batch).unwrap(), base, 7).to_vec();
    bytes.extend(&batch[16..]);
    let header = BatchHeader::parse(&bytes).unwrap();
    (bytes, header)
}

fn replicate(log: &mut Log, base: i64, records: usize) -> Vec<u8> {
    let (bytes, header) = as_led(&batch(None, records, 50, 0), base);
    log.append_replicated(&bytes, &header).unwrap();
    bytes
}

#[test]
fn a_cut_log_ends_with_a_whole_batch_and_goes_on_from_there() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    for n in 0..40 {
        append(&mut log, &batch(Some((5, n * 2)), 2, 300, 0));
    }
    let before = read_all(&log, 9999);
    let held = log.reader().read(Offset(50), Offset(80), 1 << 20, true).unwrap();
    let copy = held.to_vec();
    assert_eq!(truncate(&mut log, 80), None, "nothing lies behind its end");
    let cut = truncate(&mut log, 51).unwrap();
    assert_eq!(cut.end, Offset(50), "51 is within a batch");
    assert_eq!(log.durable_end(), Offset(50), "what is left was synced");
    assert_eq!(cut.producers.iter().next().unwrap().last_sequence, 49);
    assert_eq!(held, copy, "bytes that were handed out stay as they were");
    let kept = read_all(&log, 9999);
    assert!(before.starts_with(&kept) && kept.len() * 40 == before.len() * 25);
    assert_eq!(append(&mut log, &batch(Some((6, 0)), 1, 30, 0)), Offset(50));
    flush(&mut log);
    let expected = read_all(&log, 9999);
    drop((log, held));
    let reopened = open(&disk.restart(3));
    assert_eq!(reopened.report.quarantined, 0, "nothing is missed that was cut");
    assert_eq!(read_all(&reopened.log, 9999), expected);
    assert_eq!(reopened.producers.iter().count(), 2);
}

#[test]
fn a_log_cut_to_its_start_is_empty_and_begins_there() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    for _ in 0..10 {
        append(&mut log, &batch(None, 4, 300, 0));
    }
    flush(&mut log);
    log.advance_start(Offset(6), &EpochCache::default()).unwrap();
    assert_eq!(truncate(&mut log, 6).unwrap().end, Offset(6), "the batch at 4 ends beyond");
    assert_eq!((log.log_start(), log.log_end()), (Offset(6), Offset(6)));
    drop(log);
    let mut log = open(&disk.restart(1)).log;
    assert_eq!((log.log_start(), log.log_end()), (Offset(6), Offset(6)));
    assert_eq!(append(&mut log, &batch(None, 1, 10, 0)), Offset(6));
}

#[test]
fn a_log_begun_anew_takes_the_batch_its_start_lies_in() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    append(&mut log, &batch(None, 4, 30, 0));
    log.restart_at(Offset(102)).unwrap();
    let led = replicate(&mut log, 100, 5);
    assert_eq!((log.log_start(), log.log_end()), (Offset(102), Offset(105)));
    flush(&mut log);
    drop(log);
    let log = open(&disk.restart(1)).log;
    assert_eq!((log.log_start(), log.log_end()), (Offset(102), Offset(105)));
    assert_eq!(read_all(&log, 9999), led);
}

#[test]
fn an_empty_log_begun_anew_where_it_ends_forgets_its_producers() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    let bytes = batch(Some((5, 0)), 4, 30, 0);
    append(&mut log, &bytes);
    let mut producers = ProducerTable::default();
    producers.record(&BatchHeader::parse(&bytes).unwrap(), Offset(0), Timestamp(0));
    log.roll();
    log.save_producers(&producers, Offset(4));
    flush(&mut log);
    log.advance_start(Offset(4), &EpochCache::default()).unwrap();
    drop(log);
    let disk = disk.restart(1);
    let Recovered { mut log, producers, .. } = open(&disk);
    assert_eq!((log.log_start(), log.log_end()), (Offset(4), Offset(4)));
    assert_eq!(producers.iter().count(), 1, "known, though what it wrote is removed");
    log.restart_at(Offset(4)).unwrap();
    append(&mut log, &batch(Some((6, 0)), 1, 30, 0));
    flush(&mut log);
    drop(log);
    let known: Vec<_> = open(&disk.restart(2)).producers.iter().map(|p| p.producer_id).collect();
    assert_eq!(known, [6], "as they were told to the caller");
}

#[test]
fn a_log_without_files_begun_anew_where_it_ends_has_none() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    log.restart_at(Offset(0)).unwrap();
    assert!(!disk.exists(Path::new(DIRECTORY)));
}

#[test]
fn gaps_in_what_a_leader_has_are_no_damage_in_its_copy() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    let mut led = replicate(&mut log, 10, 2);
    for base in [12, 30, 400, 401] {
        led.extend(replicate(&mut log, base, 1));
    }
    flush(&mut log);
    drop(log);
    let reopened = open(&disk.restart(1));
    assert_eq!((reopened.log.log_end(), reopened.report.quarantined), (Offset(402), 0));
    assert_eq!(read_all(&reopened.log, 9999), led);
}

#[test]
fn a_cut_that_finds_no_space_can_be_made_later() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    for _ in 0..10 {
        append(&mut log, &batch(None, 1, 300, 0));
    }
    flush(&mut log);
    disk.fill_up(true);
    let refused = log.truncate(Offset(5), &EpochCache::default(), Timestamp(0));
    assert!(matches!(refused, Err(StorageError::NoSpace { .. })), "{refused:?}");
    assert_eq!(log.log_end(), Offset(10));
    disk.fill_up(false);
    assert_eq!(truncate(&mut log, 5).unwrap().end, Offset(5));
    drop(log);
    assert_eq!(open(&disk.restart(2)).log.log_end(), Offset(5));
}
