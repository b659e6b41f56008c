//! Group commit: the threads that make appended records durable.
//!
//! A partition with unsynced records is queued once, however many writes wait for it; while it is
//! being synced, further appends only mark it, and it is queued again when the sync is done. So the
//! disk is the clock: the slower it is, the more writes share one sync. Several partitions are
//! synced in parallel. No timers, but for topics that opted out of waiting (`flush.mode=os`), whose
//! partitions are synced in the background.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use super::partition::Partition;

/// Syncs under way at once. Six files in parallel take half the time of six in turn; beyond a few,
/// the device's queue is full.
const SYNC_THREADS_MAX: usize = 8;

/// Where a partition stands with the flusher.
#[derive(Debug, Default)]
pub(crate) struct FlushState(AtomicU8);

const IDLE: u8 = 0;
/// Waits for the background tick.
const LAZY: u8 = 1;
const QUEUED: u8 = 2;
const FLUSHING: u8 = 3;
/// Being synced, with records appended since the sync began.
const FLUSHING_DIRTY: u8 = 4;

impl FlushState {
    /// Applies `step` to the state; returns the state it was applied to.
    fn step(&self, step: impl Fn(u8) -> Option<u8>) -> u8 {
        match self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, step) {
            Ok(before) | Err(before) => before,
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    dirty: VecDeque<Arc<Partition>>,
    lazy: Vec<Arc<Partition>>,
    idle_threads: usize,
    threads: Vec<JoinHandle<()>>,
    stopping: bool,
}

/// The flusher of one data directory.
#[derive(Debug, Default)]
pub(crate) struct Flusher {
    queue: Mutex<Queue>,
    wake: Condvar,
}

impl Flusher {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// `partition` has unsynced records that somebody waits for.
    pub(crate) fn request(self: &Arc<Self>, partition: &Arc<Partition>) {
        let before = partition.flush_state().step(|state| match state {
            IDLE | LAZY => Some(QUEUED),
            FLUSHING => Some(FLUSHING_DIRTY),
            _ => None,
        });
        if matches!(before, IDLE | LAZY) {
            self.enqueue(partition.clone());
        }
    }

    /// `partition` has unsynced records that nobody waits for.
    pub(crate) fn request_lazily(&self, partition: &Arc<Partition>) {
        let before = partition.flush_state().step(|state| match state {
            IDLE => Some(LAZY),
            FLUSHING => Some(FLUSHING_DIRTY),
            _ => None,
        });
        if before == IDLE {
            self.queue.lock().lazy.push(partition.clone());
        }
    }

    /// Queues what [`Self::request_lazily`] has gathered.
    pub(crate) fn tick(self: &Arc<Self>) {
        let lazy = std::mem::take(&mut self.queue.lock().lazy);
        for partition in lazy {
            let before = partition.flush_state().step(|state| (state == LAZY).then_some(QUEUED));
            if before == LAZY {
                self.enqueue(partition);
            }
        }
    }

    /// Ends the threads once the queue is empty.
    pub(crate) fn stop(&self) {
        let threads = {
            let mut queue = self.queue.lock();
            queue.stopping = true;
            std::mem::take(&mut queue.threads)
        };
        self.wake.notify_all();
        for thread in threads {
            // A panic in the thread has been reported by its hook; there is nothing to add.
            let _panicked = thread.join();
        }
    }

    fn enqueue(self: &Arc<Self>, partition: Arc<Partition>) {
        let mut queue = self.queue.lock();
        queue.dirty.push_back(partition);
        if queue.idle_threads > 0 || queue.stopping {
            drop(queue);
            self.wake.notify_one();
        } else if queue.threads.len() < SYNC_THREADS_MAX {
            let flusher = self.clone();
            let name = format!("flush-{}", queue.threads.len());
            match std::thread::Builder::new().name(name).spawn(move || flusher.run()) {
                Ok(thread) => queue.threads.push(thread),
                Err(error) => {
                    // One thread is enough to make progress; none is not.
                    assert!(!queue.threads.is_empty(), "cannot start a flush thread: {error}");
                }
            }
        }
    }

    fn run(self: Arc<Self>) {
        loop {
            let partition = {
                let mut queue = self.queue.lock();
                loop {
                    if let Some(partition) = queue.dirty.pop_front() {
                        break partition;
                    }
                    if queue.stopping {
                        return;
                    }
                    queue.idle_threads += 1;
                    self.wake.wait(&mut queue);
                    queue.idle_threads -= 1;
                }
            };
            self.flush(partition);
        }
    }

    fn flush(self: &Arc<Self>, partition: Arc<Partition>) {
        // From here on an append marks the partition again: it may have missed this sync.
        partition.flush_state().step(|_| Some(FLUSHING));
        partition.flush();
        let before = partition.flush_state().step(|state| match state {
            FLUSHING => Some(IDLE),
            FLUSHING_DIRTY => Some(QUEUED),
            _ => None,
        });
        if before == FLUSHING_DIRTY {
            // To the back: other partitions' writers have waited longer.
            self.queue.lock().dirty.push_back(partition);
        }
    }
}
