//! As even as subscriptions allow, with as little moves as that allows.
//!
//! 1. Members keep what they had, as far as it exists and they still subscribe to it.
//! 2. What has no owner goes to the subscriber with the least, topics with few subscribers first.
//! 3. While some member can hand a partition on, directly or through others, such that one that has
//!    at least two less ends up with one more, it does. When nothing of the kind is left, no other
//!    assignment is more even (an optimal semi-matching); with equal subscriptions that means that no
//!    two members differ by more than one.
//! 4. Partitions that move anyway are passed on or swapped to owners near them, where that leaves
//!    things as even.
//!
//! Ties are decided for staying, then for nearness, then by order. Moving what could stay, only to be
//! nearer, is not done: a move makes the group wait.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{Assignment, GroupSpec, MemberSpec, TopicSpec};
use crate::base::TopicId;
use crate::coordinator::MemberId;

/// Owners looked at to bring partitions nearer. Nearness is a preference, so the search for it ends.
const NEARER_CHECKS_MAX: usize = 1 << 20;

/// Partitions looked at to find the best to hand on, among those equally right to move: members may
/// have thousands.
const CANDIDATES_MAX: usize = 64;

/// Assigns every partition of the group.
pub(super) fn assign(group: &GroupSpec) -> Assignment {
    let mut plan = Plan::new(group);
    plan.keep_owned();
    plan.give_unowned();
    plan.even_out();
    plan.bring_nearer();
    plan.into_assignment()
}

/// A partition, by the place of its topic.
type Slot = (usize, i32);

/// Members and topics by their places in the order of ids.
struct Plan<'a> {
    members: Vec<(&'a MemberId, &'a MemberSpec)>,
    topics: Vec<(TopicId, &'a TopicSpec)>,
    /// Per topic, who may have it.
    subscribers: Vec<Vec<usize>>,
    /// Per member, what it shall have.
    owned: Vec<BTreeSet<Slot>>,
    /// The part of `owned` that others had before, or nobody, until things are even.
    fresh: Vec<BTreeSet<Slot>>,
    /// Who had a partition, as far as that still counts.
    before: BTreeMap<Slot, usize>,
}

impl<'a> Plan<'a> {
    fn new(group: &'a GroupSpec) -> Self {
        let members: Vec<_> = group.members.iter().collect();
        let topics: Vec<_> = group.topics.iter().map(|(topic, spec)| (*topic, spec)).collect();
        let subscribes = |topic: &TopicId| {
            let member = |place: &usize| members[*place].1.topics.contains(topic);
            (0..members.len()).filter(member).collect()
        };
        let subscribers = topics.iter().map(|(topic, _)| subscribes(topic)).collect();
        let owned = vec![BTreeSet::new(); members.len()];
        Self { members, topics, subscribers, fresh: owned.clone(), owned, before: BTreeMap::new() }
    }

    fn keep_owned(&mut self) {
        let places: BTreeMap<TopicId, usize> =
            self.topics.iter().enumerate().map(|(place, (topic, _))| (*topic, place)).collect();
        for (member, (_, spec)) in self.members.iter().enumerate() {
            for (topic, partitions) in &spec.owned {
                let Some(place) = places.get(topic).filter(|_| spec.topics.contains(topic)) else {
                    continue;
                };
                let exist = 0..self.topics[*place].1.partitions;
                for partition in partitions.iter().filter(|partition| exist.contains(partition)) {
                    let slot = (*place, *partition);
                    if *self.before.entry(slot).or_insert(member) == member {
                        self.owned[member].insert(slot);
                    }
                }
            }
        }
    }

    fn give_unowned(&mut self) {
        let mut order: Vec<usize> = (0..self.topics.len()).collect();
        order.sort_by_key(|topic| self.subscribers[*topic].len());
        for topic in order {
            for partition in 0..self.topics[topic].1.partitions {
                let slot = (topic, partition);
                if self.before.contains_key(&slot) {
                    continue;
                }
                let cost =
                    |member: &usize| (self.owned[*member].len(), !self.is_near(slot, *member));
                let owner = self.subscribers[topic].iter().copied().min_by_key(cost);
                if let Some(owner) = owner {
                    self.owned[owner].insert(slot);
                    self.fresh[owner].insert(slot);
                }
            }
        }
    }

    fn is_near(&self, (topic, partition): Slot, member: usize) -> bool {
        let rack: Option<&Arc<str>> = self.members[member].1.rack.as_ref();
        self.topics[topic].1.is_near(partition, rack)
    }

    fn subscribes(&self, member: usize, topic: usize) -> bool {
        self.members[member].1.topics.contains(&self.topics[topic].0)
    }

    /// Whoever has most gives first, to whoever has least: no more moves than evenness needs. Each
    /// move makes the sum of the squares of what members have smaller, so this ends.
    fn even_out(&mut self) {
        loop {
            let mut stuck = vec![false; self.members.len()];
            let mut improved = false;
            let most = |plan: &Self, stuck: &[bool]| {
                let can_give = (0..plan.members.len()).rev().filter(|member| !stuck[*member]);
                can_give.max_by_key(|member| plan.owned[*member].len())
            };
            while let Some(member) = most(self, &stuck) {
                let Some(path) = self.path_to_less(member) else {
                    stuck[member] = true;
                    continue;
                };
                for step in path.windows(2) {
                    self.hand_on(step[0], step[1]);
                }
                improved = true;
            }
            if !improved {
                return;
            }
        }
    }

    /// The shortest way from `from` to the member with the least that can be reached, if it has two
    /// less at least: each can hand a partition to the next.
    fn path_to_less(&self, from: usize) -> Option<Vec<usize>> {
        let load = self.owned[from].len();
        let mut came_from: Vec<Option<usize>> = vec![None; self.members.len()];
        let mut topic_seen = vec![false; self.topics.len()];
        let mut queue = VecDeque::from([from]);
        let mut best: Option<usize> = None;
        while let Some(member) = queue.pop_front() {
            for topic in topics_of(&self.owned[member]) {
                if std::mem::replace(&mut topic_seen[topic], true) {
                    continue;
                }
                for next in &self.subscribers[topic] {
                    if *next == from || came_from[*next].is_some() {
                        continue;
                    }
                    came_from[*next] = Some(member);
                    queue.push_back(*next);
                    let less = |best: usize| self.owned[*next].len() < self.owned[best].len();
                    if best.is_none_or(less) {
                        best = Some(*next);
                    }
                }
            }
        }
        let to = best.filter(|best| self.owned[*best].len() + 2 <= load)?;
        let mut path = vec![to];
        while let Some(previous) = came_from[path[path.len() - 1]] {
            path.push(previous);
        }
        path.reverse();
        Some(path)
    }

    /// Moves one partition: rather one that `from` did not have before.
    fn hand_on(&mut self, from: usize, to: usize) {
        let fresh = self.best_of(&self.fresh[from], from, to);
        let Some(slot) = fresh.or_else(|| self.best_of(&self.owned[from], from, to)) else {
            return;
        };
        self.owned[from].remove(&slot);
        self.fresh[from].remove(&slot);
        self.owned[to].insert(slot);
        if self.moves(slot, to) {
            self.fresh[to].insert(slot);
        }
    }

    /// Rather one that `to` had before, or that gets nearer.
    fn best_of(&self, slots: &BTreeSet<Slot>, from: usize, to: usize) -> Option<Slot> {
        let worth = |slot: &Slot| {
            let nearer = i8::from(self.is_near(*slot, to)) - i8::from(self.is_near(*slot, from));
            (!self.moves(*slot, to), nearer, *slot)
        };
        let wanted = topics_of(slots).filter(|topic| self.subscribes(to, *topic));
        let of_topic = |topic| slots.range((topic, i32::MIN)..=(topic, i32::MAX)).rev();
        wanted.flat_map(of_topic).copied().take(CANDIDATES_MAX).max_by_key(worth)
    }

    /// Each step brings a partition near without taking another away, so this ends; in large groups
    /// before everything is tried.
    fn bring_nearer(&mut self) {
        let mut checks = 0;
        for member in 0..self.members.len() {
            let far = |slot: &Slot| !self.is_near(*slot, member) && self.moves(*slot, member);
            let far: Vec<Slot> = self.owned[member].iter().copied().filter(far).collect();
            for slot in far {
                if checks > NEARER_CHECKS_MAX {
                    return;
                }
                self.bring_near(slot, member, &mut checks);
            }
        }
    }

    /// Whether the partition was not this member's before, and so moves anyway.
    fn moves(&self, slot: Slot, member: usize) -> bool {
        self.before.get(&slot) != Some(&member)
    }

    fn bring_near(&mut self, slot: Slot, member: usize, checks: &mut usize) {
        for other in self.subscribers[slot.0].clone() {
            *checks += 1;
            if other == member || !self.is_near(slot, other) {
                continue;
            }
            let passes_on = self.owned[other].len() < self.owned[member].len();
            *checks += self.owned[other].len();
            let in_return = self.owned[other].iter().copied().find(|back| {
                self.subscribes(member, back.0)
                    && self.moves(*back, other)
                    && (self.is_near(*back, member) || !self.is_near(*back, other))
            });
            if !passes_on && in_return.is_none() {
                continue;
            }
            self.owned[member].remove(&slot);
            self.owned[other].insert(slot);
            if let Some(back) = in_return.filter(|_| !passes_on) {
                self.owned[other].remove(&back);
                self.owned[member].insert(back);
            }
            return;
        }
    }

    fn into_assignment(self) -> Assignment {
        let mut assignment = Assignment::new();
        for ((member, _), owned) in self.members.iter().zip(&self.owned) {
            let partitions = assignment.entry((*member).clone()).or_default();
            for (topic, partition) in owned {
                partitions.entry(self.topics[*topic].0).or_default().insert(*partition);
            }
        }
        assignment
    }
}

/// The topics of some partitions, each once.
fn topics_of(slots: &BTreeSet<Slot>) -> impl Iterator<Item = usize> {
    let mut next = slots.first().map(|slot| slot.0);
    std::iter::from_fn(move || {
        let topic = next?;
        next = slots.range((topic + 1, i32::MIN)..).next().map(|slot| slot.0);
        Some(topic)
    })
}
