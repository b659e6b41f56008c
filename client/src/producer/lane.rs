//! One partition of a producer: what is on its way, what goes out again, and under which numbers.
//!
//! Pure: no I/O, no clock. What always holds:
//! - Batches go out in the order they were filled, at most [`IN_FLIGHT_MAX`] at once, and the first
//!   under a new identity alone: a broker without state of a producer takes any sequence, so only a
//!   confirmed one makes it refuse gaps.
//! - After a failure nothing new goes out until every batch on its way has its answer; then those
//!   that may succeed go out again, in order.
//! - A batch may have to be sent again as long as it is not confirmed, and a broker knows only the
//!   last [`IN_FLIGHT_MAX`] as sent before. So none goes out that many places ahead of one that is not
//!   confirmed, and none to another broker than those before it.
//! - A sequence number is used again only with the same batch. A batch that the broker certainly
//!   does not have and that is given up leaves a gap: the others go out under a new epoch from 0
//!   (KIP-360; without transactions the producer counts epochs itself, as Kafka's own does).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use sawlog_protocol::ErrorCode;
use sawlog_protocol::records::{Compression, increment_sequence};

use super::batch::{Batch, Identity};
use super::queue::PartitionQueue;
use crate::error::ClientError;

/// Batches on their way at once: as many as a broker remembers of a producer.
pub(crate) const IN_FLIGHT_MAX: usize = 5;

/// A batch on its way, or back without success.
#[derive(Debug)]
struct Flight {
    request: u64,
    node: i32,
    batch: Batch,
    failure: Option<ClientError>,
}

/// What a lane may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) is_idempotent: bool,
    pub(crate) in_flight_max: usize,
    pub(crate) codec: (Compression, Option<i32>),
    pub(crate) delivery_timeout: std::time::Duration,
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) queue: Arc<PartitionQueue>,
    rules: Rules,
    identity: Option<Identity>,
    next_sequence: i32,
    /// Batches numbered so far.
    places: u64,
    /// The first sequence of the batch that was confirmed last under this identity.
    confirmed: Option<i32>,
    in_flight: VecDeque<Flight>,
    /// Sent before, to be sent again before anything new.
    again: VecDeque<Batch>,
    /// Rounds in a row that ended without success.
    pub(crate) failures: u32,
    /// Nothing is sent before.
    pub(crate) not_before: Option<Instant>,
}

/// A batch with its outcome.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) batch: Batch,
    pub(crate) outcome: Result<i64, ClientError>,
}

/// What a round of answers, the last of them a failure, led to.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) settled: Vec<Settled>,
    /// Batches that go out again, and why the first of them does.
    pub(crate) repeats: usize,
    pub(crate) reason: Option<ClientError>,
    /// Batches that became two.
    pub(crate) splits: usize,
}

impl Lane {
    pub(crate) fn new(queue: Arc<PartitionQueue>, rules: Rules) -> Self {
        Self {
            queue,
            rules,
            identity: None,
            next_sequence: 0,
            places: 0,
            confirmed: None,
            in_flight: VecDeque::new(),
            again: VecDeque::new(),
            failures: 0,
            not_before: None,
        }
    }

    /// Whether it needs an identity before it can send.
    pub(crate) fn lacks_identity(&self) -> bool {
        self.rules.is_idempotent && self.identity.is_none()
    }

    /// Numbers batches from 0 under `identity`.
    pub(crate) fn identify(&mut self, identity: Identity) {
        self.identity = Some(identity);
        self.next_sequence = 0;
        self.confirmed = None;
    }

    /// Whether nothing is on its way and nothing is to be sent again.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.again.is_empty()
    }

    /// Whether another batch may be on its way.
    pub(crate) fn may_send(&self) -> bool {
        let is_alone = self.rules.is_idempotent && self.confirmed.is_none();
        let limit = if is_alone { 1 } else { self.rules.in_flight_max };
        self.in_flight.len() < limit
            && self.in_flight.iter().all(|one| one.failure.is_none())
            && (!self.rules.is_idempotent || !self.again.is_empty() || self.is_remembered())
    }

    /// Whether the broker knows the oldest batch on its way even with another one behind the last.
    fn is_remembered(&self) -> bool {
        let oldest = self.in_flight.iter().map(|one| one.batch.place).min();
        let kept = u64::try_from(IN_FLIGHT_MAX).unwrap_or(u64::MAX);
        oldest.is_none_or(|oldest| self.places - oldest < kept)
    }

    /// When the first record of the oldest batch that is not on its way came, if it was sent before.
    pub(crate) fn oldest_repeat(&self) -> Option<Instant> {
        self.again.front().map(|batch| batch.created)
    }

    /// The first batch to be sent again.
    pub(crate) fn first_repeat(&self) -> Option<&Batch> {
        self.again.front()
    }

    /// The batch that goes out next, numbered.
    pub(crate) fn next(&mut self) -> Option<Batch> {
        let mut batch = self.again.pop_front().or_else(|| self.queue.take())?;
        batch.attempts += 1;
        if let Some(identity) = self.identity.filter(|_| self.rules.is_idempotent) {
            let sequence = match batch.numbered {
                Some((under, sequence)) if under == identity => sequence,
                _ => {
                    let sequence = self.next_sequence;
                    self.next_sequence = increment_sequence(sequence, batch.sequences());
                    batch.place = self.places;
                    self.places += 1;
                    sequence
                }
            };
            // Our own batch, whole: it cannot fail to parse. If it did, the broker would refuse it.
            let _numbered = batch.number(identity, sequence);
        }
        Some(batch)
    }

    /// Notes that a batch is on its way to the broker `node`.
    pub(crate) fn sent(&mut self, request: u64, node: i32, batch: Batch) {
        self.in_flight.push_back(Flight { request, node, batch, failure: None });
    }

    /// Whether something numbered is on its way to another broker than `leader`.
    pub(crate) fn is_elsewhere(&self, leader: i32) -> bool {
        self.rules.is_idempotent && self.in_flight.iter().any(|one| one.node != leader)
    }

    /// Gives up waiting for answers: another broker leads the partition now. Whether the one before
    /// has the batches is not known; the sequences tell the new one.
    pub(crate) fn leave(&mut self) {
        let moved = ClientError::broker(
            ErrorCode::NETWORK_EXCEPTION,
            Some("another broker leads the partition; it is asked instead"),
        );
        for flight in self.in_flight.iter_mut().filter(|flight| flight.failure.is_none()) {
            flight.batch.is_ambiguous = true;
            flight.failure = Some(moved.clone());
        }
    }

    /// The batch of a request is confirmed.
    pub(crate) fn confirm(&mut self, request: u64, base_offset: i64) -> Option<Settled> {
        let at = self.in_flight.iter().position(|one| one.request == request)?;
        let flight = self.in_flight.remove(at)?;
        if let Some((identity, sequence)) = flight.batch.numbered
            && Some(identity) == self.identity
        {
            self.confirmed = Some(sequence);
        }
        self.failures = 0;
        Some(Settled { batch: flight.batch, outcome: Ok(base_offset) })
    }

    /// The batch of a request failed.
    pub(crate) fn fail(&mut self, request: u64, error: ClientError) {
        let flight = self.in_flight.iter_mut().find(|one| one.request == request);
        if let Some(flight) = flight {
            flight.batch.is_ambiguous |= is_ambiguous(&error);
            flight.failure = Some(error);
        }
    }

    /// Whether every batch on its way came back without success: time for [`Lane::regroup`].
    pub(crate) fn is_broken(&self) -> bool {
        !self.in_flight.is_empty() && self.in_flight.iter().all(|one| one.failure.is_some())
    }

    /// Decides what becomes of batches that failed.
    pub(crate) fn regroup(&mut self, now: Instant) -> Round {
        let mut round = Round::default();
        let mut repeats = VecDeque::new();
        let mut renumber = false;
        for (place, flight) in std::mem::take(&mut self.in_flight).into_iter().enumerate() {
            let Flight { batch, failure, .. } = flight;
            let Some(error) = failure else { continue };
            match self.verdict(&batch, &error, place == 0, now) {
                Verdict::Repeat => {
                    round.reason.get_or_insert(error);
                    repeats.push_back(batch);
                }
                Verdict::Renumber => {
                    renumber = true;
                    round.reason.get_or_insert(error);
                    repeats.push_back(batch);
                }
                Verdict::Split => match batch.split(self.rules.codec) {
                    Ok(halves) => {
                        renumber = true;
                        round.splits += 1;
                        round.reason.get_or_insert(error);
                        repeats.extend(halves);
                    }
                    Err(batch) => {
                        renumber = true;
                        round.settled.push(Settled { batch, outcome: Err(error) });
                    }
                },
                Verdict::Fail(error) => {
                    renumber |= !batch.is_ambiguous;
                    round.settled.push(Settled { batch, outcome: Err(error) });
                }
            }
        }
        round.repeats = repeats.len();
        repeats.append(&mut self.again);
        self.again = repeats;
        if renumber {
            self.bump();
        }
        if round.repeats > 0 {
            self.failures = self.failures.saturating_add(1);
        }
        round
    }

    fn verdict(&self, batch: &Batch, error: &ClientError, is_first: bool, now: Instant) -> Verdict {
        let code = error.code();
        let gap = code == Some(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        let lost_us = matches!(
            code,
            Some(ErrorCode::UNKNOWN_PRODUCER_ID | ErrorCode::INVALID_PRODUCER_EPOCH)
        );
        let may_succeed = error.is_retriable() || (self.rules.is_idempotent && (gap || lost_us));
        if may_succeed
            && now.saturating_duration_since(batch.created) >= self.rules.delivery_timeout
        {
            return Verdict::Fail(expired(error));
        }
        match code {
            Some(ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE)
                if batch.count() > 1 =>
            {
                Verdict::Split
            }
            // Behind another failed batch it only says that that one is missing.
            _ if gap && self.rules.is_idempotent && !is_first => Verdict::Repeat,
            // A later one is confirmed, so it may be there already, too long ago for the broker to
            // tell: better an error than the records twice.
            _ if gap && self.rules.is_idempotent && self.is_overtaken(batch) => {
                Verdict::Fail(error.clone())
            }
            // The broker has neither this one nor the one before, which is settled: its state and
            // ours will not meet again under these numbers.
            _ if gap && self.rules.is_idempotent => Verdict::Renumber,
            // It knows nothing of us. An earlier attempt that it may have taken cannot be told from
            // a new one any more: better an error than the records twice.
            _ if lost_us && self.rules.is_idempotent && !batch.is_ambiguous => Verdict::Renumber,
            _ if error.is_retriable() => Verdict::Repeat,
            _ => Verdict::Fail(error.clone()),
        }
    }

    /// Whether a batch that was sent later is confirmed.
    fn is_overtaken(&self, batch: &Batch) -> bool {
        let (Some(confirmed), Some((identity, sequence))) = (self.confirmed, batch.numbered) else {
            return false;
        };
        // Sequences begin again at 0 after the largest; few are on their way at once.
        let ahead = confirmed.wrapping_sub(sequence) & i32::MAX;
        Some(identity) == self.identity && (1..1 << 30).contains(&ahead)
    }

    /// Gives up what was not confirmed in time, of what is to be sent again.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Settled> {
        let timeout = self.rules.delivery_timeout;
        let mut settled = Vec::new();
        let is_over = |created: Instant| now.saturating_duration_since(created) >= timeout;
        while let Some(batch) = self.again.pop_front_if(|batch| is_over(batch.created)) {
            // One that no broker has leaves a gap behind it.
            let leaves_gap = batch.numbered.is_some() && !batch.is_ambiguous;
            settled.push(Settled { batch, outcome: Err(expired(&ClientError::Closed)) });
            if leaves_gap {
                self.bump();
            }
        }
        if self.is_idle() {
            while self.queue.front(timeout).is_some_and(|front| is_over(front.created)) {
                let Some(batch) = self.queue.take() else { break };
                settled.push(Settled { batch, outcome: Err(expired(&ClientError::Closed)) });
            }
        }
        settled
    }

    /// Gives up everything that is not on its way.
    pub(crate) fn abandon(&mut self, error: &ClientError) -> Vec<Settled> {
        let repeats = std::mem::take(&mut self.again).into_iter();
        let queued = std::iter::from_fn(|| self.queue.take());
        repeats.chain(queued).map(|batch| Settled { batch, outcome: Err(error.clone()) }).collect()
    }

    /// Begins a new epoch; after the last one a new id is needed.
    fn bump(&mut self) {
        if !self.rules.is_idempotent {
            return;
        }
        let next = self.identity.and_then(|identity| {
            let epoch = identity.epoch.checked_add(1)?;
            Some(Identity { epoch, ..identity })
        });
        self.identity = None;
        if let Some(next) = next {
            self.identify(next);
        }
    }
}

enum Verdict {
    /// The same again, with the same numbers.
    Repeat,
    /// The same records under a new epoch.
    Renumber,
    Split,
    Fail(ClientError),
}

/// Whether the broker may have the batch in spite of the error.
fn is_ambiguous(error: &ClientError) -> bool {
    match error.code() {
        Some(code) => matches!(
            code,
            ErrorCode::REQUEST_TIMED_OUT
                | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
                | ErrorCode::KAFKA_STORAGE_ERROR
                | ErrorCode::NETWORK_EXCEPTION
                | ErrorCode::UNKNOWN_SERVER_ERROR
                | ErrorCode::NOT_LEADER_OR_FOLLOWER
        ),
        None => true,
    }
}

/// The error of a batch that ran out of time.
fn expired(last: &ClientError) -> ClientError {
    let message = match last {
        ClientError::Closed => "not confirmed within the delivery timeout".to_owned(),
        last => format!("not confirmed within the delivery timeout; last: {last}"),
    };
    ClientError::broker(ErrorCode::REQUEST_TIMED_OUT, Some(&message))
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
