//! What a log does when the disk refuses, lies or is read while it changes.

use super::*;
use crate::base::disk::read_whole;
use crate::storage::StorageError;

fn fill(log: &mut Log, batches: i64) {
    for n in 0..batches {
        append(log, &batch(None, 3, 100, 1000 + n));
    }
}

#[test]
fn a_flush_under_way_does_not_bring_back_an_older_log_start() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    fill(&mut log, 30);
    flush(&mut log);
    fill(&mut log, 30);
    let ticket = log.begin_flush(&EpochCache::default()).unwrap();
    log.advance_start(Offset(50), &EpochCache::default()).unwrap();
    let synced = ticket.sync();
    log.end_flush(synced).unwrap();
    drop(log);
    let reopened = open(&disk);
    assert_eq!(reopened.log.log_start(), Offset(50));
    assert_eq!(reopened.log.log_end(), Offset(180));
}

#[test]
fn a_full_disk_at_a_flush_keeps_the_log_going() {
    for at in 1..30 {
        let disk = disk();
        let Recovered { mut log, .. } = open(&disk);
        fill(&mut log, 30);
        disk.plan(at, Fault::Full);
        flush(&mut log);
        assert_eq!(log.durable_end(), Offset(90), "operation {at}");
        disk.fill_up(false);
        fill(&mut log, 30);
        flush(&mut log);
        let expected = read_all(&log, 9999);
        drop(log);
        let reopened = open(&disk);
        assert_eq!(read_all(&reopened.log, 9999), expected, "operation {at}");
    }
}

#[test]
fn retention_frees_space_on_a_full_disk() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    fill(&mut log, 60);
    flush(&mut log);
    disk.fill_up(true);
    let before = log.size_bytes();
    log.advance_start(Offset(100), &EpochCache::default()).unwrap();
    assert!(log.size_bytes() < before);
    disk.fill_up(false);
    drop(log);
    let reopened = open(&disk);
    assert_eq!((reopened.log.log_start(), reopened.log.log_end()), (Offset(100), Offset(180)));
}

#[test]
fn a_batch_larger_than_an_empty_segment_is_read_back() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    append(&mut log, &batch(None, 1, 10, 0));
    flush(&mut log);
    log.roll();
    // The segment is created for a small batch, which then finds no space.
    disk.plan(2, Fault::Full);
    let small = batch(None, 1, 10, 0);
    let header = BatchHeader::parse(&small).unwrap();
    log.append(&small, &header, log.log_end(), LeaderEpoch(0)).unwrap_err();
    disk.fill_up(false);
    let large = batch(None, 1, 20_000, 0);
    let base = append(&mut log, &large);
    let read = log.reader().read(base, log.log_end(), 1 << 20, true).unwrap();
    assert_eq!(read.len(), large.len());
    assert_eq!(read[16..], large[16..]);
}

#[test]
fn without_a_checkpoint_nothing_is_cut() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    fill(&mut log, 60);
    flush(&mut log);
    drop(log);
    for name in disk.list(Path::new(DIRECTORY)).unwrap() {
        let path = Path::new(DIRECTORY).join(&name);
        if name.starts_with("checkpoint") {
            disk.flip_bit(&path, 14, 3);
        } else if name.ends_with("index") {
            disk.remove_file(&path).unwrap();
        }
    }
    assert_eq!(open(&disk).log.log_end(), Offset(180), "whole data needs no checkpoint");
    let first = Path::new(DIRECTORY).join("00000000000000000000.log");
    for name in disk.list(Path::new(DIRECTORY)).unwrap() {
        if name.ends_with("index") {
            disk.remove_file(&Path::new(DIRECTORY).join(&name)).unwrap();
        }
    }
    disk.flip_bit(&first, 700, 1);
    let before = read_whole(&disk, &first, 1 << 20).unwrap();
    let reopened = open(&disk);
    assert_eq!(reopened.log.log_end(), Offset(180), "the segments behind say where it goes on");
    assert_eq!(reopened.log.quarantined().len(), 1);
    assert_eq!(read_whole(&disk, &first, 1 << 20).unwrap(), before);
}

#[test]
fn damage_at_the_end_of_a_log_without_checkpoint_keeps_it_closed() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    fill(&mut log, 3);
    flush(&mut log);
    let end = usize::try_from(log.size_bytes()).unwrap();
    drop(log);
    for name in ["checkpoint-0", "checkpoint-1"] {
        disk.flip_bit(&Path::new(DIRECTORY).join(name), 14, 3);
    }
    let last = Path::new(DIRECTORY).join("00000000000000000000.log");
    disk.flip_bit(&last, end - 3, 1);
    let before = read_whole(&disk, &last, 1 << 20).unwrap();
    let error = try_open(&disk).unwrap_err();
    assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
    assert_eq!(read_whole(&disk, &last, 1 << 20).unwrap(), before);
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_on_disk_once_a_start_has_found_it() {
    for (at, seed) in (1..25).flat_map(|at| (0..8).map(move |seed| (at, seed))) {
        let disk = disk();
        let Recovered { mut log, .. } = open(&disk);
        fill(&mut log, 30);
        flush(&mut log);
        fill(&mut log, 30);
        disk.plan(at, Fault::Io);
        let ticket = log.begin_flush(&EpochCache::default()).unwrap();
        let synced = ticket.sync();
        let flushed = log.end_flush(synced);
        let _may_fail = log.advance_start(Offset(50), &EpochCache::default());
        assert!(flushed.is_err() || at > 5, "operation {at} was to fail");
        drop(log);
        disk.cancel_plan();
        // Another process, in the same boot of the machine: it reads what the one before wrote.
        let disk = disk.after_kill();
        let Recovered { log, .. } = open(&disk);
        assert_eq!(log.log_end(), Offset(180), "operation {at}");
        let (start, found) = (log.log_start(), read_all(&log, 9999));
        drop(log);
        let reopened = open(&disk.restart(seed)).log;
        assert_eq!((reopened.log_start(), reopened.log_end()), (start, Offset(180)), "{at} {seed}");
        assert_eq!(read_all(&reopened, 9999), found, "operation {at}, seed {seed}");
    }
}
