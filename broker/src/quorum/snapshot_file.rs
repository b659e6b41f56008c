//! The bytes of a metadata snapshot file; `docs/formats/metadata.md` draws them.
//!
//! A snapshot is trusted as a whole or not at all: one checksum covers every byte.

use sawlog_protocol::Uuid;

use crate::metadata::{MetadataOffset, decode_records, encode_records};

use super::Snapshot;
use super::log_file::array;

const MAGIC: &[u8; 8] = b"SAWSNAP\0";
const VERSION: u16 = 1;
/// magic 8, version 2, reserved 2, cluster id 16, offset 8, length 8.
const HEADER_BYTES: usize = 44;
const CHECKSUM_BYTES: usize = 4;

pub(super) fn encode(cluster_id: Uuid, snapshot: &Snapshot) -> Vec<u8> {
    let body = encode_records(&snapshot.records);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len() + CHECKSUM_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&cluster_id.0);
    bytes.extend_from_slice(&snapshot.offset.0.to_be_bytes());
    bytes.extend_from_slice(&u64::try_from(body.len()).unwrap_or(u64::MAX).to_be_bytes());
    bytes.extend_from_slice(&body);
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    bytes
}

/// # Errors
/// Why the file cannot be trusted, as the end of a sentence.
pub(super) fn decode(bytes: &[u8]) -> Result<(Uuid, Snapshot), String> {
    let short = || "it is shorter than it should be".to_owned();
    let header = bytes.get(..HEADER_BYTES).ok_or_else(short)?;
    if !header.starts_with(MAGIC) {
        return Err("it is not a metadata snapshot".to_owned());
    }
    let version = u16::from_be_bytes([header[8], header[9]]);
    if version > VERSION {
        return Err(format!(
            "its format {version} is newer than this version of sawlog knows ({VERSION})"
        ));
    }
    let length = array(&header[36..44]).map(u64::from_be_bytes).ok_or_else(short)?;
    let body_end = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or_else(short)?;
    let body = bytes.get(HEADER_BYTES..body_end).ok_or_else(short)?;
    if u64::try_from(body.len()) != Ok(length) {
        return Err(format!("it holds {} bytes of records, {length} were written", body.len()));
    }
    if bytes[body_end..] != crc32fast::hash(&bytes[..body_end]).to_be_bytes() {
        return Err("its checksum does not match".to_owned());
    }
    let cluster_id = Uuid(array(&header[12..28]).ok_or_else(short)?);
    let offset = array(&header[28..36]).map(i64::from_be_bytes).ok_or_else(short)?;
    let records = decode_records(body).map_err(|error| error.to_string())?;
    Ok((cluster_id, Snapshot { offset: MetadataOffset(offset), records }))
}
