//! Appends of the log beside `pwrite` of the same bytes into a file that grows in the same steps.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rustix::fs::FallocateFlags;
use sawlog_broker::base::disk_real::RealDisk;
use sawlog_broker::base::{LeaderEpoch, Timestamp};
use sawlog_broker::storage::{Log, LogOptions};
use sawlog_protocol::records::BatchHeader;

use crate::{Failure, batch, median};

const REPETITIONS: usize = 5;

/// Written at each size, at most.
const BYTES: u64 = 512 << 20;
const BATCHES_MAX: u64 = 200_000;

/// First and largest step in which the file grows, as a segment does.
const STEP_MIN: u64 = 1 << 20;
const STEP_MAX: u64 = 64 << 20;

pub(crate) fn measure(data: &Path) -> Result<(), Failure> {
    println!(
        "\n| append, batches of | log MB/s | pwrite MB/s | ratio | log ns per batch | pwrite ns |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, bytes) in
        [("256 B", 256), ("4 KiB", 4 << 10), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20)]
    {
        let batch = batch(bytes)?;
        let length = u64::try_from(batch.len())?;
        let count = (BYTES / length).min(BATCHES_MAX);
        let (mut log, mut bare) = (Vec::new(), Vec::new());
        for repetition in 0..REPETITIONS {
            // The one that goes first finds fewer pages the host has backed.
            if repetition % 2 == 0 {
                log.push(log_seconds(data, &batch, count)?);
                bare.push(bare_seconds(data, &batch, count)?);
            } else {
                bare.push(bare_seconds(data, &batch, count)?);
                log.push(log_seconds(data, &batch, count)?);
            }
        }
        let ratio = median(bare.iter().zip(&log).map(|(bare, log)| bare / log).collect());
        let (log, bare) = (median(log), median(bare));
        let (total, each) = ((length * count) as f64, 1e9 / count as f64);
        println!(
            "| {name} | {:.0} | {:.0} | {ratio:.2} | {:.0} | {:.0} |",
            total / log / 1e6,
            total / bare / 1e6,
            log * each,
            bare * each
        );
    }
    Ok(())
}

fn log_seconds(data: &Path, batch: &Bytes, count: u64) -> Result<f64, Failure> {
    let scratch = tempfile::tempdir_in(data)?;
    let disk = Arc::new(RealDisk::new());
    let directory = scratch.path().join("t-0.id");
    let mut log = Log::open(disk, directory, LogOptions::default(), Timestamp(0))?.log;
    let header = BatchHeader::parse(batch)?;
    let begun = Instant::now();
    for _ in 0..count {
        let end = log.log_end();
        log.append(batch, &header, end, LeaderEpoch(0))?;
    }
    Ok(begun.elapsed().as_secs_f64())
}

fn bare_seconds(data: &Path, batch: &Bytes, count: u64) -> Result<f64, Failure> {
    let scratch = tempfile::tempdir_in(data)?;
    let file = File::create_new(scratch.path().join("bare"))?;
    let length = u64::try_from(batch.len())?;
    let (mut at, mut allocated) = (0, 0_u64);
    let begun = Instant::now();
    for _ in 0..count {
        if at + length > allocated {
            let wanted = allocated + allocated.clamp(STEP_MIN, STEP_MAX).max(length);
            rustix::fs::fallocate(&file, FallocateFlags::empty(), allocated, wanted - allocated)?;
            allocated = wanted;
        }
        file.write_all_at(batch, at)?;
        at += length;
    }
    Ok(begun.elapsed().as_secs_f64())
}
