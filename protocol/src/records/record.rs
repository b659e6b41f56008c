//! One record inside a batch, as slices of the inflated batch.
//!
//! ```text
//! length varint | attributes i8 | timestamp_delta varlong | offset_delta varint
//! key_length varint, key | value_length varint, value | header count varint, headers
//! header: key_length varint, key | value_length varint, value        (length -1 is null)
//! ```
//!
//! The walk over uncompressed batches on the produce path runs this parser on every record: it
//! allocates nothing and touches no byte of keys and values.

use super::RecordFault;
use super::varint::{read_varint, read_varlong};

/// A parsed record; its headers are still bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawRecord<'a> {
    pub(super) attributes: i8,
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) header_count: usize,
    /// The headers up to the end of the record, not looked at yet.
    pub(super) headers: &'a [u8],
}

/// A record header: a key and a nullable value.
pub(super) type RawHeader<'a> = (&'a [u8], Option<&'a [u8]>);

/// The smallest header: empty key, null value.
const HEADER_LEN_MIN: usize = 2;

impl<'a> RawRecord<'a> {
    /// Parses the record at the start of `input` and moves past it. Headers are left to
    /// [`next_header`], to which the end of the record belongs too ([`headers_end`]).
    #[inline]
    pub(super) fn parse(input: &mut &'a [u8]) -> Result<Self, RecordFault> {
        let length = read_varint(input).ok_or(RecordFault::Length)?;
        let length = usize::try_from(length).map_err(|_| RecordFault::Length)?;
        let (mut record, rest) = input.split_at_checked(length).ok_or(RecordFault::Length)?;
        *input = rest;

        let fields = &mut record;
        let (&attributes, after) = fields.split_first().ok_or(RecordFault::Prefix)?;
        *fields = after;
        let timestamp_delta = read_varlong(fields).ok_or(RecordFault::Prefix)?;
        let offset_delta = read_varint(fields).ok_or(RecordFault::Prefix)?;
        let key = read_nullable(fields).ok_or(RecordFault::KeyLength)?;
        let value = read_nullable(fields).ok_or(RecordFault::ValueLength)?;
        let header_count = read_varint(fields).ok_or(RecordFault::HeaderCount)?;
        let header_count = usize::try_from(header_count).map_err(|_| RecordFault::HeaderCount)?;
        if header_count > record.len() / HEADER_LEN_MIN {
            return Err(RecordFault::HeaderCount);
        }
        let attributes = attributes.cast_signed();
        Ok(Self {
            attributes,
            timestamp_delta,
            offset_delta,
            key,
            value,
            header_count,
            headers: record,
        })
    }

    /// Parses the headers without keeping them.
    #[inline]
    pub(super) fn check_headers(&self) -> Result<(), RecordFault> {
        let mut headers = self.headers;
        for _ in 0..self.header_count {
            next_header(&mut headers)?;
        }
        headers_end(headers)
    }
}

/// Parses the header at the start of `headers` and moves past it.
#[inline]
pub(super) fn next_header<'a>(headers: &mut &'a [u8]) -> Result<RawHeader<'a>, RecordFault> {
    let key = read_nullable(headers).flatten().ok_or(RecordFault::HeaderKeyLength)?;
    let value = read_nullable(headers).ok_or(RecordFault::HeaderValueLength)?;
    Ok((key, value))
}

/// Checks that nothing follows the last header.
#[inline]
pub(super) fn headers_end(rest: &[u8]) -> Result<(), RecordFault> {
    if rest.is_empty() { Ok(()) } else { Err(RecordFault::TrailingBytes) }
}

/// A length and as many bytes. `None`: the length is below -1 or beyond the input.
#[inline]
fn read_nullable<'a>(input: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = read_varint(input)?;
    if length == -1 {
        return Some(None);
    }
    let (bytes, rest) = input.split_at_checked(usize::try_from(length).ok()?)?;
    *input = rest;
    Some(Some(bytes))
}
