//! The log against a model, on a disk that crashes.

mod beyond_checkpoint;
mod cut;
mod faults;
mod offline;
mod quarantine;
mod repair;
mod simulation;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sawlog_protocol::records::{BatchBuilder, BatchHeader, Compression, patched_prefix};

use super::{EpochCache, Log, LogOptions, ProducerTable, ReadError, Recovered};
use crate::base::disk::{Disk, FileSystem as _, Syncs};
use crate::base::disk_sim::{Fault, SimDisk};
use crate::base::{LeaderEpoch, Offset, Timestamp};

const DIRECTORY: &str = "/data/topics/t-0.id";
const OPTIONS: LogOptions =
    LogOptions { segment_bytes: 8192, segment_ms: i64::MAX, index_interval_bytes: 600 };

fn batch(producer: Option<(i64, i32)>, records: usize, size: usize, time: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some((id, sequence)) = producer {
        builder.producer(id, 0, sequence);
    }
    for n in 0..records {
        let n = i64::try_from(n).unwrap();
        builder.append(time + n, Some(b"key"), Some(&vec![7; size]), &[]).unwrap();
    }
    builder.build().to_vec()
}

fn open(disk: &SimDisk) -> Recovered {
    try_open(disk).expect("the log opens")
}

/// Opens the log by itself, or, by turns, as one of many that share a sync of the file system.
fn try_open(disk: &SimDisk) -> Result<Recovered, super::StorageError> {
    let log = Log::read(Arc::new(disk.clone()), PathBuf::from(DIRECTORY), OPTIONS, Timestamp(0))?;
    if disk.operations().is_multiple_of(2) {
        return log.sync();
    }
    if log.needs_sync() {
        sync_file_system(disk)?;
    }
    Ok(log.into_synced())
}

/// Closes the log by itself, or, by turns, as one of many.
fn close(
    disk: &SimDisk,
    log: Log,
    (producers, epochs): (&ProducerTable, &EpochCache),
) -> Result<(), super::StorageError> {
    if disk.operations().is_multiple_of(2) {
        return log.close(producers, epochs);
    }
    let Some(mut closing) = log.begin_close(producers, epochs)? else { return Ok(()) };
    loop {
        let more = closing.step(Syncs::Shared)?;
        sync_file_system(disk)?;
        closing.check()?;
        if !more {
            return Ok(());
        }
    }
}

fn sync_file_system(disk: &SimDisk) -> Result<(), super::StorageError> {
    disk.sync().map_err(super::StorageError::io("cannot sync", Path::new("/")))
}

fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/data/topics")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.sync_dir(Path::new("/data")).unwrap();
    disk
}

fn append(log: &mut Log, bytes: &[u8]) -> Offset {
    let header = BatchHeader::parse(bytes).unwrap();
    let base = log.log_end();
    if log.append(bytes, &header, base, LeaderEpoch(0)).unwrap().rolled {
        log.save_producers(&ProducerTable::default(), base);
    }
    base
}

fn flush(log: &mut Log) {
    if let Some(ticket) = log.begin_flush(&EpochCache::default()) {
        let synced = ticket.sync();
        log.end_flush(synced).unwrap();
    }
}

fn read_all(log: &Log, max_bytes: usize) -> Vec<u8> {
    let reader = log.reader();
    let mut bytes = Vec::new();
    let mut at = log.log_start();
    while at < log.log_end() {
        let slice = reader.read(at, log.log_end(), max_bytes, true).unwrap();
        assert!(!slice.is_empty(), "nothing at {at}, the log ends at {}", log.log_end());
        let mut last = None;
        for split in sawlog_protocol::records::split(&slice) {
            last = Some(split.unwrap().0);
        }
        at = Offset(last.unwrap().next_offset());
        bytes.extend_from_slice(&slice);
    }
    bytes
}

#[test]
fn batches_are_read_back_with_their_offset_and_epoch_across_segments() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    let mut expected = Vec::new();
    for n in 0..60 {
        let bytes = batch(None, n % 5 + 1, 100, 0);
        let header = BatchHeader::parse(&bytes).unwrap();
        let base = log.log_end();
        log.append(&bytes, &header, base, LeaderEpoch(3)).unwrap();
        expected.extend(patched_prefix(&header, base.0, 3));
        expected.extend(&bytes[16..]);
    }
    assert!(disk.list(Path::new(DIRECTORY)).unwrap().len() > 2, "several segments");
    for max_bytes in [1, 700, 3000, 1 << 20] {
        assert_eq!(read_all(&log, max_bytes), expected, "in steps of {max_bytes}");
    }
    flush(&mut log);
    assert_eq!(read_all(&log, 5000), expected);
}

#[test]
fn a_read_is_cut_at_its_bounds() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    let length = batch(None, 2, 100, 0).len();
    for _ in 0..10 {
        append(&mut log, &batch(None, 2, 100, 0));
    }
    let reader = log.reader();
    let read =
        |from, until, max| reader.read(Offset(from), Offset(until), max, false).unwrap().len();
    assert_eq!(read(0, 20, 1 << 20), 10 * length);
    assert_eq!(read(5, 20, 1 << 20), 8 * length, "from the batch that holds the offset");
    assert_eq!(read(0, 6, 1 << 20), 3 * length, "below the visible end");
    assert_eq!(read(0, 20, 3 * length + 5), 3 * length, "whole batches only");
    assert_eq!(read(0, 20, length - 1), 0);
    assert_eq!(reader.read(Offset(0), Offset(20), 1, true).unwrap().len(), length);
    assert_eq!(read(20, 20, 1 << 20), 0);
}

#[test]
fn nothing_is_on_disk_before_the_first_append() {
    let disk = disk();
    let Recovered { log, .. } = open(&disk);
    assert!(!disk.exists(Path::new(DIRECTORY)));
    log.close(&ProducerTable::default(), &EpochCache::default()).unwrap();
    assert!(!disk.exists(Path::new(DIRECTORY)));
}

#[test]
fn a_clean_stop_is_opened_without_reading() {
    let disk = disk();
    let Recovered { mut log, mut producers, .. } = open(&disk);
    for n in 0..40 {
        let bytes = batch(Some((5, n * 2)), 2, 200, 0);
        let base = append(&mut log, &bytes);
        producers.record(&BatchHeader::parse(&bytes).unwrap(), base, Timestamp(0));
    }
    let expected = read_all(&log, 9999);
    log.close(&producers, &EpochCache::default()).unwrap();
    let reopened = open(&disk);
    assert!(reopened.report.clean);
    assert_eq!(reopened.report.bytes_scanned, 0);
    assert_eq!(reopened.producers, producers);
    assert_eq!(reopened.log.log_end(), Offset(80));
    assert_eq!(read_all(&reopened.log, 9999), expected);
}

#[test]
fn a_torn_tail_is_cut_at_the_last_whole_batch() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    append(&mut log, &batch(None, 3, 100, 0));
    append(&mut log, &batch(None, 3, 100, 0));
    flush(&mut log);
    let end = usize::try_from(log.size_bytes()).unwrap();
    drop(log);
    // The last batch loses a bit, as a torn write would leave it.
    disk.flip_bit(&Path::new(DIRECTORY).join("00000000000000000000.log"), end - 3, 1);
    let reopened = open(&disk);
    assert_eq!(reopened.log.log_end(), Offset(3));
    assert!(reopened.report.bytes_cut > 0);
    assert!(!reopened.report.clean);
}

#[test]
fn kafka_10207_a_zeroed_index_is_rebuilt_not_trusted() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    for n in 0..60 {
        append(&mut log, &batch(None, 3, 100, 1000 + n));
    }
    flush(&mut log);
    drop(log);
    let path = Path::new(DIRECTORY).join("00000000000000000000.timeindex");
    let file = disk.open(&path, crate::base::disk::Create::Never).unwrap();
    let length = file.len().unwrap();
    file.set_len(0).unwrap();
    file.set_len(length + 4096).unwrap();
    let reopened = open(&disk);
    assert!(reopened.report.indexes_rebuilt >= 1);
    let young = Timestamp(1000);
    assert_eq!(reopened.log.expired_by_retention(young, Some(100), None, Offset(180)), None);
    let found = reopened.log.reader().offset_for_timestamp(Timestamp(1059), Offset(180)).unwrap();
    assert_eq!(found.map(|(offset, time, _)| (offset, time)), Some((Offset(173), Timestamp(1059))));
}

#[test]
fn searches_by_time_find_the_first_record_at_or_after() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    for n in 0..50 {
        append(&mut log, &batch(None, 2, 100, n * 10));
    }
    let reader = log.reader();
    let at = |time, until| {
        let found = reader.offset_for_timestamp(Timestamp(time), Offset(until)).unwrap();
        found.map(|(offset, time, _)| (offset.0, time.0))
    };
    assert_eq!(at(0, 100), Some((0, 0)));
    assert_eq!(at(1, 100), Some((1, 1)));
    assert_eq!(at(2, 100), Some((2, 10)));
    assert_eq!(at(485, 100), Some((98, 490)));
    assert_eq!(at(492, 100), None);
    assert_eq!(at(485, 98), None, "not beyond the visible end");
    let max = reader.max_timestamp(Offset(100)).unwrap();
    assert_eq!(max.map(|(offset, time, _)| (offset.0, time.0)), Some((99, 491)));
    let visible = reader.max_timestamp(Offset(50)).unwrap();
    assert_eq!(visible.map(|(offset, time, _)| (offset.0, time.0)), Some((49, 241)));
}

#[test]
fn retention_drops_whole_segments_by_age_and_size() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    for n in 0..60 {
        append(&mut log, &batch(None, 3, 100, n * 100));
    }
    flush(&mut log);
    let all = log.size_bytes();
    assert_eq!(log.expired_by_retention(Timestamp(9000), Some(10_000), None, Offset(180)), None);
    let by_age = log.expired_by_retention(Timestamp(9000), Some(5000), None, Offset(180)).unwrap();
    assert!(by_age > Offset(0) && by_age <= Offset(123), "{by_age}");
    let by_size = log.expired_by_retention(Timestamp(0), None, Some(all / 2), Offset(180)).unwrap();
    assert!(by_size > Offset(0) && by_size < Offset(180));
    assert_eq!(log.expired_by_retention(Timestamp(9000), Some(0), None, Offset(10)), None);
    log.advance_start(by_size, &EpochCache::default()).unwrap();
    assert!(log.size_bytes() >= all / 2 && log.size_bytes() < all);
    assert!(matches!(
        log.reader().read(Offset(0), Offset(180), 100, true),
        Err(ReadError::OutOfRange { .. })
    ));
    drop(log);
    assert_eq!(open(&disk).log.log_start(), by_size);
}

#[test]
fn a_full_disk_refuses_the_append_and_the_log_goes_on() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    append(&mut log, &batch(None, 1, 10, 0));
    for _ in 0..4 {
        append(&mut log, &batch(None, 1, 1500, 0));
    }
    // The next batch begins a segment: one operation creates the file, others allocate.
    disk.plan(2, Fault::Full);
    let bytes = batch(None, 1, 4000, 0);
    let header = BatchHeader::parse(&bytes).unwrap();
    let error = log.append(&bytes, &header, log.log_end(), LeaderEpoch(0)).unwrap_err();
    assert!(matches!(error, super::StorageError::NoSpace { .. }), "{error}");
    disk.fill_up(false);
    assert_eq!(append(&mut log, &bytes), Offset(5), "the same batch, once there is space");
    flush(&mut log);
    drop(log);
    assert_eq!(open(&disk).log.log_end(), Offset(6));
}

#[test]
fn a_failed_sync_is_final() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    let bytes = batch(None, 1, 10, 0);
    append(&mut log, &bytes);
    disk.plan(1, Fault::Io);
    let ticket = log.begin_flush(&EpochCache::default()).unwrap();
    assert!(log.end_flush(ticket.sync()).is_err());
    assert_eq!(log.durable_end(), Offset(0));
    assert!(log.begin_flush(&EpochCache::default()).is_none());
    let header = BatchHeader::parse(&bytes).unwrap();
    assert!(log.append(&bytes, &header, Offset(1), LeaderEpoch(0)).is_err());
}
