//! Whether a replica is a full copy: its log has not failed, and no records are missing from it. And
//! how it becomes one again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use sawlog_protocol::records::{BatchError, BatchHeader, check_crc, split};

use super::Partition;
use crate::base::Offset;
use crate::base::waiting::{may_wait, would_block};
use crate::replication::LogGeneration;
use crate::storage::{ReadError, Rebuilt, RepairScope, StorageError};

impl Partition {
    /// Reads batches of the log as [`crate::storage::LogReader::read`] does. Damage that comes up is put
    /// into quarantine.
    pub(super) fn read_log(
        &self,
        from: Offset,
        until: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Bytes, ReadError> {
        match self.reader.read(from, until, max_bytes, at_least_one) {
            Err(ReadError::Storage(StorageError::Corrupt { path, .. })) if !may_wait() => {
                let (doing, source) = ("cannot read", would_block());
                Err(StorageError::Io { doing, path, source }.into())
            }
            Err(ReadError::Storage(error @ StorageError::Corrupt { .. })) => {
                self.on_damage(error)?;
                self.reader.read(from, until, max_bytes, at_least_one)
            }
            read => read,
        }
    }

    /// Reads batches for who relies on each bit of them, and does not look itself: also what has decayed
    /// since this process wrote it or read it first is put into quarantine. Waits for the disk.
    ///
    /// # Errors
    /// As [`crate::storage::LogReader::read`].
    pub(crate) fn read_whole(
        &self,
        from: Offset,
        until: Offset,
        max_bytes: usize,
    ) -> Result<Bytes, ReadError> {
        let records = self.read_log(from, until, max_bytes, true)?;
        let Err(error) = check(&records) else { return Ok(records) };
        // Compaction leaves gaps: `from` itself may be in no segment.
        let first = BatchHeader::parse(&records).map_or(from, |first| Offset(first.base_offset));
        self.on_damage(self.corrupt(first.max(from), &error))?;
        let records = self.read_log(from, until, max_bytes, true)?;
        match check(&records) {
            Ok(()) => Ok(records),
            Err(error) => Err(self.corrupt(from, &error).into()),
        }
    }

    fn corrupt(&self, offset: Offset, error: &BatchError) -> StorageError {
        StorageError::Corrupt {
            path: self.reader.path_of(offset).unwrap_or_default(),
            position: 0,
            offset,
            reason: error.to_string(),
        }
    }

    /// A read has come upon damage, `error`: it is put into quarantine, so that all else of the segment
    /// can be read. Reads the whole segment.
    fn on_damage(&self, error: StorageError) -> Result<(), ReadError> {
        let StorageError::Corrupt { offset, .. } = error else { return Err(error.into()) };
        let Some(scrubber) = self.scrubber() else { return Err(error.into()) };
        match scrubber.scrub_at(offset, self.directory.now()) {
            Ok(Some(_)) => {
                self.on_damaged();
                Ok(())
            }
            // It takes appends: recovery decides, at the next start.
            Ok(None) => Err(error.into()),
            // In quarantine all the same, but not written down.
            Err(failed) => Err(failed.error.into()),
        }
    }

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

    /// What is to be made whole of the damaged segment at `base`, if that can be now, and of which log. It
    /// need not be known to be committed: that may be what waits for this replica to be whole. What another
    /// replica has there of the same epochs is what was here, and is put back only where nothing was cut
    /// meanwhile.
    pub(in crate::replication) fn scope_at(
        &self,
        base: Offset,
    ) -> Option<(LogGeneration, RepairScope)> {
        let is_compacted = self.config().cleanup_policy.compacts();
        let state = self.state.lock();
        if state.due.is_some() {
            return None;
        }
        let (end, epochs) = (state.core.log().end, state.core.epochs());
        let scope = state.log.as_ref()?.repair_scope(base, end, epochs, is_compacted)?;
        Some((state.core.generation(), scope))
    }

    /// Puts a segment that is whole in the place of the damaged one. False where the log is not `of` that
    /// generation any more, has changed there, or is gone.
    ///
    /// # Errors
    /// The files could not be changed; the log is offline.
    pub(in crate::replication) fn put_repaired(
        self: &Arc<Self>,
        rebuilt: Rebuilt,
        of: LogGeneration,
    ) -> Result<bool, StorageError> {
        let begun = {
            let mut state = self.state.lock();
            let is_same = state.core.generation() == of;
            match state.log.as_mut().filter(|_| is_same) {
                Some(log) => log.begin_repair(rebuilt),
                None => Err(rebuilt.into_replacement()),
            }
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

fn check(records: &Bytes) -> Result<(), BatchError> {
    split(records).try_for_each(|batch| {
        let (header, batch) = batch?;
        check_crc(&batch, &header)
    })
}
