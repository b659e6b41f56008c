//! Open files and mappings, as many as the process may have.
//!
//! Segments are many, descriptors and mappings are not: those used least recently are given up when
//! others are needed, and are opened again by path when they are. Always holds: a file with writes
//! that are not synced is synced before it is closed, since a write that fails later would be
//! reported to nobody; bytes that were handed out keep their mapping, and an operation under way
//! keeps its file.
//!
//! A file that was removed while it was closed cannot be opened again: `NotFound`.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::error;

use super::disk::{Create, DiskFile, Mapping, is_exhausted};
use super::disk_real::{RealFile, open_file};
use crate::storage::mmap::{self, MappedFile};

/// Descriptors that segments and connections leave for everything else: listeners, quorum files,
/// directories while they are synced, files that are read once.
const DESCRIPTORS_RESERVED: u64 = 32;

/// Connections there is room for at least, where hardly any descriptors are allowed.
const CONNECTIONS_MIN: u64 = 16;

/// Mappings the kernel allows where it does not tell: its default.
const MAP_COUNT_DEFAULT: usize = 65_530;

/// How many may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandleLimits {
    /// Descriptors of files that can be opened again.
    pub files: usize,
    /// Mappings.
    pub mappings: usize,
    /// Descriptors of connections.
    pub connections: usize,
}

impl HandleLimits {
    /// What the process may have.
    #[must_use]
    pub fn of_process() -> Self {
        let allowed = std::fs::read_to_string("/proc/sys/vm/max_map_count");
        let allowed = allowed.ok().and_then(|text| text.trim().parse::<usize>().ok());
        let mappings = (allowed.unwrap_or(MAP_COUNT_DEFAULT) / 2).max(1);
        Self::of(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), mappings)
    }

    /// Two fifths of the descriptors for segments, most of the rest for connections.
    fn of(descriptors: u64, mappings: usize) -> Self {
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).max(1);
        let usable = descriptors.saturating_sub(DESCRIPTORS_RESERVED);
        let files = (descriptors / 5 * 2).min(usable.saturating_sub(CONNECTIONS_MIN));
        Self { files: count(files), mappings, connections: count(usable.saturating_sub(files)) }
    }
}

/// Lets the process have as many descriptors as the system allows it.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Where that is not allowed, the broker goes by the limit there is.
    let _refused = setrlimit(Resource::Nofile, raised);
}

/// The open files and mappings of a process.
#[derive(Debug)]
pub(super) struct Handles {
    files: Bounded<FileState>,
    mappings: Bounded<MapState>,
    /// Syncs so far.
    pub(super) syncs: Arc<AtomicU64>,
}

impl Handles {
    pub(super) fn new(limits: HandleLimits) -> Arc<Self> {
        Arc::new(Self {
            files: Bounded::new(limits.files),
            mappings: Bounded::new(limits.mappings),
            syncs: Arc::default(),
        })
    }

    /// A file that is open only when it is used. One that is to be created is opened at once.
    ///
    /// # Errors
    /// The operating system's; `NotFound` without `create`.
    pub(super) fn file(self: &Arc<Self>, path: &Path, create: Create) -> io::Result<BoundedFile> {
        let state = Arc::new(FileState {
            path: Mutex::new(path.to_owned()),
            kept: AtomicBool::new(false),
            handles: self.clone(),
            open: RwLock::new(None),
            used: AtomicU64::new(0),
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            shared: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        });
        match create {
            Create::Never => {
                path.metadata()?;
            }
            Create::IfMissing => state.open(&mut state.open.write(), create)?,
        }
        Ok(BoundedFile(state))
    }

    /// Runs what takes a descriptor for a moment; where there is none, files are closed for it.
    ///
    /// # Errors
    /// Those of `open`.
    pub(super) fn with_room<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        for _ in 0..ROOM_ATTEMPTS {
            match open() {
                Err(error) if is_exhausted(&error) => self.files.make_room(),
                opened => return opened,
            }
        }
        open()
    }
}

/// How often files are closed to make room for one that is needed at once.
const ROOM_ATTEMPTS: usize = 3;

/// What a [`Bounded`] set holds.
trait Evict {
    /// When it was last used, in the set's ticks.
    fn used(&self) -> u64;

    /// Whether giving it up takes long.
    fn is_costly(&self) -> bool;

    /// Gives it up. Returns whether it is: what is in use just now is kept.
    fn evict(&self) -> bool;
}

/// A set that lets go of what was used least recently when it is full.
#[derive(Debug)]
struct Bounded<T> {
    max: usize,
    /// Rises with every admission; what is used takes the value of the moment.
    tick: AtomicU64,
    open: Mutex<Vec<Weak<T>>>,
}

impl<T: Evict> Bounded<T> {
    fn new(max: usize) -> Self {
        Self { max, tick: AtomicU64::new(1), open: Mutex::new(Vec::new()) }
    }

    /// Notes `new`, which is about to be opened, and makes room for it.
    fn admit(&self, new: &Arc<T>) {
        self.tick.fetch_add(1, Ordering::Relaxed);
        let mut open = self.open.lock();
        let victims = if open.len() >= self.max { self.choose(&mut open, 0) } else { Vec::new() };
        open.push(Arc::downgrade(new));
        drop(open);
        self.evict(victims);
    }

    /// Lets go of some, however few there are: somebody else has used up what there is.
    fn make_room(&self) {
        let victims = self.choose(&mut self.open.lock(), 1);
        self.evict(victims);
    }

    fn evict(&self, victims: Vec<Arc<T>>) {
        let busy: Vec<_> = victims.into_iter().filter(|victim| !victim.evict()).collect();
        if !busy.is_empty() {
            self.open.lock().extend(busy.iter().map(Arc::downgrade));
        }
    }

    /// Takes at least `needed` out of the set, and what is above the limit. It takes an eighth, so
    /// that one search serves many admissions: what was used least recently, and of what takes long
    /// to give up no more than has to be.
    fn choose(&self, open: &mut Vec<Weak<T>>, needed: usize) -> Vec<Arc<T>> {
        let mut live: Vec<Arc<T>> = open.drain(..).filter_map(|weak| weak.upgrade()).collect();
        let needed = needed.max((live.len() + 1).saturating_sub(self.max));
        // Enough may have been dropped since.
        let wanted = if needed == 0 { 0 } else { needed.max(live.len() / 8).min(live.len()) };
        live.sort_by_cached_key(|handle| (handle.is_costly(), handle.used()));
        let kept = live.split_off(wanted);
        let cheap = live.iter().take_while(|handle| !handle.is_costly()).count();
        let spared = live.split_off(cheap.max(needed).min(live.len()));
        open.extend(kept.iter().chain(&spared).map(Arc::downgrade));
        live
    }

    fn touch(&self, used: &AtomicU64) {
        let now = self.tick.load(Ordering::Relaxed);
        if used.load(Ordering::Relaxed) != now {
            used.store(now, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
struct FileState {
    path: Mutex<PathBuf>,
    /// It must not be closed: its path leads elsewhere, or nowhere.
    kept: AtomicBool,
    handles: Arc<Handles>,
    /// Locked for reading while it is used, for writing only to open and to close it.
    open: RwLock<Option<RealFile>>,
    used: AtomicU64,
    /// Rises before and after each write: a sync vouches for those that had ended before it began.
    written: AtomicU64,
    /// The value of `written` the last sync vouches for.
    synced: AtomicU64,
    /// The value of `written` the sync of the file system under way will vouch for.
    shared: AtomicU64,
    /// A sync failed: what is on disk is not known.
    failed: AtomicBool,
}

impl FileState {
    /// Runs `use_it` on the file, which is opened if it is not.
    fn with<T>(self: &Arc<Self>, use_it: impl FnOnce(&RealFile) -> io::Result<T>) -> io::Result<T> {
        self.handles.files.touch(&self.used);
        let mut open = self.open.read();
        if open.is_none() {
            drop(open);
            let mut closed = self.open.write();
            self.open(&mut closed, Create::Never)?;
            open = RwLockWriteGuard::downgrade(closed);
        }
        match &*open {
            Some(file) => use_it(file),
            None => Err(io::Error::other("a file is closed that was just opened")),
        }
    }

    fn open(self: &Arc<Self>, slot: &mut Option<RealFile>, create: Create) -> io::Result<()> {
        if slot.is_some() {
            return Ok(());
        }
        let open = || open_file(&self.path.lock(), create);
        // The caller holds this file's lock, and whoever evicts passes over locked ones: no circle.
        self.handles.files.admit(self);
        *slot = Some(RealFile::new(self.handles.with_room(open)?, self.handles.syncs.clone()));
        Ok(())
    }

    /// Carries out what changes the file.
    fn change<T>(
        self: &Arc<Self>,
        change: impl FnOnce(&RealFile) -> io::Result<T>,
    ) -> io::Result<T> {
        self.check()?;
        self.with(|file| {
            self.written.fetch_add(1, Ordering::AcqRel);
            let changed = change(file);
            self.written.fetch_add(1, Ordering::AcqRel);
            changed
        })
    }

    fn sync(&self, file: &RealFile) -> io::Result<()> {
        let written = self.written.load(Ordering::Acquire);
        let synced = file.sync_data();
        match &synced {
            Ok(()) => drop(self.synced.fetch_max(written, Ordering::AcqRel)),
            Err(_) => self.failed.store(true, Ordering::Release),
        }
        synced
    }

    fn check(&self) -> io::Result<()> {
        if self.failed.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier sync of the file failed"));
        }
        Ok(())
    }
}

impl Evict for FileState {
    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn is_costly(&self) -> bool {
        self.written.load(Ordering::Acquire) != self.synced.load(Ordering::Acquire)
    }

    fn evict(&self) -> bool {
        let Some(mut open) = self.open.try_write() else { return false };
        if self.kept.load(Ordering::Acquire) {
            return false;
        }
        if let Some(file) = &*open
            && self.is_costly()
            && let Err(error) = self.sync(file)
        {
            // Whoever writes or syncs next is told; here nobody waits for an answer.
            let path = self.path.lock().clone();
            error!(path = %path.display(), %error, "cannot sync a file that is to be closed");
        }
        *open = None;
        true
    }
}

/// A file that is opened when it is used.
#[derive(Debug)]
pub(super) struct BoundedFile(Arc<FileState>);

impl DiskFile for BoundedFile {
    fn begin_shared_sync(&self) {
        self.0.shared.store(self.0.written.load(Ordering::Acquire), Ordering::Release);
    }

    fn check_synced(&self) -> io::Result<()> {
        self.0.check()?;
        self.0.synced.fetch_max(self.0.shared.load(Ordering::Acquire), Ordering::AcqRel);
        Ok(())
    }

    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.0.change(|file| file.write_at(parts, position))
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.0.with(|file| file.read_at(buffer, position))
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.0.change(|file| file.allocate(length))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.change(|file| file.set_len(length))
    }

    fn len(&self) -> io::Result<u64> {
        match &*self.0.open.read() {
            Some(file) => file.len(),
            None => Ok(self.0.path.lock().metadata()?.len()),
        }
    }

    fn zero_from(&self, length: u64) -> io::Result<u64> {
        self.0.with(|file| file.zero_from(length))
    }

    fn keep_open(&self) -> io::Result<()> {
        // Marked while it is in use: from here on nobody closes it.
        self.0.with(|_| {
            self.0.kept.store(true, Ordering::Release);
            Ok(())
        })
    }

    fn on_moved(&self, path: &Path) {
        *self.0.path.lock() = path.to_owned();
        self.0.kept.store(false, Ordering::Release);
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.check()?;
        self.0.with(|file| self.0.sync(file))
    }

    fn map(&self, length: u64) -> io::Result<Arc<dyn Mapping>> {
        Ok(Arc::new(BoundedMapping(Arc::new(MapState {
            file: self.0.clone(),
            length,
            mapped: ArcSwapOption::empty(),
            mapping: Mutex::new(()),
            used: AtomicU64::new(0),
        }))))
    }
}

#[derive(Debug)]
struct MapState {
    file: Arc<FileState>,
    length: u64,
    mapped: ArcSwapOption<MappedFile>,
    /// Held while the file is being mapped.
    mapping: Mutex<()>,
    used: AtomicU64,
}

impl MapState {
    fn get(self: &Arc<Self>) -> io::Result<Arc<MappedFile>> {
        self.file.handles.mappings.touch(&self.used);
        match self.mapped.load_full() {
            Some(mapped) => Ok(mapped),
            None => self.map(),
        }
    }

    fn map(self: &Arc<Self>) -> io::Result<Arc<MappedFile>> {
        let _mapping = self.mapping.lock();
        if let Some(mapped) = self.mapped.load_full() {
            return Ok(mapped);
        }
        let mapped = self.file.with(|file| mmap::map(file.as_file(), self.length))?;
        let mapped = Arc::new(mapped);
        self.file.handles.mappings.admit(self);
        self.mapped.store(Some(mapped.clone()));
        Ok(mapped)
    }
}

impl Evict for MapState {
    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn is_costly(&self) -> bool {
        false
    }

    fn evict(&self) -> bool {
        self.mapped.store(None);
        true
    }
}

/// A mapping that is made when it is used.
#[derive(Debug)]
struct BoundedMapping(Arc<MapState>);

impl Mapping for BoundedMapping {
    fn slice(&self, from: u64, to: u64) -> io::Result<Bytes> {
        self.0.get()?.slice(from, to)
    }

    fn len(&self) -> u64 {
        self.0.length
    }

    fn is_in_memory(&self, from: u64, to: u64) -> io::Result<bool> {
        self.0.get()?.is_in_memory(from, to)
    }

    fn load(&self, from: u64, to: u64) -> io::Result<()> {
        self.0.get()?.load(from, to)
    }
}

#[cfg(test)]
mod tests;
