//! Who shall read what, decided by the broker for groups of the consumer protocol (KIP-848).
//!
//! Pure functions of the members, what they subscribe to and have, and the topics. What holds of
//! every assignment, whichever the assignor:
//!
//! - A partition of a topic somebody subscribes to has exactly one owner, who subscribes to it; no
//!   other partition has one.
//! - The same input gives the same output: there is no clock, chance or random order.
//!
//! Not here: when to assign anew, and how members get from what they have to what they shall have.

mod range;
#[cfg(test)]
mod tests;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{InstanceId, MemberId, TopicPartitions};
use crate::base::TopicId;

/// A member, as an assignor sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberSpec {
    /// Its instance, if it is static.
    pub instance: Option<InstanceId>,
    /// Where it runs; none: anywhere is as good.
    pub rack: Option<Arc<str>>,
    /// The topics it subscribes to. Those that do not exist are left out.
    pub topics: BTreeSet<TopicId>,
    /// What the assignment before gave it.
    pub owned: TopicPartitions,
}

/// A topic, as an assignor sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicSpec {
    /// How many partitions it has.
    pub partitions: i32,
    /// For each partition, where its replicas are; shorter than `partitions` if that is not known.
    pub racks: Vec<BTreeSet<Arc<str>>>,
}

impl TopicSpec {
    /// Whether a reader in `rack` has a replica of the partition near; true where nobody knows.
    fn is_near(&self, partition: i32, rack: Option<&Arc<str>>) -> bool {
        let Some(rack) = rack else { return true };
        let racks = usize::try_from(partition).ok().and_then(|index| self.racks.get(index));
        racks.is_none_or(|racks| racks.is_empty() || racks.contains(rack))
    }
}

/// A group, as an assignor sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSpec {
    /// The members, by id.
    pub members: BTreeMap<MemberId, MemberSpec>,
    /// The topics, by id.
    pub topics: BTreeMap<TopicId, TopicSpec>,
}

/// What each member shall have; every member is there.
pub type Assignment = BTreeMap<MemberId, TopicPartitions>;

/// A way to assign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Assignor {
    /// As even as subscriptions allow, over all topics together; as little moves as that allows.
    /// Of equally good owners one near the partition is taken.
    Uniform,
    /// Each topic in runs of partitions next to each other. Topics of as many partitions with the same
    /// subscribers are cut and given out alike, so that joins find their other side. Runs go to members
    /// near them where there is a choice.
    Range,
}

impl Assignor {
    /// Every assignor; the first is what groups get that ask for none.
    pub const ALL: &'static [Self] = &[Self::Uniform, Self::Range];

    /// As clients and records name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The assignor of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|assignor| assignor.name() == name)
    }

    /// Assigns every partition of the group.
    #[must_use]
    pub fn assign(self, group: &GroupSpec) -> Assignment {
        match self {
            Self::Uniform => uniform::assign(group),
            Self::Range => range::assign(group),
        }
    }
}
