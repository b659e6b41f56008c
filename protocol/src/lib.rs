//! The Apache Kafka wire protocol: bytes to frames, messages and record batches, and back.
//!
//! No I/O, no async, no clock. Decoding never panics and never allocates from a claimed length.

#[macro_use]
pub mod wire;

pub mod api;
pub mod consumer_protocol;
pub mod error_code;
pub mod group_records;
pub mod header;
pub mod messages;
pub mod records;
pub mod uuid;

/// What Sawlog's own client calls itself in ApiVersions (KIP-511). Who does so is told of the APIs
/// that are no part of Kafka's protocol.
pub const OWN_CLIENT: &str = "sawlog-client";

pub use api::ApiKey;
pub use error_code::ErrorCode;
pub use header::{RequestHeader, decode_request_header};
pub use uuid::Uuid;
pub use wire::{
    Decode, DecodeError, Encode, Reader, Request, Rope, Sink, Writer, decode_request,
    decode_response, encode_request, encode_response,
};
