//! One broker as the producer's task sees it: its connection, requests on their way, partitions that
//! wait for a place.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::request::Part;
use crate::connection::Connection;

/// Requests on their way to one broker at once.
pub(crate) const REQUESTS_MAX: usize = 5;

/// A broker that does not answer for this long may have been replaced: one that hangs keeps its
/// connections, and nothing on them says so. Long for an answer, short beside the time it takes a
/// cluster to give a silent broker up.
const SILENCE: Duration = Duration::from_millis(500);

/// A request without a reply so far.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) version: i16,
    pub(crate) parts: Vec<Part>,
    pub(crate) sent_at: Instant,
    /// After this the connection is given up.
    pub(crate) deadline: Instant,
}

/// A broker.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) connection: Option<Connection>,
    pub(crate) is_connecting: bool,
    pub(crate) requests: VecDeque<Request>,
    /// Lanes with a batch to send, each once, first come first served.
    pub(crate) waiting: VecDeque<usize>,
    /// It asked for a pause.
    pub(crate) muted_until: Option<Instant>,
    /// When others were asked last whether it still leads what it does not answer for.
    pub(crate) doubted_at: Option<Instant>,
}

impl Node {
    /// Whether another request may be sent.
    pub(crate) fn has_room(&self, now: Instant) -> bool {
        self.requests.len() < REQUESTS_MAX && self.muted_until.is_none_or(|until| until <= now)
    }

    /// When others are to be asked whether it still leads what it does not answer for.
    pub(crate) fn doubtful_at(&self) -> Option<Instant> {
        let silent_at = self.requests.front()?.sent_at + SILENCE;
        Some(self.doubted_at.map_or(silent_at, |before| silent_at.max(before + SILENCE)))
    }

    /// Takes a request off the list, if it still is on it.
    pub(crate) fn answered(&mut self, id: u64) -> Option<Request> {
        let at = self.requests.iter().position(|request| request.id == id)?;
        self.requests.remove(at)
    }
}
