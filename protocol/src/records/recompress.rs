//! The same records under another codec, for topics that choose one.

use super::compression::compress;
use super::header::{BATCH_OVERHEAD, CRC_START, with_compression};
use super::{BatchError, BatchHeader, Compression, crc32c};

/// A codec and how hard it tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codec {
    /// The codec.
    pub compression: Compression,
    /// Level of gzip (0–9) or zstd (up to 22); the codec's own default without it. The other
    /// codecs have none.
    pub level: Option<i32>,
}

/// A batch with the header fields of `header` and these `records`, which must be its own,
/// inflated; compressed by `codec`, with checksum and length to match.
///
/// Returns the header as it is now, and the batch.
///
/// # Errors
/// `TooLarge` beyond what the length field can say; `Undecodable` if the codec's library fails,
/// which it has no reason to.
pub fn recompress(
    header: &BatchHeader,
    records: &[u8],
    codec: Codec,
) -> Result<(BatchHeader, Vec<u8>), BatchError> {
    let mut batch = Vec::with_capacity(BATCH_OVERHEAD + records.len() / 2);
    batch.resize(BATCH_OVERHEAD, 0);
    let failed =
        |_| BatchError::Undecodable { codec: codec.compression, reason: "compression failed" };
    compress(codec.compression, codec.level, records, &mut batch).map_err(failed)?;
    let mut header = with_compression(header, codec.compression);
    let counted = batch.len().saturating_sub(BatchHeader::UNCOUNTED);
    header.batch_length = i32::try_from(counted).map_err(|_| BatchError::TooLarge)?;
    write_header(&mut batch, &header);
    header.crc = crc32c(batch.get(CRC_START..).unwrap_or_default());
    write_header(&mut batch, &header);
    Ok((header, batch))
}

fn write_header(batch: &mut [u8], header: &BatchHeader) {
    if let Some(place) = batch.first_chunk_mut() {
        *place = header.to_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BatchBuilder, Inflater, check_crc, inspect_with};
    use super::*;

    fn batch(compression: Compression) -> bytes::Bytes {
        let mut builder = BatchBuilder::new(compression);
        for n in 0..100u8 {
            let value = [n; 50];
            builder.append(1000 + i64::from(n), Some(&[n]), Some(&value), &[("h", None)]).unwrap();
        }
        builder.producer(7, 3, 11);
        builder.build()
    }

    #[test]
    fn every_codec_becomes_every_other_with_the_same_records() {
        for from in Compression::ALL {
            for to in Compression::ALL {
                let original = batch(from);
                let header = BatchHeader::parse(&original).unwrap();
                let mut inflater = Inflater::default();
                let (seen, records) =
                    inspect_with(&original, &header, 1 << 20, &mut inflater).unwrap();
                let codec = Codec { compression: to, level: None };
                let (changed, bytes) = recompress(&header, records, codec).unwrap();
                assert_eq!(BatchHeader::parse(&bytes), Ok(changed), "{from} to {to}");
                assert_eq!(check_crc(&bytes, &changed), Ok(()));
                assert_eq!(changed.compression(), Ok(to));
                let expected = BatchHeader {
                    attributes: changed.attributes,
                    batch_length: changed.batch_length,
                    crc: changed.crc,
                    ..header
                };
                assert_eq!(changed, expected, "nothing else changes");
                let mut again = Inflater::default();
                let found = inspect_with(&bytes, &changed, 1 << 20, &mut again).unwrap();
                assert_eq!(found, (seen, records), "{from} to {to}");
            }
        }
    }

    #[test]
    fn levels_are_heeded_and_wrong_ones_are_an_error_or_the_default() {
        let original = batch(Compression::None);
        let header = BatchHeader::parse(&original).unwrap();
        let records = original.get(BATCH_OVERHEAD..).unwrap();
        let size = |compression, level| {
            let codec = Codec { compression, level: Some(level) };
            recompress(&header, records, codec).map(|(header, _)| header.total_len()).unwrap()
        };
        assert!(size(Compression::Gzip, 9) <= size(Compression::Gzip, 1));
        assert!(size(Compression::Zstd, 19) <= size(Compression::Zstd, -50));
        assert_eq!(size(Compression::Gzip, -1), size(Compression::Gzip, 6));
    }
}
