//! A node alone, which most brokers have: what its disk does to it, and what it does not.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sawlog_protocol::Uuid;

use super::super::network::{CallFuture, Transport};
use super::super::{Member, QuorumOptions, RaftMetadataLog};
use super::disk::options as log_options;
use crate::base::disk_sim::{Fault, SimDisk};
use crate::base::{BrokerId, DataDirectory};
use crate::config::Endpoint;
use crate::metadata::{MetadataOffset, Record};
use crate::peer::PeerError;
use crate::quorum::local::LocalLogOptions;
use crate::quorum::{
    LocalMetadataLog, LogError, LogEvent, LogRole, MetadataLog as _, Recovered, Snapshot,
};

/// There is nobody.
struct Nowhere;

impl Transport for Nowhere {
    fn call(&self, _: u64, _: &Endpoint, _: Bytes, _: Duration) -> CallFuture {
        Box::pin(async { Err(PeerError::Unreachable("nobody is there".to_owned())) })
    }
}

fn options(disk: &SimDisk, existed: bool) -> QuorumOptions {
    QuorumOptions {
        log: log_options(disk),
        member: Member { storage_id: Uuid([4; 16]), broker: BrokerId(1), ..Member::default() },
        joins: false,
        existed,
        election_timeout: Duration::from_secs(1),
        voters: 3,
        transport: Arc::new(Nowhere),
    }
}

fn open(disk: &SimDisk, existed: bool) -> (RaftMetadataLog, Recovered, Arc<DataDirectory>) {
    let options = options(disk, existed);
    let (log, recovered, _) = RaftMetadataLog::open(&options).unwrap();
    (log, recovered, options.log.directory)
}

fn records(next: i64) -> Vec<Record> {
    vec![Record::ProducerIds { broker: BrokerId(1), epoch: 1, next }]
}

#[test]
fn it_leads_from_the_first_look_and_its_first_record_is_at_one() {
    let disk = SimDisk::new();
    for (existed, expected) in [(false, 1), (true, 2), (true, 3)] {
        let (mut log, recovered, _) = open(&disk, existed);
        assert_eq!(recovered.entries.len(), usize::try_from(expected - 1).unwrap());
        assert_eq!(log.poll(), [LogEvent::Role(LogRole::Leader { term: 1 })]);
        assert_eq!(log.propose(records(expected)), Ok(MetadataOffset(expected)));
        assert!(matches!(&log.poll()[..], [LogEvent::Entry(entry)] if entry.offset.0 == expected));
    }
}

#[test]
fn a_start_syncs_no_more_than_a_plain_file_did() {
    let before = |disk: &SimDisk| {
        let (mut log, ..) = LocalMetadataLog::open(&log_options(disk)).unwrap();
        log.propose(records(1)).unwrap();
    };
    let now = |disk: &SimDisk, existed| {
        let (mut log, ..) = open(disk, existed);
        log.propose(records(1)).unwrap();
    };
    let count = |disk: &SimDisk, work: &dyn Fn(&SimDisk)| {
        let before = disk.operations();
        work(disk);
        disk.operations() - before
    };
    let (plain, raft) = (SimDisk::new(), SimDisk::new());
    let first = (count(&plain, &before), count(&raft, &|disk| now(disk, false)));
    assert!(first.1 <= first.0, "{first:?}");
    let again = (count(&plain, &before), count(&raft, &|disk| now(disk, true)));
    assert!(again.1 <= again.0, "{again:?}");
}

#[test]
fn a_full_disk_takes_nothing_and_goes_on_when_there_is_room() {
    let disk = SimDisk::new();
    let (mut log, _, directory) = open(&disk, false);
    let large = vec![Record::ProducerIds { broker: BrokerId(1), epoch: 1, next: 9 }; 5000];
    disk.fill_up(true);
    assert!(matches!(log.propose(large.clone()), Err(LogError::NoSpace(_))));
    disk.fill_up(false);
    assert_eq!(log.propose(large), Ok(MetadataOffset(1)));
    assert_eq!(directory.failure(), None);
}

#[test]
fn a_failed_sync_stops_it_for_good_and_says_so() {
    let disk = SimDisk::new();
    let (mut log, _, directory) = open(&disk, false);
    log.propose(records(1)).unwrap();
    disk.plan(2, Fault::Io);
    assert!(matches!(log.propose(records(2)), Err(LogError::Offline(_))));
    assert!(directory.failure().is_some(), "the broker has to stop");
    log.propose(records(3)).unwrap_err();
    drop(log);
    let (mut log, recovered, _) = open(&disk.restart(3), true);
    assert!(matches!(recovered.entries.len(), 1 | 2));
    log.propose(records(4)).unwrap();
}

#[test]
fn a_snapshot_takes_the_place_of_what_it_includes() {
    let disk = SimDisk::new();
    let (mut log, ..) = open(&disk, false);
    let mut last = 0;
    while !log.wants_snapshot() {
        last += 1;
        log.propose(records(last)).unwrap();
    }
    let snapshot = Snapshot { offset: MetadataOffset(last), records: records(last) };
    log.store_snapshot(&snapshot).unwrap();
    assert!(!log.wants_snapshot());
    assert_eq!(log.propose(records(last + 1)), Ok(MetadataOffset(last + 1)));
    drop(log);
    let (_log, recovered, _) = open(&disk, true);
    assert_eq!(recovered.snapshot, snapshot);
    let offsets: Vec<i64> = recovered.entries.iter().map(|entry| entry.offset.0).collect();
    assert_eq!(offsets, [last + 1]);
}

#[test]
fn an_entry_that_is_too_large_is_not_taken() {
    let disk = SimDisk::new();
    let (mut log, ..) = open(&disk, false);
    let text = "x".repeat(70 * 1024 * 1024);
    let record = Record::Topic { name: text, id: Uuid([1; 16]) };
    assert!(matches!(log.propose(vec![record]), Err(LogError::TooLarge { .. })));
    assert_eq!(log.propose(records(1)), Ok(MetadataOffset(1)));
}

#[test]
fn a_directory_of_another_cluster_is_not_opened() {
    let disk = SimDisk::new();
    drop(open(&disk, false));
    let mut other = options(&disk, true);
    let directory = DataDirectory::new(Arc::new(disk), PathBuf::from("/data"));
    other.log = LocalLogOptions { cluster_id: Uuid([8; 16]), directory, ..other.log };
    let error = RaftMetadataLog::open(&other).unwrap_err().to_string();
    assert!(error.contains("belongs to cluster"), "{error}");
}
