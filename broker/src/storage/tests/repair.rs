//! A damaged segment is made whole of what another replica has, whatever is damaged of it and
//! wherever a crash comes.

use bytes::Bytes;

use super::*;
use crate::storage::{RebuildError, RepairScope, StorageError};

/// Batches of three records; the log begins a new segment after some 16 of them.
const BATCHES: usize = 60;

/// A log of one epoch, and the same log on another disk, which nobody damages.
fn pair() -> (SimDisk, SimDisk) {
    pair_of(BATCHES)
}

fn pair_of(batches: usize) -> (SimDisk, SimDisk) {
    let (mine, other) = (disk(), disk());
    for disk in [&mine, &other] {
        let Recovered { mut log, .. } = open(disk);
        for n in 0..batches {
            append(&mut log, &batch(None, 3, 100, i64::try_from(n).unwrap()));
        }
        log.close(&ProducerTable::default(), &epochs()).unwrap();
    }
    (mine, other)
}

fn epochs() -> EpochCache {
    let mut epochs = EpochCache::default();
    epochs.assign(LeaderEpoch(0), Offset(0));
    epochs
}

fn length() -> usize {
    batch(None, 3, 100, 0).len()
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let names = disk.list(Path::new(DIRECTORY)).unwrap();
    let mut logs: Vec<_> = names.into_iter().filter(|name| name.ends_with(".log")).collect();
    logs.sort_unstable();
    logs.into_iter().map(|name| Path::new(DIRECTORY).join(name)).collect()
}

fn contents(disk: &SimDisk) -> Vec<Vec<u8>> {
    let read =
        |path: &PathBuf| crate::base::disk::read_whole(disk, path, 1 << 30).unwrap().unwrap();
    segments(disk).iter().map(read).collect()
}

fn scrub(log: &Log) {
    let (scrubber, mut after) = (log.scrubber(), None);
    let mut on = |_| crate::storage::Pace::On;
    while let Some(scrubbed) = scrubber.scrub_next(after, Timestamp(0), &mut on).unwrap() {
        after = Some(scrubbed.segment);
    }
}

/// What `other` has of what is wanted, a batch or two at a time.
fn supply(other: &Log, (from, to): (Offset, Offset)) -> Bytes {
    other.reader().read(from, to, 2 * length(), true).unwrap()
}

/// The first damage there is.
fn scope(log: &Log) -> Option<RepairScope> {
    let base = log.quarantined().first()?.segment;
    log.repair_scope(base, log.log_end(), &epochs(), false)
}

/// Makes whole what can be. Returns how many segments were.
fn repair(log: &mut Log, other: &Log) -> Result<usize, RebuildError> {
    let mut repaired = 0;
    while let Some(scope) = scope(log) {
        let mut rebuild = scope.begin()?;
        while let Some(wanted) = rebuild.wanted() {
            if let Err(error) = rebuild.supply(&supply(other, wanted)) {
                rebuild.discard()?;
                return Err(error);
            }
        }
        let rebuilt = rebuild.finish()?;
        let (ticket, left) = log.begin_repair(rebuilt).unwrap();
        log.end_repair(ticket.run(), left)?;
        repaired += 1;
    }
    Ok(repaired)
}

#[test]
fn whatever_is_damaged_of_a_segment_it_is_made_whole_byte_for_byte() {
    type Damage = (&'static str, fn(&SimDisk, &[PathBuf]));
    let cases: [Damage; 7] = [
        ("a flipped bit", |disk, logs| disk.flip_bit(&logs[1], length() + 80, 5)),
        ("the first batch", |disk, logs| disk.flip_bit(&logs[1], 16, 1)),
        ("the offset, which no checksum covers", |disk, logs| {
            disk.flip_bit(&logs[1], 3 * length() + 7, 0);
        }),
        ("two places", |disk, logs| {
            disk.flip_bit(&logs[1], 80, 5);
            disk.flip_bit(&logs[1], 4 * length() + 80, 5);
        }),
        ("all from the middle on", |disk, logs| disk.zero_from(&logs[1], 5 * length() + 100)),
        ("cut short", |disk, logs| {
            let file = disk.open(&logs[1], crate::base::disk::Create::Never).unwrap();
            file.set_len(u64::try_from(2 * length() + 30).unwrap()).unwrap();
            file.sync_data().unwrap();
        }),
        ("gone", |disk, logs| {
            disk.remove_file(&logs[1]).unwrap();
            disk.sync_dir(Path::new(DIRECTORY)).unwrap();
        }),
    ];
    for (what, damage) in cases {
        let (mine, other) = pair();
        let whole = contents(&mine);
        damage(&mine, &segments(&mine));
        let other = open(&other).log;
        // Found by the start, which reads what has no index.
        let index = segments(&mine)[1].with_extension("index");
        let _gone = mine.remove_file(&index);
        let Recovered { mut log, .. } = open(&mine);
        scrub(&log);
        assert!(!log.quarantined().is_empty(), "{what}");
        append(&mut log, &batch(None, 3, 100, 0));
        flush(&mut log);
        repair(&mut log, &other).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(log.quarantined().len(), 0, "{what}");
        assert_eq!(contents(&mine)[..whole.len()], whole, "{what}");
        let served = read_all(&log, 1 << 20);
        assert!(served.starts_with(&read_all(&other, 1 << 20)), "{what}");
        // And so it is after a power cut.
        drop(log);
        let mine = mine.restart(7);
        let Recovered { log, .. } = open(&mine);
        assert_eq!(log.quarantined().len(), 0, "{what}, after a restart");
        assert_eq!(read_all(&log, 1 << 20), served, "{what}, after a restart");
        scrub(&log);
        assert_eq!(log.quarantined().len(), 0, "{what}, read again");
    }
}

#[test]
fn what_does_not_fit_is_not_taken() {
    let (mine, other) = pair();
    mine.flip_bit(&segments(&mine)[1], length() + 80, 5);
    let mut log = open(&mine).log;
    scrub(&log);
    let ranges = log.quarantined();
    let (from, to) = (ranges[0].from, ranges[0].to);
    let whole = supply(&open(&other).log, (from, to));
    let batch_in = |base: i64, epoch: i32| {
        let bytes = batch(None, 3, 100, 0);
        let header = BatchHeader::parse(&bytes).unwrap();
        let mut written = patched_prefix(&header, base, epoch).to_vec();
        written.extend_from_slice(&bytes[16..]);
        Bytes::from(written)
    };
    let flipped = {
        let mut bytes = whole.to_vec();
        bytes[90] ^= 1;
        Bytes::from(bytes)
    };
    let others = [
        ("flipped", flipped),
        ("another offset", batch_in(from.0 + 3, 0)),
        ("an earlier offset", batch_in(from.0 - 1, 0)),
        ("another epoch", batch_in(from.0, 1)),
        ("none", Bytes::new()),
        ("half a batch", whole.slice(..40)),
    ];
    for (what, records) in others {
        let mut rebuild = scope(&log).unwrap().begin().unwrap();
        assert_eq!(rebuild.wanted(), Some((from, to)));
        let error = rebuild.supply(&records).unwrap_err();
        assert!(matches!(error, RebuildError::Unfit(_)), "{what}: {error}");
        rebuild.discard().unwrap();
    }
    let base = ranges[0].segment;
    assert!(log.repair_scope(base, Offset(to.0 - 1), &epochs(), false).is_none(), "not committed");
    assert_eq!(log.quarantined().len(), 1);
    let names = mine.list(Path::new(DIRECTORY)).unwrap();
    assert!(names.iter().all(|name| !name.ends_with(".cleaned")), "{names:?}");
    assert_eq!(repair(&mut log, &open(&other).log).unwrap(), 1);
}

#[test]
fn a_crash_at_any_operation_of_a_repair_leaves_it_done_or_undone() {
    for missing in [false, true] {
        for at in 1.. {
            let (mine, other) = pair();
            let path = segments(&mine)[1].clone();
            if missing {
                mine.remove_file(&path).unwrap();
                mine.sync_dir(Path::new(DIRECTORY)).unwrap();
            } else {
                mine.flip_bit(&path, length() + 80, 5);
            }
            let other = open(&other).log;
            let mut log = open(&mine).log;
            scrub(&log);
            assert_eq!(log.quarantined().len(), 1);
            mine.plan(at, Fault::Crash);
            let result = repair(&mut log, &other);
            let crashed = mine.has_crashed();
            assert_eq!(result.is_err(), crashed, "operation {at}: {result:?}");
            drop(log);
            let mine = mine.restart(at);
            let Recovered { mut log, .. } = open(&mine);
            scrub(&log);
            let left = log.quarantined().len();
            assert!(left <= 1, "operation {at}");
            repair(&mut log, &other).unwrap();
            assert_eq!(read_all(&log, 1 << 20), read_all(&other, 1 << 20), "operation {at}");
            if !crashed {
                assert!(at > 5, "a repair takes more operations than that");
                break;
            }
        }
    }
}

#[test]
fn segments_that_are_gone_are_made_anew_one_by_one() {
    let (mine, other) = pair();
    let whole = contents(&mine);
    for path in &segments(&mine)[1..3] {
        mine.remove_file(path).unwrap();
    }
    mine.sync_dir(Path::new(DIRECTORY)).unwrap();
    let other = open(&other).log;
    let mut log = open(&mine).log;
    assert_eq!(log.quarantined().len(), 1);
    assert!(repair(&mut log, &other).unwrap() >= 2);
    assert_eq!(contents(&mine).concat(), whole.concat());
    assert_eq!(read_all(&log, 1 << 20), read_all(&other, 1 << 20));
}

#[test]
fn damage_up_to_segments_that_are_gone_is_repaired_in_segments_of_the_usual_size() {
    let (mine, other) = pair_of(2 * BATCHES);
    let paths = segments(&mine);
    assert!(paths.len() > 3, "{paths:?}");
    mine.flip_bit(&paths[1], length() + 80, 5);
    mine.zero_from(&paths[1], 2 * length() + 100);
    mine.remove_file(&paths[2]).unwrap();
    mine.remove_file(&paths[1].with_extension("index")).unwrap();
    mine.sync_dir(Path::new(DIRECTORY)).unwrap();
    let other = open(&other).log;
    let mut log = open(&mine).log;
    flush(&mut log);
    repair(&mut log, &other).unwrap();
    assert_eq!(log.quarantined().len(), 0);
    assert_eq!(read_all(&log, 1 << 20), read_all(&other, 1 << 20));
    let most = contents(&mine).iter().map(Vec::len).max().unwrap();
    // What comes at once is in one segment.
    assert!(most <= 8192 + 2 * length(), "a segment of {most} bytes");
}

#[test]
fn a_log_that_fails_while_it_is_repaired_has_failed() {
    let (mine, other) = pair();
    mine.flip_bit(&segments(&mine)[1], length() + 80, 5);
    let other = open(&other).log;
    let mut log = open(&mine).log;
    scrub(&log);
    let mut rebuild = scope(&log).unwrap().begin().unwrap();
    while let Some(wanted) = rebuild.wanted() {
        rebuild.supply(&supply(&other, wanted)).unwrap();
    }
    let (ticket, left) = log.begin_repair(rebuild.finish().unwrap()).unwrap();
    mine.plan(2, Fault::Io);
    assert!(log.end_repair(ticket.run(), left).is_err());
    let bytes = batch(None, 1, 10, 0);
    let header = BatchHeader::parse(&bytes).unwrap();
    let error = log.append(&bytes, &header, log.log_end(), LeaderEpoch(0)).unwrap_err();
    assert!(matches!(error, StorageError::Poisoned), "{error}");
}
