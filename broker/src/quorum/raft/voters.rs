//! Voters added, removed and forgotten on request, by the node that leads.
//!
//! Always: one change at a time, in one joint step; the number of voters is never brought to where one more
//! broker could fail without gain, unless that very voter was named; a node that is told and has
//! caught up takes the place of a voter that leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use sawlog_protocol::Uuid;
use tokio::time::{Instant, sleep};
use tracing::info;

use super::super::{VoterChange, VoterError, Voters, VotersChanged};
use super::log::Quorum;
use super::members::{MemberError, change_members, lives, odd};
use super::types::{Member, Metrics};
use crate::base::BrokerId;

/// How long a successor that lives is waited for before a voter leaves without one.
const SUCCESSOR_PATIENCE: Duration = Duration::from_secs(8);

/// Between two looks at how far the others are.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

impl Voters for Quorum {
    fn change(&self, change: VoterChange) -> VotersChanged<'_> {
        Box::pin(async move {
            match change {
                VoterChange::Add { broker, directory, patience } => {
                    self.add_voter(broker, directory, patience).await.map(|()| true)
                }
                VoterChange::Remove { broker, directory } => {
                    self.remove_voter(broker, directory).await.map(|()| true)
                }
                VoterChange::Forget(broker) => self.forget(broker).await,
            }
        })
    }
}

impl From<MemberError> for VoterError {
    fn from(error: MemberError) -> Self {
        match error {
            MemberError::NotLeader { leader } => {
                Self::NotLeader { leader: leader.map(|member| member.broker) }
            }
            MemberError::Refused(reason) => Self::Refused(reason),
            error @ MemberError::Unfinished(_) => Self::Unfinished(error.to_string()),
        }
    }
}

impl Quorum {
    async fn add_voter(
        &self,
        broker: BrokerId,
        directory: Uuid,
        patience: Duration,
    ) -> Result<(), VoterError> {
        let _one_at_a_time = self.changing.lock().await;
        let metrics = self.leading()?;
        let membership = metrics.membership_config.membership();
        let votes = |member: &Member| member.broker == broker;
        if let Some(voter) =
            voters(&metrics).iter().filter_map(|id| membership.get_node(id)).find(|it| votes(it))
        {
            let text = format!(
                "broker {broker} votes on the metadata already, with the data directory {}",
                voter.storage_id
            );
            return Err(VoterError::Duplicate(text));
        }
        let node = membership
            .nodes()
            .find(|(_, member)| member.broker == broker && member.storage_id == directory);
        let Some((id, _)) = node else {
            let text = format!(
                "broker {broker} with the data directory {directory} is not in the cluster: start it \
                 with --join first; `sawlog cluster quorum` shows who is, and their directories"
            );
            return Err(VoterError::Refused(text));
        };
        let id = *id;
        if !self.catches_up(|metrics| caught_up(metrics, id), patience).await? {
            let text = format!(
                "broker {broker} has not caught up with the metadata yet, and does not vote: look at \
                 `sawlog cluster quorum` and try again"
            );
            return Err(VoterError::Unfinished(text));
        }
        change_members(&self.raft, ChangeMembers::AddVoterIds(BTreeSet::from([id])), true).await?;
        info!(broker = broker.0, "a broker votes on the metadata, on request");
        Ok(())
    }

    async fn remove_voter(&self, broker: BrokerId, directory: Uuid) -> Result<(), VoterError> {
        let _one_at_a_time = self.changing.lock().await;
        let metrics = self.leading()?;
        let membership = metrics.membership_config.membership();
        let mut stay = voters(&metrics);
        let is_meant = |id: &u64| {
            let member = membership.get_node(id);
            member.is_some_and(|it| it.broker == broker && it.storage_id == directory)
        };
        let Some(id) = stay.iter().copied().find(is_meant) else {
            let text = format!(
                "broker {broker} with the data directory {directory} does not vote on the metadata: \
                 `sawlog cluster quorum` shows who does, and their directories"
            );
            return Err(VoterError::NotFound(text));
        };
        stay.remove(&id);
        if stay.is_empty() {
            let text = format!("broker {broker} is the only one that votes on the metadata");
            return Err(VoterError::Refused(text));
        }
        let next = self.with_successors(stay, &BTreeSet::from([id])).await?;
        let comes_back = odd(self.voters.min(next.len() + 1)) > next.len();
        let member = membership.get_node(&id);
        if comes_back
            && let Some(member) = member
            && (id == self.raft_id || lives(&*self.transport, id, member).await)
        {
            let text = format!(
                "broker {broker} runs, and would be made a voter again at once, as metadata.voters is \
                 {} and no other broker can take its place: stop it first, or add a broker",
                self.voters
            );
            return Err(VoterError::Refused(text));
        }
        change_members(&self.raft, ChangeMembers::ReplaceAllVoters(next), true).await?;
        info!(broker = broker.0, "a broker votes on the metadata no more, on request");
        Ok(())
    }

    /// Has a broker that is gone vote no more, and told no more.
    async fn forget(&self, broker: BrokerId) -> Result<bool, VoterError> {
        let _one_at_a_time = self.changing.lock().await;
        let metrics = self.leading()?;
        let gone: BTreeMap<u64, Member> = metrics
            .membership_config
            .nodes()
            .filter(|(_, member)| member.broker == broker)
            .map(|(id, member)| (*id, member.clone()))
            .collect();
        if gone.is_empty() {
            return Ok(false);
        }
        for (id, member) in &gone {
            if *id == self.raft_id || lives(&*self.transport, *id, member).await {
                let at = &member.endpoint;
                let text = format!("broker {broker} runs, and answers at {at}: stop it first");
                return Err(VoterError::Refused(text));
            }
        }
        let gone: BTreeSet<u64> = gone.into_keys().collect();
        let before = voters(&metrics);
        if !before.is_disjoint(&gone) {
            let stay = before.difference(&gone).copied().collect();
            let next = self.with_successors(stay, &gone).await?;
            let next = self.odd_number_of(next);
            change_members(&self.raft, ChangeMembers::ReplaceAllVoters(next), true).await?;
        }
        change_members(&self.raft, ChangeMembers::RemoveNodes(gone), true).await?;
        info!(broker = broker.0, "a broker has no part in the metadata any more");
        Ok(true)
    }

    /// Those who stay, and nodes that have caught up in the place of those who do not.
    async fn with_successors(
        &self,
        stay: BTreeSet<u64>,
        leave: &BTreeSet<u64>,
    ) -> Result<BTreeSet<u64>, VoterError> {
        let ready = |metrics: &Metrics| -> Vec<u64> {
            let nodes = metrics.membership_config.nodes().map(|(id, _)| *id);
            let others = nodes.filter(|id| !stay.contains(id) && !leave.contains(id));
            others.filter(|id| caught_up(metrics, *id)).collect()
        };
        let wanted = |ready: usize| odd(self.voters.max(stay.len()).min(stay.len() + ready));
        let possible = wanted(self.living_others(&stay, leave).await);
        let enough = |metrics: &Metrics| wanted(ready(metrics).len()) >= possible;
        self.catches_up(enough, SUCCESSOR_PATIENCE).await?;
        let ready = ready(&self.leading()?);
        let more = wanted(ready.len()).saturating_sub(stay.len());
        Ok(stay.iter().copied().chain(ready.into_iter().take(more)).collect())
    }

    /// How many nodes live that are neither of those who stay nor of those who leave.
    async fn living_others(&self, stay: &BTreeSet<u64>, leave: &BTreeSet<u64>) -> usize {
        let metrics = self.raft.metrics().borrow().clone();
        let mut living = 0;
        for (id, member) in metrics.membership_config.nodes() {
            let is_other = !stay.contains(id) && !leave.contains(id);
            living += usize::from(is_other && lives(&*self.transport, *id, member).await);
        }
        living
    }

    /// As many of the voters as are an odd number: this node, and who is furthest.
    fn odd_number_of(&self, voters: BTreeSet<u64>) -> BTreeSet<u64> {
        let count = odd(voters.len());
        let metrics = self.raft.metrics().borrow().clone();
        let mut furthest: Vec<u64> = voters.into_iter().collect();
        furthest.sort_by_key(|id| std::cmp::Reverse((*id == self.raft_id, matched(&metrics, *id))));
        furthest.into_iter().take(count).collect()
    }

    /// Waits until the others are so far, as long as this node leads. False if it takes too long.
    async fn catches_up(
        &self,
        are_so_far: impl Fn(&Metrics) -> bool,
        patience: Duration,
    ) -> Result<bool, VoterError> {
        let deadline = Instant::now() + patience;
        loop {
            if are_so_far(&self.leading()?) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            sleep(LOOK_INTERVAL).await;
        }
    }
}

fn voters(metrics: &Metrics) -> BTreeSet<u64> {
    metrics.membership_config.voter_ids().collect()
}

/// The last entry a node is known to have.
fn matched(metrics: &Metrics, id: u64) -> Option<u64> {
    metrics.replication.as_ref()?.get(&id)?.map(|id| id.index)
}

/// Whether a node has all that is agreed on.
fn caught_up(metrics: &Metrics, id: u64) -> bool {
    let committed = metrics.last_applied.map(|id| id.index);
    matched(metrics, id).is_some_and(|matched| Some(matched) >= committed)
}
