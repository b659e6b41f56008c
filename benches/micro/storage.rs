//! The log: append by batch size, and reads at the tail and by index.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot go on fails")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sawlog_broker::base::disk_real::RealDisk;
use sawlog_broker::base::{LeaderEpoch, Offset, Timestamp};
use sawlog_broker::storage::{Log, LogOptions};
use sawlog_protocol::records::{BatchBuilder, BatchHeader, Compression};

fn batch(bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(1, None, Some(&vec![7; bytes]), &[]).unwrap();
    builder.build().to_vec()
}

fn open(directory: &std::path::Path) -> Log {
    let disk = Arc::new(RealDisk::new());
    let options = LogOptions { segment_bytes: 256 << 20, ..LogOptions::default() };
    Log::open(disk, directory.join("t-0.id"), options, Timestamp(0)).unwrap().log
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for bytes in [256, 4 << 10, 64 << 10, 1 << 20] {
        let scratch = tempfile::tempdir().unwrap();
        let mut log = open(scratch.path());
        let batch = batch(bytes);
        let header = BatchHeader::parse(&batch).unwrap();
        group.throughput(Throughput::Bytes(u64::try_from(batch.len()).unwrap()));
        group.bench_function(format!("{bytes} B"), |bencher| {
            bencher.iter(|| {
                let end = log.log_end();
                // Old segments go, so that the benchmark fits the disk.
                if log.append(&batch, &header, end, LeaderEpoch(0)).unwrap().rolled {
                    log.save_producers(&Default::default(), end);
                    log.advance_start(end, &Default::default()).unwrap();
                }
            });
        });
    }
}

fn read(criterion: &mut Criterion) {
    let scratch = tempfile::tempdir().unwrap();
    let mut log = open(scratch.path());
    let batch = batch(1024);
    let header = BatchHeader::parse(&batch).unwrap();
    for _ in 0..100_000 {
        let end = log.log_end();
        log.append(&batch, &header, end, LeaderEpoch(0)).unwrap();
    }
    let (reader, end) = (log.reader(), log.log_end());
    let mut group = criterion.benchmark_group("read");
    group.bench_function("tail", |bencher| {
        bencher.iter(|| black_box(reader.read(end.plus(-1), end, 1 << 20, true).unwrap()));
    });
    let mut at = 0;
    group.bench_function("index lookup, 1 MiB", |bencher| {
        bencher.iter(|| {
            at = (at + 7919) % 90_000;
            black_box(reader.read(Offset(at), end, 1 << 20, true).unwrap())
        });
    });
}

criterion_group!(benches, append, read);
criterion_main!(benches);
