//! Damage between the checkpoint and the log end, where torn writes are, too: what can be told from
//! one is quarantined, what cannot is cut. And damage that looks like something else.

use super::*;
use crate::base::disk::{Create, DiskFile};
use crate::storage::{Pace, QuarantinedRange};

const FIRST: &str = "00000000000000000000.log";

/// Bytes of each batch that [`written`] writes.
fn length() -> usize {
    batch(None, 3, 100, 0).len()
}

fn first() -> PathBuf {
    Path::new(DIRECTORY).join(FIRST)
}

fn first_file(disk: &SimDisk) -> Arc<dyn DiskFile> {
    disk.open(&first(), Create::Never).unwrap()
}

/// Four synced batches of three records, and a checkpoint that says nothing of them.
fn written() -> (SimDisk, Vec<u8>) {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    for _ in 0..4 {
        append(&mut log, &batch(None, 3, 100, 0));
    }
    flush(&mut log);
    let all = read_all(&log, 1 << 20);
    (disk, all)
}

fn ranges(log: &Log) -> Vec<(i64, i64)> {
    log.quarantined().iter().map(|range: &QuarantinedRange| (range.from.0, range.to.0)).collect()
}

fn read(log: &Log, from: i64) -> Result<Vec<u8>, ReadError> {
    let found = log.reader().read(Offset(from), log.log_end(), 1 << 20, true)?;
    Ok(found.to_vec())
}

/// The name of the newer of the two checkpoints.
fn newer_checkpoint(disk: &SimDisk) -> &'static str {
    let generation = |name: &str| {
        let path = Path::new(DIRECTORY).join(name);
        crate::base::disk::read_whole(disk, &path, 999).unwrap().unwrap()[12..20].to_vec()
    };
    let (one, other) = (generation("checkpoint-0"), generation("checkpoint-1"));
    if one > other { "checkpoint-0" } else { "checkpoint-1" }
}

fn zero(disk: &SimDisk, from: usize, to: usize) {
    let zeroes = vec![0; to - from];
    let parts = [std::io::IoSlice::new(&zeroes)];
    first_file(disk).write_at(&parts, u64::try_from(from).unwrap()).unwrap();
}

#[test]
fn a_flipped_bit_is_no_torn_write_and_what_follows_stays() {
    // Any byte of the second batch, whatever it means.
    for byte in 0..length() {
        let (disk, all) = written();
        disk.flip_bit(&first(), length() + byte, 5);
        let Recovered { log, report, .. } = open(&disk);
        assert_eq!((report.quarantined, log.log_end()), (1, Offset(12)), "byte {byte}");
        assert_eq!(ranges(&log), [(3, 6)], "byte {byte}");
        assert_eq!(read(&log, 0).unwrap(), all[..length()], "byte {byte}");
        assert_eq!(read(&log, 6).unwrap(), all[2 * length()..], "byte {byte}");
        // It stays so, and gives out no offset twice.
        let Recovered { mut log, report, .. } = open(&disk);
        assert_eq!((report.quarantined, ranges(&log)), (0, vec![(3, 6)]), "byte {byte}");
        assert_eq!(append(&mut log, &batch(None, 3, 100, 0)), Offset(12), "byte {byte}");
    }
}

#[test]
fn a_whole_batch_with_a_wrong_offset_at_the_end_is_not_cut() {
    for byte in 0..8 {
        let (disk, all) = written();
        disk.flip_bit(&first(), 3 * length() + byte, 5);
        let Recovered { log, .. } = open(&disk);
        assert_eq!((ranges(&log), log.log_end()), (vec![(9, 12)], Offset(12)), "byte {byte}");
        assert_eq!(read(&log, 0).unwrap(), all[..3 * length()], "byte {byte}");
    }
}

/// Two segments of two batches each, with no checkpoint that says anything of them.
fn two_segments() -> (SimDisk, Log) {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    for at in 0..4 {
        if at == 2 {
            log.roll();
        }
        append(&mut log, &batch(None, 3, 100, 0));
    }
    (disk, log)
}

#[test]
fn a_damaged_batch_at_the_end_of_a_segment_is_no_torn_write_if_the_next_one_follows() {
    for byte in 16..length() {
        let (disk, log) = two_segments();
        drop(log);
        disk.flip_bit(&first(), length() + byte, 5);
        let Recovered { log, .. } = open(&disk);
        let found = (ranges(&log), log.log_end());
        // Without its magic number it says nothing of what it was.
        let expected = if byte == 16 { (vec![], Offset(3)) } else { (vec![(3, 6)], Offset(12)) };
        assert_eq!(found, expected, "byte {byte}");
    }
}

#[test]
fn what_lies_behind_the_last_batch_of_a_segment_means_nothing() {
    let (disk, log) = two_segments();
    drop(log);
    disk.flip_bit(&first(), 2 * length() + 999, 5);
    let Recovered { log, report, .. } = open(&disk);
    assert_eq!((ranges(&log), log.log_end(), report.bytes_cut), (vec![], Offset(12), 0));
    let end = u64::try_from(2 * length()).unwrap();
    assert_eq!(first_file(&disk).len().unwrap(), end, "it is cut to its batches");
}

#[test]
fn a_torn_write_below_the_log_start_cuts_nothing_above_it() {
    let (disk, mut log) = two_segments();
    log.advance_start(Offset(8), &EpochCache::default()).unwrap();
    drop(log);
    zero(&disk, length(), 2 * length());
    let Recovered { log, .. } = open(&disk);
    assert_eq!((ranges(&log), log.log_start(), log.log_end()), (vec![], Offset(8), Offset(12)));
    assert_eq!(read(&log, 8).unwrap().len(), 2 * length());
}

#[test]
fn a_sector_that_was_never_written_is_a_torn_write_whatever_follows() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    for size in [100, 600, 100, 100] {
        append(&mut log, &batch(None, 3, size, 0));
    }
    flush(&mut log);
    drop(log);
    // A whole sector of the second batch, as a crash leaves it that kept all the others.
    zero(&disk, 1024, 1536);
    let Recovered { log, report, .. } = open(&disk);
    assert_eq!((ranges(&log), log.log_end()), (vec![], Offset(3)));
    assert!(report.bytes_cut > 0);
}

#[test]
fn a_flipped_epoch_takes_nothing_along_but_its_batch() {
    for bit in 0..7 {
        let (disk, all) = written();
        disk.flip_bit(&first(), 2 * length() + 13, bit);
        let Recovered { log, epochs, .. } = open(&disk);
        assert_eq!((ranges(&log), log.log_end()), (vec![(6, 9)], Offset(12)), "bit {bit}");
        assert_eq!(epochs.latest(), Some(LeaderEpoch(0)), "bit {bit}");
        assert_eq!(read(&log, 9).unwrap(), all[3 * length()..], "bit {bit}");
    }
}

#[test]
fn a_new_leader_forgets_an_epoch_that_was_never_given_out() {
    let (disk, _) = written();
    // Nothing behind the last batch contradicts it.
    disk.flip_bit(&first(), 3 * length() + 13, 1);
    let Recovered { mut log, mut epochs, .. } = open(&disk);
    assert!(epochs.latest() > Some(LeaderEpoch(1)), "{epochs:?}");
    epochs.lead(LeaderEpoch(1), log.log_end());
    for _ in 0..3 {
        let bytes = batch(None, 3, 100, 0);
        let header = BatchHeader::parse(&bytes).unwrap();
        let base = log.log_end();
        log.append(&bytes, &header, base, LeaderEpoch(1)).unwrap();
    }
    let ticket = log.begin_flush(&epochs).unwrap();
    let synced = ticket.sync();
    log.end_flush(synced).unwrap();
    log.close(&ProducerTable::default(), &epochs).unwrap();
    for name in disk.list(Path::new(DIRECTORY)).unwrap() {
        if name.ends_with("index") {
            disk.remove_file(&Path::new(DIRECTORY).join(name)).unwrap();
        }
    }
    let Recovered { log, .. } = open(&disk);
    assert_eq!(ranges(&log), [(9, 12)], "what is damaged, and nothing that was appended later");
    assert_eq!(log.log_end(), Offset(21));
}

#[test]
fn what_is_in_quarantine_was_durable_and_so_was_all_below() {
    let (disk, _) = written();
    disk.flip_bit(&first(), 2 * length() + 80, 5);
    assert_eq!(ranges(&open(&disk).log), [(6, 9)]);
    // As a lost write would leave it, or a torn one: but there is none below what was durable.
    zero(&disk, length(), 2 * length());
    let Recovered { log, report, .. } = open(&disk);
    assert_eq!((log.log_end(), report.bytes_cut), (Offset(12), 0));
    for damaged in 3..9 {
        assert!(matches!(read(&log, damaged), Err(ReadError::Quarantined { .. })), "{damaged}");
    }
    assert_eq!(read(&log, 9).unwrap().len(), length());
}

#[test]
fn damage_below_the_log_start_is_known_as_long_as_its_segment_is_there() {
    let (disk, all) = written();
    disk.flip_bit(&first(), length() + 80, 5);
    let Recovered { mut log, .. } = open(&disk);
    log.advance_start(Offset(8), &EpochCache::default()).unwrap();
    log.close(&ProducerTable::default(), &EpochCache::default()).unwrap();
    for life in 0..3 {
        let Recovered { log, report, .. } = open(&disk);
        assert!(report.clean, "sealed, and not read again");
        assert_eq!(ranges(&log), [(3, 6)], "life {life}");
        assert_eq!(read(&log, 8).unwrap(), all[2 * length()..], "life {life}");
    }
}

#[test]
fn a_missing_segment_is_not_taken_for_a_removed_one() {
    for (both_damaged, quarantine_damaged) in [(false, false), (false, true), (true, false)] {
        let disk = disk();
        let Recovered { mut log, .. } = open(&disk);
        for _ in 0..4 {
            for _ in 0..3 {
                append(&mut log, &batch(None, 3, 100, 0));
            }
            log.roll();
        }
        log.close(&ProducerTable::default(), &EpochCache::default()).unwrap();
        disk.remove_file(&first()).unwrap();
        let Recovered { mut log, .. } = open(&disk);
        assert_eq!(ranges(&log), [(0, 9)]);
        // Twice, so that both checkpoints know of the producer state that is there.
        for start in [1, 2] {
            log.advance_start(Offset(start), &EpochCache::default()).unwrap();
        }
        drop(log);
        let newer = newer_checkpoint(&disk);
        for name in ["checkpoint-0", "checkpoint-1"] {
            if both_damaged || name == newer {
                disk.flip_bit(&Path::new(DIRECTORY).join(name), 24, 1);
            }
        }
        if quarantine_damaged {
            disk.flip_bit(&Path::new(DIRECTORY).join("quarantine"), 24, 1);
        }
        let Recovered { log, .. } = open(&disk);
        assert!(log.log_start() <= Offset(2), "{}", log.log_start());
        assert!(matches!(read(&log, 5), Err(ReadError::Quarantined { .. })));
        assert_eq!(read(&log, 9).unwrap().len(), 3 * length());
    }
}

#[test]
fn an_offset_that_nothing_confirms_does_not_move_the_log_end() {
    // Of two damaged batches in a row the second is whole, but for its offset.
    for damaged in 0..3 {
        let (disk, all) = written();
        let Recovered { log, .. } = open(&disk);
        log.close(&ProducerTable::default(), &EpochCache::default()).unwrap();
        disk.remove_file(&first().with_extension("index")).unwrap();
        disk.flip_bit(&first(), damaged * length() + 80, 5);
        disk.flip_bit(&first(), (damaged + 1) * length() + 3, 3);
        let Recovered { log, .. } = open(&disk);
        let from = i64::try_from(3 * damaged).unwrap();
        assert_eq!((ranges(&log), log.log_end()), (vec![(from, from + 6)], Offset(12)));
        if damaged < 2 {
            assert_eq!(read(&log, from + 6).unwrap(), all[(damaged + 2) * length()..]);
        }
    }
}

/// Appends and syncs a batch at 12, loses the newer checkpoint, and looks for the batch.
fn goes_on_at_twelve(disk: &SimDisk, case: &str) {
    let Recovered { mut log, .. } = open(disk);
    assert_eq!((log.log_start(), log.log_end()), (Offset(12), Offset(12)), "{case}");
    append(&mut log, &batch(None, 3, 100, 0));
    flush(&mut log);
    let written = read_all(&log, 1 << 20);
    drop(log);
    disk.flip_bit(&Path::new(DIRECTORY).join(newer_checkpoint(disk)), 24, 1);
    let Recovered { log, report, .. } = open(disk);
    assert_eq!((log.log_end(), report.bytes_cut), (Offset(15), 0), "{case}");
    assert_eq!(read(&log, 12).unwrap(), written, "{case}");
}

#[test]
fn a_log_that_goes_on_beyond_what_was_durable_needs_only_one_of_its_checkpoints() {
    let mut lost = 0;
    for seed in 0..20 {
        let disk = disk();
        let Recovered { mut log, .. } = open(&disk);
        for _ in 0..4 {
            append(&mut log, &batch(None, 3, 100, 0));
        }
        // Nobody waits for the disk: the start passes what is durable, and then the power goes.
        log.advance_start(Offset(12), &EpochCache::default()).unwrap();
        drop(log);
        let disk = disk.restart(seed);
        lost += usize::from(!disk.exists(&first()));
        goes_on_at_twelve(&disk, &format!("seed {seed}"));
    }
    assert!(lost > 0, "the segment was never lost");
}

#[test]
fn a_log_whose_records_a_disk_has_lost_needs_only_one_of_its_checkpoints() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    for _ in 0..4 {
        append(&mut log, &batch(None, 3, 100, 0));
    }
    flush(&mut log);
    log.advance_start(Offset(12), &EpochCache::default()).unwrap();
    drop(log);
    zero(&disk, 0, 4 * length());
    goes_on_at_twelve(&disk, "zeroes");
}

#[test]
fn a_checkpoint_that_was_damaged_says_nothing_of_before_an_append_when_it_can_be_read_again() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    for _ in 0..3 {
        append(&mut log, &batch(None, 1, 100, 0));
    }
    flush(&mut log);
    for start in 1..3 {
        log.advance_start(Offset(start), &EpochCache::default()).unwrap();
    }
    let newer = Path::new(DIRECTORY).join(newer_checkpoint(&disk));
    let disk = disk.restart(1);
    disk.flip_bit(&newer, 20, 1);
    let Recovered { mut log, .. } = open(&disk);
    assert_eq!(log.log_start(), Offset(1), "what the older one knows");
    append(&mut log, &batch(None, 1, 100, 0));
    log.begin_flush(&EpochCache::default()).unwrap().sync_files().unwrap();
    let disk = disk.restart(2);
    disk.flip_bit(&newer, 20, 1);
    let Recovered { log, .. } = open(&disk);
    assert_eq!((log.log_start(), log.log_end()), (Offset(1), Offset(4)));
}

#[test]
fn a_log_begun_anew_where_it_ended_is_empty_though_a_checkpoint_was_damaged() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    append(&mut log, &batch(None, 3, 100, 0));
    flush(&mut log);
    let disk = disk.restart(1);
    disk.flip_bit(&Path::new(DIRECTORY).join(newer_checkpoint(&disk)), 20, 1);
    let Recovered { mut log, .. } = open(&disk);
    log.restart_at(Offset(3)).unwrap();
    assert_eq!((log.log_start(), log.log_end()), (Offset(3), Offset(3)));
    assert_eq!(log.size_bytes(), 0);
    let Recovered { log, .. } = open(&disk.restart(2));
    assert_eq!((log.log_start(), log.log_end()), (Offset(3), Offset(3)));
}

#[test]
fn two_damaged_batches_in_a_row_take_nothing_along() {
    for start_between in [false, true] {
        let (disk, all) = written();
        disk.flip_bit(&first(), length() + 80, 5);
        if start_between {
            // From here on the first of them was durable, and the second may be a torn write.
            assert_eq!(ranges(&open(&disk).log), [(3, 6)]);
        }
        disk.flip_bit(&first(), 2 * length() + 80, 5);
        let Recovered { log, report, .. } = open(&disk);
        assert_eq!(ranges(&log), [(3, 6), (6, 9)], "{start_between}");
        assert_eq!((log.log_end(), report.bytes_cut), (Offset(12), 0), "{start_between}");
        assert_eq!(read(&log, 9).unwrap(), all[3 * length()..], "{start_between}");
    }
}

#[test]
fn the_last_whole_batch_before_a_torn_write_is_found_behind_damage_below_the_checkpoint() {
    for case in ["lost", "another length"] {
        let disk = disk();
        let Recovered { mut log, .. } = open(&disk);
        for at in 0..5 {
            if at == 3 {
                flush(&mut log);
                log.advance_start(Offset(1), &EpochCache::default()).unwrap();
            }
            append(&mut log, &batch(None, 3, 100, 0));
        }
        let all = read_all(&log, 1 << 20);
        drop(log);
        match case {
            "lost" => zero(&disk, 2 * length(), 3 * length()),
            _ => disk.flip_bit(&first(), 2 * length() + 11, 2),
        }
        zero(&disk, 4 * length(), 4 * length() + 100);
        let Recovered { log, report, .. } = open(&disk);
        assert_eq!(report.checkpoint_end, Offset(9), "{case}");
        assert_eq!((ranges(&log), log.log_end()), (vec![(6, 9)], Offset(12)), "{case}");
        assert_eq!(read(&log, 9).unwrap(), all[3 * length()..4 * length()], "{case}");
    }
}

#[test]
fn an_epoch_that_was_contradicted_is_not_believed_once_its_witness_is_damaged() {
    for rolls in [false, true] {
        let disk = disk();
        let Recovered { mut log, .. } = open(&disk);
        append(&mut log, &batch(None, 3, 100, 0));
        if rolls {
            log.roll();
        }
        append(&mut log, &batch(None, 3, 100, 0));
        append(&mut log, &batch(None, 3, 100, 0));
        let all = read_all(&log, 1 << 20);
        drop(log);
        disk.flip_bit(&first(), 13, 4);
        let Recovered { log, .. } = open(&disk);
        assert_eq!(ranges(&log), [(0, 3)]);
        drop(log);
        let second = Path::new(DIRECTORY).join(format!("{:020}.log", 3));
        let (path, at) = if rolls { (second, 80) } else { (first(), length() + 80) };
        disk.flip_bit(&path, at, 5);
        let Recovered { log, .. } = open(&disk);
        assert!(matches!(read(&log, 0), Err(ReadError::Quarantined { .. })), "{rolls}");
        assert_eq!((ranges(&log), log.log_end()), (vec![(0, 3), (3, 6)], Offset(9)), "{rolls}");
        assert_eq!(read(&log, 6).unwrap(), all[2 * length()..], "{rolls}");
    }
}

#[test]
fn a_length_too_short_for_a_batch_is_one_flipped_bit_like_any_other() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    for at in 0..3 {
        append(&mut log, &if at == 1 { batch(None, 1, 1, 0) } else { batch(None, 3, 100, 0) });
    }
    let short = batch(None, 1, 1, 0);
    assert_eq!(short[8..12], [0, 0, 0, 60], "a flipped 32 leaves less than any batch has");
    drop(log);
    disk.flip_bit(&first(), length() + 11, 5);
    zero(&disk, length() + short.len(), 2 * length() + short.len());
    let Recovered { log, .. } = open(&disk);
    assert_eq!((ranges(&log), log.log_end()), (vec![(3, 4)], Offset(4)));
}

#[test]
fn a_bit_behind_a_damaged_batch_that_ends_its_segment_changes_nothing() {
    let (disk, log) = two_segments();
    drop(log);
    disk.flip_bit(&first(), length() + 80, 5);
    disk.flip_bit(&first(), 2 * length() + 999, 5);
    let Recovered { log, report, .. } = open(&disk);
    assert_eq!((ranges(&log), log.log_end(), report.bytes_cut), (vec![(3, 6)], Offset(12), 0));
}

#[test]
fn damage_that_is_known_ends_where_it_did_though_what_followed_is_damaged_too() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    for _ in 0..5 {
        append(&mut log, &batch(None, 3, 100, 0));
    }
    let all = read_all(&log, 1 << 20);
    drop(log);
    // Nothing but the two behind them tells where these two end.
    disk.flip_bit(&first(), length() + 80, 5);
    zero(&disk, 2 * length(), 3 * length() - 20);
    let known = ranges(&open(&disk).log);
    assert_eq!(known, [(3, 9)]);
    disk.flip_bit(&first(), 4 * length() + 80, 5);
    let Recovered { log, .. } = open(&disk);
    // The last one may be a torn write. The one before it is none.
    assert_eq!((ranges(&log), log.log_end()), (known, Offset(12)));
    assert_eq!(read(&log, 9).unwrap(), all[3 * length()..4 * length()]);
}

/// Appends a batch of three records in `epoch`.
fn append_in(log: &mut Log, epoch: i32) {
    let bytes = batch(None, 3, 100, 0);
    let header = BatchHeader::parse(&bytes).unwrap();
    log.append(&bytes, &header, log.log_end(), LeaderEpoch(epoch)).unwrap();
}

#[test]
fn the_epoch_of_a_batch_the_log_begins_within_is_known() {
    let disk = disk();
    let Recovered { mut log, mut epochs, .. } = open(&disk);
    epochs.lead(LeaderEpoch(4), Offset(0));
    append_in(&mut log, 4);
    append_in(&mut log, 4);
    flush(&mut log);
    log.advance_start(Offset(1), &epochs).unwrap();
    epochs.truncate_from_start(Offset(1));
    log.close(&ProducerTable::default(), &epochs).unwrap();
    disk.remove_file(&first().with_extension("index")).unwrap();
    disk.flip_bit(&first(), 15, 2);
    let Recovered { log, .. } = open(&disk);
    assert_eq!(ranges(&log), [(0, 3)]);
    log.scrubber().scrub_next(None, Timestamp(0), &mut |_| Pace::On).unwrap().unwrap();
    assert!(matches!(read(&log, 1), Err(ReadError::Quarantined { .. })));
}

#[test]
fn a_copied_batch_that_begins_below_the_log_start_may_have_a_later_epoch() {
    let mut lost = 0;
    for seed in 0..20 {
        let disk = disk();
        let Recovered { mut log, mut epochs, .. } = open(&disk);
        epochs.lead(LeaderEpoch(3), Offset(0));
        append_in(&mut log, 3);
        log.advance_start(Offset(3), &epochs).unwrap();
        drop(log);
        let disk = disk.restart(seed);
        if disk.exists(&first()) {
            continue;
        }
        lost += 1;
        let Recovered { mut log, .. } = open(&disk);
        let bytes = batch(None, 3, 100, 0);
        let mut copied = patched_prefix(&BatchHeader::parse(&bytes).unwrap(), 2, 4).to_vec();
        copied.extend(&bytes[16..]);
        let header = BatchHeader::parse(&copied).unwrap();
        log.append_replicated(&copied, &header).unwrap();
        flush(&mut log);
        drop(log);
        let Recovered { log, .. } = open(&disk);
        assert_eq!((ranges(&log), log.log_end()), (vec![], Offset(5)), "seed {seed}");
        assert_eq!(read(&log, 3).unwrap(), copied, "seed {seed}");
    }
    assert!(lost > 0, "the segment was never lost");
}

#[test]
fn a_flipped_epoch_is_not_believed_because_the_next_batch_is_damaged() {
    let (disk, all) = written();
    disk.flip_bit(&first(), length() + 12, 3);
    disk.flip_bit(&first(), 2 * length() + 80, 5);
    let Recovered { log, .. } = open(&disk);
    assert_eq!((ranges(&log), log.log_end()), (vec![(3, 6), (6, 9)], Offset(12)));
    assert_eq!(read(&log, 9).unwrap(), all[3 * length()..]);
}
