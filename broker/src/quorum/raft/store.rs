//! What a node of the metadata log keeps on disk: votes, entries, one snapshot.
//!
//! Always: what a method did is on disk when it returns. There is one log file, which begins after the
//! snapshot, and a snapshot is complete before the file that follows it is begun: at every moment what is
//! there is enough. A failed write or sync takes the data directory offline: what is on disk is not known.
//!
//! Votes lie among the entries, in the order they were given, so that one file has one end.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use openraft::LogId;
use sawlog_protocol::Uuid;

use crate::base::DataDirectory;
use crate::base::disk::{Disk, write_atomically};
use crate::metadata::{Decoder, Encoder, MetadataOffset};

use super::super::files::{self, AppendFile};
use super::super::{LogError, Snapshot};
use super::codec::{self, Kind};
use super::file::{self, ENTRY_BYTES_MAX, HEADER_BYTES, Header, ITEM_HEADER_BYTES, Item, ItemKind};
use super::snapshot;
use super::types::{Entry, SnapshotMeta, StoredMembership, Vote, log_id, offset_of, term_of};

/// Bodies of the newest entries that are kept in memory, for the nodes that follow closely.
const CACHED_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of entries handed out at once: what a message to another node carries.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// Entries handed out at once.
const READ_ENTRIES_MAX: usize = 512;

/// An entry in the file.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) term: u64,
    pub(super) kind: Kind,
    /// Where its body begins in the file.
    pub(super) at: u64,
    pub(super) length: usize,
    pub(super) body: Option<Bytes>,
}

/// The durable state of one node.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) data_directory: Arc<DataDirectory>,
    pub(super) directory: PathBuf,
    pub(super) cluster_id: Uuid,
    pub(super) file: AppendFile,
    pub(super) vote: Option<Vote>,
    /// The last entry known to be committed; written along with the next item.
    pub(super) committed: Option<u64>,
    /// Index of the first slot.
    pub(super) first: u64,
    /// Term of the entry before the first slot.
    pub(super) term_before: u64,
    pub(super) slots: VecDeque<Slot>,
    pub(super) cached_bytes: usize,
    /// What the newest snapshot includes.
    pub(super) snapshot: Option<SnapshotMeta>,
    pub(super) snapshot_after_bytes: u64,
    pub(super) snapshot_due: u64,
    pub(super) offline: Option<String>,
}

impl Store {
    /// Index after the last entry.
    pub(super) fn next(&self) -> u64 {
        self.first.saturating_add(u64::try_from(self.slots.len()).unwrap_or(u64::MAX))
    }

    /// The last entry that is in the snapshot only; `None` if the log is whole.
    pub(super) fn purged(&self) -> Option<LogId<u64>> {
        let before = self.first.checked_sub(1)?;
        Some(log_id(self.term_before, before))
    }

    /// The last entry.
    pub(super) fn last(&self) -> Option<LogId<u64>> {
        match self.slots.back() {
            Some(slot) => Some(log_id(slot.term, self.next().saturating_sub(1))),
            None => self.purged(),
        }
    }

    /// The term of an entry that is in the log, or the last one before it.
    pub(super) fn term_at(&self, index: u64) -> Option<u64> {
        if index.checked_add(1) == Some(self.first) {
            return Some(self.term_before);
        }
        Some(self.slot(index)?.term)
    }

    fn slot(&self, index: u64) -> Option<&Slot> {
        self.slots.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// Entries of `[from, to)` that are there: the first of them, and as many as a message carries if
    /// `bounded`.
    ///
    /// # Errors
    /// The disk's, or a file that is not as it was written.
    pub(super) fn entries(&self, from: u64, to: u64, bounded: bool) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        for index in from.max(self.first)..to.min(self.next()) {
            let Some(slot) = self.slot(index) else { break };
            let full = bytes + slot.length > READ_BYTES_MAX || entries.len() >= READ_ENTRIES_MAX;
            if bounded && full && !entries.is_empty() {
                break;
            }
            bytes += slot.length;
            let body = match &slot.body {
                Some(body) => body.clone(),
                None => self.file.read(slot.at, slot.length)?.into(),
            };
            let entry = codec::entry(log_id(slot.term, index), slot.kind, body);
            entries.push(entry.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?);
        }
        Ok(entries)
    }

    /// Appends entries; they follow the last.
    ///
    /// # Errors
    /// They are not known to be on disk: offline.
    pub(super) fn append(
        &mut self,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<(), LogError> {
        self.check_online()?;
        let mut bytes = Vec::new();
        let mut slots = Vec::new();
        for entry in entries {
            let index = self.next().saturating_add(u64::try_from(slots.len()).unwrap_or(u64::MAX));
            assert_eq!(entry.log_id.index, index, "an entry that does not follow the last");
            let (kind, body) = codec::payload_bytes(&entry.payload);
            let term = term_of(&entry.log_id);
            let item = Item { kind: ItemKind::Entry(kind), index, term, committed: self.committed };
            file::put_item(&mut bytes, &item, &body);
            let at = self.file.length() + position(bytes.len() - body.len());
            slots.push(Slot { term, kind, at, length: body.len(), body: Some(body) });
        }
        self.write(&bytes)?;
        self.cached_bytes += slots.iter().map(|slot| slot.length).sum::<usize>();
        self.slots.extend(slots);
        self.trim_cache();
        Ok(())
    }

    /// Remembers a vote for good.
    ///
    /// # Errors
    /// It is not known to be on disk: offline.
    pub(super) fn save_vote(&mut self, vote: &Vote) -> Result<(), LogError> {
        self.check_online()?;
        let mut bytes = Vec::new();
        put_vote(&mut bytes, vote, self.committed);
        self.write(&bytes)?;
        self.vote = Some(*vote);
        Ok(())
    }

    /// Voids the entries from `from` on: another leader has others in their place.
    ///
    /// # Errors
    /// It is not known to be on disk: offline.
    pub(super) fn truncate(&mut self, from: u64) -> Result<(), LogError> {
        self.check_online()?;
        assert!(from >= self.first, "entry {from} is in a snapshot, hence committed");
        let mut bytes = Vec::new();
        let (kind, committed) = (ItemKind::Truncate, self.committed);
        file::put_item(&mut bytes, &Item { kind, index: from, term: 0, committed }, &[]);
        self.write(&bytes)?;
        self.cut(from);
        Ok(())
    }

    fn cut(&mut self, from: u64) {
        let keep = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.slots.truncate(keep);
        self.cached_bytes = cached(&self.slots);
    }

    /// Stores a snapshot, of this node's own making or of the leader's. The entries it includes stay
    /// until they are purged; what contradicts one of the leader's is void, also after a crash.
    ///
    /// # Errors
    /// `NoSpace` leaves all as it was; otherwise offline.
    pub(super) fn store_snapshot(
        &mut self,
        meta: SnapshotMeta,
        snapshot: &Snapshot,
    ) -> Result<(), LogError> {
        self.check_online()?;
        let bytes = snapshot::encode(self.cluster_id, &meta, &snapshot.records, snapshot.offset.0);
        self.snapshot_due = self.file.length().saturating_add(self.snapshot_after_bytes);
        let path = self.directory.join(snapshot_name(snapshot.offset));
        self.settle("store a snapshot", |disk| write_atomically(disk, &path, &bytes))?;
        self.snapshot = Some(meta);
        Ok(())
    }

    /// Forgets entries up to `upto`, which the snapshot includes: begins a file after it.
    ///
    /// # Errors
    /// Offline, or `NoSpace` with all as it was.
    pub(super) fn purge(&mut self, upto: LogId<u64>) -> Result<(), LogError> {
        self.check_online()?;
        if upto.index < self.first {
            return Ok(());
        }
        let first = upto.index.saturating_add(1);
        let kept = self.entries(first, self.next(), false);
        let kept = kept.map_err(|error| self.go_offline("read the metadata log", &error))?;
        let header = Header { cluster_id: self.cluster_id, first, term_before: term_of(&upto) };
        let (bytes, slots) = file_bytes(&header, self.vote.as_ref(), self.committed, kept);
        let path = self.directory.join(log_name(first));
        let written = self.settle("begin a log file", |disk| begin(disk, &path, &bytes))?;
        self.file = written;
        self.first = first;
        self.term_before = term_of(&upto);
        self.cached_bytes = cached(&slots);
        self.slots = slots;
        self.trim_cache();
        self.snapshot_due = self.file.length().saturating_add(self.snapshot_after_bytes);
        let directory = self.directory.clone();
        let newest = self.snapshot.as_ref().and_then(|meta| meta.last_log_id);
        let snapshot = newest.map(|id| directory.join(snapshot_name(offset_of(id.index))));
        self.settle("remove old files", |disk| {
            remove_others(disk, &directory, &path, snapshot.as_deref())
        })
    }

    /// The bytes of the snapshot that ends with `offset`.
    ///
    /// # Errors
    /// The disk's; `NotFound` if a newer one has replaced it.
    pub(super) fn snapshot_bytes(&self, offset: MetadataOffset) -> io::Result<Vec<u8>> {
        let path = self.directory.join(snapshot_name(offset));
        files::read(&*self.disk, &path)?.ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Whether the log has grown enough for a snapshot.
    pub(super) fn wants_snapshot(&self) -> bool {
        self.offline.is_none() && self.file.length() >= self.snapshot_due
    }

    /// Makes sure there is room for entries of `bytes` in all, before the library is given them: what
    /// it has taken it must be able to write.
    ///
    /// # Errors
    /// `NoSpace`, with all as it was; otherwise offline.
    pub(super) fn reserve(&mut self, entries: usize, bytes: usize) -> Result<(), LogError> {
        self.check_online()?;
        // A vote and a truncation fit beside them.
        let needed = bytes + (entries + 4) * ITEM_HEADER_BYTES + 64;
        let mut reserved = self.file.reserve_bytes(needed);
        if is_full(&reserved) && self.data_directory.on_full() {
            reserved = self.file.reserve_bytes(needed);
        }
        match reserved {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::StorageFull => Err(self.no_space()),
            Err(error) => Err(self.go_offline("grow the metadata log", &error)),
        }
    }

    /// Whether an entry of that many bytes may be written.
    pub(super) fn check_size(bytes: usize) -> Result<(), LogError> {
        let limit = ENTRY_BYTES_MAX;
        if bytes > limit { Err(LogError::TooLarge { bytes, limit }) } else { Ok(()) }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        let mut reserved = self.file.reserve(bytes);
        if is_full(&reserved) && self.data_directory.on_full() {
            reserved = self.file.reserve(bytes);
        }
        let written = reserved.and_then(|()| self.file.append(bytes));
        written.map_err(|error| self.go_offline("append to the metadata log", &error))
    }

    /// Does something with files of which a full disk leaves what was there as it was.
    fn settle<T>(
        &mut self,
        doing: &str,
        mut work: impl FnMut(&dyn Disk) -> io::Result<T>,
    ) -> Result<T, LogError> {
        let mut done = work(&*self.disk);
        if is_full(&done) && self.data_directory.on_full() {
            done = work(&*self.disk);
        }
        match done {
            Ok(value) => Ok(value),
            Err(error) if error.kind() == ErrorKind::StorageFull => Err(self.no_space()),
            Err(error) => Err(self.go_offline(doing, &error)),
        }
    }

    pub(super) fn check_online(&self) -> Result<(), LogError> {
        self.offline.as_ref().map_or(Ok(()), |reason| Err(LogError::Offline(reason.clone())))
    }

    fn no_space(&self) -> LogError {
        LogError::NoSpace(self.directory.display().to_string())
    }

    pub(super) fn go_offline(&mut self, doing: &str, error: &dyn std::fmt::Display) -> LogError {
        let reason = format!(
            "cannot {doing} in {}: {error}; restart the broker once the disk is well",
            self.directory.display()
        );
        self.data_directory.fail(&reason);
        self.offline = Some(reason.clone());
        LogError::Offline(reason)
    }

    /// Lets go of the oldest bodies beyond what is kept in memory.
    pub(super) fn trim_cache(&mut self) {
        let mut oldest = self.slots.iter_mut();
        while self.cached_bytes > CACHED_BYTES_MAX {
            let Some(slot) = oldest.next() else { break };
            if slot.body.take().is_some() {
                self.cached_bytes -= slot.length;
            }
        }
    }
}

fn cached(slots: &VecDeque<Slot>) -> usize {
    slots.iter().filter(|slot| slot.body.is_some()).map(|slot| slot.length).sum()
}

fn is_full<T>(done: &io::Result<T>) -> bool {
    done.as_ref().is_err_and(|error| error.kind() == ErrorKind::StorageFull)
}

fn position(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn put_vote(out: &mut Vec<u8>, vote: &Vote, committed: Option<u64>) {
    let mut body = Encoder::default();
    codec::put_vote(&mut body, vote);
    let item = Item { kind: ItemKind::Vote, index: 0, term: vote.leader_id.term, committed };
    file::put_item(out, &item, &body.into_bytes());
}

/// # Errors
/// It is none.
pub(super) fn take_vote(body: &[u8]) -> Result<Vote, String> {
    let mut input = Decoder::new(body);
    let vote = codec::take_vote(&mut input).map_err(|error| error.to_string())?;
    input.finish().map_err(|error| error.to_string())?;
    Ok(vote)
}

/// A whole file: header, vote, entries; and where the entries are in it.
pub(super) fn file_bytes(
    header: &Header,
    vote: Option<&Vote>,
    committed: Option<u64>,
    entries: Vec<Entry>,
) -> (Vec<u8>, VecDeque<Slot>) {
    let mut bytes = file::header_bytes(header);
    if let Some(vote) = vote {
        let mut item = Vec::new();
        put_vote(&mut item, vote, committed);
        bytes.extend_from_slice(&item);
    }
    let mut slots = VecDeque::with_capacity(entries.len());
    for entry in entries {
        let (kind, body) = codec::payload_bytes(&entry.payload);
        let term = term_of(&entry.log_id);
        let index = entry.log_id.index;
        // The file is written whole: in it, each item is a write of its own.
        let mut item = Vec::new();
        file::put_item(
            &mut item,
            &Item { kind: ItemKind::Entry(kind), index, term, committed },
            &body,
        );
        bytes.extend_from_slice(&item);
        let at = position(bytes.len() - body.len());
        slots.push_back(Slot { term, kind, at, length: body.len(), body: Some(body) });
    }
    debug_assert!(bytes.len() >= HEADER_BYTES);
    (bytes, slots)
}

pub(super) fn log_name(first: u64) -> String {
    format!("{first:020}.log")
}

pub(super) fn snapshot_name(offset: MetadataOffset) -> String {
    format!("{:020}.snapshot", offset.0)
}

/// Writes a whole file and opens it to go on.
pub(super) fn begin(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<AppendFile> {
    write_atomically(disk, path, bytes)?;
    AppendFile::open(disk, path, position(bytes.len()))
}

/// Removes the log files and snapshots that others have taken the place of.
pub(super) fn remove_others(
    disk: &dyn Disk,
    directory: &Path,
    log: &Path,
    snapshot: Option<&Path>,
) -> io::Result<()> {
    for name in disk.list(directory)? {
        let path = directory.join(&name);
        let ours = name.ends_with(".log") || name.ends_with(".snapshot");
        if ours && path != log && Some(&*path) != snapshot {
            files::remove(disk, &path)?;
        }
    }
    disk.sync_dir(directory)
}

/// The configuration of a log that began when there was one node only.
pub(super) fn founders(membership: super::types::Membership) -> StoredMembership {
    StoredMembership::new(Some(log_id(snapshot::FIRST_TERM, 0)), membership)
}
