//! [`Disk`] in memory, which keeps what was written apart from what would survive a power cut.
//!
//! A crash is planned by operation count. It keeps what was synced, and of the rest what a seed
//! says: whole writes, writes torn at 512 or at 4096 bytes, lengths, directory entries, in any
//! combination a disk without barriers could leave. Within a sector nothing is torn: it is as the page
//! cache had it at some time, so no write to it survives one before. Operations can also be made to fail: a write in
//! its middle, an allocation for space, a read, and a sync as Linux fails it, once, after which the
//! pages count as clean and the next sync succeeds without them.
//!
//! And the disk can lie: a write that is synced and never was, or that is elsewhere on the medium,
//! bits that are no longer what they were. Until a restart the page cache hides the first two.
//!
//! What would kill a process on a real disk panics here: touching a mapped byte beyond the end of
//! the file, and cutting a file below a byte that a mapping has handed out.

mod content;
mod file;
mod names;
mod random;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use self::content::{Fate, Node};
use self::file::SimFile;
use self::names::{Entry, Link, Names, apply};
pub use self::random::SimRandom;
use super::disk::{Create, DirLock, Disk, DiskFile, FileSystem, Space};

/// Writes are torn between sectors of one of these sizes, never within.
const SECTOR_BYTES: [usize; 2] = [512, 4096];

/// Size of the simulated file system.
const DISK_BYTES: u64 = 1 << 40;

/// What happens to a planned operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power goes before it; it and everything after fails until [`SimDisk::restart`].
    Crash,
    /// It fails with EIO. A write is left half done; what a sync should have made durable never
    /// will be, though later syncs succeed.
    Io,
    /// The first operation from then on that needs space fails with ENOSPC.
    NoSpace,
    /// From then on, until [`SimDisk::fill_up`] says otherwise, there is no more space.
    Full,
    /// The first write from then on never reaches the medium, though it is synced.
    Lost,
    /// The first write from then on reaches the medium at another place of its file, over what is
    /// there; its own place keeps what it had.
    Misdirected,
}

/// Whether an operation takes space on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Space,
    Nothing,
}

#[derive(Debug, Default)]
struct World {
    live: Names,
    durable: Names,
    pending: Vec<Link>,
    operations: u64,
    plan: Option<(u64, Fault)>,
    /// Reads so far, and the one that fails with EIO.
    reads: u64,
    read_plan: Option<u64>,
    /// Writes lost or misdirected, and files damaged.
    lies: u64,
    /// What an operation takes, and all have taken, in milliseconds.
    operation_ms: u64,
    elapsed_ms: u64,
    crashed: bool,
    /// Whatever needs new space fails.
    full: bool,
    locked: BTreeSet<PathBuf>,
}

/// A simulated disk; clones share it.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
}

impl SimDisk {
    /// An empty disk with a root directory.
    #[must_use]
    pub fn new() -> Self {
        let disk = Self::default();
        {
            let mut world = disk.world.lock();
            world.live.insert(PathBuf::from("/"), Entry::Directory);
            world.durable.insert(PathBuf::from("/"), Entry::Directory);
        }
        disk
    }

    /// Operations that changed or synced something so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.world.lock().operations
    }

    /// Plans `fault` for the operation that many from now, 1 for the next.
    pub fn plan(&self, in_operations: u64, fault: Fault) {
        let mut world = self.world.lock();
        world.plan = Some((world.operations + in_operations, fault));
    }

    /// From here on whatever needs new space finds none, or finds it again.
    pub fn fill_up(&self, full: bool) {
        let mut world = self.world.lock();
        world.full = full;
        if !full {
            world.plan.take_if(|(_, fault)| *fault == Fault::Full);
        }
    }

    /// Forgets planned faults that have not happened.
    pub fn cancel_plan(&self) {
        let mut world = self.world.lock();
        (world.plan, world.read_plan) = (None, None);
    }

    /// Plans that the read that many from now, 1 for the next, fails with EIO.
    pub fn plan_read(&self, in_reads: u64) {
        let mut world = self.world.lock();
        world.read_plan = Some(world.reads + in_reads);
    }

    /// Each operation takes this long from now on.
    pub fn slow_down(&self, operation_ms: u64) {
        self.world.lock().operation_ms = operation_ms;
    }

    /// What all operations have taken, in milliseconds.
    #[must_use]
    pub fn elapsed_ms(&self) -> u64 {
        self.world.lock().elapsed_ms
    }

    /// Whether what is on the medium may be something else than was written and synced.
    #[must_use]
    pub fn has_lied(&self) -> bool {
        self.lies() > 0
    }

    /// How often something was made so.
    #[must_use]
    pub fn lies(&self) -> u64 {
        self.world.lock().lies
    }

    /// Whether a planned crash has happened.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        self.world.lock().crashed
    }

    /// The power comes back: what was durable is there, and of the rest what the seed says. Files
    /// opened before are dead.
    #[must_use]
    pub fn restart(&self, seed: u64) -> Self {
        let mut random = SimRandom::new(seed);
        let sector = if random.below(2) == 0 { SECTOR_BYTES[0] } else { SECTOR_BYTES[1] };
        let world = self.world.lock();
        let mut names = world.durable.clone();
        // Directories that another has taken the place of, and that are there again.
        let mut back: Vec<PathBuf> = Vec::new();
        for link in &world.pending {
            let survives = random.below(2) == 0;
            if back.iter().any(|directory| link.path().starts_with(directory)) {
                // It is about the other one.
            } else if survives {
                apply(&mut names, link);
            } else if let Some(gone) = link.gone()
                && matches!(names.get(gone), Some(Entry::Directory))
            {
                back.push(gone.to_owned());
            }
        }
        let mut survived = Names::new();
        for (path, entry) in &names {
            let reachable =
                path.ancestors().skip(1).all(|up| matches!(names.get(up), Some(Entry::Directory)));
            if !reachable {
                continue;
            }
            let entry = match entry {
                Entry::Directory => Entry::Directory,
                Entry::File(node) => {
                    let content = node.lock().after_crash(&mut random, sector);
                    Entry::File(Arc::new(Mutex::new(Node::of(content))))
                }
            };
            survived.insert(path.clone(), entry);
        }
        let restarted = World {
            live: survived.clone(),
            durable: survived,
            lies: world.lies,
            elapsed_ms: world.elapsed_ms,
            ..World::default()
        };
        Self { world: Arc::new(Mutex::new(restarted)) }
    }

    /// The process that used it is gone, its machine is not: what was written is there, synced or not.
    /// Files opened before are dead.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let mut world = self.world.lock();
        for entry in world.live.values() {
            if let Entry::File(node) = entry {
                // Nobody looks at what was mapped.
                node.lock().exposed.clear();
            }
        }
        let (live, durable) = (world.live.clone(), world.durable.clone());
        let left = World {
            live,
            durable,
            pending: std::mem::take(&mut world.pending),
            lies: world.lies,
            elapsed_ms: world.elapsed_ms,
            full: world.full,
            ..World::default()
        };
        world.crashed = true;
        Self { world: Arc::new(Mutex::new(left)) }
    }

    /// Flips one bit of a file, as a failing disk would: durable, and unnoticed.
    pub fn flip_bit(&self, path: &Path, byte: usize, bit: u8) {
        self.damage(path, |content| {
            if let Some(byte) = content.get_mut(byte) {
                *byte ^= 1 << (bit & 7);
            }
        });
    }

    /// Makes a file zero from `byte` on, at its length.
    pub fn zero_from(&self, path: &Path, byte: usize) {
        self.damage(path, |content| content.iter_mut().skip(byte).for_each(|byte| *byte = 0));
    }

    fn damage(&self, path: &Path, damage: impl Fn(&mut Vec<u8>)) {
        let mut world = self.world.lock();
        world.lies += 1;
        if let Some(Entry::File(node)) = world.live.get(path) {
            let mut node = node.lock();
            let node = &mut *node;
            damage(&mut node.live);
            damage(&mut node.durable);
        }
    }
}

impl World {
    /// Counts an operation and lets its planned fault happen.
    fn step(&mut self, needs: Needs) -> io::Result<()> {
        if self.crashed {
            return Err(io::Error::other("the simulated machine is down"));
        }
        self.operations += 1;
        self.elapsed_ms += self.operation_ms;
        if self.plan.is_some_and(|(at, fault)| fault == Fault::Full && at <= self.operations) {
            self.plan = None;
            self.full = true;
        }
        if self.full && needs == Needs::Space {
            return Err(io::ErrorKind::StorageFull.into());
        }
        match self.plan {
            Some((_, Fault::NoSpace)) if needs == Needs::Nothing => Ok(()),
            Some((_, Fault::Lost | Fault::Misdirected)) => Ok(()),
            Some((at, fault)) if at <= self.operations => {
                self.plan = None;
                match fault {
                    Fault::Crash => {
                        self.crashed = true;
                        Err(io::Error::other("the simulated power went"))
                    }
                    Fault::Io => Err(io::Error::from_raw_os_error(5)),
                    Fault::NoSpace | Fault::Full => Err(io::ErrorKind::StorageFull.into()),
                    Fault::Lost | Fault::Misdirected => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// What becomes of a write made now.
    fn fate(&mut self) -> Fate {
        let operations = self.operations;
        let fate = match self.plan {
            Some((at, Fault::Lost)) if at <= operations => Fate::Lost,
            Some((at, Fault::Misdirected)) if at <= operations => Fate::Misdirected,
            Some(_) | None => return Fate::Written,
        };
        self.plan = None;
        self.lies += 1;
        fate
    }

    fn link(&mut self, link: Link) {
        apply(&mut self.live, &link);
        self.pending.push(link);
    }

    fn parent_exists(&self, path: &Path) -> io::Result<()> {
        match path.parent().and_then(|parent| self.live.get(parent)) {
            Some(Entry::Directory) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, create: Create) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.world.lock();
        let node = match world.live.get(path) {
            Some(Entry::File(node)) => node.clone(),
            Some(Entry::Directory) => return Err(io::ErrorKind::IsADirectory.into()),
            None if create == Create::Never => return Err(io::ErrorKind::NotFound.into()),
            None => {
                world.step(Needs::Space)?;
                world.parent_exists(path)?;
                let node = Arc::new(Mutex::new(Node::default()));
                world.link(Link::Add(path.to_owned(), Entry::File(node.clone())));
                node
            }
        };
        Ok(Arc::new(SimFile { world: self.world.clone(), node }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        world.step(Needs::Space)?;
        let mut missing: Vec<PathBuf> = path
            .ancestors()
            .filter(|up| !world.live.contains_key(*up))
            .map(Path::to_owned)
            .collect();
        missing.reverse();
        for directory in missing {
            world.link(Link::Add(directory, Entry::Directory));
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        world.step(Needs::Nothing)?;
        if !world.live.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.parent_exists(to)?;
        world.link(Link::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        world.step(Needs::Nothing)?;
        match world.live.get(path) {
            Some(Entry::File(_)) => {
                world.link(Link::Remove(path.to_owned()));
                Ok(())
            }
            Some(Entry::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        world.step(Needs::Nothing)?;
        if !world.live.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.link(Link::Remove(path.to_owned()));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let world = self.world.lock();
        if !matches!(world.live.get(path), Some(Entry::Directory)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let names = world.live.keys().filter(|known| known.parent() == Some(path));
        Ok(names.filter_map(|p| p.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        world.step(Needs::Nothing)?;
        // Names are kept here, no inodes: that another directory has had this one's name is made durable
        // with it, as a file system with a journal does.
        let above: Vec<PathBuf> = path
            .ancestors()
            .filter(|up| world.pending.iter().any(|link| link.gone() == Some(*up)))
            .map(Path::to_owned)
            .collect();
        let replaces = |link: &Link| {
            above.iter().any(|up| link.path() == up || link.gone() == Some(up.as_path()))
        };
        let (done, left): (Vec<Link>, Vec<Link>) = std::mem::take(&mut world.pending)
            .into_iter()
            .partition(|link| link.is_in(path) || replaces(link));
        world.pending = left;
        for link in &done {
            apply(&mut world.durable, link);
        }
        Ok(())
    }

    fn exists(&self, path: &Path) -> bool {
        self.world.lock().live.contains_key(path)
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        Ok(Space { total: DISK_BYTES, free: DISK_BYTES })
    }

    fn file_system(&self, _path: &Path) -> io::Result<Option<Arc<dyn FileSystem>>> {
        Ok(Some(Arc::new(self.clone())))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        if !self.world.lock().locked.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { world: self.world.clone(), path: path.to_owned() }))
    }
}

impl FileSystem for SimDisk {
    fn sync(&self) -> io::Result<()> {
        let mut world = self.world.lock();
        let result = world.step(Needs::Nothing);
        if result.is_ok() {
            world.durable = world.live.clone();
            world.pending.clear();
        }
        for entry in world.live.values() {
            if let Entry::File(node) = entry {
                let mut node = node.lock();
                match &result {
                    Ok(()) => node.sync(),
                    Err(_) => node.abandon(),
                }
            }
        }
        result
    }
}

#[derive(Debug)]
struct SimLock {
    world: Arc<Mutex<World>>,
    path: PathBuf,
}

impl DirLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.world.lock().locked.remove(&self.path);
    }
}
