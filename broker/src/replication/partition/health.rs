//! Whether a replica is a full copy: its log has not failed, and no records are missing from it. And
//! how it becomes one again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Partition;
use crate::base::Offset;
use crate::storage::{Rebuilt, RepairScope, StorageError};

impl Partition {
    /// Records were found damaged. Where other brokers have them, they are asked for first.
    pub(in crate::replication) fn on_damaged(&self) {
        match self.replicated() {
            Some(replicated) => replicated.on_damaged(),
            None => self.look_for_holes(),
        }
    }

    /// Looks whether records of the log are damaged, and has it told where that has changed.
    pub(in crate::replication) fn look_for_holes(&self) {
        let mut state = self.state.lock();
        let holed = self.has_damage();
        if state.core.is_holed() == holed {
            return;
        }
        state.core.on_holed(holed);
        let follows = state.core.following().is_some();
        drop(state);
        if follows {
            self.tell_fetcher_durable();
        }
        self.tell_trouble();
    }

    /// Whether records that may be read are damaged.
    pub(in crate::replication) fn has_damage(&self) -> bool {
        let start = self.log_start();
        self.quarantined().iter().any(|range| range.to > start)
    }

    /// Records that are damaged and not served.
    pub(crate) fn quarantined_records(&self) -> i64 {
        let (start, ranges) = (self.log_start(), self.quarantined());
        ranges.iter().map(|range| range.to.minus(range.from.max(start)).max(0)).sum()
    }

    /// Whether it is known to be no full copy, for damage.
    pub(in crate::replication) fn is_holed(&self) -> bool {
        self.state.lock().core.is_holed()
    }

    /// Whether its log has failed.
    pub(in crate::replication) fn is_failed(&self) -> bool {
        self.published.failed.load(Ordering::Acquire)
    }

    /// Whether it is no full copy.
    pub(in crate::replication) fn is_unfit(&self) -> bool {
        self.is_failed() || self.is_holed()
    }

    pub(super) fn tell_trouble(&self) {
        if let Some(replicated) = self.replicated() {
            replicated.on_trouble();
        }
    }

    /// What is to be made whole of the damaged segment at `base`, if that can be now.
    pub(in crate::replication) fn scope_at(&self, base: Offset) -> Option<RepairScope> {
        let is_compacted = self.config().cleanup_policy.compacts();
        let state = self.state.lock();
        if state.due.is_some() {
            return None;
        }
        let committed = state.core.high_watermark();
        state.log.as_ref()?.repair_scope(base, committed, state.core.epochs(), is_compacted)
    }

    /// Puts a segment that is whole in the place of the damaged one. False where the log has changed
    /// there, or is gone.
    ///
    /// # Errors
    /// The files could not be changed; the log is offline.
    pub(in crate::replication) fn put_repaired(
        self: &Arc<Self>,
        rebuilt: Rebuilt,
    ) -> Result<bool, StorageError> {
        let begun = match self.state.lock().log.as_mut() {
            Some(log) => log.begin_repair(rebuilt),
            None => Err(rebuilt.into_replacement()),
        };
        let (ticket, left) = match begun {
            Ok(begun) => begun,
            Err(replacement) => {
                replacement.discard()?;
                return Ok(false);
            }
        };
        let swapped = ticket.run();
        let mut state = self.state.lock();
        // Deleted or failed meanwhile: the files are nobody's.
        let Some(log) = state.log.as_mut() else { return Ok(false) };
        if let Err(error) = log.end_repair(swapped, left) {
            self.fail(state, &error);
            return Err(error);
        }
        let waits = state.due.is_some();
        drop(state);
        if waits {
            self.directory.flusher().request(self);
        }
        Ok(true)
    }
}
