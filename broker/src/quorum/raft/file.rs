//! The bytes of a metadata log file of version 2; `docs/formats/metadata.md` draws them.
//!
//! A file is a list of items: entries, votes, and marks from where on earlier entries are void. Several
//! entries may be written at once; each write is synced before the next. So only the last write can be
//! torn, in any of its sectors, and each item says where its write began: a bad item with a good one of
//! a later write behind it is corruption. The file is then refused, never cut.

use std::ops::Range;

use sawlog_protocol::Uuid;

use super::super::log_file::array;
use super::codec::Kind;

const FILE_MAGIC: &[u8; 8] = b"SAWMLOG\0";
pub(super) const FILE_VERSION: u16 = 2;
/// magic 8, version 2, reserved 2, cluster id 16, first index 8, term before it 8, checksum 4.
pub(super) const HEADER_BYTES: usize = 48;

const ITEM_MAGIC: [u8; 4] = *b"SME2";
/// magic 4, checksum 4, length 4, kind 1, reserved 3, index 8, term 8, committed 8, back 4.
pub(super) const ITEM_HEADER_BYTES: usize = 44;
/// Bytes of records in one entry, as in version 1.
pub(super) const ENTRY_BYTES_MAX: usize = 64 * 1024 * 1024;

const VOTE: u8 = 4;
const TRUNCATE: u8 = 5;
/// `committed` of an item written when nothing was.
const NOTHING: u64 = u64::MAX;

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemKind {
    /// An entry of the log, at the item's index and of its term.
    Entry(Kind),
    /// The body is a vote.
    Vote,
    /// Entries from the item's index on are void.
    Truncate,
}

impl ItemKind {
    fn byte(self) -> u8 {
        match self {
            Self::Entry(kind) => kind.byte(),
            Self::Vote => VOTE,
            Self::Truncate => TRUNCATE,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            VOTE => Some(Self::Vote),
            TRUNCATE => Some(Self::Truncate),
            other => Kind::from_byte(other).map(Self::Entry),
        }
    }
}

/// The head of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) kind: ItemKind,
    pub(super) index: u64,
    pub(super) term: u64,
    /// The last entry that was known to be committed when the item was written.
    pub(super) committed: Option<u64>,
}

/// What a file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) cluster_id: Uuid,
    /// Index of the first entry.
    pub(super) first: u64,
    /// Term of the entry before it; 0 if it is the very first.
    pub(super) term_before: u64,
}

/// What a file's bytes hold: items and where their bodies are.
#[derive(Debug)]
pub(super) struct ReadFile {
    pub(super) header: Header,
    pub(super) items: Vec<(Item, Range<usize>)>,
    /// Where the last whole item ends.
    pub(super) end: usize,
    /// Bytes after it that a crash cut short; 0 if only zeros follow, which were never written.
    pub(super) torn: usize,
}

/// The first bytes of a file.
pub(super) fn header_bytes(header: &Header) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(FILE_MAGIC);
    bytes.extend_from_slice(&FILE_VERSION.to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&header.cluster_id.0);
    bytes.extend_from_slice(&header.first.to_be_bytes());
    bytes.extend_from_slice(&header.term_before.to_be_bytes());
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    bytes
}

/// Appends an item to `out`, which is one write. The body is at most `ENTRY_BYTES_MAX` long: who makes it has checked.
pub(super) fn put_item(out: &mut Vec<u8>, item: &Item, body: &[u8]) {
    let mut covered = Vec::with_capacity(ITEM_HEADER_BYTES - 8);
    covered.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    covered.extend_from_slice(&[item.kind.byte(), 0, 0, 0]);
    covered.extend_from_slice(&item.index.to_be_bytes());
    covered.extend_from_slice(&item.term.to_be_bytes());
    covered.extend_from_slice(&item.committed.unwrap_or(NOTHING).to_be_bytes());
    covered.extend_from_slice(&u32::try_from(out.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.reserve(ITEM_HEADER_BYTES + body.len());
    out.extend_from_slice(&ITEM_MAGIC);
    out.extend_from_slice(&checksum(&covered, body).to_be_bytes());
    out.extend_from_slice(&covered);
    out.extend_from_slice(body);
}

fn checksum(covered: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(covered);
    hasher.update(body);
    hasher.finalize()
}

/// The version of a log file, if it is one and says so.
pub(super) fn version(bytes: &[u8]) -> Option<u16> {
    let rest = bytes.strip_prefix(FILE_MAGIC)?;
    array(rest.get(..2)?).map(u16::from_be_bytes)
}

/// Reads a whole file.
///
/// # Errors
/// Why the file cannot be trusted, as the end of a sentence.
pub(super) fn read(bytes: &[u8]) -> Result<ReadFile, String> {
    let mut file =
        ReadFile { header: read_header(bytes)?, items: Vec::new(), end: HEADER_BYTES, torn: 0 };
    while let Some((item, body)) = item_at(bytes, file.end) {
        let item =
            item.ok_or_else(|| format!("the item at byte {} is of an unknown kind", file.end))?;
        file.end = body.end;
        file.items.push((item, body));
    }
    let rest = bytes.get(file.end..).unwrap_or_default();
    file.torn = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if let Some(at) = later_item_after(bytes, file.end) {
        return Err(format!(
            "the item at byte {} is damaged and another follows at byte {at}: restore the directory from a backup",
            file.end
        ));
    }
    Ok(file)
}

fn read_header(bytes: &[u8]) -> Result<Header, String> {
    let header = bytes.get(..HEADER_BYTES).ok_or("it is shorter than its header")?;
    let found = version(header).ok_or("it is not a metadata log")?;
    if found != FILE_VERSION {
        return Err(format!(
            "its format {found} is not the one this version of sawlog knows ({FILE_VERSION})"
        ));
    }
    let (covered, checksum) = header.split_at(HEADER_BYTES - 4);
    if crc32fast::hash(covered).to_be_bytes() != checksum {
        return Err("the checksum of its header does not match".to_owned());
    }
    let short = "its header is short";
    Ok(Header {
        cluster_id: Uuid(array(&header[12..28]).ok_or(short)?),
        first: array(&header[28..36]).map(u64::from_be_bytes).ok_or(short)?,
        term_before: array(&header[36..44]).map(u64::from_be_bytes).ok_or(short)?,
    })
}

/// The whole, undamaged item at `at` (`None` inside if its kind is not known) and where its body is.
fn item_at(bytes: &[u8], at: usize) -> Option<(Option<Item>, Range<usize>)> {
    let rest = bytes.get(at..)?;
    let (header, body) = rest.split_at_checked(ITEM_HEADER_BYTES)?;
    let found = u32::from_be_bytes(array(&header[4..8])?);
    let length = usize::try_from(u32::from_be_bytes(array(&header[8..12])?)).ok()?;
    let body = body.get(..length).filter(|_| header.starts_with(&ITEM_MAGIC))?;
    if checksum(&header[8..], body) != found {
        return None;
    }
    let item = ItemKind::from_byte(header[12]).and_then(|kind| {
        let committed = u64::from_be_bytes(array(&header[32..40])?);
        Some(Item {
            kind,
            index: u64::from_be_bytes(array(&header[16..24])?),
            term: u64::from_be_bytes(array(&header[24..32])?),
            committed: (committed != NOTHING).then_some(committed),
        })
    });
    let begins = at + ITEM_HEADER_BYTES;
    Some((item, begins..begins + length))
}

/// Where a whole item of a later write than the one at `from` begins, if anywhere: proof that what is at
/// `from` was once whole too.
fn later_item_after(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let mut candidates = rest.windows(ITEM_MAGIC.len()).enumerate().skip(1);
    let found = candidates.find(|(at, window)| {
        let at = from + at;
        *window == ITEM_MAGIC
            && item_at(bytes, at).is_some()
            && at.checked_sub(back_of(bytes, at)).is_none_or(|write| write > from)
    });
    found.map(|(at, _)| from + at)
}

/// How far before the item at `at` its write began.
fn back_of(bytes: &[u8], at: usize) -> usize {
    let back = bytes.get(at + ITEM_HEADER_BYTES - 4..at + ITEM_HEADER_BYTES).and_then(array);
    back.and_then(|back| usize::try_from(u32::from_be_bytes(back)).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { cluster_id: Uuid([7; 16]), first: 5, term_before: 2 };

    fn sample() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = header_bytes(&HEADER);
        let mut ends = vec![bytes.len()];
        for (at, kind) in [
            ItemKind::Vote,
            ItemKind::Entry(Kind::Records),
            ItemKind::Entry(Kind::Blank),
            ItemKind::Truncate,
            ItemKind::Entry(Kind::Membership),
        ]
        .into_iter()
        .enumerate()
        {
            let index = u64::try_from(at).unwrap();
            let item = Item { kind, index, term: 3, committed: (at > 2).then_some(index) };
            let mut write = Vec::new();
            put_item(&mut write, &item, &vec![1; at * 3]);
            bytes.extend_from_slice(&write);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn items_come_back_and_a_torn_one_is_told_from_zeros() {
        let (bytes, ends) = sample();
        let file = read(&bytes).unwrap();
        assert_eq!((file.header, file.items.len(), file.torn), (HEADER, 5, 0));
        assert_eq!(file.items[3].0.kind, ItemKind::Truncate);
        assert_eq!(file.items[4].0.committed, Some(4));
        assert_eq!(file.items[4].1.len(), 12);
        for cut in HEADER_BYTES..bytes.len() {
            let whole = ends.iter().rposition(|end| *end <= cut).unwrap();
            let mut torn = bytes[..cut].to_vec();
            torn.extend_from_slice(&[0; 100]);
            let file = read(&torn).unwrap();
            // Cut zeros are no loss.
            let next = ends.get(whole + 1).copied().unwrap_or(cut);
            let lost = bytes[cut..next.max(cut)].iter().any(|byte| *byte != 0);
            let found = if lost { whole } else { whole + usize::from(next > cut) };
            assert_eq!((file.items.len(), file.end), (found, ends[found]), "cut at {cut}");
            assert_eq!(file.torn > 0, cut > ends[found], "cut at {cut}");
        }
    }

    #[test]
    fn a_damaged_item_before_a_whole_one_refuses_the_file() {
        let (bytes, ends) = sample();
        for at in ends[0]..ends[4] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            let text = read(&damaged).unwrap_err();
            assert!(text.contains("damaged"), "byte {at}: {text}");
        }
    }

    #[test]
    fn any_part_of_the_last_write_may_be_missing() {
        let (before, _) = sample();
        let mut write = Vec::new();
        let mut ends = Vec::new();
        for index in 5..9 {
            let kind = ItemKind::Entry(Kind::Records);
            put_item(&mut write, &Item { kind, index, term: 3, committed: None }, b"records");
            ends.push(write.len());
        }
        for from in 0..write.len() {
            for to in from + 1..write.len().min(from + 60) {
                let mut torn = [&before[..], &write].concat();
                torn[before.len() + from..before.len() + to].fill(0);
                let file = read(&torn).unwrap();
                let whole = ends.iter().filter(|end| **end <= from).count();
                assert!(file.items.len() >= 5 + whole, "{from} to {to}");
            }
        }
    }

    #[test]
    fn a_damaged_header_refuses_the_file() {
        let (bytes, _) = sample();
        for at in 0..HEADER_BYTES {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            assert!(read(&damaged).is_err(), "byte {at}");
        }
    }
}
