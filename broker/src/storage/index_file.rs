//! The index files of a sealed segment.
//!
//! ```text
//! .index      header (64 bytes) | entries: relative offset u32, position u32 | CRC-32 of the entries
//! .timeindex  header (24 bytes) | entries: timestamp i64, relative offset u32 | CRC-32 of the entries
//! ```
//! Layouts are in `docs/formats/segment.md`. The header of the `.index` says all a start needs to
//! know of the segment and has a checksum of its own, so a start reads 88 bytes, however large the
//! segment. The entries are checked as a whole before the first lookup and then searched where they
//! are: sealed data takes no memory. A file that does not fit exactly is rebuilt from the log, and a
//! zeroed tail is never taken for entries (KAFKA-10207).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::envelope::Fields;
use super::error::StorageError;
use super::index::{Entries, MemoryIndex, OffsetEntry, TimeEntry};
use crate::base::disk::{Aside, Create, Disk, DiskFile, Syncs, write_atomically};
use crate::base::{Offset, Timestamp};

/// Endings of the files.
pub(super) const INDEX_SUFFIX: &str = "index";
pub(super) const TIME_INDEX_SUFFIX: &str = "timeindex";

const OFFSET_MAGIC: [u8; 4] = *b"SLIX";
const TIME_MAGIC: [u8; 4] = *b"SLTX";
const VERSION: u16 = 1;

const OFFSET_HEADER_BYTES: usize = 64;
const TIME_HEADER_BYTES: usize = 24;
const CHECKSUM_BYTES: u64 = 4;

/// Entries checked in one read.
const CHECK_CHUNK_BYTES: usize = 64 * 1024;

/// What the header of the `.index` says of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) base: Offset,
    /// Length of the log file.
    pub(super) log_bytes: u64,
    /// Offsets in the segment: the next one is this far from its base.
    pub(super) offsets: u32,
    /// Timestamp of its first batch, which its age is counted from.
    pub(super) first_timestamp: Timestamp,
    /// The largest timestamp, and the batch that brought it.
    pub(super) max: TimeEntry,
}

/// Writes both files. The `.index` comes last: it vouches for the segment.
///
/// # Errors
/// The operating system's.
pub(super) fn write(
    disk: &dyn Disk,
    log: &Path,
    summary: &Summary,
    index: &MemoryIndex,
) -> io::Result<()> {
    let (times, offsets) = encode(summary, index);
    write_atomically(disk, &log.with_extension(TIME_INDEX_SUFFIX), &times)?;
    write_atomically(disk, &log.with_extension(INDEX_SUFFIX), &offsets)
}

/// Writes both files under other names, in the order in which they are to take their places.
///
/// # Errors
/// The operating system's.
pub(super) fn write_aside(
    disk: &dyn Disk,
    log: &Path,
    (summary, index): (&Summary, &MemoryIndex),
    syncs: Syncs,
) -> io::Result<[Aside; 2]> {
    let (times, offsets) = encode(summary, index);
    let times = Aside::write(disk, log.with_extension(TIME_INDEX_SUFFIX), &times, syncs)?;
    let offsets = Aside::write(disk, log.with_extension(INDEX_SUFFIX), &offsets, syncs)?;
    Ok([times, offsets])
}

/// The contents of the `.timeindex` and of the `.index`.
fn encode(summary: &Summary, index: &MemoryIndex) -> (Vec<u8>, Vec<u8>) {
    let base = summary.base.0.to_be_bytes();
    let mut times = header(TIME_MAGIC, index.times().len());
    times.extend(base);
    close_header(&mut times);
    for entry in index.times() {
        times.extend(entry.timestamp.0.to_be_bytes());
        times.extend(entry.relative.to_be_bytes());
    }
    close_entries(&mut times, TIME_HEADER_BYTES);

    let mut offsets = header(OFFSET_MAGIC, index.offsets().len());
    offsets.extend(base);
    offsets.extend(summary.log_bytes.to_be_bytes());
    offsets.extend(summary.offsets.to_be_bytes());
    offsets.extend(summary.first_timestamp.0.to_be_bytes());
    offsets.extend(summary.max.timestamp.0.to_be_bytes());
    offsets.extend(summary.max.relative.to_be_bytes());
    offsets.resize(OFFSET_HEADER_BYTES - 4, 0);
    close_header(&mut offsets);
    for entry in index.offsets() {
        offsets.extend(entry.relative.to_be_bytes());
        offsets.extend(entry.position.to_be_bytes());
    }
    close_entries(&mut offsets, OFFSET_HEADER_BYTES);
    (times, offsets)
}

fn header(magic: [u8; 4], count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(OFFSET_HEADER_BYTES + count * TimeEntry::BYTES + 4);
    bytes.extend(magic);
    bytes.extend(VERSION.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
    bytes
}

fn close_header(bytes: &mut Vec<u8>) {
    let checksum = crc32fast::hash(bytes);
    bytes.extend(checksum.to_be_bytes());
}

fn close_entries(bytes: &mut Vec<u8>, header: usize) {
    let checksum = crc32fast::hash(bytes.get(header..).unwrap_or_default());
    bytes.extend(checksum.to_be_bytes());
}

/// The indexes of a sealed segment, on disk.
#[derive(Clone, Debug)]
pub(super) struct FileIndex {
    disk: Arc<dyn Disk>,
    /// The segment's `.log`.
    log: PathBuf,
    pub(super) summary: Summary,
    offsets: usize,
    times: usize,
    /// The entries were found to be as written.
    pub(super) checked: bool,
}

impl FileIndex {
    /// Reads the headers; `None` if either file is not there or does not fit its header.
    ///
    /// # Errors
    /// A file cannot be read, or is of a later version.
    pub(super) fn open(disk: Arc<dyn Disk>, log: &Path) -> Result<Option<Self>, StorageError> {
        let Some((fields, offsets)) =
            read_header::<OffsetEntry>(&*disk, &log.with_extension(INDEX_SUFFIX))?
        else {
            return Ok(None);
        };
        let Some(summary) = summary(&fields) else { return Ok(None) };
        let times = read_header::<TimeEntry>(&*disk, &log.with_extension(TIME_INDEX_SUFFIX))?;
        let same_base = |fields: &[u8]| Fields(fields).i64() == Some(summary.base.0);
        let Some((_, times)) = times.filter(|(fields, _)| same_base(fields)) else {
            return Ok(None);
        };
        Ok(Some(Self { disk, log: log.to_owned(), summary, offsets, times, checked: false }))
    }

    /// Whether the entries of both files are as they were written.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn check(&self) -> io::Result<bool> {
        Ok(self.offset_entries()?.check()? && self.time_entries()?.check()?)
    }

    pub(super) fn offset_entries(&self) -> io::Result<FileEntries<OffsetEntry>> {
        FileEntries::open(&*self.disk, &self.log.with_extension(INDEX_SUFFIX), self.offsets)
    }

    pub(super) fn time_entries(&self) -> io::Result<FileEntries<TimeEntry>> {
        FileEntries::open(&*self.disk, &self.log.with_extension(TIME_INDEX_SUFFIX), self.times)
    }
}

/// The fields of a header behind the count, and the count.
fn read_header<E: FileEntry>(
    disk: &dyn Disk,
    path: &Path,
) -> Result<Option<(Vec<u8>, usize)>, StorageError> {
    let failed = |source| StorageError::io("cannot read", path)(source);
    let file = match disk.open(path, Create::Never) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = [0; OFFSET_HEADER_BYTES];
    let Some(bytes) = bytes.get_mut(..E::HEADER_BYTES) else { return Ok(None) };
    let read = file.read_at(bytes, 0).map_err(failed)?;
    let length = file.len().map_err(failed)?;
    let parse = || {
        let (covered, checksum) = bytes.get(..read)?.split_last_chunk::<4>()?;
        let (start, fields) = covered.split_first_chunk::<12>()?;
        let count = usize::try_from(Fields(start.get(8..)?).u32()?).ok()?;
        let whole = start.starts_with(&E::MAGIC)
            && (crc32fast::hash(covered) == u32::from_be_bytes(*checksum)
                || planted!(TrustZeroIndexTail));
        let mut version = Fields(start.get(4..8)?);
        whole.then_some((version.i16()?.cast_unsigned(), fields.to_vec(), count))
    };
    let Some((version, fields, count)) = parse() else { return Ok(None) };
    if version > VERSION {
        let (path, supported) = (path.to_owned(), VERSION);
        return Err(StorageError::UnsupportedFormat { path, found: version, supported });
    }
    let fits = version == VERSION && length == E::position(count) + CHECKSUM_BYTES;
    Ok(fits.then_some((fields, count)))
}

fn summary(fields: &[u8]) -> Option<Summary> {
    let mut fields = Fields(fields);
    Some(Summary {
        base: Offset(fields.i64()?),
        log_bytes: fields.u64()?,
        offsets: fields.u32()?,
        first_timestamp: Timestamp(fields.i64()?),
        max: TimeEntry { timestamp: Timestamp(fields.i64()?), relative: fields.u32()? },
    })
}

/// An entry as it is in a file.
pub(super) trait FileEntry: Sized {
    const MAGIC: [u8; 4];
    const HEADER_BYTES: usize;
    const BYTES: usize;

    fn decode(fields: &mut Fields<'_>) -> Option<Self>;

    /// Where the entry at `index` begins.
    fn position(index: usize) -> u64 {
        let position = index.saturating_mul(Self::BYTES).saturating_add(Self::HEADER_BYTES);
        u64::try_from(position).unwrap_or(u64::MAX)
    }
}

impl FileEntry for OffsetEntry {
    const MAGIC: [u8; 4] = OFFSET_MAGIC;
    const HEADER_BYTES: usize = OFFSET_HEADER_BYTES;
    const BYTES: usize = 8;

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { relative: fields.u32()?, position: fields.u32()? })
    }
}

impl FileEntry for TimeEntry {
    const MAGIC: [u8; 4] = TIME_MAGIC;
    const HEADER_BYTES: usize = TIME_HEADER_BYTES;
    const BYTES: usize = 12;

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { timestamp: Timestamp(fields.i64()?), relative: fields.u32()? })
    }
}

/// The entries of one file.
#[derive(Debug)]
pub(super) struct FileEntries<E> {
    file: Arc<dyn DiskFile>,
    count: usize,
    kind: std::marker::PhantomData<E>,
}

impl<E: FileEntry> FileEntries<E> {
    fn open(disk: &dyn Disk, path: &Path, count: usize) -> io::Result<Self> {
        let file = disk.open(path, Create::Never)?;
        Ok(Self { file, count, kind: std::marker::PhantomData })
    }

    fn check(&self) -> io::Result<bool> {
        if planted!(TrustZeroIndexTail) {
            return Ok(true);
        }
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = vec![0; CHECK_CHUNK_BYTES.min(self.count.saturating_mul(E::BYTES))];
        let mut left = self.count.saturating_mul(E::BYTES);
        let mut position = E::position(0);
        while left > 0 {
            let wanted = left.min(buffer.len());
            let Some(chunk) = buffer.get_mut(..wanted) else { break };
            if self.file.read_at(chunk, position)? < wanted {
                return Ok(false);
            }
            hasher.update(chunk);
            left -= wanted;
            position += u64::try_from(wanted).unwrap_or(u64::MAX);
        }
        let mut checksum = [0; 4];
        let read = self.file.read_at(&mut checksum, position)?;
        Ok(read == checksum.len() && hasher.finalize() == u32::from_be_bytes(checksum))
    }
}

impl<E: FileEntry> Entries<E> for FileEntries<E> {
    fn count(&self) -> usize {
        self.count
    }

    fn at(&self, index: usize) -> io::Result<E> {
        let mut bytes = [0; 12];
        let entry = bytes.get_mut(..E::BYTES).unwrap_or_default();
        if self.file.read_at(entry, E::position(index))? < E::BYTES {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        E::decode(&mut Fields(entry)).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::disk_sim::SimDisk;
    use crate::storage::index::{position_before, relative_before, tests::index};

    const LOG: &str = "/00000000000000000000.log";

    fn written() -> (SimDisk, MemoryIndex, Summary) {
        let disk = SimDisk::new();
        let index = index();
        let max = index.max().unwrap();
        let summary = Summary {
            base: Offset(0),
            log_bytes: 100_000,
            offsets: 1000,
            first_timestamp: Timestamp(0),
            max,
        };
        write(&disk, Path::new(LOG), &summary, &index).unwrap();
        (disk, index, summary)
    }

    fn open(disk: &SimDisk) -> Option<FileIndex> {
        FileIndex::open(Arc::new(disk.clone()), Path::new(LOG)).unwrap()
    }

    #[test]
    fn lookups_in_files_are_those_in_memory() {
        let (disk, index, summary) = written();
        let files = open(&disk).unwrap();
        assert_eq!(files.summary, summary);
        assert!(files.check().unwrap());
        let (offsets, times) = (files.offset_entries().unwrap(), files.time_entries().unwrap());
        for n in 0..1100 {
            assert_eq!(
                position_before(&offsets, n).unwrap(),
                position_before(index.offsets(), n).unwrap()
            );
            let time = Timestamp(i64::from(n));
            assert_eq!(
                relative_before(&times, time).unwrap(),
                relative_before(index.times(), time).unwrap()
            );
        }
    }

    #[test]
    fn any_changed_byte_is_noticed_before_a_lookup() {
        for suffix in [INDEX_SUFFIX, TIME_INDEX_SUFFIX] {
            let (disk, ..) = written();
            let path = Path::new(LOG).with_extension(suffix);
            let length = disk.open(&path, Create::Never).unwrap().len().unwrap();
            for byte in 0..usize::try_from(length).unwrap() {
                disk.flip_bit(&path, byte, 3);
                let found = open(&disk);
                assert!(found.is_none_or(|files| !files.check().unwrap()), "{suffix} {byte}");
                disk.flip_bit(&path, byte, 3);
            }
            assert!(open(&disk).unwrap().check().unwrap());
        }
    }

    #[test]
    fn kafka_10207_zeroed_and_padded_files_are_refused() {
        for suffix in [INDEX_SUFFIX, TIME_INDEX_SUFFIX] {
            for keep in [0, 10, 40, 100] {
                let (disk, ..) = written();
                let path = Path::new(LOG).with_extension(suffix);
                let file = disk.open(&path, Create::Never).unwrap();
                let length = file.len().unwrap();
                file.set_len(keep).unwrap();
                file.set_len(length).unwrap();
                let zeroed = open(&disk).is_none_or(|files| !files.check().unwrap());
                assert!(zeroed, "{suffix} zeroed from {keep}");
            }
            let (disk, ..) = written();
            let file = disk.open(&Path::new(LOG).with_extension(suffix), Create::Never).unwrap();
            file.set_len(file.len().unwrap() + 4096).unwrap();
            assert!(open(&disk).is_none(), "{suffix} padded");
        }
    }
}
