//! The log against a model, on a disk that crashes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sawlog_protocol::records::{BatchBuilder, BatchHeader, Compression, patched_prefix};

use super::{EpochCache, Log, LogOptions, ProducerTable, ReadError, Recovered, Sequence};
use crate::base::disk::Disk;
use crate::base::disk_sim::{Fault, SimDisk, SimRandom};
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

fn try_open(disk: &SimDisk) -> Result<Recovered, super::StorageError> {
    Log::open(Arc::new(disk.clone()), PathBuf::from(DIRECTORY), OPTIONS, Timestamp(0))
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
        bytes.extend(slice);
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
fn damage_below_the_checkpoint_is_reported_and_nothing_is_cut() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    for _ in 0..60 {
        append(&mut log, &batch(None, 3, 100, 0));
    }
    flush(&mut log);
    drop(log);
    let first = Path::new(DIRECTORY).join("00000000000000000000.log");
    disk.flip_bit(&first, 700, 1);
    disk.flip_bit(&first.with_extension("index"), 20, 1);
    let before = crate::base::disk::read_whole(&disk, &first, 1 << 20).unwrap();
    let error = try_open(&disk).unwrap_err();
    assert!(matches!(error, super::StorageError::Corrupt { .. }), "{error}");
    assert_eq!(crate::base::disk::read_whole(&disk, &first, 1 << 20).unwrap(), before);
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
    // The next batch begins a segment: one operation creates the file, one allocates.
    disk.plan(2, Fault::NoSpace);
    let bytes = batch(None, 1, 4000, 0);
    let header = BatchHeader::parse(&bytes).unwrap();
    let error = log.append(&bytes, &header, log.log_end(), LeaderEpoch(0)).unwrap_err();
    assert!(matches!(error, super::StorageError::NoSpace { .. }), "{error}");
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

/// What must be in the log: every batch, with the offsets behind it.
#[derive(Default)]
struct Model {
    batches: Vec<(i64, i64, Vec<u8>)>,
    start: i64,
    acknowledged: i64,
    sequences: [i32; 3],
}

impl Model {
    fn end(&self) -> i64 {
        self.batches.last().map_or(0, |(_, next, _)| *next)
    }

    fn bytes(&self, from: i64, to: i64) -> Vec<u8> {
        let within = self.batches.iter().filter(|(base, next, _)| *next > from && *base < to);
        within.flat_map(|(_, _, bytes)| bytes.clone()).collect()
    }
}

/// One life of a log: random operations until the planned crash, then recovery, several times.
fn simulate(seed: u64) -> String {
    let mut random = SimRandom::new(seed);
    let mut disk = disk();
    let mut model = Model::default();
    let mut trace = String::new();
    for life in 0..4 {
        let Recovered { mut log, mut producers, mut epochs, .. } =
            try_open(&disk).unwrap_or_else(|error| panic!("seed {seed} life {life}: {error}"));
        verify(seed, &log, &producers, &epochs, &mut model);
        epochs.assign(LeaderEpoch(life), log.log_end());
        disk.plan(1 + random.below(120), Fault::Crash);
        for _ in 0..100 {
            let alive = step(&mut random, &mut log, &mut producers, &mut epochs, &mut model, life);
            if !alive || disk.has_crashed() {
                break;
            }
        }
        if random.below(4) == 0 && !disk.has_crashed() && log.close(&producers, &epochs).is_ok() {
            model.acknowledged = model.end();
        }
        trace.push_str(&format!("{} {};", model.end(), disk.operations()));
        disk = disk.restart(random.bits());
    }
    let recovered = open(&disk);
    verify(seed, &recovered.log, &recovered.producers, &recovered.epochs, &mut model);
    trace
}

fn step(
    random: &mut SimRandom,
    log: &mut Log,
    producers: &mut ProducerTable,
    epochs: &mut EpochCache,
    model: &mut Model,
    epoch: i32,
) -> bool {
    match random.below(12) {
        0..=7 => {
            let who = usize::try_from(random.below(3)).unwrap();
            let count = usize::try_from(1 + random.below(4)).unwrap();
            let size = usize::try_from(random.below(900)).unwrap();
            let sequence = model.sequences[who];
            let producer = (i64::try_from(who).unwrap() + 10, sequence);
            let bytes = batch(Some(producer), count, size, model.end());
            let header = BatchHeader::parse(&bytes).unwrap();
            let base = log.log_end();
            match log.append(&bytes, &header, base, LeaderEpoch(epoch)) {
                Ok(appended) => {
                    if appended.rolled {
                        log.save_producers(producers, base);
                    }
                    producers.record(&header, base, Timestamp(0));
                    let mut stored = patched_prefix(&header, base.0, epoch).to_vec();
                    stored.extend(&bytes[16..]);
                    model.batches.push((base.0, log.log_end().0, stored));
                    model.sequences[who] += i32::try_from(count).unwrap();
                    true
                }
                Err(_) => false,
            }
        }
        8 | 9 => match log.begin_flush(epochs) {
            Some(ticket) => {
                let synced = ticket.sync();
                match log.end_flush(synced) {
                    Ok(upto) => {
                        model.acknowledged = upto.0;
                        true
                    }
                    Err(_) => false,
                }
            }
            None => true,
        },
        10 => {
            log.roll();
            log.save_producers(producers, log.log_end());
            true
        }
        _ => {
            let span = u64::try_from(model.acknowledged - model.start).unwrap();
            let to = model.start + i64::try_from(random.below(span / 2 + 1)).unwrap();
            match log.advance_start(Offset(to), epochs) {
                Ok(()) => {
                    model.start = model.start.max(to);
                    epochs.truncate_from_start(log.log_start());
                    true
                }
                Err(_) => {
                    // It may or may not have been written down.
                    model.start = model.start.min(to);
                    false
                }
            }
        }
    }
}

/// What was acknowledged is there, the rest is a prefix, derived state equals a recomputation.
fn verify(seed: u64, log: &Log, producers: &ProducerTable, epochs: &EpochCache, model: &mut Model) {
    let (start, end) = (log.log_start().0, log.log_end().0);
    assert!(end >= model.acknowledged, "seed {seed}: ends at {end}, acked {}", model.acknowledged);
    assert!(start >= model.start && start <= end, "seed {seed}: start {start} end {end}");
    assert!(
        end == 0 || end == model.start || model.batches.iter().any(|(_, next, _)| *next == end),
        "seed {seed}: ends within a batch"
    );
    model.batches.retain(|(_, next, _)| *next <= end);
    model.start = start;
    model.acknowledged = end;
    assert_eq!(read_all(log, 3000), model.bytes(start, end), "seed {seed}: other bytes");
    model.sequences = [0; 3];
    let mut latest = None;
    for (_, _, bytes) in &model.batches {
        let header = BatchHeader::parse(bytes).unwrap();
        let who = usize::try_from(header.producer_id - 10).unwrap();
        model.sequences[who] = header.last_sequence() + 1;
        latest = Some(LeaderEpoch(header.partition_leader_epoch));
    }
    for (who, next) in (0..).zip(&model.sequences) {
        let following = BatchHeader::parse(&batch(Some((who + 10, *next)), 1, 1, 0)).unwrap();
        assert_eq!(producers.check(&following), Ok(Sequence::Append), "seed {seed} producer {who}");
        if *next > 0 && model.batches.iter().any(|(base, _, _)| *base >= start) {
            let gap = BatchHeader::parse(&batch(Some((who + 10, *next + 1)), 1, 1, 0)).unwrap();
            let known = producers.iter().any(|info| info.producer_id == who + 10);
            assert!(!known || producers.check(&gap).is_err(), "seed {seed}: a gap is accepted");
        }
    }
    if model.batches.iter().any(|(base, _, _)| *base >= start) {
        assert_eq!(epochs.latest(), latest, "seed {seed}: epochs");
    }
}

/// Seeds run by default; more with `SAWLOG_STORAGE_SEEDS`.
const SEEDS: u64 = 2_000;

#[test]
fn acknowledged_batches_survive_a_crash_at_any_disk_operation() {
    let seeds = std::env::var("SAWLOG_STORAGE_SEEDS").ok().and_then(|text| text.parse().ok());
    for seed in 0..seeds.unwrap_or(SEEDS) {
        simulate(seed);
    }
}

#[test]
fn a_seed_run_twice_does_the_same() {
    for seed in 0..50 {
        assert_eq!(simulate(seed), simulate(seed));
    }
}
