//! Runs of partitions next to each other, per topic.
//!
//! Members stand in an order: static ones by instance, the others by id. A topic of `p` partitions
//! and `m` subscribers is cut into `m` runs, the first `p % m` of them one longer. Topics of the same
//! `p` and the same subscribers are a class, and are given out alike. Without racks the first run goes
//! to the first subscriber and so on. With racks each run goes to the subscriber left that is near to
//! most of it, over the class; at a tie to the first.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Assignment, GroupSpec, MemberSpec};
use crate::base::TopicId;
use crate::coordinator::MemberId;

/// Assigns every partition of the group.
pub(super) fn assign(group: &GroupSpec) -> Assignment {
    let mut assignment: Assignment =
        group.members.keys().map(|member| (member.clone(), BTreeMap::new())).collect();
    let members = in_order(group);
    for (class, topics) in classes(group, &members) {
        for (run, subscriber) in given_out(group, &members, &class, &topics) {
            let (member, _) = members[subscriber];
            for topic in &topics {
                if let Some(owned) = assignment.get_mut(member).filter(|_| !run.is_empty()) {
                    owned.insert(*topic, run.clone().collect());
                }
            }
        }
    }
    assignment
}

type Members<'a> = Vec<(&'a MemberId, &'a MemberSpec)>;

/// Topics that are given out alike.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Class {
    partitions: i32,
    /// Places in the order of members.
    subscribers: Vec<usize>,
}

fn in_order(group: &GroupSpec) -> Members<'_> {
    let mut members: Members<'_> = group.members.iter().collect();
    members.sort_by_key(|(id, member)| {
        let instance = member.instance.as_ref().map(|instance| instance.as_str());
        (instance.is_none(), instance, *id)
    });
    members
}

fn classes(group: &GroupSpec, members: &Members<'_>) -> BTreeMap<Class, Vec<TopicId>> {
    let mut subscribers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
    for (place, (_, member)) in members.iter().enumerate() {
        for topic in &member.topics {
            subscribers.entry(*topic).or_default().push(place);
        }
    }
    let mut classes: BTreeMap<Class, Vec<TopicId>> = BTreeMap::new();
    for (topic, spec) in &group.topics {
        if let Some(subscribers) = subscribers.remove(topic) {
            let class = Class { partitions: spec.partitions.max(0), subscribers };
            classes.entry(class).or_default().push(*topic);
        }
    }
    classes
}

/// The runs of a class, each with the place of the member that gets it.
fn given_out(
    group: &GroupSpec,
    members: &Members<'_>,
    class: &Class,
    topics: &[TopicId],
) -> Vec<(Range<i32>, usize)> {
    let mut left = class.subscribers.clone();
    let has_racks = left.iter().any(|place| members[*place].1.rack.is_some());
    let mut given = Vec::with_capacity(left.len());
    for run in runs(class.partitions, left.len()) {
        let mut best = 0;
        if has_racks && !run.is_empty() {
            let near = |place: &usize| near_partitions(group, members[*place].1, topics, &run);
            let counts: Vec<usize> = left.iter().map(near).collect();
            let most = counts.iter().max().copied().unwrap_or(0);
            best = counts.iter().position(|count| *count == most).unwrap_or(0);
        }
        given.push((run, left.remove(best)));
    }
    given
}

/// `count` runs over the partitions, the longer ones first.
fn runs(partitions: i32, count: usize) -> Vec<Range<i32>> {
    let count = i32::try_from(count).unwrap_or(i32::MAX).max(1);
    let (length, longer) = (partitions / count, partitions % count);
    let mut start = 0;
    let cut = |run| {
        let end = start + length + i32::from(run < longer);
        std::mem::replace(&mut start, end)..end
    };
    (0..count).map(cut).collect()
}

fn near_partitions(
    group: &GroupSpec,
    member: &MemberSpec,
    topics: &[TopicId],
    run: &Range<i32>,
) -> usize {
    let specs = topics.iter().filter_map(|topic| group.topics.get(topic));
    let near = |spec: &super::TopicSpec| {
        run.clone().filter(|index| spec.is_near(*index, member.rack.as_ref())).count()
    };
    specs.map(near).sum()
}
