//! Commits as callers see them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use sawlog_protocol::ErrorCode;
use tokio::sync::{mpsc, oneshot};

use super::desk::{Desk, Extent};
use super::driver::Event;
use crate::consumer::{ConsumedRecord, PartitionKey, Place};
use crate::error::ClientError;

/// An offset to commit: that of the next record to process.
///
/// ```
/// use sawlog_client::CommitOffset;
///
/// let noted = CommitOffset {
///     topic: "orders".into(),
///     partition: 0,
///     offset: 42,
///     leader_epoch: -1,
///     metadata: "until noon".to_owned(),
/// };
/// # drop(noted);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitOffset {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset to go on from.
    pub offset: i64,
    /// Epoch of the leader that wrote the record before it, -1 if unknown. With it, a log that was
    /// cut is noticed by who goes on from here (KIP-320).
    pub leader_epoch: i32,
    /// Anything to keep with it; empty for nothing.
    pub metadata: String,
}

impl From<&ConsumedRecord> for CommitOffset {
    /// Everything up to this record is processed.
    fn from(record: &ConsumedRecord) -> Self {
        Self {
            topic: record.topic.clone(),
            partition: record.partition,
            offset: record.offset + 1,
            leader_epoch: record.leader_epoch,
            metadata: String::new(),
        }
    }
}

/// Why offsets were not committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The member is out of the group, or not in it yet. What it had may be others' by now, who go on
    /// from what was committed before. It joins again by itself, unless its instance id was taken.
    #[error("not a member of the group{}", told(*.code))]
    NotMember {
        /// What the coordinator said, if it was asked.
        code: Option<ErrorCode>,
    },
    /// The member is in, and the group rebalances: to be committed again once that is over, for what
    /// is then still the member's.
    #[error("the group rebalances")]
    Rebalancing,
    /// The partition is not the member's.
    #[error("{topic}-{partition} is not assigned to this member")]
    NotOwned {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
    },
    /// More was committed before; offsets are moved back by administration only.
    #[error("offset {offset} of {topic}-{partition} is before {committed}, which is committed")]
    Backwards {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The offset that was to be committed.
        offset: i64,
        /// The offset that is.
        committed: i64,
    },
    /// The coordinator refused otherwise, or does not answer. The member is in.
    #[error(transparent)]
    Failed(#[from] ClientError),
}

fn told(code: Option<ErrorCode>) -> String {
    code.map(|code| format!(" any more [{code}]")).unwrap_or_default()
}

impl CommitError {
    /// Whether the member is still in the group, so that the same may be committed again.
    #[must_use]
    pub fn is_member(&self) -> bool {
        match self {
            Self::NotMember { .. } => false,
            Self::Rebalancing
            | Self::NotOwned { .. }
            | Self::Backwards { .. }
            | Self::Failed(_) => true,
        }
    }
}

/// A commit on its way. It goes on whether or not it is waited for: awaited, it is a synchronous
/// commit, dropped an asynchronous one.
pub struct Commit {
    outcome: oneshot::Receiver<Result<(), CommitError>>,
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit").finish_non_exhaustive()
    }
}

impl Future for Commit {
    type Output = Result<(), CommitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = Pin::new(&mut self.outcome).poll(cx);
        outcome.map(|told| told.unwrap_or(Err(CommitError::Failed(ClientError::Closed))))
    }
}

/// What is to be committed, and how.
#[derive(Debug)]
pub(crate) struct Committing {
    pub(crate) offsets: Vec<CommitOffset>,
    /// The caller named the offsets. Otherwise what is behind something committed is left out.
    pub(crate) is_explicit: bool,
    pub(crate) answer: Option<oneshot::Sender<Result<(), CommitError>>>,
}

/// Commits offsets of a group. Cheap to clone, for use beside the consumer: in other tasks, or while
/// its stream is borrowed.
///
/// Commits are sent in the order they were begun, and no two at a time: a commit never overtakes a
/// later one, and an offset never goes back.
#[derive(Clone, Debug)]
pub struct Committer {
    pub(crate) events: mpsc::UnboundedSender<Event>,
    pub(crate) desk: Arc<Desk>,
}

impl Committer {
    /// Commits everything that was handed out.
    ///
    /// ```no_run
    /// # async fn example(consumer: sawlog_client::GroupConsumer) -> Result<(), sawlog_client::CommitError> {
    /// consumer.committer().commit().await
    /// # }
    /// ```
    pub fn commit(&self) -> Commit {
        self.send(offsets(self.desk.progress(Extent::Delivered)), false)
    }

    /// Commits what was processed up to a record, the record included, of its partition.
    pub fn commit_record(&self, record: &ConsumedRecord) -> Commit {
        self.send(vec![record.into()], true)
    }

    /// Commits these offsets.
    pub fn commit_offsets(&self, offsets: &[CommitOffset]) -> Commit {
        self.send(offsets.to_vec(), true)
    }

    fn send(&self, offsets: Vec<CommitOffset>, is_explicit: bool) -> Commit {
        let (answer, outcome) = oneshot::channel();
        let committing = Committing { offsets, is_explicit, answer: Some(answer) };
        // Without the task behind, the answer is lost with it: closed.
        drop(self.events.send(Event::Commit(committing)));
        Commit { outcome }
    }

    /// Commits how far the reader is with some partitions.
    pub(crate) fn commit_of(&self, of: impl Fn(&PartitionKey) -> bool) -> Commit {
        let mut progress = self.desk.progress(Extent::Delivered);
        progress.retain(|(key, _)| of(key));
        self.send(offsets(progress), false)
    }
}

/// Progress as offsets to commit.
pub(crate) fn offsets(progress: Vec<(PartitionKey, Place)>) -> Vec<CommitOffset> {
    let one = |((topic, partition), place): (PartitionKey, Place)| CommitOffset {
        topic,
        partition,
        offset: place.offset,
        leader_epoch: place.epoch,
        metadata: String::new(),
    };
    progress.into_iter().map(one).collect()
}
