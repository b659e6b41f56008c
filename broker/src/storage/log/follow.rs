//! Appending what a leader has, at the offsets and with the epochs it has there.
//!
//! A leader's log may lack offsets where compaction has been, and begin within a batch: so may a
//! copy of it. That offsets may be missing is written down before the first batch behind a gap: a
//! start would take it for damage.

use super::{Appended, Log};
use crate::base::{LeaderEpoch, Offset};
use crate::storage::error::StorageError;
use sawlog_protocol::records::BatchHeader;

/// Offsets behind a gap in which more gaps are expected: one write of a small file serves them all.
const GAPS_EXPECTED: i64 = 65_536;

impl Log {
    /// Writes one batch of the leader's log at the end, as it is. `header` is the batch's own.
    ///
    /// # Errors
    /// `NoSpace` leaves the log as it was; any other error is final.
    pub fn append_replicated(
        &mut self,
        batch: &[u8],
        header: &BatchHeader,
    ) -> Result<Appended, StorageError> {
        let (base, next) = (Offset(header.base_offset), Offset(header.next_offset()));
        let begins_within = self.segments.load().iter().all(|segment| segment.end() == 0);
        assert!(
            base >= self.end || (begins_within && next > self.end),
            "a batch at {base} goes before the log end {}",
            self.end
        );
        if base > self.end && !self.poisoned && !planted!(ForgetGapsOfLeader) {
            self.allow_gaps(next)?;
        }
        self.append_at(batch, header, base, LeaderEpoch(header.partition_leader_epoch))
    }

    fn allow_gaps(&mut self, upto: Offset) -> Result<(), StorageError> {
        if self.side.progress.content().gaps_upto >= upto {
            return Ok(());
        }
        if !self.prepared {
            self.prepare()?;
        }
        let allowed = self.side.progress.allow_gaps(upto.plus(GAPS_EXPECTED));
        self.poisoned |= allowed.as_ref().is_err_and(StorageError::is_fatal);
        allowed
    }
}
