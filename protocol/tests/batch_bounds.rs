//! Decompression bombs and lying lengths stay within the limit of the reader, by a counting
//! allocator. One test function: the counter is the process's.
//!
//! zstd allocates through C, which the counter does not see; there the address space of the process
//! is looked at too.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::alloc::System;
use std::io::Write;

use bytes::Bytes;
use cap::Cap;
use sawlog_protocol::records::{
    BATCH_OVERHEAD, Batch, BatchBuilder, BatchError, BatchHeader, Compression, decompress,
};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

const LIMIT: usize = 1 << 20;
/// What a decoder may need besides its output: gzip's window and tables, snappy's tables.
const SLACK: usize = 128 << 10;

struct Bomb {
    name: &'static str,
    codec: Compression,
    /// A batch whose records inflate to [`INFLATED`] bytes.
    batch: Batch,
}

impl Bomb {
    /// `ratio`: inflated bytes for each compressed one, at least.
    fn new(name: &'static str, codec: Compression, ratio: usize, records: &[u8]) -> Self {
        assert!(INFLATED / records.len() >= ratio, "{name} is no bomb");
        let mut builder = BatchBuilder::new(codec);
        builder.append(0, None, None, &[]).unwrap();
        let mut bytes = Vec::with_capacity(BATCH_OVERHEAD + records.len());
        bytes.extend_from_slice(&builder.build()[..BATCH_OVERHEAD]);
        bytes.extend_from_slice(records);
        let length = i32::try_from(bytes.len() - 12).unwrap();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        Self { name, codec, batch: Batch::parse(Bytes::from(bytes)).unwrap() }
    }
}

#[test]
fn bombs_stop_at_the_limit_and_lies_are_not_allocated() {
    use Compression::{Gzip, Lz4, Snappy, Zstd};
    // All are made before anything is measured, so that the peak is that of inflating. 255:1 and
    // 21:1 are the most that the block formats of lz4 and snappy can express.
    let bombs = [
        Bomb::new("gzip of zeros", Gzip, 1000, &gzip_bomb()),
        Bomb::new("zstd of zeros", Zstd, 1000, &zstd_bomb()),
        Bomb::new("zstd with a claimed window of 2 GiB", Zstd, 30_000, &zstd_rle_frame(0xa8)),
        Bomb::new("lz4 of zeros", Lz4, 200, &lz4_bomb()),
        Bomb::new("snappy of zeros", Snappy, 20, &snappy_bomb()),
    ];
    let too_large = BatchError::InflatedTooLarge { limit: LIMIT };
    for Bomb { name, codec, batch } in &bombs {
        let records = &batch.bytes[BATCH_OVERHEAD..];
        let result = bounded(name, || decompress(*codec, records, LIMIT));
        assert_eq!(result, Err(too_large), "{name}");
        let result = bounded(name, || batch.records(LIMIT).map(|_| ()));
        assert_eq!(result, Err(too_large), "{name}");
    }

    let lies: [(&str, Compression, Vec<u8>); 4] = [
        // Raw block and framed chunk that claim 4 GiB - 1.
        ("snappy raw", Snappy, vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]),
        ("snappy framed", Snappy, snappy_framed(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0])),
        // A content size of 2^62 and no block.
        ("zstd size", Zstd, {
            let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
            frame.extend_from_slice(&(1u64 << 62).to_le_bytes());
            frame
        }),
        // Blocks of 4 MiB and a content size of 2^62.
        ("lz4 size", Lz4, {
            let mut frame = vec![0x04, 0x22, 0x4d, 0x18, 0x68, 0x70];
            frame.extend_from_slice(&(1u64 << 62).to_le_bytes());
            frame.extend_from_slice(&[0, 1, 0, 0, 0, 0xff]);
            frame
        }),
    ];
    for (name, codec, bytes) in lies {
        let before = ALLOCATOR.total_allocated();
        let result = decompress(codec, &bytes, usize::MAX);
        let allocated = ALLOCATOR.total_allocated() - before;
        assert!(matches!(result, Err(BatchError::Undecodable { .. })), "{name}: {result:?}");
        assert!(allocated < SLACK, "{name} allocated {allocated}");
    }

    claimed_record_and_header_counts_allocate_nothing();
    data_of_exactly_the_limit_is_read();
}

fn claimed_record_and_header_counts_allocate_nothing() {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, None, Some(&[7; 100]), &[("a", Some(b"b"))]).unwrap();
    let mut bytes = builder.build().to_vec();
    bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    // The header count, one byte of "1, length 1, a, length 1, b" at the end.
    let count = bytes.len() - 5;
    for claimed in [2, 0x7e] {
        bytes[count] = claimed;
        let batch =
            Batch { header: BatchHeader::parse(&bytes).unwrap(), bytes: bytes.clone().into() };
        let before = ALLOCATOR.total_allocated();
        let results = batch.records(LIMIT).unwrap().fold((0, 0), |(fine, wrong), record| {
            if record.is_ok() { (fine + 1, wrong) } else { (fine, wrong + 1) }
        });
        let allocated = ALLOCATOR.total_allocated() - before;
        assert_eq!(results, (i32::from(claimed == 2), 1));
        assert!(allocated < 1024, "allocated {allocated}");
    }
}

fn data_of_exactly_the_limit_is_read() {
    let data = vec![b'x'; 100_000];
    let gzip = gzip(&data, 1);
    let zstd = zstd::bulk::compress(&data, 3).unwrap();
    let snappy = snap::raw::Encoder::new().compress_vec(&data).unwrap();
    let lz4 = lz4_frame(&data, 1);
    let all = [
        (Compression::Gzip, gzip),
        (Compression::Zstd, zstd),
        (Compression::Snappy, snappy),
        (Compression::Lz4, lz4),
    ];
    for (codec, bytes) in all {
        assert_eq!(decompress(codec, &bytes, data.len()).as_deref(), Ok(&data[..]), "{codec}");
        let limit = data.len() - 1;
        let short = decompress(codec, &bytes, limit);
        assert_eq!(short, Err(BatchError::InflatedTooLarge { limit }), "{codec}");
    }
}

/// Runs `work` and checks that it needed no more than the limit and a little.
fn bounded<T>(name: &str, work: impl FnOnce() -> T) -> T {
    // The counter keeps the peak of the whole process; ballast up to it lets any new one show.
    let ballast = vec![0u8; ALLOCATOR.max_allocated() - ALLOCATOR.allocated()];
    let (before, space_before) = (ALLOCATOR.allocated(), address_space());
    let result = work();
    let peak = ALLOCATOR.max_allocated();
    drop(ballast);
    assert!(
        peak > before && peak <= before + LIMIT + SLACK,
        "{name}: {peak} bytes, {before} before"
    );
    let space = address_space().saturating_sub(space_before);
    assert!(space <= LIMIT + (8 << 20), "{name}: {space} bytes of address space");
    result
}

/// The largest address space so far, bytes; 0 where the system does not say.
fn address_space() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let kib = peak.and_then(|rest| rest.trim().split(' ').next()?.parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}

// The bombs are written in pieces, so that making them needs little memory.

const INFLATED: usize = 64 << 20;
const PIECE: usize = 4096;
const BLOCK: usize = 64 << 10;

fn gzip(piece: &[u8], times: usize) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..times {
        encoder.write_all(piece).unwrap();
    }
    encoder.finish().unwrap()
}

fn gzip_bomb() -> Vec<u8> {
    gzip(&[0; PIECE], INFLATED / PIECE)
}

fn zstd_bomb() -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    for _ in 0..INFLATED / PIECE {
        encoder.write_all(&[0; PIECE]).unwrap();
    }
    encoder.finish().unwrap()
}

/// A frame without content size whose blocks repeat one byte 128 KiB times.
fn zstd_rle_frame(window_descriptor: u8) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, window_descriptor];
    for index in 0..512u32 {
        let last = u32::from(index == 511);
        let header = (128 << 10) << 3 | 1 << 1 | last;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

fn lz4_bomb() -> Vec<u8> {
    lz4_frame(&vec![0; BLOCK], INFLATED / BLOCK)
}

/// Independent blocks of 64 KiB; `piece` is cut into such.
fn lz4_frame(piece: &[u8], times: usize) -> Vec<u8> {
    let mut frame = vec![0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
    for _ in 0..times {
        for chunk in piece.chunks(BLOCK) {
            let block = lz4_flex::block::compress(chunk);
            frame.extend_from_slice(&u32::try_from(block.len()).unwrap().to_le_bytes());
            frame.extend_from_slice(&block);
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame
}

fn snappy_framed(block: &[u8]) -> Vec<u8> {
    let mut stream = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    stream.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes());
    stream.extend_from_slice(block);
    stream
}

fn snappy_bomb() -> Vec<u8> {
    let block = snap::raw::Encoder::new().compress_vec(&vec![0; BLOCK]).unwrap();
    let mut stream = snappy_framed(&block);
    for _ in 1..INFLATED / BLOCK {
        stream.extend_from_slice(&snappy_framed(&block)[16..]);
    }
    stream
}
