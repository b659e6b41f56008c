//! DeleteRecords: what is deleted is gone for whoever may lead later, before anybody is told so.
//!
//! A leader advances its own log start and tells those who follow. The low watermark is the least log
//! start of the replicas that count, as it is written down on their disks: nothing below comes back,
//! whichever of them is elected.

use tokio::time::{Instant, timeout_at};

use super::{Partition, State};
use crate::base::Offset;
use crate::storage::StorageError;

/// Why DeleteRecords did nothing, or not everywhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeleteError {
    #[error("offset {asked} is not in [0, high watermark {high_watermark}]")]
    OutOfRange { asked: Offset, high_watermark: Offset },
    #[error("this broker does not lead the partition")]
    NotLeader,
    #[error("the partition's log is offline")]
    Offline,
    #[error("not all in-sync replicas have deleted in time")]
    TimedOut,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Partition {
    /// Advances the log start to `to`, or to the high watermark where `to` is `None`
    /// (DeleteRecords), and removes what lies wholly below. Returns what to wait for with
    /// [`Self::deleted`].
    ///
    /// # Errors
    /// `to` is outside the log, or it cannot be written down.
    pub(crate) fn delete_records(&self, to: Option<Offset>) -> Result<Offset, DeleteError> {
        let mut state = self.state.lock();
        let State { core, log, due, .. } = &mut *state;
        if core.is_failed() {
            return Err(DeleteError::Offline);
        }
        if core.leader_epoch().is_none() || due.is_cut() {
            return Err(DeleteError::NotLeader);
        }
        let log = log.as_mut().ok_or(DeleteError::NotLeader)?;
        let high_watermark = core.high_watermark();
        let to = to.unwrap_or(high_watermark);
        if to > high_watermark || to < Offset::ZERO {
            return Err(DeleteError::OutOfRange { asked: to, high_watermark });
        }
        if to > core.log().start {
            if let Err(error) = self.advance_start(log, core, to) {
                if error.is_fatal() {
                    self.fail(state, &error);
                }
                return Err(error.into());
            }
            core.on_start_advanced(to);
            self.publish(core);
            self.watchers.on_start();
        }
        Ok(to)
    }

    /// Waits until everything below `to` is gone from all replicas that count. Returns the low
    /// watermark.
    ///
    /// # Errors
    /// That did not come about by `deadline`, or somebody else leads.
    pub(crate) async fn deleted(
        &self,
        to: Offset,
        deadline: Instant,
    ) -> Result<Offset, DeleteError> {
        loop {
            let mut changed = std::pin::pin!(self.deletions.notified());
            changed.as_mut().enable();
            let low = self.low_watermark()?;
            if let Some(low) = low.filter(|low| *low >= to || planted!(AnswerAtDeletion)) {
                return Ok(low.max(to));
            }
            timeout_at(deadline, changed).await.map_err(|_| DeleteError::TimedOut)?;
        }
    }

    fn low_watermark(&self) -> Result<Option<Offset>, DeleteError> {
        let state = self.state.lock();
        if state.core.is_failed() {
            return Err(DeleteError::Offline);
        }
        state.core.leader_epoch().ok_or(DeleteError::NotLeader)?;
        Ok(state.core.low_watermark())
    }
}
