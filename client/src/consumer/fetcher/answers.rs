//! What came back: replies to fetches, offsets, ends of epochs, and what they mean for a partition.

use std::time::{Duration, Instant};

use bytes::Bytes;
use sawlog_protocol::messages::fetch::{FetchRequest, PartitionData};
use sawlog_protocol::records::split;
use sawlog_protocol::{ErrorCode, decode_response};

use std::sync::Arc;

use super::{Event, Fetcher, Of};
use crate::connection::{Connection, Outcome};
use crate::consumer::Shared;
use crate::consumer::board::{Board, Entry, Ready, State};
use crate::consumer::offsets::now_ms;
use crate::consumer::options::{Jump, Position, ResetPolicy};
use crate::error::ClientError;

/// How long a replica near by is preferred before the leader is asked again.
const READ_FROM: Duration = Duration::from_mins(5);

/// Pause before an offset that is out of range is looked at again, while records before it are not
/// handed out yet.
const UNREAD_PAUSE: Duration = Duration::from_millis(20);

impl Fetcher {
    pub(super) fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Connected { node, outcome } => self.connected(node, outcome, now),
            Event::Answered { node, outcome } => self.answered(node, outcome, now),
            Event::Resolved { of, outcome } => self.resolved(of, outcome, now),
            Event::Validated { of, outcome } => self.validated(of, outcome, now),
            Event::Refreshed => self.is_refreshing = false,
        }
    }

    fn connected(&mut self, id: i32, outcome: Result<Connection, ClientError>, now: Instant) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.is_connecting = false;
        match outcome {
            Ok(connection) => node.connection = Some(connection),
            Err(error) => {
                // Everybody this broker leads looks for another leader.
                let client = &self.shared.client;
                let led = |entry: &Entry| {
                    let (info, _, _) = client.cached(&entry.key.0);
                    let leader = info.and_then(|info| Some(info.partition(entry.key.1)?.leader));
                    leader == Some(id) || entry.read_from.is_some_and(|(node, _)| node == id)
                };
                let affected: Vec<Of> = {
                    let board = self.shared.board();
                    board.entries().filter(|(_, entry)| led(entry)).map(Of::from).collect()
                };
                self.node_failed(id, affected, &error, now);
            }
        }
    }

    pub(super) fn node_failed(
        &mut self,
        id: i32,
        affected: Vec<Of>,
        error: &ClientError,
        now: Instant,
    ) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.failures = node.failures.saturating_add(1);
            node.not_before = Some(now + self.backoff.pause(node.failures, &mut self.random));
        }
        let shared = self.shared.clone();
        let mut board = shared.board();
        for of in affected {
            let Some(entry) = board.current(of.id, of.generation) else { continue };
            entry.read_from = None;
            if let Some(error) = self.failed(entry, error.clone(), now) {
                board.push(of.failure(error));
                shared.wake_reader();
            }
        }
    }

    fn answered(&mut self, id: i32, outcome: Outcome, now: Instant) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(fetch) = node.fetch.take() else { return };
        let affected = || fetch.asked.values().map(|(of, _)| *of).collect::<Vec<Of>>();
        let frame = match outcome {
            Ok(frame) => frame,
            Err(error) => {
                node.session.reset();
                return self.node_failed(id, affected(), &error, now);
            }
        };
        let response = match decode_response::<FetchRequest<'_>>(&frame, fetch.version) {
            Ok((_, response)) => response,
            Err(error) => {
                node.session.reset();
                return self.node_failed(id, affected(), &error.into(), now);
            }
        };
        if !node.session.answered(response.error_code, response.session_id) {
            let is_ours = matches!(
                response.error_code,
                ErrorCode::FETCH_SESSION_ID_NOT_FOUND
                    | ErrorCode::INVALID_FETCH_SESSION_EPOCH
                    | ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR
            );
            if !is_ours {
                let error = ClientError::broker(response.error_code, None);
                self.node_failed(id, affected(), &error, now);
            }
            return;
        }
        node.failures = 0;
        let throttle = u64::try_from(response.throttle_time_ms).unwrap_or(0);
        node.not_before = (throttle > 0).then(|| now + Duration::from_millis(throttle));
        if let Some(hooks) = &self.shared.options.hooks {
            hooks.on_fetch(id, frame.len(), now.saturating_duration_since(fetch.began));
        }
        let shared = self.shared.clone();
        let mut board = shared.board();
        let mut silent = fetch.asked;
        for topic in &response.responses {
            for part in &topic.partitions {
                let key = (Arc::from(topic.topic), part.partition_index);
                let Some((of, offset)) = silent.remove(&key) else { continue };
                self.take_in(&mut board, of, offset, part, now);
            }
        }
        // Within a session no word is good word: there is nothing new.
        for (of, _) in silent.into_values() {
            if let Some(entry) = board.current(of.id, of.generation) {
                entry.recovered();
            }
        }
    }

    /// Takes in what came of one partition.
    fn take_in(
        &mut self,
        board: &mut Board,
        of: Of,
        offset: i64,
        part: &PartitionData,
        now: Instant,
    ) {
        let Some(entry) = board.current(of.id, of.generation) else { return };
        if entry.fetch_offset != offset || entry.state != State::Fetching {
            return;
        }
        let outcome = match part.error_code {
            ErrorCode::NONE if part.diverging_epoch.epoch >= 0 => {
                return self.diverged(board, of, part.diverging_epoch.end_offset);
            }
            ErrorCode::NONE => match taken(entry, part, now) {
                Ok(Some(bytes)) => {
                    let Of { id, generation } = of;
                    board.push(Ready::Batches { id, generation, bytes });
                    return self.shared.wake_reader();
                }
                Ok(None) => return,
                Err(error) => error,
            },
            ErrorCode::OFFSET_OUT_OF_RANGE if entry.read_from.take().is_some() => return,
            ErrorCode::OFFSET_OUT_OF_RANGE if self.shared.options.reset == ResetPolicy::Error => {
                ClientError::broker(
                    part.error_code,
                    Some(&format!(
                        "offset {offset} is not in {}-{}: it was deleted, or never written",
                        entry.key.0, entry.key.1
                    )),
                )
            }
            ErrorCode::OFFSET_OUT_OF_RANGE => return self.reset(board, of, None, now),
            code => ClientError::broker(code, None),
        };
        let told = if outcome.is_retriable() {
            self.failed(entry, outcome, now)
        } else {
            entry.state = State::Stopped;
            Some(outcome)
        };
        if let Some(error) = told {
            board.push(of.failure(error));
            self.shared.wake_reader();
        }
    }

    /// Moves a partition by the policy, once everything before is handed out. `to` is known for a
    /// log that was cut.
    fn reset(&mut self, board: &mut Board, of: Of, to: Option<i64>, now: Instant) {
        let Some(entry) = board.current(of.id, of.generation) else { return };
        if to.is_none() && entry.position != entry.fetch_offset {
            entry.not_before = Some(now + UNREAD_PAUSE);
            self.next_timer = self.next_timer.min(now + UNREAD_PAUSE);
            return;
        }
        let from = entry.position;
        let position = match (to, self.shared.options.reset) {
            (Some(offset), _) => Position::Offset(offset),
            (None, ResetPolicy::Latest) => Position::End,
            (None, ResetPolicy::ByDuration(age)) => {
                let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                Position::Time(now_ms().saturating_sub(age).max(0))
            }
            (None, ResetPolicy::Earliest | ResetPolicy::Error) => Position::Start,
        };
        board.seek(of.id, position);
        // Otherwise told once it is known where to.
        if let (Some(offset), Some(entry)) = (to, board.entry(of.id)) {
            self.shared.tell_jump(entry, from, offset, true);
        }
        self.shared.fetcher.notify_one();
    }

    fn resolved(&mut self, of: Of, outcome: Result<i64, ClientError>, now: Instant) {
        let shared = self.shared.clone();
        let mut board = shared.board();
        let Some(entry) = board.current(of.id, of.generation) else { return };
        entry.is_asking = false;
        match outcome {
            Ok(offset) => {
                let from = entry.position;
                entry.state = State::Fetching;
                (entry.position, entry.fetch_offset) = (offset, offset);
                entry.recovered();
                if from >= 0 {
                    shared.tell_jump(entry, from, offset, false);
                }
            }
            Err(error) => {
                let told = if error.is_retriable() {
                    self.failed(entry, error, now)
                } else {
                    entry.state = State::Stopped;
                    Some(error)
                };
                if let Some(error) = told {
                    board.push(of.failure(error));
                }
            }
        }
        shared.wake_reader();
    }

    fn validated(&mut self, of: Of, outcome: Result<Option<i64>, ClientError>, now: Instant) {
        let shared = self.shared.clone();
        let mut board = shared.board();
        let Some(entry) = board.current(of.id, of.generation) else { return };
        entry.is_asking = false;
        match outcome {
            Ok(Some(end)) if end < entry.fetch_offset => self.diverged(&mut board, of, end),
            Ok(_) | Err(ClientError::Unsupported { .. }) => {
                entry.state = State::Fetching;
                entry.recovered();
            }
            Err(error) => {
                if let Some(error) = self.failed(entry, error, now) {
                    board.push(of.failure(error));
                    shared.wake_reader();
                }
            }
        }
    }

    /// The leader's log and what was fetched part at `end`.
    fn diverged(&mut self, board: &mut Board, of: Of, end: i64) {
        let Some(entry) = board.current(of.id, of.generation) else { return };
        let position = entry.position;
        if end >= position {
            // Only what was fetched ahead is gone: nobody has seen it.
            board.seek(of.id, Position::Offset(position));
        } else if self.shared.options.reset == ResetPolicy::Error {
            entry.state = State::Stopped;
            let error = ClientError::LogTruncated {
                topic: entry.key.0.to_string(),
                partition: entry.key.1,
                position,
                end_offset: end,
            };
            board.push(of.failure(error));
            self.shared.wake_reader();
        } else {
            self.reset(board, of, Some(end), Instant::now());
        }
    }
}

impl Shared {
    fn tell_jump(&self, entry: &Entry, from: i64, to: i64, is_truncation: bool) {
        if let Some(hooks) = &self.options.hooks {
            let (topic, partition) = entry.key.clone();
            hooks.on_jump(&Jump { topic, partition, from, to, is_truncation });
        }
    }
}

/// Moves an entry behind what came; returns it if there is something to read.
fn taken(
    entry: &mut Entry,
    part: &PartitionData,
    now: Instant,
) -> Result<Option<Bytes>, ClientError> {
    entry.recovered();
    entry.high_watermark = part.high_watermark;
    if part.preferred_read_replica >= 0 {
        entry.read_from = Some((part.preferred_read_replica, now + READ_FROM));
    }
    let Some(bytes) = part.records.as_ref().filter(|bytes| !bytes.is_empty()) else {
        return Ok(None);
    };
    let Some((last, _)) = split(bytes).map_while(Result::ok).last() else {
        return Err(ClientError::Unreadable {
            topic: entry.key.0.to_string(),
            partition: entry.key.1,
            offset: entry.fetch_offset,
            reason: "no whole batch in the reply".to_owned(),
        });
    };
    entry.fetch_offset = entry.fetch_offset.max(last.next_offset());
    entry.last_epoch = last.partition_leader_epoch;
    Ok(Some(bytes.clone()))
}
