//! One input of the core, while it is being decided.

use super::core::{Outgoing, Output, Reply, RequestId};
use super::options::GroupOptions;
use super::record::Record;
use super::timers::TimerQueue;
use super::topics::Topics;
use super::types::Now;
use crate::base::Offset;

/// What a decision may look at and where its results go.
pub(super) struct Turn<'a> {
    pub(super) now: Now,
    pub(super) options: &'a GroupOptions,
    pub(super) topics: &'a Topics,
    pub(super) timers: &'a mut TimerQueue,
    pub(super) out: &'a mut Output,
    /// The last record of the group at hand: who is told of the group waits until it is committed.
    pub(super) after: Option<Offset>,
}

impl Turn<'_> {
    /// Answers, once what the answer tells of is committed.
    pub(super) fn reply(&mut self, request: RequestId, reply: Reply) {
        let after = self.after.filter(|_| !planted!(AnswerBeforeCommit));
        self.out.replies.push(Outgoing { request, reply, after });
    }

    /// Answers something that tells of no record.
    pub(super) fn reply_at_once(&mut self, request: RequestId, reply: Reply) {
        self.out.replies.push(Outgoing { request, reply, after: None });
    }

    /// Writes `record`.
    pub(super) fn write(&mut self, record: Record) {
        self.out.records.push(record);
    }
}
