//! The library's storage traits on top of the [`Store`], and the state machine that is a queue: what is
//! committed is told to the controller, which makes the image of it.
//!
//! The library awaits each write before it goes on, so writes are done in place: it has a thread of its own.
#![allow(clippy::result_large_err)] // The library's error, in its traits.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use openraft::storage::{LogFlushed, RaftLogStorage, RaftStateMachine};
use openraft::{
    EntryPayload, ErrorSubject, ErrorVerb, LogId, LogState, OptionalSend, RaftLogReader,
    RaftSnapshotBuilder, StorageIOError,
};
use parking_lot::Mutex;

use crate::metadata::decode_records;

use super::super::{LogError, LogEvent, Wake};
use super::snapshot;
use super::store::Store;
use super::types::{
    Entry, SnapshotData, SnapshotMeta, StorageError, StoredMembership, Types, Vote, index_of,
    offset_of, term_of,
};

type Snapshot = openraft::Snapshot<Types>;

/// What the library's tasks, its services and the controller share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Mutex<Store>,
    pub(super) news: Mutex<News>,
    applied: Mutex<Applied>,
    /// Whether another node that leads has told this one anything since it began.
    pub(super) is_told: AtomicBool,
}

/// What happened and was not told yet.
#[derive(Default)]
pub(super) struct News {
    events: VecDeque<LogEvent>,
    wake: Option<Wake>,
}

/// How far the state machine is.
#[derive(Debug)]
struct Applied {
    last: Option<LogId<u64>>,
    /// The configurations applied since the last snapshot, the oldest being the one in it.
    memberships: VecDeque<StoredMembership>,
}

impl Debug for News {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("News").field("events", &self.events.len()).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(
        store: Store,
        applied: Option<LogId<u64>>,
        membership: StoredMembership,
    ) -> Arc<Self> {
        let memberships = VecDeque::from([membership]);
        Arc::new(Self {
            store: Mutex::new(store),
            news: Mutex::default(),
            applied: Mutex::new(Applied { last: applied, memberships }),
            is_told: AtomicBool::new(false),
        })
    }

    /// Tells what happened.
    pub(super) fn tell(&self, events: impl IntoIterator<Item = LogEvent>) {
        let wake = {
            let mut news = self.news.lock();
            news.events.extend(events);
            news.wake.clone()
        };
        if let Some(wake) = wake {
            wake();
        }
    }

    /// What happened since the last call.
    pub(super) fn take_news(&self) -> Vec<LogEvent> {
        self.news.lock().events.drain(..).collect()
    }

    pub(super) fn set_wake(&self, wake: Wake) {
        let mut news = self.news.lock();
        if !news.events.is_empty() {
            wake();
        }
        news.wake = Some(wake);
    }

    /// The last entry that was told.
    pub(super) fn applied(&self) -> Option<LogId<u64>> {
        self.applied.lock().last
    }

    /// Stores what the controller's image came to as this node's snapshot.
    ///
    /// # Errors
    /// All is as before.
    pub(super) fn store_snapshot(&self, made: &super::super::Snapshot) -> Result<(), LogError> {
        let index = index_of(made.offset);
        let membership = self.applied.lock().membership_at(index);
        let mut store = self.store.lock();
        store.check_online()?;
        let newest = store.snapshot.as_ref().and_then(|meta| meta.last_log_id).map(|id| id.index);
        let (Some(term), true) = (store.term_at(index), newest < Some(index)) else {
            // A newer one came from the leader meanwhile.
            return Ok(());
        };
        store.store_snapshot(snapshot::meta(index, term, membership), made)
    }
}

impl Applied {
    fn membership_at(&mut self, index: u64) -> StoredMembership {
        while self
            .memberships
            .get(1)
            .is_some_and(|next| next.log_id().as_ref().is_some_and(|id| id.index <= index))
        {
            self.memberships.pop_front();
        }
        self.memberships.front().cloned().unwrap_or_default()
    }

    fn membership(&self) -> StoredMembership {
        self.memberships.back().cloned().unwrap_or_default()
    }
}

/// An error of ours as the library wants it: it stops then.
fn fatal(
    subject: ErrorSubject<u64>,
    verb: ErrorVerb,
    error: &(impl std::error::Error + 'static),
) -> StorageError {
    StorageIOError::new(subject, verb, openraft::AnyError::new(error)).into()
}

/// The log, for the library.
#[derive(Clone, Debug)]
pub(super) struct LogStorage(pub(super) Arc<Shared>);

impl RaftLogReader<Types> for LogStorage {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to, false)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        self.read(start, end, true)
    }
}

impl LogStorage {
    fn read(&self, from: u64, to: u64, bounded: bool) -> Result<Vec<Entry>, StorageError> {
        let read = self.0.store.lock().entries(from, to, bounded);
        read.map_err(|error| fatal(ErrorSubject::Logs, ErrorVerb::Read, &error))
    }
}

impl RaftLogStorage<Types> for LogStorage {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let store = self.0.store.lock();
        Ok(LogState { last_purged_log_id: store.purged(), last_log_id: store.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let saved = self.0.store.lock().save_vote(vote);
        saved.map_err(|error| fatal(ErrorSubject::Vote, ErrorVerb::Write, &error))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.0.store.lock().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> Result<(), StorageError> {
        // Written along with the next item: a hint, which may be behind.
        let mut store = self.0.store.lock();
        store.committed = store.committed.max(committed.map(|id| id.index));
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<u64>>, StorageError> {
        // The state machine begins with what is known to be committed.
        Ok(self.0.applied())
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Types>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let appended = self.0.store.lock().append(entries);
        appended.map_err(|error| fatal(ErrorSubject::Logs, ErrorVerb::Write, &error))?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId<u64>) -> Result<(), StorageError> {
        let truncated = self.0.store.lock().truncate(from.index);
        truncated.map_err(|error| fatal(ErrorSubject::Log(from), ErrorVerb::Delete, &error))
    }

    async fn purge(&mut self, upto: LogId<u64>) -> Result<(), StorageError> {
        match self.0.store.lock().purge(upto) {
            // What could not be forgotten stays, and is in the snapshot as well.
            Ok(()) | Err(LogError::NoSpace(_)) => Ok(()),
            Err(error) => Err(fatal(ErrorSubject::Log(upto), ErrorVerb::Delete, &error)),
        }
    }
}

/// The state machine, for the library.
#[derive(Clone, Debug)]
pub(super) struct StateMachine(pub(super) Arc<Shared>);

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership), StorageError> {
        let applied = self.0.applied.lock();
        Ok((applied.last, applied.membership()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut events = Vec::new();
        let mut results = Vec::new();
        let mut applied = self.0.applied.lock();
        for entry in entries {
            let id = entry.log_id;
            let records = match entry.payload {
                EntryPayload::Blank => Vec::new(),
                EntryPayload::Normal(bytes) => decode_records(&bytes).map_err(|error| {
                    // Written by a newer version, or not by us: nothing to go on with.
                    let reason = format!("apply entry {} of the metadata log", id.index);
                    self.0.store.lock().go_offline(&reason, &error);
                    fatal(ErrorSubject::Apply(id), ErrorVerb::Read, &error)
                })?,
                EntryPayload::Membership(membership) => {
                    applied.memberships.push_back(StoredMembership::new(Some(id), membership));
                    Vec::new()
                }
            };
            applied.last = Some(id);
            results.push(());
            // The founder's configuration comes before all that an image is made of.
            if id.index > 0 {
                let offset = offset_of(id.index);
                events.push(LogEvent::Entry(super::super::Entry { offset, records }));
            }
        }
        // Under the lock, so that news are in the order of the log.
        self.0.tell(events);
        Ok(results)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotData>, StorageError> {
        Ok(Box::new(SnapshotData::Received(bytes::Bytes::new())))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        data: Box<SnapshotData>,
    ) -> Result<(), StorageError> {
        let SnapshotData::Received(bytes) = *data else { return Ok(()) };
        let subject = || ErrorSubject::Snapshot(Some(meta.signature()));
        let decoded = snapshot::decode(&bytes).map_err(|reason| {
            let error = std::io::Error::new(std::io::ErrorKind::InvalidData, reason);
            fatal(subject(), ErrorVerb::Read, &error)
        });
        let (_, found) = decoded?;
        let installed = self.0.store.lock().store_snapshot(meta.clone(), &found.snapshot);
        installed.map_err(|error| fatal(subject(), ErrorVerb::Write, &error))?;
        let mut applied = self.0.applied.lock();
        applied.last = meta.last_log_id;
        applied.memberships = VecDeque::from([meta.last_membership.clone()]);
        self.0.tell([LogEvent::Snapshot(found.snapshot)]);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        Ok(current(&self.0))
    }
}

impl RaftSnapshotBuilder<Types> for StateMachine {
    /// The controller has made and stored it: the library only learns of it.
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        current(&self.0).ok_or_else(|| {
            let error = std::io::Error::from(std::io::ErrorKind::NotFound);
            fatal(ErrorSubject::Snapshot(None), ErrorVerb::Read, &error)
        })
    }
}

fn current(shared: &Shared) -> Option<Snapshot> {
    let meta = shared.store.lock().snapshot.clone()?;
    let last = meta.last_log_id?;
    debug_assert!(term_of(&last) > 0, "a snapshot of the term before the first");
    let snapshot = Box::new(SnapshotData::Stored(offset_of(last.index)));
    Some(Snapshot { meta, snapshot })
}
