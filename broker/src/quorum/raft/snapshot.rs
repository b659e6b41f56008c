//! The bytes of a metadata snapshot file of version 2; `docs/formats/metadata.md` draws them.
//!
//! As in version 1 one checksum covers every byte, and a snapshot is trusted as a whole or not at all.
//! Version 2 adds what the consensus needs: the term of the last entry, and who the nodes were.

use sawlog_protocol::Uuid;

use crate::metadata::{Decoder, Encoder, Record, decode_records, encode_records};

use super::super::log_file::array;
use super::super::{Snapshot, snapshot_file};
use super::codec::{put_stored_membership, take_stored_membership};
use super::types::{SnapshotMeta, StoredMembership, index_of, log_id};

const MAGIC: &[u8; 8] = b"SAWSNAP\0";
const VERSION: u16 = 2;
/// magic 8, version 2, reserved 2, cluster id 16, offset 8, length 8.
const HEADER_BYTES: usize = 44;
const CHECKSUM_BYTES: usize = 4;
/// Of the first term: entries of version 1 were all written in it.
pub(super) const FIRST_TERM: u64 = 1;

/// A snapshot and what the consensus knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RaftSnapshot {
    pub(super) term: u64,
    /// The configuration then; `None` in a file of version 1, where one node was all there was.
    pub(super) membership: Option<StoredMembership>,
    pub(super) snapshot: Snapshot,
}

/// The library's view of a snapshot.
pub(super) fn meta(index: u64, term: u64, membership: StoredMembership) -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: Some(log_id(term, index)),
        last_membership: membership,
        snapshot_id: format!("{term}-{index}"),
    }
}

pub(super) fn encode(
    cluster_id: Uuid,
    meta: &SnapshotMeta,
    records: &[Record],
    offset: i64,
) -> Vec<u8> {
    let mut body = Encoder::default();
    body.u64(meta.last_log_id.map_or(FIRST_TERM, |id| id.leader_id.term));
    body.framed(|out| put_stored_membership(out, &meta.last_membership));
    let mut body = body.into_bytes();
    body.extend_from_slice(&encode_records(records));
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len() + CHECKSUM_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&cluster_id.0);
    bytes.extend_from_slice(&offset.to_be_bytes());
    bytes.extend_from_slice(&u64::try_from(body.len()).unwrap_or(u64::MAX).to_be_bytes());
    bytes.extend_from_slice(&body);
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    bytes
}

/// Reads a snapshot of this version or the one before.
///
/// # Errors
/// Why the file cannot be trusted, as the end of a sentence.
pub(super) fn decode(bytes: &[u8]) -> Result<(Uuid, RaftSnapshot), String> {
    let short = || "it is shorter than it should be".to_owned();
    let header = bytes.get(..HEADER_BYTES).ok_or_else(short)?;
    if header.starts_with(MAGIC) && header[8..10] == [0, 1] {
        let (cluster_id, snapshot) = snapshot_file::decode(bytes)?;
        return Ok((cluster_id, RaftSnapshot { term: FIRST_TERM, membership: None, snapshot }));
    }
    let body_end = check(bytes, header)?;
    let body = bytes.get(HEADER_BYTES..body_end).ok_or_else(short)?;
    let (term, rest) = body.split_first_chunk::<8>().ok_or_else(short)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| short())?;
    let (membership, records) = rest.split_at_checked(length).ok_or_else(short)?;
    let mut input = Decoder::new(membership);
    let membership = take_stored_membership(&mut input).map_err(|error| error.to_string())?;
    let records = decode_records(records).map_err(|error| error.to_string())?;
    let cluster_id = Uuid(array(&header[12..28]).ok_or_else(short)?);
    let offset = array(&header[28..36]).map(i64::from_be_bytes).ok_or_else(short)?;
    let snapshot = Snapshot { offset: crate::metadata::MetadataOffset(offset), records };
    let term = u64::from_be_bytes(*term);
    Ok((cluster_id, RaftSnapshot { term, membership: Some(membership), snapshot }))
}

/// Checks what does not depend on the body; returns where that ends.
fn check(bytes: &[u8], header: &[u8]) -> Result<usize, String> {
    let short = || "it is shorter than it should be".to_owned();
    if !header.starts_with(MAGIC) {
        return Err("it is not a metadata snapshot".to_owned());
    }
    let version = u16::from_be_bytes([header[8], header[9]]);
    if version != VERSION {
        return Err(format!(
            "its format {version} is newer than this version of sawlog knows ({VERSION})"
        ));
    }
    let length = array(&header[36..44]).map(u64::from_be_bytes).ok_or_else(short)?;
    let body_end = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or_else(short)?;
    let found = body_end.checked_sub(HEADER_BYTES).ok_or_else(short)?;
    if u64::try_from(found) != Ok(length) {
        return Err(format!("its body has {found} bytes, {length} were written"));
    }
    if bytes[body_end..] != crc32fast::hash(&bytes[..body_end]).to_be_bytes() {
        return Err("its checksum does not match".to_owned());
    }
    Ok(body_end)
}

impl RaftSnapshot {
    /// The library's view; `founder` was the configuration when files did not name one.
    pub(super) fn meta(&self, founder: &StoredMembership) -> SnapshotMeta {
        let membership = self.membership.clone().unwrap_or_else(|| founder.clone());
        meta(index_of(self.snapshot.offset), self.term, membership)
    }
}
