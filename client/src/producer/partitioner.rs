//! Which partition a record goes to: the same one as with Apache Kafka's own clients.

/// Kafka's hash of keys: murmur2, 32 bits, with its seed.
///
/// ```
/// // From the tests of Kafka's own clients, where it is the signed -790332482.
/// assert_eq!(sawlog_client::murmur2(b"foobar"), 3_504_634_814);
/// ```
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c ^ length;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let word = chunk.iter().rev().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        let word = word.wrapping_mul(M);
        let word = (word ^ (word >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ word;
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let word = rest.iter().rev().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        hash = (hash ^ word).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of a key, of `count` partitions: the same one as with Kafka's own clients. 0 for no
/// partitions.
///
/// ```
/// assert_eq!(sawlog_client::partition_of(b"foobar", 10), 6);
/// ```
#[must_use]
pub fn partition_of(key: &[u8], count: usize) -> i32 {
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    i32::try_from((murmur2(key) & 0x7fff_ffff) % count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_kafkas() {
        // From the tests of Kafka's own clients.
        let vectors: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (data, hash) in vectors {
            assert_eq!(murmur2(data), hash.cast_unsigned(), "{data:?}");
        }
    }
}
