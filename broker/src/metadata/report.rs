//! What a broker tells of its replicas of its own accord: where they are, and which are no good.
//!
//! Data only. Both sides stand above this module and neither above the other.

use sawlog_protocol::Uuid;

use crate::base::{BrokerId, TopicId};

/// A broker tells of its replicas, each by topic and index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaReport {
    /// The broker.
    pub broker: BrokerId,
    /// Its registration.
    pub epoch: i64,
    /// The data directory of each replica whose directory the metadata does not know.
    pub placed: Vec<(Uuid, Vec<(TopicId, i32)>)>,
    /// Replicas whose log has failed or is damaged.
    pub damaged: Vec<(TopicId, i32)>,
}

impl ReplicaReport {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.placed.is_empty() && self.damaged.is_empty()
    }
}
