//! Whether a replica is copied no faster than a rate.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Partition;
use crate::base::BrokerId;
use crate::config::TopicConfig;
use crate::metadata::PartitionState;
use crate::replication::throttles::Throttle;

/// As what this broker's replica is held up, as the metadata has it.
#[derive(Debug, Default)]
pub(super) struct Throttled {
    as_leader: AtomicBool,
    as_follower: AtomicBool,
}

impl Partition {
    pub(super) fn note_throttles(&self, config: &TopicConfig, state: &PartitionState) {
        let Some(replicated) = self.replicated() else { return };
        let (own, index) = (replicated.exchange().broker(), self.name.partition);
        let as_leader = config.leader_throttled_replicas.contains(index, own.0);
        // Who is in sync is not held up: writes would wait for it.
        let as_follower =
            config.follower_throttled_replicas.contains(index, own.0) && !state.isr.contains(&own);
        self.throttled.as_leader.store(as_leader, Ordering::Relaxed);
        self.throttled.as_follower.store(as_follower, Ordering::Relaxed);
    }

    /// Whether this replica is copied no faster than the rate of followers.
    pub(in crate::replication) fn is_throttled(&self) -> bool {
        self.throttled.as_follower.load(Ordering::Relaxed)
    }

    /// The rate `follower` is sent records at, if that is limited.
    pub(in crate::replication) fn throttle_for(&self, follower: BrokerId) -> Option<&Throttle> {
        if !self.throttled.as_leader.load(Ordering::Relaxed)
            || self.inspect(|core| core.in_sync().contains(&follower))
        {
            return None;
        }
        Some(&self.replicated()?.exchange().throttles().leader)
    }
}
