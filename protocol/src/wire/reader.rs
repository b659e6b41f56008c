//! Takes messages apart: the rest of one frame, and how to read the primitives from it.
//!
//! Every read is checked against what is left; nothing is allocated from a claimed length, and
//! nothing panics. Strings borrow from the frame, bytes share it.

use std::fmt;

use bytes::Bytes;

use super::{Decode, STRING_BYTES_MAX};
use crate::Uuid;

/// First allocation for a list, in bytes: more comes as elements do.
const LIST_BYTES_FIRST: usize = 4096;

/// Why bytes are not the message they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// A field, or what a length claims, goes beyond the end.
    Truncated,
    /// A length below what its field allows.
    NegativeLength,
    /// A variable-length number with too many bytes.
    InvalidVarint,
    /// Null where the field must have a value.
    UnexpectedNull,
    /// A string of more than 32,767 bytes, which only flexible versions could claim.
    StringTooLong,
    /// A string that is not UTF-8.
    InvalidUtf8,
    /// A presence byte or boolean of no known value.
    InvalidFlag,
    /// Bytes behind the last field.
    TrailingBytes(usize),
    /// Tagged fields that do not ascend.
    TagOrder,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the message ends before a field it claims to have"),
            Self::NegativeLength => f.write_str("a length is negative"),
            Self::InvalidVarint => f.write_str("a variable-length number does not end"),
            Self::UnexpectedNull => f.write_str("a field that must have a value is null"),
            Self::StringTooLong => f.write_str("a string is longer than 32767 bytes"),
            Self::InvalidUtf8 => f.write_str("a string is not UTF-8"),
            Self::InvalidFlag => f.write_str("a flag byte has no known value"),
            Self::TrailingBytes(count) => write!(f, "{count} bytes behind the last field"),
            Self::TagOrder => f.write_str("tagged fields are not in order"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// The unread rest of one message.
#[derive(Debug)]
pub struct Reader<'a> {
    frame: &'a Bytes,
    rest: &'a [u8],
    version: i16,
    flexible: bool,
}

impl<'a> Reader<'a> {
    /// Reads `frame` as `version` of some API; `flexible` picks compact lengths and tagged fields.
    #[must_use]
    pub fn new(frame: &'a Bytes, version: i16, flexible: bool) -> Self {
        Self { frame, rest: frame, version, flexible }
    }

    /// Goes on with the same bytes, in the other encoding: headers and bodies may differ.
    pub(crate) fn with_flexible(self, flexible: bool) -> Self {
        Self { flexible, ..self }
    }

    /// Goes on with the same bytes, which are of a version just read.
    pub(crate) fn with_version(self, version: i16, flexible: bool) -> Self {
        Self { version, flexible, ..self }
    }

    /// The version the message is read as.
    #[must_use]
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Whether lengths are compact and structs end with tagged fields.
    #[must_use]
    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Errors unless everything has been read.
    ///
    /// # Errors
    /// [`DecodeError::TrailingBytes`].
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(DecodeError::TrailingBytes(count)),
        }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// All bytes not read yet, sharing the frame.
    pub fn take_rest(&mut self) -> Bytes {
        self.frame.slice_ref(std::mem::take(&mut self.rest))
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// An unsigned varint of at most 32 bits.
    ///
    /// # Errors
    /// [`DecodeError::InvalidVarint`], [`DecodeError::Truncated`].
    pub fn varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                return Err(DecodeError::InvalidVarint);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::InvalidVarint)
    }

    /// A compact length: one more than the count, 0 for null.
    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        let value = self.varint()?;
        Ok(match value.checked_sub(1) {
            None => None,
            Some(length) => Some(usize::try_from(length).map_err(|_| DecodeError::Truncated)?),
        })
    }

    fn fixed_length(length: i64) -> Result<Option<usize>, DecodeError> {
        match length {
            -1 => Ok(None),
            length => Ok(Some(usize::try_from(length).map_err(|_| DecodeError::NegativeLength)?)),
        }
    }

    /// The length of a string; `None` for null.
    pub(crate) fn string_length(&mut self) -> Result<Option<usize>, DecodeError> {
        if self.flexible {
            self.compact_length()
        } else {
            Self::fixed_length(i64::from(i16::from_be_bytes(self.array()?)))
        }
    }

    /// The length of bytes or a list; `None` for null.
    pub(crate) fn length(&mut self) -> Result<Option<usize>, DecodeError> {
        if self.flexible {
            self.compact_length()
        } else {
            Self::fixed_length(i64::from(i32::from_be_bytes(self.array()?)))
        }
    }

    pub(crate) fn nullable_str(&mut self) -> Result<Option<&'a str>, DecodeError> {
        let Some(length) = self.string_length()? else { return Ok(None) };
        if length > STRING_BYTES_MAX {
            return Err(DecodeError::StringTooLong);
        }
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map(Some).map_err(|_| DecodeError::InvalidUtf8)
    }

    pub(crate) fn nullable_bytes(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let Some(length) = self.length()? else { return Ok(None) };
        let bytes = self.take(length)?;
        Ok(Some(self.frame.slice_ref(bytes)))
    }

    pub(crate) fn nullable_list<T: Decode<'a>>(&mut self) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.length()? else { return Ok(None) };
        // No element takes less than a byte.
        if count > self.rest.len() {
            return Err(DecodeError::Truncated);
        }
        let first = LIST_BYTES_FIRST / size_of::<T>().max(1) + 1;
        let mut list = Vec::with_capacity(count.min(first));
        for _ in 0..count {
            list.push(T::decode(self)?);
        }
        Ok(Some(list))
    }

    /// Reads the tagged fields at the end of a struct. `field` gets each tag with a reader of
    /// exactly its bytes and returns whether it knows the tag; unknown ones are skipped.
    pub(crate) fn tagged(
        &mut self,
        mut field: impl FnMut(u32, &mut Self) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let size = usize::try_from(self.varint()?).map_err(|_| DecodeError::Truncated)?;
            let bytes = self.take(size)?;
            let mut reader = Self {
                frame: self.frame,
                rest: bytes,
                version: self.version,
                flexible: self.flexible,
            };
            if field(tag, &mut reader)? {
                reader.finish()?;
            }
        }
        Ok(())
    }
}

macro_rules! numbers {
    ($($number:ty),*) => { $(
        impl Decode<'_> for $number {
            fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self::from_be_bytes(r.array()?))
            }
        }
    )* };
}
numbers!(i8, i16, i32, i64, u16, u32, f64);

impl Decode<'_> for bool {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        // Kafka takes any byte but 0 for true.
        Ok(r.array::<1>()? != [0])
    }
}

impl Decode<'_> for Uuid {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(r.array()?))
    }
}

impl<'a> Decode<'a> for &'a str {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        r.nullable_str()?.ok_or(DecodeError::UnexpectedNull)
    }
}

impl<'a> Decode<'a> for Option<&'a str> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        r.nullable_str()
    }
}

impl Decode<'_> for Bytes {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.nullable_bytes()?.ok_or(DecodeError::UnexpectedNull)
    }
}

impl Decode<'_> for Option<Bytes> {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.nullable_bytes()
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Vec<T> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        r.nullable_list()?.ok_or(DecodeError::UnexpectedNull)
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Option<Vec<T>> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        r.nullable_list()
    }
}
