//! The only source of randomness: ids and choices.

use sawlog_protocol::Uuid;

/// Randomness. What decides asks for it here, so that one seed decides a whole run.
pub trait Random: Send {
    /// The next 64 random bits.
    fn next_u64(&mut self) -> u64;

    /// An id nobody else has. Never zero, and its text never begins with `-`, so that it can be
    /// given to a command line.
    fn next_uuid(&mut self) -> Uuid {
        loop {
            let bits = (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64());
            let id = Uuid(bits.to_be_bytes());
            if !id.is_zero() && !id.to_string().starts_with('-') {
                return id;
            }
        }
    }
}

/// The operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn next_u64(&mut self) -> u64 {
        // Without a source of randomness ids would repeat and topics be mixed up: nothing to go on
        // with. The only systems where this fails have no getrandom and no /dev/urandom.
        getrandom::u64().expect("the operating system gives random bytes")
    }
}

/// The same numbers for the same seed (SplitMix64), for tests and the simulator.
#[derive(Clone, Debug)]
pub struct SeededRandom(u64);

impl SeededRandom {
    /// A source that begins at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl Random for SeededRandom {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}
