//! Who the nodes of the metadata log are, and who of them votes: asked, changed, and kept in order by
//! whoever leads.
//!
//! A configuration changes in two steps, of which the library remembers the first: a leader that finds
//! a change half done finishes it. Voters are made of nodes that have caught up, an odd number at a time;
//! nothing here ever lowers their number: that takes somebody who asks (`voters`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::base::BrokerId;

use super::super::LogRole;
use super::log::Quorum;
use super::network::Transport;
use super::types::{Member, Metrics, Raft};

/// How often a leader looks after its members.
const LOOK_INTERVAL: Duration = Duration::from_millis(if cfg!(test) { 30 } else { 500 });

/// The same while there are nodes that could vote.
const LOOK_SOON: Duration = Duration::from_millis(if cfg!(test) { 30 } else { 100 });

/// A node has caught up if it had, this often in a row, what the leader had one look before.
const LOOKS_CAUGHT_UP: u32 = 2;

/// A change that is not done by then is left to the next look.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a node is waited for to say that it lives.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the members were not changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MemberError {
    /// Another node leads.
    #[error("this node does not lead the metadata log")]
    NotLeader {
        /// Where the leader is, as far as is known.
        leader: Option<Member>,
    },
    /// It makes no sense; nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// Another change is under way, or this one is not done yet: it may still come.
    #[error("the members of the metadata log are being changed: {0}")]
    Unfinished(String),
}

/// A node as the log's leader sees it; others know no more than who there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberState {
    /// The node's id.
    pub raft_id: u64,
    /// Who it is.
    pub member: Member,
    /// Whether it votes, and goes on to where the voters are being changed.
    pub votes: bool,
    /// The last entry it is known to have; `None` if this node does not lead, or has not heard.
    pub last_index: Option<u64>,
}

/// The state of the metadata log, from this node's view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumState {
    /// This node.
    pub raft_id: u64,
    /// Who leads, if anybody does.
    pub leader: Option<u64>,
    /// Its term.
    pub term: u64,
    /// The last entry known to be committed here.
    pub committed_index: Option<u64>,
    /// The last entry here.
    pub last_index: Option<u64>,
    /// Whether a change of the voters is half done, or not known to be committed.
    pub changing: bool,
    /// All nodes, by id.
    pub members: Vec<MemberState>,
}

impl Quorum {
    /// Who the nodes are and how far.
    #[must_use]
    pub fn state(&self) -> QuorumState {
        let metrics = self.raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        // While a change is half done, who is on the way in or out cannot be counted on.
        let votes = |id: &u64| membership.get_joint_config().iter().all(|set| set.contains(id));
        let members = metrics.membership_config.nodes().map(|(id, member)| {
            let matched = metrics.replication.as_ref().and_then(|all| all.get(id)).copied();
            MemberState {
                raft_id: *id,
                member: member.clone(),
                votes: votes(id),
                last_index: matched.flatten().map(|id| id.index),
            }
        });
        QuorumState {
            raft_id: self.raft_id,
            leader: metrics.current_leader,
            term: metrics.current_term,
            committed_index: metrics.last_applied.map(|id| id.index),
            last_index: metrics.last_log_index,
            changing: metrics.membership_config.membership().get_joint_config().len() > 1
                || *metrics.membership_config.log_id() > metrics.last_applied,
            members: members.collect(),
        }
    }

    /// Takes a node in, which is only told at first; or takes note of its new address. Returns who it
    /// is from now on: `wanted`, or a broker id nobody has, which `taken` are not either.
    ///
    /// # Errors
    /// This node does not lead, the id is another live node's, or the change is not done.
    pub async fn admit(
        &self,
        raft_id: u64,
        member: Member,
        wanted: Option<BrokerId>,
        taken: &[BrokerId],
    ) -> Result<Member, MemberError> {
        let _one_at_a_time = self.changing.lock().await;
        let metrics = self.leading()?;
        let members: BTreeMap<u64, Member> =
            metrics.membership_config.nodes().map(|(id, member)| (*id, member.clone())).collect();
        if let Some(known) = members.get(&raft_id) {
            let member = Member { endpoint: member.endpoint, ..known.clone() };
            if member != *known {
                let change = ChangeMembers::SetNodes(BTreeMap::from([(raft_id, member.clone())]));
                change_members(&self.raft, change, true).await?;
                info!(broker = member.broker.0, at = %member.endpoint, "a node has moved");
            }
            return Ok(member);
        }
        let broker = match wanted {
            Some(broker) => {
                self.check_gone(broker, &members).await?;
                broker
            }
            None => free_id(members.values().map(|member| member.broker), taken),
        };
        let member = Member { broker, ..member };
        let change = ChangeMembers::AddNodes(BTreeMap::from([(raft_id, member.clone())]));
        change_members(&self.raft, change, true).await?;
        info!(broker = broker.0, at = %member.endpoint, "a node has joined the cluster");
        self.let_go(broker, &members, &metrics).await;
        Ok(member)
    }

    /// Disks that a broker had before and that never voted are not told any more. Those that vote are
    /// needed until another takes their place.
    async fn let_go(&self, broker: BrokerId, members: &BTreeMap<u64, Member>, metrics: &Metrics) {
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        let old = members.iter().filter(|(id, it)| it.broker == broker && !voters.contains(id));
        let old: BTreeSet<u64> = old.map(|(id, _)| *id).collect();
        if old.is_empty() {
            return;
        }
        let change = ChangeMembers::RemoveNodes(old);
        if let Err(error) = change_members(&self.raft, change, true).await {
            // They are told for nothing, no more.
            warn!(broker = broker.0, %error, "the disk a broker had before is still told");
        }
    }

    /// What the library says, if this node leads.
    pub(super) fn leading(&self) -> Result<Metrics, MemberError> {
        let metrics = self.raft.metrics().borrow().clone();
        if matches!(*self.role.borrow(), LogRole::Leader { .. }) {
            return Ok(metrics);
        }
        let leader = metrics.current_leader.filter(|id| *id != self.raft_id);
        let membership = metrics.membership_config.membership();
        let leader = leader.and_then(|id| membership.get_node(&id)).cloned();
        Err(MemberError::NotLeader { leader })
    }

    /// A broker id may pass to another disk once the one it had does not answer.
    async fn check_gone(
        &self,
        broker: BrokerId,
        members: &BTreeMap<u64, Member>,
    ) -> Result<(), MemberError> {
        for (id, member) in members.iter().filter(|(_, member)| member.broker == broker) {
            if *id == self.raft_id || lives(&*self.transport, *id, member).await {
                return Err(MemberError::Refused(format!(
                    "broker {broker} is in the cluster, with another data directory, and answers at \
                     {}; choose another node.id, or leave it out",
                    member.endpoint
                )));
            }
        }
        Ok(())
    }
}

/// Whether that very node answers: with whatever.
pub(super) async fn lives(transport: &dyn Transport, raft_id: u64, member: &Member) -> bool {
    let probe = super::network::probe(raft_id);
    let answer = transport.call(raft_id, &member.endpoint, probe, PROBE_TIMEOUT).await;
    answer.is_ok_and(|answer| super::network::is_alive(&answer))
}

/// The lowest id above all that are in use, so that none is ever used again while it is known.
fn free_id(members: impl Iterator<Item = BrokerId>, taken: &[BrokerId]) -> BrokerId {
    let highest = members.chain(taken.iter().copied()).map(|id| id.0).max().unwrap_or(0);
    BrokerId(highest.max(0).saturating_add(1))
}

pub(super) async fn change_members(
    raft: &Raft,
    change: ChangeMembers<u64, Member>,
    retain: bool,
) -> Result<(), MemberError> {
    let changed = timeout(CHANGE_TIMEOUT, raft.change_membership(change, retain)).await;
    match changed {
        Ok(Ok(_)) => Ok(()),
        Err(_) => Err(MemberError::Unfinished("a majority does not answer".to_owned())),
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => {
            Err(MemberError::NotLeader { leader: forward.leader_node })
        }
        Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => match error
        {
            ChangeMembershipError::InProgress(_) => Err(MemberError::Unfinished(error.to_string())),
            ChangeMembershipError::EmptyMembership(_)
            | ChangeMembershipError::LearnerNotFound(_) => {
                Err(MemberError::Refused(error.to_string()))
            }
        },
        Ok(Err(RaftError::Fatal(fatal))) => Err(MemberError::Unfinished(fatal.to_string())),
    }
}

/// What a leader needs to look after its members.
pub(super) struct Maintenance {
    pub(super) raft_id: u64,
    pub(super) raft: Raft,
    pub(super) member: Member,
    pub(super) voters: usize,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) changing: Arc<tokio::sync::Mutex<()>>,
}

/// Nodes and how often in a row they had caught up.
#[derive(Debug, Default)]
struct Looks {
    /// The leader's last entry at the last look.
    last: Option<u64>,
    caught_up: BTreeMap<u64, u32>,
}

/// Looks after the members while this node leads. Ends when dropped.
pub(super) async fn maintain(maintenance: Maintenance, mut role: watch::Receiver<LogRole>) {
    loop {
        if role.wait_for(|role| matches!(role, LogRole::Leader { .. })).await.is_err() {
            return;
        }
        let mut looks = Looks::default();
        while matches!(*role.borrow(), LogRole::Leader { .. }) {
            if let Some(pause) = maintenance.look(&mut looks).await {
                tokio::time::sleep(pause).await;
            } else if wait_for_members(&maintenance.raft, &mut role).await.is_err() {
                return;
            }
        }
    }
}

/// A node alone has nothing to look after until there is another, or it leads no more.
async fn wait_for_members(
    raft: &Raft,
    role: &mut watch::Receiver<LogRole>,
) -> Result<(), watch::error::RecvError> {
    let mut metrics = raft.server_metrics();
    // What they hand out holds locks, and must be gone at once.
    let joined = async {
        let several = metrics.wait_for(|metrics| metrics.membership_config.nodes().count() > 1);
        several.await.map(drop)
    };
    let left =
        async { role.wait_for(|role| matches!(role, LogRole::Follower { .. })).await.map(drop) };
    // Both are safe to drop: they only look.
    tokio::select! {
        joined = joined => joined,
        left = left => left,
    }
}

impl Maintenance {
    /// Does what is due, one thing at a time. Says when to look again, if there is more to look after.
    async fn look(&self, looks: &mut Looks) -> Option<Duration> {
        let metrics = self.raft.metrics().borrow().clone();
        looks.see(&metrics);
        let change = decide(&metrics, self.raft_id, &self.member, self.voters, looks);
        if let Some(change) = change
            && self.is_safe(&metrics, &change).await
            && let Ok(_one_at_a_time) = self.changing.try_lock()
        {
            let described = format!("{:?}", change.members);
            match change_members(&self.raft, change.members, change.retain).await {
                Ok(()) => {
                    info!(why = change.why, change = described, "members of the metadata log");
                }
                Err(error) => warn!(%error, why = change.why, "members of the metadata log"),
            }
            return Some(LOOK_INTERVAL);
        }
        let nodes = metrics.membership_config.nodes().count();
        let voters = metrics.membership_config.voter_ids().count();
        let pause = if odd(self.voters.min(nodes)) > voters { LOOK_SOON } else { LOOK_INTERVAL };
        (nodes > 1).then_some(pause)
    }

    /// A voter is only replaced once it does not answer.
    async fn is_safe(&self, metrics: &Metrics, change: &Change) -> bool {
        let Some(replaced) = change.replaces else { return true };
        match metrics.membership_config.membership().get_node(&replaced) {
            Some(member) => !lives(&*self.transport, replaced, member).await,
            None => true,
        }
    }
}

impl Looks {
    fn see(&mut self, metrics: &Metrics) {
        let before = self.last;
        self.last = metrics.last_log_index;
        let none = BTreeMap::new();
        for (id, matched) in metrics.replication.as_ref().unwrap_or(&none) {
            let caught_up = before.is_some() && matched.map(|id| id.index) >= before;
            let looks = self.caught_up.entry(*id).or_default();
            *looks = if caught_up { looks.saturating_add(1) } else { 0 };
        }
    }

    fn caught_up(&self, raft_id: u64) -> bool {
        self.caught_up.get(&raft_id).is_some_and(|looks| *looks >= LOOKS_CAUGHT_UP)
    }
}

/// A change of the members that is due.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    why: &'static str,
    members: ChangeMembers<u64, Member>,
    /// Whether voters that leave stay nodes.
    retain: bool,
    /// The voter whose place another takes.
    replaces: Option<u64>,
}

/// The highest odd number that is not above `count`.
pub(super) fn odd(count: usize) -> usize {
    count.saturating_sub(usize::from(count.is_multiple_of(2)))
}

/// What is due next, if anything.
fn decide(
    metrics: &Metrics,
    own: u64,
    member: &Member,
    target: usize,
    looks: &Looks,
) -> Option<Change> {
    let membership = metrics.membership_config.membership();
    let configs = membership.get_joint_config();
    if let [_, last] = &configs[..] {
        let members = ChangeMembers::ReplaceAllVoters(last.clone());
        let why = "a change that was half done";
        return Some(Change { why, members, retain: true, replaces: None });
    }
    if membership.get_node(&own).is_some_and(|known| known.endpoint != member.endpoint) {
        let members = ChangeMembers::SetNodes(BTreeMap::from([(own, member.clone())]));
        return Some(Change { why: "this node has moved", members, retain: true, replaces: None });
    }
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let learners: Vec<(u64, &Member)> = membership
        .nodes()
        .filter(|(id, _)| !voters.contains(id))
        .map(|(id, member)| (*id, member))
        .collect();
    let ready = || learners.iter().filter(|(id, _)| looks.caught_up(*id));
    let voter_of = |broker: BrokerId| {
        let mut found = voters
            .iter()
            .filter(|id| membership.get_node(id).is_some_and(|member| member.broker == broker));
        found.next().copied()
    };
    for (id, member) in ready() {
        if let Some(old) = voter_of(member.broker).filter(|old| *old != own) {
            let voters = voters.iter().copied().filter(|voter| *voter != old).chain([*id]);
            let members = ChangeMembers::ReplaceAllVoters(voters.collect());
            let why = "a voter's disk was replaced";
            return Some(Change { why, members, retain: false, replaces: Some(old) });
        }
    }
    // An odd number, so that it never rests where one more could fail without gain.
    let wanted = odd(target.min(voters.len() + ready().count()));
    let more = wanted.checked_sub(voters.len()).filter(|more| *more > 0)?;
    let chosen = ready().map(|(id, _)| *id).take(more).collect();
    let members = ChangeMembers::AddVoterIds(chosen);
    Some(Change { why: "more nodes can vote", members, retain: true, replaces: None })
}
