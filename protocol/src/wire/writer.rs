//! Puts messages together: how to write the primitives, and where to.
//!
//! A [`Rope`] keeps large byte fields as shared parts between the encoded rest, so that records go
//! from the log to the socket without a copy. A [`Counter`] only counts: it sizes tagged fields, so
//! that there is no second description of how long things are.

use bytes::{Bytes, BytesMut};

use super::{Encode, STRING_BYTES_MAX};
use crate::Uuid;

/// Byte fields of at least this length become parts of their own; copying less is cheaper than one
/// more entry in a vectored write.
const SHARED_BYTES_MIN: usize = 512;

/// Where encoded bytes go.
pub trait Sink {
    /// Takes bytes by copy.
    fn put(&mut self, bytes: &[u8]);
    /// Takes bytes that may be shared.
    fn put_shared(&mut self, bytes: &Bytes);
}

/// Counts bytes.
#[derive(Debug, Default)]
pub struct Counter(usize);

impl Sink for Counter {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn put_shared(&mut self, bytes: &Bytes) {
        self.0 += bytes.len();
    }
}

/// An encoded frame: parts to be written one after another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rope {
    parts: Vec<Bytes>,
}

impl Rope {
    /// Bytes of all parts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(Bytes::is_empty)
    }

    /// The parts, in order.
    #[must_use]
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// The parts, in order.
    #[must_use]
    pub fn into_parts(self) -> Vec<Bytes> {
        self.parts
    }

    /// Everything in one piece; copies unless there is one part.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self.parts.as_slice() {
            [one] => one.clone(),
            parts => parts.concat().into(),
        }
    }
}

/// Builds a [`Rope`]: one buffer, and the shared parts with their places in it. The buffer stays
/// in one piece until the end, because its first bytes are only known then.
#[derive(Debug, Default)]
pub(crate) struct RopeSink {
    buffer: BytesMut,
    shared: Vec<(usize, Bytes)>,
    shared_bytes: usize,
}

impl RopeSink {
    /// Room for the length prefix of a frame is left at the start.
    pub(crate) fn for_frame() -> Self {
        let mut buffer = BytesMut::with_capacity(256);
        buffer.extend_from_slice(&[0; 4]);
        Self { buffer, ..Self::default() }
    }

    /// Writes the length prefix and ends the rope.
    pub(crate) fn finish_frame(mut self) -> Rope {
        let length = self.buffer.len() - 4 + self.shared_bytes;
        let length = i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes();
        if let Some(prefix) = self.buffer.first_chunk_mut() {
            *prefix = length;
        }
        let mut buffer = self.buffer.freeze();
        let mut parts = Vec::with_capacity(2 * self.shared.len() + 1);
        let mut taken = 0;
        for (place, bytes) in self.shared {
            if place > taken {
                parts.push(buffer.split_to(place - taken));
                taken = place;
            }
            parts.push(bytes);
        }
        if !buffer.is_empty() {
            parts.push(buffer);
        }
        Rope { parts }
    }
}

impl Sink for RopeSink {
    fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            return self.put(bytes);
        }
        self.shared_bytes += bytes.len();
        self.shared.push((self.buffer.len(), bytes.clone()));
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_shared(&mut self, bytes: &Bytes) {
        self.extend_from_slice(bytes);
    }
}

/// Writes one message into a sink.
#[derive(Debug)]
pub struct Writer<'s, S> {
    sink: &'s mut S,
    version: i16,
    flexible: bool,
}

impl<'s, S: Sink> Writer<'s, S> {
    /// Writes as `version` of some API; `flexible` picks compact lengths and tagged fields.
    pub fn new(sink: &'s mut S, version: i16, flexible: bool) -> Self {
        Self { sink, version, flexible }
    }

    /// The version the message is written as.
    #[must_use]
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Whether lengths are compact and structs end with tagged fields.
    #[must_use]
    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.sink.put(bytes);
    }

    /// An unsigned varint.
    pub fn varint(&mut self, mut value: u32) {
        let mut bytes = [0; 5];
        let mut count = 0;
        for byte in &mut bytes {
            count += 1;
            let low = value.to_le_bytes()[0] & 0x7f;
            value >>= 7;
            if value == 0 {
                *byte = low;
                break;
            }
            *byte = low | 0x80;
        }
        self.sink.put(bytes.get(..count).unwrap_or_default());
    }

    fn compact_length(&mut self, length: Option<usize>) {
        self.varint(length.map_or(0, |length| count(length).saturating_add(1)));
    }

    pub(crate) fn string_length(&mut self, length: Option<usize>) {
        if self.flexible {
            self.compact_length(length);
        } else {
            let length = length.map_or(-1, |length| i16::try_from(length).unwrap_or(i16::MAX));
            self.sink.put(&length.to_be_bytes());
        }
    }

    pub(crate) fn length(&mut self, length: Option<usize>) {
        if self.flexible {
            self.compact_length(length);
        } else {
            let length = length.map_or(-1, |length| i32::try_from(length).unwrap_or(i32::MAX));
            self.sink.put(&length.to_be_bytes());
        }
    }

    fn nullable_str(&mut self, text: Option<&str>) {
        // A string nobody would take is cut, at a character: a shorter message is better than a
        // broken frame.
        let fitting = |text: &str| text.floor_char_boundary(STRING_BYTES_MAX);
        let text = text.map(|text| text.get(..fitting(text)).unwrap_or(text));
        self.string_length(text.map(str::len));
        self.sink.put(text.unwrap_or_default().as_bytes());
    }

    fn nullable_bytes(&mut self, bytes: Option<&Bytes>) {
        self.length(bytes.map(Bytes::len));
        if let Some(bytes) = bytes {
            self.sink.put_shared(bytes);
        }
    }

    fn nullable_list<T: Encode>(&mut self, list: Option<&[T]>) {
        self.length(list.map(<[T]>::len));
        for item in list.unwrap_or_default() {
            item.encode(self);
        }
    }

    /// Writes one tagged field: tag, size, value.
    pub(crate) fn tagged<T: Encode>(&mut self, tag: u32, value: &T) {
        let mut counter = Counter::default();
        value.encode(&mut Writer::new(&mut counter, self.version, self.flexible));
        self.varint(tag);
        self.varint(count(counter.0));
        value.encode(self);
    }
}

impl<S: Sink> Writer<'_, S> {
    /// Writes one tagged field whose value is encoded already.
    pub(crate) fn raw_tagged(&mut self, tag: u32, value: &Bytes) {
        self.varint(tag);
        self.varint(count(value.len()));
        self.sink.put_shared(value);
    }

    /// Writes a nullable field in a version that has no null for it: null becomes empty.
    pub(crate) fn never_null<T: Encode + Default>(&mut self, value: &Option<T>) {
        match value {
            Some(value) => value.encode(self),
            None => T::default().encode(self),
        }
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

macro_rules! numbers {
    ($($number:ty),*) => { $(
        impl Encode for $number {
            fn encode<S: Sink>(&self, w: &mut Writer<'_, S>) {
                w.put(&self.to_be_bytes());
            }
        }
    )* };
}
numbers!(i8, i16, i32, i64, u16, u32, f64);

impl Encode for bool {
    fn encode<S: Sink>(&self, w: &mut Writer<'_, S>) {
        w.put(&[u8::from(*self)]);
    }
}

impl Encode for Uuid {
    fn encode<S: Sink>(&self, w: &mut Writer<'_, S>) {
        w.put(&self.0);
    }
}

impl Encode for &str {
    fn encode<S: Sink>(&self, w: &mut Writer<'_, S>) {
        w.nullable_str(Some(self));
    }
}

impl Encode for Option<&str> {
    fn encode<S: Sink>(&self, w: &mut Writer<'_, S>) {
        w.nullable_str(*self);
    }
}

impl Encode for Bytes {
    fn encode<S: Sink>(&self, w: &mut Writer<'_, S>) {
        w.nullable_bytes(Some(self));
    }
}

impl Encode for Option<Bytes> {
    fn encode<S: Sink>(&self, w: &mut Writer<'_, S>) {
        w.nullable_bytes(self.as_ref());
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode<S: Sink>(&self, w: &mut Writer<'_, S>) {
        w.nullable_list(Some(self));
    }
}

impl<T: Encode> Encode for Option<Vec<T>> {
    fn encode<S: Sink>(&self, w: &mut Writer<'_, S>) {
        w.nullable_list(self.as_deref());
    }
}
