//! [`Disk`] as the operating system has it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::fs::{
    CWD, FallocateFlags, FlockOperation, Mode, OFlags, ResolveFlags, SeekFrom, openat2, seek,
};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::disk::{Create, DirLock, Disk, DiskFile, FileSystem, Mapping, Space, is_exhausted};
use super::handles::{HandleLimits, Handles};
use super::waiting::may_wait;
use crate::storage::mmap;

/// Written stretches of a file looked at in search of its last.
const STRETCHES_MAX: usize = 64;

/// Files are the broker's alone.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// Name of the file that carries a directory's lock.
const LOCK_FILE: &str = ".lock";

/// File systems (`f_type` of statfs) that are known to do what they say: ext4, XFS, Btrfs, F2FS,
/// tmpfs. Their `syncfs` writes everything, waits for the disk, and reports what failed (tmpfs has
/// nothing to sync); others may do nothing and say success, as FUSE does. What they call a hole was
/// never written; others have called fresh data so (OpenZFS 15526).
const WELL_KNOWN: [u64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];

/// The machine's file systems.
#[derive(Debug)]
pub struct RealDisk {
    handles: Arc<Handles>,
    /// A descriptor to give up when all others are taken: a directory must be opened to be synced,
    /// and a sync that cannot be done must not be counted as one that failed.
    spare: Mutex<Option<File>>,
}

impl RealDisk {
    /// The machine's file systems, with as many bounded files open as `limits` say.
    #[must_use]
    pub fn with_limits(limits: HandleLimits) -> Self {
        Self { handles: Handles::new(limits), spare: Mutex::new(spare()) }
    }

    /// The machine's file systems, with the limits of this process.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limits(HandleLimits::of_process())
    }

    /// Syncs of files and whole file systems so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.handles.syncs.load(Ordering::Relaxed)
    }
}

impl Default for RealDisk {
    fn default() -> Self {
        Self::new()
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Opens a file for reading and writing. Where the thread must not wait, only one that is found
/// without the disk.
pub(super) fn open_file(path: &Path, create: Create) -> io::Result<File> {
    if create == Create::Never && !may_wait() {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED) {
            // A kernel or a sandbox without it.
            Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => {}
            opened => return Ok(File::from(opened?)),
        }
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create == Create::IfMissing)
        .truncate(false)
        .mode(FILE_MODE)
        .open(path)
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, create: Create) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.handles.with_room(|| open_file(path, create))?;
        Ok(Arc::new(RealFile::new(file, self.handles.syncs.clone())))
    }

    fn open_bounded(&self, path: &Path, create: Create) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(self.handles.file(path, create)?))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.handles.with_room(|| fs::remove_dir_all(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.handles.with_room(|| fs::read_dir(path))? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match self.handles.with_room(|| File::open(path)) {
            Err(error) if is_exhausted(&error) => {
                let mut spare = self.spare.lock();
                *spare = None;
                let synced = File::open(path).and_then(|directory| directory.sync_all());
                *spare = self::spare();
                synced
            }
            opened => opened?.sync_all(),
        }
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Space {
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }

    fn file_system(&self, path: &Path) -> io::Result<Option<Arc<dyn FileSystem>>> {
        let directory = File::open(path)?;
        if is_well_known(&directory)? {
            Ok(Some(Arc::new(RealFileSystem { directory, syncs: self.handles.syncs.clone() })))
        } else {
            Ok(None)
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path.join(LOCK_FILE))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(Locked { _file: file }))
    }
}

fn is_well_known(file: &File) -> io::Result<bool> {
    let kind = u64::try_from(rustix::fs::fstatfs(file)?.f_type).unwrap_or(0);
    Ok(WELL_KNOWN.contains(&kind))
}

#[derive(Debug)]
struct RealFileSystem {
    directory: File,
    syncs: Arc<AtomicU64>,
}

impl FileSystem for RealFileSystem {
    fn sync(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(rustix::fs::syncfs(&self.directory)?)
    }
}

/// The lock goes with the descriptor.
#[derive(Debug)]
struct Locked {
    _file: File,
}

impl DirLock for Locked {}

#[derive(Debug)]
pub(super) struct RealFile {
    file: File,
    syncs: Arc<AtomicU64>,
}

impl RealFile {
    pub(super) fn new(file: File, syncs: Arc<AtomicU64>) -> Self {
        Self { file, syncs }
    }

    pub(super) fn as_file(&self) -> &File {
        &self.file
    }

    fn read_some(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        if !may_wait() {
            let mut buffers = [IoSliceMut::new(buffer)];
            match preadv2(&self.file, &mut buffers, position, ReadWriteFlags::NOWAIT) {
                // A file system that cannot tell: those that live in memory, for one.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
                read => return Ok(read?),
            }
        }
        self.file.read_at(buffer, position)
    }
}

impl DiskFile for RealFile {
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut written = retry(|| Ok(rustix::io::pwritev(&self.file, parts, position)?))?;
        // A short write is rare (a signal, a full disk): finish it part by part.
        let mut skip = written;
        for part in parts {
            if skip >= part.len() {
                skip -= part.len();
                continue;
            }
            let rest = part.get(skip..).unwrap_or_default();
            skip = 0;
            let at = position + u64::try_from(written).unwrap_or(u64::MAX);
            self.file.write_all_at(rest, at)?;
            written += rest.len();
        }
        debug_assert_eq!(written, total);
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut read = 0;
        while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
            let at = position + u64::try_from(read).unwrap_or(u64::MAX);
            match retry(|| self.read_some(rest, at))? {
                0 => break,
                count => read += count,
            }
        }
        Ok(read)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, length) {
            Ok(()) => Ok(()),
            // File systems without fallocate: the length alone must do.
            Err(Errno::OPNOTSUPP) => {
                if self.len()? < length {
                    self.set_len(length)
                } else {
                    Ok(())
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn zero_from(&self, length: u64) -> io::Result<u64> {
        if !is_well_known(&self.file)? {
            return Ok(length);
        }
        let mut data = 0;
        for _ in 0..STRETCHES_MAX {
            let hole = seek(&self.file, SeekFrom::Hole(data))?;
            match seek(&self.file, SeekFrom::Data(hole)) {
                Ok(next) if next < length => data = next,
                // No data behind it.
                Ok(_) | Err(Errno::NXIO) => return Ok(hole.min(length)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn map(&self, length: u64) -> io::Result<Arc<dyn Mapping>> {
        Ok(Arc::new(mmap::map(&self.file, length)?))
    }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
