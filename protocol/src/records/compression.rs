//! The codecs of record batches: which there are, and inflating with a running limit.
//!
//! Inflating never believes a claimed length: the output grows with what was really produced, up
//! to the limit of the caller, where it stops with `InflatedTooLarge`. Checksums inside the codecs'
//! own formats are checked only where the library does: the batch checksum covers all bytes.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use zstd::zstd_safe::{CCtx, CParameter, DCtx};

use super::{BatchError, lz4, snappy};

/// Codec of the records of a batch; the number is the one in the batch attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub enum Compression {
    /// Records as they are.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy blocks in the framing of the Java library.
    Snappy = 2,
    /// LZ4 frame format.
    Lz4 = 3,
    /// RFC 8878.
    Zstd = 4,
}

/// What the timestamps of a batch mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    /// Set by the producer, one for each record.
    #[default]
    CreateTime,
    /// Set by the broker, one for the batch.
    LogAppendTime,
}

impl Compression {
    /// All codecs, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec of a number from the batch attributes.
    #[must_use]
    pub fn from_id(id: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.id() == id)
    }

    /// The number in the batch attributes.
    #[must_use]
    pub fn id(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The name in configuration: `none`, `gzip`, `snappy`, `lz4`, `zstd`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec of a configured name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Inflates `input` to at most `limit` bytes.
///
/// # Errors
/// `InflatedTooLarge`; `Undecodable` if `input` is not what the codec writes.
pub fn decompress(codec: Compression, input: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    match codec {
        Compression::None if input.len() > limit => Err(BatchError::InflatedTooLarge { limit }),
        Compression::None => Ok(input.to_vec()),
        Compression::Gzip => gzip_decompress(input, limit),
        Compression::Snappy => snappy::decompress(input, limit),
        Compression::Lz4 => lz4::decompress(input, limit),
        Compression::Zstd => zstd_decompress(input, limit),
    }
}

/// Appends compressed `input` to `output`. `level` counts for gzip and zstd; without it the codec's
/// own default is used, as clients do.
///
/// # Errors
/// What the codec's library reports; with valid levels there is nothing to report.
pub(super) fn compress(
    codec: Compression,
    level: Option<i32>,
    input: &[u8],
    output: &mut Vec<u8>,
) -> io::Result<()> {
    match codec {
        Compression::None => {
            output.extend_from_slice(input);
            Ok(())
        }
        Compression::Gzip => gzip_compress(level, input, output),
        Compression::Snappy => snappy::compress(input, output),
        Compression::Lz4 => lz4::compress(input, output),
        Compression::Zstd => zstd_compress(level, input, output),
    }
}

/// Inflated bytes that grow up to a limit.
#[derive(Debug)]
pub(super) struct Inflated {
    bytes: Vec<u8>,
    limit: usize,
}

impl Inflated {
    /// Starts with room for what `compressed_len` bytes usually inflate to.
    pub(super) fn new(compressed_len: usize, limit: usize) -> Self {
        let usual = compressed_len.saturating_mul(3).max(512).min(limit);
        Self { bytes: Vec::with_capacity(usual), limit }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that may still be added.
    pub(super) fn remaining(&self) -> usize {
        self.limit.saturating_sub(self.bytes.len())
    }

    pub(super) fn too_large(&self) -> BatchError {
        BatchError::InflatedTooLarge { limit: self.limit }
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), BatchError> {
        if bytes.len() > self.remaining() {
            return Err(self.too_large());
        }
        self.reserve(bytes.len());
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Lets `fill` write into `wanted` further bytes, or as many as the limit leaves; it gets all
    /// earlier bytes too, and returns how many it wrote.
    pub(super) fn append_with<E>(
        &mut self,
        wanted: usize,
        fill: impl FnOnce(&[u8], &mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let start = self.bytes.len();
        let room = wanted.min(self.remaining());
        self.reserve(room);
        self.bytes.resize(start + room, 0);
        let (earlier, free) = self.bytes.split_at_mut(start);
        let result = fill(earlier, free);
        let written = result.as_ref().map_or(0, |&n| n.min(room));
        self.bytes.truncate(start + written);
        result
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Doubles the capacity where needed, never beyond the limit.
    fn reserve(&mut self, more: usize) {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let doubled = self.bytes.capacity().saturating_mul(2).min(self.limit);
            self.bytes.reserve_exact(needed.max(doubled) - self.bytes.len());
        }
    }
}

const GZIP_STEP: usize = 32 * 1024;

fn gzip_decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let undecodable =
        |_| BatchError::Undecodable { codec: Compression::Gzip, reason: "not a gzip stream" };
    let mut decoder = MultiGzDecoder::new(input);
    let mut output = Inflated::new(input.len(), limit);
    while output.remaining() > 0 {
        let count =
            output.append_with(GZIP_STEP, |_, free| decoder.read(free)).map_err(undecodable)?;
        if count == 0 {
            return Ok(output.into_bytes());
        }
    }
    // Full to the limit: fine only if this was all.
    match decoder.read(&mut [0]).map_err(undecodable)? {
        0 => Ok(output.into_bytes()),
        _ => Err(output.too_large()),
    }
}

fn gzip_compress(level: Option<i32>, input: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
    let level = level.and_then(|level| u32::try_from(level).ok()).filter(|&level| level <= 9);
    let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
    let mut encoder = GzEncoder::new(output, level);
    encoder.write_all(input)?;
    encoder.finish()?;
    Ok(())
}

// Setting up a context costs more than a small batch, so each thread keeps one of each.
thread_local! {
    static ZSTD_DECODER: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
    static ZSTD_ENCODER: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
}

/// zstd's error `dstSize_tooSmall`, number 70 of its stable error numbers, as functions return it.
const ZSTD_OUTPUT_TOO_SMALL: usize = 70usize.wrapping_neg();

/// Decodes in one go into growing buffers, instead of streaming: a stream would allocate the window
/// that the frame claims, up to 128 MiB, while one-shot decoding looks back into its own output.
fn zstd_decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let undecodable = |reason| BatchError::Undecodable { codec: Compression::Zstd, reason };
    // A claimed size is believed as far as it is a usual one; more must show itself.
    let usual = input.len().saturating_mul(8).max(4096);
    let claimed = match zstd::zstd_safe::get_frame_content_size(input) {
        Ok(Some(size)) => usize::try_from(size).unwrap_or(usize::MAX),
        Ok(None) => usual,
        Err(_) => return Err(undecodable("not a zstd frame")),
    };
    ZSTD_DECODER.with_borrow_mut(|slot| {
        let decoder = match slot {
            Some(decoder) => decoder,
            None => slot.insert(DCtx::try_create().ok_or(undecodable("out of memory"))?),
        };
        let mut capacity = claimed.min(usual).min(limit);
        loop {
            let mut output = Vec::with_capacity(capacity);
            match decoder.decompress(&mut output, input) {
                Ok(_) if output.len() > limit => {
                    return Err(BatchError::InflatedTooLarge { limit });
                }
                Ok(_) => return Ok(output),
                Err(ZSTD_OUTPUT_TOO_SMALL) if capacity >= limit => {
                    return Err(BatchError::InflatedTooLarge { limit });
                }
                // Decoding again from the start at four times the size wastes a third at most.
                Err(ZSTD_OUTPUT_TOO_SMALL) => {
                    capacity = capacity.saturating_mul(4).max(4096).min(limit);
                }
                Err(code) => return Err(undecodable(zstd::zstd_safe::get_error_name(code))),
            }
        }
    })
}

fn zstd_compress(level: Option<i32>, input: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
    let error = |code| io::Error::other(zstd::zstd_safe::get_error_name(code));
    let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
    ZSTD_ENCODER.with_borrow_mut(|slot| {
        let encoder = match slot {
            Some(encoder) => encoder,
            None => slot.insert(CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?),
        };
        encoder.set_parameter(CParameter::CompressionLevel(level)).map_err(error)?;
        let start = output.len();
        output.resize(start + zstd::compress_bound(input.len()), 0);
        let free = output.get_mut(start..).unwrap_or_default();
        let written = encoder.compress2(free, input).map_err(error)?;
        output.truncate(start + written);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

    use super::*;

    const LIMIT: usize = 4 << 20;

    /// 300 KiB that compress to about a third, with repeats at all distances.
    fn sample() -> Vec<u8> {
        let mut state = 1u32;
        let mut bytes = Vec::new();
        while bytes.len() < 300 << 10 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bytes.extend_from_slice(format!("record {} of some topic, ", state >> 20).as_bytes());
        }
        bytes
    }

    #[test]
    fn raw_snappy_blocks_and_concatenated_framings_are_read() {
        let data = sample();
        let raw = snap::raw::Encoder::new().compress_vec(&data).unwrap();
        assert_eq!(decompress(Compression::Snappy, &raw, LIMIT).unwrap(), data);

        let mut framed = Vec::new();
        compress(Compression::Snappy, None, &data, &mut framed).unwrap();
        assert!(framed.starts_with(b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"));
        compress(Compression::Snappy, None, &data, &mut framed).unwrap();
        let twice = decompress(Compression::Snappy, &framed, LIMIT).unwrap();
        assert_eq!(twice, [&data[..], &data[..]].concat());
    }

    #[test]
    fn all_forms_of_lz4_frames_are_read() {
        let data = sample();
        let length = u64::try_from(data.len()).unwrap();
        for mode in [BlockMode::Independent, BlockMode::Linked] {
            for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB] {
                for checksums in [false, true] {
                    let info = FrameInfo::new()
                        .block_mode(mode)
                        .block_size(size)
                        .block_checksums(checksums)
                        .content_checksum(checksums)
                        .content_size(checksums.then_some(length));
                    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
                    encoder.write_all(&data).unwrap();
                    let frame = encoder.finish().unwrap();
                    let read = decompress(Compression::Lz4, &frame, LIMIT).unwrap();
                    assert!(read == data, "{mode:?} {size:?} {checksums}");
                    let twice = [&frame[..], &frame[..]].concat();
                    let read = decompress(Compression::Lz4, &twice, LIMIT).unwrap();
                    assert!(read == [&data[..], &data[..]].concat());
                }
            }
        }
    }

    #[test]
    fn wrong_lz4_header_checksums_of_old_clients_are_read() {
        let data = sample();
        let mut frame = Vec::new();
        compress(Compression::Lz4, None, &data, &mut frame).unwrap();
        frame[6] ^= 0xff;
        assert_eq!(decompress(Compression::Lz4, &frame, LIMIT).unwrap(), data);
    }

    #[test]
    fn other_lz4_readers_accept_what_is_written() {
        let mut data = sample();
        // Some that does not shrink, so that a block is stored.
        data.extend(
            (0..50_000u32).flat_map(|i| crate::records::crc32c(&i.to_be_bytes()).to_be_bytes()),
        );
        let mut frame = Vec::new();
        compress(Compression::Lz4, None, &data, &mut frame).unwrap();
        let mut read = Vec::new();
        lz4_flex::frame::FrameDecoder::new(&frame[..]).read_to_end(&mut read).unwrap();
        assert!(read == data);
    }

    #[test]
    fn concatenated_gzip_members_and_zstd_frames_are_read() {
        let data = sample();
        for codec in [Compression::Gzip, Compression::Zstd] {
            let mut twice = Vec::new();
            compress(codec, None, &data, &mut twice).unwrap();
            compress(codec, Some(9), &data, &mut twice).unwrap();
            let read = decompress(codec, &twice, LIMIT).unwrap();
            assert!(read == [&data[..], &data[..]].concat(), "{codec}");
        }
    }

    #[test]
    fn zstd_frames_without_a_size_and_with_a_wide_window_are_read() {
        let data = sample();
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&data).unwrap();
        let frame = encoder.finish().unwrap();
        assert!(matches!(zstd::zstd_safe::get_frame_content_size(&frame), Ok(None)));
        assert!(decompress(Compression::Zstd, &frame, LIMIT).unwrap() == data);
    }

    #[test]
    fn nothing_is_no_compressed_data_except_where_a_codec_says_so() {
        for codec in [Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let error = decompress(codec, b"", LIMIT).unwrap_err();
            assert!(matches!(error, BatchError::Undecodable { .. }), "{codec}: {error}");
        }
        for codec in Compression::ALL {
            let mut empty = Vec::new();
            compress(codec, None, b"", &mut empty).unwrap();
            assert_eq!(decompress(codec, &empty, 0).unwrap(), b"", "{codec}");
        }
    }

    #[test]
    fn names_and_numbers_name_the_same_codec() {
        for codec in Compression::ALL {
            assert_eq!(Compression::from_name(codec.name()), Some(codec));
            assert_eq!(Compression::from_id(codec.id()), Some(codec));
        }
        assert_eq!((Compression::from_id(5), Compression::from_name("lzma")), (None, None));
    }
}
