//! Facts about the log of a cluster of one.

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::base::disk_real::RealDisk;
use crate::base::disk_sim::{Fault, SimDisk};
use crate::base::{BrokerId, DataDirectory};
use crate::metadata::tests::id;

fn options(dir: &Path) -> LocalLogOptions {
    LocalLogOptions {
        directory: DataDirectory::new(Arc::new(RealDisk::new()), dir.to_path_buf()),
        cluster_id: id(9),
        snapshot_after_bytes: 400,
    }
}

fn records(n: i64) -> Vec<Record> {
    vec![Record::ProducerIds { broker: BrokerId(1), epoch: 1, next: n }, Record::NoOp]
}

fn open(dir: &Path) -> (LocalMetadataLog, Recovered, Option<TornTail>) {
    LocalMetadataLog::open(&options(dir)).unwrap()
}

/// A log with entries 1 to `count`.
fn filled(dir: &Path, count: i64) -> LocalMetadataLog {
    let (mut log, ..) = open(dir);
    for n in 1..=count {
        assert_eq!(log.propose(records(n)).unwrap(), MetadataOffset(n));
    }
    log
}

/// The entries that were committed since the last time.
fn committed(log: &mut LocalMetadataLog) -> Vec<Entry> {
    let entry = |event| match event {
        LogEvent::Entry(entry) => Some(entry),
        LogEvent::Snapshot(_) | LogEvent::Role(_) => None,
    };
    log.poll().into_iter().filter_map(entry).collect()
}

fn offsets_of(recovered: &Recovered) -> Vec<i64> {
    recovered.entries.iter().map(|entry| entry.offset.0).collect()
}

/// The file without the room behind its end.
fn written(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    let end = log_file::read(&bytes).unwrap().end;
    bytes.truncate(end);
    bytes
}

fn first_log(dir: &Path) -> PathBuf {
    dir.join("quorum/00000000000000000001.log")
}

#[test]
fn what_was_proposed_comes_out_once_and_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(dir.path(), 3);
    let entries = committed(&mut log);
    assert_eq!(entries.iter().map(|e| e.offset.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(entries[1].records, records(2));
    assert!(committed(&mut log).is_empty());
    drop(log);
    let (mut log, recovered, torn) = open(dir.path());
    assert_eq!((recovered.entries, torn), (entries, None));
    assert!(committed(&mut log).is_empty(), "recovered entries are not told twice");
    assert_eq!(log.propose(records(4)).unwrap(), MetadataOffset(4));
}

#[test]
fn a_log_alone_leads_from_the_first_look() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(dir.path(), 1);
    let events = log.poll();
    assert_eq!(events[0], LogEvent::Role(LogRole::Leader { term: 1 }));
    assert!(matches!(events[1..], [LogEvent::Entry(_)]), "{events:?}");
}

#[test]
fn a_torn_tail_is_cut_wherever_it_was_torn() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 2));
    let whole = written(&first_log(dir.path()));
    let one = (whole.len() - log_file::HEADER_BYTES) / 2;
    for missing in 1..one {
        fs::write(first_log(dir.path()), &whole[..whole.len() - missing]).unwrap();
        let (mut log, recovered, torn) = open(dir.path());
        assert_eq!(offsets_of(&recovered), [1], "{missing} bytes missing");
        let torn = torn.unwrap().bytes;
        assert!((1..=one - missing).contains(&torn), "{torn} of {}", one - missing);
        assert_eq!(log.propose(records(2)).unwrap(), MetadataOffset(2));
        drop(log);
        assert!(written(&first_log(dir.path())) == whole);
    }
}

#[test]
fn zeros_after_the_end_are_room_not_damage() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 2));
    let mut bytes = fs::read(first_log(dir.path())).unwrap();
    bytes.extend([0; 4096]);
    fs::write(first_log(dir.path()), bytes).unwrap();
    let (_, recovered, torn) = open(dir.path());
    assert_eq!((offsets_of(&recovered), torn), (vec![1, 2], None), "they were never written");
}

#[test]
fn damage_before_a_good_entry_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 3));
    let whole = written(&first_log(dir.path()));
    let one = (whole.len() - log_file::HEADER_BYTES) / 3;
    for at in 0..log_file::HEADER_BYTES + 2 * one {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(first_log(dir.path()), &damaged).unwrap();
        let error = LocalMetadataLog::open(&options(dir.path())).unwrap_err();
        assert!(matches!(error, OpenError::Unusable { .. }), "byte {at}: {error}");
        assert!(fs::read(first_log(dir.path())).unwrap() == damaged, "byte {at}");
    }
}

#[test]
fn a_snapshot_replaces_the_log_and_the_rest_follows_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(dir.path(), 3);
    assert!(!log.wants_snapshot());
    for n in 4..=9 {
        log.propose(records(n)).unwrap();
    }
    assert!(log.wants_snapshot());
    let snapshot = Snapshot { offset: MetadataOffset(9), records: records(9) };
    log.store_snapshot(&snapshot).unwrap();
    assert!(!log.wants_snapshot());
    let names = RealDisk::new().list(&dir.path().join("quorum")).unwrap();
    assert_eq!(names, ["00000000000000000009.snapshot", "00000000000000000010.log"]);
    log.propose(records(10)).unwrap();
    drop(log);
    let (mut log, recovered, _) = open(dir.path());
    assert_eq!(recovered.snapshot, snapshot);
    assert_eq!(offsets_of(&recovered), [10]);
    let second = Snapshot { offset: MetadataOffset(10), records: records(10) };
    log.store_snapshot(&second).unwrap();
    drop(log);
    assert_eq!(open(dir.path()).1, Recovered { snapshot: second, entries: vec![] });
}

#[test]
fn a_crash_at_any_step_of_a_snapshot_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 3));
    let old_log = written(&first_log(dir.path()));
    fs::write(first_log(dir.path()), &old_log).unwrap();
    let quorum = dir.path().join("quorum");
    let snapshot = Snapshot { offset: MetadataOffset(3), records: records(3) };
    let bytes = snapshot_file::encode(id(9), &snapshot);
    let name = file_name(MetadataOffset(3), SNAPSHOT);

    // The temporary file was begun.
    fs::write(quorum.join(file_name(MetadataOffset(3), TEMPORARY)), &bytes[..20]).unwrap();
    assert_eq!(offsets_of(&open(dir.path()).1), [1, 2, 3]);
    assert_eq!(
        RealDisk::new().list(&quorum).unwrap().len(),
        1,
        "what was never finished is removed"
    );

    // The snapshot is there, the new log is not.
    fs::write(quorum.join(&name), &bytes).unwrap();
    let (mut log, recovered, _) = open(dir.path());
    assert_eq!((recovered.snapshot.offset.0, recovered.entries.len()), (3, 0));
    log.propose(records(4)).unwrap();
    drop(log);
    assert_eq!(offsets_of(&open(dir.path()).1), [4]);
    // The old log was not removed.
    assert!(fs::read(first_log(dir.path())).unwrap() == old_log);
}

#[test]
fn a_damaged_snapshot_is_refused_even_if_a_log_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(dir.path(), 3);
    log.store_snapshot(&Snapshot { offset: MetadataOffset(3), records: records(3) }).unwrap();
    drop(log);
    let path = dir.path().join("quorum/00000000000000000003.snapshot");
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, damaged).unwrap();
        assert!(LocalMetadataLog::open(&options(dir.path())).is_err(), "byte {at}");
    }
    fs::remove_file(&path).unwrap();
    let error = LocalMetadataLog::open(&options(dir.path())).unwrap_err().to_string();
    assert!(error.contains("begins at entry 4, but entry 1 is nowhere"), "{error}");
}

#[test]
fn the_log_of_another_cluster_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 1));
    let other = LocalLogOptions { cluster_id: id(8), ..options(dir.path()) };
    let error = LocalMetadataLog::open(&other).unwrap_err().to_string();
    assert!(error.contains("belongs to cluster"), "{error}");
}

#[test]
fn an_entry_above_the_limit_is_refused_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(dir.path(), 1);
    let name = "x".repeat(log_file::ENTRY_BYTES_MAX);
    let error = log.propose(vec![Record::Topic { name, id: id(1) }]).unwrap_err();
    assert!(matches!(error, LogError::TooLarge { .. }));
    assert_eq!(log.propose(records(2)).unwrap(), MetadataOffset(2));
}

#[test]
fn after_a_failed_write_nothing_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(dir.path(), 1);
    committed(&mut log);
    let error = log.go_offline("append", &io::Error::from_raw_os_error(5));
    assert_eq!(log.propose(records(2)).unwrap_err(), error);
    assert!(committed(&mut log).is_empty());
    assert!(!log.wants_snapshot());
}

/// What a run got acknowledged before the disk gave out.
#[derive(Debug, Default)]
struct Acknowledged {
    identity: Option<crate::quorum::Identity>,
    last: i64,
}

/// A first start, entries, and snapshots between them, until something fails.
fn run(disk: &SimDisk, acknowledged: &mut Acknowledged) -> Result<(), String> {
    let config = crate::config::BrokerConfig::default();
    let directory = Path::new("/var/lib/data");
    let mut random = crate::metadata::SeededRandom::new(11);
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let paths = [directory.to_path_buf()];
    let identity = crate::quorum::open_data_directories(disk, &paths, &config, None, &mut random)
        .map_err(|error| text(&error))?[0];
    let options = LocalLogOptions {
        directory: DataDirectory::new(Arc::new(disk.clone()), directory.to_path_buf()),
        cluster_id: identity.cluster_id,
        snapshot_after_bytes: 200,
    };
    let (mut log, ..) = LocalMetadataLog::open(&options).map_err(|error| text(&error))?;
    // Before there is a log nothing follows from who it is.
    acknowledged.identity = Some(identity);
    for n in 1..=9 {
        log.propose(records(n)).map_err(|error| text(&error))?;
        acknowledged.last = n;
        if log.wants_snapshot() {
            let snapshot = Snapshot { offset: MetadataOffset(n), records: records(n) };
            log.store_snapshot(&snapshot).map_err(|error| text(&error))?;
        }
    }
    Ok(())
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_acknowledged() {
    let mut crash_at = 1;
    loop {
        let disk = SimDisk::new();
        disk.plan(crash_at, Fault::Crash);
        let mut acknowledged = Acknowledged::default();
        let outcome = run(&disk, &mut acknowledged);
        for seed in 0..20 {
            let disk = disk.restart(seed);
            let place = format!("crash at operation {crash_at}, seed {seed}: {acknowledged:?}");
            let config = crate::config::BrokerConfig::default();
            let directory = Path::new("/var/lib/data");
            let mut random = crate::metadata::SeededRandom::new(12);
            let paths = [directory.to_path_buf()];
            let identity =
                crate::quorum::open_data_directories(&disk, &paths, &config, None, &mut random)
                    .unwrap_or_else(|error| panic!("{place}: {error}"))[0];
            if let Some(known) = acknowledged.identity {
                assert_eq!(
                    identity,
                    crate::quorum::Identity { first_start: false, ..known },
                    "{place}"
                );
            }
            let options = LocalLogOptions {
                directory: DataDirectory::new(Arc::new(disk), directory.to_path_buf()),
                cluster_id: identity.cluster_id,
                snapshot_after_bytes: 200,
            };
            let (mut log, recovered, _) =
                LocalMetadataLog::open(&options).unwrap_or_else(|error| panic!("{place}: {error}"));
            let last = recovered.entries.last().map_or(recovered.snapshot.offset, |e| e.offset).0;
            let possible = acknowledged.last..=acknowledged.last + 1;
            assert!(possible.contains(&last), "{place}: the last entry is {last}");
            assert_eq!(log.propose(records(1)), Ok(MetadataOffset(last + 1)), "{place}");
        }
        if outcome.is_ok() {
            break;
        }
        crash_at += 1;
    }
    assert!(crash_at > 60, "the run was cut at each of its operations: {crash_at}");
}

#[test]
fn a_failed_sync_takes_the_log_offline_and_a_full_disk_does_not() {
    let (mut offline, mut full) = (0, 0);
    for fault in [Fault::Io, Fault::Full] {
        for at in 1..200 {
            let disk = SimDisk::new();
            let options = LocalLogOptions {
                directory: DataDirectory::new(Arc::new(disk.clone()), PathBuf::from("/data")),
                cluster_id: id(9),
                snapshot_after_bytes: u64::MAX,
            };
            let (mut log, ..) = LocalMetadataLog::open(&options).unwrap();
            disk.plan(at, fault);
            let large = || vec![Record::Topic { name: "x".repeat(30_000), id: id(1) }];
            let propose = |_| {
                let outcome = log.propose(large());
                if matches!(outcome, Err(LogError::NoSpace(_))) {
                    disk.fill_up(false);
                }
                outcome
            };
            let outcomes: Vec<_> = (0..6).map(propose).collect();
            let Some(failed) = outcomes.iter().position(Result::is_err) else { break };
            match &outcomes[failed] {
                Err(LogError::Offline(_)) => {
                    offline += 1;
                    assert!(outcomes[failed..].iter().all(Result::is_err), "{outcomes:?}");
                }
                Err(LogError::NoSpace(_)) => {
                    full += 1;
                    assert!(outcomes[failed + 1..].iter().all(Result::is_ok), "{outcomes:?}");
                }
                other => panic!("{other:?}"),
            }
            let committed = i64::try_from(outcomes.iter().flatten().count()).unwrap();
            drop(log);
            let (_, recovered, _) = LocalMetadataLog::open(&options).unwrap();
            let found = i64::try_from(recovered.entries.len()).unwrap();
            assert!((committed..=committed + 1).contains(&found), "{committed} {found}");
        }
    }
    assert!(offline > 0 && full > 0, "{offline} {full}");
}

proptest! {
    #[test]
    fn random_files_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), header: bool) {
        let mut file = if header { log_file::header(id(9), MetadataOffset(1)) } else { Vec::new() };
        file.extend(&bytes);
        let _ = log_file::read(&file);
        let _ = snapshot_file::decode(&bytes);
    }
}
