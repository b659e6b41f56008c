//! The metadata log of a world: what a quorum of Raft nodes comes to, without the nodes.
//!
//! One list of entries that all agree on. A node that may propose leads it for a term; it can only while
//! it reaches most of the voters. Others hear of entries when they get to them, and of leaders when they
//! hear them. A proposal of a leader that loses its place is answered as by the real log: it is not known
//! what became of it, and it may come out. Nodes keep what they have heard over a restart, as the real
//! one does, which syncs everything; a disk that was wiped has nothing.
//!
//! Not here: votes, logs that part and are cut. The real log has a suite of its own for that.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::net::Net;
use crate::base::BrokerId;
use crate::base::disk_sim::SimRandom;
use crate::metadata::{MetadataOffset, Record};
use crate::quorum::{
    Entry, LogError, LogEvent, LogRole, MetadataLog, QuorumStatus, Recovered, Snapshot, Wake,
};

/// Where time is looked at.
const TICK: Duration = Duration::from_millis(100);

/// How a quorum behaves; times in milliseconds, chances in thousandths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manners {
    /// Until a node hears of an entry.
    pub(super) lag: (u64, u64),
    /// Silence after which another leader is chosen.
    pub(super) election: u64,
    /// A leader's proposal finds it deposed.
    pub(super) deposed: u64,
    /// Entries between snapshots.
    pub(super) snapshot_every: u64,
}

#[derive(Default)]
struct Node {
    /// Which life of its process it is; none while there is none.
    life: Option<u64>,
    /// Entries it has heard of, which it keeps.
    heard: usize,
    /// What its last snapshot includes, and the snapshot.
    snapshot: Snapshot,
    /// For `poll`.
    events: VecDeque<LogEvent>,
    /// What it has told its controller last.
    role: Option<LogRole>,
    wake: Option<Wake>,
    /// When it heard the leader last.
    heard_at: Option<Instant>,
    /// It has no vote before: its disk was wiped.
    votes_from: Option<Instant>,
}

struct State {
    manners: Manners,
    random: SimRandom,
    voters: Vec<i32>,
    entries: Vec<Entry>,
    term: u64,
    leader: Option<(i32, u64)>,
    /// When the leader was last seen to reach most voters.
    led_at: Instant,
    nodes: BTreeMap<i32, Node>,
    elections: u64,
    is_uncertain: u64,
    net: Net,
}

/// The metadata log of all nodes.
#[derive(Clone)]
pub(super) struct SimQuorum(Arc<Mutex<State>>);

impl SimQuorum {
    pub(super) fn new(seed: u64, voters: Vec<i32>, manners: Manners, net: Net) -> Self {
        Self(Arc::new(Mutex::new(State {
            manners,
            random: SimRandom::new(seed),
            voters,
            entries: Vec::new(),
            term: 0,
            leader: None,
            led_at: Instant::now(),
            nodes: BTreeMap::new(),
            elections: 0,
            is_uncertain: 0,
            net,
        })))
    }

    pub(super) fn set_manners(&self, manners: Manners) {
        self.0.lock().manners = manners;
    }

    /// All entries there are.
    pub(super) fn entries(&self) -> usize {
        self.0.lock().entries.len()
    }

    pub(super) fn entry(&self, at: usize) -> Option<Entry> {
        self.0.lock().entries.get(at).cloned()
    }

    /// Elections so far, and proposals whose outcome was not told.
    pub(super) fn counts(&self) -> (u64, u64) {
        let state = self.0.lock();
        (state.elections, state.is_uncertain)
    }

    /// The log of a process that starts, and what its disk has of it.
    pub(super) fn open(&self, broker: i32, life: u64) -> (SimLog, Recovered) {
        let mut state = self.0.lock();
        let node = state.nodes.entry(broker).or_default();
        node.life = Some(life);
        node.events.clear();
        (node.role, node.wake, node.heard_at) = (None, None, Some(Instant::now()));
        let snapshot = node.snapshot.clone();
        let from = usize::try_from(snapshot.offset.0).unwrap_or(0);
        let heard = node.heard;
        let entries = state.entries.get(from..heard).unwrap_or_default().to_vec();
        (SimLog { quorum: self.clone(), broker, life }, Recovered { snapshot, entries })
    }

    /// The process is gone.
    pub(super) fn end(&self, broker: i32) {
        let mut state = self.0.lock();
        if let Some(node) = state.nodes.get_mut(&broker) {
            node.life = None;
            node.wake = None;
            node.events.clear();
        }
    }

    /// The disk is gone, and with it a vote, for a while.
    pub(super) fn wipe(&self, broker: i32) {
        let mut state = self.0.lock();
        let votes_from = Some(Instant::now() + Duration::from_secs(2));
        state.nodes.insert(broker, Node { votes_from, ..Node::default() });
    }

    /// The leader is one no more, and another is chosen.
    pub(super) fn depose(&self) {
        let mut state = self.0.lock();
        state.leader = None;
        state.led_at = Instant::now();
    }

    /// Keeps time for as long as it is polled.
    pub(super) async fn run(self) {
        loop {
            sleep(TICK).await;
            self.elect();
            self.spread();
        }
    }

    /// Another leader, where there is none that reaches most voters.
    fn elect(&self) {
        let mut state = self.0.lock();
        let now = Instant::now();
        let leader = state.leader.filter(|(leader, life)| state.leads(*leader, *life));
        if let Some((leader, _)) = leader {
            state.led_at = now;
            // Again, where a proposal found too few.
            let term = state.term;
            state.tell_role(leader, LogRole::Leader { term });
            return;
        }
        let patience = Duration::from_millis(state.manners.election);
        if now.saturating_duration_since(state.led_at) < patience {
            return;
        }
        let able: Vec<i32> =
            state.voters.iter().copied().filter(|voter| state.could_lead(*voter)).collect();
        if able.is_empty() {
            return;
        }
        let at = state.random.below(u64::try_from(able.len()).unwrap_or(1));
        let Some(leader) = able.get(usize::try_from(at).unwrap_or(0)).copied() else { return };
        let Some(life) = state.nodes.get(&leader).and_then(|node| node.life) else { return };
        state.term += 1;
        state.elections += 1;
        state.leader = Some((leader, life));
        state.led_at = now;
        let term = state.term;
        state.hear(leader, usize::MAX);
        state.tell_role(leader, LogRole::Leader { term });
    }

    /// Tells nodes what they have not heard, if the leader reaches them.
    fn spread(&self) {
        let mut state = self.0.lock();
        let now = Instant::now();
        let leader = state.leader.filter(|(leader, life)| state.leads(*leader, *life));
        let alive: Vec<i32> =
            state.nodes.iter().filter(|(_, node)| node.life.is_some()).map(|(id, _)| *id).collect();
        for broker in alive {
            let reached = leader
                .filter(|(leader, _)| *leader == broker || state.net.connects(*leader, broker));
            match reached {
                Some((leader, _)) if leader != broker => {
                    if let Some(node) = state.nodes.get_mut(&broker) {
                        node.heard_at = Some(now);
                    }
                    state.tell_role(broker, LogRole::Follower { leader: Some(BrokerId(leader)) });
                    let entries = state.entries.len();
                    self.tell_later(&mut state, broker, entries);
                }
                Some(_) => {}
                None => {
                    let patience = Duration::from_millis(state.manners.election);
                    let heard = state.nodes.get(&broker).and_then(|node| node.heard_at);
                    if heard.is_none_or(|at| now.saturating_duration_since(at) >= patience) {
                        state.tell_role(broker, LogRole::Follower { leader: None });
                    }
                }
            }
        }
    }

    fn tell_later(&self, state: &mut State, broker: i32, upto: usize) {
        let Some(node) = state.nodes.get(&broker).filter(|node| node.heard < upto) else { return };
        let life = node.life;
        let (from, to) = state.manners.lag;
        let lag = Duration::from_millis(from + state.random.below(to - from + 1));
        let quorum = self.clone();
        tokio::spawn(async move {
            sleep(lag).await;
            let mut state = quorum.0.lock();
            let reached = state
                .leader
                .is_some_and(|(leader, _)| leader == broker || state.net.connects(leader, broker));
            if reached && state.nodes.get(&broker).is_some_and(|node| node.life == life) {
                state.hear(broker, upto);
            }
        });
    }
}

impl State {
    fn votes(&self, broker: i32) -> bool {
        let node = self.nodes.get(&broker);
        node.is_some_and(|node| {
            node.life.is_some()
                && self.net.runs(broker)
                && node.votes_from.is_none_or(|from| from <= Instant::now())
        })
    }

    fn could_lead(&self, broker: i32) -> bool {
        let reached = self.voters.iter().filter(|voter| {
            self.votes(**voter) && (**voter == broker || self.net.connects(broker, **voter))
        });
        self.votes(broker) && 2 * reached.count() > self.voters.len()
    }

    fn leads(&self, broker: i32, life: u64) -> bool {
        self.leader == Some((broker, life))
            && self.nodes.get(&broker).is_some_and(|node| node.life == Some(life))
            && self.could_lead(broker)
    }

    /// A node hears of the entries up to `upto`.
    fn hear(&mut self, broker: i32, upto: usize) {
        let upto = upto.min(self.entries.len());
        let Some(heard) = self.nodes.get(&broker).map(|node| node.heard) else { return };
        if heard >= upto {
            return;
        }
        // Who is far behind gets what it came to, now and then.
        let skip = upto - heard > 8 && self.random.below(3) == 0;
        let snapshot = self.nodes.values().map(|node| &node.snapshot);
        let newest = snapshot.max_by_key(|snapshot| snapshot.offset).cloned();
        let Some(node) = self.nodes.get_mut(&broker) else { return };
        let mut from = heard;
        if let Some(snapshot) = newest.filter(|_| skip) {
            let offset = usize::try_from(snapshot.offset.0).unwrap_or(0);
            if offset > heard && offset <= upto {
                node.snapshot = snapshot.clone();
                node.events.push_back(LogEvent::Snapshot(snapshot));
                from = offset;
            }
        }
        let new = self.entries.get(from..upto).unwrap_or_default();
        node.events.extend(new.iter().cloned().map(LogEvent::Entry));
        node.heard = upto;
        if let Some(wake) = &node.wake {
            wake();
        }
    }

    /// Its controller takes itself for one that does not lead, until it is told again.
    fn forget_role(&mut self, broker: i32) {
        if let Some(node) = self.nodes.get_mut(&broker) {
            node.role = Some(LogRole::Follower { leader: None });
        }
    }

    fn tell_role(&mut self, broker: i32, role: LogRole) {
        let Some(node) = self.nodes.get_mut(&broker) else { return };
        if node.role == Some(role) {
            return;
        }
        node.role = Some(role);
        node.events.push_back(LogEvent::Role(role));
        if let Some(wake) = &node.wake {
            wake();
        }
    }
}

/// A process's way to the log.
pub(super) struct SimLog {
    quorum: SimQuorum,
    broker: i32,
    life: u64,
}

impl fmt::Debug for SimLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimLog of {} ({})", self.broker, self.life)
    }
}

impl MetadataLog for SimLog {
    fn propose(&mut self, records: Vec<Record>) -> Result<MetadataOffset, LogError> {
        let mut state = self.quorum.0.lock();
        if !state.leads(self.broker, self.life) {
            state.forget_role(self.broker);
            return Err(LogError::NotLeader { leader: None });
        }
        let chance = state.manners.deposed;
        let is_deposed = state.random.below(1000) < chance;
        let comes_out = !is_deposed || state.random.below(2) == 0;
        let offset = MetadataOffset(i64::try_from(state.entries.len()).unwrap_or(0) + 1);
        if comes_out {
            state.entries.push(Entry { offset, records });
        }
        if is_deposed {
            state.is_uncertain += 1;
            state.forget_role(self.broker);
            state.leader = None;
            state.led_at = Instant::now();
            return Err(LogError::NotLeader { leader: None });
        }
        let entries = state.entries.len();
        state.hear(self.broker, entries);
        let others: Vec<i32> =
            state.nodes.keys().copied().filter(|other| *other != self.broker).collect();
        for other in others {
            if state.net.connects(self.broker, other) {
                self.quorum.tell_later(&mut state, other, entries);
            }
        }
        Ok(offset)
    }

    fn poll(&mut self) -> Vec<LogEvent> {
        let mut state = self.quorum.0.lock();
        let Some(node) = state.nodes.get_mut(&self.broker) else { return Vec::new() };
        if node.role.is_none() {
            let role = LogRole::Follower { leader: None };
            node.role = Some(role);
            node.events.push_back(LogEvent::Role(role));
        }
        node.events.drain(..).collect()
    }

    fn on_news(&mut self, wake: Wake) {
        if let Some(node) = self.quorum.0.lock().nodes.get_mut(&self.broker) {
            node.wake = Some(wake);
        }
    }

    fn status(&self) -> Option<QuorumStatus> {
        None
    }

    fn wants_snapshot(&self) -> bool {
        let state = self.quorum.0.lock();
        let node = state.nodes.get(&self.broker);
        node.is_some_and(|node| {
            let known = u64::try_from(node.snapshot.offset.0).unwrap_or(0);
            u64::try_from(node.heard).unwrap_or(0) >= known + state.manners.snapshot_every
        })
    }

    fn store_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), LogError> {
        if let Some(node) = self.quorum.0.lock().nodes.get_mut(&self.broker) {
            node.snapshot = snapshot.clone();
        }
        Ok(())
    }
}
