//! Replicas and leaderships, spread evenly: pure, from what the cluster looks like now.
//!
//! Replicas first: one at a time goes from the broker with the most to one with fewer, until no two
//! brokers differ by more than one, or what is left to move would put two replicas of a partition into
//! one rack. Then who is preferred to lead: replicas of a partition change places, which moves no record.

use std::collections::{BTreeMap, VecDeque};

use super::plan::{Place, Placed};

/// What has to change so that the brokers of `places` have as many replicas, and lead as many partitions,
/// as each other. Partitions with a replica elsewhere are left alone: their broker does not run.
pub(crate) fn evened(places: &[Place], all: &[Placed]) -> Vec<Placed> {
    evened_onto(places, all, |_| true)
}

/// As [`evened`], but replicas are moved to `newcomer` alone, until it has its share.
pub(super) fn shared_with(places: &[Place], all: &[Placed], newcomer: i32) -> Vec<Placed> {
    evened_onto(places, all, |broker| broker == newcomer)
}

fn evened_onto(places: &[Place], all: &[Placed], may_get: impl Fn(i32) -> bool) -> Vec<Placed> {
    let runs = |id: &i32| places.iter().any(|place| place.broker == *id);
    let concerned = all.iter().filter(|placed| placed.replicas.iter().all(runs));
    let before: Vec<Placed> = concerned.cloned().collect();
    let mut after = before.clone();
    while move_one(places, &mut after, &may_get) {}
    while hand_over_one(places, &mut after) {}
    let changed = before.iter().zip(after).filter(|(before, after)| *before != after);
    changed.map(|(_, after)| after).collect()
}

/// Brokers with how much `of` finds each to have, fewest first.
fn counted(places: &[Place], all: &[Placed], of: impl Fn(&Placed) -> &[i32]) -> Vec<(usize, i32)> {
    let mut counts: BTreeMap<i32, usize> = places.iter().map(|place| (place.broker, 0)).collect();
    for id in all.iter().flat_map(of) {
        *counts.entry(*id).or_default() += 1;
    }
    let mut counted: Vec<_> = counts.into_iter().map(|(id, count)| (count, id)).collect();
    counted.sort_unstable();
    counted
}

/// Moves one replica from a broker with more to one with fewer, if that makes them more even.
fn move_one(places: &[Place], all: &mut [Placed], may_get: impl Fn(i32) -> bool) -> bool {
    let counted = counted(places, all, |placed| &placed.replicas);
    for (most, from) in counted.iter().rev() {
        for (fewest, to) in counted.iter().filter(|(_, id)| may_get(*id)) {
            if fewest + 1 >= *most {
                break;
            }
            if let Some((at, place)) = movable(places, all, *from, *to) {
                all[at].replicas[place] = *to;
                return true;
            }
        }
    }
    false
}

/// A replica on `from` that may as well be on `to`: a follower before a leader.
fn movable(places: &[Place], all: &[Placed], from: i32, to: i32) -> Option<(usize, usize)> {
    let rack = |id: i32| places.iter().find(|place| place.broker == id)?.rack.as_deref();
    let fits = |placed: &Placed| {
        let others = || placed.replicas.iter().copied().filter(|id| *id != from);
        let shares = |id: i32| rack(id).is_some() && others().any(|other| rack(other) == rack(id));
        !placed.replicas.contains(&to) && (!shares(to) || shares(from))
    };
    let place = |placed: &Placed| placed.replicas.iter().position(|id| *id == from);
    let found = all.iter().enumerate().filter(|(_, placed)| fits(placed));
    let found = found.filter_map(|(at, placed)| Some((at, place(placed)?)));
    found.max_by_key(|(at, place)| (*place, std::cmp::Reverse(*at)))
}

/// Makes leaderships more even by one: the broker that is preferred for the most partitions gives one up,
/// to one that is preferred for fewer, over others in between if need be.
fn hand_over_one(places: &[Place], all: &mut [Placed]) -> bool {
    let leads = |placed: &Placed| placed.replicas.first().copied();
    let counted = counted(places, all, |placed| placed.replicas.get(..1).unwrap_or_default());
    let count = |id: i32| counted.iter().find(|(_, of)| *of == id).map_or(0, |(count, _)| *count);
    for (most, from) in counted.iter().rev() {
        // How each broker was reached: by which partition, from which broker.
        let mut reached: BTreeMap<i32, Option<(usize, i32)>> = BTreeMap::from([(*from, None)]);
        let mut next = VecDeque::from([*from]);
        while let Some(broker) = next.pop_front() {
            if count(broker) + 1 < *most {
                give_along(all, &reached, broker);
                return true;
            }
            for (at, placed) in all.iter().enumerate().filter(|(_, p)| leads(p) == Some(broker)) {
                for to in &placed.replicas {
                    reached.entry(*to).or_insert_with(|| {
                        next.push_back(*to);
                        Some((at, broker))
                    });
                }
            }
        }
    }
    false
}

/// Each partition on the way to `end` is led by the next broker of it.
fn give_along(all: &mut [Placed], reached: &BTreeMap<i32, Option<(usize, i32)>>, end: i32) {
    let mut to = end;
    while let Some(Some((at, from))) = reached.get(&to) {
        let replicas = &mut all[*at].replicas;
        if let Some(place) = replicas.iter().position(|id| *id == to) {
            replicas.swap(0, place);
        }
        to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(racks: &[&str]) -> Vec<Place> {
        let place = |(broker, rack): (i32, &&str)| Place {
            broker,
            rack: Some((*rack).to_owned()).filter(|rack| !rack.is_empty()),
        };
        (1..).zip(racks).map(place).collect()
    }

    fn placed(all: &[&[i32]]) -> Vec<Placed> {
        let one = |(partition, replicas): (i32, &&[i32])| Placed {
            topic: "t".to_owned(),
            partition,
            replicas: replicas.to_vec(),
        };
        (0..).zip(all).map(one).collect()
    }

    /// Replicas and leaderships of each broker once the plan is carried out.
    fn loads(places: &[Place], all: &[Placed], plan: &[Placed]) -> (Vec<usize>, Vec<usize>) {
        let mut after = all.to_vec();
        for placed in plan {
            let at = usize::try_from(placed.partition).unwrap();
            assert_eq!(after[at].replicas.len(), placed.replicas.len());
            after[at] = placed.clone();
        }
        for placed in &after {
            let mut ids = placed.replicas.clone();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), placed.replicas.len(), "{placed:?}");
        }
        let count = |id: i32, has: &dyn Fn(&Placed, i32) -> bool| {
            after.iter().filter(|placed| has(placed, id)).count()
        };
        let each = |has: &dyn Fn(&Placed, i32) -> bool| {
            places.iter().map(|place| count(place.broker, has)).collect()
        };
        (
            each(&|placed, id| placed.replicas.contains(&id)),
            each(&|placed, id| placed.replicas.first() == Some(&id)),
        )
    }

    #[test]
    fn a_cluster_that_is_even_is_left_alone() {
        let all = placed(&[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2], &[1, 3, 2]]);
        assert_eq!(evened(&places(&["", "", ""]), &all), []);
        assert_eq!(evened(&places(&[""]), &[]), []);
    }

    #[test]
    fn replicas_and_leaderships_differ_by_one_at_most() {
        let all = placed(&[&[1, 2], &[1, 2], &[1, 2], &[1, 2], &[1, 2], &[1, 2], &[1, 2]]);
        let brokers = places(&["", "", "", ""]);
        let plan = evened(&brokers, &all);
        let (replicas, leaders) = loads(&brokers, &all, &plan);
        assert!(replicas.iter().all(|count| (3..=4).contains(count)), "{replicas:?}");
        assert!(leaders.iter().all(|count| (1..=2).contains(count)), "{leaders:?}");
    }

    #[test]
    fn who_leads_changes_over_brokers_in_between_and_moves_no_replica() {
        // 1 leads three, 3 one, and they share no partition that 1 leads.
        let all: [&[i32]; 8] =
            [&[1, 2], &[1, 2], &[1, 4], &[2, 3], &[2, 3], &[3, 4], &[4, 3], &[4, 1]];
        let all = placed(&all);
        let brokers = places(&["", "", "", ""]);
        let plan = evened(&brokers, &all);
        assert_eq!(loads(&brokers, &all, &plan).1, [2, 2, 2, 2]);
        for after in &plan {
            let before = &all[usize::try_from(after.partition).unwrap()];
            assert!(after.replicas.iter().all(|id| before.replicas.contains(id)), "{after:?}");
        }
    }

    #[test]
    fn no_two_replicas_of_a_partition_come_into_one_rack() {
        let all = placed(&[&[1, 3], &[1, 3], &[1, 3], &[1, 3]]);
        let brokers = places(&["a", "a", "b"]);
        let plan = evened(&brokers, &all);
        let (replicas, _) = loads(&brokers, &all, &plan);
        assert_eq!(replicas, [2, 2, 4], "broker 3 is alone in its rack");
    }

    #[test]
    fn a_newcomer_gets_its_share_and_nobody_else_anything() {
        let all = placed(&[&[1, 2], &[1, 2], &[1, 2], &[1, 2], &[1, 3], &[1, 2]]);
        let brokers = places(&["", "", "", ""]);
        let plan = shared_with(&brokers, &all, 4);
        let (replicas, _) = loads(&brokers, &all, &plan);
        assert_eq!(replicas[2], 1, "{replicas:?}");
        assert!(replicas[3] >= 3, "{replicas:?}");
    }

    #[test]
    fn what_a_broker_that_does_not_run_has_stays_where_it_is() {
        let all = placed(&[&[1, 9], &[1, 9], &[1, 9], &[1, 2]]);
        let brokers = places(&["", ""]);
        assert!(evened(&brokers, &all).iter().all(|placed| placed.partition == 3));
    }
}
