//! The LZ4 frame format around LZ4 blocks.
//!
//! ```text
//! magic 04 22 4d 18 | FLG | BD | content size u64? | header checksum u8
//! block*: size u32 (high bit: stored as is) | bytes | checksum u32?
//! 0 u32 | content checksum u32?                                         (little endian)
//! ```
//!
//! Our own frame reader, because a frame names the size of its blocks, up to 4 MiB, and a general
//! reader allocates that at once; this one inflates block by block into the limited output. Linked
//! blocks are read; independent ones are written, as the Java client reads no others. The frame's
//! checksums are skipped: the batch checksum covers all bytes, and early clients computed the header
//! checksum over the wrong bytes (KAFKA-3160).

use std::io;

use lz4_flex::block::{self, CompressTable, DecompressError};

use super::inflate::Inflated;
use super::{BatchError, Compression};

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const FLAG_VERSION_MASK: u8 = 0xc0;
const FLAG_VERSION: u8 = 0x40;
const FLAG_INDEPENDENT: u8 = 0x20;
const FLAG_BLOCK_CHECKSUM: u8 = 0x10;
const FLAG_CONTENT_SIZE: u8 = 0x08;
const FLAG_CONTENT_CHECKSUM: u8 = 0x04;
const FLAG_DICTIONARY: u8 = 0x01;

const STORED: u32 = 1 << 31;
const CHECKSUM_LEN: usize = 4;
/// How far a linked block looks back.
const WINDOW_LEN: usize = 64 * 1024;
/// One byte of input lengthens a match by 255 bytes at most.
const EXPANSION_MAX: usize = 255;

/// What we write: version 1, independent blocks of 64 KiB, no checksums. The last byte is the
/// checksum of the two before it.
const WRITTEN_HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
const WRITTEN_BLOCK_LEN: usize = 64 * 1024;

pub(super) fn decompress(input: &[u8], output: &mut Inflated<'_>) -> Result<(), BatchError> {
    let mut rest = input;
    loop {
        read_frame(&mut rest, output)?;
        // Frames can be concatenated.
        if rest.is_empty() {
            return Ok(());
        }
    }
}

fn read_frame(rest: &mut &[u8], output: &mut Inflated<'_>) -> Result<(), BatchError> {
    let frame = FrameHeader::read(rest)?;
    let frame_start = output.len();
    loop {
        let size = u32::from_le_bytes(take(rest)?);
        if size == 0 {
            break;
        }
        let length = usize::try_from(size & !STORED).unwrap_or(usize::MAX);
        if length > frame.block_len_max {
            return Err(undecodable("block is larger than the frame allows"));
        }
        let (block, after) =
            rest.split_at_checked(length).ok_or(undecodable("block is cut off"))?;
        *rest = after;
        if size & STORED == 0 {
            decompress_block(block, &frame, frame_start, output)?;
        } else {
            output.append(block)?;
        }
        if frame.block_checksums {
            take::<CHECKSUM_LEN>(rest)?;
        }
    }
    if frame.content_checksum {
        take::<CHECKSUM_LEN>(rest)?;
    }
    Ok(())
}

fn decompress_block(
    block: &[u8],
    frame: &FrameHeader,
    frame_start: usize,
    output: &mut Inflated<'_>,
) -> Result<(), BatchError> {
    let limit_left = output.remaining();
    let wanted = block.len().saturating_mul(EXPANSION_MAX).min(frame.block_len_max);
    let result = output.append_with(wanted, |earlier, free| {
        if frame.independent {
            block::decompress_into(block, free)
        } else {
            let window = frame_start.max(earlier.len().saturating_sub(WINDOW_LEN));
            let window = earlier.get(window..).unwrap_or_default();
            block::decompress_into_with_dict(block, free, window)
        }
    });
    match result {
        Ok(_) => Ok(()),
        Err(DecompressError::OutputTooSmall { .. }) if limit_left < wanted => {
            Err(output.too_large())
        }
        Err(_) => Err(undecodable("block is invalid")),
    }
}

struct FrameHeader {
    independent: bool,
    block_checksums: bool,
    content_checksum: bool,
    block_len_max: usize,
}

impl FrameHeader {
    fn read(rest: &mut &[u8]) -> Result<Self, BatchError> {
        if take(rest)? != MAGIC {
            return Err(undecodable("not an lz4 frame"));
        }
        let [flags, descriptor] = take(rest)?;
        if flags & FLAG_VERSION_MASK != FLAG_VERSION {
            return Err(undecodable("frame version is unknown"));
        }
        if flags & FLAG_DICTIONARY != 0 {
            return Err(undecodable("frame needs a dictionary"));
        }
        let block_len_max = match (descriptor >> 4) & 7 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return Err(undecodable("frame has an unknown block size")),
        };
        if flags & FLAG_CONTENT_SIZE != 0 {
            // A claim; the output shows its own size.
            take::<8>(rest)?;
        }
        take::<1>(rest)?;
        Ok(Self {
            independent: flags & FLAG_INDEPENDENT != 0,
            block_checksums: flags & FLAG_BLOCK_CHECKSUM != 0,
            content_checksum: flags & FLAG_CONTENT_CHECKSUM != 0,
            block_len_max,
        })
    }
}

pub(super) fn compress(input: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
    output.extend_from_slice(&WRITTEN_HEADER);
    let longest = input.len().min(WRITTEN_BLOCK_LEN);
    let mut block = vec![0; block::get_maximum_output_size(longest)];
    let mut table = CompressTable::default();
    for chunk in input.chunks(WRITTEN_BLOCK_LEN) {
        let length = block::compress_into_with_table(chunk, &mut block, &mut table)
            .map_err(io::Error::other)?;
        // A block that does not shrink is stored.
        let (bytes, flag) = match block.get(..length) {
            Some(compressed) if length < chunk.len() => (compressed, 0),
            _ => (chunk, STORED),
        };
        let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        output.extend_from_slice(&(size | flag).to_le_bytes());
        output.extend_from_slice(bytes);
    }
    output.extend_from_slice(&0u32.to_le_bytes());
    Ok(())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], BatchError> {
    let (field, after) = rest.split_first_chunk().ok_or(undecodable("frame is cut off"))?;
    *rest = after;
    Ok(*field)
}

fn undecodable(reason: &'static str) -> BatchError {
    BatchError::Undecodable { codec: Compression::Lz4, reason }
}
