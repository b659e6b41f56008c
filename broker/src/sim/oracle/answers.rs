//! What the controller promises to those who ask it: that what it answered is metadata (18), that replicas
//! leave a partition only once it does without them (19), and that a broker may go once it is needed
//! nowhere (20).

use super::{Known, Oracle};
use crate::base::{BrokerId, PartitionId};
use crate::controller::{Alteration, ConfigChange, ConfigTarget, Request, Response};
use crate::metadata::{Image, PartitionState};

impl Oracle {
    /// How much metadata there is.
    pub(in crate::sim) fn metadata_end(&self) -> usize {
        self.with(|known| known.images.count())
    }

    /// (18) The controller has answered what was asked when there were `since` entries: what it says was
    /// done is in the metadata of all, at some time since.
    pub(in crate::sim) fn on_answer(&self, request: &Request, response: &Response, since: usize) {
        self.with(|known| known.check_answer(request, response, since));
    }

    /// (20) A broker that wanted to leave, since there were `since` entries, was told that it may.
    pub(in crate::sim) fn on_released(&self, broker: i32, since: usize) {
        self.with(|known| {
            let id = BrokerId(broker);
            assert!(
                known.images.since(since).any(|image| is_free_to_go(image, id)),
                "(20) broker {broker} may go: {:?}",
                needed(known.image(), id).next()
            );
        });
    }
}

impl Known {
    fn check_answer(&self, request: &Request, response: &Response, since: usize) {
        let was = |holds: &dyn Fn(&Image) -> bool| {
            self.images.since(since).any(holds) || self.images.within(since).any(|it| holds(&it))
        };
        match (request, response) {
            (Request::CreateTopics { validate_only: false, .. }, Response::CreateTopics(made)) => {
                for topic in made.iter().flatten() {
                    let is_made = was(&|image| image.topic_by_id(topic.id).is_some());
                    assert!(is_made, "(18) {} was made, and never was", topic.name);
                }
            }
            (Request::DeleteTopics(_), Response::DeleteTopics(gone)) => {
                for (name, id) in gone.iter().flatten() {
                    let is_there = self.image().topic_by_id(*id).is_some();
                    assert!(!is_there, "(18) {name} was deleted, and is there");
                }
            }
            (
                Request::AlterConfigs { resources, validate_only: false },
                Response::AlterConfigs(done),
            ) => {
                for (resource, _) in resources.iter().zip(done).filter(|(_, done)| done.is_ok()) {
                    let ConfigTarget::Topic(name) = &resource.target else { continue };
                    let Alteration::Incremental(changes) = &resource.change else { continue };
                    let is_set = was(&|image| {
                        image.topic(name).is_some_and(|topic| {
                            changes.iter().all(|ConfigChange { name, value, .. }| {
                                topic.configs.get(name).map(ToString::to_string) == *value
                            })
                        })
                    });
                    assert!(is_set, "(18) {name} was changed, and was never so: {changes:?}");
                }
            }
            (
                Request::AlterReassignments { partitions, .. },
                Response::AlterReassignments(done),
            ) => {
                for (asked, _) in partitions.iter().zip(done).filter(|(_, done)| done.is_ok()) {
                    let begun = |state: &PartitionState| match &asked.replicas {
                        Some(target) => staying(state) == *target,
                        None => state.adding.iter().all(|id| state.removing.contains(id)),
                    };
                    let of = |image: &Image| {
                        let topic = image.topic(&asked.topic)?;
                        topic.partition(asked.index).map(begun)
                    };
                    assert!(
                        was(&|image| of(image) == Some(true)),
                        "(18) accepted, and never begun: {asked:?}"
                    );
                }
            }
            _ => {}
        }
    }

    /// (18) What a leader was told of its in-sync set is in the metadata.
    pub(super) fn check_told(
        &self,
        (broker, id): (i32, PartitionId),
        partition_epoch: Option<i32>,
    ) {
        let Some((told, state)) = partition_epoch.zip(self.state(id)) else { return };
        assert!(
            told <= state.partition_epoch,
            "(18) broker {broker} was told of partition epoch {told}: {state:?}"
        );
    }

    /// (20) The last entry has made of a partition what it is, with regard to those who are on their way
    /// out. It may hold what many have asked for, one after another.
    pub(super) fn check_departing(&self, id: PartitionId, was: &PartitionState) {
        let Some(state) = self.state(id) else { return };
        if is_fair(self.image(), was, state) {
            return;
        }
        let mut was = was.clone();
        let last = self.images.count() - 1;
        let steps = self.images.within(last).chain([Image::clone(self.image())]);
        for image in steps {
            let state = image.topic_by_id(id.topic).and_then(|topic| topic.partition(id.index));
            let Some(state) = state else { continue };
            assert!(is_fair(&image, &was, state), "(20) {was:?} {state:?}");
            was = state.clone();
        }
    }

    /// (19) What replicas take with them that leave is not missed: those that stay have everything on as
    /// many disks as have to, or as had it.
    pub(super) fn check_leaving(&self, id: PartitionId, was: &PartitionState, least: usize) {
        let Some(state) = self.state(id) else { return };
        if was.replicas.iter().all(|replica| state.replicas.contains(replica)) {
            return;
        }
        let copies = |replicas: &[BrokerId]| {
            replicas.iter().filter(|replica| self.has_everything(replica.0, id)).count()
        };
        let (had, have) = (copies(&was.replicas), copies(&state.replicas));
        assert!(
            have >= had.min(least).min(state.replicas.len()),
            "(19) {had} replicas had everything, {have} of those that stay: {was:?} {state:?}"
        );
    }

    /// Whether all that is committed is on a broker's disk.
    fn has_everything(&self, broker: i32, id: PartitionId) -> bool {
        let ledger = self.ledgers.get(&id);
        ledger.zip(self.replicas.get(&(broker, id))).is_none_or(|(ledger, replica)| {
            replica.durable >= ledger.committed.len() && ledger.is_whole(&replica.log)
        })
    }

    fn state(&self, id: PartitionId) -> Option<&PartitionState> {
        self.image().topic_by_id(id.topic)?.partition(id.index)
    }
}

/// (20) Who is on its way out is elected only where nobody else can be, and comes in sync nowhere else.
fn is_fair(image: &Image, was: &PartitionState, state: &PartitionState) -> bool {
    let is = |id: &BrokerId, leaving: bool| {
        image.broker(*id).is_some_and(|one| !one.fenced && one.shutting_down == leaving)
    };
    let came = state
        .isr
        .iter()
        .any(|id| is(id, true) && !was.isr.contains(id) && state.leader != Some(*id));
    let is_elected = state.leader.is_some_and(|id| is(&id, true) && was.leader != Some(id));
    let other = state.isr.iter().chain(&state.elr).any(|id| is(id, false));
    !came && (!is_elected || !other)
}

/// The replicas a reassignment does not take away.
fn staying(state: &PartitionState) -> Vec<BrokerId> {
    state.replicas.iter().copied().filter(|id| !state.removing.contains(id)).collect()
}

/// Whether a broker that is to leave leads nothing that another one could, and is in sync only where it
/// is alone.
fn is_free_to_go(image: &Image, broker: BrokerId) -> bool {
    image.broker(broker).is_none_or(|known| {
        known.fenced || known.shutting_down && needed(image, broker).next().is_none()
    })
}

/// Where a broker is needed that is to leave.
fn needed(image: &Image, broker: BrokerId) -> impl Iterator<Item = (String, i32, &PartitionState)> {
    let runs = move |id: &BrokerId| {
        *id != broker && image.broker(*id).is_some_and(|one| !one.fenced && !one.shutting_down)
    };
    let is_needed = move |state: &PartitionState| {
        let leads = state.leader == Some(broker) && state.replicas.iter().any(runs);
        leads || state.isr.contains(&broker) && state.isr.iter().any(runs)
    };
    image.topics().flat_map(move |topic| {
        let those = topic.indexed().filter(move |(_, state)| is_needed(state));
        those.map(|(index, state)| (topic.name.to_string(), index, state))
    })
}
