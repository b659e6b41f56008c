//! Deadlines of groups and members, without a clock: the shell asks when the next one is.
//!
//! A deadline that moves on (every heartbeat moves one) costs nothing here: the [`Timer`] beside
//! the member remembers it, and the entry of the queue is put back when it comes up too early. At
//! most one entry of a timer is *armed*; later ones it has left behind come up and are ignored.

use std::collections::BTreeSet;
use std::time::Duration;

use super::types::{GroupId, MemberId};

/// What a deadline is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TimerKey {
    /// A classic group waits for its members to join.
    Join(GroupId),
    /// A classic group waits for its members to fetch their assignment.
    Sync(GroupId),
    /// A member has to be heard of.
    Session(GroupId, MemberId),
    /// A member of a consumer group has to give partitions back, to join again or to fetch its
    /// assignment.
    Progress(GroupId, MemberId),
    /// Expired offsets are looked for.
    Expiry,
}

/// One deadline and its place in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Timer {
    deadline: Option<Duration>,
    armed: Option<Duration>,
}

impl Timer {
    /// Whether it runs.
    pub(super) fn is_set(&self) -> bool {
        self.deadline.is_some()
    }

    /// Stops it.
    pub(super) fn cancel(&mut self) {
        self.deadline = None;
    }
}

/// All deadlines of a coordinator partition.
#[derive(Debug, Default)]
pub(super) struct TimerQueue {
    queue: BTreeSet<(Duration, TimerKey)>,
}

impl TimerQueue {
    /// Sets `timer` to `at`, whatever it was.
    pub(super) fn set(&mut self, timer: &mut Timer, at: Duration, key: impl FnOnce() -> TimerKey) {
        timer.deadline = Some(at);
        if timer.armed.is_none_or(|armed| at < armed) {
            timer.armed = Some(at);
            self.queue.insert((at, key()));
        }
    }

    /// When something comes up next, perhaps for nothing.
    pub(super) fn next(&self) -> Option<Duration> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// What comes up by `now`.
    pub(super) fn pop(&mut self, now: Duration) -> Option<(Duration, TimerKey)> {
        if self.next()? > now {
            return None;
        }
        self.queue.pop_first()
    }

    /// An entry of `timer` has come up. Whether its deadline is over; if so it is stopped, if not
    /// it is put back.
    pub(super) fn is_over(
        &mut self,
        timer: &mut Timer,
        entry: Duration,
        now: Duration,
        key: impl FnOnce() -> TimerKey,
    ) -> bool {
        if timer.armed == Some(entry) {
            timer.armed = None;
        }
        match timer.deadline {
            Some(deadline) if deadline <= now => {
                timer.deadline = None;
                true
            }
            Some(deadline) => {
                self.set(timer, deadline, key);
                false
            }
            None => false,
        }
    }

    /// Entries held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: fn() -> TimerKey = || TimerKey::Expiry;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_deadline_that_moves_on_holds_one_entry_and_fires_at_the_last() {
        let mut queue = TimerQueue::default();
        let mut timer = Timer::default();
        for at in 10..1000 {
            queue.set(&mut timer, seconds(at), KEY);
        }
        assert_eq!(queue.len(), 1);
        let (entry, _) = queue.pop(seconds(10)).unwrap();
        assert!(!queue.is_over(&mut timer, entry, seconds(10), KEY));
        assert_eq!(queue.next(), Some(seconds(999)));
        let (entry, _) = queue.pop(seconds(999)).unwrap();
        assert!(queue.is_over(&mut timer, entry, seconds(999), KEY));
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn a_deadline_that_moves_closer_fires_early_and_once() {
        let mut queue = TimerQueue::default();
        let mut timer = Timer::default();
        queue.set(&mut timer, seconds(30), KEY);
        queue.set(&mut timer, seconds(5), KEY);
        let (entry, _) = queue.pop(seconds(5)).unwrap();
        assert!(queue.is_over(&mut timer, entry, seconds(5), KEY));
        let (entry, _) = queue.pop(seconds(30)).unwrap();
        assert!(!queue.is_over(&mut timer, entry, seconds(30), KEY));
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_cancelled_timer_never_fires_and_can_be_set_again() {
        let mut queue = TimerQueue::default();
        let mut timer = Timer::default();
        queue.set(&mut timer, seconds(5), KEY);
        timer.cancel();
        queue.set(&mut timer, seconds(9), KEY);
        let (entry, _) = queue.pop(seconds(5)).unwrap();
        assert!(!queue.is_over(&mut timer, entry, seconds(5), KEY));
        timer.cancel();
        let (entry, _) = queue.pop(seconds(9)).unwrap();
        assert!(!queue.is_over(&mut timer, entry, seconds(9), KEY));
        assert!(!timer.is_set());
    }
}
