//! What the members of all groups report, and the program waits for.

use std::collections::BTreeMap;
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
    /// What its members read, where the broker assigns: the topic, and how many partitions it has.
    pub(crate) topic: Option<(&'static str, usize)>,
    /// By member, what it said last.
    seen: Mutex<BTreeMap<usize, Seen>>,
    changed: Notify,
}

/// What a member says when it has an assignment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// The generation, or the epoch of the member.
    pub(crate) generation: i32,
    /// How many partitions it has; not counted where members assign to each other.
    pub(crate) share: usize,
    /// When it asked to join.
    pub(crate) asked: Instant,
    pub(crate) at: Instant,
}

/// A generation all members are in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole {
    pub(crate) generation: i32,
    /// When the last member had asked to join.
    asked: Instant,
    /// When the last member had its assignment.
    pub(crate) at: Instant,
}

impl Whole {
    /// From the last member's asking to the last assignment.
    pub(crate) fn waited(&self) -> Duration {
        self.at - self.asked
    }
}

impl Group {
    pub(crate) fn new(name: String, topic: Option<(&'static str, usize)>) -> Self {
        Self { name, topic, seen: Mutex::default(), changed: Notify::new() }
    }

    pub(crate) fn report(&self, member: usize, seen: Seen) {
        locked(&self.seen).insert(member, seen);
        self.changed.notify_one();
    }

    /// Waits until `members` are in one generation after `after`, and have all there is to read, none more
    /// than one partition more than another.
    pub(crate) async fn whole(&self, members: usize, after: i32) -> Whole {
        loop {
            if let Some(whole) = self.is_whole(members, after) {
                return whole;
            }
            self.changed.notified().await;
        }
    }

    fn is_whole(&self, members: usize, after: i32) -> Option<Whole> {
        let seen = locked(&self.seen);
        let generation = seen.values().map(|seen| seen.generation).max()?;
        let all: Vec<&Seen> = seen.values().filter(|seen| seen.generation == generation).collect();
        let shares = || all.iter().map(|seen| seen.share);
        let is_even = shares().max()? - shares().min()? <= 1;
        let is_all = self.topic.is_none_or(|(_, partitions)| shares().sum::<usize>() == partitions);
        if generation <= after || all.len() != members || !is_even || !is_all {
            return None;
        }
        let asked = all.iter().map(|seen| seen.asked).max()?;
        let at = all.iter().map(|seen| seen.at).max()?;
        Some(Whole { generation, asked, at })
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
