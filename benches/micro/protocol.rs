//! Micro benches of the protocol crate: what a broker does to each byte, batch and record.
//!
//! Run with `cargo bench -p sawlog-benches --bench protocol [FILTER]`.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sawlog_protocol::messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use sawlog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use sawlog_protocol::records::{
    Batch, BatchBuilder, BatchHeader, Compression, Inflater, check_crc, check_structure, crc32c,
    decompress, inspect, inspect_with,
};
use sawlog_protocol::{
    ApiKey, Uuid, decode_request, decode_request_header, encode_request, encode_response,
};

/// Text that compresses about as well as log lines do.
fn value(index: usize, len: usize) -> Vec<u8> {
    let mut state = index.wrapping_mul(0x9e37_79b9).wrapping_add(1);
    let mut text = String::with_capacity(len + 32);
    while text.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        let word = ["level=info ", "request done ", "user=", "path=/v1/items/", "took_ms="];
        text.push_str(word[(state >> 33) % word.len()]);
        text.push_str(&((state >> 40) % 10_000).to_string());
    }
    text.truncate(len);
    text.into_bytes()
}

/// A batch of `count` records with values of `len` bytes.
fn batch(codec: Compression, count: usize, len: usize) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for index in 0..count {
        builder.append(1_700_000_000_000, None, Some(&value(index, len)), &[]).expect("fits");
    }
    builder.build()
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The checksum, by the size of what a produce request usually carries.
fn crc(c: &mut Criterion) {
    let mut group = c.benchmark_group("crc32c");
    let data = vec![0x5a; 1 << 20];
    for size in [100, 1 << 10, 16 << 10, 64 << 10, 1 << 20] {
        group.throughput(Throughput::Bytes(length(size)));
        group.bench_with_input(BenchmarkId::from_parameter(size), &data[..size], |b, bytes| {
            b.iter(|| crc32c(black_box(bytes)));
        });
    }
    group.finish();
}

/// The look at every record of an uncompressed batch, and reading it as a consumer does.
fn walk(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch");
    for (count, len) in [(1, 100), (10_000, 100), (1_000, 1024)] {
        let bytes = batch(Compression::None, count, len);
        let header = BatchHeader::parse(&bytes).expect("own batch");
        let parameter = format!("{count}x{len}");
        group.throughput(Throughput::Elements(length(count)));
        group.bench_function(BenchmarkId::new("check_structure", &parameter), |b| {
            b.iter(|| check_structure(black_box(&bytes), black_box(&header)));
        });
        group.bench_function(BenchmarkId::new("records", &parameter), |b| {
            b.iter(|| {
                let batch = Batch::parse(black_box(&bytes).clone()).expect("own batch");
                batch.records(usize::MAX).expect("own batch").filter(Result::is_ok).count()
            });
        });
        group.bench_function(BenchmarkId::new("build", &parameter), |b| {
            let value = value(0, len);
            b.iter(|| {
                let mut builder = BatchBuilder::new(Compression::None).with_capacity(bytes.len());
                for _ in 0..count {
                    builder.append(1, None, Some(black_box(&value)), &[]).expect("fits");
                }
                builder.build()
            });
        });
    }
    let bytes = batch(Compression::None, 1, 100);
    group.throughput(Throughput::Elements(1));
    group.bench_function("header", |b| b.iter(|| BatchHeader::parse(black_box(&bytes))));
    group.finish();
}

/// Each codec on 256 KiB of records of 1 KiB; throughput counts inflated bytes.
fn codecs(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    let plain = batch(Compression::None, 256, 1024);
    let records = plain.slice(61..);
    group.throughput(Throughput::Bytes(length(records.len())));
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let compressed = batch(codec, 256, 1024);
        group.bench_function(BenchmarkId::new("inflate", codec), |b| {
            b.iter(|| decompress(codec, black_box(&compressed[61..]), 1 << 20));
        });
        let mut builder = BatchBuilder::new(codec);
        for index in 0..256 {
            builder.append(1_700_000_000_000, None, Some(&value(index, 1024)), &[]).expect("fits");
        }
        group.bench_function(BenchmarkId::new("deflate", codec), |b| {
            b.iter_batched(
                || builder.clone(),
                BatchBuilder::build,
                criterion::BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// What a broker does to a compressed batch before it stores it: the checksum and the header alone,
/// and with every record inflated and walked. Throughput counts records.
fn produce_check(c: &mut Criterion) {
    let mut group = c.benchmark_group("produce_check");
    for (count, len) in [(160, 100), (10_000, 100), (1_000, 1024)] {
        for codec in Compression::ALL {
            let bytes = batch(codec, count, len);
            let header = BatchHeader::parse(&bytes).expect("own batch");
            let parameter = format!("{codec}/{count}x{len}");
            group.throughput(Throughput::Elements(length(count)));
            group.bench_function(BenchmarkId::new("header", &parameter), |b| {
                b.iter(|| {
                    check_crc(black_box(&bytes), &header).and_then(|()| inspect(&bytes, &header))
                });
            });
            let mut inflater = Inflater::default();
            group.bench_function(BenchmarkId::new("records", &parameter), |b| {
                b.iter(|| {
                    check_crc(black_box(&bytes), &header).expect("own batch");
                    let checked = inspect_with(&bytes, &header, usize::MAX, &mut inflater);
                    checked.map(|(inspection, _)| inspection)
                });
            });
        }
    }
    group.finish();
}

/// A Produce request as it comes off the socket: header, then body, for one and six partitions.
fn produce(c: &mut Criterion) {
    let mut group = c.benchmark_group("produce_request");
    let records = batch(Compression::None, 16, 1024);
    for (partitions, version) in [(1, 9), (6, 9), (6, 13)] {
        let data = |index| PartitionProduceData { index, records: Some(records.clone()) };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: "orders",
                topic_id: Uuid([7; 16]),
                partition_data: (0..partitions).map(data).collect(),
            }],
            ..ProduceRequest::default()
        };
        let frame = encode_request(&request, version, 1, Some("rdkafka")).to_bytes().slice(4..);
        group.throughput(Throughput::Elements(1));
        let parameter = format!("v{version}/{partitions}");
        group.bench_function(BenchmarkId::new("decode", parameter), |b| {
            b.iter(|| {
                let frame = black_box(&frame);
                let (header, start) = decode_request_header(frame).expect("own frame");
                let body = frame.slice(start..);
                let request: ProduceRequest<'_> =
                    decode_request(&body, header.api_version).expect("own frame");
                black_box(request.topic_data.len())
            });
        });
    }
    group.finish();
}

/// A Fetch response that carries 1 MiB of records: the records are shared, not copied.
fn fetch(c: &mut Criterion) {
    let mut group = c.benchmark_group("fetch_response");
    let records = batch(Compression::None, 1024, 1024);
    for partitions in [1, 6] {
        let data = |partition_index| PartitionData {
            partition_index,
            high_watermark: 1024,
            last_stable_offset: 1024,
            log_start_offset: 0,
            records: Some(records.clone()),
            ..PartitionData::default()
        };
        let response = FetchResponse {
            session_id: 1,
            responses: vec![FetchableTopicResponse {
                topic_id: Uuid([7; 16]),
                partitions: (0..partitions).map(data).collect(),
                ..FetchableTopicResponse::default()
            }],
            ..FetchResponse::default()
        };
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("encode_1mib", partitions), |b| {
            b.iter(|| encode_response(black_box(&response), ApiKey::Fetch, 16, 1));
        });
    }
    group.finish();
}

criterion_group!(benches, produce, fetch, crc, walk, codecs, produce_check);
criterion_main!(benches);
