//! The flusher on a simulated disk: what is announced as durable survives a crash.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use sawlog_protocol::records::{BatchBuilder, BatchHeader, Compression};

use super::*;
use crate::base::disk_real::RealDisk;
use crate::base::disk_sim::{Fault, SimDisk};
use crate::base::{
    BrokerId, DataDirectory, LeaderEpoch, Offset, SystemClock, Timestamp, TopicPartition,
};
use crate::config::{BrokerConfig, FlushMode, TopicConfig};
use crate::replication::LogDirectory;
use crate::replication::core::{AckState, Acks, EpochMismatch, LogView, PartitionCore};
use crate::replication::waiters::Signal;
use crate::storage::{Log, LogOptions, Recovered};

const ME: BrokerId = BrokerId(1);

fn directory(index: i32) -> PathBuf {
    PathBuf::from(format!("/data/topics/t-{index}"))
}

fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/data/topics")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.sync_dir(Path::new("/data")).unwrap();
    disk
}

fn open(disk: &SimDisk, index: i32) -> Recovered {
    let options = LogOptions { segment_bytes: 4096, ..LogOptions::default() };
    Log::open(Arc::new(disk.clone()), directory(index), options, Timestamp(0)).unwrap()
}

fn partition(opened: Recovered, index: i32, directory: &Arc<LogDirectory>) -> Arc<Partition> {
    let log = opened.log;
    let view = LogView { start: log.log_start(), end: log.log_end(), durable: log.durable_end() };
    let core = PartitionCore::new(ME, view, opened.epochs, opened.producers);
    let name = TopicPartition { topic: "t".into(), partition: index };
    let config = Arc::new(BrokerConfig::default().topic_defaults());
    let partition = Arc::new(Partition::new(name, core, log, config.clone(), directory.clone()));
    partition.apply(LeaderEpoch(0), &[ME], config);
    directory.join(&partition);
    partition
}

fn partitions(disk: &SimDisk, directory: &Arc<LogDirectory>, count: i32) -> Vec<Arc<Partition>> {
    (0..count).map(|index| partition(open(disk, index), index, directory)).collect()
}

fn append(partition: &Arc<Partition>, bytes: usize) {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, None, Some(&vec![b'v'; bytes]), &[]).unwrap();
    let batch = builder.build();
    let header = BatchHeader::parse(&batch).unwrap();
    // A log that failed takes nothing, and must not be waited for.
    let _refused = partition.append_as_leader(&batch, &header, Acks::All, Timestamp(0));
}

fn start(disk: &SimDisk) -> Arc<LogDirectory> {
    let data = DataDirectory::new(Arc::new(disk.clone()), "/data".into());
    LogDirectory::start(data, Arc::new(SystemClock::new())).unwrap()
}

/// Waits for what must come.
fn eventually(what: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !what() {
        assert!(Instant::now() < deadline, "it does not come");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_announced_survives_whatever_the_size_of_the_set() {
    for count in [1, 2, 3, 5, 40] {
        let disk = disk();
        let home = start(&disk);
        let partitions = partitions(&disk, &home, count);
        for round in 1..20 {
            for partition in &partitions {
                // Rolls every few rounds.
                append(partition, 700);
            }
            eventually(|| partitions.iter().all(|p| p.high_watermark() == Offset(round)));
            let after = disk.restart(u64::try_from(round).unwrap());
            for index in 0..count {
                assert_eq!(open(&after, index).log.log_end(), Offset(round), "{count} partitions");
            }
        }
        home.flusher().stop();
    }
}

#[test]
fn writers_that_overlap_with_a_sync_are_heard_in_the_next() {
    let disk = disk();
    let home = start(&disk);
    let partitions = partitions(&disk, &home, 6);
    std::thread::scope(|scope| {
        for partition in &partitions {
            scope.spawn(|| (0..300).for_each(|_| append(partition, 10)));
        }
    });
    eventually(|| partitions.iter().all(|p| p.high_watermark() == Offset(300)));
    home.flusher().stop();
}

#[test]
fn lazy_records_wait_for_the_tick() {
    let disk = disk();
    let home = start(&disk);
    let partitions = partitions(&disk, &home, 1);
    let partition = &partitions[0];
    let config =
        TopicConfig { flush_mode: FlushMode::Os, ..BrokerConfig::default().topic_defaults() };
    partition.apply(LeaderEpoch(0), &[ME], Arc::new(config));
    append(partition, 10);
    assert_eq!(partition.inspect(|core| core.log().durable), Offset(0));
    home.flusher().tick();
    eventually(|| partition.inspect(|core| core.log().durable) == Offset(1));
    home.flusher().stop();
}

#[test]
fn nothing_is_announced_that_a_failed_sync_lost() {
    for count in [1, 3, 8] {
        for at in 1..40 {
            let disk = disk();
            let home = start(&disk);
            let partitions = partitions(&disk, &home, count);
            partitions.iter().for_each(|partition| append(partition, 700));
            eventually(|| partitions.iter().all(|p| p.high_watermark() == Offset(1)));
            disk.plan(at, Fault::Io);
            for _ in 0..6 {
                partitions.iter().for_each(|partition| append(partition, 700));
            }
            home.flusher().stop();
            let announced: Vec<Offset> = partitions.iter().map(|p| p.high_watermark()).collect();
            for seed in 0..5 {
                let after = disk.restart(seed);
                for (index, announced) in (0..).zip(&announced) {
                    let end = open(&after, index).log.log_end();
                    assert!(end >= *announced, "{end} < {announced}, operation {at} of {count}");
                }
            }
        }
    }
}

#[test]
fn one_failed_sync_takes_the_directory_offline_and_no_other() {
    for at in 1..=2 {
        let (bad, good) = (disk(), disk());
        let (bad_home, good_home) = (start(&bad), start(&good));
        let failing = partitions(&bad, &bad_home, 3);
        let other = partitions(&good, &good_home, 1);
        failing.iter().for_each(|partition| append(partition, 700));
        eventually(|| failing.iter().all(|p| p.high_watermark() == Offset(1)));
        let signal = Signal::new();
        failing[1].notify_above(Offset(1), &signal, 0);
        // Writing the batch of the first, or its sync.
        bad.plan(at, Fault::Io);
        append(&failing[0], 10);
        eventually(|| !bad_home.data().is_online());
        let told = || signal.poll_fired(std::task::Waker::noop()).is_ready();
        eventually(told);
        for partition in &failing {
            eventually(|| partition.check_epoch(LeaderEpoch::NONE) == Err(EpochMismatch::Offline));
            assert_eq!(partition.ack_state_of(LeaderEpoch(0), Offset(0)), AckState::Offline);
            append(partition, 10);
            assert_eq!(partition.high_watermark(), Offset(1));
        }
        append(&other[0], 10);
        eventually(|| other[0].high_watermark() == Offset(1));
        [bad_home, good_home].iter().for_each(|home| home.flusher().stop());
    }
}

/// Wakes a thread.
#[derive(Debug)]
struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Appends one batch and waits until it is durable, as a request with acks=all does.
fn append_and_wait(partition: &Arc<Partition>, batch: &[u8], header: &BatchHeader) {
    let accepted = partition.append_as_leader(batch, header, Acks::All, Timestamp(0)).unwrap();
    let (signal, waker) = (Signal::new(), Arc::new(Unpark(std::thread::current())).into());
    partition.notify_above(accepted.last_offset, &signal, 0);
    while signal.poll_fired(&waker).is_pending() {
        std::thread::park();
    }
    assert_eq!(partition.ack_state_of(LeaderEpoch(0), accepted.last_offset), AckState::Committed);
}

/// Syncs for each of many records written by `writers`, each of whom waits for the last.
fn syncs_per_record(writers: usize, partitions: i32) -> f64 {
    let scratch = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk::new());
    let data = DataDirectory::new(disk.clone(), scratch.path().to_owned());
    let home = LogDirectory::start(data, Arc::new(SystemClock::new())).unwrap();
    let logs: Vec<_> = (0..partitions)
        .map(|index| {
            let path = scratch.path().join(index.to_string());
            let opened = Log::open(disk.clone(), path, LogOptions::default(), Timestamp(0));
            partition(opened.unwrap(), index, &home)
        })
        .collect();
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, None, Some(&[b'v'; 1000]), &[]).unwrap();
    let batch = builder.build();
    let header = BatchHeader::parse(&batch).unwrap();
    // The first append makes files.
    logs.iter().for_each(|log| append_and_wait(log, &batch, &header));
    let (before, rounds) = (disk.syncs(), 400 / writers);
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let (log, batch, header) = (&logs[writer % logs.len()], &batch, &header);
            scope.spawn(move || (0..rounds).for_each(|_| append_and_wait(log, batch, header)));
        }
    });
    home.flusher().stop();
    let (syncs, records) = (disk.syncs() - before, rounds * writers);
    f64::from(u32::try_from(syncs).unwrap()) / f64::from(u32::try_from(records).unwrap())
}

#[test]
fn a_record_never_costs_more_than_its_own_sync() {
    for (writers, partitions) in [(1, 1), (10, 1), (100, 1), (10, 10), (100, 10), (100, 100)] {
        let share = syncs_per_record(writers, partitions);
        // How many share one is a matter of the disk's speed and of what else runs.
        println!("{writers} writers, {partitions} partitions: {share:.3} syncs a record");
        assert!(share <= 1.01, "{writers} writers, {partitions} partitions: {share:.3}");
    }
}
