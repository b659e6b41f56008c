//! One partition of `__consumer_offsets` and the core that decides for it.
//!
//! A request is decided on the task that brings it, under the shard's lock: the records are in the
//! log when the lock is given back, so the order of decisions is the order of the log. The lock is
//! never held across an await. Whoever is to be answered waits itself for what its answer depends
//! on to be committed. One task per shard loads the log, and keeps the deadlines.
//!
//! A core belongs to one leadership of the partition: what it decides is appended in that epoch or
//! not at all, and is answered by what that epoch commits. When the leadership changes, or the log
//! refuses records, the core is dropped: those who wait are told to look for the coordinator again.
//! Whoever leads loads a new core, and serves it once all that was loaded is committed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use sawlog_protocol::records::{BatchBuilder, BatchError, BatchHeader, Compression};
use tokio::sync::{Notify, Semaphore, oneshot};
use tracing::{error, info, warn};

use super::consumer::AssignJob;
use super::core::{Ask, GroupCore, Output, Reply, Request, RequestId};
use super::load::load;
use super::options::GroupOptions;
use super::stored;
use super::types::{GroupError, GroupState, GroupType, Now};
use crate::base::tasks::{blocking, start_blocking};
use crate::base::{Clock, LeaderEpoch, Offset};
use crate::metadata::ImageCell;
use crate::replication::{AckState, AppendError, AppendRefusal, Partition, Signal};

/// How long a load that failed, or a log that refused records, is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// How long an answer waits for its records to be committed (Kafka's `offsets.commit.timeout.ms`).
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// A reply, and the last record that has to be committed before it may leave.
#[derive(Debug)]
pub(super) struct Decided {
    reply: Reply,
    /// The leadership that decided: another one may have other records at the same offsets.
    epoch: LeaderEpoch,
    after: Option<Offset>,
}

/// When to read the log again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reload {
    Now,
    /// It has just refused records, and would only be asked to refuse the same ones again.
    Later,
}

#[derive(Debug)]
enum State {
    /// The log has to be read, or is being read.
    Loading(Reload),
    /// Groups are served as leader of this epoch.
    Serving { core: Box<GroupCore>, epoch: LeaderEpoch },
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// In the order they came, in which they are told if nobody will answer.
    waiting: BTreeMap<RequestId, oneshot::Sender<Decided>>,
    next_request: u64,
    /// Tells cores apart: what one asked for is of no use to the next.
    core_serial: u64,
    /// Assignments to be computed.
    jobs: VecDeque<AssignJob>,
    /// Whether a thread computes some.
    is_assigning: bool,
    /// Until when the keeper sleeps.
    sleeps_until: Option<Duration>,
}

/// One partition of `__consumer_offsets`.
#[derive(Debug)]
pub(super) struct Shard {
    partition: Arc<Partition>,
    clock: Arc<dyn Clock>,
    images: Arc<ImageCell>,
    options: GroupOptions,
    /// How many shards may read their logs at once.
    loads: Arc<Semaphore>,
    inner: Mutex<Inner>,
    /// Tells the keeper to look at deadlines and state again.
    keeper: Notify,
}

impl Shard {
    /// A shard that has not read its log yet; [`Self::keep`] does.
    pub(super) fn new(
        partition: Arc<Partition>,
        clock: Arc<dyn Clock>,
        images: Arc<ImageCell>,
        options: GroupOptions,
        loads: Arc<Semaphore>,
    ) -> Self {
        let inner = Inner {
            state: State::Loading(Reload::Now),
            waiting: BTreeMap::new(),
            next_request: 0,
            core_serial: 0,
            jobs: VecDeque::new(),
            is_assigning: false,
            sleeps_until: None,
        };
        let (inner, keeper) = (Mutex::new(inner), Notify::new());
        Self { partition, clock, images, options, loads, inner, keeper }
    }

    /// Whether this is still the shard of `partition`.
    pub(super) fn is_of(&self, partition: &Arc<Partition>) -> bool {
        Arc::ptr_eq(&self.partition, partition)
    }

    /// The partition may be led by somebody else now, or by this broker anew: whoever waits for the
    /// leadership before is told.
    pub(super) fn look_at_leadership(&self) {
        self.give_way();
        self.keeper.notify_one();
    }

    /// Drops a core whose leadership is over.
    fn give_way(&self) {
        let mut inner = self.inner.lock();
        if let State::Serving { epoch, .. } = &inner.state
            && self.partition.leader_epoch() != Some(*epoch)
        {
            let (epoch, partition) = (epoch.0, &self.partition.name);
            info!(%partition, epoch, "groups: coordinator gave way");
            self.drop_core(&mut inner, Reload::Now);
        }
    }

    /// Whether its log has been read.
    pub(super) fn is_serving(&self) -> bool {
        matches!(self.inner.lock().state, State::Serving { .. })
    }

    /// Adds its groups to `counts`, once they are known.
    pub(super) fn count_groups(&self, counts: &mut BTreeMap<(GroupType, GroupState), usize>) {
        if let State::Serving { core, .. } = &self.inner.lock().state {
            core.count_into(counts);
        }
    }

    /// Decides about a request and waits until its answer may leave.
    pub(super) async fn ask<A: Ask>(&self, ask: A) -> A::Answer {
        let request = ask.into_request();
        let tells_offsets = matches!(request, Request::Fetch(_));
        let receiver = match self.submit(request) {
            Ok(receiver) => receiver,
            Err(error) => return A::refused(error),
        };
        // Without a sender the core that was asked is gone.
        let Ok(decided) = receiver.await else { return A::refused(GroupError::NotCoordinator) };
        if let Some(after) = decided.after.filter(|_| !planted!(AnswerAtAppend))
            && let Err(error) = self.committed(decided.epoch, after).await
        {
            return A::refused(error);
        }
        // Another may coordinate by now, with newer offsets.
        if tells_offsets && !self.partition.is_heard_lately() {
            return A::refused(GroupError::NotCoordinator);
        }
        A::answer(decided.reply).unwrap_or_else(|| A::refused(GroupError::NotAvailable))
    }

    /// Decides about a request; the reply comes when the core has one.
    pub(super) fn submit(
        &self,
        request: Request,
    ) -> Result<oneshot::Receiver<Decided>, GroupError> {
        let now = self.now();
        let mut inner = self.inner.lock();
        let Inner { state, waiting, next_request, .. } = &mut *inner;
        let leads = self.partition.leader_epoch();
        let State::Serving { core, epoch } = state else {
            return Err(match leads {
                Some(_) => GroupError::LoadInProgress,
                None => GroupError::NotCoordinator,
            });
        };
        if leads != Some(*epoch) {
            self.drop_core(&mut inner, Reload::Now);
            return Err(GroupError::NotCoordinator);
        }
        let id = RequestId(*next_request);
        *next_request += 1;
        let (sender, receiver) = oneshot::channel();
        waiting.insert(id, sender);
        core.see(&self.images.peek());
        let output = core.on_request(now, id, request);
        if let Err(error) = self.carry_out(&mut inner, output) {
            // Where the core is gone, so is the sender; where it is as before, this is what is left.
            inner.waiting.remove(&id);
            return Err(error);
        }
        self.wake_keeper(&inner);
        Ok(receiver)
    }

    /// Appends the records and hands out the replies.
    fn carry_out(&self, inner: &mut Inner, output: Output) -> Result<(), GroupError> {
        let State::Serving { core, epoch } = &mut inner.state else {
            return Err(GroupError::LoadInProgress);
        };
        let epoch = *epoch;
        let mut written = None;
        let is_offsets_only = output.is_offsets_only();
        if output.records.is_empty() {
            core.on_appended(output.records, Offset::ZERO);
        } else {
            match self.append(epoch, &output) {
                Ok((base, last)) => {
                    core.on_appended(output.records, base);
                    written = Some(last);
                }
                Err(error) if is_offsets_only => {
                    core.on_refused();
                    return Err(error);
                }
                Err(error) => {
                    self.drop_core(inner, Reload::Later);
                    return Err(error);
                }
            }
        }
        for outgoing in output.replies {
            if let Some(sender) = inner.waiting.remove(&outgoing.request) {
                let (reply, after) = (outgoing.reply, written.max(outgoing.after));
                let decided = Decided { reply, epoch, after };
                // Whoever asked may have gone.
                let _ = sender.send(decided);
            }
        }
        if !output.jobs.is_empty() {
            inner.jobs.extend(output.jobs);
            self.keeper.notify_one();
        }
        Ok(())
    }

    /// One batch. Returns its first and last offset.
    fn append(&self, epoch: LeaderEpoch, output: &Output) -> Result<(Offset, Offset), GroupError> {
        let now = self.clock.now();
        let batch = encode(output, now.0).map_err(|error| {
            warn!(partition = %self.partition.name, %error, "groups: cannot write records");
            GroupError::TooLarge
        })?;
        let header = BatchHeader::parse(&batch).map_err(|_| GroupError::TooLarge)?;
        match self.partition.append_in_epoch(epoch, &batch, &header, now) {
            Ok(accepted) => {
                // Without a producer nothing was sent before.
                Ok((accepted.base_offset.unwrap_or(accepted.last_offset), accepted.last_offset))
            }
            Err(error) => {
                warn!(partition = %self.partition.name, %error, "groups: records refused");
                Err(match error {
                    AppendError::Refused(AppendRefusal::NotLeader) | AppendError::Offline => {
                        GroupError::NotCoordinator
                    }
                    AppendError::Storage(error) if error.is_fatal() => GroupError::NotCoordinator,
                    AppendError::Refused(_) | AppendError::Storage(_) | AppendError::Full => {
                        GroupError::NotAvailable
                    }
                })
            }
        }
    }

    /// Those who wait find out that nobody will answer; the keeper loads anew.
    fn drop_core(&self, inner: &mut Inner, reload: Reload) {
        inner.state = State::Loading(reload);
        inner.waiting.clear();
        inner.jobs.clear();
        self.keeper.notify_one();
    }

    /// Wakes the keeper if something comes up before it would look.
    fn wake_keeper(&self, inner: &Inner) {
        let State::Serving { core, .. } = &inner.state else { return };
        if let Some(next) = core.next_deadline()
            && inner.sleeps_until.is_none_or(|until| next < until)
        {
            self.keeper.notify_one();
        }
    }

    /// Returns once the record at `offset` is committed, by the leadership that wrote it.
    async fn committed(&self, epoch: LeaderEpoch, offset: Offset) -> Result<(), GroupError> {
        // In this order: the watermark seen is one of the leadership seen, or of one before.
        let is_beyond = self.partition.high_watermark() > offset;
        if is_beyond && self.partition.leader_epoch() == Some(epoch) {
            return Ok(());
        }
        let signal = Signal::new();
        let _registered = Registered { partition: &self.partition, signal: &signal };
        self.partition.notify_above(offset, &signal, 0);
        let wait = async {
            loop {
                match self.partition.ack_state_of(epoch, offset) {
                    AckState::Committed => return Ok(()),
                    AckState::NotEnoughReplicas => return Err(GroupError::NotAvailable),
                    AckState::NotLeader | AckState::Offline => {
                        return Err(GroupError::NotCoordinator);
                    }
                    AckState::Waiting => {}
                }
                fired(&signal).await;
            }
        };
        // What was appended stays and may be committed yet: the client has to ask again.
        tokio::time::timeout(COMMIT_TIMEOUT, wait).await.unwrap_or(Err(GroupError::NotAvailable))
    }

    /// Returns once all below `until` is committed, however long that takes; false once another
    /// leadership has begun.
    async fn all_committed(&self, epoch: LeaderEpoch, until: Offset) -> bool {
        let signal = Signal::new();
        let _registered = Registered { partition: &self.partition, signal: &signal };
        loop {
            if until == Offset::ZERO || self.partition.high_watermark() >= until {
                return self.partition.leader_epoch() == Some(epoch);
            }
            self.partition.forget(&signal);
            self.partition.notify_above(until.plus(-1), &signal, 0);
            if self.partition.leader_epoch() != Some(epoch) {
                return false;
            }
            // Dropping either loses nothing: the loop looks at both again.
            tokio::select! {
            biased;
                           () = fired(&signal) => {}
                           () = self.keeper.notified() => {}
                       }
        }
    }

    /// Loads the log and keeps the deadlines, until the shard is dropped by its owner.
    pub(super) async fn keep(self: Arc<Self>) {
        loop {
            if self.partition.leader_epoch().is_none() {
                self.give_way();
                self.pause(None).await;
                continue;
            }
            if let Some(reload) = self.take_reload() {
                if reload == Reload::Later {
                    tokio::time::sleep(RETRY).await;
                }
                if !self.reload().await {
                    self.pause(Some(RETRY)).await;
                }
                continue;
            }
            self.start_assigning();
            let next = self.run_deadlines();
            self.pause(next).await;
        }
    }

    /// When to read the log, if it has to be read; after a rest it is time.
    fn take_reload(&self) -> Option<Reload> {
        match &mut self.inner.lock().state {
            State::Loading(reload) => Some(std::mem::replace(reload, Reload::Now)),
            State::Serving { .. } => None,
        }
    }

    /// Has the assignments that are asked for computed, one after another, on a thread of their own.
    fn start_assigning(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        if inner.is_assigning || inner.jobs.is_empty() {
            return;
        }
        inner.is_assigning = true;
        drop(inner);
        let shard = self.clone();
        start_blocking(move || while shard.assign_next() {});
    }

    /// Computes an assignment and brings it to the core. Whether there was one to compute.
    fn assign_next(&self) -> bool {
        let mut inner = self.inner.lock();
        let Some(job) = inner.jobs.pop_front() else {
            inner.is_assigning = false;
            return false;
        };
        let serial = inner.core_serial;
        drop(inner);
        let done = job.run();
        let now = self.now();
        let mut inner = self.inner.lock();
        let is_ours = inner.core_serial == serial;
        let State::Serving { core, epoch } = &mut inner.state else { return true };
        // A leader that has been deposed finds out with the next request or deadline.
        if is_ours && self.partition.leader_epoch() == Some(*epoch) {
            let output = core.on_assigned(now, done);
            // What could not be written is logged; the core is as before, or loaded anew.
            let _ = self.carry_out(&mut inner, output);
            self.wake_keeper(&inner);
        }
        true
    }

    /// Sleeps for `time`, or until somebody notices that there is something to do. Dropping either
    /// branch loses nothing: state and deadlines are looked at again.
    async fn pause(&self, time: Option<Duration>) {
        let sleep = async {
            match time {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
        biased;
                   () = sleep => {}
                   () = self.keeper.notified() => {}
               }
    }

    /// Decides about the deadlines that are over. Returns how long there is nothing to do.
    fn run_deadlines(&self) -> Option<Duration> {
        loop {
            let now = self.now();
            let mut inner = self.inner.lock();
            let State::Serving { core, epoch } = &mut inner.state else { return None };
            if self.partition.leader_epoch() != Some(*epoch) {
                self.drop_core(&mut inner, Reload::Now);
                return None;
            }
            let next = core.next_deadline();
            match next {
                Some(due) if due <= now.monotonic => {
                    let output = core.on_timers(now);
                    // What could not be written is logged; the core is as before, or loaded anew.
                    let _ = self.carry_out(&mut inner, output);
                }
                _ => {
                    inner.sleeps_until = next;
                    return next.map(|due| due.saturating_sub(now.monotonic));
                }
            }
        }
    }

    /// Reads the log into a new core and serves it, once all that was read is committed. False
    /// where that is to be tried again later.
    async fn reload(self: &Arc<Self>) -> bool {
        let Ok(turn) = self.loads.clone().acquire_owned().await else { return false };
        let Some(epoch) = self.partition.leader_epoch() else { return true };
        let until = self.partition.log_end();
        let partition = self.partition.clone();
        let mut core = GroupCore::new(self.options.clone(), self.images.load());
        let loaded =
            blocking(move || load(&partition, until, &mut core).map(|count| (core, count))).await;
        drop(turn);
        if self.partition.leader_epoch() != Some(epoch) {
            return true;
        }
        let (core, records) = match loaded {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(error)) => {
                error!(partition = %self.partition.name, %error, "groups: cannot read the log");
                return false;
            }
            // The broker stops, or the load panicked.
            Err(_) => return false,
        };
        !self.all_committed(epoch, until).await || self.serve(core, epoch, until, records)
    }

    fn serve(&self, core: GroupCore, epoch: LeaderEpoch, until: Offset, records: usize) -> bool {
        let now = self.now();
        let mut inner = self.inner.lock();
        if self.partition.leader_epoch() != Some(epoch) || self.partition.log_end() != until {
            return false;
        }
        inner.state = State::Serving { core: Box::new(core), epoch };
        inner.core_serial += 1;
        let State::Serving { core, .. } = &mut inner.state else { return false };
        let output = core.on_loaded(now);
        let (partition, epoch) = (&self.partition.name, epoch.0);
        info!(%partition, epoch, records, "groups: coordinator ready");
        self.carry_out(&mut inner, output).is_ok()
    }

    fn now(&self) -> Now {
        Now { monotonic: self.clock.monotonic(), wall: self.clock.now() }
    }
}

/// Takes back a registration when its waiter goes away.
struct Registered<'a> {
    partition: &'a Partition,
    signal: &'a Arc<Signal>,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.partition.forget(self.signal);
    }
}

/// Returns once the signal has fired.
async fn fired(signal: &Arc<Signal>) {
    std::future::poll_fn(|cx| match signal.poll_fired(cx.waker()) {
        Poll::Ready(_) => Poll::Ready(()),
        Poll::Pending => Poll::Pending,
    })
    .await;
}

fn encode(output: &Output, timestamp: i64) -> Result<bytes::Bytes, BatchError> {
    let mut builder = BatchBuilder::new(Compression::None);
    for record in &output.records {
        let (key, value) = stored::encode(record);
        builder.append(timestamp, Some(&key), value.as_deref(), &[])?;
    }
    Ok(builder.build())
}

#[cfg(test)]
mod tests;
