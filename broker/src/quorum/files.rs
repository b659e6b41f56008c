//! What the metadata log and `meta` do with files, on top of the disk.
//!
//! Small files are written whole: a temporary file, sync, rename, sync of the directory. The log is
//! appended to at a known position and synced; it never grows behind the caller's back.

use std::io::{self, ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;

use crate::base::disk::{Create, Disk, DiskFile, read_whole};

/// Largest file read into memory: far above what snapshots and logs of a cluster come to.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Suffix of a file being written. One that is found was never finished.
pub(super) const TEMPORARY: &str = ".tmp";

/// The whole file, or `None` if there is none.
pub(super) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let read = read_whole(disk, path, FILE_BYTES_MAX)?;
    if read.is_none() && disk.exists(path) {
        let reason = format!("it has more than {FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(ErrorKind::InvalidData, reason));
    }
    Ok(read)
}

pub(super) fn remove(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A file that is appended to.
#[derive(Debug)]
pub(super) struct AppendFile {
    file: Arc<dyn DiskFile>,
    length: u64,
}

impl AppendFile {
    /// Opens a file and cuts it to `length`, durably.
    pub(super) fn open(disk: &dyn Disk, path: &Path, length: u64) -> io::Result<Self> {
        let file = disk.open(path, Create::Never)?;
        if file.len()? != length {
            file.set_len(length)?;
            file.sync_data()?;
        }
        Ok(Self { file, length })
    }

    /// Appends and syncs. After an error the end of the file is not known: do not go on.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(&[IoSlice::new(bytes)], self.length)?;
        self.file.sync_data()?;
        self.length = self.length.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }
}
