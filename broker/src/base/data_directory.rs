//! One data directory of this broker: where it is, whether it still takes writes, and whether its
//! disk has room for more.
//!
//! Shared by all that keep files in it, logs of partitions and the metadata log. Always holds: once a
//! write or sync in it has failed, it is offline until the process ends. What the kernel did with the
//! bytes is not known then, and the next sync may claim success without them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use sawlog_protocol::Uuid;
use tokio::sync::Notify;
use tracing::error;

use super::disk::Disk;
use super::reserve::Reserve;

/// A data directory.
#[derive(Debug)]
pub struct DataDirectory {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    storage_id: OnceLock<Uuid>,
    failure: OnceLock<String>,
    failed: Notify,
    reserve: Reserve,
}

impl DataDirectory {
    /// The directory at `path` of `disk`.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Arc<Self> {
        let (failure, failed, reserve) = (OnceLock::new(), Notify::new(), Reserve::default());
        let storage_id = OnceLock::new();
        Arc::new(Self { disk, path, storage_id, failure, failed, reserve })
    }

    /// The disk it is on.
    #[must_use]
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It is the one with this identity. Said once, before anything else is asked.
    pub fn identify(&self, storage_id: Uuid) {
        // A second time it would be the same.
        let _known = self.storage_id.set(storage_id);
    }

    /// Its identity, which goes with the disk: one that was wiped has another. Zero if nobody has
    /// said.
    #[must_use]
    pub fn storage_id(&self) -> Uuid {
        self.storage_id.get().copied().unwrap_or_default()
    }

    /// Whether no write in it has failed.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.failure.get().is_none()
    }

    /// Why it is offline, if it is.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Takes it offline, for `reason`: what was tried on which file, and what the disk said. Returns
    /// whether it was online.
    pub fn fail(&self, reason: &str) -> bool {
        if self.failure.set(reason.to_owned()).is_err() {
            return false;
        }
        error!(
            directory = %self.path.display(),
            reason,
            "data directory is offline: nothing in it is served or acknowledged until the broker is \
             restarted; check the disk and its file system first"
        );
        self.failed.notify_waiters();
        true
    }

    /// Sets `bytes` of the disk aside, for when it is full.
    pub fn keep_reserve(&self, bytes: u64) {
        self.reserve.begin(&*self.disk, &self.path, bytes);
    }

    /// Whether the disk is full: no records are to be written, so that what space there is can be
    /// used to make room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.reserve.is_full()
    }

    /// Something found no space. Returns whether trying again may help: space was given up.
    pub fn on_full(&self) -> bool {
        self.reserve.on_full(&*self.disk, &self.path)
    }

    /// Looks whether a full disk has room again.
    pub fn look_for_room(&self) {
        if self.is_online() {
            self.reserve.look(&*self.disk, &self.path);
        }
    }

    /// Waits until it is offline; returns the reason.
    pub async fn failed(&self) -> &str {
        loop {
            // Registered before the look: a failure in between is not missed.
            let failed = self.failed.notified();
            if let Some(reason) = self.failure.get() {
                return reason;
            }
            failed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::disk_sim::SimDisk;

    #[tokio::test]
    async fn the_first_failure_is_final_and_told() {
        let directory = DataDirectory::new(Arc::new(SimDisk::new()), "/data".into());
        assert!(directory.is_online());
        let waiting = directory.clone();
        let told = tokio::spawn(async move { waiting.failed().await.to_owned() });
        tokio::task::yield_now().await;
        assert!(directory.fail("cannot sync /data/x: EIO"));
        assert!(!directory.fail("later"));
        assert!(!directory.is_online());
        assert_eq!(told.await.unwrap(), "cannot sync /data/x: EIO");
        assert_eq!(directory.failed().await, "cannot sync /data/x: EIO");
    }
}
