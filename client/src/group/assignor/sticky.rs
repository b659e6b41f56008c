//! Balanced with as few changes as that takes; of cooperative groups in steps that never give a
//! partition to somebody while another may still read it (KIP-429).
//!
//! 1. Everybody keeps what it owns and may have. Of two that claim a partition the one of the later
//!    generation has it; of the same generation neither.
//! 2. What nobody has goes to whoever has the least; of several, to one in a rack with a replica.
//! 3. While somebody has two more than another could have, one moves over, where subscriptions
//!    differ through members between. Each such move makes the sum of squares smaller: it ends.
//! 4. In cooperative groups what would change hands is left out: its owner lets go of it now, and it
//!    is given in the next generation. In eager ones everybody has let go of everything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{Layout, PartitionCounts, Shares, Subscriber, give, in_order, subscribers};
use crate::consumer::PartitionKey;

/// Where everybody has let go of everything.
pub(super) fn balanced(members: &[Subscriber], layout: &Layout) -> Shares {
    let order = in_order(members);
    let counts = &layout.counts;
    let readers: BTreeMap<Arc<str>, Vec<usize>> = counts
        .keys()
        .map(|topic| (topic.clone(), subscribers(members, &order, topic)))
        .filter(|(_, readers)| !readers.is_empty())
        .collect();
    let mut plan = Plan { shares: kept(members, counts), readers };
    plan.fill(members, layout);
    plan.balance(&order);
    plan.shares
}

/// Where everybody still has what it owns.
pub(super) fn cooperative(members: &[Subscriber], layout: &Layout) -> Shares {
    let mut shares = balanced(members, layout);
    withhold(members, &mut shares);
    shares
}

/// What each member owns and may keep.
pub(super) fn kept(members: &[Subscriber], counts: &PartitionCounts) -> Shares {
    // The member with the claim, its generation, and whether it is the only one of that generation.
    let mut claims: BTreeMap<&PartitionKey, (usize, i32, bool)> = BTreeMap::new();
    for (at, member) in members.iter().enumerate() {
        let exists = |key: &&PartitionKey| {
            member.topics.contains(&key.0)
                && counts.get(&key.0).is_some_and(|count| (0..*count).contains(&key.1))
        };
        for key in member.owned.iter().filter(exists) {
            let claim = claims.entry(key).or_insert((at, member.generation, true));
            if claim.0 != at {
                match member.generation.cmp(&claim.1) {
                    std::cmp::Ordering::Greater => *claim = (at, member.generation, true),
                    std::cmp::Ordering::Equal => claim.2 = false,
                    std::cmp::Ordering::Less => {}
                }
            }
        }
    }
    let mut shares: Shares = vec![BTreeSet::new(); members.len()];
    for (key, (at, _, _)) in claims.into_iter().filter(|(_, (_, _, alone))| *alone) {
        give(&mut shares, at, key.clone());
    }
    shares
}

/// Leaves out of the shares what somebody else still owns.
fn withhold(members: &[Subscriber], shares: &mut Shares) {
    let mut owners: BTreeMap<&PartitionKey, Vec<usize>> = BTreeMap::new();
    for (at, member) in members.iter().enumerate() {
        for key in &member.owned {
            owners.entry(key).or_default().push(at);
        }
    }
    for (at, share) in shares.iter_mut().enumerate() {
        share.retain(|key| {
            owners.get(key).is_none_or(|owners| owners.iter().all(|owner| *owner == at))
        });
    }
}

struct Plan {
    shares: Shares,
    /// Members by topic they subscribe to, in order.
    readers: BTreeMap<Arc<str>, Vec<usize>>,
}

impl Plan {
    fn load(&self, member: usize) -> usize {
        self.shares.get(member).map_or(0, BTreeSet::len)
    }

    /// Gives what nobody has. Topics with few subscribers first: there is least choice.
    fn fill(&mut self, members: &[Subscriber], layout: &Layout) {
        let taken: BTreeSet<PartitionKey> = self.shares.iter().flatten().cloned().collect();
        let mut topics: Vec<(Arc<str>, Vec<usize>)> =
            self.readers.iter().map(|(topic, readers)| (topic.clone(), readers.clone())).collect();
        topics.sort_by_key(|(_, readers)| readers.len());
        for (topic, readers) in topics {
            let count = layout.counts.get(&topic).copied().unwrap_or(0);
            let mut racks = layout.racks_of(&topic).iter();
            for partition in 0..count {
                let key = (topic.clone(), partition);
                let near = racks.next();
                let is_far = |at: usize| {
                    let rack = members.get(at).and_then(|member| member.rack.as_ref());
                    rack.is_none_or(|rack| near.is_none_or(|near| !near.contains(rack)))
                };
                let least = readers.iter().copied().min_by_key(|at| (self.load(*at), is_far(*at)));
                if let Some(reader) = least.filter(|_| !taken.contains(&key)) {
                    give(&mut self.shares, reader, key);
                }
            }
        }
    }

    fn balance(&mut self, order: &[usize]) {
        loop {
            let mut by_load = order.to_vec();
            by_load.sort_by_key(|at| std::cmp::Reverse(self.load(*at)));
            let Some(moves) = by_load.into_iter().find_map(|from| self.way_out(from)) else {
                return;
            };
            for (from, to, key) in moves {
                if let Some(share) = self.shares.get_mut(from) {
                    share.remove(&key);
                }
                give(&mut self.shares, to, key);
            }
        }
    }

    /// Moves that take one partition from a member to another with at least two less, over as few
    /// members as possible.
    fn way_out(&self, from: usize) -> Option<Vec<(usize, usize, PartitionKey)>> {
        let load = self.load(from);
        let mut came: BTreeMap<usize, (usize, PartitionKey)> = BTreeMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(giver) = queue.pop_front() {
            let share = self.shares.get(giver)?;
            let mut seen_topic: Option<&Arc<str>> = None;
            // The last partitions of a topic go first.
            for key in share.iter().rev() {
                if seen_topic == Some(&key.0) {
                    continue;
                }
                seen_topic = Some(&key.0);
                let readers = self.readers.get(&key.0).map(Vec::as_slice).unwrap_or_default();
                let mut takers: Vec<usize> = readers
                    .iter()
                    .copied()
                    .filter(|at| *at != from && !came.contains_key(at))
                    .collect();
                takers.sort_by_key(|at| self.load(*at));
                for taker in takers {
                    came.insert(taker, (giver, key.clone()));
                    if self.load(taker) + 2 <= load {
                        return Some(path(&came, from, taker));
                    }
                    queue.push_back(taker);
                }
            }
        }
        None
    }
}

fn path(
    came: &BTreeMap<usize, (usize, PartitionKey)>,
    from: usize,
    to: usize,
) -> Vec<(usize, usize, PartitionKey)> {
    let mut moves = Vec::new();
    let mut taker = to;
    while let Some((giver, key)) = came.get(&taker).filter(|_| taker != from) {
        moves.push((*giver, taker, key.clone()));
        taker = *giver;
    }
    moves
}
