//! What the metadata log and `meta` do with files, on top of the disk.
//!
//! Small files are written whole: a temporary file, sync, rename, sync of the directory. The log is
//! appended to at a known position and synced; it never grows behind the caller's back.

use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::disk::{Create, Disk, DiskFile, read_whole, write_again};

/// Largest file read into memory: far above what snapshots and logs of a cluster come to.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Suffix of a file being written. One that is found was never finished.
pub(super) const TEMPORARY: &str = ".tmp";

/// The log's file grows by this much at a time: blocks are assigned before they are written, so a
/// full disk is noticed while nothing has happened yet.
const ALLOCATED_BYTES: u64 = 64 * 1024;

/// Makes a directory with its parents, durably.
pub(super) fn create_dir(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|above| !above.as_os_str().is_empty() && !disk.exists(above))
        .collect();
    disk.create_dir_all(path)?;
    for made in missing {
        let above = made.parent().filter(|above| !above.as_os_str().is_empty());
        disk.sync_dir(above.map_or(PathBuf::from("."), Path::to_path_buf).as_path())?;
    }
    Ok(())
}

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

/// A file that is appended to. Behind its end there may be zeros.
#[derive(Debug)]
pub(super) struct AppendFile {
    file: Arc<dyn DiskFile>,
    length: u64,
    allocated: u64,
}

impl AppendFile {
    /// Opens a file that was synced just now, as long as `length`.
    pub(super) fn open(disk: &dyn Disk, path: &Path, length: u64) -> io::Result<Self> {
        let file = disk.open(path, Create::Never)?;
        Ok(Self { file, length, allocated: length })
    }

    /// Opens the file of an earlier process, cuts it to `length` and makes it durable: who reads it acts
    /// by it. It is written once more for that. Where a sync has failed before, the page cache shows
    /// what the disk does not have, and counts as written.
    pub(super) fn reopen(disk: &dyn Disk, path: &Path, length: u64) -> io::Result<Self> {
        let file = disk.open(path, Create::Never)?;
        if file.len()? != length {
            file.set_len(length)?;
        }
        write_again(&*file, 0, length)?;
        file.sync_data()?;
        Ok(Self { file, length, allocated: length })
    }

    /// Makes room for `bytes` more.
    ///
    /// # Errors
    /// `StorageFull`, or the operating system's; the file is as it was.
    pub(super) fn reserve(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reserve_bytes(bytes.len())
    }

    /// Makes room for that many bytes more.
    ///
    /// # Errors
    /// `StorageFull`, or the operating system's; the file is as it was.
    pub(super) fn reserve_bytes(&mut self, bytes: usize) -> io::Result<()> {
        let end = self.length.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        if end > self.allocated {
            let step = end.next_multiple_of(ALLOCATED_BYTES);
            self.allocated = match self.file.allocate(step) {
                Ok(()) => step,
                // On a nearly full disk the entry may fit where the step does not.
                Err(error) if error.kind() == ErrorKind::StorageFull => {
                    self.file.allocate(end)?;
                    end
                }
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// Appends and syncs. After an error the end of the file is not known: do not go on.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(&[IoSlice::new(bytes)], self.length)?;
        self.file.sync_data()?;
        self.length = self.end_after(bytes);
        Ok(())
    }

    /// Reads bytes that were appended.
    ///
    /// # Errors
    /// The operating system's; `UnexpectedEof` if they are not all there.
    pub(super) fn read(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let read = self.file.read_at(&mut bytes, at)?;
        if read < length { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
    }

    fn end_after(&self, bytes: &[u8]) -> u64 {
        self.length.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }
}
