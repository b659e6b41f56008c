//! Elects a successor of a leader whose process is gone, without waiting until it is missed.
//!
//! The library elects by time alone: it waits for the leader's lease, and then some. When a machine
//! has said that the leader's process is gone, there is nothing to wait for. Each voter that knows
//! becomes a candidate, whereby it gives up the lease that keeps it from voting for others; then they
//! try again in an order, with pauses that grow.
//!
//! Always: this only makes elections earlier. Who may be elected, and by whom, is the library's; a
//! leader that lives after all is at worst replaced by another.

use std::time::Duration;

use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::timeout;
use tracing::info;

use crate::base::BrokerId;

use super::log::{Quorum, broker_of};
use super::types::Metrics;

/// How often a candidate tries before elections are left to the clock.
const ATTEMPTS: u32 = 4;

/// The pause before the second attempt of the first candidate, and by how much longer each next one
/// waits: an election is two syncs and two ways over the network.
const PAUSE: Duration = Duration::from_millis(25);
const APART: Duration = Duration::from_millis(50);

impl Quorum {
    /// Elects a successor whenever the leader is among the `departures`, as long as they are told.
    pub async fn succeed_the_gone(self, mut departures: Receiver<BrokerId>) {
        loop {
            match departures.recv().await {
                Ok(gone) => self.succeed(gone).await,
                // The clock elects, too.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn succeed(&self, gone: BrokerId) {
        let mut metrics = self.raft.metrics();
        let now = metrics.borrow().clone();
        let Some(leader) = now.current_leader.filter(|id| broker_of(&now, *id) == Some(gone))
        else {
            return;
        };
        let Some(rank) = rank_among_candidates(&now, leader, self.raft_id) else { return };
        info!(leader = gone.0, "the leader of the metadata log is gone: another is elected");
        let mut own_term = now.current_term;
        for attempt in 0..ATTEMPTS {
            let another = |now: &Metrics| now.current_leader.is_some_and(|id| id != leader);
            // Dropping the wait loses nothing.
            if timeout(pause(attempt, rank), metrics.wait_for(another)).await.is_ok() {
                return;
            }
            // Somebody else has become a candidate since: it is not disturbed.
            let term = metrics.borrow().current_term;
            if attempt > 0 && term > own_term {
                own_term = term;
                continue;
            }
            own_term = term + 1;
            if self.raft.trigger().elect().await.is_err() {
                return;
            }
        }
    }
}

/// This voter's place among those that are left; none if it does not vote.
fn rank_among_candidates(metrics: &Metrics, leader: u64, own: u64) -> Option<u32> {
    let voters = metrics.membership_config.membership().voter_ids();
    let mut left: Vec<u64> = voters.filter(|id| *id != leader).collect();
    left.sort_unstable();
    left.dedup();
    let rank = left.iter().position(|id| *id == own)?;
    u32::try_from(rank).ok()
}

/// The first attempts come at once, and at most one of them can win; those after come in turn.
fn pause(attempt: u32, rank: u32) -> Duration {
    match attempt.checked_sub(1) {
        None => Duration::ZERO,
        Some(again) => (PAUSE + APART * rank.min(8)) * 4u32.saturating_pow(again),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_try_at_once_then_one_after_the_other_ever_further_apart() {
        assert_eq!((pause(0, 0), pause(0, 3)), (Duration::ZERO, Duration::ZERO));
        for attempt in 1..ATTEMPTS {
            let apart = pause(attempt, 1) - pause(attempt, 0);
            assert_eq!(apart, APART * 4u32.pow(attempt - 1));
        }
    }
}
