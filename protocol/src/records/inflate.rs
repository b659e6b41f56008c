//! Inflating with a running limit, into a buffer that is used again.
//!
//! A claimed length is never believed: the output grows with what was really produced, up to the
//! limit of the caller, where it stops with `InflatedTooLarge`. Checksums inside the codecs' own
//! formats are checked only where the library does: the batch checksum covers all bytes.

use std::cell::RefCell;
use std::io::Read;

use flate2::bufread::MultiGzDecoder;
use zstd::zstd_safe::DCtx;

use super::{BatchError, Compression, lz4, snappy};

/// Inflates `input` to at most `limit` bytes.
///
/// # Errors
/// `InflatedTooLarge`; `Undecodable` if `input` is not what the codec writes.
pub fn decompress(codec: Compression, input: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    if codec == Compression::None {
        // At the right size at once.
        let fits = input.len() <= limit;
        return if fits { Ok(input.to_vec()) } else { Err(BatchError::InflatedTooLarge { limit }) };
    }
    let mut buffer = Vec::new();
    let length = decompress_into(codec, input, limit, &mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

/// A buffer for inflating one batch after the other without allocating for each.
#[derive(Debug, Default)]
pub struct Inflater {
    buffer: Vec<u8>,
}

impl Inflater {
    /// [`decompress`], into the buffer. Uncompressed records are returned as they are.
    ///
    /// # Errors
    /// As [`decompress`].
    pub fn inflate<'a>(
        &'a mut self,
        codec: Compression,
        input: &'a [u8],
        limit: usize,
    ) -> Result<&'a [u8], BatchError> {
        if codec == Compression::None {
            let fits = input.len() <= limit;
            return if fits { Ok(input) } else { Err(BatchError::InflatedTooLarge { limit }) };
        }
        let length = decompress_into(codec, input, limit, &mut self.buffer)?;
        Ok(self.buffer.get(..length).unwrap_or_default())
    }

    /// Gives memory above `bytes` back: one large batch shall not be paid for ever after.
    pub fn shrink_to(&mut self, bytes: usize) {
        if self.buffer.len() > bytes {
            self.buffer.truncate(bytes);
            self.buffer.shrink_to_fit();
        }
    }
}

fn decompress_into(
    codec: Compression,
    input: &[u8],
    limit: usize,
    buffer: &mut Vec<u8>,
) -> Result<usize, BatchError> {
    let mut output = Inflated::new(buffer, input.len(), limit);
    match codec {
        Compression::None => output.append(input)?,
        Compression::Gzip => gzip_decompress(input, &mut output)?,
        Compression::Snappy => snappy::decompress(input, &mut output)?,
        Compression::Lz4 => lz4::decompress(input, &mut output)?,
        Compression::Zstd => return zstd_decompress(input, limit, output.bytes),
    }
    Ok(output.len())
}

/// Inflated bytes that grow up to a limit.
#[derive(Debug)]
pub(super) struct Inflated<'b> {
    /// Initialised as a whole, so that what an earlier batch left is not cleared again.
    bytes: &'b mut Vec<u8>,
    /// How many of them are output.
    length: usize,
    limit: usize,
}

impl<'b> Inflated<'b> {
    /// Starts with room for what `compressed_len` bytes usually inflate to.
    fn new(bytes: &'b mut Vec<u8>, compressed_len: usize, limit: usize) -> Self {
        let usual = compressed_len.saturating_mul(3).max(512).min(limit);
        bytes.reserve_exact(usual.saturating_sub(bytes.len()));
        Self { bytes, length: 0, limit }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Bytes that may still be added.
    pub(super) fn remaining(&self) -> usize {
        self.limit.saturating_sub(self.length)
    }

    pub(super) fn too_large(&self) -> BatchError {
        BatchError::InflatedTooLarge { limit: self.limit }
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), BatchError> {
        if bytes.len() > self.remaining() {
            return Err(self.too_large());
        }
        let copy = |_: &[u8], free: &mut [u8]| {
            free.copy_from_slice(bytes);
            Ok::<_, BatchError>(bytes.len())
        };
        self.append_with(bytes.len(), copy).map(|_| ())
    }

    /// Lets `fill` write into `wanted` further bytes, or as many as the limit leaves; it gets all
    /// earlier bytes too, and returns how many it wrote.
    pub(super) fn append_with<E>(
        &mut self,
        wanted: usize,
        fill: impl FnOnce(&[u8], &mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let room = wanted.min(self.remaining());
        self.reserve(room);
        let (earlier, free) = self.bytes.split_at_mut(self.length);
        let free = free.get_mut(..room).unwrap_or_default();
        let result = fill(earlier, free);
        self.length += result.as_ref().map_or(0, |&n| n.min(room));
        result
    }

    /// Doubles the room where needed, never beyond the limit.
    fn reserve(&mut self, more: usize) {
        let needed = self.length + more;
        if needed > self.bytes.capacity() {
            let doubled = self.bytes.capacity().saturating_mul(2).min(self.limit);
            self.bytes.reserve_exact(needed.max(doubled) - self.bytes.len());
        }
        if needed > self.bytes.len() {
            self.bytes.resize(needed, 0);
        }
    }
}

const GZIP_STEP: usize = 32 * 1024;

fn gzip_decompress(input: &[u8], output: &mut Inflated<'_>) -> Result<(), BatchError> {
    let undecodable =
        |_| BatchError::Undecodable { codec: Compression::Gzip, reason: "not a gzip stream" };
    let mut decoder = MultiGzDecoder::new(input);
    while output.remaining() > 0 {
        let count =
            output.append_with(GZIP_STEP, |_, free| decoder.read(free)).map_err(undecodable)?;
        if count == 0 {
            return Ok(());
        }
    }
    // Full to the limit: fine only if this was all.
    match decoder.read(&mut [0]).map_err(undecodable)? {
        0 => Ok(()),
        _ => Err(output.too_large()),
    }
}

// Setting up a context costs more than a small batch, so each thread keeps one.
thread_local! {
    static ZSTD_DECODER: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// zstd's error `dstSize_tooSmall`, number 70 of its stable error numbers, as functions return it.
const ZSTD_OUTPUT_TOO_SMALL: usize = 70usize.wrapping_neg();

/// Decodes in one go into a growing buffer, instead of streaming: a stream would allocate the
/// window that the frame claims, up to 128 MiB, while one-shot decoding looks back into its own
/// output.
fn zstd_decompress(input: &[u8], limit: usize, buffer: &mut Vec<u8>) -> Result<usize, BatchError> {
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
        let mut capacity = claimed.min(usual).max(buffer.len()).min(limit);
        loop {
            if buffer.len() < capacity {
                // What a failed attempt left is not worth moving to a larger buffer. Cleared pages
                // come from the system, and cost nothing as far as they are not written.
                drop(std::mem::take(buffer));
                *buffer = vec![0; capacity];
            }
            let free = buffer.get_mut(..capacity).unwrap_or_default();
            match decoder.decompress(free, input) {
                Ok(length) => return Ok(length),
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

#[cfg(test)]
mod tests {
    use super::super::compression::compress;
    use super::*;

    fn compressed(codec: Compression, data: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        compress(codec, None, data, &mut output).unwrap();
        output
    }

    #[test]
    fn a_used_buffer_gives_the_same_bytes_as_a_new_one() {
        let large: Vec<u8> = (0..200_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let inputs: [&[u8]; 4] = [&large, b"short", b"", &large[..70_000]];
        let mut inflater = Inflater::default();
        for data in inputs {
            for codec in Compression::ALL {
                let input = compressed(codec, data);
                let limit = data.len();
                assert!(inflater.inflate(codec, &input, limit).unwrap() == data, "{codec}");
                if let Some(short) = limit.checked_sub(1) {
                    let too_large = Err(BatchError::InflatedTooLarge { limit: short });
                    assert_eq!(inflater.inflate(codec, &input, short), too_large, "{codec}");
                    assert_eq!(decompress(codec, &input, short).map(|_| &[][..]), too_large);
                }
            }
        }
    }

    #[test]
    fn memory_of_a_large_batch_is_given_back() {
        let data = vec![7; 4 << 20];
        for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let mut inflater = Inflater::default();
            assert!(inflater.inflate(codec, &compressed(codec, &data), 8 << 20).unwrap() == data);
            inflater.shrink_to(1 << 20);
            assert!(inflater.buffer.capacity() <= 2 << 20, "{codec}");
        }
    }
}
