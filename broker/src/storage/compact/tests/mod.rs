//! Compaction of whole logs, against the full history of what was written.

mod crashes;
mod history;
#[cfg(feature = "planted-bugs")]
mod planted;
mod rules;
mod simulation;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sawlog_protocol::records::{BatchHeader, Compression, Record};

use super::super::{
    CompactionError, CompactionLimits, CompactionOptions, CompactionReport, CompactionRules,
    EpochCache, KeyHasher, Log, LogOptions, ProducerTable, Recovered, StorageError, Throttle,
};
use crate::base::disk::Disk;
use crate::base::disk_sim::SimDisk;
use crate::base::{LeaderEpoch, ManualClock, Offset, Timestamp};

const DIRECTORY: &str = "/data/topics/t-0.id";
const OPTIONS: LogOptions =
    LogOptions { segment_bytes: 4096, segment_ms: i64::MAX, index_interval_bytes: 600 };
const RETENTION_MS: i64 = 1000;
const RULES: CompactionRules = CompactionRules {
    delete_retention_ms: RETENTION_MS,
    min_lag_ms: 0,
    max_lag_ms: i64::MAX,
    min_dirty_ratio: 0.5,
    segment_bytes: 4096,
    index_interval_bytes: OPTIONS.index_interval_bytes,
};

fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/data/topics")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.sync_dir(Path::new("/data")).unwrap();
    disk
}

/// An opened log and what belongs to it.
struct Opened {
    log: Log,
    producers: ProducerTable,
    epochs: EpochCache,
}

fn open(disk: &SimDisk) -> Opened {
    try_open(disk).unwrap_or_else(|error| panic!("{error}"))
}

fn try_open(disk: &SimDisk) -> Result<Opened, StorageError> {
    let opened =
        Log::open(Arc::new(disk.clone()), PathBuf::from(DIRECTORY), OPTIONS, Timestamp(0))?;
    let Recovered { log, producers, epochs, .. } = opened;
    Ok(Opened { log, producers, epochs })
}

fn unthrottled() -> Throttle {
    Throttle::new(Arc::new(ManualClock::at(Timestamp(0))), Arc::default(), None)
}

fn options(now: i64, key_map_bytes: usize) -> CompactionOptions {
    CompactionOptions {
        rules: RULES,
        key_map_bytes,
        hasher: KeyHasher::new([3, 4]),
        now: Timestamp(now),
    }
}

impl Opened {
    fn append(&mut self, bytes: &[u8]) -> Result<Offset, StorageError> {
        let header = BatchHeader::parse(bytes).unwrap();
        let base = self.log.log_end();
        if self.log.append(bytes, &header, base, LeaderEpoch(0))?.rolled {
            self.log.save_producers(&self.producers, base);
        }
        self.epochs.assign(LeaderEpoch(0), base);
        self.producers.record(&header, base, Timestamp(0));
        Ok(base)
    }

    fn roll(&mut self) {
        self.log.roll();
        self.log.save_producers(&self.producers, self.log.log_end());
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        if let Some(ticket) = self.log.begin_flush(&self.epochs) {
            let synced = ticket.sync();
            self.log.end_flush(synced)?;
        }
        Ok(())
    }

    fn limits(&self) -> CompactionLimits {
        CompactionLimits { stable: self.log.durable_end(), committed: self.log.durable_end() }
    }

    /// One pass over all that may be compacted.
    fn compact(&mut self, options: CompactionOptions) -> Result<CompactionReport, CompactionError> {
        let limits = self.limits();
        let scope = self.log.compaction_scope(limits, options.now, &options.rules, &self.producers);
        let mut throttle = unthrottled();
        let mut pass = scope.begin(options, &mut throttle)?;
        while let Some(replacement) = pass.next_replacement(&mut throttle)? {
            let ticket = self.log.begin_swap(replacement).expect("nothing else changes the log");
            let swapped = ticket.run();
            self.log.end_swap(swapped)?;
        }
        Ok(pass.finish()?)
    }

    /// Passes until nothing is left to do.
    fn compact_fully(&mut self, now: i64) {
        for _ in 0..1000 {
            if self.compact(options(now, 1 << 20)).unwrap().complete {
                self.flush().unwrap();
                return;
            }
        }
        panic!("compaction does not end");
    }

    /// All batches, read as a consumer does, from the log start on.
    fn batches(&self) -> Vec<(BatchHeader, Vec<Record>)> {
        let reader = self.log.reader();
        let (mut at, end) = (self.log.log_start(), self.log.log_end());
        let mut batches = Vec::new();
        while at < end {
            let bytes = reader.read(at, end, 2000, true).unwrap();
            assert!(!bytes.is_empty(), "a reader at {at} is stuck, the log ends at {end}");
            for split in sawlog_protocol::records::split(&bytes) {
                let (header, bytes) = split.unwrap();
                sawlog_protocol::records::check_crc(&bytes, &header).unwrap();
                assert!(header.last_offset() >= at.0, "a batch behind {at}");
                at = Offset(header.next_offset());
                let batch = sawlog_protocol::records::Batch::parse(bytes).unwrap();
                let records = batch.records(1 << 20).unwrap().map(Result::unwrap).collect();
                batches.push((header, records));
            }
        }
        batches
    }

    fn records(&self) -> Vec<Record> {
        let start = self.log.log_start().0;
        let records = self.batches().into_iter().flat_map(|(_, records)| records);
        records.filter(|record| record.offset >= start).collect()
    }
}

/// A batch with these records: key and value.
fn batch(records: &[(&str, Option<&str>)]) -> Vec<u8> {
    let mut builder = sawlog_protocol::records::BatchBuilder::new(Compression::None);
    for (key, value) in records {
        builder.append(0, Some(key.as_bytes()), value.map(str::as_bytes), &[]).unwrap();
    }
    builder.build().to_vec()
}

/// What a log says: offset, key, value.
fn said(opened: &Opened) -> Vec<(i64, String, Option<String>)> {
    let text = |bytes: &bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let records = opened.records().into_iter().map(|record| {
        (record.offset, text(&record.key.unwrap_or_default()), record.value.as_ref().map(text))
    });
    records.collect()
}
