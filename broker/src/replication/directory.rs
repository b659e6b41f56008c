//! A data directory as partitions see it: its flusher, and who else is in it.
//!
//! Always holds: when a write or sync of one partition fails, every partition of the directory goes
//! offline with it, and those that wait for them are told.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::flusher::Flusher;
use super::partition::Partition;
use super::pulse::Pulse;
use crate::base::{Clock, DataDirectory, Threads, Timestamp};

/// The partitions of one data directory.
#[derive(Debug)]
pub(crate) struct LogDirectory {
    data: Arc<DataDirectory>,
    clock: Arc<dyn Clock>,
    flusher: Arc<Flusher>,
    members: Mutex<Vec<Weak<Partition>>>,
    /// New partitions since the start.
    placed: AtomicU64,
    pulse: Pulse,
    /// A log could not be changed as it has to be.
    put_off: AtomicBool,
}

impl LogDirectory {
    /// An empty directory with a running flusher.
    ///
    /// # Errors
    /// No thread can be started.
    #[cfg(test)]
    pub(crate) fn start(data: Arc<DataDirectory>, clock: Arc<dyn Clock>) -> io::Result<Arc<Self>> {
        Self::start_on(&Threads::Real, data, clock)
    }

    /// An empty directory whose flusher runs on `threads`.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn start_on(
        threads: &Threads,
        data: Arc<DataDirectory>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Arc<Self>> {
        let flusher = Flusher::start(threads, &**data.disk(), data.path(), clock.clone())?;
        let (members, placed) = (Mutex::default(), AtomicU64::new(0));
        let put_off = AtomicBool::new(false);
        let pulse = Pulse::default();
        Ok(Arc::new(Self { data, clock, flusher, members, placed, pulse, put_off }))
    }

    pub(crate) fn data(&self) -> &Arc<DataDirectory> {
        &self.data
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Whether the process that has it has run all the while.
    pub(super) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    pub(crate) fn flusher(&self) -> &Flusher {
        &self.flusher
    }

    /// New partitions placed here since the start.
    pub(super) fn placed(&self) -> u64 {
        self.placed.load(Ordering::Relaxed)
    }

    pub(super) fn on_placed(&self) {
        self.placed.fetch_add(1, Ordering::Relaxed);
    }

    /// `partition` is in this directory.
    pub(crate) fn join(&self, partition: &Arc<Partition>) {
        let mut members = self.members.lock();
        if members.len() == members.capacity() {
            // About to grow: those that are gone make room first.
            members.retain(|member| member.strong_count() > 0);
        }
        members.push(Arc::downgrade(partition));
        drop(members);
        if !self.data.is_online() {
            partition.go_offline();
        }
    }

    /// A log could not be cut, or what lies below its start not be removed: for want of space, or of
    /// files that may be open.
    pub(super) fn on_put_off(&self) {
        self.put_off.store(true, Ordering::Release);
    }

    /// Looks whether a full disk has room again. Unless it is full, what was put off is tried again.
    pub(super) fn look_for_room(&self) {
        self.data.look_for_room();
        if !self.data.is_full() && self.put_off.swap(false, Ordering::AcqRel) {
            let members = self.members.lock().clone();
            for partition in members.iter().filter_map(Weak::upgrade) {
                partition.retry_due();
            }
        }
    }

    /// A write or sync failed, for `reason`. The caller holds no partition's lock.
    pub(crate) fn fail(&self, reason: &str) {
        if self.data.fail(reason) {
            let members = self.members.lock().clone();
            for partition in members.iter().filter_map(Weak::upgrade) {
                partition.go_offline();
            }
        }
    }
}
