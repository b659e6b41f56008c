//! What a partition does as a follower: takes what its leader has, cuts what the leader never had.
//!
//! Appending is a positioned write under the partition's lock, as for a leader. What takes longer,
//! cutting the log or removing what lies below a new log start, is done by the flusher's thread:
//! it alone knows that no flush is under way.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::MutexGuard;
use sawlog_protocol::records::{check_crc, split};
use tracing::{error, info, warn};

use super::{Partition, State};
use crate::base::{BrokerId, Offset};
use crate::config::FlushMode;
use crate::replication::core::{DurableReport, FetchAnswer, FetchRequest, FollowerStep};
use crate::replication::exchange::Replicated;
use crate::storage::{ProducerTable, StorageError};

/// What the flusher's thread is to do with the log before it flushes it again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Due {
    cut: Option<CutTo>,
    start: Option<Offset>,
}

#[derive(Clone, Copy, Debug)]
enum CutTo {
    /// End there.
    End(Offset),
    /// Be empty, and begin there.
    Anew(Offset),
}

impl Due {
    pub(super) fn is_some(&self) -> bool {
        self.cut.is_some() || self.start.is_some()
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.is_some()
    }
}

/// What a follower knows of its leader's log.
#[derive(Clone, Copy, Debug)]
pub(in crate::replication) struct Known {
    pub(in crate::replication) high_watermark: Offset,
    pub(in crate::replication) log_start: Offset,
}

/// What a follower does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::replication) enum Next {
    /// It may ask again.
    Ask,
    /// It will say when it may ask again.
    Wait,
    /// The answer was of no use; it asks again in a while.
    Retry,
}

impl Partition {
    /// Has the partition replicated, from now on. Said once, before its first role.
    pub(in crate::replication) fn replicate(&self, replicated: Replicated) {
        // A second time it would be the same.
        let _known = self.replicated.set(replicated);
    }

    pub(super) fn replicated(&self) -> Option<&Replicated> {
        self.replicated.get()
    }

    /// Has its records fetched from `leader`, or from nobody.
    pub(super) fn follow(self: &Arc<Self>, leader: Option<BrokerId>) {
        if let Some(replicated) = self.replicated() {
            replicated.follow(self, leader);
        }
    }

    pub(super) fn unfollow(&self) {
        if let Some(replicated) = self.replicated() {
            replicated.unfollow();
        }
    }

    pub(super) fn tell_fetcher_durable(&self) {
        if let Some(replicated) = self.replicated() {
            replicated.on_durable();
        }
    }

    /// What to ask the leader now, if anything, and what is known of its log.
    pub(in crate::replication) fn next_fetch(&self) -> Option<(FetchRequest, Known)> {
        let now = self.directory.monotonic();
        let mut state = self.state.lock();
        let fetch = state.core.next_fetch(now)?;
        let (high_watermark, log_start) = (state.core.high_watermark(), state.core.log().start);
        Some((fetch, Known { high_watermark, log_start }))
    }

    /// What to tell the leader once the disk has caught up.
    pub(in crate::replication) fn durable_report(&self) -> Option<(BrokerId, DurableReport)> {
        self.state.lock().core.durable_report()
    }

    /// Question `number` was refused, or not answered.
    pub(in crate::replication) fn on_fetch_failed(&self, number: u64) {
        let now = self.directory.monotonic();
        self.state.lock().core.on_fetch_failed(now, number);
    }

    /// Question `number` was answered, with these records.
    pub(in crate::replication) fn on_fetched(
        self: &Arc<Self>,
        number: u64,
        answer: FetchAnswer,
        records: &Bytes,
    ) -> Next {
        let now = self.directory.monotonic();
        let mut state = self.state.lock();
        if state.log.is_none() || !self.directory.data().is_online() {
            return Next::Wait;
        }
        match state.core.on_fetched(now, number, answer) {
            FollowerStep::Ignore => Next::Ask,
            FollowerStep::Append { high_watermark, log_start } => {
                self.take(state, records, (high_watermark, log_start))
            }
            FollowerStep::Truncate { to, .. } => {
                info!(partition = %self.name, to = to.0, "cutting what the leader does not have");
                self.cut(state, CutTo::End(to))
            }
            FollowerStep::Restart { at, .. } => {
                warn!(
                    partition = %self.name, at = at.0,
                    "the leader's log has nothing in common with this one any more: begun anew"
                );
                self.cut(state, CutTo::Anew(at))
            }
        }
    }

    fn cut(self: &Arc<Self>, mut state: MutexGuard<'_, State>, to: CutTo) -> Next {
        state.due.cut = Some(to);
        self.publish(&state.core);
        drop(state);
        self.directory.flusher().request(self);
        Next::Wait
    }

    /// Appends what came with the leader's numbers.
    fn take(
        self: &Arc<Self>,
        mut guard: MutexGuard<'_, State>,
        records: &Bytes,
        (high_watermark, log_start): (Offset, Offset),
    ) -> Next {
        let appended = self.append_all(&mut guard, records);
        let state = &mut *guard;
        let (moved, flush_now) = match &appended {
            Ok(rolled) => {
                let before = state.core.log().start;
                let moved = state.core.on_leader_ends(high_watermark, log_start);
                let start = state.core.log().start;
                if start > before {
                    state.due.start = Some(start);
                }
                let unsynced = state.core.log().durable < state.core.log().end;
                let waits = state.core.flush_mode() == FlushMode::Group
                    || state.unsynced_bytes >= super::LAZY_FLUSH_BYTES;
                (moved, *rolled || start > before || (unsynced && waits))
            }
            Err(_) => (false, true),
        };
        self.publish(&state.core);
        let now_at = state.core.high_watermark();
        if let Err(error) = appended {
            if let (StorageError::Corrupt { .. }, Some(replicated)) = (&error, self.replicated()) {
                replicated.on_refused(self.log_end(), high_watermark);
            }
            return self.not_taken(guard, &error);
        }
        drop(guard);
        if flush_now {
            self.directory.flusher().request(self);
        } else {
            self.directory.flusher().request_lazily(self);
        }
        if moved {
            self.on_high_watermark(now_at);
        }
        Next::Ask
    }

    fn append_all(&self, state: &mut State, records: &Bytes) -> Result<bool, StorageError> {
        let State { core, log, unsynced_bytes, .. } = state;
        let Some(log) = log.as_mut() else { return Ok(false) };
        let mut rolled = false;
        for found in split(records) {
            let Ok((header, batch)) = found else { return Err(damaged(self, "no batch")) };
            let begins_within = core.log().start == core.log().end;
            let fits = Offset(header.base_offset) >= core.log().end
                || (begins_within && Offset(header.next_offset()) > core.log().end);
            let is_whole = planted!(TakeDamaged) || check_crc(&batch, &header).is_ok();
            if !fits || header.last_offset_delta < 0 || !is_whole {
                return Err(damaged(self, "not the batch that was asked for"));
            }
            let end = core.log().end;
            if log.append_replicated(&batch, &header)?.rolled {
                log.save_producers(core.producers(), end);
                rolled = true;
            }
            core.on_replicated(&header, self.directory.now());
            *unsynced_bytes += u64::try_from(batch.len()).unwrap_or(0);
        }
        Ok(rolled)
    }

    fn not_taken(self: &Arc<Self>, guard: MutexGuard<'_, State>, error: &StorageError) -> Next {
        match error {
            StorageError::Corrupt { .. } => {
                drop(guard);
                warn!(partition = %self.name, %error, "damaged records came from the leader");
                Next::Retry
            }
            StorageError::NoSpace { .. } => {
                drop(guard);
                self.directory.data().on_full();
                self.directory.flusher().request(self);
                Next::Retry
            }
            error if error.is_fatal() => {
                self.fail(guard, error);
                Next::Wait
            }
            _ => Next::Retry,
        }
    }

    /// Cuts the log, and removes what lies below its start. On the flusher's thread.
    pub(super) fn do_due<'a>(&'a self, mut guard: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let now = self.directory.now();
        let state = &mut *guard;
        let Some(log) = state.log.as_mut().filter(|log| !log.is_busy()) else { return guard };
        let done = match state.due.cut {
            None => Ok(None),
            Some(CutTo::End(to)) => log.truncate(to, state.core.epochs(), now).map(|cut| {
                let end = log.log_end();
                let cut = cut.filter(|_| !planted!(KeepProducersOfTail));
                Some((end, cut.map_or_else(|| state.core.producers().clone(), |cut| cut.producers)))
            }),
            Some(CutTo::Anew(at)) => {
                log.restart_at(at).map(|()| Some((at, ProducerTable::default())))
            }
        };
        let starts = state.due.start.is_some();
        let done = done.and_then(|cut| {
            if let Some((end, producers)) = cut {
                state.due.cut = None;
                state.core.on_cut(self.directory.monotonic(), end, producers);
                let generation = state.core.generation();
                state.core.on_flushed(log.durable_end(), generation);
                if let Some(replicated) = self.replicated() {
                    replicated.on_ready();
                }
            }
            match state.due.start.take() {
                Some(start) => log.advance_start(start, state.core.epochs()).inspect_err(|error| {
                    if !error.is_fatal() {
                        state.due.start = Some(start);
                    }
                }),
                None => Ok(()),
            }
        });
        if done.is_ok() {
            state.core.on_start_kept(log.log_start());
            if starts {
                // Its leader may have somebody wait for that; it may lead itself by now.
                self.tell_fetcher_durable();
                self.deletions.notify_waiters();
            }
        }
        self.publish(&guard.core);
        match done {
            Err(error) if error.is_fatal() => {
                error!(partition = %self.name, %error, "cannot cut the log");
                self.fail(guard, &error);
                self.state.lock()
            }
            // Space was given up for this: there is none to be given up a second time.
            Err(StorageError::NoSpace { .. }) if self.directory.data().on_full() => {
                self.do_due(guard)
            }
            Err(_) => {
                self.directory.on_put_off();
                guard
            }
            Ok(()) => guard,
        }
    }

    /// Whether what the log holds on disk is about to be thrown away.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn begins_anew(&self) -> bool {
        matches!(self.state.lock().due.cut, Some(CutTo::Anew(_)))
    }

    /// Tries again what could not be done before: without it, a follower asks for nothing more, and a
    /// leader takes nothing.
    pub(in crate::replication) fn retry_due(self: &Arc<Self>) {
        if self.state.lock().due.is_some() {
            self.directory.flusher().request(self);
        }
    }
}

fn damaged(partition: &Partition, reason: &str) -> StorageError {
    StorageError::Corrupt {
        path: partition.directory.data().path().to_owned(),
        position: 0,
        offset: partition.log_end(),
        reason: reason.to_owned(),
    }
}
