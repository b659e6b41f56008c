//! The follower's side of replication: what to ask for, what to cut, what to take.
//!
//! Always: one fetch is under way, and only its answer is used (F5); a follower cuts by epochs,
//! never by high watermark (F3), and raises its high watermark only with records that agree.

use std::time::Duration;

use sawlog_protocol::records::BatchHeader;

use super::messages::{DurableReport, FetchAnswer, HOLED, LogGeneration, ReplicaFetch};
use super::{PartitionCore, Role};
use crate::base::{BrokerId, LeaderEpoch, Offset, Timestamp};
use crate::storage::ProducerTable;

/// How long a fetch may take: what a leader waits for news, and the way there and back.
const FETCH_MAX: Duration = Duration::from_secs(2);

/// How long to leave a leader alone that had no answer.
const BACKOFF: Duration = Duration::from_millis(50);

/// A leadership this broker follows.
#[derive(Clone, Debug)]
pub(super) struct Following {
    pub(super) epoch: LeaderEpoch,
    pub(super) leader: BrokerId,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not before then.
    Ready(Duration),
    /// Asked, with this number, at that time.
    Asked(u64, Duration),
    /// The log is being cut.
    Cutting,
}

/// A fetch to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// To whom.
    pub leader: BrokerId,
    /// Ties the answer to it.
    pub number: u64,
    /// What to ask.
    pub fetch: ReplicaFetch,
}

/// What to do with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowerStep {
    /// Nothing: it belongs to a fetch that is over.
    Ignore,
    /// Append its records, tell [`PartitionCore::on_replicated`] of each batch, then
    /// [`PartitionCore::on_leader_ends`] with the leader's numbers.
    Append {
        /// The leader's high watermark.
        high_watermark: Offset,
        /// The leader's log start.
        log_start: Offset,
    },
    /// Cut the log to end at `to`, then say [`PartitionCore::on_cut`].
    Truncate {
        /// The new end.
        to: Offset,
        /// The log's generation from now on.
        generation: LogGeneration,
    },
    /// Drop the whole log and begin an empty one at `at`, then say [`PartitionCore::on_cut`].
    Restart {
        /// Its start and end.
        at: Offset,
        /// The log's generation from now on.
        generation: LogGeneration,
    },
}

impl Following {
    pub(super) fn begin(now: Duration, leader: BrokerId, epoch: LeaderEpoch) -> Self {
        Self { epoch, leader, state: State::Ready(now) }
    }
}

impl PartitionCore {
    /// The fetch to send now, if one is due.
    pub fn next_fetch(&mut self, now: Duration) -> Option<FetchRequest> {
        if self.is_cutting && !planted!(AskWhileCutting) {
            // What came now would go where something else is still.
            return None;
        }
        let Role::Follower(following) = &mut self.role else { return None };
        match following.state {
            State::Ready(at) if at <= now => {}
            // The answer was lost; should it come yet, it finds another number.
            State::Asked(_, at) if now.saturating_sub(at) >= FETCH_MAX => {}
            State::Ready(_) | State::Asked(..) | State::Cutting => return None,
        }
        self.fetches += 1;
        following.state = State::Asked(self.fetches, now);
        Some(FetchRequest {
            leader: following.leader,
            number: self.fetches,
            fetch: ReplicaFetch {
                replica: self.broker,
                broker_epoch: self.registration,
                leader_epoch: following.epoch,
                fetch_offset: self.log.end,
                last_epoch: self.last_epoch(),
                durable: if planted!(ReportUnsynced) {
                    self.log.end
                } else {
                    self.durable_as_told()
                },
                log_start: self.kept_start,
            },
        })
    }

    /// When [`Self::next_fetch`] has something without anything coming in.
    #[must_use]
    pub fn fetch_due_at(&self) -> Option<Duration> {
        let Role::Follower(following) = &self.role else { return None };
        match following.state {
            _ if self.is_cutting => None,
            State::Ready(at) => Some(at),
            State::Asked(_, at) => Some(at + FETCH_MAX),
            State::Cutting => None,
        }
    }

    /// What to tell the leader after the disk has caught up (F6); nothing where nobody is followed.
    #[must_use]
    pub fn durable_report(&self) -> Option<(BrokerId, DurableReport)> {
        let Role::Follower(following) = &self.role else { return None };
        let report = DurableReport {
            replica: self.broker,
            broker_epoch: self.registration,
            leader_epoch: following.epoch,
            durable: self.durable_as_told(),
            log_start: self.kept_start,
        };
        Some((following.leader, report))
    }

    fn durable_as_told(&self) -> Offset {
        if self.holed { HOLED } else { self.log.durable }
    }

    /// Fetch `number` was answered.
    pub fn on_fetched(&mut self, now: Duration, number: u64, answer: FetchAnswer) -> FollowerStep {
        let Role::Follower(following) = &mut self.role else { return FollowerStep::Ignore };
        let is_asked = matches!(following.state, State::Asked(asked, _) if asked == number);
        if !is_asked && !planted!(UseOldAnswers) {
            return FollowerStep::Ignore;
        }
        match answer {
            FetchAnswer::Records { high_watermark, log_start } => {
                following.state = State::Ready(now);
                FollowerStep::Append { high_watermark, log_start }
            }
            FetchAnswer::Diverging { epoch, end } => {
                let to = self.common_end(epoch, end);
                self.cut(to)
            }
            FetchAnswer::OutOfRange { log_start } => self.restart(log_start),
        }
    }

    /// Fetch `number` was refused, or did not arrive.
    pub fn on_fetch_failed(&mut self, now: Duration, number: u64) {
        let Role::Follower(following) = &mut self.role else { return };
        if matches!(following.state, State::Asked(asked, _) if asked == number) {
            following.state = State::Ready(now + BACKOFF);
        }
    }

    /// A batch of the leader is in the log, at the offset and with the epoch it has there.
    pub fn on_replicated(&mut self, batch: &BatchHeader, now: Timestamp) {
        let base_offset = Offset(batch.base_offset);
        // The first batch of a log that was begun anew may begin before it does.
        let begins_within =
            self.log.start == self.log.end && Offset(batch.next_offset()) > self.log.end;
        assert!(
            base_offset >= self.log.end || begins_within,
            "a batch at {base_offset} goes before the log end {}",
            self.log.end
        );
        let first = base_offset.max(self.log.start);
        self.epochs.assign(LeaderEpoch(batch.partition_leader_epoch), first);
        self.log.end = base_offset.plus(i64::from(batch.last_offset_delta) + 1);
        self.producers.record(batch, base_offset, now);
    }

    /// The records that came with the leader's numbers are in the log. Returns whether the high
    /// watermark moved.
    pub fn on_leader_ends(&mut self, high_watermark: Offset, log_start: Offset) -> bool {
        if !matches!(self.role, Role::Follower(_)) {
            return false;
        }
        let known = high_watermark.min(self.log.end);
        let moved = known > self.high_watermark;
        self.high_watermark = self.high_watermark.max(known);
        let start = log_start.min(self.high_watermark);
        if start > self.log.start {
            self.advance_start(start);
        }
        moved
    }

    /// The log is cut: it ends at `end`, not behind what was asked for, and its producers are
    /// these.
    pub fn on_cut(&mut self, now: Duration, end: Offset, producers: ProducerTable) {
        assert!(end <= self.log.end, "cut to {end}, not to {}", self.log.end);
        self.log.end = end;
        self.log.durable = self.log.durable.min(end);
        self.high_watermark = self.high_watermark.min(end);
        self.epochs.truncate_from_end(end);
        if let Role::Leader(leadership) = &mut self.role
            && !planted!(ForgetEpochOfCut)
        {
            // It was elected meanwhile: its epoch begins where the log ends now, and stays known.
            leadership.epoch_start = leadership.epoch_start.min(end);
            self.epochs.lead(self.leader_epoch, end);
        }
        self.producers = producers;
        self.is_cutting = false;
        self.check();
        if let Role::Follower(following) = &mut self.role
            && following.state == State::Cutting
        {
            following.state = State::Ready(now);
        }
    }

    /// F3: the last offset up to which this log can agree with one where `epoch` ends at `end`.
    fn common_end(&self, epoch: LeaderEpoch, end: Offset) -> Offset {
        if planted!(TruncateToHighWatermark) {
            return self.high_watermark;
        }
        match self.largest_epoch_to(epoch) {
            // The leader is asked again, about what is left.
            Some((own, own_end)) if own != epoch => own_end,
            Some((_, own_end)) => own_end.min(end),
            None => self.log.start,
        }
    }

    fn cut(&mut self, to: Offset) -> FollowerStep {
        let to = to.clamp(self.log.start, self.log.end);
        self.log.end = to;
        self.log.durable = self.log.durable.min(to);
        // Only an unclean election takes back what was committed.
        self.high_watermark = self.high_watermark.min(to);
        self.epochs.truncate_from_end(to);
        FollowerStep::Truncate { to, generation: self.next_generation() }
    }

    /// F4: nothing here is of use.
    fn restart(&mut self, at: Offset) -> FollowerStep {
        self.log.start = at;
        self.log.end = at;
        self.log.durable = at;
        self.high_watermark = at;
        self.epochs = crate::storage::EpochCache::default();
        FollowerStep::Restart { at, generation: self.next_generation() }
    }

    fn next_generation(&mut self) -> LogGeneration {
        self.generation.0 += 1;
        self.is_cutting = true;
        if let Role::Follower(following) = &mut self.role {
            following.state = State::Cutting;
        }
        self.check();
        self.generation
    }
}
