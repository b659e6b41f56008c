//! The only door to files.
//!
//! [`super::disk_real::RealDisk`] is the operating system; [`super::disk_sim::SimDisk`] keeps what
//! was written apart from what would survive a crash. Whatever runs on one runs on the other, and
//! one suite of tests holds both to the same contract:
//!
//! - a write is visible to reads at once, and survives a crash only after `sync_data`;
//! - a created, renamed or removed entry survives a crash only after `sync_dir` of its directory;
//! - writes go through, or fail as a whole as far as the caller may assume.

use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

/// Size of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All bytes.
    pub total: u64,
    /// Bytes that may still be written.
    pub free: u64,
}

/// A held lock on a directory; released when dropped.
pub trait DirLock: Send + Sync + fmt::Debug {}

/// Files and directories.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a file for reading and writing; creates it if `create` says so.
    ///
    /// # Errors
    /// The operating system's; `NotFound` without `create`.
    fn open(&self, path: &Path, create: Create) -> io::Result<Arc<dyn DiskFile>>;

    /// [`Disk::open`] for files of which there are many: the file may be closed when it is not used,
    /// and opened again by its path when it is. Before it is renamed, replaced or removed while it is
    /// in use, it must be kept open.
    ///
    /// # Errors
    /// As [`Disk::open`].
    fn open_bounded(&self, path: &Path, create: Create) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path, create)
    }

    /// Creates a directory and its parents; fine if it is there.
    ///
    /// # Errors
    /// The operating system's.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Renames a file or directory over whatever `to` is.
    ///
    /// # Errors
    /// The operating system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The operating system's.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and what is in it.
    ///
    /// # Errors
    /// The operating system's.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Names in a directory, sorted; those that are not UTF-8 are left out.
    ///
    /// # Errors
    /// The operating system's.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Makes the entries of a directory durable.
    ///
    /// # Errors
    /// The operating system's. Final: what survives is then unknown.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Whether something is at `path`.
    fn exists(&self, path: &Path) -> bool;

    /// Size of the file system `path` is on.
    ///
    /// # Errors
    /// The operating system's.
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// A handle on the file system `path` is on, to sync all of it at once; `None` where one call
    /// cannot be relied on for that. To be opened before the writes it is to vouch for: what failed
    /// to reach the disk earlier is not reported.
    ///
    /// # Errors
    /// The operating system's.
    fn file_system(&self, path: &Path) -> io::Result<Option<Arc<dyn FileSystem>>>;

    /// Locks a directory against other processes.
    ///
    /// # Errors
    /// `WouldBlock` if another process holds it, or the operating system's.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>>;
}

/// A whole file system.
pub trait FileSystem: Send + Sync + fmt::Debug {
    /// Makes everything durable that was written or changed on it, entries of directories too.
    ///
    /// # Errors
    /// The operating system's. Final, as for [`DiskFile::sync_data`], for every file on it.
    fn sync(&self) -> io::Result<()>;
}

/// Whether opening a file may create it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// It must be there.
    Never,
    /// It is created empty if it is not there.
    IfMissing,
}

/// An open file.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Writes all of `parts`, one after another, at `position`.
    ///
    /// # Errors
    /// The operating system's; what is at `position` is then unknown.
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()>;

    /// Fills `buffer` from `position`. Returns fewer bytes only at the end of the file.
    ///
    /// # Errors
    /// The operating system's; `WouldBlock` where the thread must not wait for the disk
    /// ([`super::waiting`]) and would have to.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// Makes the file at least `length` bytes long, with blocks assigned, so that writes below do
    /// not run out of space.
    ///
    /// # Errors
    /// `StorageFull`, or the operating system's; the file is then as it was.
    fn allocate(&self, length: u64) -> io::Result<()>;

    /// Cuts or extends the file.
    ///
    /// # Errors
    /// The operating system's.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// The file's length.
    ///
    /// # Errors
    /// The operating system's.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file is empty.
    ///
    /// # Errors
    /// The operating system's.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// An offset not beyond `length` from which on all bytes up to there are known to be zero without
    /// reading them: space that was assigned and not written. `length` where nothing is known.
    ///
    /// # Errors
    /// The operating system's.
    fn zero_from(&self, length: u64) -> io::Result<u64> {
        Ok(length)
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// The operating system's. Final: never to be repeated, what survives is unknown.
    fn sync_data(&self) -> io::Result<()>;

    /// The whole file system is about to be synced in place of the file: [`Self::check_synced`] will
    /// be asked.
    fn begin_shared_sync(&self) {}

    /// Keeps a bounded file open from now on: its path is about to lead elsewhere.
    ///
    /// # Errors
    /// The operating system's, of a file that has to be opened first.
    fn keep_open(&self) -> io::Result<()> {
        Ok(())
    }

    /// The file has been renamed to `path`, and may be closed when it is not used.
    fn on_moved(&self, path: &Path) {
        let _path = path;
    }

    /// Whether an earlier sync of this file failed where nobody waited for it. To be asked after the
    /// whole file system was synced in place of the file, as [`Self::begin_shared_sync`] announced.
    ///
    /// # Errors
    /// It did. Final, as for [`Self::sync_data`].
    fn check_synced(&self) -> io::Result<()> {
        Ok(())
    }

    /// Maps `length` bytes for reading. They may lie beyond the end of the file: only slices below
    /// what has been written are ever taken.
    ///
    /// # Errors
    /// The operating system's.
    fn map(&self, length: u64) -> io::Result<Arc<dyn Mapping>>;
}

/// A readable window on a file, from its start.
pub trait Mapping: Send + Sync + fmt::Debug {
    /// The bytes `[from, to)`. They stay readable while the slice lives, also after the file is
    /// removed. Empty if the range is not within the mapping.
    ///
    /// # Errors
    /// The operating system's, of a file that has to be mapped again first.
    fn slice(&self, from: u64, to: u64) -> io::Result<Bytes>;

    /// Length of the mapped range.
    fn len(&self) -> u64;

    /// Whether the bytes `[from, to)` can be read without waiting for the disk.
    ///
    /// # Errors
    /// The operating system's.
    fn is_in_memory(&self, from: u64, to: u64) -> io::Result<bool> {
        let _range = (from, to);
        Ok(true)
    }

    /// Waits until the bytes `[from, to)` are in memory.
    ///
    /// # Errors
    /// The operating system's: they cannot be read.
    fn load(&self, from: u64, to: u64) -> io::Result<()> {
        let _range = (from, to);
        Ok(())
    }

    /// Whether nothing is mapped.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Whether an operation failed only because the process or the machine has too many files open.
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

/// Who makes durable what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncs {
    /// Whoever writes it, at once.
    Own,
    /// Whoever has it written, many files at once with the file system, before any is relied on.
    Shared,
}

/// A small file that is written and does not have its name yet, so that a crash leaves either what
/// has the name now or all of this.
#[derive(Debug)]
#[must_use = "the file has not got its name"]
pub struct Aside {
    path: PathBuf,
}

impl Aside {
    /// Writes what is going to be at `path`.
    ///
    /// # Errors
    /// The operating system's; nothing is left behind.
    pub fn write(disk: &dyn Disk, path: PathBuf, content: &[u8], syncs: Syncs) -> io::Result<Self> {
        let aside = Self { path };
        let temporary = aside.temporary();
        let write = || {
            let file = disk.open(&temporary, Create::IfMissing)?;
            file.set_len(0)?;
            file.write_at(&[IoSlice::new(content)], 0)?;
            if syncs == Syncs::Own { file.sync_data() } else { Ok(()) }
        };
        write().inspect_err(|_| {
            // On a full disk every block counts; otherwise the next start removes it.
            let _left = disk.remove_file(&temporary);
        })?;
        Ok(aside)
    }

    /// Gives it its name. To be called once the content is durable; durable itself with the
    /// directory.
    ///
    /// # Errors
    /// The operating system's.
    pub fn take_place(self, disk: &dyn Disk) -> io::Result<()> {
        disk.rename(&self.temporary(), &self.path)
    }

    fn temporary(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".tmp");
        PathBuf::from(name)
    }
}

/// Replaces a small file as a whole: either the old content survives a crash or the new.
///
/// # Errors
/// The operating system's.
pub fn write_atomically(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    Aside::write(disk, path.to_owned(), content, Syncs::Own)?.take_place(disk)?;
    match path.parent() {
        Some(directory) => disk.sync_dir(directory),
        None => Ok(()),
    }
}

/// Bytes read at once to be written again.
const AGAIN_BYTES: usize = 1024 * 1024;

/// Writes what a file holds between two positions once more, as it is. After a sync that failed, in the
/// process before, Linux keeps the pages as if they were written: they can be read, and what is not
/// written again no later sync takes to the disk.
///
/// # Errors
/// The operating system's; `UnexpectedEof` where the file ends before.
pub fn write_again(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let mut buffer = Vec::new();
    let mut at = from;
    while at < to {
        let left = usize::try_from(to - at).unwrap_or(usize::MAX);
        buffer.resize(left.min(AGAIN_BYTES), 0);
        let read = file.read_at(&mut buffer, at)?;
        let bytes = buffer.get(..read).filter(|bytes| !bytes.is_empty());
        let bytes = bytes.ok_or(io::ErrorKind::UnexpectedEof)?;
        file.write_at(&[IoSlice::new(bytes)], at)?;
        at += u64::try_from(read).unwrap_or(u64::MAX);
    }
    Ok(())
}

/// Reads a whole file, or `None` if there is none or it is longer than `limit`.
///
/// # Errors
/// The operating system's, but `NotFound`.
pub fn read_whole(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, Create::Never) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.len()?;
    if length > limit {
        return Ok(None);
    }
    let mut content = vec![0; usize::try_from(length).unwrap_or(0)];
    let read = file.read_at(&mut content, 0)?;
    content.truncate(read);
    Ok(Some(content))
}
