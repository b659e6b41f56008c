//! What the members of all groups report, and the program waits for.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// What all members report to.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// Whether the times of heartbeats are kept just now.
    pub(crate) measuring: AtomicBool,
    heartbeats: Mutex<Vec<Duration>>,
    /// Heartbeats that were refused, rebalances apart.
    pub(crate) refused: AtomicUsize,
}

impl Board {
    pub(crate) fn heartbeat(&self, took: Duration) {
        if self.measuring.load(Ordering::Relaxed) {
            locked(&self.heartbeats).push(took);
        }
    }

    /// The times since the last call, sorted.
    pub(crate) fn take_heartbeats(&self) -> Vec<Duration> {
        let mut times = std::mem::take(&mut *locked(&self.heartbeats));
        times.sort_unstable();
        times
    }
}

/// A group as its members see it.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    generation: Mutex<GenerationSeen>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct GenerationSeen {
    number: i32,
    members: usize,
    /// When the last of its members asked to join, and when the last had its assignment.
    asked: Option<Instant>,
    synced: Option<Instant>,
}

/// A generation all members are in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole {
    pub(crate) generation: i32,
    /// When the last member had sent its JoinGroup.
    pub(crate) asked: Instant,
    /// When the last member had its assignment.
    pub(crate) synced: Instant,
}

impl Group {
    pub(crate) fn new(name: String) -> Self {
        Self { name, generation: Mutex::default(), changed: Notify::new() }
    }

    /// A member that sent its JoinGroup at `asked` has its assignment of `generation` now.
    pub(crate) fn synced(&self, generation: i32, asked: Instant) {
        let mut seen = locked(&self.generation);
        if generation > seen.number {
            *seen = GenerationSeen { number: generation, ..Default::default() };
        }
        if generation == seen.number {
            seen.members += 1;
            seen.asked = seen.asked.max(Some(asked));
            seen.synced = Some(Instant::now());
        }
        drop(seen);
        self.changed.notify_one();
    }

    /// Waits until `members` are in one generation after `after`.
    pub(crate) async fn whole(&self, members: usize, after: i32) -> Whole {
        loop {
            {
                let seen = locked(&self.generation);
                if let (true, Some(asked), Some(synced)) =
                    (seen.number > after && seen.members == members, seen.asked, seen.synced)
                {
                    return Whole { generation: seen.number, asked, synced };
                }
            }
            self.changed.notified().await;
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
