//! One node of the metadata log: the library on a thread of its own, and the log as the controller
//! sees it.
//!
//! Always: a leadership is told after every entry of the terms before it, and again after any doubt
//! (a proposal whose end is not known, a leader that others do not answer). A failure of the library or
//! of the disk takes the data directory offline, which stops the broker.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{ClientWriteError, RaftError};
use openraft::{Config, LogId, ServerState, SnapshotPolicy};
use sawlog_protocol::Uuid;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tracing::{debug, error, info};

use crate::base::BrokerId;
use crate::metadata::{MetadataOffset, Record, encode_records};

use super::super::local::{LocalLogOptions, OpenError, TornTail};
use super::super::{
    LogError, LogEvent, LogRole, MetadataLog, QuorumStatus, Recovered, Snapshot, Voters, Wake,
};
use super::members::{self, Maintenance};
use super::network::{Network, Transport};
use super::recover::{self, Beginning};
use super::storage::{LogStorage, Shared, StateMachine};
use super::store::Store;
use super::types::{Member, Membership, Metrics, Raft, offset_of, votes_alone};

/// A proposal that is not committed by then is given up on: others cannot be reached.
const PROPOSAL_TIMEOUT: Duration = Duration::from_secs(30);

/// A lone voter leads within this time, or something is wrong with it.
const ALONE_TIMEOUT: Duration = Duration::from_secs(5);

/// Installing a snapshot: sending it, writing it, syncing it.
const SNAPSHOT_TIMEOUT_MS: u64 = 60_000;

/// A follower that lacks more entries than this gets a snapshot instead, if there is one.
const LAG_MAX: u64 = 10_000;

/// Entries sent at once; their bytes are bounded where they are read.
const ENTRIES_PER_MESSAGE: u64 = 512;

/// What a node of the log is.
#[derive(Clone)]
pub struct QuorumOptions {
    /// Where the log is and how it is kept.
    pub log: LocalLogOptions,
    /// The node: its broker, its data directory, its address.
    pub member: Member,
    /// Whether it joins a log others have begun; if not, it founds one.
    pub joins: bool,
    /// Whether it must have a log already: its data directory is not new.
    pub existed: bool,
    /// How long a leader is silent before another is elected, at most half as long again.
    pub election_timeout: Duration,
    /// Voters there should be, once there are nodes for it.
    pub voters: usize,
    /// The way to the other nodes.
    pub transport: Arc<dyn Transport>,
}

impl QuorumOptions {
    /// The node's id: that of its data directory, so that a wiped disk is another node.
    #[must_use]
    pub fn raft_id(&self) -> u64 {
        raft_id(self.member.storage_id)
    }
}

/// The node id of a data directory; never zero.
#[must_use]
pub fn raft_id(storage_id: Uuid) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = storage_id.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h]).max(1)
}

/// A node of the metadata log, for those who ask about it or change its members. Cheap to clone.
#[derive(Clone)]
pub struct Quorum {
    pub(super) raft_id: u64,
    pub(super) raft: Raft,
    pub(super) shared: Arc<Shared>,
    pub(super) runtime: Handle,
    pub(super) role: watch::Receiver<LogRole>,
    pub(super) doubt: mpsc::UnboundedSender<()>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) changing: Arc<tokio::sync::Mutex<()>>,
    /// Voters there should be, once there are nodes for it.
    pub(super) voters: usize,
}

/// The metadata log of several nodes, as the controller of one of them sees it. Dropping it stops the
/// node.
pub struct RaftMetadataLog {
    quorum: Quorum,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread sends back once it runs.
type Ready = std::sync::mpsc::SyncSender<Result<Raft, String>>;

impl RaftMetadataLog {
    /// Opens a node's log, or begins one, and starts the node. Returns what is known to be committed,
    /// which `poll` does not tell again, and what had to be cut off the log's end.
    ///
    /// # Errors
    /// The log cannot be read, or not be trusted, or the library does not start.
    pub fn open(options: &QuorumOptions) -> Result<(Self, Recovered, Option<TornTail>), OpenError> {
        let raft_id = options.raft_id();
        let beginning = match (options.existed, options.joins) {
            (true, _) => Beginning::Existed,
            (false, true) => Beginning::Joins,
            (false, false) => Beginning::Founds,
        };
        let opened = recover::open(&options.log, raft_id, &options.member, beginning)?;
        let alone = opened.alone;
        let shared = Shared::new(opened.store, opened.applied, opened.membership);
        let failed = |reason: String| OpenError::Io {
            path: options.log.directory.path().to_path_buf(),
            reason,
        };
        let (role_sender, role) = watch::channel(LogRole::Follower { leader: None });
        let (doubt, doubts) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| failed(error.to_string()))?;
        let handle = runtime.handle().clone();
        let changing = Arc::<tokio::sync::Mutex<()>>::default();
        let node = Node {
            raft_id,
            alone,
            options: options.clone(),
            shared: shared.clone(),
            role: role_sender,
            doubts,
            changing: changing.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("quorum".to_owned())
            .spawn(move || runtime.block_on(node.run(ready, stopped)))
            .map_err(|error| failed(error.to_string()))?;
        let raft = started.recv().unwrap_or_else(|_| Err("its thread has ended".to_owned()));
        let raft = raft.map_err(failed)?;
        let transport = options.transport.clone();
        let runtime = handle;
        let voters = options.voters;
        let quorum =
            Quorum { raft_id, raft, shared, runtime, role, doubt, transport, changing, voters };
        let log = Self { quorum, stop: Some(stop), thread: Some(thread) };
        Ok((log, opened.recovered, opened.torn))
    }

    /// The node, for those who ask about it.
    #[must_use]
    pub fn quorum(&self) -> Quorum {
        self.quorum.clone()
    }
}

impl MetadataLog for RaftMetadataLog {
    fn propose(&mut self, records: Vec<Record>) -> Result<MetadataOffset, LogError> {
        let body = Bytes::from(encode_records(&records));
        Store::check_size(body.len())?;
        let LogRole::Leader { .. } = *self.quorum.role.borrow() else {
            return Err(self.quorum.lost());
        };
        self.quorum.shared.store.lock().reserve(1, body.len())?;
        let runtime = self.quorum.runtime.clone();
        runtime.block_on(self.quorum.propose(body))
    }

    fn poll(&mut self) -> Vec<LogEvent> {
        self.quorum.shared.take_news()
    }

    fn on_news(&mut self, wake: Wake) {
        self.quorum.shared.set_wake(wake);
    }

    fn status(&self) -> Option<QuorumStatus> {
        Some(QuorumStatus::of(&self.quorum.state()))
    }

    fn voters(&self) -> Option<Arc<dyn Voters>> {
        Some(Arc::new(self.quorum.clone()))
    }

    fn wants_snapshot(&self) -> bool {
        self.quorum.shared.store.lock().wants_snapshot()
    }

    fn store_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), LogError> {
        self.quorum.shared.store_snapshot(snapshot)?;
        let raft = self.quorum.raft.clone();
        let told = self.quorum.runtime.block_on(async move { raft.trigger().snapshot().await });
        told.map_err(|error| LogError::Offline(error.to_string()))
    }
}

impl Drop for RaftMetadataLog {
    fn drop(&mut self) {
        // The thread may have ended.
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by its hook.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for RaftMetadataLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RaftMetadataLog").field(&self.quorum).finish()
    }
}

impl fmt::Debug for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = *self.role.borrow();
        f.debug_struct("Quorum").field("raft_id", &self.raft_id).field("role", &role).finish()
    }
}

impl Quorum {
    /// What this node is to the log; wakes at every change.
    #[must_use]
    pub fn role(&self) -> watch::Receiver<LogRole> {
        self.role.clone()
    }

    /// Whether this node leads, or one that does has told it something since it was started. What it
    /// knows of a leader from before says nothing about whether it still has a part in the log.
    #[must_use]
    pub fn takes_part(&self) -> bool {
        matches!(*self.role.borrow(), LogRole::Leader { .. })
            || self.shared.is_told.load(Ordering::Relaxed)
    }

    /// Answers a message of another node.
    pub async fn answer(&self, request: Bytes) -> Bytes {
        let answer = super::network::serve(self.raft_id, &self.raft, &self.shared, request).await;
        super::network::encode_answer(&answer)
    }

    /// Why nothing can be proposed here: also a node that has failed leads no more.
    fn lost(&self) -> LogError {
        let failed = self.shared.store.lock().check_online();
        failed.err().unwrap_or_else(|| self.not_leader())
    }

    fn not_leader(&self) -> LogError {
        let leader = match *self.role.borrow() {
            LogRole::Leader { .. } => None,
            LogRole::Follower { leader } => leader,
        };
        LogError::NotLeader { leader }
    }

    async fn propose(&self, body: Bytes) -> Result<MetadataOffset, LogError> {
        let mut role = self.role.clone();
        let lost = async move {
            // What it hands out holds a lock, and must be gone before the role is looked at again.
            drop(role.wait_for(|role| matches!(role, LogRole::Follower { .. })).await);
        };
        // Dropping the write is safe: it goes on, and its entry comes out if it is committed.
        let written = tokio::select! {
            written = timeout(PROPOSAL_TIMEOUT, self.raft.client_write(body)) => written,
            () = lost => return Err(self.lost()),
        };
        match written {
            Ok(Ok(response)) => Ok(offset_of(response.log_id.index)),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                self.in_doubt();
                Err(LogError::NotLeader { leader: None })
            }
            Ok(Err(failure @ RaftError::APIError(ClientWriteError::ChangeMembershipError(_)))) => {
                Err(LogError::Offline(failure.to_string()))
            }
            Ok(Err(RaftError::Fatal(fatal))) => Err(self.offline(&fatal)),
            Err(_) => {
                self.in_doubt();
                Err(LogError::NotLeader { leader: None })
            }
        }
    }

    fn offline(&self, fatal: &openraft::error::Fatal<u64>) -> LogError {
        let known = self.shared.store.lock().check_online();
        known.err().unwrap_or_else(|| LogError::Offline(fatal.to_string()))
    }

    /// The end of a proposal is not known: leadership is told anew once it is.
    fn in_doubt(&self) {
        // The node may have stopped.
        let _ = self.doubt.send(());
    }
}

/// What the thread owns.
struct Node {
    raft_id: u64,
    /// Whether it is its own majority at the start.
    alone: bool,
    options: QuorumOptions,
    shared: Arc<Shared>,
    role: watch::Sender<LogRole>,
    doubts: mpsc::UnboundedReceiver<()>,
    changing: Arc<tokio::sync::Mutex<()>>,
}

impl Node {
    async fn run(self, ready: Ready, stopped: oneshot::Receiver<()>) {
        let network =
            Network { transport: self.options.transport.clone(), shared: self.shared.clone() };
        let config = Arc::new(library_config(&self.options));
        let (log, machine) = (LogStorage(self.shared.clone()), StateMachine(self.shared.clone()));
        let raft = match Raft::new(self.raft_id, config, network, log, machine).await {
            Ok(raft) => raft,
            Err(fatal) => {
                // Who opens it may have gone away.
                let _ = ready.send(Err(fatal.to_string()));
                return;
            }
        };
        let maintenance = Maintenance {
            raft_id: self.raft_id,
            raft: raft.clone(),
            member: self.options.member.clone(),
            voters: self.options.voters,
            transport: self.options.transport.clone(),
            changing: self.changing.clone(),
        };
        let maintenance = tokio::spawn(members::maintain(maintenance, self.role.subscribe()));
        // Dropping the watcher loses nothing: the library stops with it.
        tokio::select! {
            () = self.watch(raft.clone(), ready) => {}
            _ = stopped => {}
        }
        maintenance.abort();
        if let Err(failure) = raft.shutdown().await {
            debug!(%failure, "the consensus did not stop cleanly");
        }
    }

    /// Follows what the library makes of this node, until it ends.
    async fn watch(mut self, raft: Raft, ready: Ready) {
        let mut metrics = raft.metrics();
        let mut progress = Progress::default();
        let mut ready = Some(ready);
        let mut ticks = true;
        let mut speaks = true;
        let give_up = tokio::time::sleep(ALONE_TIMEOUT);
        tokio::pin!(give_up);
        if !self.alone {
            self.tell(LogRole::Follower { leader: None });
        }
        loop {
            let now = metrics.borrow_and_update().clone();
            if let Err(fatal) = &now.running_state {
                self.stop_broker(fatal);
                return;
            }
            let role = progress.role(&now, self.raft_id, self.options.election_timeout);
            if *self.role.borrow() != role || (self.alone && ready.is_some() && leads(role)) {
                self.tell(role);
            }
            if !self.alone || leads(role) {
                // It is taken once.
                let _ = ready.take().map(|ready| ready.send(Ok(raft.clone())));
            }
            let stays = !leads_as_stranger(&now, self.raft_id);
            if stays != speaks {
                // The library goes on leading; it is silent until another is elected.
                raft.runtime_config().heartbeat(stays);
                speaks = stays;
            }
            let wanted = now.membership_config.nodes().count() != 1 || !leads(role);
            if wanted != ticks {
                // One node alone needs neither heartbeats nor elections.
                raft.runtime_config().tick(wanted);
                super::runtime::set_quiet(!wanted);
                ticks = wanted;
            }
            // All are safe to drop: each only says that something may have changed.
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() {
                    self.stop_broker(&openraft::error::Fatal::Stopped);
                    return;
                },
                Some(()) = self.doubts.recv() => {
                    progress = Progress::default();
                    self.tell(LogRole::Follower { leader: None });
                }
                () = &mut give_up, if ready.is_some() => {
                    let _ = ready.take().map(|ready| {
                        ready.send(Err("the only node of the metadata log does not lead it".to_owned()))
                    });
                }
            }
        }
    }

    fn tell(&self, role: LogRole) {
        match role {
            LogRole::Leader { term } => info!(term, "this node leads the metadata log"),
            LogRole::Follower { leader } => {
                debug!(leader = leader.map(|id| id.0), "this node follows the metadata log");
            }
        }
        // First what a proposal looks at: who hears of a leadership may propose at once.
        self.role.send_replace(role);
        self.shared.tell([LogEvent::Role(role)]);
    }

    fn stop_broker(&self, fatal: &openraft::error::Fatal<u64>) {
        let known = self.shared.store.lock().check_online();
        if known.is_ok() {
            error!(%fatal, "the consensus on the metadata has stopped");
            self.shared.store.lock().go_offline("keep the metadata log", fatal);
        }
        self.tell(LogRole::Follower { leader: None });
    }
}

fn leads(role: LogRole) -> bool {
    matches!(role, LogRole::Leader { .. })
}

/// How far a new leader is with what earlier leaders left.
#[derive(Debug, Default)]
struct Progress {
    /// The term this node leads, and the entry that has to come out before it is told.
    leading: Option<(u64, Option<u64>)>,
}

impl Progress {
    fn role(&mut self, metrics: &Metrics, raft_id: u64, election_timeout: Duration) -> LogRole {
        let follows = |leader| LogRole::Follower { leader };
        if metrics.state != ServerState::Leader || metrics.current_leader != Some(raft_id) {
            self.leading = None;
            let leader = metrics.current_leader.filter(|leader| *leader != raft_id);
            return follows(leader.and_then(|id| broker_of(metrics, id)));
        }
        if is_cut_off(metrics, raft_id, election_timeout) || leads_as_stranger(metrics, raft_id) {
            self.leading = None;
            return follows(None);
        }
        let term = metrics.current_term;
        let (_, last) = match self.leading {
            Some(leading) if leading.0 == term => leading,
            _ => *self.leading.insert((term, metrics.last_log_index)),
        };
        if metrics.last_applied.map(|id: LogId<u64>| id.index) >= last {
            LogRole::Leader { term }
        } else {
            follows(None)
        }
    }
}

pub(super) fn broker_of(metrics: &Metrics, raft_id: u64) -> Option<BrokerId> {
    let membership: &Membership = metrics.membership_config.membership();
    membership.get_node(&raft_id).map(|member| member.broker)
}

/// Whether this node leads although it is agreed that it votes no more.
fn leads_as_stranger(metrics: &Metrics, raft_id: u64) -> bool {
    let stored = &metrics.membership_config;
    metrics.state == ServerState::Leader
        && metrics.last_applied >= *stored.log_id()
        && stored.voter_ids().all(|voter| voter != raft_id)
}

/// Whether a majority has not answered this leader for so long that it may have elected another.
fn is_cut_off(metrics: &Metrics, raft_id: u64, election_timeout: Duration) -> bool {
    let membership: &Membership = metrics.membership_config.membership();
    !votes_alone(membership, raft_id)
        && metrics
            .millis_since_quorum_ack
            .is_some_and(|silent| Duration::from_millis(silent) > 2 * election_timeout)
}

fn library_config(options: &QuorumOptions) -> Config {
    let timeout = u64::try_from(options.election_timeout.as_millis()).unwrap_or(u64::MAX).max(10);
    #[allow(deprecated)] // A field of it, which has to be named.
    Config {
        cluster_name: options.log.cluster_id.to_string(),
        election_timeout_min: timeout / 2,
        election_timeout_max: timeout,
        heartbeat_interval: timeout / 5,
        install_snapshot_timeout: SNAPSHOT_TIMEOUT_MS,
        send_snapshot_timeout: 0,
        max_payload_entries: ENTRIES_PER_MESSAGE,
        replication_lag_threshold: LAG_MAX,
        snapshot_policy: SnapshotPolicy::Never,
        snapshot_max_chunk_size: 0,
        max_in_snapshot_log_to_keep: 0,
        purge_batch_size: 1,
        enable_tick: true,
        enable_heartbeat: true,
        enable_elect: true,
    }
}

impl fmt::Debug for QuorumOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuorumOptions").field("member", &self.member).finish_non_exhaustive()
    }
}
