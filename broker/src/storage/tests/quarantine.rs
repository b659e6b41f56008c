//! Damage below the checkpoint: found, remembered, not served, and nothing else is lost by it.

use super::*;
use crate::base::disk::{Create, read_whole};
use crate::storage::{QuarantinedRange, StorageError};

const FIRST: &str = "00000000000000000000.log";
/// Bytes of each batch that [`filled`] writes; 180 offsets in 60 of them.
fn length() -> usize {
    batch(None, 3, 100, 0).len()
}

/// A log of 60 batches of three records, checkpointed up to its end.
fn filled(disk: &SimDisk) -> Vec<u8> {
    let Recovered { mut log, .. } = open(disk);
    for n in 0..60 {
        append(&mut log, &batch(None, 3, 100, n));
    }
    let all = read_all(&log, 9999);
    log.close(&ProducerTable::default(), &epochs()).unwrap();
    all
}

fn epochs() -> EpochCache {
    let mut epochs = EpochCache::default();
    epochs.assign(LeaderEpoch(0), Offset(0));
    epochs
}

/// Takes away what would keep a start from reading the segments.
fn unseal(disk: &SimDisk) {
    for name in disk.list(Path::new(DIRECTORY)).unwrap() {
        if name.ends_with(".index") {
            disk.remove_file(&Path::new(DIRECTORY).join(name)).unwrap();
        }
    }
}

fn first() -> PathBuf {
    Path::new(DIRECTORY).join(FIRST)
}

fn read(log: &Log, from: i64) -> Result<Vec<u8>, ReadError> {
    let found = log.reader().read(Offset(from), log.log_end(), 1 << 20, true)?;
    Ok(found.to_vec())
}

fn offsets(range: &QuarantinedRange) -> (i64, i64) {
    (range.from.0, range.to.0)
}

#[test]
fn one_damaged_batch_is_quarantined_and_all_others_are_served() {
    // Any byte of the second batch, whatever it means.
    for byte in 0..length() {
        let disk = disk();
        let all = filled(&disk);
        unseal(&disk);
        disk.flip_bit(&first(), length() + byte, 5);
        let before = read_whole(&disk, &first(), 1 << 20).unwrap();
        let Recovered { log, report, .. } = open(&disk);
        assert_eq!((report.quarantined, report.bytes_cut), (1, 0), "byte {byte}");
        let ranges = log.quarantined();
        assert_eq!(offsets(&ranges[0]), (3, 6), "byte {byte}: {}", ranges[0].reason);
        let bytes = u64::try_from(length()).unwrap();
        assert_eq!((ranges[0].position, ranges[0].bytes), (bytes, bytes));
        assert_eq!(read(&log, 0).unwrap(), all[..length()], "up to it");
        for from in 3..6 {
            let error = read(&log, from).unwrap_err();
            assert!(matches!(&error, ReadError::Quarantined { .. }), "{from}: {error}");
            assert!(error.to_string().contains(FIRST), "{error}");
        }
        assert!(all[2 * length()..].starts_with(&read(&log, 6).unwrap()), "from behind it");
        assert_eq!(log.log_end(), Offset(180));
        assert_eq!(read_whole(&disk, &first(), 1 << 20).unwrap(), before, "nothing is changed");
    }
}

#[test]
fn an_epoch_begins_where_it_did_though_its_first_batch_is_damaged() {
    let disk = disk();
    let Recovered { mut log, mut epochs, .. } = open(&disk);
    for epoch in [0, 0, 0, 2, 2] {
        let bytes = batch(None, 3, 100, 0);
        let header = BatchHeader::parse(&bytes).unwrap();
        epochs.lead(LeaderEpoch(epoch), log.log_end());
        log.append(&bytes, &header, log.log_end(), LeaderEpoch(epoch)).unwrap();
    }
    log.close(&ProducerTable::default(), &epochs).unwrap();
    unseal(&disk);
    disk.flip_bit(&first(), 3 * length() + 80, 5);
    let Recovered { log, epochs: found, .. } = open(&disk);
    assert_eq!(offsets(&log.quarantined()[0]), (9, 12));
    assert_eq!(found, epochs);
}

#[test]
fn a_quarantine_outlives_restarts_and_sealing() {
    let disk = disk();
    filled(&disk);
    unseal(&disk);
    disk.flip_bit(&first(), length() + 80, 5);
    for life in 0..4 {
        let Recovered { mut log, report, .. } = open(&disk);
        assert_eq!(log.quarantined().len(), 1, "life {life}");
        assert_eq!(report.quarantined, usize::from(life == 0), "told once");
        assert!(matches!(read(&log, 4), Err(ReadError::Quarantined { .. })), "life {life}");
        let end = log.log_end();
        append(&mut log, &batch(None, 3, 100, 0));
        flush(&mut log);
        assert!(!read(&log, end.0).unwrap().is_empty(), "appends go on");
        if life == 1 {
            log.close(&ProducerTable::default(), &epochs()).unwrap();
        }
    }
    let Recovered { mut log, .. } = open(&disk);
    log.advance_start(Offset(7), &epochs()).unwrap();
    log.advance_start(Offset(100), &epochs()).unwrap();
    assert_eq!(log.quarantined().len(), 0, "it goes with what it covers");
}

#[test]
fn a_restored_file_is_served_again_once_it_is_read() {
    let disk = disk();
    let all = filled(&disk);
    unseal(&disk);
    disk.flip_bit(&first(), length() + 80, 5);
    drop(open(&disk));
    disk.flip_bit(&first(), length() + 80, 5);
    assert_eq!(read_all(&open(&disk).log, 9999), all);
    assert_eq!(open(&disk).log.quarantined().len(), 0);
}

#[test]
fn a_damaged_tail_of_the_log_is_kept_and_the_log_goes_on_behind_it() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    for _ in 0..4 {
        append(&mut log, &batch(None, 3, 100, 0));
    }
    log.close(&ProducerTable::default(), &epochs()).unwrap();
    unseal(&disk);
    disk.flip_bit(&first(), 3 * length() + 9, 7);
    let before = read_whole(&disk, &first(), 1 << 20).unwrap();
    let Recovered { mut log, .. } = open(&disk);
    assert_eq!(offsets(&log.quarantined()[0]), (9, 12));
    assert_eq!(append(&mut log, &batch(None, 3, 100, 0)), Offset(12));
    flush(&mut log);
    assert_eq!(read_whole(&disk, &first(), 1 << 20).unwrap(), before);
    drop(log);
    let Recovered { log, .. } = open(&disk);
    assert_eq!(log.log_end(), Offset(15));
    assert!(matches!(read(&log, 10), Err(ReadError::Quarantined { .. })));
    assert_eq!(read(&log, 12).unwrap().len(), length());
}

#[test]
fn cut_short_and_missing_files_are_quarantined_up_to_the_next() {
    let disk = disk();
    filled(&disk);
    let logs: Vec<String> = disk.list(Path::new(DIRECTORY)).unwrap();
    let logs: Vec<&String> = logs.iter().filter(|name| name.ends_with(".log")).collect();
    let base = |at: usize| logs[at][..20].parse::<i64>().unwrap();
    assert!(logs.len() > 2);
    let file = disk.open(&first(), Create::Never).unwrap();
    file.set_len(u64::try_from(2 * length()).unwrap()).unwrap();
    disk.remove_file(&Path::new(DIRECTORY).join(logs[1])).unwrap();
    let Recovered { log, .. } = open(&disk);
    let ranges = log.quarantined();
    let found: Vec<(i64, i64)> = ranges.iter().map(offsets).collect();
    assert_eq!(found.first(), Some(&(6, base(2))), "{ranges:?}");
    assert_eq!(log.log_end(), Offset(180));
    assert!(matches!(read(&log, base(1)), Err(ReadError::Quarantined { .. })));
    assert!(!read(&log, base(2)).unwrap().is_empty());
}

#[test]
fn the_last_segment_gone_leaves_the_log_end_where_it_was() {
    let disk = disk();
    filled(&disk);
    let names = disk.list(Path::new(DIRECTORY)).unwrap();
    let last = names.iter().rfind(|name| name.ends_with(".log")).unwrap();
    disk.remove_file(&Path::new(DIRECTORY).join(last)).unwrap();
    let Recovered { mut log, .. } = open(&disk);
    assert_eq!(log.log_end(), Offset(180), "no offset is given out twice");
    assert_eq!(append(&mut log, &batch(None, 3, 100, 0)), Offset(180));
    assert!(matches!(read(&log, 179), Err(ReadError::Quarantined { .. })));
    assert_eq!(read(&log, 180).unwrap().len(), length());
}

#[test]
fn a_batch_inside_a_damaged_record_is_not_taken_for_the_next() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    let inner = batch(None, 1, 10, 0);
    let header = BatchHeader::parse(&inner).unwrap();
    let mut value = patched_prefix(&header, 2, 0).to_vec();
    value.extend(&inner[16..]);
    let mut builder = BatchBuilder::new(Compression::None);
    for n in 0..4 {
        builder.append(n, None, Some(&value), &[]).unwrap();
    }
    append(&mut log, &builder.build());
    append(&mut log, &batch(None, 3, 100, 0));
    log.close(&ProducerTable::default(), &epochs()).unwrap();
    unseal(&disk);
    // The length of the outer batch: the next one has to be searched for.
    disk.flip_bit(&first(), 10, 1);
    let Recovered { log, .. } = open(&disk);
    assert_eq!(offsets(&log.quarantined()[0]), (0, 4));
    assert_eq!(read(&log, 4).unwrap().len(), length());
}

#[test]
fn a_damaged_quarantine_file_has_everything_read_again() {
    let disk = disk();
    filled(&disk);
    unseal(&disk);
    disk.flip_bit(&first(), length() + 80, 5);
    open(&disk).log.close(&ProducerTable::default(), &epochs()).unwrap();
    let path = Path::new(DIRECTORY).join("quarantine");
    disk.flip_bit(&path, 30, 1);
    let Recovered { log, .. } = open(&disk);
    assert_eq!(offsets(&log.quarantined()[0]), (3, 6));
}

#[test]
fn searches_by_time_go_around_what_is_damaged() {
    let disk = disk();
    filled(&disk);
    unseal(&disk);
    disk.flip_bit(&first(), length() + 80, 5);
    let Recovered { log, .. } = open(&disk);
    let found = log.reader().offset_for_timestamp(Timestamp(1), log.log_end()).unwrap();
    assert_eq!(found.map(|(offset, ..)| offset), Some(Offset(1)));
    let found = log.reader().offset_for_timestamp(Timestamp(3), log.log_end()).unwrap();
    assert_eq!(found.map(|(offset, ..)| offset), Some(Offset(7)), "not 5, which is damaged");
    let max = log.reader().max_timestamp(log.log_end()).unwrap();
    assert_eq!(max.map(|(_, time, _)| time), Some(Timestamp(61)));
}

#[test]
fn files_of_a_later_version_are_refused_and_left_alone() {
    for (name, magic) in [("quarantine", b"SLQR"), ("00000000000000000003.snapshot", b"SLPR")] {
        let disk = disk();
        filled(&disk);
        let path = Path::new(DIRECTORY).join(name);
        let later = crate::storage::envelope::seal(*magic, 9, b"of the future");
        crate::base::disk::write_atomically(&disk, &path, &later).unwrap();
        let error = try_open(&disk).unwrap_err();
        assert!(matches!(error, StorageError::UnsupportedFormat { found: 9, .. }), "{error}");
        assert!(error.to_string().contains("start the version that wrote it"), "{error}");
        assert_eq!(read_whole(&disk, &path, 999).unwrap().unwrap(), later);
    }
}

#[test]
fn what_was_damaged_since_a_clean_stop_is_never_read_whatever_the_byte() {
    for byte in 0..length() {
        let disk = disk();
        let all = filled(&disk);
        disk.flip_bit(&first(), length() + byte, 5);
        let Recovered { log, report, .. } = open(&disk);
        assert_eq!((report.bytes_scanned, report.quarantined), (0, 0), "the start trusts it");
        let mut found = false;
        for from in [0, 3, 4] {
            match read(&log, from) {
                // The leader epoch is not covered by the checksum, nor compared by a read.
                Ok(bytes) => {
                    let served = all[usize::try_from(from / 3).unwrap() * length()..].to_vec();
                    let epoch = (12..16).contains(&byte);
                    assert!(served.starts_with(&bytes) || epoch, "byte {byte} from {from}");
                }
                Err(ReadError::Storage(StorageError::Corrupt { .. })) => found = true,
                Err(other) => panic!("byte {byte} from {from}: {other}"),
            }
        }
        assert!(found || (12..16).contains(&byte), "byte {byte}");
        let scrubbed = log.scrubber().scrub_at(Offset(0), Timestamp(9)).unwrap().unwrap();
        assert_eq!(scrubbed.found.len(), 1, "byte {byte}");
        assert_eq!(read(&log, 0).unwrap(), all[..length()], "byte {byte}: up to it");
        assert!(matches!(read(&log, 4), Err(ReadError::Quarantined { .. })), "byte {byte}");
        assert!(all[2 * length()..].starts_with(&read(&log, 6).unwrap()), "from behind it");
    }
}
