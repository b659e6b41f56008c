//! What this broker has to tell of its replicas: where they are, where the metadata does not know,
//! and which are no good though the metadata counts on them.
//!
//! It follows from how things are, not from what has happened: what was told and came to nothing, or
//! what nobody heard, is told again.

use std::collections::BTreeMap;

use sawlog_protocol::Uuid;

use super::{Partitions, Place};
use crate::base::TopicId;
use crate::metadata::{Image, PartitionState, ReplicaReport};

/// Replicas told of at once: an entry of the metadata log stays small.
const TOGETHER_MAX: usize = 1000;

impl Partitions {
    /// Waits until there may be something to tell.
    pub(crate) async fn anything_to_tell(&self) {
        self.exchange.trouble().await;
    }

    /// What there is to tell whoever knows no more than `image`, or some of it.
    pub(crate) fn report(&self, image: &Image) -> Option<ReplicaReport> {
        let epoch = self.registered_in(image)?.0;
        let mut placed: BTreeMap<Uuid, Vec<(TopicId, i32)>> = BTreeMap::new();
        let mut damaged = Vec::new();
        let mut count = 0;
        let table = self.table.load();
        for topic in image.topics() {
            let Some(local) = table.by_id.get(&topic.id) else { continue };
            for (index, state) in topic.indexed() {
                let at = (topic.id, index);
                if count >= TOGETHER_MAX || !state.replicas.contains(&self.broker) {
                    continue;
                }
                match local.place(index) {
                    Some(place) if place.is_unfit() => {
                        if self.is_counted_on(state) {
                            damaged.push(at);
                            count += 1;
                        }
                    }
                    Some(Place::Here(partition)) => {
                        let storage = partition.directory().data().storage_id();
                        if self.is_unknown(state, storage) {
                            placed.entry(storage).or_default().push(at);
                            count += 1;
                        }
                    }
                    Some(Place::Offline | Place::Elsewhere) | None => {}
                }
            }
        }
        let placed = placed.into_iter().collect();
        let report = ReplicaReport { broker: self.broker, epoch, placed, damaged };
        (!report.is_empty()).then_some(report)
    }

    /// Whether the replica here, with others, is taken to have everything acknowledged.
    fn is_counted_on(&self, state: &PartitionState) -> bool {
        let counts = || state.isr.iter().chain(&state.elr);
        counts().any(|id| *id == self.broker) && counts().any(|id| *id != self.broker)
    }

    /// Whether the metadata takes the replica here for one in another data directory than `storage`.
    pub(super) fn is_unknown(&self, state: &PartitionState, storage: Uuid) -> bool {
        !storage.is_zero() && state.storage_of(self.broker) != Some(storage)
    }
}

impl Place {
    /// Whether a replica is here, and no good.
    fn is_unfit(&self) -> bool {
        match self {
            Self::Here(partition) => partition.is_unfit(),
            Self::Offline => true,
            Self::Elsewhere => false,
        }
    }
}
