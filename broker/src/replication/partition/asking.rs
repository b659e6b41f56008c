//! What requests ask a partition and wait for: whether it may answer them, and whether it has moved on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Partition;
use crate::base::{LeaderEpoch, Offset};
use crate::controller::SESSION_TIMEOUT;
use crate::replication::core::{AckState, EpochMismatch, check_epoch};
use crate::replication::waiters::Signal;

impl Partition {
    /// Fires `signal` once the high watermark is above `offset`, at once if it is.
    pub(crate) fn notify_above(&self, offset: Offset, signal: &Arc<Signal>, slot: usize) {
        self.waiters.register(offset, signal, slot);
        if self.high_watermark() > offset || self.leader_epoch().is_none() {
            self.waiters.advance(self.high_watermark());
            if self.leader_epoch().is_none() {
                self.waiters.fail_all();
            }
        }
    }

    /// As [`Self::notify_above`], for who reads: a follower is as good as a leader.
    pub(crate) fn notify_readable_above(&self, offset: Offset, signal: &Arc<Signal>, slot: usize) {
        self.waiters.register(offset, signal, slot);
        if self.read_epoch().is_none() {
            self.waiters.fail_all();
        } else if self.high_watermark() > offset {
            self.waiters.advance(self.high_watermark());
        }
    }

    /// Takes back what [`Self::notify_above`] registered.
    pub(crate) fn forget(&self, signal: &Arc<Signal>) {
        self.waiters.forget(signal);
    }

    /// Whether a write that ends with `last_offset` may be answered by the leadership that took it.
    pub(crate) fn ack_state_of(&self, epoch: LeaderEpoch, last_offset: Offset) -> AckState {
        self.state.lock().core.ack_state_of(epoch, last_offset)
    }

    /// Whether every in-sync replica was heard of within `limit`, and while this process ran. Where one was
    /// not, another may lead by now.
    pub(crate) fn is_heard(&self, limit: Duration) -> bool {
        let now = self.directory.monotonic();
        let since = now.saturating_sub(limit).max(self.directory.pulse().counts_from(now));
        self.state.lock().core.is_heard(since)
    }

    /// Whether it may tell how far the log goes and what is in it as the last word: every in-sync replica was
    /// heard of within half a session. Who is replaced because nobody hears of it, or has stood still
    /// meanwhile, has not heard of them for longer.
    pub(crate) fn is_heard_lately(&self) -> bool {
        self.is_heard(SESSION_TIMEOUT / 2)
    }

    /// Compares the epoch a client names with the leader's.
    pub(crate) fn check_epoch(&self, given: LeaderEpoch) -> Result<LeaderEpoch, EpochMismatch> {
        if self.published.failed.load(Ordering::Acquire) {
            return Err(EpochMismatch::Offline);
        }
        check_epoch(given, self.leader_epoch())
    }

    /// As [`Self::check_epoch`], of a leader or a follower: consumers may read from either.
    pub(crate) fn check_epoch_to_read(
        &self,
        given: LeaderEpoch,
    ) -> Result<LeaderEpoch, EpochMismatch> {
        if self.published.failed.load(Ordering::Acquire) {
            return Err(EpochMismatch::Offline);
        }
        check_epoch(given, self.read_epoch())
    }

    fn read_epoch(&self) -> Option<LeaderEpoch> {
        let epoch = self.published.read_epoch.load(Ordering::Acquire);
        (epoch >= 0).then_some(LeaderEpoch(epoch))
    }
}
