//! What a partition does for its followers: takes note of how far they are, reads for them, and
//! tells who serves them that there is more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::{Partition, PartitionCore};
use crate::base::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};
use crate::metadata::AlterAnswer;
use crate::replication::core::{DurableReport, FetchAnswer, FetchRefusal, ReplicaFetch};
use crate::replication::exchange::News;
use crate::storage::ReadError;

/// Who is told of a partition's progress. One load where nobody is.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    /// Whether this broker leads, and others have replicas.
    led: AtomicBool,
    /// Whether others have replicas.
    replicated: AtomicBool,
    any: AtomicBool,
    list: ArcSwap<Vec<Arc<Watcher>>>,
}

/// One follower of one partition: its slot among those of the follower's session.
#[derive(Debug)]
pub(in crate::replication) struct Watcher {
    pub(in crate::replication) news: Arc<News>,
    pub(in crate::replication) slot: u32,
    /// Told, and not taken yet: nothing is told twice.
    told: AtomicBool,
    told_lazily: AtomicBool,
}

impl Watcher {
    pub(in crate::replication) fn new(news: Arc<News>, slot: u32) -> Arc<Self> {
        let (told, told_lazily) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { news, slot, told, told_lazily })
    }

    /// The slot was taken: what comes from here on is told.
    pub(in crate::replication) fn on_taken(&self) {
        self.told.store(false, Ordering::SeqCst);
        self.told_lazily.store(false, Ordering::SeqCst);
    }

    pub(in crate::replication) fn tell(&self) {
        if !self.told.swap(true, Ordering::SeqCst) {
            self.news.push(self.slot);
        }
    }

    pub(in crate::replication) fn tell_lazily(&self) {
        if !self.told.load(Ordering::SeqCst) && !self.told_lazily.swap(true, Ordering::SeqCst) {
            self.news.push_lazily(self.slot);
        }
    }
}

impl Watchers {
    pub(super) fn on_appended(&self) {
        self.tell_all();
    }

    /// The records below are committed: who has them can take its time to hear.
    pub(super) fn on_high_watermark(&self) {
        if self.any.load(Ordering::Acquire) {
            self.list.load().iter().for_each(|watcher| watcher.tell_lazily());
        }
    }

    /// Nobody waits for records to be gone but who deletes them.
    pub(super) fn on_start(&self) {
        self.on_high_watermark();
    }

    pub(super) fn on_role(&self) {
        self.tell_all();
    }

    pub(super) fn on_image(&self, led: bool, replicated: bool) {
        self.led.store(led, Ordering::Release);
        self.replicated.store(replicated, Ordering::Release);
    }

    fn tell_all(&self) {
        if self.any.load(Ordering::Acquire) {
            self.list.load().iter().for_each(|watcher| watcher.tell());
        }
    }

    fn change(&self, change: impl Fn(&mut Vec<Arc<Watcher>>)) {
        self.list.rcu(|list| {
            let mut list = list.as_ref().clone();
            change(&mut list);
            list
        });
        self.any.store(!self.list.load().is_empty(), Ordering::Release);
    }
}

/// A follower that waits for news.
#[derive(Clone, Copy, Debug)]
pub(in crate::replication) struct Heard {
    pub(in crate::replication) broker: BrokerId,
    /// The process that was heard of.
    pub(in crate::replication) epoch: BrokerEpoch,
    /// Its registration in the metadata, if it may be in sync.
    pub(in crate::replication) registered: Option<BrokerEpoch>,
}

/// What there is for a follower.
#[derive(Debug)]
pub(in crate::replication) struct Found {
    pub(in crate::replication) records: Bytes,
    pub(in crate::replication) high_watermark: Offset,
    pub(in crate::replication) log_start: Offset,
}

impl Partition {
    /// Tells `watcher` of progress from now on. Serialised by the caller with [`Self::unwatch`].
    pub(in crate::replication) fn watch(&self, watcher: &Arc<Watcher>) {
        self.watchers.change(|list| list.push(watcher.clone()));
    }

    pub(in crate::replication) fn unwatch(&self, watcher: &Arc<Watcher>) {
        self.watchers.change(|list| list.retain(|other| !Arc::ptr_eq(other, watcher)));
    }

    /// As [`Self::unwatch`], of a follower that does not ask any more.
    pub(in crate::replication) fn on_unfollowed(
        &self,
        watcher: &Arc<Watcher>,
        (replica, epoch): (BrokerId, BrokerEpoch),
    ) {
        self.unwatch(watcher);
        self.state.lock().core.on_unfollowed(replica, epoch);
    }

    /// Whether this broker leads it, and others have replicas.
    pub(in crate::replication) fn has_followers(&self) -> bool {
        self.watchers.led.load(Ordering::Acquire)
    }

    /// Whether other brokers have replicas of it.
    pub(in crate::replication) fn is_replicated(&self) -> bool {
        self.watchers.replicated.load(Ordering::Acquire)
    }

    /// A follower asks, and says how far it is. `registered` as with
    /// [`PartitionCore::on_fetch`].
    pub(in crate::replication) fn on_replica_fetch(
        self: &Arc<Self>,
        fetch: &ReplicaFetch,
        registered: Option<BrokerEpoch>,
    ) -> Result<FetchAnswer, FetchRefusal> {
        let now = self.directory.monotonic();
        self.as_leader(now, |core| {
            let fetched = core.on_fetch(now, fetch, registered)?;
            Ok((fetched.answer, fetched.moved))
        })
    }

    /// A follower's disk has caught up.
    pub(in crate::replication) fn on_replica_durable(self: &Arc<Self>, report: &DurableReport) {
        let now = self.directory.monotonic();
        // One that does not count says nothing.
        let _moved = self.as_leader(now, |core| Ok(((), core.on_durable(now, report)?)));
    }

    /// The controller has answered.
    pub(in crate::replication) fn on_alter_answer(
        self: &Arc<Self>,
        epoch: LeaderEpoch,
        number: u64,
        answer: &AlterAnswer,
    ) {
        let now = self.directory.monotonic();
        let refused = matches!(answer, AlterAnswer::Refused(_));
        let _moved = self.as_leader(now, |core| {
            let before = core.in_sync().len();
            let moved = core.on_alter_answer(now, epoch, number, answer);
            self.count_in_sync(before, core);
            Ok(((), moved))
        });
        if let Some(replicated) = self.replicated().filter(|_| refused) {
            replicated.metrics().refused.increment();
        }
    }

    /// The in-sync set may have another size than `before`.
    pub(super) fn count_in_sync(&self, before: usize, core: &PartitionCore) {
        if let Some(replicated) = self.replicated() {
            replicated.metrics().on_in_sync(before, core.in_sync().len());
        }
    }

    /// Followers that wait for news, by what is known of them, and what time has brought about.
    pub(in crate::replication) fn on_tick(self: &Arc<Self>, heard: &[Heard]) {
        let now = self.directory.monotonic();
        let _moved = self.as_leader(now, |core| {
            heard.iter().for_each(|it| core.on_heard(now, (it.broker, it.epoch), it.registered));
            Ok(((), false))
        });
    }

    fn as_leader<T>(
        self: &Arc<Self>,
        now: Duration,
        step: impl FnOnce(&mut PartitionCore) -> Result<(T, bool), FetchRefusal>,
    ) -> Result<T, FetchRefusal> {
        let mut state = self.state.lock();
        let low_watermark = state.core.low_watermark();
        let stepped = step(&mut state.core);
        if state.core.low_watermark() != low_watermark {
            self.deletions.notify_waiters();
        }
        let moved = matches!(stepped, Ok((_, true)));
        if moved {
            self.publish(&state.core);
        }
        self.ask_alter(&mut state.core, now);
        let high_watermark = state.core.high_watermark();
        drop(state);
        if moved {
            self.on_high_watermark(high_watermark);
        }
        stepped.map(|(value, _)| value)
    }

    /// Asks the controller for another in-sync set, if one is due.
    pub(super) fn ask_alter(self: &Arc<Self>, core: &mut PartitionCore, now: Duration) {
        if let Some(replicated) = self.replicated()
            && let Some(question) = core.alter_partition(now)
        {
            replicated.ask_alter(self, question);
        }
    }

    /// Reads for the follower that asked `fetch`, up to the log end.
    pub(in crate::replication) fn read_for_replica(
        &self,
        fetch: &ReplicaFetch,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Option<Found>, ReadError> {
        let leads = || self.leader_epoch() == Some(fetch.leader_epoch);
        if !leads() {
            return Ok(None);
        }
        let (high_watermark, log_start) = (self.high_watermark(), self.log_start());
        let (from, until) = (fetch.fetch_offset, self.log_end());
        let records = if from >= until || (max_bytes == 0 && !at_least_one) {
            Bytes::new()
        } else {
            self.read_log(from, until, max_bytes, at_least_one)?
        };
        // Another leadership may have cut it, and written anew.
        Ok(leads().then_some(Found { records, high_watermark, log_start }))
    }
}
