//! One broker as the producer's task sees it: its connection, requests on their way, partitions that
//! wait for a place.

use std::collections::VecDeque;
use std::time::Instant;

use super::request::Part;
use crate::connection::Connection;

/// Requests on their way to one broker at once.
pub(crate) const REQUESTS_MAX: usize = 5;

/// A request without a reply so far.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) version: i16,
    pub(crate) parts: Vec<Part>,
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
}

impl Node {
    /// Whether another request may be sent.
    pub(crate) fn has_room(&self, now: Instant) -> bool {
        self.requests.len() < REQUESTS_MAX && self.muted_until.is_none_or(|until| until <= now)
    }

    /// Takes a request off the list, if it still is on it.
    pub(crate) fn answered(&mut self, id: u64) -> Option<Request> {
        let at = self.requests.iter().position(|request| request.id == id)?;
        self.requests.remove(at)
    }
}
