//! What must hold of assignments, over seeded random groups, and a few by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;

/// Splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn rack(&mut self) -> Option<Arc<str>> {
        ["a", "b", "c"].get(self.below(4)).map(|rack| Arc::from(*rack))
    }
}

fn topic(number: usize) -> TopicId {
    let mut id = [0; 16];
    id[15] = u8::try_from(number + 1).unwrap();
    sawlog_protocol::Uuid(id)
}

fn id(number: usize) -> MemberId {
    MemberId::from(format!("m{number:03}").as_str())
}

fn topic_spec(random: &mut Random, partitions: usize) -> TopicSpec {
    let racks = (0..partitions).map(|_| (0..2).filter_map(|_| random.rack()).collect());
    TopicSpec { partitions: i32::try_from(partitions).unwrap(), racks: racks.collect() }
}

/// Members subscribe to everything, or each to some.
fn random_group(random: &mut Random, members: usize, equal: bool) -> GroupSpec {
    let count = 1 + random.below(4);
    let topics: BTreeMap<TopicId, TopicSpec> = (0..count)
        .map(|number| {
            let partitions = random.below(9);
            (topic(number), topic_spec(random, partitions))
        })
        .collect();
    let mut group = GroupSpec { members: BTreeMap::new(), topics };
    for number in 0..members {
        // One topic more than there are.
        let topics = (0..=count).filter(|_| equal || random.below(7) < 4).map(topic).collect();
        let rack = random.rack();
        group.members.insert(id(number), MemberSpec { rack, topics, ..Default::default() });
    }
    group
}

fn slots(owned: &TopicPartitions) -> BTreeSet<(TopicId, i32)> {
    owned.iter().flat_map(|(topic, set)| set.iter().map(|index| (*topic, *index))).collect()
}

fn loads(assignment: &Assignment) -> Vec<usize> {
    assignment.values().map(|owned| slots(owned).len()).collect()
}

/// What every assignment must be.
fn check(group: &GroupSpec, assignment: &Assignment, what: &str) {
    assert!(assignment.keys().eq(group.members.keys()), "{what}: every member is there");
    let mut owners: BTreeMap<(TopicId, i32), &MemberId> = BTreeMap::new();
    for (member, owned) in assignment {
        for slot in slots(owned) {
            assert!(group.members[member].topics.contains(&slot.0), "{what}: {member} {slot:?}");
            assert!((0..group.topics[&slot.0].partitions).contains(&slot.1), "{what}: {slot:?}");
            assert_eq!(owners.insert(slot, member), None, "{what}: two owners of {slot:?}");
        }
    }
    for (topic, spec) in &group.topics {
        let subscribed = group.members.values().any(|member| member.topics.contains(topic));
        let owned = (0..spec.partitions).filter(|index| owners.contains_key(&(*topic, *index)));
        let expected = if subscribed { usize::try_from(spec.partitions).unwrap() } else { 0 };
        assert_eq!(owned.count(), expected, "{what}: {topic:?}");
    }
}

fn with_owned(mut group: GroupSpec, assignment: &Assignment) -> GroupSpec {
    for (member, spec) in &mut group.members {
        spec.owned = assignment.get(member).cloned().unwrap_or_default();
    }
    group
}

/// Partitions that had an owner and have another.
fn moved(before: &Assignment, after: &Assignment) -> usize {
    let owner = |assignment: &Assignment, slot| {
        assignment.iter().find(|(_, owned)| slots(owned).contains(&slot)).map(|(id, _)| id.clone())
    };
    let had = before.values().flat_map(slots);
    had.filter(|slot| owner(before, *slot) != owner(after, *slot)).count()
}

#[test]
fn every_partition_has_one_owner_who_wants_it_through_any_history() {
    for seed in 0..600 {
        let mut random = Random(seed);
        for assignor in Assignor::ALL {
            let equal = random.below(2) == 0;
            let members = random.below(7);
            let mut group = random_group(&mut random, members, equal);
            for step in 0..6 {
                let what = format!("{} seed {seed} step {step}", assignor.name());
                let assignment = assignor.assign(&group);
                check(&group, &assignment, &what);
                assert_eq!(assignor.assign(&group), assignment, "{what}: the same again");
                let members = 1 + random.below(7);
                let equal = random.below(2) == 0;
                group = with_owned(random_group(&mut random, members, equal), &assignment);
            }
        }
    }
}

#[test]
fn uniform_differs_by_one_at_most_when_all_subscribe_alike() {
    for seed in 0..600 {
        let mut random = Random(seed);
        let members = 1 + random.below(9);
        let group = random_group(&mut random, members, true);
        let before = Assignor::Uniform.assign(&group);
        let members = 1 + random.below(9);
        let mut next = random_group(&mut random, members, true);
        next.topics = group.topics;
        for assignment in [Assignor::Uniform.assign(&with_owned(next, &before)), before] {
            let loads = loads(&assignment);
            let spread = loads.iter().max().unwrap() - loads.iter().min().unwrap();
            assert!(spread <= 1, "seed {seed}: {loads:?}");
        }
    }
}

/// The least sum of squares of loads that any assignment has, by trying all.
fn least_squares(group: &GroupSpec) -> usize {
    let members: Vec<&MemberSpec> = group.members.values().collect();
    let topics = group.topics.iter();
    let wanted: Vec<TopicId> = topics
        .filter(|(topic, _)| members.iter().any(|member| member.topics.contains(topic)))
        .flat_map(|(topic, spec)| (0..spec.partitions).map(|_| *topic))
        .collect();
    fn least(wanted: &[TopicId], members: &[&MemberSpec], loads: &mut [usize]) -> usize {
        let [topic, rest @ ..] = wanted else { return loads.iter().map(|load| load * load).sum() };
        let mut best = usize::MAX;
        for member in 0..members.len() {
            if members[member].topics.contains(topic) {
                loads[member] += 1;
                best = best.min(least(rest, members, loads));
                loads[member] -= 1;
            }
        }
        best
    }
    least(&wanted, &members, &mut vec![0; members.len()])
}

#[test]
fn no_assignment_is_more_even_than_uniform_whatever_members_subscribe_to() {
    let mut compared = 0;
    for seed in 0..2_000 {
        let mut random = Random(seed);
        let members = 2 + random.below(2);
        let group = random_group(&mut random, members, false);
        if group.topics.values().map(|spec| spec.partitions).sum::<i32>() > 8 {
            continue;
        }
        let assignment = Assignor::Uniform.assign(&group);
        let squares: usize = loads(&assignment).iter().map(|load| load * load).sum();
        assert_eq!(squares, least_squares(&group), "seed {seed}: {assignment:?}");
        compared += 1;
    }
    assert!(compared > 300, "{compared}");
}

#[test]
fn uniform_moves_nothing_when_nothing_changed() {
    for seed in 0..400 {
        let mut random = Random(seed);
        let members = 1 + random.below(7);
        let equal = random.below(2) == 0;
        let group = random_group(&mut random, members, equal);
        let before = Assignor::Uniform.assign(&group);
        let after = Assignor::Uniform.assign(&with_owned(group, &before));
        assert_eq!(after, before, "seed {seed}");
    }
}

#[test]
fn a_member_that_joins_takes_its_share_and_nothing_else_moves() {
    for seed in 0..400 {
        let mut random = Random(seed);
        let members = 1 + random.below(7);
        let mut group = random_group(&mut random, members, true);
        let before = Assignor::Uniform.assign(&group);
        let newcomer = MemberSpec { owned: BTreeMap::new(), ..group.members[&id(0)].clone() };
        group.members.insert(id(500), newcomer);
        let after = Assignor::Uniform.assign(&with_owned(group, &before));
        assert_eq!(moved(&before, &after), slots(&after[&id(500)]).len(), "seed {seed}");
    }
}

#[test]
fn when_a_member_leaves_only_what_it_had_moves() {
    for seed in 0..400 {
        let mut random = Random(seed);
        let members = 2 + random.below(7);
        let mut group = random_group(&mut random, members, true);
        let before = Assignor::Uniform.assign(&group);
        let gone = id(random.below(members));
        group.members.remove(&gone);
        let after = Assignor::Uniform.assign(&with_owned(group, &before));
        assert_eq!(moved(&before, &after), slots(&before[&gone]).len(), "seed {seed}");
    }
}

/// Partition `i` is in rack `i % racks` alone; each rack has as many members as every other.
fn racked(partitions: i32, racks: usize, members: usize) -> GroupSpec {
    let rack = |number: usize| Arc::<str>::from(["a", "b", "c"][number % racks]);
    let indexes = 0..usize::try_from(partitions).unwrap();
    let spec =
        TopicSpec { partitions, racks: indexes.map(|i| BTreeSet::from([rack(i)])).collect() };
    let member = |number| {
        let topics = BTreeSet::from([topic(0)]);
        (id(number), MemberSpec { rack: Some(rack(number)), topics, ..Default::default() })
    };
    let members = (0..members).map(member).collect();
    GroupSpec { members, topics: BTreeMap::from([(topic(0), spec)]) }
}

fn far(group: &GroupSpec, assignment: &Assignment) -> usize {
    let far = |member: &MemberId, (topic, index): (TopicId, i32)| {
        !group.topics[&topic].is_near(index, group.members[member].rack.as_ref())
    };
    let all = assignment
        .iter()
        .flat_map(|(member, owned)| slots(owned).into_iter().map(move |slot| (member, slot)));
    all.filter(|(member, slot)| far(member, *slot)).count()
}

#[test]
fn uniform_gives_partitions_to_members_near_them_where_it_stays_even() {
    for (partitions, racks, members) in [(6, 2, 2), (9, 3, 3), (12, 3, 6), (60, 3, 12)] {
        let group = racked(partitions, racks, members);
        let assignment = Assignor::Uniform.assign(&group);
        check(&group, &assignment, "racked");
        assert_eq!(far(&group, &assignment), 0, "{partitions} {assignment:?}");
    }
    // In the order of partitions the second would go to the member with less, which is far.
    let mut group = racked(3, 2, 2);
    let near_both = BTreeSet::from([Arc::from("a")]);
    group.topics.get_mut(&topic(0)).unwrap().racks[1] = near_both;
    group.topics.get_mut(&topic(0)).unwrap().racks[2] = BTreeSet::from([Arc::from("b")]);
    assert_eq!(far(&group, &Assignor::Uniform.assign(&group)), 0);
}

#[test]
fn what_leaves_an_overloaded_member_is_what_is_far_from_it() {
    let mut group = racked(6, 2, 1);
    let before = Assignor::Uniform.assign(&group);
    assert_eq!(far(&group, &before), 3);
    group.members = racked(6, 2, 2).members;
    let group = with_owned(group, &before);
    assert_eq!(far(&group, &Assignor::Uniform.assign(&group)), 0);
}

#[test]
fn range_gives_runs_and_the_longer_ones_first() {
    let mut group = racked(7, 1, 3);
    for member in group.members.values_mut() {
        member.rack = None;
    }
    let assignment = Assignor::Range.assign(&group);
    let indexes = |number| slots(&assignment[&id(number)]).iter().map(|slot| slot.1).collect();
    let all: Vec<Vec<i32>> = (0..3).map(indexes).collect();
    assert_eq!(all, [vec![0, 1, 2], vec![3, 4], vec![5, 6]]);

    // A static member stands before the others.
    group.members.get_mut(&id(2)).unwrap().instance = Some(InstanceId::from("z"));
    let assignment = Assignor::Range.assign(&group);
    assert_eq!(slots(&assignment[&id(2)]).len(), 3);
    assert!(slots(&assignment[&id(2)]).contains(&(topic(0), 0)));
}

#[test]
fn range_gives_topics_alike_so_that_joins_meet() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let members = 1 + random.below(6);
        let mut group = random_group(&mut random, members, true);
        let spec = |random: &mut Random| topic_spec(random, 8);
        group.topics = (0..3).map(|number| (topic(number), spec(&mut random))).collect();
        for member in group.members.values_mut() {
            member.topics = (0..3).map(topic).collect();
        }
        let assignment = Assignor::Range.assign(&group);
        check(&group, &assignment, &format!("seed {seed}"));
        for owned in assignment.values() {
            let mut sets = owned.values();
            let first = sets.next();
            assert!(sets.all(|set| Some(set) == first), "seed {seed}: {owned:?}");
            if let Some(set) = first {
                let span = set.last().unwrap() - set.first().unwrap() + 1;
                assert_eq!(usize::try_from(span).unwrap(), set.len(), "seed {seed}: a run");
            }
        }
    }
}

#[test]
fn range_gives_runs_to_members_near_them() {
    let mut group = racked(6, 1, 2);
    let racks = ["b", "b", "b", "a", "a", "a"];
    group.topics.get_mut(&topic(0)).unwrap().racks =
        racks.iter().map(|rack| BTreeSet::from([Arc::from(*rack)])).collect();
    group.members.get_mut(&id(1)).unwrap().rack = Some(Arc::from("b"));
    let assignment = Assignor::Range.assign(&group);
    assert_eq!(far(&group, &assignment), 0, "{assignment:?}");
}
