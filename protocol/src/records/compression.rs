//! The codecs of record batches: which there are, and compressing. Inflating is in
//! [`super::inflate`].

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};

use flate2::write::GzEncoder;
use zstd::zstd_safe::{CCtx, CParameter};

use super::{lz4, snappy};

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

/// Appends compressed `input` to `output`. `level` counts for gzip and zstd; without it the codec's
/// own default is used, as clients do.
///
/// # Errors
/// What the codec's library reports; with valid levels there is nothing to report.
pub fn compress(
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

fn gzip_compress(level: Option<i32>, input: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
    let level = level.and_then(|level| u32::try_from(level).ok()).filter(|&level| level <= 9);
    let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
    let mut encoder = GzEncoder::new(output, level);
    encoder.write_all(input)?;
    encoder.finish()?;
    Ok(())
}

// Setting up a context costs more than a small batch, so each thread keeps one.
thread_local! {
    static ZSTD_ENCODER: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
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
    use std::io::Read;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

    use super::*;
    use crate::records::{BatchError, decompress};

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
