//! The leader's side of replication: what followers report, the high watermark, the in-sync set.
//!
//! Always: what a follower has reported counts for this leadership and one registration of that
//! follower only, and rises; it is never more than what a fetch has shown to agree with this log.

use std::time::Duration;

use super::isr::{Change, InSync};
use super::messages::{DurableReport, FetchAnswer, FetchRefusal, HOLED, ReplicaFetch};
use super::{PartitionCore, Role};
use crate::base::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};
use crate::config::FlushMode;
use crate::metadata::{AlterAnswer, AlterPartition, InSyncReplica, PartitionState};

/// How long a replica the controller has found unfit is not proposed again.
const UNFIT_FOR: Duration = Duration::from_millis(500);

/// A partition's leadership by this broker.
#[derive(Clone, Debug)]
pub(super) struct Leadership {
    pub(super) epoch: LeaderEpoch,
    /// The log end when the epoch began.
    pub(super) epoch_start: Offset,
    pub(super) in_sync: InSync,
    /// The other replicas.
    remotes: Vec<Remote>,
}

/// Another replica, as its leader knows it.
#[derive(Clone, Debug)]
struct Remote {
    broker: BrokerId,
    /// The process that has reported; none has in this leadership.
    broker_epoch: BrokerEpoch,
    /// Its registration in the metadata, if it may be in sync.
    registered: Option<BrokerEpoch>,
    /// Its log end, up to which its log is like ours.
    end: Option<Offset>,
    /// What of that a power cut leaves.
    durable: Option<Offset>,
    /// Its log start, as it is written down there.
    log_start: Option<Offset>,
    /// Its log has a hole: it is no full copy.
    holed: bool,
    /// When it had last what this log held then.
    caught_up_at: Duration,
    /// When it reported last, and this log's end then.
    reported: (Duration, Offset),
    /// The controller does not take it before.
    unfit_until: Duration,
}

/// What a fetch leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// What the follower gets.
    pub answer: FetchAnswer,
    /// Whether the high watermark moved.
    pub moved: bool,
}

impl Leadership {
    /// E3: the epoch starts at the end of the log.
    pub(super) fn begin(now: Duration, own: BrokerId, state: &PartitionState, end: Offset) -> Self {
        let mut leadership = Self {
            epoch: state.leader_epoch,
            epoch_start: end,
            in_sync: InSync::new(&state.isr, state.partition_epoch),
            remotes: Vec::new(),
        };
        leadership.follow_replicas(now, own, state);
        leadership
    }

    /// The same leadership under newer metadata.
    pub(super) fn on_image(&mut self, now: Duration, own: BrokerId, state: &PartitionState) {
        // Whom the controller has taken out, it takes back once they have spoken: what they said before
        // was before it knew better.
        let members = self.in_sync.committed();
        let is_out = |broker: &BrokerId| members.contains(broker) && !state.isr.contains(broker);
        for remote in self.remotes.iter_mut().filter(|remote| is_out(&remote.broker)) {
            remote.registered = None;
        }
        self.in_sync.on_image(&state.isr, state.partition_epoch);
        self.follow_replicas(now, own, state);
    }

    pub(super) fn has_remotes(&self) -> bool {
        !self.remotes.is_empty()
    }

    fn follow_replicas(&mut self, now: Duration, own: BrokerId, state: &PartitionState) {
        self.remotes.retain(|remote| state.replicas.contains(&remote.broker));
        for broker in state.replicas.iter().filter(|broker| **broker != own) {
            if !self.remotes.iter().any(|remote| remote.broker == *broker) {
                self.remotes.push(Remote::new(*broker, now));
            }
        }
    }

    /// H1: the least progress over the replicas that count; none if one has not reported.
    pub(super) fn replicated(&self, own: Offset, mode: FlushMode) -> Option<Offset> {
        let mut least = own;
        for remote in self.counted() {
            least = least.min(remote.progress(mode)?);
        }
        Some(least)
    }

    /// The other replicas that count.
    fn counted(&self) -> impl Iterator<Item = &Remote> {
        self.remotes.iter().filter(|remote| self.in_sync.counts(remote.broker))
    }

    /// S2: a replica outside the set that has all there is to have.
    fn joinable(&self, now: Duration, core: Caught) -> Option<Change> {
        let fit = |remote: &&Remote| {
            let known = remote.registered == Some(remote.broker_epoch)
                || (planted!(IgnoreBrokerEpoch) && remote.registered.is_some());
            known
                && now >= remote.unfit_until
                && !self.in_sync.committed().contains(&remote.broker)
                // What was deleted does not come back with it.
                && remote.log_start >= Some(core.log_start)
                && remote.progress(core.mode).is_some_and(|progress| {
                    progress >= core.high_watermark
                        && (progress >= self.epoch_start || planted!(JoinBelowEpochStart))
                })
        };
        let remote = self.remotes.iter().find(fit)?;
        Some(Change::Expand(remote.broker, remote.broker_epoch))
    }

    /// S1: members that have lagged behind for too long.
    fn laggards(&self, now: Duration, lag_max: Duration) -> Option<Change> {
        let lags = |remote: &&Remote| {
            self.in_sync.committed().contains(&remote.broker)
                && now.saturating_sub(remote.caught_up_at) > lag_max
        };
        // Nothing is allocated where nobody lags.
        self.remotes.iter().find(lags)?;
        Some(Change::Shrink(self.remotes.iter().filter(lags).map(|remote| remote.broker).collect()))
    }

    fn proposed(&self, change: &Change, own: InSyncReplica) -> Vec<InSyncReplica> {
        let stays = |broker: &BrokerId| match change {
            Change::Expand(..) | Change::Withdraw(_) => true,
            Change::Shrink(leaving) => !leaving.contains(broker),
        };
        let member = |broker: &BrokerId| {
            let epoch = if *broker == own.broker { own.epoch } else { BrokerEpoch::NONE };
            InSyncReplica { broker: *broker, epoch }
        };
        let mut set: Vec<_> =
            self.in_sync.committed().iter().filter(|broker| stays(broker)).map(member).collect();
        if let Change::Expand(broker, epoch) = change {
            set.push(InSyncReplica { broker: *broker, epoch: *epoch });
        }
        set
    }
}

/// What a replica has to have caught up with.
#[derive(Clone, Copy, Debug)]
struct Caught {
    mode: FlushMode,
    high_watermark: Offset,
    log_start: Offset,
}

impl Remote {
    fn new(broker: BrokerId, now: Duration) -> Self {
        Self {
            broker,
            broker_epoch: BrokerEpoch::NONE,
            registered: None,
            end: None,
            durable: None,
            log_start: None,
            holed: false,
            // It gets the whole time to say something.
            caught_up_at: now,
            reported: (now, Offset::ZERO),
            unfit_until: Duration::ZERO,
        }
    }

    /// What of its log counts; nothing of one with a hole.
    fn progress(&self, mode: FlushMode) -> Option<Offset> {
        if self.holed {
            return None;
        }
        match mode {
            FlushMode::Group if planted!(CountUndurable) => self.end,
            FlushMode::Group => self.durable,
            FlushMode::Os => self.end,
        }
    }

    /// A process reports: what an earlier one did counts no more.
    fn of(&mut self, epoch: BrokerEpoch) -> Result<(), FetchRefusal> {
        if epoch < self.broker_epoch {
            let (given, current) = (epoch, self.broker_epoch);
            return Err(FetchRefusal::StaleBrokerEpoch { given, current });
        }
        if epoch > self.broker_epoch {
            self.broker_epoch = epoch;
            (self.end, self.durable, self.log_start, self.holed) = (None, None, None, false);
        }
        Ok(())
    }

    /// S1: caught up is who has what this log holds, or held when it reported last.
    fn note_progress(&mut self, now: Duration, mode: FlushMode, log_end: Offset) {
        let (reported_at, end_then) = self.reported;
        match self.progress(mode) {
            Some(progress) if progress >= log_end => self.caught_up_at = now,
            Some(progress) if progress >= end_then => {
                self.caught_up_at = self.caught_up_at.max(reported_at);
            }
            Some(_) | None => {}
        }
    }
}

impl PartitionCore {
    /// A follower asks for records. `registered` is its registration in the metadata, if it may be
    /// in sync: neither fenced nor shutting down.
    ///
    /// # Errors
    /// It gets nothing, and what it says about itself does not count.
    pub fn on_fetch(
        &mut self,
        now: Duration,
        fetch: &ReplicaFetch,
        registered: Option<BrokerEpoch>,
    ) -> Result<Fetched, FetchRefusal> {
        let answer = self.compare(fetch)?;
        let (log, mode) = (self.log, self.flush_mode);
        let remote = self.remote(fetch.leader_epoch, fetch.replica)?;
        remote.of(fetch.broker_epoch)?;
        remote.registered = registered;
        remote.holed = fetch.durable == HOLED;
        let agrees = matches!(answer, FetchAnswer::Records { .. });
        if !agrees {
            return Ok(Fetched { answer, moved: false });
        }
        // Requests overtake each other; in one leadership a follower that agrees only grows.
        remote.end = remote.end.max(Some(fetch.fetch_offset));
        remote.durable = remote.durable.max(Some(fetch.durable.min(fetch.fetch_offset)));
        remote.log_start = remote.log_start.max(Some(fetch.log_start));
        remote.note_progress(now, mode, log.end);
        remote.reported = (now, log.end);
        let moved = self.advance_high_watermark();
        // As of now: the follower learns of what its own fetch has committed.
        let answer = self.compare(fetch)?;
        Ok(Fetched { answer, moved })
    }

    /// A follower's disk has caught up. Returns whether the high watermark moved.
    ///
    /// # Errors
    /// It does not count.
    pub fn on_durable(
        &mut self,
        now: Duration,
        report: &DurableReport,
    ) -> Result<bool, FetchRefusal> {
        let (log, mode) = (self.log, self.flush_mode);
        let remote = self.remote(report.leader_epoch, report.replica)?;
        if report.broker_epoch != remote.broker_epoch {
            let (given, current) = (report.broker_epoch, remote.broker_epoch);
            return Err(FetchRefusal::StaleBrokerEpoch { given, current });
        }
        remote.holed = report.durable == HOLED;
        // Beyond what a fetch has shown to agree, its log may be another.
        let durable = remote.end.map(|end| report.durable.min(end));
        remote.durable = remote.durable.max(durable);
        remote.log_start = remote.log_start.max(Some(report.log_start));
        remote.note_progress(now, mode, log.end);
        Ok(self.advance_high_watermark())
    }

    /// A follower is there and waits for news, without saying how far it is: there was none.
    /// `registered` as with [`Self::on_fetch`].
    pub fn on_heard(
        &mut self,
        now: Duration,
        (replica, epoch): (BrokerId, BrokerEpoch),
        registered: Option<BrokerEpoch>,
    ) {
        let (end, mode) = (self.log.end, self.flush_mode);
        let Role::Leader(leadership) = &mut self.role else { return };
        let remote = leadership.remotes.iter_mut().find(|remote| remote.broker == replica);
        let Some(remote) = remote.filter(|remote| remote.broker_epoch == epoch) else { return };
        remote.registered = registered;
        if remote.progress(mode).is_some_and(|progress| progress >= end) {
            remote.caught_up_at = now;
        }
    }

    /// A follower does not ask any more: what it said of itself says nothing about what it has from here
    /// on. Its log may have failed.
    pub fn on_unfollowed(&mut self, replica: BrokerId, epoch: BrokerEpoch) {
        let Role::Leader(leadership) = &mut self.role else { return };
        let remote = leadership.remotes.iter_mut().find(|remote| remote.broker == replica);
        if let Some(remote) = remote.filter(|remote| remote.broker_epoch == epoch) {
            (remote.end, remote.durable, remote.log_start) = (None, None, None);
        }
    }

    /// The low watermark: what is below is gone for good from every replica that may lead. None where this
    /// broker does not, where one that counts has not told, or where so few are in sync that others are
    /// eligible.
    #[must_use]
    pub fn low_watermark(&self) -> Option<Offset> {
        let Role::Leader(leadership) = &self.role else { return None };
        if leadership.in_sync.gate() < self.min_in_sync {
            return None;
        }
        leadership
            .counted()
            .try_fold(self.kept_start, |low, remote| Some(low.min(remote.log_start?)))
    }

    /// Whether every replica that counts has followed this leadership, and was caught up within `limit`.
    #[must_use]
    pub fn is_followed(&self, now: Duration, limit: Duration) -> bool {
        let Role::Leader(leadership) = &self.role else { return false };
        let follows = |remote: &Remote| {
            remote.end.is_some() && now.saturating_sub(remote.caught_up_at) <= limit
        };
        leadership.counted().all(follows)
    }

    /// Whether every replica that counts was heard of at `since` or later, however far it is. Where one was
    /// not, another may lead by now.
    #[must_use]
    pub fn is_heard(&self, since: Duration) -> bool {
        let Role::Leader(leadership) = &self.role else { return false };
        let heard_at = |remote: &Remote| remote.reported.0.max(remote.caught_up_at);
        leadership.counted().all(|remote| heard_at(remote) >= since)
    }

    /// The change of the in-sync set to ask the controller for now, if any (S1–S3). To be called
    /// after whatever came in, and at [`Self::alter_due_at`].
    pub fn alter_partition(&mut self, now: Duration) -> Option<AlterPartition> {
        let own = InSyncReplica { broker: self.broker, epoch: self.registration };
        let (high_watermark, log_start) = (self.high_watermark, self.log.start);
        let caught = Caught { mode: self.flush_mode, high_watermark, log_start };
        let lag_max = self.lag_max;
        let Role::Leader(leadership) = &mut self.role else { return None };
        if !leadership.in_sync.is_pending() {
            let change =
                leadership.laggards(now, lag_max).or_else(|| leadership.joinable(now, caught))?;
            leadership.in_sync.propose(change);
        }
        let (number, change) = leadership.in_sync.due(now)?;
        let change = change.clone();
        Some(AlterPartition {
            number,
            leader: own.broker,
            broker_epoch: own.epoch,
            leader_epoch: leadership.epoch,
            partition_epoch: leadership.in_sync.partition_epoch(),
            in_sync: leadership.proposed(&change, own),
        })
    }

    /// When [`Self::alter_partition`] may have something without anything coming in.
    #[must_use]
    pub fn alter_due_at(&self) -> Option<Duration> {
        let Role::Leader(leadership) = &self.role else { return None };
        if leadership.in_sync.is_pending() {
            return leadership.in_sync.due_at();
        }
        // Who joins is looked at when it fetches, which it does all the time.
        let members = leadership.in_sync.committed();
        let mut of_members = leadership.remotes.iter().filter(|r| members.contains(&r.broker));
        let first = of_members.by_ref().map(|remote| remote.caught_up_at).min()?;
        Some(first + self.lag_max + Duration::from_millis(1))
    }

    /// The controller has answered question `number` of leadership `epoch`. Returns whether the
    /// high watermark moved.
    pub fn on_alter_answer(
        &mut self,
        now: Duration,
        epoch: LeaderEpoch,
        number: u64,
        answer: &AlterAnswer,
    ) -> bool {
        let Role::Leader(leadership) = &mut self.role else { return false };
        if leadership.epoch != epoch {
            return false;
        }
        if let Some(unfit) = leadership.in_sync.on_answer(epoch, number, answer)
            && let Some(remote) = leadership.remotes.iter_mut().find(|r| r.broker == unfit)
        {
            remote.unfit_until = now + UNFIT_FOR;
        }
        self.partition_epoch = self.partition_epoch.max(leadership.in_sync.partition_epoch());
        self.advance_high_watermark()
    }

    /// The other replicas, and how far each is known to be in this leadership.
    #[must_use]
    pub fn follower_ends(&self) -> Vec<(BrokerId, Option<Offset>)> {
        let Role::Leader(leadership) = &self.role else { return Vec::new() };
        leadership.remotes.iter().map(|remote| (remote.broker, remote.end)).collect()
    }

    /// KIP-392: an in-sync replica that `is_near` the consumer and has what it asks for.
    pub fn preferred_replica(
        &self,
        from: Offset,
        is_near: impl Fn(BrokerId) -> bool,
    ) -> Option<BrokerId> {
        let Role::Leader(leadership) = &self.role else { return None };
        let members = leadership.in_sync.committed();
        let has = |remote: &&Remote| {
            members.contains(&remote.broker) && remote.end >= Some(from) && is_near(remote.broker)
        };
        leadership.remotes.iter().find(has).map(|remote| remote.broker)
    }

    /// H1–H3: the least progress over the maximal in-sync set, gated by the committed one, never
    /// back.
    pub(super) fn advance_high_watermark(&mut self) -> bool {
        let Role::Leader(leadership) = &self.role else { return false };
        if leadership.in_sync.gate() < self.min_in_sync && !planted!(SkipMinInSync) {
            return false;
        }
        let own = match self.flush_mode {
            FlushMode::Group if planted!(CountUndurable) => self.log.end,
            FlushMode::Group => self.log.durable,
            FlushMode::Os => self.log.end,
        };
        let Some(replicated) = leadership.replicated(own, self.flush_mode) else { return false };
        let moved = replicated > self.high_watermark;
        self.high_watermark = self.high_watermark.max(replicated);
        self.check();
        moved
    }

    fn remote(
        &mut self,
        epoch: LeaderEpoch,
        broker: BrokerId,
    ) -> Result<&mut Remote, FetchRefusal> {
        let Role::Leader(leadership) = &mut self.role else { return Err(FetchRefusal::NotLeader) };
        fence(epoch, leadership.epoch)?;
        let found = leadership.remotes.iter_mut().find(|remote| remote.broker == broker);
        found.ok_or(FetchRefusal::NotReplica(broker))
    }

    /// F1, F2 and F4: where the follower's log parts from this one.
    fn compare(&self, fetch: &ReplicaFetch) -> Result<FetchAnswer, FetchRefusal> {
        let Role::Leader(leadership) = &self.role else { return Err(FetchRefusal::NotLeader) };
        fence(fetch.leader_epoch, leadership.epoch)?;
        let out_of_range = FetchAnswer::OutOfRange { log_start: self.log.start };
        if fetch.fetch_offset < self.log.start {
            return Ok(out_of_range);
        }
        if planted!(SkipDivergence) {
            // Whatever the follower has.
        } else if let Some(last) = fetch.last_epoch {
            // Epochs of this log begin above the follower's last: it ends where ours begins, or
            // it is another log.
            let Some((epoch, end)) = self.largest_epoch_to(last) else { return Ok(out_of_range) };
            if epoch < last || end < fetch.fetch_offset {
                return Ok(FetchAnswer::Diverging { epoch, end });
            }
        } else if fetch.fetch_offset > self.log.end {
            return Ok(out_of_range);
        }
        Ok(FetchAnswer::Records { high_watermark: self.high_watermark, log_start: self.log.start })
    }
}

/// F1: only who follows this very leadership is heard.
fn fence(given: LeaderEpoch, current: LeaderEpoch) -> Result<(), FetchRefusal> {
    if given < current && !planted!(IgnoreFetchEpoch) {
        Err(FetchRefusal::Fenced { given, current })
    } else if given > current {
        Err(FetchRefusal::Unknown { given, current })
    } else {
        Ok(())
    }
}
