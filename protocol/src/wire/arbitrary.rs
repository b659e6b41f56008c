//! Random messages from a seed, for tests: every field that exists in the version gets a value.

use std::fmt;
use std::ops::RangeInclusive;

use bytes::Bytes;

use super::{Decode, Encode};
use crate::api::ApiKey;
use crate::{ErrorCode, Uuid};

/// Nesting below which lists stay empty, so that messages stay small.
const DEPTH_MAX: u32 = 4;

/// Which of an API's two messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What a client sends.
    Request,
    /// What the broker answers.
    Response,
}

/// A message or structure type without its lifetime.
pub trait Family {
    /// What it is called.
    const NAME: &'static str;
    /// The message, borrowing from its frame.
    type Message<'a>: Decode<'a> + Encode + Arbitrary + Clone + PartialEq + fmt::Debug;

    /// The versions it has.
    fn versions() -> RangeInclusive<i16>;

    /// Whether `version` has compact lengths and tagged fields.
    fn is_flexible(version: i16) -> bool;
}

/// One of the two messages of an API.
pub trait ApiFamily: Family {
    /// The API it belongs to.
    const KEY: ApiKey;
    /// Which of its messages it is.
    const SIDE: Side;
}

/// What a test does with a type, whatever it is.
pub trait FamilyVisitor {
    /// What comes of it.
    type Output;
    /// Does it.
    fn visit<F: Family>(self) -> Self::Output;
}

/// What a test does with a message type.
pub trait Visitor {
    /// What comes of it.
    type Output;
    /// Does it.
    fn visit<F: ApiFamily>(self) -> Self::Output;
}

/// What random values can be made of.
pub trait Arbitrary {
    /// One value, valid in the generator's version.
    fn arbitrary(g: &mut Generator) -> Self;
}

/// A source of random values for one version of an API.
#[derive(Debug)]
pub struct Generator {
    state: u64,
    depth: u32,
    pub(crate) version: i16,
    pub(crate) flexible: bool,
}

impl Generator {
    /// Values are a function of the seed.
    #[must_use]
    pub fn new(seed: u64, version: i16, flexible: bool) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, depth: 0, version, flexible }
    }

    /// Splitmix64.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.bits() % u64::try_from(bound.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    /// A random value.
    pub fn value<T: Arbitrary>(&mut self) -> T {
        T::arbitrary(self)
    }

    pub(crate) fn nested(&mut self, fill: impl FnOnce(&mut Self)) {
        self.depth += 1;
        fill(self);
        self.depth -= 1;
    }
}

macro_rules! numbers {
    ($($number:ty),*) => { $(
        impl Arbitrary for $number {
            fn arbitrary(g: &mut Generator) -> Self {
                let bits = g.bits().to_be_bytes();
                match g.below(4) {
                    0 => 0,
                    1 => Self::MAX,
                    _ => bits.first_chunk().map_or(1, |bytes| Self::from_be_bytes(*bytes)),
                }
            }
        }
    )* };
}
numbers!(i8, i16, i32, i64, u16, u32);

impl Arbitrary for bool {
    fn arbitrary(g: &mut Generator) -> Self {
        g.bits().is_multiple_of(2)
    }
}

impl Arbitrary for Uuid {
    fn arbitrary(g: &mut Generator) -> Self {
        Self((u128::from(g.bits()) << 64 | u128::from(g.bits())).to_be_bytes())
    }
}

impl Arbitrary for ErrorCode {
    fn arbitrary(g: &mut Generator) -> Self {
        Self(g.value())
    }
}

impl Arbitrary for &str {
    fn arbitrary(g: &mut Generator) -> Self {
        ["", "a", "topic", "größe", "a-name-with.dots_and-dashes"][g.below(5)]
    }
}

impl Arbitrary for Bytes {
    fn arbitrary(g: &mut Generator) -> Self {
        let length = [0, 1, 100, 600][g.below(4)];
        (0..length).map(|_| g.bits().to_be_bytes()[0]).collect::<Vec<u8>>().into()
    }
}

impl<T: Arbitrary> Arbitrary for Option<T> {
    fn arbitrary(g: &mut Generator) -> Self {
        (g.below(3) > 0).then(|| g.value())
    }
}

impl<T: Arbitrary> Arbitrary for Vec<T> {
    fn arbitrary(g: &mut Generator) -> Self {
        let length = if g.depth > DEPTH_MAX { 0 } else { g.below(4) };
        (0..length).map(|_| g.value()).collect()
    }
}
