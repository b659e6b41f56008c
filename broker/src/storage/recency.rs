//! Which bytes of a segment were written so recently that they are in memory for sure.
//!
//! The kernel drops pages in about the order in which they were last used. So what was written is
//! still there as long as this process has not written much since, in any log: that is the clock
//! here. Only a machine with hardly any memory for files can prove it wrong; then a connection's
//! thread waits for the disk once.
//!
//! Asking the kernel costs 2 to 30 microseconds for each fetch, and most fetches are for what was
//! just written: they are not to pay for it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes written since which do not push anything out of memory.
const RECENT_BYTES: u64 = 64 * 1024 * 1024;

/// Distance of marks, and how many a segment keeps: together, a little more than what is recent.
const MARK_BYTES: u64 = 8 * 1024 * 1024;
const MARKS: usize = 9;
const MARKS_KEPT: u64 = 9;

/// Bytes that all logs of the process have written.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Where the segment ended when how much had been written.
#[derive(Debug)]
struct Mark {
    position: AtomicU64,
    written: AtomicU64,
}

/// The marks of one segment. One thread at a time writes; readers that come in between take an old
/// place for unknown, which only makes them ask the kernel.
#[derive(Debug)]
pub(super) struct Recency {
    marks: [Mark; MARKS],
    /// Marks made; the newest is at this minus one, modulo their number.
    made: AtomicU64,
}

impl Default for Recency {
    fn default() -> Self {
        let nowhere = || Mark { position: AtomicU64::new(u64::MAX), written: AtomicU64::new(0) };
        Self { marks: std::array::from_fn(|_| nowhere()), made: AtomicU64::new(0) }
    }
}

impl Recency {
    /// Notes that `length` bytes were written at `position`.
    pub(super) fn on_written(&self, position: u64, length: u64) {
        self.note(&WRITTEN, position, length);
    }

    /// Whether everything from `position` on was written recently.
    pub(super) fn is_recent(&self, position: u64) -> bool {
        self.is_recent_by(&WRITTEN, position)
    }

    fn note(&self, clock: &AtomicU64, position: u64, length: u64) {
        let before = clock.fetch_add(length, Ordering::Relaxed);
        let made = self.made.load(Ordering::Relaxed);
        let newest = made.checked_sub(1).and_then(|at| self.mark(at));
        let due = newest.is_none_or(|newest| {
            position >= newest.position.load(Ordering::Relaxed).saturating_add(MARK_BYTES)
        });
        if due && let Some(mark) = self.mark(made) {
            // Unknown until both are there.
            mark.position.store(u64::MAX, Ordering::Release);
            mark.written.store(before, Ordering::Release);
            mark.position.store(position, Ordering::Release);
            self.made.store(made + 1, Ordering::Release);
        }
    }

    fn mark(&self, at: u64) -> Option<&Mark> {
        self.marks.get(usize::try_from(at).unwrap_or(0) % MARKS)
    }

    fn is_recent_by(&self, clock: &AtomicU64, position: u64) -> bool {
        let now = clock.load(Ordering::Relaxed);
        let made = self.made.load(Ordering::Acquire);
        (1..=made.min(MARKS_KEPT))
            .filter_map(|back| self.mark(made - back)?.read())
            .find(|(marked, _)| *marked <= position)
            .is_some_and(|(_, written)| now.saturating_sub(written) <= RECENT_BYTES)
    }
}

impl Mark {
    /// Position and bytes written; `None` while it is being changed.
    fn read(&self) -> Option<(u64, u64)> {
        let position = self.position.load(Ordering::Acquire);
        let written = self.written.load(Ordering::Acquire);
        (position == self.position.load(Ordering::Acquire)).then_some((position, written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn what_was_just_written_is_recent_and_what_lies_further_back_is_not() {
        let clock = AtomicU64::new(0);
        let recency = Recency::default();
        assert!(!recency.is_recent_by(&clock, 0), "nothing is known of what another process wrote");
        let start = 1000 * MIB;
        for at in 0..200 {
            recency.note(&clock, start + at * MIB, MIB);
        }
        let end = start + 200 * MIB;
        assert!(recency.is_recent_by(&clock, end - MIB));
        assert!(recency.is_recent_by(&clock, end - 20 * MIB));
        assert!(!recency.is_recent_by(&clock, end - 80 * MIB));
        assert!(!recency.is_recent_by(&clock, start - 1));
        // Other logs write too.
        let other = Recency::default();
        for at in 0..70 {
            other.note(&clock, at * MIB, MIB);
        }
        assert!(!recency.is_recent_by(&clock, end - MIB));
        assert!(other.is_recent_by(&clock, 69 * MIB));
    }
}
