//! The metadata log of a cluster of one: an append-only file under `DATA/quorum`.
//!
//! Committed means fsynced. A failed write or fsync takes the log offline until a restart: what is
//! on disk is not known, and the kernel may have dropped the dirty pages it failed to write. Files
//! are named by the offset they begin at (`.log`) or include (`.snapshot`).

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sawlog_protocol::Uuid;
use thiserror::Error;

use crate::base::DataDirectory;
use crate::base::disk::{Disk, write_atomically};
use crate::metadata::{MetadataOffset, Record};

use super::files::{self, AppendFile, TEMPORARY};
use super::log_file::{self, ReadLog};
use super::{
    Entry, LogError, LogEvent, LogRole, MetadataLog, Recovered, Snapshot, Wake, snapshot_file,
};

pub(super) const DIRECTORY: &str = "quorum";
pub(super) const LOG: &str = ".log";
pub(super) const SNAPSHOT: &str = ".snapshot";

/// Nobody ever votes here.
const ONLY_TERM: u64 = 1;

/// A log file without entries.
const HEADER_LENGTH: u64 = 40;
const _: () = assert!(log_file::HEADER_BYTES == 40);

/// Where the log is and how it is kept.
#[derive(Clone, Debug)]
pub struct LocalLogOptions {
    /// The data directory; the log lives in `quorum` below it.
    pub directory: Arc<DataDirectory>,
    /// The cluster it must belong to.
    pub cluster_id: Uuid,
    /// Bytes of log after which a snapshot is wanted.
    pub snapshot_after_bytes: u64,
}

/// The log cannot be opened. One line: where, why, and what to do if known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The operating system refused.
    #[error("cannot open {}: {reason}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// A file is damaged, of a newer version, or not what its name says. Nothing was changed.
    #[error("cannot use {}: {reason}", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A write that a crash cut short. It was never acknowledged, and is gone now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Bytes cut off.
    pub bytes: usize,
}

/// The metadata log of a cluster of one.
#[derive(Debug)]
pub struct LocalMetadataLog {
    disk: Arc<dyn Disk>,
    data_directory: Arc<DataDirectory>,
    directory: PathBuf,
    cluster_id: Uuid,
    snapshot_after_bytes: u64,
    /// Length of the file at which the next snapshot is wanted.
    snapshot_due: u64,
    file: AppendFile,
    /// The last entry written.
    last: MetadataOffset,
    /// What happened and was not told yet.
    events: Vec<LogEvent>,
    offline: Option<String>,
}

impl LocalMetadataLog {
    /// Opens the log, or begins one. Returns what it holds, and what had to be cut off its end.
    ///
    /// # Errors
    /// The log cannot be read, or not be trusted. Nothing is changed then.
    pub fn open(
        options: &LocalLogOptions,
    ) -> Result<(Self, Recovered, Option<TornTail>), OpenError> {
        let disk = &**options.directory.disk();
        let directory = options.directory.path().join(DIRECTORY);
        let opened = |path: &Path| {
            let path = path.to_path_buf();
            move |error: io::Error| OpenError::Io { path, reason: error.to_string() }
        };
        files::create_dir(disk, &directory).map_err(opened(&directory))?;
        let names = disk.list(&directory).map_err(opened(&directory))?;

        let snapshot = newest_snapshot(options, &directory, &names)?;
        let (entries, last_file) = read_logs(options, &directory, &names, &snapshot)?;
        let last = entries.last().map_or(snapshot.offset, |entry| entry.offset);
        let (path, length, torn) = match last_file {
            Some(last_file) => last_file,
            None => {
                let path = begin_file(disk, &directory, options.cluster_id, last.next())
                    .map_err(opened(&directory))?;
                (path, log_file::HEADER_BYTES, 0)
            }
        };
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let file = AppendFile::reopen(disk, &path, length).map_err(opened(&path))?;
        for name in names.iter().filter(|name| name.ends_with(TEMPORARY)) {
            let path = directory.join(name);
            files::remove(disk, &path).map_err(opened(&path))?;
        }
        let mut log = Self {
            snapshot_due: 0,
            disk: Arc::clone(options.directory.disk()),
            data_directory: Arc::clone(&options.directory),
            directory,
            cluster_id: options.cluster_id,
            snapshot_after_bytes: options.snapshot_after_bytes,
            file,
            last,
            events: vec![LogEvent::Role(LogRole::Leader { term: ONLY_TERM })],
            offline: None,
        };
        log.snapshot_due = log.due_after(HEADER_LENGTH);
        let torn = (torn > 0).then_some(TornTail { bytes: torn });
        Ok((log, Recovered { snapshot, entries }, torn))
    }

    /// Where the next snapshot is due if the last was at `length`.
    fn due_after(&self, length: u64) -> u64 {
        length.saturating_add(self.snapshot_after_bytes.max(1))
    }

    fn go_offline(&mut self, doing: &str, error: &io::Error) -> LogError {
        let reason = format!(
            "cannot {doing} in {}: {error}; restart the broker once the disk is well",
            self.directory.display()
        );
        self.data_directory.fail(&reason);
        self.offline = Some(reason.clone());
        LogError::Offline(reason)
    }

    fn no_space(&self) -> LogError {
        LogError::NoSpace(self.directory.display().to_string())
    }

    fn check_online(&self) -> Result<(), LogError> {
        self.offline.as_ref().map_or(Ok(()), |reason| Err(LogError::Offline(reason.clone())))
    }

    /// Snapshot, then a fresh log file, then the old ones go: at every moment what is there is
    /// enough.
    fn replace_log(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let disk = &*self.disk;
        let old = disk.list(&self.directory)?;
        let name = file_name(snapshot.offset, SNAPSHOT);
        let bytes = snapshot_file::encode(self.cluster_id, snapshot);
        write_atomically(disk, &self.directory.join(&name), &bytes)?;
        let path = begin_file(disk, &self.directory, self.cluster_id, snapshot.offset.next())?;
        self.file = AppendFile::open(disk, &path, HEADER_LENGTH)?;
        for stale in old.iter().filter(|stale| **stale != name) {
            let stale_path = self.directory.join(stale);
            if stale_path != path && (stale.ends_with(LOG) || stale.ends_with(SNAPSHOT)) {
                files::remove(disk, &stale_path)?;
            }
        }
        disk.sync_dir(&self.directory)
    }
}

impl MetadataLog for LocalMetadataLog {
    fn propose(&mut self, records: Vec<Record>) -> Result<MetadataOffset, LogError> {
        self.check_online()?;
        let offset = self.last.next();
        let bytes = log_file::encode_entry(offset, &records)?;
        let mut reserved = self.file.reserve(&bytes);
        if reserved.as_ref().is_err_and(|error| error.kind() == ErrorKind::StorageFull)
            && self.data_directory.on_full()
        {
            reserved = self.file.reserve(&bytes);
        }
        match reserved {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return Err(self.no_space()),
            Err(error) => return Err(self.go_offline("grow the metadata log", &error)),
        }
        let appended = self.file.append(&bytes);
        appended.map_err(|error| self.go_offline("append to the metadata log", &error))?;
        self.last = offset;
        self.events.push(LogEvent::Entry(Entry { offset, records }));
        Ok(offset)
    }

    fn poll(&mut self) -> Vec<LogEvent> {
        std::mem::take(&mut self.events)
    }

    /// Nothing happens but by `propose`, whose caller knows.
    fn on_news(&mut self, _: Wake) {}

    fn wants_snapshot(&self) -> bool {
        self.offline.is_none() && self.file.length() >= self.snapshot_due
    }

    fn store_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), LogError> {
        self.check_online()?;
        assert_eq!(snapshot.offset, self.last, "a snapshot that misses an entry would lose it");
        let replaced = self.replace_log(snapshot);
        self.snapshot_due = self.due_after(self.file.length());
        match replaced {
            Ok(()) => Ok(()),
            // At every step of it what is there is enough: the log goes on as it is.
            Err(error) if error.kind() == ErrorKind::StorageFull => {
                self.data_directory.on_full();
                Err(self.no_space())
            }
            Err(error) => Err(self.go_offline("store a snapshot", &error)),
        }
    }
}

fn file_name(offset: MetadataOffset, suffix: &str) -> String {
    format!("{:020}{suffix}", offset.0)
}

/// The offsets of the files with `suffix`, ascending.
pub(super) fn offsets(names: &[String], suffix: &str) -> Vec<MetadataOffset> {
    let mut offsets: Vec<_> = names
        .iter()
        .filter_map(|name| name.strip_suffix(suffix)?.parse().ok().map(MetadataOffset))
        .collect();
    offsets.sort_unstable();
    offsets
}

fn begin_file(
    disk: &dyn Disk,
    directory: &Path,
    cluster_id: Uuid,
    first: MetadataOffset,
) -> io::Result<PathBuf> {
    let path = directory.join(file_name(first, LOG));
    write_atomically(disk, &path, &log_file::header(cluster_id, first))?;
    Ok(path)
}

pub(super) fn read_file(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, OpenError> {
    let io = |reason: String| OpenError::Io { path: path.to_path_buf(), reason };
    let read = files::read(disk, path).map_err(|error| io(error.to_string()))?;
    read.ok_or_else(|| io("it is gone".to_owned()))
}

/// The newest snapshot. A damaged one is never passed over for an older: the log entries between
/// them are gone.
fn newest_snapshot(
    options: &LocalLogOptions,
    directory: &Path,
    names: &[String],
) -> Result<Snapshot, OpenError> {
    let Some(offset) = offsets(names, SNAPSHOT).pop() else {
        return Ok(Snapshot::default());
    };
    let path = directory.join(file_name(offset, SNAPSHOT));
    let unusable = |reason: String| OpenError::Unusable { path: path.clone(), reason };
    let (of, snapshot) =
        snapshot_file::decode(&read_file(&**options.directory.disk(), &path)?).map_err(unusable)?;
    check_cluster(of, options.cluster_id).map_err(unusable)?;
    if snapshot.offset != offset {
        return Err(unusable(format!("it is the snapshot at {}", snapshot.offset)));
    }
    Ok(snapshot)
}

pub(super) fn check_cluster(found: Uuid, expected: Uuid) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("it belongs to cluster {found}, not {expected}"))
    }
}

/// A log file to go on with: its path, where its last entry ends, bytes after that.
pub(super) type LastFile = (PathBuf, usize, usize);

/// The entries after the snapshot, without gaps, and the file to append to.
pub(super) fn read_logs(
    options: &LocalLogOptions,
    directory: &Path,
    names: &[String],
    snapshot: &Snapshot,
) -> Result<(Vec<Entry>, Option<LastFile>), OpenError> {
    let firsts = offsets(names, LOG);
    let mut entries: Vec<Entry> = Vec::new();
    let mut next = snapshot.offset.next();
    let mut last_file = None;
    for (at, first) in firsts.iter().enumerate() {
        let path = directory.join(file_name(*first, LOG));
        let unusable = |reason: String| OpenError::Unusable { path: path.clone(), reason };
        let ReadLog { cluster_id: of, first: begins, entries: found, end, torn } =
            log_file::read(&read_file(&**options.directory.disk(), &path)?).map_err(unusable)?;
        check_cluster(of, options.cluster_id).map_err(unusable)?;
        if begins != *first {
            return Err(unusable(format!("it begins at entry {begins}")));
        }
        if torn > 0 && at + 1 < firsts.len() {
            return Err(unusable(format!(
                "{torn} bytes at its end are damaged, and a later file exists"
            )));
        }
        if begins > next {
            return Err(unusable(format!(
                "it begins at entry {begins}, but entry {next} is nowhere"
            )));
        }
        for entry in found.into_iter().filter(|entry| entry.offset > snapshot.offset) {
            if entry.offset != next {
                return Err(unusable(format!("entry {next} is missing")));
            }
            next = next.next();
            entries.push(entry);
        }
        last_file = Some((path, end, torn));
    }
    // After a crash between snapshot and new file the last file ends where the snapshot does: it
    // gets no more entries, a new file does.
    let goes_on = !entries.is_empty() || firsts.last() == Some(&next);
    Ok((entries, last_file.filter(|_| goes_on)))
}

#[cfg(test)]
mod tests;
