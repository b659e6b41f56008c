//! What is asked about the cluster by hand: leaders, replicas, brokers that are gone, features.

use std::collections::BTreeMap;

use crate::base::{BrokerId, TopicId};
use crate::metadata::{Image, PartitionState};

use super::AdminError;
use super::decide::Scratch;
use super::features;
use super::replicas::{
    Election, ElectionError, ReassignmentError, Wanted, elect, reassign_all, unregister,
};
use super::request::{ElectedLeader, FeatureUpdate, Reassignment};

/// Elects leaders; of all partitions where none is named, and then only those are told of where
/// something was to be done.
pub(super) fn elect_leaders(
    scratch: &mut Scratch<'_>,
    election: Election,
    named: Option<&[(String, i32)]>,
) -> Vec<ElectedLeader> {
    let partitions = match named {
        Some(named) => named.to_vec(),
        None => all_partitions(&scratch.image),
    };
    let ids: Vec<_> =
        partitions.iter().map(|(name, index)| find(&scratch.image, name, *index)).collect();
    let known: Vec<(TopicId, i32)> = ids.iter().flatten().copied().collect();
    let (records, results) = elect(&scratch.image, election, &known);
    scratch.push(records);
    let mut results = results.into_iter();
    let mut answers = Vec::new();
    for ((topic, index), id) in partitions.into_iter().zip(ids) {
        let result = match id.and_then(|_| results.next()) {
            Some(result) => result.map_err(|error| election_error(error, &topic, index)),
            None => Err(unknown(&scratch.image, &topic, index)),
        };
        if named.is_some() || !matches!(result, Err(AdminError::ElectionNotNeeded(_))) {
            answers.push(ElectedLeader { topic, index, result });
        }
    }
    answers
}

fn all_partitions(image: &Image) -> Vec<(String, i32)> {
    let of = |topic: &crate::metadata::Topic| {
        topic.indexed().map(|(index, _)| (topic.name.to_string(), index)).collect::<Vec<_>>()
    };
    image.topics().flat_map(|topic| of(topic)).collect()
}

fn find(image: &Image, topic: &str, index: i32) -> Option<(TopicId, i32)> {
    let topic = image.topic(topic)?;
    topic.partition(index).map(|_| (topic.id, index))
}

fn unknown(image: &Image, topic: &str, index: i32) -> AdminError {
    match image.topic(topic) {
        None => AdminError::UnknownTopic(topic.to_owned()),
        Some(known) => AdminError::UnknownPartition {
            topic: topic.to_owned(),
            index,
            has: known.partitions.len(),
        },
    }
}

fn election_error(error: ElectionError, topic: &str, index: i32) -> AdminError {
    let named = format!("{topic}:{index}: {error}");
    match error {
        ElectionError::UnknownPartition => AdminError::UnknownTopic(topic.to_owned()),
        ElectionError::NotNeeded => AdminError::ElectionNotNeeded(named),
        ElectionError::PreferredNotAvailable(_) => AdminError::PreferredNotAvailable(named),
        ElectionError::NobodyAvailable => AdminError::NobodyEligible(named),
    }
}

/// Begins, replaces or takes back reassignments, each on its own.
pub(super) fn alter_reassignments(
    scratch: &mut Scratch<'_>,
    partitions: &[Reassignment],
    may_change_factor: bool,
) -> Vec<Result<(), AdminError>> {
    let mut times = BTreeMap::<(&str, i32), u32>::new();
    for one in partitions {
        *times.entry((&one.topic, one.index)).or_default() += 1;
    }
    let check = |asked: &Reassignment| {
        if times.get(&(&*asked.topic, asked.index)).is_some_and(|times| *times > 1) {
            let (topic, index) = (&asked.topic, asked.index);
            return Err(AdminError::InvalidRequest(format!("{topic}:{index} is named twice")));
        }
        check_reassignment(&scratch.image, asked, may_change_factor)
    };
    let checked: Vec<_> = partitions.iter().map(check).collect();
    let fit = partitions.iter().zip(&checked).filter_map(|(asked, checked)| {
        let topic = *checked.as_ref().ok()?;
        Some(Wanted { topic, index: asked.index, target: asked.replicas.as_deref() })
    });
    let (records, results) = reassign_all(&scratch.image, &fit.collect::<Vec<_>>());
    scratch.push(records);
    let mut results = results.into_iter();
    let mut answer = |(asked, checked): (&Reassignment, Result<TopicId, AdminError>)| {
        checked?;
        let result = results.next().unwrap_or(Err(ReassignmentError::UnknownPartition));
        result.map_err(|error| reassignment_error(error, asked))
    };
    partitions.iter().zip(checked).map(&mut answer).collect()
}

fn check_reassignment(
    image: &Image,
    asked: &Reassignment,
    may_change_factor: bool,
) -> Result<TopicId, AdminError> {
    let Reassignment { topic, index, replicas } = asked;
    let (id, _) = find(image, topic, *index).ok_or_else(|| unknown(image, topic, *index))?;
    let state = image.topic_by_id(id).and_then(|topic| topic.partition(*index));
    let has = state.map_or(0, factor);
    match replicas.as_ref().map(Vec::len) {
        Some(asked) if !may_change_factor && asked != has => {
            Err(AdminError::FactorMayNotChange { has, asked })
        }
        Some(_) | None => Ok(id),
    }
}

/// Replicas once what is under way is done.
fn factor(state: &PartitionState) -> usize {
    state.replicas.iter().filter(|id| !state.removing.contains(id)).count()
}

fn reassignment_error(error: ReassignmentError, asked: &Reassignment) -> AdminError {
    let named = format!("{}:{}: {error}", asked.topic, asked.index);
    match error {
        ReassignmentError::UnknownPartition => AdminError::UnknownTopic(asked.topic.clone()),
        ReassignmentError::InvalidReplicas => AdminError::InvalidReplicaAssignment(named),
        ReassignmentError::NoneInProgress => AdminError::NoReassignment(named),
    }
}

/// Forgets a broker that will not come back.
pub(super) fn unregister_broker(
    scratch: &mut Scratch<'_>,
    broker: BrokerId,
) -> Result<(), AdminError> {
    let records = unregister(&scratch.image, broker)?;
    scratch.push(records);
    Ok(())
}

/// Changes levels of features, all of them or none.
pub(super) fn update_features(
    scratch: &mut Scratch<'_>,
    updates: &[FeatureUpdate],
    validate_only: bool,
) -> Vec<Result<(), AdminError>> {
    let results: Vec<_> =
        updates.iter().map(|update| features::check(&scratch.image, update)).collect();
    if !validate_only && results.iter().all(Result::is_ok) {
        let records = results.iter().flatten().flatten().cloned().collect();
        scratch.push(records);
    }
    results.into_iter().map(|result| result.map(|_| ())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::request::UpgradeType;
    use super::super::tests::sample;
    use super::super::{AdminErrorKind, replicas};
    use super::*;
    use crate::metadata::{Record, SeededRandom};

    /// Decides, and gives the image there is then.
    fn decided<T>(image: &Image, decide: impl FnOnce(&mut Scratch<'_>) -> T) -> (Image, T) {
        let mut random = SeededRandom::new(1);
        let mut scratch =
            Scratch { image: image.clone(), records: Vec::new(), random: &mut random };
        let answer = decide(&mut scratch);
        let records = scratch.records;
        let after = match records.as_slice() {
            [] => image.clone(),
            records => image.applied(image.offset().next(), records).unwrap(),
        };
        after.check();
        (after, answer)
    }

    fn kinds<T>(results: &[Result<T, AdminError>]) -> Vec<Option<AdminErrorKind>> {
        results.iter().map(|result| result.as_ref().err().map(AdminError::kind)).collect()
    }

    fn moved(topic: &str, index: i32, replicas: Option<&[i32]>) -> Reassignment {
        let replicas = replicas.map(|ids| ids.iter().copied().map(BrokerId).collect());
        Reassignment { topic: topic.to_owned(), index, replicas }
    }

    /// Three brokers, topics of two partitions with a replica each, on brokers 1 and 2.
    fn cluster() -> Image {
        let image = sample(3, &[("num.partitions", "2")], &["a", "b"]);
        let home = [moved("a", 0, Some(&[1])), moved("a", 1, Some(&[2]))];
        let (image, _) = decided(&image, |scratch| {
            let id = scratch.image.topic("a").unwrap().id;
            for asked in &home {
                // As if they had been made there.
                let to = asked.replicas.clone().unwrap();
                scratch.push(vec![Record::PartitionChange(crate::metadata::PartitionChange {
                    replicas: Some(to.clone()),
                    isr: Some(to.clone()),
                    leader: Some(Some(to[0])),
                    ..crate::metadata::PartitionChange::new(id, asked.index)
                })]);
            }
        });
        image
    }

    #[test]
    fn each_partition_of_a_reassignment_is_judged_for_itself() {
        let asked = [
            moved("a", 0, Some(&[3, 1])),
            moved("a", 9, Some(&[3])),
            moved("nowhere", 0, Some(&[3])),
            moved("a", 1, None),
            moved("b", 0, Some(&[77])),
            moved("b", 1, Some(&[1])),
            moved("b", 1, Some(&[2])),
        ];
        let (after, results) =
            decided(&cluster(), |scratch| alter_reassignments(scratch, &asked, true));
        assert_eq!(
            kinds(&results),
            [
                None,
                Some(AdminErrorKind::UnknownTopic),
                Some(AdminErrorKind::UnknownTopic),
                Some(AdminErrorKind::NoReassignment),
                Some(AdminErrorKind::InvalidReplicaAssignment),
                Some(AdminErrorKind::InvalidRequest),
                Some(AdminErrorKind::InvalidRequest),
            ]
        );
        let state = after.topic("a").unwrap().partition(0).unwrap();
        assert_eq!(state.replicas, [BrokerId(3), BrokerId(1)]);
        assert_eq!(state.adding, [BrokerId(3)]);
        let back = [moved("a", 0, None)];
        let (after, results) = decided(&after, |scratch| alter_reassignments(scratch, &back, true));
        assert_eq!(kinds(&results), [None]);
        assert_eq!(after.topic("a").unwrap().partition(0).unwrap().replicas, [BrokerId(1)]);
    }

    #[test]
    fn the_number_of_replicas_changes_only_where_that_is_allowed() {
        let more = [moved("a", 0, Some(&[1, 3]))];
        let other = [moved("a", 0, Some(&[3]))];
        let refused = Some(AdminErrorKind::InvalidReplicationFactor);
        let image = cluster();
        let ask = |image: &Image, asked: &[Reassignment]| {
            let (after, results) =
                decided(image, |scratch| alter_reassignments(scratch, asked, false));
            (after, kinds(&results)[0])
        };
        assert_eq!(ask(&image, &more).1, refused);
        let (after, result) = ask(&image, &other);
        assert_eq!(result, None);
        assert_eq!(ask(&after, &more).1, refused, "what it will have counts");
        assert_eq!(ask(&after, &[moved("a", 0, Some(&[2]))]).1, None);
    }

    #[test]
    fn a_reassignment_to_where_the_replicas_are_changes_nothing() {
        let image = cluster();
        let (after, results) = decided(&image, |scratch| {
            alter_reassignments(scratch, &[moved("a", 0, Some(&[1]))], true)
        });
        assert_eq!((after, kinds(&results)), (image, vec![None]));
    }

    #[test]
    fn of_all_partitions_only_those_are_answered_where_something_was_to_be_done() {
        let image = cluster();
        let all = |scratch: &mut Scratch<'_>| elect_leaders(scratch, Election::Preferred, None);
        assert_eq!(decided(&image, all).1, []);
        let records = replicas::fence(&image, BrokerId(2));
        let image = image.applied(image.offset().next(), &records).unwrap();
        let (_, answers) = decided(&image, all);
        let of_a: Vec<_> = answers.iter().filter(|answer| answer.topic == "a").collect();
        assert_eq!((of_a.len(), of_a[0].index), (1, 1));
        let kind = of_a[0].result.as_ref().unwrap_err().kind();
        assert_eq!(kind, AdminErrorKind::PreferredNotAvailable);
    }

    #[test]
    fn named_partitions_are_all_answered_in_their_order() {
        let named = [("b".to_owned(), 9), ("a".to_owned(), 0), ("nowhere".to_owned(), 0)];
        let (_, answers) = decided(&cluster(), |scratch| {
            elect_leaders(scratch, Election::Preferred, Some(&named))
        });
        let results: Vec<_> = answers.into_iter().map(|answer| answer.result).collect();
        assert_eq!(
            kinds(&results),
            [
                Some(AdminErrorKind::UnknownTopic),
                Some(AdminErrorKind::ElectionNotNeeded),
                Some(AdminErrorKind::UnknownTopic),
            ]
        );
    }

    #[test]
    fn a_running_broker_is_not_forgotten() {
        let image = cluster();
        let forget = |image: &Image, id| {
            let (after, result) =
                decided(image, |scratch| unregister_broker(scratch, BrokerId(id)));
            (after, result.err().map(|error| error.kind()))
        };
        assert_eq!(forget(&image, 3).1, Some(AdminErrorKind::InvalidRequest));
        assert_eq!(forget(&image, 9).1, Some(AdminErrorKind::NotRegistered));
        let records = replicas::fence(&image, BrokerId(3));
        let image = image.applied(image.offset().next(), &records).unwrap();
        let (after, refused) = forget(&image, 3);
        assert_eq!((refused, after.brokers().len()), (None, 2));
    }

    #[test]
    fn levels_change_within_their_range_and_in_the_direction_asked_for() {
        let update =
            |name: &str, level, upgrade| FeatureUpdate { name: name.to_owned(), level, upgrade };
        let ask = |image: &Image, updates: &[FeatureUpdate], validate_only| {
            let (after, results) =
                decided(image, |scratch| update_features(scratch, updates, validate_only));
            (features::level(&after, &features::GROUP_VERSION), kinds(&results), after)
        };
        let refused = Some(AdminErrorKind::FeatureUpdate);
        let (up, down) = (UpgradeType::Upgrade, UpgradeType::SafeDowngrade);
        let image = cluster();
        for (level, upgrade) in [(0, up), (2, up), (-1, down), (i16::MAX, up)] {
            let asked = [update("group.version", level, upgrade)];
            let (now, kinds, _) = ask(&image, &asked, false);
            assert_eq!((now, kinds), (1, vec![refused]), "{level}");
        }
        let off = update("group.version", 0, down);
        let together = [off.clone(), update("no.such", 1, up)];
        let (now, kinds, _) = ask(&image, &together, false);
        assert_eq!((now, kinds), (1, vec![None, refused]), "all or none");
        assert_eq!(ask(&image, std::slice::from_ref(&off), true).0, 1, "only asked");
        let (now, _, image) = ask(&image, &[off], false);
        assert_eq!(now, 0);
        assert_eq!(ask(&image, &[update("group.version", 1, down)], false).1, [refused]);
        assert_eq!(ask(&image, &[update("group.version", 1, up)], false).0, 1);
    }
}
