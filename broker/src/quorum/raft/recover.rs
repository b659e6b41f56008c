//! Opening what a node of the metadata log keeps on disk, whoever wrote it: this version, or the one
//! before, whose log had one node and no votes.
//!
//! Nothing is guessed: a file that is missing, damaged, or newer is refused with a sentence, and left as
//! it is. Only a torn last write is cut, which was never acknowledged.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use openraft::LogId;

use crate::base::disk::Disk;
use crate::metadata::decode_records;

use super::super::files::{self, AppendFile, TEMPORARY};
use super::super::local::{self, LocalLogOptions, OpenError, TornTail};
use super::super::{Recovered, Snapshot};
use super::codec::{self, Kind};
use super::file::{self, Header, ItemKind, ReadFile};
use super::snapshot::{self, FIRST_TERM, RaftSnapshot};
use super::store::{self, Slot, Store};
use super::types::{
    Entry, Member, SnapshotMeta, StoredMembership, Vote, alone, index_of, log_id, offset_of,
    votes_alone,
};

/// How a node comes to its log if there is none.
#[derive(Clone, Debug)]
pub(super) enum Beginning {
    /// It founds the log, and is its only voter.
    Founds,
    /// It is told by others.
    Joins,
    /// It must be there: without its votes this disk could vote twice.
    Existed,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) store: Store,
    /// What is known to be committed.
    pub(super) recovered: Recovered,
    /// Where that ends.
    pub(super) applied: Option<LogId<u64>>,
    /// The configuration there.
    pub(super) membership: StoredMembership,
    /// Whether this node is all it takes to commit, by the last configuration it knows.
    pub(super) alone: bool,
    pub(super) torn: Option<TornTail>,
}

/// A log as it was read, of either version.
struct Found {
    path: PathBuf,
    header: Header,
    vote: Option<Vote>,
    committed: Option<u64>,
    slots: VecDeque<Slot>,
    end: usize,
    torn: usize,
}

/// Opens the log of node `raft_id`, or begins one.
///
/// # Errors
/// It cannot be read, or not be trusted. Nothing was changed then.
pub(super) fn open(
    options: &LocalLogOptions,
    raft_id: u64,
    member: &Member,
    beginning: Beginning,
) -> Result<Opened, OpenError> {
    let disk = &**options.directory.disk();
    let directory = options.directory.path().join(local::DIRECTORY);
    files::create_dir(disk, &directory).map_err(io_error(&directory))?;
    let names = disk.list(&directory).map_err(io_error(&directory))?;
    let founder = store::founders(alone(raft_id, member.clone()));
    let snapshot = newest_snapshot(options, &directory, &names)?;
    let meta = snapshot.as_ref().map(|found| found.meta(&founder));
    let found = match newest_log(options, &directory, &names)? {
        Some(found) => found,
        None => match read_version_1(options, &directory, &names, raft_id, &founder)? {
            Some((header, vote, entries)) => {
                write_log(disk, &directory, header, Some(vote), entries)?
            }
            None => begin(options, &directory, &founder, raft_id, snapshot.is_some(), beginning)?,
        },
    };
    let found = after_snapshot(options, &directory, meta.as_ref(), found)?;
    let path = found.path.clone();
    let opened = assemble(options, directory.clone(), raft_id, snapshot, meta, found)?;
    for name in names.iter().filter(|name| name.ends_with(TEMPORARY)) {
        files::remove(disk, &directory.join(name)).map_err(io_error(&directory))?;
    }
    let newest = opened.store.snapshot.as_ref().and_then(|meta| meta.last_log_id);
    let newest = newest.map(|id| directory.join(store::snapshot_name(offset_of(id.index))));
    let is_old = |name: &String| {
        let (path_of, is_ours) =
            (directory.join(name), name.ends_with(local::LOG) || name.ends_with(local::SNAPSHOT));
        is_ours && path_of != path && Some(&path_of) != newest.as_ref()
    };
    if names.iter().any(is_old) {
        store::remove_others(disk, &directory, &path, newest.as_deref())
            .map_err(io_error(&directory))?;
    }
    Ok(opened)
}

fn io_error(path: &Path) -> impl Fn(std::io::Error) -> OpenError {
    move |error| OpenError::Io { path: path.to_path_buf(), reason: error.to_string() }
}

fn unusable(path: &Path) -> impl Fn(String) -> OpenError {
    move |reason| OpenError::Unusable { path: path.to_path_buf(), reason }
}

/// The newest snapshot. A damaged one is never passed over for an older: the entries between them are
/// gone.
fn newest_snapshot(
    options: &LocalLogOptions,
    directory: &Path,
    names: &[String],
) -> Result<Option<RaftSnapshot>, OpenError> {
    let Some(offset) = local::offsets(names, local::SNAPSHOT).pop() else { return Ok(None) };
    let path = directory.join(store::snapshot_name(offset));
    let bytes = local::read_file(&**options.directory.disk(), &path)?;
    let (of, found) = snapshot::decode(&bytes).map_err(unusable(&path))?;
    local::check_cluster(of, options.cluster_id).map_err(unusable(&path))?;
    if found.snapshot.offset != offset {
        return Err(unusable(&path)(format!("it ends with entry {}", found.snapshot.offset)));
    }
    Ok(Some(found))
}

/// The log file of this version that begins last, if there is one.
fn newest_log(
    options: &LocalLogOptions,
    directory: &Path,
    names: &[String],
) -> Result<Option<Found>, OpenError> {
    for first in local::offsets(names, local::LOG).into_iter().rev() {
        let path = directory.join(store::log_name(index_of(first)));
        let bytes = local::read_file(&**options.directory.disk(), &path)?;
        if file::version(&bytes).is_some_and(|version| version < file::FILE_VERSION) {
            continue;
        }
        let read = file::read(&bytes).map_err(unusable(&path))?;
        local::check_cluster(read.header.cluster_id, options.cluster_id)
            .map_err(unusable(&path))?;
        if offset_of(read.header.first) != first {
            return Err(unusable(&path)(format!("it begins at entry {}", read.header.first)));
        }
        return fold(path.clone(), &bytes, read).map(Some).map_err(unusable(&path));
    }
    Ok(None)
}

/// What the items of a file come to.
fn fold(path: PathBuf, bytes: &[u8], read: ReadFile) -> Result<Found, String> {
    let ReadFile { header, items, end, torn } = read;
    let slots = VecDeque::new();
    let mut found = Found { path, header, vote: None, committed: None, slots, end, torn };
    for (item, body) in items {
        found.committed = found.committed.max(item.committed);
        let next =
            header.first.saturating_add(u64::try_from(found.slots.len()).unwrap_or(u64::MAX));
        match item.kind {
            ItemKind::Entry(kind) if item.index == next => {
                let at = u64::try_from(body.start).unwrap_or(u64::MAX);
                let length = body.len();
                let body = bytes.get(body).map(Bytes::copy_from_slice);
                found.slots.push_back(Slot { term: item.term, kind, at, length, body });
            }
            ItemKind::Entry(_) => {
                return Err(format!("entry {next} is missing: entry {} follows", item.index));
            }
            ItemKind::Vote => {
                found.vote = Some(store::take_vote(bytes.get(body).unwrap_or_default())?);
            }
            ItemKind::Truncate if (header.first..=next).contains(&item.index) => {
                let keep = item.index - header.first;
                found.slots.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
            }
            ItemKind::Truncate => {
                return Err(format!("entries from {} on are void, which it never had", item.index));
            }
        }
    }
    Ok(found)
}

/// The log of a version 1 directory: all of it was written by its only node, in the first term.
fn read_version_1(
    options: &LocalLogOptions,
    directory: &Path,
    names: &[String],
    raft_id: u64,
    founder: &StoredMembership,
) -> Result<Option<(Header, Vote, Vec<Entry>)>, OpenError> {
    if local::offsets(names, local::LOG).is_empty() {
        return Ok(None);
    }
    let offset = local::offsets(names, local::SNAPSHOT).pop().unwrap_or_default();
    let snapshot = Snapshot { offset, records: Vec::new() };
    let (old, _) = local::read_logs(options, directory, names, &snapshot)?;
    let after_snapshot = index_of(offset) > 0;
    let first = if after_snapshot { index_of(offset).saturating_add(1) } else { 0 };
    let mut entries = Vec::with_capacity(old.len() + 1);
    if !after_snapshot {
        let payload = openraft::EntryPayload::Membership(founder.membership().clone());
        entries.push(Entry { log_id: log_id(FIRST_TERM, 0), payload });
    }
    entries.extend(old.into_iter().map(|entry| Entry {
        log_id: log_id(FIRST_TERM, index_of(entry.offset)),
        payload: openraft::EntryPayload::Normal(
            crate::metadata::encode_records(&entry.records).into(),
        ),
    }));
    let term_before = if after_snapshot { FIRST_TERM } else { 0 };
    let header = Header { cluster_id: options.cluster_id, first, term_before };
    Ok(Some((header, Vote::new_committed(FIRST_TERM, raft_id), entries)))
}

/// The first log of a directory.
fn begin(
    options: &LocalLogOptions,
    directory: &Path,
    founder: &StoredMembership,
    raft_id: u64,
    has_snapshot: bool,
    beginning: Beginning,
) -> Result<Found, OpenError> {
    let disk = &**options.directory.disk();
    let missing = || unusable(directory)("its log is missing: restore it from a backup".to_owned());
    if has_snapshot {
        return Err(missing());
    }
    let header = Header { cluster_id: options.cluster_id, first: 0, term_before: 0 };
    match beginning {
        Beginning::Existed => Err(missing()),
        Beginning::Joins => write_log(disk, directory, header, None, Vec::new()),
        Beginning::Founds => {
            let payload = openraft::EntryPayload::Membership(founder.membership().clone());
            let entry = Entry { log_id: log_id(FIRST_TERM, 0), payload };
            let vote = Vote::new_committed(FIRST_TERM, raft_id);
            write_log(disk, directory, header, Some(vote), vec![entry])
        }
    }
}

fn write_log(
    disk: &dyn Disk,
    directory: &Path,
    header: Header,
    vote: Option<Vote>,
    entries: Vec<Entry>,
) -> Result<Found, OpenError> {
    let path = directory.join(store::log_name(header.first));
    let committed = entries.last().map(|entry| entry.log_id.index);
    let (bytes, slots) = store::file_bytes(&header, vote.as_ref(), committed, entries);
    crate::base::disk::write_atomically(disk, &path, &bytes).map_err(io_error(&path))?;
    Ok(Found { path, header, vote, committed, slots, end: bytes.len(), torn: 0 })
}

/// A log that goes on from the snapshot. A crash may have come between a snapshot of the leader's and the
/// log that follows it: then what the log holds is void.
fn after_snapshot(
    options: &LocalLogOptions,
    directory: &Path,
    meta: Option<&SnapshotMeta>,
    found: Found,
) -> Result<Found, OpenError> {
    let last = meta.and_then(|meta| meta.last_log_id);
    let Some(last) = last else {
        return if found.header.first == 0 {
            Ok(found)
        } else {
            let reason =
                format!("it begins at entry {}, and no snapshot is there", found.header.first);
            Err(unusable(&found.path)(reason))
        };
    };
    let next = last.index.saturating_add(1);
    if found.header.first > next {
        let reason =
            format!("it begins at entry {}, but entry {next} is nowhere", found.header.first);
        return Err(unusable(&found.path)(reason));
    }
    let term = match last.index.checked_sub(found.header.first) {
        Some(at) => {
            usize::try_from(at).ok().and_then(|at| found.slots.get(at)).map(|slot| slot.term)
        }
        None => Some(found.header.term_before),
    };
    if term == Some(last.leader_id.term) {
        return Ok(found);
    }
    let (cluster_id, term_before) = (options.cluster_id, last.leader_id.term);
    let header = Header { cluster_id, first: next, term_before };
    write_log(&**options.directory.disk(), directory, header, found.vote, Vec::new())
}

fn assemble(
    options: &LocalLogOptions,
    directory: PathBuf,
    raft_id: u64,
    snapshot: Option<RaftSnapshot>,
    meta: Option<SnapshotMeta>,
    found: Found,
) -> Result<Opened, OpenError> {
    let disk = Arc::clone(options.directory.disk());
    let end = u64::try_from(found.end).unwrap_or(u64::MAX);
    let file = AppendFile::reopen(&*disk, &found.path, end).map_err(io_error(&found.path))?;
    let cached_bytes = found.slots.iter().map(|slot| slot.length).sum();
    let mut store = Store {
        disk,
        data_directory: Arc::clone(&options.directory),
        directory,
        cluster_id: options.cluster_id,
        snapshot_due: end.saturating_add(options.snapshot_after_bytes.max(1)),
        file,
        vote: found.vote,
        committed: found.committed,
        first: found.header.first,
        term_before: found.header.term_before,
        slots: found.slots,
        cached_bytes,
        snapshot: meta,
        snapshot_after_bytes: options.snapshot_after_bytes.max(1),
        offline: None,
    };
    let base = snapshot.map(|found| found.snapshot).unwrap_or_default();
    let (committed, alone) = committed_end(&store, raft_id).map_err(unusable(&found.path))?;
    let (entries, membership) =
        replayed(&store, &base, committed).map_err(unusable(&found.path))?;
    store.committed = store.committed.max(committed);
    store.trim_cache();
    let applied = committed.and_then(|index| Some(log_id(store.term_at(index)?, index)));
    let torn = (found.torn > 0).then_some(TornTail { bytes: found.torn });
    let recovered = Recovered { snapshot: base, entries };
    Ok(Opened { store, recovered, applied, membership, alone, torn })
}

/// The last entry that is certainly committed: all there is, if this node alone votes; and whether it
/// does.
fn committed_end(store: &Store, raft_id: u64) -> Result<(Option<u64>, bool), String> {
    let in_snapshot = store.snapshot.as_ref().and_then(|meta| meta.last_log_id).map(|id| id.index);
    let (effective, _) = memberships(store, None)?;
    let last = store.last().map(|id| id.index);
    let alone = effective.is_some_and(|stored| votes_alone(stored.membership(), raft_id));
    let certain = if alone { last } else { store.committed.min(last) };
    Ok((certain.max(in_snapshot), alone))
}

/// The last configuration up to `end`, and how many there are in the log.
fn memberships(
    store: &Store,
    end: Option<u64>,
) -> Result<(Option<StoredMembership>, usize), String> {
    let mut last = store.snapshot.as_ref().map(|meta| meta.last_membership.clone());
    let mut count = 0;
    for (slot, index) in store.slots.iter().zip(store.first..) {
        let newer =
            last.as_ref().and_then(|stored| *stored.log_id()).is_none_or(|id| id.index < index);
        if slot.kind != Kind::Membership || !newer || end.is_some_and(|end| index > end) {
            continue;
        }
        let id = log_id(slot.term, index);
        let body = slot.body.clone().unwrap_or_default();
        let entry =
            codec::entry(id, slot.kind, body).map_err(|error| format!("entry {index}: {error}"))?;
        if let openraft::EntryPayload::Membership(membership) = entry.payload {
            last = Some(StoredMembership::new(Some(id), membership));
            count += 1;
        }
    }
    Ok((last, count))
}

/// The committed entries after the snapshot, and the configuration at their end.
fn replayed(
    store: &Store,
    base: &Snapshot,
    committed: Option<u64>,
) -> Result<(Vec<super::super::Entry>, StoredMembership), String> {
    let mut entries = Vec::new();
    for (slot, index) in store.slots.iter().zip(store.first..) {
        let offset = offset_of(index);
        if offset <= base.offset || committed.is_none_or(|end| index > end) {
            continue;
        }
        let records = match slot.kind {
            Kind::Records => decode_records(slot.body.as_deref().unwrap_or_default())
                .map_err(|error| format!("entry {index}: {error}"))?,
            Kind::Blank | Kind::Membership => Vec::new(),
        };
        entries.push(super::super::Entry { offset, records });
    }
    let (membership, _) = match committed {
        Some(end) => memberships(store, Some(end))?,
        None => (None, 0),
    };
    Ok((entries, membership.unwrap_or_default()))
}
