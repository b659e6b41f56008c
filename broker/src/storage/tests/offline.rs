//! The files of a log looked at and mended without opening it.

use super::*;
use crate::base::disk::{Create, read_whole};
use crate::storage::{InUse, Repaired, Verified, log_bytes, repair_index, verify_log};

const FIRST: &str = "00000000000000000000.log";

fn first() -> PathBuf {
    Path::new(DIRECTORY).join(FIRST)
}

fn length() -> usize {
    batch(None, 3, 100, 0).len()
}

fn shared(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

/// 60 batches of three records, closed cleanly.
fn filled() -> (SimDisk, Vec<u8>) {
    let disk = disk();
    let Recovered { mut log, mut producers, mut epochs, .. } = open(&disk);
    epochs.assign(LeaderEpoch(0), Offset(0));
    for n in 0..60 {
        let bytes = batch(Some((7, 3 * n)), 3, 100, i64::from(n));
        let base = append(&mut log, &bytes);
        producers.record(&BatchHeader::parse(&bytes).unwrap(), base, Timestamp(0));
    }
    let all = read_all(&log, 9999);
    log.close(&producers, &epochs).unwrap();
    (disk, all)
}

fn verify(disk: &SimDisk) -> Verified {
    let before = contents(disk);
    let mut read = 0;
    let found = verify_log(&shared(disk), Path::new(DIRECTORY), InUse::No, &mut |n| read += n);
    assert_eq!(read, log_bytes(disk, Path::new(DIRECTORY)).unwrap(), "progress tells of all bytes");
    assert!(contents(disk) == before, "nothing is changed");
    found.unwrap()
}

fn repair(disk: &SimDisk) -> Repaired {
    repair_index(&shared(disk), Path::new(DIRECTORY), Timestamp(9), &mut |_| {}).unwrap()
}

fn contents(disk: &SimDisk) -> Vec<(String, Option<Vec<u8>>)> {
    let names = disk.list(Path::new(DIRECTORY)).unwrap();
    let read = |name: &String| read_whole(disk, &Path::new(DIRECTORY).join(name), 1 << 30).unwrap();
    names.iter().map(|name| (name.clone(), read(name))).collect()
}

#[test]
fn a_log_as_it_was_written_has_no_problems() {
    let (disk, all) = filled();
    let found = verify(&disk);
    assert_eq!((&found.problems[..], &found.notes[..]), (&[][..], &[][..]));
    assert_eq!((found.batches, found.bytes), (60, u64::try_from(all.len()).unwrap()));
    assert_eq!(repair(&disk), Repaired::default());
}

#[test]
fn any_flipped_bit_of_any_file_is_told_with_the_file_it_is_in() {
    let (disk, _) = filled();
    for (name, content) in contents(&disk) {
        let path = Path::new(DIRECTORY).join(&name);
        let length = content.unwrap().len();
        for byte in (0..length).step_by(1 + length / 40) {
            disk.flip_bit(&path, byte, 2);
            let found = verify(&disk);
            let stem = &name[..name.len().min(10)];
            let told = found.problems.iter().any(|p| p.to_string().contains(stem));
            assert!(told, "{name} {byte}: {:?}", found.problems);
            disk.flip_bit(&path, byte, 2);
        }
    }
}

#[test]
fn broken_and_missing_indexes_are_written_as_they_were() {
    let (disk, all) = filled();
    let names = disk.list(Path::new(DIRECTORY)).unwrap();
    for name in names.iter().filter(|name| name.ends_with("index")) {
        let path = Path::new(DIRECTORY).join(name);
        disk.flip_bit(&path, 5, 1);
        assert_eq!(repair(&disk).rebuilt.len(), 1, "{name}");
        assert_eq!(verify(&disk).problems, [], "{name}");
        disk.remove_file(&path).unwrap();
        assert_eq!(repair(&disk).rebuilt.len(), 1, "{name}");
        assert_eq!(verify(&disk).problems, [], "{name}");
    }
    assert_eq!(read_all(&open(&disk).log, 9999), all);
}

#[test]
fn damage_goes_into_the_quarantine_and_a_restored_file_comes_out() {
    let (disk, all) = filled();
    disk.flip_bit(&first(), length() + 80, 2);
    disk.flip_bit(&first().with_extension("index"), 5, 2);
    let repaired = repair(&disk);
    assert_eq!((repaired.rebuilt.len(), repaired.problems.len()), (1, 1));
    assert!(repaired.problems[0].what.contains("offsets 3 to 5"), "{:?}", repaired.problems);
    assert!(verify(&disk).problems[0].what.contains("quarantined: offsets 3 to 5"));
    let Recovered { log, report, .. } = open(&disk);
    assert_eq!(report.bytes_scanned, 0, "the segment is sealed again");
    let refused = log.reader().read(Offset(4), Offset(180), 99, true);
    assert!(matches!(refused, Err(ReadError::Quarantined { .. })));
    drop(log);
    disk.flip_bit(&first(), length() + 80, 2);
    assert_eq!(repair(&disk).problems, []);
    assert_eq!(verify(&disk).problems, []);
    assert_eq!(read_all(&open(&disk).log, 9999), all);
}

#[test]
fn a_torn_tail_is_a_note_and_left_to_the_broker() {
    let disk = disk();
    let Recovered { mut log, .. } = open(&disk);
    append(&mut log, &batch(None, 3, 100, 0));
    append(&mut log, &batch(None, 3, 100, 0));
    flush(&mut log);
    drop(log);
    disk.flip_bit(&first(), length() + 80, 2);
    let found = verify(&disk);
    assert_eq!(found.problems, []);
    assert!(found.notes[0].contains("torn at byte"), "{:?}", found.notes);
    assert_eq!(repair(&disk), Repaired::default());
}

#[test]
fn beside_a_broker_the_segment_it_writes_is_left_out() {
    let (disk, _) = filled();
    let Recovered { mut log, .. } = open(&disk);
    append(&mut log, &batch(None, 3, 100, 0));
    let found = verify_log(&shared(&disk), Path::new(DIRECTORY), InUse::Yes, &mut |_| {}).unwrap();
    assert_eq!(found.problems, []);
    assert!(found.notes[0].contains("is being written"), "{:?}", found.notes);
    assert_eq!(found.batches, 60);
}

#[test]
fn beside_a_broker_a_full_segment_without_its_index_is_left_out() {
    let (disk, _) = filled();
    let Recovered { mut log, .. } = open(&disk);
    append(&mut log, &batch(None, 3, 100, 0));
    log.roll();
    append(&mut log, &batch(None, 3, 100, 0));
    let found = verify_log(&shared(&disk), Path::new(DIRECTORY), InUse::Yes, &mut |_| {}).unwrap();
    assert_eq!(found.problems, []);
    assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
    assert_eq!(found.batches, 60);
}

#[test]
fn missing_segments_and_cut_files_are_told() {
    let (disk, _) = filled();
    let file = disk.open(&first(), Create::Never).unwrap();
    file.set_len(u64::try_from(2 * length()).unwrap()).unwrap();
    let names = disk.list(Path::new(DIRECTORY)).unwrap();
    let third = names.iter().filter(|name| name.ends_with(".log")).nth(2).unwrap();
    disk.remove_file(&Path::new(DIRECTORY).join(third)).unwrap();
    let told: Vec<String> = verify(&disk).problems.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|line| line.contains("offsets 6 to ")), "{told:?}");
    let behind = |line: &&String| line.contains("records are missing at the end of the file");
    assert_eq!(told.iter().filter(behind).count(), 2, "{told:?}");
}
