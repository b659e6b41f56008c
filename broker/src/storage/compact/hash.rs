//! The 128-bit hash that stands for a key while a log is compacted: SipHash-2-4 (Aumasson and
//! Bernstein), keyed anew for every run.
//!
//! Two keys with one hash would cost the older of them its record. By chance that takes about 2^64
//! keys in one run; on purpose it would take the hash key, which nobody outside the run knows.
//! A hash without a key, such as the MD5 that Apache Kafka uses, can be made to collide by whoever
//! chooses the record keys.

/// A hashed record key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyHash(pub(super) [u64; 2]);

/// The hash function of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHasher {
    key: [u64; 2],
}

impl KeyHasher {
    /// The function with this key, which should be random.
    #[must_use]
    pub fn new(key: [u64; 2]) -> Self {
        Self { key }
    }

    pub(super) fn hash(&self, bytes: &[u8]) -> KeyHash {
        let [k0, k1] = self.key;
        let mut state = State([
            k0 ^ 0x736f_6d65_7073_6575,
            // The 128-bit variant differs from the 64-bit one by these constants.
            k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ]);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            state.absorb(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        let [.., length_end] = &mut last;
        // The length modulo 256 closes the last word.
        *length_end = bytes.len().to_le_bytes().first().copied().unwrap_or(0);
        state.absorb(u64::from_le_bytes(last));
        let low = state.squeeze(0xee, 2);
        let high = state.squeeze(0xdd, 1);
        KeyHash([low, high])
    }
}

struct State([u64; 4]);

impl State {
    fn round(&mut self) {
        let [v0, v1, v2, v3] = &mut self.0;
        *v0 = v0.wrapping_add(*v1);
        *v1 = v1.rotate_left(13) ^ *v0;
        *v0 = v0.rotate_left(32);
        *v2 = v2.wrapping_add(*v3);
        *v3 = v3.rotate_left(16) ^ *v2;
        *v0 = v0.wrapping_add(*v3);
        *v3 = v3.rotate_left(21) ^ *v0;
        *v2 = v2.wrapping_add(*v1);
        *v1 = v1.rotate_left(17) ^ *v2;
        *v2 = v2.rotate_left(32);
    }

    fn absorb(&mut self, word: u64) {
        let [.., v3] = &mut self.0;
        *v3 ^= word;
        self.round();
        self.round();
        let [v0, ..] = &mut self.0;
        *v0 ^= word;
    }

    fn squeeze(&mut self, constant: u64, place: usize) -> u64 {
        if let Some(word) = self.0.get_mut(place) {
            *word ^= constant;
        }
        for _ in 0..4 {
            self.round();
        }
        let [v0, v1, v2, v3] = self.0;
        v0 ^ v1 ^ v2 ^ v3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_reference_implementation() {
        let key: [u8; 16] = std::array::from_fn(|n| u8::try_from(n).unwrap());
        let (halves, _) = key.as_chunks::<8>();
        let hasher = KeyHasher::new([u64::from_le_bytes(halves[0]), u64::from_le_bytes(halves[1])]);
        let hex = |input: &[u8]| -> String {
            let words = hasher.hash(input).0;
            words
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .map(|byte| format!("{byte:02x}"))
                .collect()
        };
        assert_eq!(hex(b""), "a3817f04ba25a8e66df67214c7550293");
        assert_eq!(hex(&[0]), "da87c1d86b99af44347659119b22fc45");
    }

    #[test]
    fn keys_of_zeroes_of_different_lengths_differ() {
        let hasher = KeyHasher::new([1, 2]);
        let zeroes = [0; 600];
        let hashes: std::collections::BTreeSet<_> =
            (0..600).map(|length| hasher.hash(&zeroes[..length])).collect();
        assert_eq!(hashes.len(), 600);
    }
}
