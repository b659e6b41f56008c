//! The next step of one member on its way from what it has to what it shall have.

use crate::base::TopicId;
use crate::coordinator::record::{CurrentRecord, Step, TopicPartitions};

/// Where a member is to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goal<'a> {
    /// The assignment epoch.
    pub(super) epoch: i32,
    /// What it shall have, as far as it subscribes to it.
    pub(super) wanted: &'a TopicPartitions,
}

/// What the member has from now on. `owned` is what it says it uses; None says nothing. `is_free` tells
/// whether no other member holds a partition.
///
/// What a member uses is taken from it in two steps: it is told, and later says that it has let go.
/// Only what it says it does not use anyway goes at once.
pub(super) fn next(
    has: &CurrentRecord,
    goal: Goal<'_>,
    owned: Option<&TopicPartitions>,
    is_free: impl Fn(TopicId, i32) -> bool,
) -> CurrentRecord {
    let uses = |set: &TopicPartitions| {
        !planted!(ForgetRevocation) && owned.is_none_or(|owned| intersects(owned, set))
    };
    let kept = common(&has.assigned, goal.wanted);
    let lost = without(&has.assigned, &kept);
    if has.step == Step::Unrevoked && uses(&has.revoking) {
        let mut revoking = has.revoking.clone();
        add(&mut revoking, lost);
        return CurrentRecord { assigned: kept, revoking, ..has.clone() };
    }
    if !lost.is_empty() && uses(&lost) {
        // It knows its epoch: who comes with the one before is somebody late.
        return CurrentRecord {
            previous_epoch: has.epoch,
            step: Step::Unrevoked,
            assigned: kept,
            revoking: lost,
            ..has.clone()
        };
    }
    let missing = without(goal.wanted, &kept);
    let mut assigned = kept;
    let mut step = Step::Stable;
    for (topic, partitions) in missing {
        for partition in partitions {
            if is_free(topic, partition) {
                assigned.entry(topic).or_default().insert(partition);
            } else {
                step = Step::Unreleased;
            }
        }
    }
    let previous_epoch = if has.epoch == goal.epoch { has.previous_epoch } else { has.epoch };
    let revoking = TopicPartitions::new();
    CurrentRecord { epoch: goal.epoch, previous_epoch, step, assigned, revoking }
}

/// Whether some partition is in both.
pub(super) fn intersects(a: &TopicPartitions, b: &TopicPartitions) -> bool {
    b.iter().any(|(topic, set)| a.get(topic).is_some_and(|other| !other.is_disjoint(set)))
}

/// Whether every partition of `part` is in `whole`.
pub(super) fn is_within(part: &TopicPartitions, whole: &TopicPartitions) -> bool {
    part.iter().all(|(topic, set)| {
        set.is_empty() || whole.get(topic).is_some_and(|other| other.is_superset(set))
    })
}

fn common(a: &TopicPartitions, b: &TopicPartitions) -> TopicPartitions {
    let both = a.iter().filter_map(|(topic, set)| {
        let both: std::collections::BTreeSet<i32> = set & b.get(topic)?;
        (!both.is_empty()).then_some((*topic, both))
    });
    both.collect()
}

fn without(a: &TopicPartitions, b: &TopicPartitions) -> TopicPartitions {
    let rest = a.iter().filter_map(|(topic, set)| {
        let rest = match b.get(topic) {
            Some(other) => set - other,
            None => set.clone(),
        };
        (!rest.is_empty()).then_some((*topic, rest))
    });
    rest.collect()
}

fn add(to: &mut TopicPartitions, more: TopicPartitions) {
    for (topic, set) in more {
        to.entry(topic).or_default().extend(set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> TopicId {
        sawlog_protocol::Uuid([7; 16])
    }

    fn set(partitions: &[i32]) -> TopicPartitions {
        if partitions.is_empty() {
            return TopicPartitions::new();
        }
        [(topic(), partitions.iter().copied().collect())].into()
    }

    fn has(epoch: i32, step: Step, assigned: &[i32], revoking: &[i32]) -> CurrentRecord {
        let (assigned, revoking) = (set(assigned), set(revoking));
        CurrentRecord { epoch, previous_epoch: epoch - 1, step, assigned, revoking }
    }

    /// Towards `wanted` at epoch 6; partitions from 10 on are held by others.
    fn step(has: &CurrentRecord, wanted: &[i32], owned: Option<&[i32]>) -> CurrentRecord {
        let owned = owned.map(set);
        let goal = Goal { epoch: 6, wanted: &set(wanted) };
        next(has, goal, owned.as_ref(), |_, partition| partition < 10)
    }

    #[test]
    fn what_is_free_is_taken_and_the_rest_is_waited_for() {
        let member = has(5, Step::Stable, &[1], &[]);
        let expected =
            CurrentRecord { previous_epoch: 5, ..has(6, Step::Unreleased, &[1, 2], &[]) };
        assert_eq!(step(&member, &[1, 2, 11], None), expected);
        assert_eq!(step(&expected, &[1, 2, 11], None), expected, "still waits");
        let expected = CurrentRecord { step: Step::Stable, ..expected };
        assert_eq!(
            step(&expected, &[1, 2], None),
            expected,
            "no longer wanted: nothing to wait for"
        );
    }

    #[test]
    fn what_is_lost_is_given_back_before_anything_is_taken() {
        let member = has(5, Step::Stable, &[1, 2], &[]);
        let asked = CurrentRecord { previous_epoch: 5, ..has(5, Step::Unrevoked, &[1], &[2]) };
        assert_eq!(step(&member, &[1, 3], None), asked);
        assert_eq!(step(&member, &[1, 3], Some(&[1, 2])), asked);
        assert_eq!(step(&asked, &[1, 3], None), asked, "has said nothing");
        assert_eq!(step(&asked, &[1, 3], Some(&[2])), asked, "uses it still");
        let done = step(&asked, &[1, 3], Some(&[1]));
        assert_eq!(done, CurrentRecord { previous_epoch: 5, ..has(6, Step::Stable, &[1, 3], &[]) });
    }

    #[test]
    fn what_it_does_not_use_is_lost_at_once() {
        let member = has(5, Step::Stable, &[1, 2], &[]);
        let moved = step(&member, &[1], Some(&[1]));
        assert_eq!(moved, CurrentRecord { previous_epoch: 5, ..has(6, Step::Stable, &[1], &[]) });
    }

    #[test]
    fn more_can_be_lost_while_it_gives_back() {
        let asked = has(5, Step::Unrevoked, &[1, 2], &[3]);
        let more = has(5, Step::Unrevoked, &[1], &[2, 3]);
        assert_eq!(step(&asked, &[1], None), more);
        assert_eq!(step(&more, &[1, 3], Some(&[1])).assigned, set(&[1, 3]), "it may get it back");
    }

    #[test]
    fn a_settled_member_stays_as_it_is() {
        let member = has(6, Step::Stable, &[1], &[]);
        assert_eq!(step(&member, &[1], None), member);
        assert!(is_within(&set(&[1]), &set(&[1, 2])) && !is_within(&set(&[3]), &set(&[1, 2])));
        assert!(intersects(&set(&[1]), &set(&[1, 2])) && !intersects(&set(&[3]), &set(&[1, 2])));
    }
}
