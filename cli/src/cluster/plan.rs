//! Which brokers are to hold which replicas: pure, from what the cluster looks like now.
//!
//! A replica goes to a broker that has none of the partition, in a rack that has none if there is one,
//! and of those to the one with the fewest replicas. What need not move does not.

use std::collections::BTreeMap;

/// A broker that may hold replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) broker: i32,
    pub(crate) rack: Option<String>,
}

/// A partition and the brokers of its replicas, the preferred leader first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) replicas: Vec<i32>,
}

/// Replicas per broker, kept up while a plan is made.
struct Loads<'a> {
    places: &'a [Place],
    counts: BTreeMap<i32, usize>,
}

impl<'a> Loads<'a> {
    fn of(places: &'a [Place], all: &[Placed]) -> Self {
        let mut counts: BTreeMap<i32, usize> =
            places.iter().map(|place| (place.broker, 0)).collect();
        for replica in all.iter().flat_map(|placed| &placed.replicas) {
            *counts.entry(*replica).or_default() += 1;
        }
        Self { places, counts }
    }

    fn rack(&self, broker: i32) -> Option<&str> {
        self.places.iter().find(|place| place.broker == broker)?.rack.as_deref()
    }

    /// The best broker for one more replica besides `others`.
    fn take(&mut self, others: &[i32]) -> Option<i32> {
        let free = self.places.iter().map(|place| place.broker).filter(|id| !others.contains(id));
        let shares_rack = |id: i32| {
            let rack = self.rack(id);
            rack.is_some() && others.iter().any(|other| self.rack(*other) == rack)
        };
        let count = |id: i32| self.counts.get(&id).copied().unwrap_or(0);
        let best = free.min_by_key(|id| (shares_rack(*id), count(*id), *id))?;
        *self.counts.entry(best).or_default() += 1;
        Some(best)
    }

    fn give_back(&mut self, broker: i32) {
        if let Some(count) = self.counts.get_mut(&broker) {
            *count = count.saturating_sub(1);
        }
    }
}

/// Moves all replicas away from `leaving`. `places` are the brokers that stay.
///
/// # Errors
/// Too few stay for a partition.
pub(super) fn without(
    places: &[Place],
    all: &[Placed],
    leaving: i32,
) -> Result<Vec<Placed>, String> {
    if places.is_empty() {
        return Err("no other broker runs".to_owned());
    }
    let mut loads = Loads::of(places, all);
    let concerned = all.iter().filter(|placed| placed.replicas.contains(&leaving));
    let moved = concerned.map(|placed| {
        let Placed { topic, partition, replicas } = placed;
        let staying: Vec<i32> = replicas.iter().copied().filter(|id| *id != leaving).collect();
        let taken = loads.take(&staying).ok_or_else(|| {
            format!(
                "{topic}:{partition} has {} replicas, and {} brokers stay: lower it first, with \
                 `sawlog cluster spread {topic} --replicas {}`",
                replicas.len(),
                places.len(),
                places.len()
            )
        })?;
        let replace = |id: &i32| if *id == leaving { taken } else { *id };
        Ok(Placed { replicas: replicas.iter().map(replace).collect(), ..placed.clone() })
    });
    moved.collect()
}

/// Gives each partition that `which` picks `count` replicas; those that have so many stay as they
/// are.
///
/// # Errors
/// There are not as many brokers.
pub(super) fn with_replicas(
    places: &[Place],
    all: &[Placed],
    which: impl Fn(&Placed) -> bool,
    count: usize,
) -> Result<Vec<Placed>, String> {
    if count == 0 || count > places.len() {
        return Err(format!("{count} replicas are not possible with {} brokers", places.len()));
    }
    let mut loads = Loads::of(places, all);
    let mut planned = Vec::new();
    for placed in all.iter().filter(|placed| which(placed) && placed.replicas.len() != count) {
        let mut replicas = placed.replicas.clone();
        while replicas.len() > count {
            let load = |at: &usize| loads.counts.get(&replicas[*at]).copied().unwrap_or(0);
            // The preferred leader stays; of the others the one on the fullest broker goes.
            let Some(at) = (1..replicas.len()).max_by_key(load) else { break };
            loads.give_back(replicas.remove(at));
        }
        while replicas.len() < count {
            let Some(broker) = loads.take(&replicas) else { break };
            replicas.push(broker);
        }
        planned.push(Placed { replicas, ..placed.clone() });
    }
    Ok(planned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(racks: &[(i32, &str)]) -> Vec<Place> {
        let place = |(broker, rack): &(i32, &str)| Place {
            broker: *broker,
            rack: Some((*rack).to_owned()).filter(|rack| !rack.is_empty()),
        };
        racks.iter().map(place).collect()
    }

    fn placed(all: &[&[i32]]) -> Vec<Placed> {
        let one = |(partition, replicas): (i32, &&[i32])| Placed {
            topic: "t".to_owned(),
            partition,
            replicas: replicas.to_vec(),
        };
        (0..).zip(all).map(one).collect()
    }

    fn replicas(plan: &[Placed]) -> Vec<Vec<i32>> {
        plan.iter().map(|placed| placed.replicas.clone()).collect()
    }

    #[test]
    fn what_a_leaving_broker_has_goes_to_the_emptiest_and_nothing_else_moves() {
        let all = placed(&[&[3, 1], &[1, 2], &[2, 3], &[3, 2]]);
        let stays = places(&[(1, ""), (2, ""), (4, ""), (5, "")]);
        let plan = without(&stays, &all, 3).unwrap();
        assert_eq!(plan.iter().map(|p| p.partition).collect::<Vec<_>>(), [0, 2, 3]);
        assert_eq!(replicas(&plan), [vec![4, 1], vec![2, 5], vec![4, 2]]);
    }

    #[test]
    fn a_rack_of_its_own_counts_more_than_an_empty_broker() {
        let all = placed(&[&[1, 3], &[2, 4], &[2, 4]]);
        let stays = places(&[(1, "a"), (2, "b"), (4, "b"), (5, "a")]);
        let plan = without(&stays, &all, 3).unwrap();
        assert_eq!(replicas(&plan), [vec![1, 2]], "5 is empty, but where 1 is");
    }

    #[test]
    fn nobody_leaves_whom_the_others_cannot_stand_in_for() {
        let all = placed(&[&[1, 2, 3]]);
        let error = without(&places(&[(1, ""), (2, "")]), &all, 3).unwrap_err();
        assert!(error.contains("t:0 has 3 replicas, and 2 brokers stay"), "{error}");
    }

    #[test]
    fn replicas_are_added_evenly_and_taken_from_the_fullest() {
        let all = placed(&[&[1], &[1], &[1], &[2, 3, 1]]);
        let brokers = places(&[(1, ""), (2, ""), (3, "")]);
        let plan = with_replicas(&brokers, &all, |_| true, 2).unwrap();
        assert_eq!(replicas(&plan), [vec![1, 2], vec![1, 3], vec![1, 2], vec![2, 3]]);
        assert_eq!(with_replicas(&brokers, &all, |p| p.partition == 3, 3), Ok(vec![]));
        assert!(with_replicas(&brokers, &all, |_| true, 4).is_err());
    }
}
