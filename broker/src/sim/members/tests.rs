//! What would not hold is found.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::time::Instant;

use super::facts::{Facts, Plan, Standing};

fn at(epoch: i32) -> Standing {
    Standing { of: String::new(), epoch }
}

fn plan(of: &str, reads: &[i32]) -> Plan {
    [(of.to_owned(), reads.to_vec())].into()
}

/// Whether `what` is found not to hold.
fn is_found(facts: &mut Facts, what: impl FnOnce(&mut Facts)) -> bool {
    catch_unwind(AssertUnwindSafe(|| what(facts))).is_err()
}

#[test]
fn a_second_assignment_of_a_generation_is_found() {
    let mut facts = Facts::default();
    let (first, second) = (facts.plan(plan("a", &[0, 1])), facts.plan(plan("b", &[0, 1])));
    let (all, one): (BTreeSet<i32>, BTreeSet<i32>) = ([0, 1].into(), [0].into());
    assert!(facts.on_assigned(1, "a", (first, &all)));
    assert!(!facts.on_assigned(1, "a", (first, &all)), "told again");
    assert!(is_found(&mut facts, |facts| {
        facts.on_assigned(1, "b", (second, &all));
    }));
    assert!(is_found(&mut facts, |facts| {
        facts.on_assigned(2, "b", (second, &one));
    }));
    assert!(facts.on_assigned(2, "b", (second, &all)));
}

#[test]
fn a_partition_that_is_given_to_a_second_member_is_found() {
    let mut facts = Facts::default();
    let (set, none, session) = (BTreeSet::from([0]), BTreeSet::new(), Duration::from_secs(60));
    facts.on_given(("a", Instant::now()), &set, session);
    assert!(is_found(&mut facts, |facts| facts.on_given(("b", Instant::now()), &set, session)));
    facts.on_given(("b", Instant::now()), &set, Duration::ZERO);
    facts.on_released("b", &none);
    facts.on_given(("c", Instant::now()), &set, session);
}

#[test]
fn a_commit_of_a_generation_that_is_over_is_found() {
    let mut facts = Facts::default();
    facts.on_told(&at(1));
    let early = facts.on_commit(0, at(1)).0;
    facts.on_told(&at(2));
    let late = facts.on_commit(0, at(1)).0;
    facts.on_outcome(early, true);
    assert!(is_found(&mut facts, |facts| facts.on_outcome(late, true)));
    let now = facts.tick();
    assert!(is_found(&mut facts, |facts| facts.check_sure(&at(1), now)));
    facts.check_sure(&at(2), now);
}

#[test]
fn an_offset_that_is_lost_or_goes_back_is_found() {
    let mut facts = Facts::default();
    let (first, one) = facts.on_commit(0, at(1));
    facts.on_outcome(first, true);
    let (_nobody_knows, two) = facts.on_commit(0, at(1));
    let (last, three) = facts.on_commit(0, at(1));
    let asked = facts.tick();
    facts.on_found(0, one, asked);
    facts.on_found(0, two, asked);
    assert!(is_found(&mut facts, |facts| facts.on_found(0, -1, asked)));
    assert!(is_found(&mut facts, |facts| facts.on_found(0, 7, asked)));
    facts.on_outcome(last, true);
    let asked = facts.tick();
    facts.on_found(0, three, asked);
    assert!(is_found(&mut facts, |facts| facts.on_found(0, one, asked)));
    let (refused, four) = facts.on_commit(0, at(1));
    facts.on_outcome(refused, false);
    assert!(is_found(&mut facts, |facts| facts.on_found(0, four, asked)));
}

#[test]
fn a_group_is_at_rest_once_all_is_read_by_one_each() {
    let mut facts = Facts::default();
    let mut place = |member, place: Option<&[i32]>| {
        let place = place.map(|reads| (1, reads.iter().copied().collect()));
        facts.on_place(member, place);
        for member in 1..=2 {
            let asked = facts.tick();
            facts.on_confirmed(member, asked);
        }
        facts.unrest(2, 3).is_none()
    };
    assert!(!place(1, Some(&[0, 1])));
    assert!(place(2, Some(&[2])));
    assert!(!place(2, Some(&[1, 2])), "one partition is read by two");
    assert!(!place(2, None));
    assert!(place(2, Some(&[2])));
    facts.on_place(1, Some((2, [0, 1].into())));
    assert!(facts.unrest(2, 3).is_some(), "another epoch, and nobody has confirmed it");
}
