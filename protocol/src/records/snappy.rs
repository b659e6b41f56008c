//! Snappy as Kafka clients use it.
//!
//! Java clients write the framing of the snappy-java library; others (librdkafka) write one raw
//! block. Both are read, the framing is written.
//!
//! ```text
//! 0x82 "SNAPPY" 0x00 | version i32 | compatible version i32 | chunk*
//! chunk: length i32 | raw snappy block of that length
//! ```
//!
//! A raw block begins with its inflated length. That is a claim: it is checked against the limit
//! and against what the block can hold at best before anything is allocated.

use std::io;

use super::inflate::Inflated;
use super::{BatchError, Compression};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const HEADER_LEN: usize = 16;
/// Format version, and the oldest version that can read it.
const VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// What the Java library puts into one block.
const BLOCK_LEN: usize = 32 * 1024;
/// A copy of three bytes yields 64 at most; the longest literal adds less than this.
const EXPANSION_MAX: usize = 22;

pub(super) fn decompress(input: &[u8], output: &mut Inflated<'_>) -> Result<(), BatchError> {
    let mut decoder = snap::raw::Decoder::new();
    if !input.starts_with(&MAGIC) {
        return decompress_block(&mut decoder, input, output);
    }
    let mut rest = input;
    while !rest.is_empty() {
        // The header may come again: streams can be concatenated.
        if rest.starts_with(&MAGIC) {
            rest = rest.get(HEADER_LEN..).ok_or(undecodable("header is cut off"))?;
            continue;
        }
        let (length, after) = rest.split_first_chunk().ok_or(undecodable("chunk is cut off"))?;
        let length = usize::try_from(i32::from_be_bytes(*length))
            .map_err(|_| undecodable("chunk length is negative"))?;
        let (block, after) =
            after.split_at_checked(length).ok_or(undecodable("chunk is cut off"))?;
        rest = after;
        decompress_block(&mut decoder, block, output)?;
    }
    Ok(())
}

fn decompress_block(
    decoder: &mut snap::raw::Decoder,
    block: &[u8],
    output: &mut Inflated<'_>,
) -> Result<(), BatchError> {
    let claimed =
        snap::raw::decompress_len(block).map_err(|_| undecodable("block length is invalid"))?;
    if claimed > block.len().saturating_mul(EXPANSION_MAX) {
        return Err(undecodable("block claims more than it can hold"));
    }
    if claimed > output.remaining() {
        return Err(output.too_large());
    }
    output
        .append_with(claimed, |_, free| decoder.decompress(block, free))
        .map(|_| ())
        .map_err(|_| undecodable("block is invalid"))
}

pub(super) fn compress(input: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
    output.extend_from_slice(&MAGIC);
    output.extend_from_slice(&VERSIONS);
    let mut encoder = snap::raw::Encoder::new();
    let mut block = vec![0; snap::raw::max_compress_len(input.len().min(BLOCK_LEN))];
    for chunk in input.chunks(BLOCK_LEN) {
        let length = encoder.compress(chunk, &mut block)?;
        let claimed = i32::try_from(length).map_err(io::Error::other)?;
        output.extend_from_slice(&claimed.to_be_bytes());
        output.extend_from_slice(block.get(..length).unwrap_or_default());
    }
    Ok(())
}

fn undecodable(reason: &'static str) -> BatchError {
    BatchError::Undecodable { codec: Compression::Snappy, reason }
}
