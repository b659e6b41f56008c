//! Topic by topic, each subscriber a run of partitions; the first ones get one more where it does not
//! come out even.
//!
//! Where members and replicas stand in racks and not every partition has a replica in every rack
//! (KIP-881), members first get what is near them, as much as their share allows: topics with the same
//! readers and as many partitions together, so that equal numbers stay with one member. Then runs of
//! what is left. So each member has as many partitions of each topic as without racks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Layout, Shares, Subscriber, give, in_order, subscribers};

pub(super) fn assign(members: &[Subscriber], layout: &Layout) -> Shares {
    let order = in_order(members);
    let mut shares = vec![Default::default(); members.len()];
    let topics = layout.counts.iter();
    let mut topics: Vec<Topic<'_>> = topics
        .filter_map(|(name, count)| {
            let readers = subscribers(members, &order, name);
            Topic::new((name, *count), readers, layout.racks_of(name), members)
        })
        .collect();
    if topics.iter().any(Topic::minds_racks) {
        give_near(&mut topics, &mut shares);
    }
    for topic in &mut topics {
        topic.give_runs(&mut shares, |_, _| true);
    }
    shares
}

/// A topic on its way to its readers.
struct Topic<'a> {
    name: &'a Arc<str>,
    count: i32,
    /// In order.
    readers: Vec<Reader<'a>>,
    /// Racks with a replica, by partition.
    racks: &'a [BTreeSet<Arc<str>>],
    /// What everybody gets at least.
    each: usize,
    /// How many readers get one more, of those that have not yet.
    more: usize,
    left: BTreeSet<i32>,
}

struct Reader<'a> {
    member: usize,
    rack: Option<&'a Arc<str>>,
    given: usize,
}

impl<'a> Topic<'a> {
    /// `None` if nobody reads it.
    fn new(
        (name, count): (&'a Arc<str>, i32),
        readers: Vec<usize>,
        racks: &'a [BTreeSet<Arc<str>>],
        members: &'a [Subscriber],
    ) -> Option<Self> {
        let total = usize::try_from(count).ok()?;
        let (each, more) = (total.checked_div(readers.len())?, total.checked_rem(readers.len())?);
        let rack = |member: usize| members.get(member).and_then(|one| one.rack.as_ref());
        let readers = readers.into_iter();
        let readers = readers.map(|member| Reader { member, rack: rack(member), given: 0 });
        let (readers, left) = (readers.collect(), (0..count).collect());
        Some(Self { name, count, readers, racks, each, more, left })
    }

    /// Whether racks make a difference: some reader and some replica share one, and not every
    /// partition is in all of them.
    fn minds_racks(&self) -> bool {
        let all: BTreeSet<&Arc<str>> = self.racks.iter().flatten().collect();
        self.readers.iter().filter_map(|reader| reader.rack).any(|rack| all.contains(rack))
            && self.racks.iter().any(|racks| racks.len() < all.len())
    }

    /// How many more partitions a reader may have.
    fn room(&self, place: usize) -> usize {
        let most = self.each + usize::from(self.more > 0);
        self.readers.get(place).map_or(0, |reader| most.saturating_sub(reader.given))
    }

    /// Whether a partition has a replica where the reader stands; a reader that stands nowhere is near
    /// everything.
    fn is_near(&self, place: usize, partition: i32) -> bool {
        let Some(rack) = self.readers.get(place).and_then(|reader| reader.rack) else {
            return true;
        };
        let racks = usize::try_from(partition).ok().and_then(|at| self.racks.get(at));
        racks.is_some_and(|racks| racks.contains(rack))
    }

    fn give(&mut self, place: usize, partition: i32, shares: &mut Shares) {
        let Some(reader) = self.readers.get_mut(place) else { return };
        reader.given += 1;
        self.more -= usize::from(reader.given > self.each && self.more > 0);
        self.left.remove(&partition);
        give(shares, reader.member, (self.name.clone(), partition));
    }

    /// To each reader in order the first partitions that are left and that it may have.
    fn give_runs(&mut self, shares: &mut Shares, may_have: impl Fn(&Self, (usize, i32)) -> bool) {
        for place in 0..self.readers.len() {
            let fitting = self.left.iter().copied();
            let fitting = fitting.filter(|partition| may_have(self, (place, *partition)));
            let run: Vec<i32> = fitting.take(self.room(place)).collect();
            for partition in run {
                self.give(place, partition, shares);
            }
        }
    }
}

/// Gives what stands where its reader stands.
fn give_near(topics: &mut [Topic<'_>], shares: &mut Shares) {
    let mut alike: BTreeMap<(Vec<usize>, i32), Vec<usize>> = BTreeMap::new();
    for (at, topic) in topics.iter().enumerate() {
        if topic.readers.iter().any(|reader| reader.rack.is_some()) {
            let readers = topic.readers.iter().map(|reader| reader.member).collect();
            alike.entry((readers, topic.count)).or_default().push(at);
        }
    }
    for ((readers, count), group) in alike {
        match *group {
            [at] => {
                if let Some(topic) = topics.get_mut(at).filter(|topic| topic.minds_racks()) {
                    topic.give_runs(shares, |topic, (place, index)| topic.is_near(place, index));
                }
            }
            _ => give_together(topics, &group, (readers.len(), count), shares),
        }
    }
}

/// Equal numbers of several topics to the first reader all of them are near.
fn give_together(
    topics: &mut [Topic<'_>],
    group: &[usize],
    (readers, count): (usize, i32),
    shares: &mut Shares,
) {
    for partition in 0..count {
        let of = |at: &usize| topics.get(*at);
        let taker = (0..readers).find(|place| {
            let mut all = group.iter().filter_map(of);
            all.all(|topic| topic.room(*place) > 0 && topic.is_near(*place, partition))
        });
        let Some(place) = taker else { continue };
        for at in group {
            if let Some(topic) = topics.get_mut(*at) {
                topic.give(place, partition, shares);
            }
        }
    }
}
