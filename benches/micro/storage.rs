//! The log: append by batch size, reads at the tail and by index, compaction.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot go on fails")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sawlog_broker::base::disk_real::RealDisk;
use sawlog_broker::base::{LeaderEpoch, Offset, SystemClock, Timestamp};
use sawlog_broker::storage::{
    CompactionLimits, CompactionOptions, CompactionRules, KeyHasher, Log, LogOptions, Throttle,
};
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

/// Records in a log that is compacted, and bytes of the value of each.
const COMPACTED_RECORDS: u32 = 65_536;
const COMPACTED_VALUE_BYTES: usize = 1000;

/// Half of it compresses to nothing, half not at all.
fn value(seed: u32) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let random = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let mut value: Vec<u8> = random.flatten().take(COMPACTED_VALUE_BYTES / 2).collect();
    value.resize(COMPACTED_VALUE_BYTES, 7);
    value
}

/// A log of 64 MiB before compression, every key written eight times.
fn dirty_log(directory: &std::path::Path, codec: Compression) -> Log {
    let disk = Arc::new(RealDisk::new());
    let options = LogOptions { segment_bytes: 16 << 20, ..LogOptions::default() };
    let mut log = Log::open(disk, directory.join("t-0.id"), options, Timestamp(0)).unwrap().log;
    for n in 0..COMPACTED_RECORDS / 16 {
        let mut builder = BatchBuilder::new(codec);
        for record in 0..16_u32 {
            let key = ((n * 16 + record) % 8192).to_be_bytes();
            builder.append(1, Some(&key), Some(&value(n * 16 + record)), &[]).unwrap();
        }
        let batch = builder.build();
        let header = BatchHeader::parse(&batch).unwrap();
        let end = log.log_end();
        if log.append(&batch, &header, end, LeaderEpoch(0)).unwrap().rolled {
            log.save_producers(&Default::default(), end);
        }
    }
    log.roll();
    let ticket = log.begin_flush(&Default::default()).unwrap();
    let synced = ticket.sync();
    log.end_flush(synced).unwrap();
    log
}

fn compact_once(log: &mut Log) {
    let end = log.durable_end();
    let limits = CompactionLimits { stable: end, committed: end };
    let rules = CompactionRules {
        delete_retention_ms: 0,
        min_lag_ms: 0,
        max_lag_ms: i64::MAX,
        min_dirty_ratio: 0.5,
        segment_bytes: 16 << 20,
        index_interval_bytes: 4096,
    };
    let options = CompactionOptions {
        rules,
        key_map_bytes: 128 << 20,
        hasher: KeyHasher::new([1, 2]),
        now: Timestamp(0),
    };
    let scope = log.compaction_scope(limits, Timestamp(0), &rules, &Default::default());
    let mut throttle = Throttle::new(Arc::new(SystemClock::new()), Default::default(), None);
    let mut pass = scope.begin(options, &mut throttle).unwrap();
    while let Some(replacement) = pass.next_replacement(&mut throttle).unwrap() {
        let swapped = log.begin_swap(replacement).unwrap().run();
        log.end_swap(swapped).unwrap();
    }
    pass.finish().unwrap();
}

fn compact(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compact");
    group.sample_size(10);
    for codec in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let records = u64::from(COMPACTED_RECORDS);
        // As the producers have them: what is stored differs by codec.
        let bytes = records * u64::try_from(COMPACTED_VALUE_BYTES + 4).unwrap();
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function(format!("{codec}, 1 of 8 records stays"), |bencher| {
            bencher.iter_batched(
                || {
                    let scratch = tempfile::tempdir().unwrap();
                    let log = dirty_log(scratch.path(), codec);
                    (scratch, log)
                },
                |(scratch, mut log)| {
                    compact_once(&mut log);
                    (scratch, log)
                },
                BatchSize::PerIteration,
            );
        });
    }
}

criterion_group!(benches, append, read, compact);
criterion_main!(benches);
