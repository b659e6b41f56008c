//! The settings groups go by.

use std::time::Duration;

use super::assignor::Assignor;
use crate::base::limits::GROUP_ASSIGN_AT_ONCE_MAX;

/// Which groups may go over to the other protocol while they have members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migration {
    /// Either way.
    Bidirectional,
    /// From the classic protocol to the consumer protocol.
    Upgrade,
    /// From the consumer protocol to the classic protocol.
    Downgrade,
    /// Not at all.
    Disabled,
}

impl Migration {
    /// Whether a member of the consumer protocol may turn a classic group into its own kind.
    #[must_use]
    pub fn upgrades(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Upgrade)
    }

    /// Whether classic members turn their group back when no others are left.
    #[must_use]
    pub fn downgrades(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Downgrade)
    }
}

/// The settings groups go by. Defaults are Kafka's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOptions {
    /// `group.initial.rebalance.delay.ms`: how long the first rebalance of an empty group waits
    /// for more members.
    pub initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max: Duration,
    /// `group.max.size`: members of a classic group.
    pub size_max: usize,
    /// `group.consumer.max.size`: members of a group of the consumer protocol.
    pub consumer_size_max: usize,
    /// `group.consumer.migration.policy`.
    pub migration: Migration,
    /// `group.consumer.assignors`: the first is what groups get that ask for none.
    pub assignors: Vec<Assignor>,
    /// Members and partitions up to which an assignment is decided at once, and not on another thread
    /// while the group goes on.
    pub assign_at_once_max: usize,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_bytes_max: usize,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_check_interval: Duration,
    /// How long a member that has never been through a rebalance may wait for one: it sends no
    /// heartbeats meanwhile.
    pub first_join_timeout: Duration,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            initial_rebalance_delay: Duration::from_secs(3),
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(30 * 60),
            size_max: usize::MAX,
            consumer_size_max: usize::MAX,
            migration: Migration::Bidirectional,
            assignors: Assignor::ALL.to_vec(),
            assign_at_once_max: GROUP_ASSIGN_AT_ONCE_MAX,
            offset_metadata_bytes_max: 4096,
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
            offsets_check_interval: Duration::from_secs(600),
            first_join_timeout: Duration::from_secs(300),
        }
    }
}
