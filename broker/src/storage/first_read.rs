//! What nobody has looked at since the start: bytes of sealed segments, checked when they are read
//! first.
//!
//! A start trusts sealed segments without reading them, and a fetch sends bytes as they are. So the
//! first read of a stretch looks at its batches, and what is not as it was written is not handed
//! out. Consumers that read from front to back have everything checked once, whatever their number;
//! one that jumps has what it reads checked each time, until somebody has read up to there or the
//! scrubber has come by. What this process has written, or read at its start, is not looked at again.
//!
//! It finds what was damaged while the broker did not run. What decays beneath a running broker is
//! for the scrubber.

use std::sync::atomic::{AtomicU64, Ordering};

use super::epochs::EpochCache;
use super::error::StorageError;
use super::scan::{Gaps, Rule, Scan, Step};
use super::segment::{Boundary, Segment};
use crate::base::Offset;
use crate::base::waiting::{may_wait, would_block};

/// How much of a segment, from its beginning, is known to be whole.
#[derive(Debug)]
pub(super) struct Checked(AtomicU64);

impl Default for Checked {
    /// All of it, whatever is appended.
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Checked {
    /// Nothing was looked at.
    pub(super) fn nothing(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// All of it was.
    pub(super) fn all(&self) {
        self.0.store(u64::MAX, Ordering::Release);
    }

    fn covers(&self, to: u64) -> bool {
        to <= self.0.load(Ordering::Acquire)
    }

    fn extend(&self, from: u64, to: u64) {
        if self.covers(from) {
            self.0.fetch_max(to, Ordering::AcqRel);
        }
    }
}

/// Sees to it that the batches of `segment` from `start` up to the position `to` are as they were
/// written.
///
/// # Errors
/// `Corrupt`: they are not. They cannot be read, or not without waiting for the disk.
pub(super) fn check(segment: &Segment, start: &Boundary, to: u64) -> Result<(), StorageError> {
    let from = start.position;
    if segment.checked.covers(to) || from == to {
        return Ok(());
    }
    let failed = |source| StorageError::io("cannot read", &segment.path)(source);
    if !may_wait() {
        return Err(failed(would_block()));
    }
    // Where compaction may have been, and which epoch is whose, the scrubber knows.
    let epochs = EpochCache::default();
    let gaps = Gaps::Below(Offset(i64::MAX));
    let rule = Rule { epochs: &epochs, epochs_upto: Offset::ZERO, gaps };
    let mut scan = Scan::new(&*segment.file, to, segment.base, rule);
    (scan.position, scan.expected) = (from, start.base_offset);
    while scan.position < to {
        match scan.step().map_err(failed)? {
            Step::Batch(_) => {}
            Step::Bad(reason) => return Err(segment.corrupt(scan.position, reason)),
            Step::End => {
                let reason = "zeroes where a batch should begin".to_owned();
                return Err(segment.corrupt(scan.position, reason));
            }
        }
    }
    segment.checked.extend(from, to);
    Ok(())
}
