//! What holds of every assignment, over seeded groups, and what each assignor promises beside.

use super::*;
use crate::backoff::Random;

fn topic(index: u64) -> Arc<str> {
    Arc::from(format!("topic-{index}"))
}

fn below(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.below(u64::try_from(bound).expect("small"))).expect("small")
}

fn counts(random: &mut Random) -> PartitionCounts {
    (0..=random.below(4)).map(|index| (topic(index), below(random, 13) as i32)).collect()
}

fn member(index: usize, topics: BTreeSet<Arc<str>>) -> Subscriber {
    Subscriber {
        member: Arc::from(format!("member-{index}")),
        topics,
        generation: -1,
        ..Subscriber::default()
    }
}

fn group(random: &mut Random, counts: &PartitionCounts) -> Vec<Subscriber> {
    let everything = random.below(2) == 0;
    let members = 1 + below(random, 6);
    let mut wants = |topic: &&Arc<str>| everything || random.below(3) > 0 || topic.len() < 3;
    let mut one = |index| member(index, counts.keys().filter(&mut wants).cloned().collect());
    (0..members).map(&mut one).collect()
}

/// Everything of every topic somebody subscribes to.
fn wanted(members: &[Subscriber], counts: &PartitionCounts) -> BTreeSet<PartitionKey> {
    let is_wanted = |topic: &Arc<str>| members.iter().any(|one| one.topics.contains(topic));
    let topics = counts.iter().filter(|(topic, _)| is_wanted(topic));
    topics.flat_map(|(topic, count)| (0..*count).map(|index| (topic.clone(), index))).collect()
}

/// Checks that nobody has what another has or what it does not want, and returns everything given.
fn given(members: &[Subscriber], shares: &Shares) -> BTreeSet<PartitionKey> {
    let mut all = BTreeSet::new();
    for (member, share) in members.iter().zip(shares) {
        for key in share {
            assert!(member.topics.contains(&key.0), "{} does not want {key:?}", member.member);
            assert!(all.insert(key.clone()), "{key:?} has two owners");
        }
    }
    all
}

#[test]
fn eager_assignors_give_every_wanted_partition_to_one_that_wants_it() {
    for seed in 0..500 {
        let mut random = Random::seeded(seed);
        let counts = counts(&mut random);
        let members = group(&mut random, &counts);
        for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky] {
            let shares = assign(assignor, &members, &counts.clone().into());
            assert_eq!(given(&members, &shares), wanted(&members, &counts), "seed {seed}");
        }
    }
}

#[test]
fn range_gives_runs_and_the_first_members_more() {
    let counts = PartitionCounts::from([(topic(0), 5), (topic(1), 2)]);
    let both: BTreeSet<Arc<str>> = counts.keys().cloned().collect();
    let mut members: Vec<Subscriber> = (0..3).map(|index| member(index, both.clone())).collect();
    // Static members come first, by instance.
    members[2].instance = Some(Arc::from("z"));
    let shares = assign(Assignor::Range, &members, &counts.into());
    let of = |at: usize| shares[at].iter().map(|key| (&*key.0, key.1)).collect::<Vec<_>>();
    assert_eq!(of(2), [("topic-0", 0), ("topic-0", 1), ("topic-1", 0)]);
    assert_eq!(of(0), [("topic-0", 2), ("topic-0", 3), ("topic-1", 1)]);
    assert_eq!(of(1), [("topic-0", 4)]);
}

#[test]
fn round_robin_goes_on_in_turn_from_topic_to_topic() {
    let counts = PartitionCounts::from([(topic(0), 3), (topic(1), 3)]);
    let both: BTreeSet<Arc<str>> = counts.keys().cloned().collect();
    let members: Vec<Subscriber> = (0..2).map(|index| member(index, both.clone())).collect();
    let shares = assign(Assignor::RoundRobin, &members, &counts.into());
    let of = |at: usize| shares[at].iter().map(|key| (&*key.0, key.1)).collect::<Vec<_>>();
    assert_eq!(of(0), [("topic-0", 0), ("topic-0", 2), ("topic-1", 1)]);
    assert_eq!(of(1), [("topic-0", 1), ("topic-1", 0), ("topic-1", 2)]);
}

/// Whether no chain of moves makes it more even.
fn assert_balanced(members: &[Subscriber], shares: &Shares, context: &str) {
    for (member, share) in members.iter().zip(shares) {
        for (other, less) in members.iter().zip(shares) {
            let could_have = share.iter().any(|key| other.topics.contains(&key.0));
            let (one, two) = (share.len(), less.len());
            let names = (&member.member, &other.member);
            assert!(!could_have || one <= two + 1, "{context}: {names:?} have {one} and {two}");
        }
    }
}

/// One rebalance: what each member owns from now on. Checks that nobody is given what another has
/// not let go of.
fn rebalance(members: &mut [Subscriber], counts: &PartitionCounts, generation: i32) -> usize {
    let shares = assign(Assignor::CooperativeSticky, members, &counts.clone().into());
    given(members, &shares);
    let mut revoked = 0;
    for (at, share) in shares.iter().enumerate() {
        for key in share.difference(&members[at].owned) {
            assert!(members.iter().all(|one| !one.owned.contains(key)), "{key:?} is still read");
        }
        revoked += members[at].owned.difference(share).count();
    }
    for (member, share) in members.iter_mut().zip(shares) {
        member.owned = share;
        member.generation = generation;
    }
    revoked
}

#[test]
fn cooperative_groups_settle_balanced_in_two_generations_and_then_rest() {
    for seed in 0..500 {
        let mut random = Random::seeded(seed);
        let mut counts = counts(&mut random);
        let mut members = group(&mut random, &counts);
        let mut generation = 0;
        for change in 0..6 {
            let mut settled = false;
            for _ in 0..3 {
                generation += 1;
                let revoked = rebalance(&mut members, &counts, generation);
                let context = format!("seed {seed}, change {change}");
                if revoked == 0 {
                    let all: BTreeSet<_> =
                        members.iter().flat_map(|one| one.owned.clone()).collect();
                    assert_eq!(all, wanted(&members, &counts), "{context}");
                    let shares: Shares = members.iter().map(|one| one.owned.clone()).collect();
                    assert_balanced(&members, &shares, &context);
                    settled = true;
                    break;
                }
            }
            assert!(settled, "seed {seed}, change {change}: it does not come to rest");
            let before = members.clone();
            assert_eq!(rebalance(&mut members, &counts, generation), 0);
            let owned = |all: &[Subscriber]| all.iter().map(|one| one.owned.clone()).collect();
            let (was, is): (Shares, Shares) = (owned(&before), owned(&members));
            assert_eq!(was, is, "nothing has changed");
            match random.below(4) {
                0 => {
                    let all = counts.keys().cloned().collect();
                    let index = 100 + members.len() + change;
                    members.push(member(index, all));
                }
                1 if members.len() > 1 => {
                    let gone = below(&mut random, members.len());
                    members.remove(gone);
                }
                2 => *counts.values_mut().next().expect("one at least") += 3,
                _ => {
                    let at = below(&mut random, members.len());
                    let all: Vec<_> = counts.keys().cloned().collect();
                    let topic = all[below(&mut random, all.len())].clone();
                    if !members[at].topics.remove(&topic) {
                        members[at].topics.insert(topic);
                    }
                }
            }
        }
    }
}

#[test]
fn a_member_that_joins_takes_no_more_than_its_share_and_others_change_nothing_among_themselves() {
    let counts = PartitionCounts::from([(topic(0), 12)]);
    let all: BTreeSet<Arc<str>> = counts.keys().cloned().collect();
    let mut members: Vec<Subscriber> = (0..3).map(|index| member(index, all.clone())).collect();
    rebalance(&mut members, &counts, 1);
    let before: Shares = members.iter().map(|one| one.owned.clone()).collect();
    members.push(member(3, all));
    assert_eq!(rebalance(&mut members, &counts, 2), 3, "one of each");
    assert!(members[3].owned.is_empty(), "not before it is let go of");
    assert_eq!(rebalance(&mut members, &counts, 3), 0);
    assert_eq!(members.iter().map(|one| one.owned.len()).collect::<Vec<_>>(), [3; 4]);
    for (member, before) in members.iter().zip(&before) {
        assert!(member.owned.is_subset(before), "{} was given others", member.member);
    }
}

#[test]
fn of_two_claims_the_later_generation_is_kept_and_of_equal_ones_neither() {
    let counts = PartitionCounts::from([(topic(0), 2)]);
    let all: BTreeSet<Arc<str>> = counts.keys().cloned().collect();
    let mut members: Vec<Subscriber> = (0..2).map(|index| member(index, all.clone())).collect();
    let key = |index| (topic(0), index);
    members[0].owned = BTreeSet::from([key(0), key(1)]);
    members[1].owned = BTreeSet::from([key(0)]);
    (members[0].generation, members[1].generation) = (4, 5);
    let kept = |members: &[Subscriber]| sticky::kept(members, &counts);
    assert_eq!(kept(&members), [BTreeSet::from([key(1)]), BTreeSet::from([key(0)])]);
    members[0].generation = 5;
    assert_eq!(kept(&members), [BTreeSet::from([key(1)]), BTreeSet::new()]);
    let shares = assign(Assignor::CooperativeSticky, &members, &counts.into());
    assert!(shares.iter().all(|share| !share.contains(&key(0))), "both let go of it first");
}

/// A group of `range_of_kafka.txt`, and what Apache Kafka's assignor gives in it.
fn told(line: &str) -> (Layout, Vec<Subscriber>, Shares) {
    let some = |text: &str| (!text.is_empty()).then(|| Arc::from(text));
    let parts: Vec<&str> = line.split(" | ").collect();
    let mut layout = Layout::default();
    for one in parts[0].split(' ') {
        let (topic, racks) = one.split_once('=').expect("racks of a topic");
        let racks: Vec<BTreeSet<_>> =
            racks.split(',').map(|racks| racks.split('+').filter_map(some).collect()).collect();
        layout.counts.insert(Arc::from(topic), i32::try_from(racks.len()).expect("few"));
        layout.racks.insert(Arc::from(topic), racks);
    }
    let member = |one: &str| {
        let parts: Vec<&str> = one.split('/').collect();
        let (instance, rack) = (some(parts[1]), some(parts[2]));
        let topics = parts[3].split('+').map(Arc::from).collect();
        let member = Arc::from(parts[0]);
        Subscriber { member, instance, topics, rack, generation: -1, ..Subscriber::default() }
    };
    let members: Vec<Subscriber> = parts[1].split(' ').map(member).collect();
    let mut shares = vec![BTreeSet::new(); members.len()];
    for one in parts[2].split(' ') {
        let (id, share) = one.split_once('=').expect("a share");
        let at = members.iter().position(|member| *member.member == *id).expect("a member");
        for key in share.split(',').filter(|key| !key.is_empty()) {
            let (topic, index) = key.split_once('-').expect("a partition");
            shares[at].insert((Arc::from(topic), index.parse().expect("an index")));
        }
    }
    (layout, members, shares)
}

#[test]
fn range_gives_what_apache_kafkas_does_in_groups_with_racks() {
    let mut aware = 0;
    for line in include_str!("range_of_kafka.txt").lines() {
        let (layout, members, shares) = told(line);
        assert_eq!(assign(Assignor::Range, &members, &layout), shares, "{line}");
        let plain = Layout::from(layout.counts);
        aware += usize::from(assign(Assignor::Range, &members, &plain) != shares);
    }
    assert!(aware > 10, "in {aware} groups racks make a difference");
}

#[test]
fn sticky_gives_back_what_it_can_and_is_balanced_at_once() {
    for seed in 0..150 {
        let mut random = Random::seeded(seed);
        let layout = Layout::from(counts(&mut random));
        let mut members = group(&mut random, &layout.counts);
        for change in 0..4 {
            let shares = assign(Assignor::Sticky, &members, &layout);
            let context = format!("seed {seed}, change {change}");
            assert_eq!(given(&members, &shares), wanted(&members, &layout.counts), "{context}");
            assert_balanced(&members, &shares, &context);
            for (member, share) in members.iter_mut().zip(shares) {
                (member.owned, member.generation) = (share, change);
            }
            let owned: Shares = members.iter().map(|one| one.owned.clone()).collect();
            assert_eq!(assign(Assignor::Sticky, &members, &layout), owned, "nothing has changed");
            if members.len() > 1 && random.below(2) == 0 {
                let gone = below(&mut random, members.len());
                members.remove(gone);
                let kept = assign(Assignor::Sticky, &members, &layout);
                let is_same = |(one, share): (&Subscriber, _)| one.owned.is_subset(share);
                let alike = members.windows(2).all(|two| two[0].topics == two[1].topics);
                assert!(!alike || members.iter().zip(&kept).all(is_same), "{context}: all is kept");
            } else {
                let all = layout.counts.keys().cloned().collect();
                members.push(member(100 + members.len(), all));
            }
        }
    }
}
