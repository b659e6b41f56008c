//! The codec: messages to bytes and back.

#[macro_use]
mod macros;
#[cfg(any(test, feature = "arbitrary"))]
mod arbitrary;
mod reader;
mod tagged;
mod versioned;
mod writer;

use bytes::Bytes;

#[cfg(any(test, feature = "arbitrary"))]
pub use arbitrary::{ApiFamily, Arbitrary, Family, FamilyVisitor, Generator, Side, Visitor};
pub use reader::{DecodeError, Reader};
pub(crate) use tagged::KeptFields;
pub use tagged::TaggedFields;
pub use versioned::{
    Versioned, VersionedError, decode_extensible, decode_versioned, encode_versioned,
};
pub(crate) use writer::RopeSink;
pub use writer::{Counter, Rope, Sink, Writer};

use crate::api::ApiKey;
use crate::header::{RequestHeader, response_header_is_flexible};

/// Bytes a string may have. Flexible versions could say more; Kafka takes no longer ones in either
/// direction, and a name that came in one version must be told in all others.
pub const STRING_BYTES_MAX: usize = 32_767;

/// What can be read from a message.
pub trait Decode<'a>: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// The bytes are not a message of this type and version.
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError>;
}

/// What can be written to a message.
pub trait Encode {
    /// Writes it.
    fn encode<S: Sink>(&self, w: &mut Writer<'_, S>);
}

/// A struct declared by `wire!`. Nullable ones have a presence byte before them.
pub trait Structure {}

impl<'a, T: Structure + Decode<'a>> Decode<'a> for Option<T> {
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match i8::decode(r)? {
            -1 => Ok(None),
            1 => T::decode(r).map(Some),
            _ => Err(DecodeError::InvalidFlag),
        }
    }
}

impl<T: Structure + Encode> Encode for Option<T> {
    fn encode<S: Sink>(&self, w: &mut Writer<'_, S>) {
        match self {
            None => (-1i8).encode(w),
            Some(value) => {
                1i8.encode(w);
                value.encode(w);
            }
        }
    }
}

/// A request, tied to its API and its response.
pub trait Request<'a>: Decode<'a> + Encode {
    /// The API.
    const KEY: ApiKey;
    /// What answers it.
    type Response<'r>: Decode<'r> + Encode;
}

/// Reads a request's body, all of it, but for what some clients are known to leave behind it.
///
/// # Errors
/// The bytes are not this request in this version.
pub fn decode_request<'a, R: Request<'a>>(body: &'a Bytes, version: i16) -> Result<R, DecodeError> {
    let mut reader = Reader::new(body, version, R::KEY.is_flexible(version));
    let request = R::decode(&mut reader)?;
    if !tolerates_trailing_bytes(R::KEY) {
        reader.finish()?;
    }
    Ok(request)
}

/// librdkafka (2.16 at least) writes "all topics" in flexible versions of Metadata as a count of four
/// bytes instead of one, which leaves three behind the last field. The reference never looks
/// there, so the requests of every such client would be refused here only.
fn tolerates_trailing_bytes(key: ApiKey) -> bool {
    key == ApiKey::Metadata
}

/// Reads a reply (without its length prefix) to a request of type `R` and this version: the
/// correlation id and the response.
///
/// # Errors
/// The bytes are not this response in this version.
pub fn decode_response<'r, R: Request<'r>>(
    frame: &'r Bytes,
    version: i16,
) -> Result<(i32, R::Response<'r>), DecodeError> {
    let key = R::KEY;
    let mut reader = Reader::new(frame, version, response_header_is_flexible(key, version));
    let correlation_id = i32::decode(&mut reader)?;
    reader.tagged(|_, _| Ok(false))?;
    let mut reader = reader.with_flexible(key.is_flexible(version));
    let response = R::Response::decode(&mut reader)?;
    reader.finish()?;
    Ok((correlation_id, response))
}

/// A request frame: length prefix, header, body.
pub fn encode_request<'a, R: Request<'a>>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) -> Rope {
    let flexible = R::KEY.is_flexible(version);
    let mut sink = RopeSink::for_frame();
    let header =
        RequestHeader { api_key: R::KEY.as_i16(), api_version: version, correlation_id, client_id };
    header.encode(&mut sink, flexible);
    request.encode(&mut Writer::new(&mut sink, version, flexible));
    sink.finish_frame()
}

/// A response frame: length prefix, header, body.
pub fn encode_response<M: Encode>(
    response: &M,
    key: ApiKey,
    version: i16,
    correlation_id: i32,
) -> Rope {
    let mut sink = RopeSink::for_frame();
    sink.put(&correlation_id.to_be_bytes());
    if response_header_is_flexible(key, version) {
        sink.put(&[0]);
    }
    response.encode(&mut Writer::new(&mut sink, version, key.is_flexible(version)));
    sink.finish_frame()
}
