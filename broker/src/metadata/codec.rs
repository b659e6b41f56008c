//! Bytes of metadata records: big-endian integers, length-prefixed texts and lists.
//!
//! Reading never panics and never allocates from a claimed length: every length is compared with
//! the bytes that are there first. Checksums are the business of the file that holds the bytes.

use sawlog_protocol::Uuid;
use thiserror::Error;

use crate::config::Endpoint;

/// The bytes are not metadata records.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end inside a value.
    #[error("{needed} bytes needed, {left} left")]
    Truncated {
        /// Bytes the value takes.
        needed: usize,
        /// Bytes there are.
        left: usize,
    },
    /// A record has bytes after its last field.
    #[error("{0} bytes after the end of a record")]
    Trailing(usize),
    /// A text is not UTF-8.
    #[error("text is not UTF-8")]
    NotText,
    /// A byte that must be 0 or 1 is something else.
    #[error("{0} is not a boolean")]
    NotBoolean(u8),
    /// A record written by a newer version.
    #[error(
        "record type {kind} version {version} is not known to this version of sawlog; start the version that wrote it, or a newer one"
    )]
    UnknownRecord {
        /// The record's type.
        kind: u8,
        /// The record's version.
        version: u8,
    },
    /// A byte that says which of several things follows is none of them.
    #[error("{0} is not a kind of what is expected here")]
    UnknownKind(u8),
    /// A resource type that is not known.
    #[error("{0} is not a resource type")]
    UnknownResource(u8),
}

/// Appends values to a buffer.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.bytes.push(u8::from(value));
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn uuid(&mut self, value: Uuid) {
        self.bytes.extend_from_slice(&value.0);
    }

    /// Lengths here are far below 4 GiB: entries are bounded to 64 MiB before they are written.
    pub(crate) fn length(&mut self, length: usize) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_be_bytes());
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.length(value.len());
        self.bytes.extend_from_slice(value.as_bytes());
    }

    pub(crate) fn endpoint(&mut self, endpoint: &Endpoint) {
        self.text(&endpoint.name);
        self.text(&endpoint.host);
        self.u16(endpoint.port);
    }

    /// Bytes with their length in front.
    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.length(value.len());
        self.bytes.extend_from_slice(value);
    }

    pub(crate) fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(crate) fn list<T>(&mut self, values: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.length(values.len());
        for value in values {
            write(self, value);
        }
    }

    /// Writes what `body` writes, with its length in front.
    pub(crate) fn framed(&mut self, body: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        body(&mut inner);
        self.length(inner.bytes.len());
        self.bytes.append(&mut inner.bytes);
    }
}

/// Takes values from the front of a slice.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    bytes: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All bytes must have been taken.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.bytes.len())) }
    }

    fn take(&mut self, needed: usize) -> Result<&'a [u8], DecodeError> {
        let error = DecodeError::Truncated { needed, left: self.bytes.len() };
        let (taken, rest) = self.bytes.split_at_checked(needed).ok_or(error)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let error = DecodeError::Truncated { needed: N, left: self.bytes.len() };
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(error)?;
        self.bytes = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::NotBoolean(other)),
        }
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        Ok(Uuid(self.array()?))
    }

    pub(crate) fn length(&mut self) -> Result<usize, DecodeError> {
        let length = u32::from_be_bytes(self.array()?);
        Ok(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// Bytes written by [`Encoder::bytes`].
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.length()?;
        self.take(length)
    }

    pub(crate) fn text(&mut self) -> Result<String, DecodeError> {
        let length = self.length()?;
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::NotText)?;
        Ok(text.to_owned())
    }

    pub(crate) fn endpoint(&mut self) -> Result<Endpoint, DecodeError> {
        Ok(Endpoint { name: self.text()?, host: self.text()?, port: self.u16()? })
    }

    pub(crate) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.bool()? { read(self).map(Some) } else { Ok(None) }
    }

    /// A list. Every element takes at least one byte, so a count above the bytes left is a lie.
    pub(crate) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.length()?;
        if count > self.bytes.len() {
            return Err(DecodeError::Truncated { needed: count, left: self.bytes.len() });
        }
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(read(self)?);
        }
        Ok(values)
    }

    /// The bytes of a value written by [`Encoder::framed`].
    pub(crate) fn framed(&mut self) -> Result<Decoder<'a>, DecodeError> {
        let length = self.length()?;
        Ok(Decoder::new(self.take(length)?))
    }
}
