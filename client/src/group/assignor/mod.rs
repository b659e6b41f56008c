//! Who reads what in a group of the classic protocol, decided by the member that leads it.
//!
//! Pure functions of the members, what they subscribe to and own, and how many partitions topics
//! have. What holds of every assignment:
//!
//! - No partition has two owners, and none has an owner that does not subscribe to its topic.
//! - Every partition of a topic somebody subscribes to has an owner; with
//!   [`Assignor::CooperativeSticky`] those that change hands have none for one generation, in which
//!   the former owner lets go (KIP-429).
//! - The same input gives the same output.

mod layout;
mod range;
mod round_robin;
mod sticky;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) use self::layout::{Layout, PartitionCounts};
use crate::consumer::PartitionKey;

/// How the member that leads a group of the classic protocol shares partitions out.
///
/// ```
/// use sawlog_client::{Assignor, GroupOptions};
///
/// let options = GroupOptions {
///     assignors: vec![Assignor::CooperativeSticky],
///     ..GroupOptions::new("billing")
/// };
/// assert_eq!(options.assignors[0].name(), "cooperative-sticky");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Topic by topic, each member a run of partitions next to each other: equal numbers of topics
    /// with as many partitions come together. Where members say where they stand
    /// ([`ClientOptions::rack`](crate::ClientOptions::rack)) and not every partition has a replica
    /// there, each first gets what is near it (KIP-881). Everybody lets go of everything at each
    /// rebalance.
    Range,
    /// All partitions in turn. Everybody lets go of everything at each rebalance.
    RoundRobin,
    /// Balanced, with as few changes as that takes. Everybody lets go of everything at each rebalance,
    /// and mostly gets it back. For groups with members that know nothing newer; others are better off
    /// with [`Assignor::CooperativeSticky`].
    Sticky,
    /// Balanced, with as few changes as that takes, and only what changes hands is let go of
    /// (KIP-429): the others are read all the while.
    CooperativeSticky,
}

impl Assignor {
    /// Its name, by which members of a group agree on one.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::Sticky => "sticky",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Range, Self::RoundRobin, Self::Sticky, Self::CooperativeSticky]
            .into_iter()
            .find(|one| one.name() == name)
    }

    /// Whether members keep what they own while the group rebalances.
    pub(crate) const fn is_cooperative(self) -> bool {
        match self {
            Self::Range | Self::RoundRobin | Self::Sticky => false,
            Self::CooperativeSticky => true,
        }
    }
}

/// A member, as its leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscriber {
    pub(crate) member: Arc<str>,
    pub(crate) instance: Option<Arc<str>>,
    pub(crate) topics: BTreeSet<Arc<str>>,
    /// With [`Assignor::Sticky`], what it had before it let go of everything.
    pub(crate) owned: BTreeSet<PartitionKey>,
    /// In which it owned them, -1 if it does not say.
    pub(crate) generation: i32,
    /// Where it stands, if it says so.
    pub(crate) rack: Option<Arc<str>>,
}

/// What each member shall have: one place for each, in their order.
pub(crate) type Shares = Vec<BTreeSet<PartitionKey>>;

/// Shares out all partitions of all topics the members subscribe to.
pub(crate) fn assign(assignor: Assignor, members: &[Subscriber], layout: &Layout) -> Shares {
    match assignor {
        Assignor::Range => range::assign(members, layout),
        Assignor::RoundRobin => round_robin::assign(members, &layout.counts),
        Assignor::Sticky => sticky::balanced(members, layout),
        Assignor::CooperativeSticky => sticky::cooperative(members, layout),
    }
}

/// Members by instance, where they have one, else by id: restarts of static members change nothing.
fn in_order(members: &[Subscriber]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|at| {
        members
            .get(*at)
            .map(|one| (one.instance.is_none(), one.instance.clone(), one.member.clone()))
    });
    order
}

/// The members that subscribe to a topic, in order.
fn subscribers(members: &[Subscriber], order: &[usize], topic: &str) -> Vec<usize> {
    let wants = |at: &usize| members.get(*at).is_some_and(|one| one.topics.contains(topic));
    order.iter().copied().filter(wants).collect()
}

fn give(shares: &mut Shares, member: usize, key: PartitionKey) {
    if let Some(share) = shares.get_mut(member) {
        share.insert(key);
    }
}
