//! The Apache Kafka wire protocol: bytes to frames, messages and record batches, and back.
//!
//! No I/O, no async, no clock. Decoding never panics and never allocates from a claimed length.

pub mod records;
pub mod uuid;

pub use uuid::Uuid;
