//! Several real nodes in one process: each on a simulated disk, on a network that can be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use sawlog_protocol::Uuid;

use super::super::network::{CallFuture, Transport};
use super::super::{Member, MemberError, Quorum, QuorumOptions, RaftMetadataLog};
use crate::base::disk_sim::{Fault, SimDisk};
use crate::base::{BrokerId, DataDirectory};
use crate::config::Endpoint;
use crate::metadata::{MetadataOffset, Record};
use crate::peer::PeerError;
use crate::quorum::local::LocalLogOptions;
use crate::quorum::{
    Entry, LogError, LogEvent, LogRole, MetadataLog as _, Snapshot, VoterChange, VoterError,
    Voters as _,
};

/// Short, so that a leader that is gone is followed soon; long enough for a busy machine.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(800);

/// Long enough for anything that is to happen.
pub(super) const SOON: Duration = Duration::from_secs(120);

/// A network of all nodes.
#[derive(Default)]
pub(super) struct Net {
    nodes: Mutex<BTreeMap<u64, Quorum>>,
    cut: Mutex<BTreeSet<(u64, u64)>>,
}

impl Net {
    fn is_cut(&self, a: u64, b: u64) -> bool {
        self.cut.lock().contains(&(a.min(b), a.max(b)))
    }

    pub(super) fn isolate(&self, node: u64, others: impl Iterator<Item = u64>) {
        self.cut.lock().extend(others.map(|other| (node.min(other), node.max(other))));
    }

    pub(super) fn heal(&self) {
        self.cut.lock().clear();
    }
}

/// The network as one node has it.
struct Way {
    net: Arc<Net>,
    own: u64,
}

impl Transport for Way {
    fn call(&self, target: u64, _: &Endpoint, request: Bytes, timeout: Duration) -> CallFuture {
        let (net, own) = (self.net.clone(), self.own);
        Box::pin(async move {
            let lost = async {
                // Connections on which nothing comes are given up, whatever is under way on them.
                tokio::time::sleep(timeout.min(ELECTION_TIMEOUT)).await;
                Err(PeerError::TimedOut)
            };
            if net.is_cut(own, target) {
                return lost.await;
            }
            let node = net.nodes.lock().get(&target).cloned();
            let Some(node) = node else {
                return Err(PeerError::Unreachable("nobody is there".to_owned()));
            };
            let answer = tokio::time::timeout(timeout, node.answer(request)).await;
            if net.is_cut(own, target) {
                return lost.await;
            }
            answer.map_err(|_| PeerError::TimedOut)
        })
    }
}

/// What the nodes have seen and been promised, checked as it happens.
#[derive(Default)]
pub(super) struct Judge {
    /// The records at each offset, whoever told of them first.
    agreed: Mutex<BTreeMap<i64, Vec<Record>>>,
    /// Who led each term.
    leaders: Mutex<BTreeMap<u64, u64>>,
    /// Proposals acknowledged: when begun, when acknowledged, at which offset, what.
    acknowledged: Mutex<Vec<(u64, u64, i64, i64)>>,
    clock: AtomicU64,
    proposals: AtomicU64,
    /// Proposals that may be under way.
    proposing: AtomicU64,
}

impl Judge {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn saw(&self, node: u64, entry: &Entry) {
        let mut agreed = self.agreed.lock();
        let known = agreed.entry(entry.offset.0).or_insert_with(|| entry.records.clone());
        assert_eq!(*known, entry.records, "node {node} at {}", entry.offset);
    }

    fn leads(&self, node: u64, term: u64) {
        let leader = *self.leaders.lock().entry(term).or_insert(node);
        assert_eq!(leader, node, "two leaders of term {term}");
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.lock().len()
    }

    /// Everything that was promised is there, once, and in an order that could have been.
    pub(super) fn check(&self) {
        let agreed = self.agreed.lock();
        let mut seen = BTreeSet::new();
        for records in agreed.values() {
            for record in records {
                if let Record::ProducerIds { next, .. } = record {
                    assert!(seen.insert(*next), "proposal {next} is there twice");
                }
            }
        }
        let acknowledged = self.acknowledged.lock();
        for (_, _, offset, proposal) in acknowledged.iter() {
            assert_eq!(agreed.get(offset), Some(&proposed(*proposal)), "at {offset}");
        }
        // The latest begin of all that come before each offset must not be after its acknowledgement.
        let mut by_offset: Vec<_> = acknowledged.clone();
        by_offset.sort_unstable_by_key(|(_, _, offset, _)| *offset);
        let mut begun = 0;
        for (began, ended, offset, _) in by_offset {
            assert!(
                begun < ended || begun == 0,
                "what was proposed after {offset} comes before it"
            );
            begun = begun.max(began);
        }
    }
}

fn proposed(n: i64) -> Vec<Record> {
    vec![Record::ProducerIds { broker: BrokerId(1), epoch: 1, next: n }]
}

/// A node, and the thread that has its log as a controller would.
pub(super) struct Node {
    pub(super) raft_id: u64,
    storage_id: Uuid,
    disk: SimDisk,
    running: Option<Running>,
    joined: bool,
}

struct Running {
    quorum: Quorum,
    /// The last offset seen.
    seen: Arc<(Mutex<i64>, Condvar)>,
    proposes: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

pub(super) struct Cluster {
    pub(super) net: Arc<Net>,
    pub(super) judge: Arc<Judge>,
    pub(super) nodes: Vec<Node>,
    /// Voters there should be.
    target: usize,
    runtime: tokio::runtime::Runtime,
}

fn member(node: usize, storage_id: Uuid) -> Member {
    let port = u16::try_from(node).unwrap() + 1;
    let endpoint = Endpoint { name: "PEER".to_owned(), host: "node".to_owned(), port };
    Member { broker: BrokerId(i32::from(port)), storage_id, endpoint }
}

impl Cluster {
    /// A founder and nodes that have joined it.
    pub(super) fn of(count: usize) -> Self {
        Self::of_with(count, 5)
    }

    /// The same, with another number of voters there should be.
    pub(super) fn of_with(count: usize, target: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (net, judge, nodes) = (Arc::default(), Arc::default(), Vec::new());
        let mut cluster = Self { net, judge, nodes, target, runtime };
        for node in 0..count {
            cluster.add(node);
        }
        cluster
    }

    fn add(&mut self, node: usize) {
        let storage_id = Uuid([u8::try_from(node + 1).unwrap(); 16]);
        let raft_id = super::super::raft_id(storage_id);
        let disk = SimDisk::new();
        self.nodes.push(Node { raft_id, storage_id, disk, running: None, joined: node > 0 });
        if node > 0 {
            self.admit(node, raft_id, None);
        }
        self.start_as(node, false);
    }

    /// Has whoever leads take the node in.
    pub(super) fn admit(&self, node: usize, raft_id: u64, wanted: Option<BrokerId>) -> BrokerId {
        let member = member(node, self.nodes[node].storage_id);
        loop {
            let leader = self.leader();
            let admitted =
                self.runtime.block_on(leader.admit(raft_id, member.clone(), wanted, &[]));
            match admitted {
                Ok(member) => return member.broker,
                Err(MemberError::Refused(reason)) => panic!("{reason}"),
                Err(MemberError::NotLeader { .. } | MemberError::Unfinished(_)) => {}
            }
        }
    }

    pub(super) fn start(&mut self, node: usize) {
        self.start_as(node, true);
    }

    fn start_as(&mut self, node: usize, existed: bool) {
        let voters = self.target;
        let this = &mut self.nodes[node];
        let way = Way { net: self.net.clone(), own: this.raft_id };
        let options = QuorumOptions {
            log: LocalLogOptions {
                directory: DataDirectory::new(Arc::new(this.disk.clone()), PathBuf::from("/data")),
                cluster_id: Uuid([9; 16]),
                snapshot_after_bytes: 4000,
            },
            member: member(node, this.storage_id),
            joins: this.joined,
            existed,
            election_timeout: ELECTION_TIMEOUT,
            voters,
            transport: Arc::new(way),
        };
        let (log, recovered, _) = RaftMetadataLog::open(&options).unwrap();
        let quorum = log.quorum();
        self.net.nodes.lock().insert(this.raft_id, quorum.clone());
        let seen: Arc<(Mutex<i64>, Condvar)> = Arc::default();
        let (stop, proposes) = (Arc::<AtomicBool>::default(), Arc::new(AtomicBool::new(true)));
        let follower = Follower {
            raft_id: this.raft_id,
            log,
            judge: self.judge.clone(),
            seen: seen.clone(),
            image: BTreeMap::new(),
            term: None,
        };
        let thread = {
            let (stop, proposes) = (stop.clone(), proposes.clone());
            std::thread::spawn(move || follower.run(recovered, &stop, &proposes))
        };
        this.running = Some(Running { quorum, seen, proposes, stop, thread });
    }

    /// The power of a node goes; what it had not synced may be lost.
    pub(super) fn cut_power(&mut self, node: usize, seed: u64) {
        let this = &mut self.nodes[node];
        let Some(running) = this.running.take() else { return };
        self.net.nodes.lock().remove(&this.raft_id);
        this.disk.plan(1, Fault::Crash);
        this.disk = this.disk.restart(seed);
        running.stop.store(true, Ordering::SeqCst);
        drop(running.quorum);
        running.thread.join().unwrap();
    }

    /// Its disk is replaced by an empty one: a new node in its place.
    pub(super) fn wipe(&mut self, node: usize, storage: u8) {
        self.cut_power(node, 1);
        let this = &mut self.nodes[node];
        this.disk = SimDisk::new();
        this.storage_id = Uuid([storage; 16]);
        this.raft_id = super::super::raft_id(this.storage_id);
        this.joined = true;
    }

    pub(super) fn start_new(&mut self, node: usize) {
        self.start_as(node, false);
    }

    /// Which broker and data directory a node is of.
    pub(super) fn who(&self, node: usize) -> (BrokerId, Uuid) {
        let storage_id = self.nodes.get(node).map_or(Uuid([99; 16]), |node| node.storage_id);
        (member(node, storage_id).broker, storage_id)
    }

    /// Which node has an id.
    pub(super) fn place(&self, raft_id: u64) -> usize {
        self.nodes.iter().position(|node| node.raft_id == raft_id).unwrap()
    }

    /// Has whoever leads change who votes; asks again while nobody leads, or it is not done.
    pub(super) fn change(&self, change: VoterChange) -> Result<bool, VoterError> {
        loop {
            let leader = self.leader();
            match self.runtime.block_on(leader.change(change.clone())) {
                Err(VoterError::NotLeader { .. } | VoterError::Unfinished(_)) => {}
                done => return done,
            }
        }
    }

    pub(super) fn is_running(&self, node: usize) -> bool {
        self.nodes[node].running.is_some()
    }

    /// A node that leads.
    pub(super) fn leader(&self) -> Quorum {
        let leads =
            |running: &Running| matches!(*running.quorum.role().borrow(), LogRole::Leader { .. });
        self.until(|| {
            let mut running = self.nodes.iter().filter_map(|node| node.running.as_ref());
            running.find(|running| leads(running)).map(|running| running.quorum.clone())
        })
    }

    /// Waits until something is so.
    pub(super) fn until<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        let began = std::time::Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            for node in self.nodes.iter().filter_map(|node| node.running.as_ref()) {
                assert!(!node.thread.is_finished(), "a node has died");
            }
            assert!(began.elapsed() < SOON, "waited too long: {}", self.describe());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn describe(&self) -> String {
        let of = |node: &Node| {
            let running = node.running.as_ref()?;
            let seen = *running.seen.0.lock();
            Some(format!(
                "{:?} saw {seen}: {:?}\n",
                *running.quorum.role().borrow(),
                running.quorum.state()
            ))
        };
        self.nodes.iter().filter_map(of).collect()
    }

    pub(super) fn voters(&self) -> Vec<u64> {
        let state = self.leader().state();
        state.members.iter().filter(|member| member.votes).map(|member| member.raft_id).collect()
    }

    /// Whether so many nodes vote, and no change of that is half done.
    pub(super) fn is_of(&self, voters: usize) -> bool {
        let state = self.leader().state();
        let count = state.members.iter().filter(|member| member.votes).count();
        count == voters && !state.changing
    }

    /// Waits until so many more proposals have been acknowledged.
    pub(super) fn progress(&self, more: usize) {
        let wanted = self.judge.acknowledged() + more;
        self.until(|| (self.judge.acknowledged() >= wanted).then_some(()));
    }

    /// No more proposals; waits until all that run have seen the same, and checks it.
    pub(super) fn settle(&self) {
        let running = || self.nodes.iter().filter_map(|node| node.running.as_ref());
        for node in running() {
            node.proposes.store(false, Ordering::SeqCst);
        }
        // Who looks from now on finds that there are to be no more.
        self.until(|| (self.judge.proposing.load(Ordering::SeqCst) == 0).then_some(()));
        self.until(|| {
            let last = self.leader().state().last_index?;
            let last = i64::try_from(last).unwrap();
            running().all(|node| *node.seen.0.lock() >= last).then_some(())
        });
        self.judge.check();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(running) = node.running.take() {
                running.stop.store(true, Ordering::SeqCst);
                drop(running.quorum);
                let ended = running.thread.join();
                assert!(std::thread::panicking() || ended.is_ok());
            }
        }
        self.net.nodes.lock().clear();
    }
}

/// What a controller would do with the log.
struct Follower {
    raft_id: u64,
    log: RaftMetadataLog,
    judge: Arc<Judge>,
    seen: Arc<(Mutex<i64>, Condvar)>,
    /// The proposals applied, by offset.
    image: BTreeMap<i64, i64>,
    term: Option<u64>,
}

impl Follower {
    fn run(
        mut self,
        recovered: crate::quorum::Recovered,
        stop: &AtomicBool,
        proposes: &AtomicBool,
    ) {
        let news: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let wake = news.clone();
        self.log.on_news(Arc::new(move || {
            *wake.0.lock() = true;
            wake.1.notify_all();
        }));
        self.load(&recovered.snapshot);
        recovered.entries.iter().for_each(|entry| self.apply(entry));
        while !stop.load(Ordering::SeqCst) {
            for event in self.log.poll() {
                match event {
                    LogEvent::Entry(entry) => self.apply(&entry),
                    LogEvent::Snapshot(snapshot) => self.load(&snapshot),
                    LogEvent::Role(LogRole::Leader { term }) => {
                        self.judge.leads(self.raft_id, term);
                        self.term = Some(term);
                    }
                    LogEvent::Role(LogRole::Follower { .. }) => self.term = None,
                }
            }
            if self.log.wants_snapshot() {
                // The disk may be gone.
                let _ = self.log.store_snapshot(&self.snapshot());
            }
            self.judge.proposing.fetch_add(1, Ordering::SeqCst);
            if self.term.is_some() && proposes.load(Ordering::SeqCst) {
                self.propose();
            }
            self.judge.proposing.fetch_sub(1, Ordering::SeqCst);
            let mut told = news.0.lock();
            if !*told {
                news.1.wait_for(&mut told, Duration::from_millis(5));
            }
            *told = false;
        }
    }

    fn propose(&mut self) {
        let began = self.judge.tick();
        let n = i64::try_from(self.judge.proposals.fetch_add(1, Ordering::SeqCst)).unwrap();
        match self.log.propose(proposed(n)) {
            Ok(offset) => {
                let ended = self.judge.tick();
                self.judge.acknowledged.lock().push((began, ended, offset.0, n));
            }
            Err(LogError::NotLeader { .. }) => self.term = None,
            // The power is gone.
            Err(LogError::Offline(_)) => self.term = None,
            Err(error) => panic!("{error}"),
        }
    }

    fn apply(&mut self, entry: &Entry) {
        let mut seen = self.seen.0.lock();
        assert_eq!(entry.offset.0, *seen + 1, "node {} misses entries", self.raft_id);
        *seen = entry.offset.0;
        self.judge.saw(self.raft_id, entry);
        for record in &entry.records {
            if let Record::ProducerIds { next, .. } = record {
                self.image.insert(entry.offset.0, *next);
            }
        }
    }

    /// An image is a list of what was proposed, with its offsets as epochs.
    fn snapshot(&self) -> Snapshot {
        let broker = BrokerId(1);
        let records = self.image.iter().map(|(offset, next)| Record::ProducerIds {
            broker,
            epoch: *offset,
            next: *next,
        });
        let offset = MetadataOffset(*self.seen.0.lock());
        Snapshot { offset, records: records.collect() }
    }

    fn load(&mut self, snapshot: &Snapshot) {
        let mut seen = self.seen.0.lock();
        if snapshot.offset.0 == 0 {
            return;
        }
        assert!(snapshot.offset.0 > *seen, "a snapshot of the past");
        *seen = snapshot.offset.0;
        self.image.clear();
        for record in &snapshot.records {
            if let Record::ProducerIds { epoch, next, .. } = record {
                self.image.insert(*epoch, *next);
                let entry = Entry { offset: MetadataOffset(*epoch), records: proposed(*next) };
                self.judge.saw(self.raft_id, &entry);
            }
        }
    }
}
