//! Which brokers hold the replicas of new partitions.
//!
//! Pure. Leaders take turns; followers stand behind them at a distance that changes with every round,
//! so that a failed broker's load does not fall on one other. Where every broker says in which rack
//! it stands, the replicas of a partition are in as many racks as there are. Brokers that are away (being
//! restarted, say) get replicas only where those that run are too few; they never lead at first.

use std::collections::BTreeMap;

use crate::base::BrokerId;
use crate::metadata::{Broker, Image};

/// Replicas of a topic whose creator does not say, where there are as many brokers.
const REPLICAS_AUTO: usize = 3;

/// With so many brokers running, three replicas take writes (`min.insync.replicas` is 2 then) although
/// the third is away.
const RUNNING_FOR_ALL: usize = 2;

/// The brokers new replicas can be placed on, neighbours in different racks.
#[derive(Debug)]
pub(super) struct Candidates<'a> {
    brokers: Vec<(BrokerId, Place<'a>)>,
    /// Brokers that are registered, but do not run or are about to leave.
    away: Vec<BrokerId>,
}

/// Two replicas in one place are lost together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place<'a> {
    Rack(&'a str),
    /// Racks are not known: every broker stands for itself.
    Itself(BrokerId),
}

impl<'a> Candidates<'a> {
    /// The brokers of a cluster.
    pub(super) fn of(image: &'a Image) -> Self {
        let is_here = |broker: &&Broker| !broker.fenced && !broker.shutting_down;
        let (brokers, away): (Vec<&Broker>, Vec<&Broker>) = image.brokers().partition(is_here);
        let know_racks = brokers.iter().all(|broker| broker.rack.is_some());
        let place = |broker: &'a Broker| match broker.rack.as_deref() {
            Some(rack) if know_racks => Place::Rack(rack),
            _ => Place::Itself(broker.id),
        };
        let mut by_place = BTreeMap::<Place<'a>, Vec<BrokerId>>::new();
        for broker in brokers {
            by_place.entry(place(broker)).or_default().push(broker.id);
        }
        let most = by_place.values().map(Vec::len).max().unwrap_or(0);
        let nth = |n: usize| {
            by_place.iter().filter_map(move |(place, ids)| ids.get(n).map(|id| (*id, *place)))
        };
        let brokers = (0..most).flat_map(nth).collect();
        Self { brokers, away: away.iter().map(|broker| broker.id).collect() }
    }

    /// How many run and do not mean to leave.
    pub(super) fn count(&self) -> usize {
        self.brokers.len()
    }

    /// Most replicas a partition can have; none if nobody is there to lead.
    pub(super) fn copies_max(&self) -> usize {
        if self.brokers.is_empty() { 0 } else { self.brokers.len() + self.away.len() }
    }

    /// Replicas for whoever does not say how many.
    pub(super) fn replicas_auto(&self) -> usize {
        let known = if self.count() < RUNNING_FOR_ALL { self.count() } else { self.copies_max() };
        known.min(REPLICAS_AUTO)
    }

    /// The brokers of partition `partition`, the preferred leader first. `start` is where the first
    /// partition's leader is; `copies` is 1 to [`Candidates::copies_max`].
    pub(super) fn place(&self, partition: usize, start: usize, copies: usize) -> Vec<BrokerId> {
        let count = self.count();
        let Some(leader) = (start + partition).checked_rem(count) else { return Vec::new() };
        let round = partition / count;
        let others =
            (0..count - 1).map(|n| self.brokers[(leader + 1 + (n + round) % (count - 1)) % count]);
        let (first, place) = self.brokers[leader];
        let mut places = vec![place];
        let mut near = Vec::new();
        let mut replicas = vec![first];
        for (id, place) in others {
            if places.contains(&place) {
                near.push(id);
            } else {
                places.push(place);
                replicas.push(id);
            }
        }
        replicas.append(&mut near);
        let away = self.away.iter().cycle().skip(partition % self.away.len().max(1));
        replicas.extend(away.take(self.away.len()));
        replicas.truncate(copies);
        replicas
    }
}
