//! The bytes of a metadata log file; `docs/formats/metadata.md` draws them.
//!
//! Entries are written one at a time, each fsynced before the next. So only the last can be torn,
//! and a bad entry with a good one behind it is corruption: the file is then refused, never cut.

use sawlog_protocol::Uuid;

use crate::metadata::{MetadataOffset, Record, decode_records, encode_records};

use super::{Entry, LogError};

const FILE_MAGIC: &[u8; 8] = b"SAWMLOG\0";
const FILE_VERSION: u16 = 1;
/// magic 8, version 2, reserved 2, cluster id 16, first offset 8, checksum 4.
pub(super) const HEADER_BYTES: usize = 40;

const ENTRY_MAGIC: [u8; 4] = *b"SME1";
/// magic 4, checksum 4, length 4, offset 8.
const ENTRY_HEADER_BYTES: usize = 20;
/// Bytes of records in one entry.
pub(super) const ENTRY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a log file's bytes hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReadLog {
    pub(super) cluster_id: Uuid,
    pub(super) first: MetadataOffset,
    pub(super) entries: Vec<Entry>,
    /// Where the last whole entry ends.
    pub(super) end: usize,
    /// Bytes of a write after it that a crash cut short; 0 if only zeros follow, which were never
    /// written.
    pub(super) torn: usize,
}

/// The first bytes of a log file whose first entry will be `first`.
pub(super) fn header(cluster_id: Uuid, first: MetadataOffset) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(FILE_MAGIC);
    bytes.extend_from_slice(&FILE_VERSION.to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&cluster_id.0);
    bytes.extend_from_slice(&first.0.to_be_bytes());
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    bytes
}

/// One entry as bytes.
pub(super) fn encode_entry(
    offset: MetadataOffset,
    records: &[Record],
) -> Result<Vec<u8>, LogError> {
    let body = encode_records(records);
    let too_large = LogError::TooLarge { bytes: body.len(), limit: ENTRY_BYTES_MAX };
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= ENTRY_BYTES_MAX);
    let length = length.ok_or(too_large)?.to_be_bytes();
    let offset = offset.0.to_be_bytes();
    let checksum = entry_checksum(&length, &offset, &body);
    let mut bytes = Vec::with_capacity(ENTRY_HEADER_BYTES + body.len());
    bytes.extend_from_slice(&ENTRY_MAGIC);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&offset);
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

fn entry_checksum(length: &[u8], offset: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(length);
    hasher.update(offset);
    hasher.update(body);
    hasher.finalize()
}

/// Reads a whole log file.
///
/// # Errors
/// Why the file cannot be trusted, as the end of a sentence.
pub(super) fn read(bytes: &[u8]) -> Result<ReadLog, String> {
    let (cluster_id, first) = read_header(bytes)?;
    let mut log = ReadLog { cluster_id, first, entries: Vec::new(), end: HEADER_BYTES, torn: 0 };
    let mut next = first;
    while let Some((offset, body, end)) = entry_at(bytes, log.end) {
        if offset != next {
            return Err(format!("entry {next} is missing: entry {offset} is at byte {}", log.end));
        }
        let records = decode_records(body).map_err(|error| format!("entry {offset}: {error}"))?;
        log.entries.push(Entry { offset, records });
        log.end = end;
        next = next.next();
    }
    let rest = bytes.get(log.end..).unwrap_or_default();
    log.torn = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if let Some(at) = whole_entry_after(bytes, log.end) {
        return Err(format!(
            "the entry at byte {} is damaged and another follows at byte {at}: restore the directory from a backup",
            log.end
        ));
    }
    Ok(log)
}

fn read_header(bytes: &[u8]) -> Result<(Uuid, MetadataOffset), String> {
    let header = bytes.get(..HEADER_BYTES).ok_or("it is shorter than its header")?;
    if !header.starts_with(FILE_MAGIC) {
        return Err("it is not a metadata log".to_owned());
    }
    let version = u16::from_be_bytes([header[8], header[9]]);
    if version > FILE_VERSION {
        return Err(format!(
            "its format {version} is newer than this version of sawlog knows ({FILE_VERSION})"
        ));
    }
    let (covered, checksum) = header.split_at(HEADER_BYTES - 4);
    if crc32fast::hash(covered).to_be_bytes() != checksum {
        return Err("the checksum of its header does not match".to_owned());
    }
    let cluster_id = Uuid(array(&header[12..28]).ok_or("its header is short")?);
    let first = array(&header[28..36]).map(i64::from_be_bytes).ok_or("its header is short")?;
    Ok((cluster_id, MetadataOffset(first)))
}

/// The whole, undamaged entry at `at`: its offset, its records' bytes, and where it ends.
fn entry_at(bytes: &[u8], at: usize) -> Option<(MetadataOffset, &[u8], usize)> {
    let rest = bytes.get(at..)?;
    let (header, body) = rest.split_at_checked(ENTRY_HEADER_BYTES)?;
    let checksum = u32::from_be_bytes(array(&header[4..8])?);
    let length = usize::try_from(u32::from_be_bytes(array(&header[8..12])?)).ok()?;
    let body = body.get(..length).filter(|_| header.starts_with(&ENTRY_MAGIC))?;
    if entry_checksum(&header[8..12], &header[12..20], body) != checksum {
        return None;
    }
    let offset = MetadataOffset(i64::from_be_bytes(array(&header[12..20])?));
    Some((offset, body, at + ENTRY_HEADER_BYTES + length))
}

/// Where a whole entry begins after `from`, if anywhere: proof that what is at `from` was once
/// whole too.
fn whole_entry_after(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let mut candidates = rest.windows(ENTRY_MAGIC.len()).enumerate().skip(1);
    let found = candidates
        .find(|(at, window)| *window == ENTRY_MAGIC && entry_at(bytes, from + at).is_some());
    found.map(|(at, _)| from + at)
}

pub(super) fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}
