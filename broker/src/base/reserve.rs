//! Space set aside in a data directory, for the day the disk is full.
//!
//! A full disk must not keep anyone from making room: deleting a topic writes to the metadata log,
//! completing a segment writes its index. So a file holds some space that is given up when the disk
//! is found full. From then on records are refused, before anything of them is written, and what is
//! given up is left to everything else. Once there is room again, for the reserve and some more, the
//! reserve is taken again first and records after that.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tracing::{info, warn};

use super::disk::{Create, Disk, Space};

/// The file's name in the data directory.
const NAME: &str = "reserve";

/// It is at most this part of the disk.
const DISK_PART_MAX: u64 = 16;

/// A disk on which that comes to less has none.
const BYTES_MIN: u64 = 1024 * 1024;

/// What must be free beside the reserve before records are taken again: the part of a small disk,
/// and the most.
const HEADROOM_PART: u64 = 32;
const HEADROOM_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The reserve of one data directory, and whether its disk is full.
#[derive(Debug, Default)]
pub(super) struct Reserve {
    full: AtomicBool,
    /// Bytes to be held; none until [`Self::begin`], and none on a small disk.
    wanted: Mutex<u64>,
}

impl Reserve {
    /// Takes `wanted` bytes of the disk under `directory` from now on.
    pub(super) fn begin(&self, disk: &dyn Disk, directory: &Path, wanted: u64) {
        let mut held = self.wanted.lock();
        *held = wanted;
        if let Ok(Space { total, .. }) = disk.space(directory)
            && total / DISK_PART_MAX < wanted
        {
            *held = if total / DISK_PART_MAX < BYTES_MIN { 0 } else { total / DISK_PART_MAX };
            info!(
                directory = %directory.display(),
                total_bytes = total,
                reserve_bytes = *held,
                "the disk is small, and the space set aside on it too"
            );
        }
        if let Err(error) = take(disk, &path(directory), *held) {
            self.refused(disk, directory, &error);
        }
    }

    /// Whether the disk was full and is not known to have room again.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// The disk has no space left: gives the reserve up. Returns whether that is news.
    pub(super) fn on_full(&self, disk: &dyn Disk, directory: &Path) -> bool {
        let _held = self.wanted.lock();
        if self.full.swap(true, Ordering::AcqRel) {
            return false;
        }
        let given_up = disk.remove_file(&path(directory));
        warn!(
            directory = %directory.display(),
            reserve_given_up = given_up.is_ok(),
            "the disk is full: records are refused until there is room; delete records or topics, \
             shorten their retention, or add space"
        );
        true
    }

    /// Looks whether a full disk has room again.
    pub(super) fn look(&self, disk: &dyn Disk, directory: &Path) {
        if !self.is_full() {
            return;
        }
        let wanted = self.wanted.lock();
        let Ok(Space { total, free }) = disk.space(directory) else { return };
        let headroom = (total / HEADROOM_PART).min(HEADROOM_BYTES_MAX);
        if free < wanted.saturating_add(headroom) {
            return;
        }
        match take(disk, &path(directory), *wanted) {
            Ok(()) => {
                self.full.store(false, Ordering::Release);
                info!(directory = %directory.display(), free, "the disk has room again");
            }
            // Somebody else was faster: at the next look.
            Err(error) => warn!(directory = %directory.display(), %error, "no reserve yet"),
        }
    }

    fn refused(&self, disk: &dyn Disk, directory: &Path, error: &io::Error) {
        if error.kind() == io::ErrorKind::StorageFull {
            self.full.store(true, Ordering::Release);
            // What was taken of it helps nobody.
            let _gone = disk.remove_file(&path(directory));
        }
        warn!(directory = %directory.display(), %error, "cannot set space aside");
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join(NAME)
}

/// Makes the file `bytes` long, with blocks assigned; removes it for none.
fn take(disk: &dyn Disk, path: &Path, bytes: u64) -> io::Result<()> {
    if bytes == 0 {
        return match disk.remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        };
    }
    let file = disk.open(path, Create::IfMissing)?;
    if file.len()? > bytes {
        file.set_len(bytes)?;
    }
    file.allocate(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::disk_sim::SimDisk;

    #[test]
    fn a_full_disk_gives_the_reserve_up_and_takes_it_again() {
        let disk = SimDisk::new();
        let root = Path::new("/");
        let reserve = Reserve::default();
        reserve.begin(&disk, root, 1 << 20);
        let held = || disk.open(&path(root), Create::Never).and_then(|file| file.len()).ok();
        assert_eq!((held(), reserve.is_full()), (Some(1 << 20), false));
        disk.fill_up(true);
        assert!(reserve.on_full(&disk, root));
        assert!(!reserve.on_full(&disk, root), "only the first is news");
        assert_eq!((held(), reserve.is_full()), (None, true));
        reserve.look(&disk, root);
        assert!(reserve.is_full(), "no room for the reserve, none for records");
        disk.fill_up(false);
        reserve.look(&disk, root);
        assert_eq!((held(), reserve.is_full()), (Some(1 << 20), false));
    }

    #[test]
    fn a_start_on_a_full_disk_refuses_records_until_there_is_room() {
        let disk = SimDisk::new();
        let reserve = Reserve::default();
        disk.fill_up(true);
        reserve.begin(&disk, Path::new("/"), 1 << 20);
        assert!(reserve.is_full());
        disk.fill_up(false);
        reserve.look(&disk, Path::new("/"));
        assert!(!reserve.is_full());
    }

    #[test]
    fn it_follows_its_size_and_goes_for_none() {
        let real = tempfile::tempdir().unwrap();
        let disk = crate::base::disk_real::RealDisk::new();
        let root = real.path();
        let reserve = Reserve::default();
        reserve.begin(&disk, root, 4096);
        assert_eq!(std::fs::metadata(path(root)).unwrap().len(), 4096);
        reserve.begin(&disk, root, 8192);
        assert_eq!(std::fs::metadata(path(root)).unwrap().len(), 8192);
        reserve.begin(&disk, root, 0);
        assert!(!path(root).exists());
        assert!(!reserve.is_full());
    }
}
