//! The metadata as every node must have it: replayed once more, entry by entry.

use std::sync::Arc;

use sawlog_protocol::Uuid;

use super::super::quorum::SimQuorum;
use super::Known;
use crate::base::{BrokerId, PartitionId};
use crate::config::{BrokerConfig, FlushMode};
use crate::metadata::{Image, PartitionState, Record, decode_records, encode_records};
use crate::quorum::Entry;

/// Images by offset.
pub(in crate::sim) struct Images {
    all: Vec<(Arc<Image>, Vec<Record>)>,
    /// What made the next of each.
    entries: Vec<Entry>,
}

impl Images {
    pub(super) fn new(cluster_id: Uuid) -> Self {
        let config = Arc::new(BrokerConfig::default().with_node_id(1));
        let image = Arc::new(Image::empty(cluster_id, config));
        let records = image.snapshot();
        Self { all: vec![(image, records)], entries: Vec::new() }
    }

    pub(super) fn last(&self) -> &Arc<Image> {
        &self.all.last().expect("there is the empty one").0
    }

    /// Entries there are.
    pub(super) fn count(&self) -> usize {
        self.all.len() - 1
    }

    /// As everything was with so many entries, and since.
    pub(super) fn since(&self, entries: usize) -> impl Iterator<Item = &Image> {
        self.all.iter().skip(entries).map(|(image, _)| &**image)
    }

    /// As everything was on the way through entries since: one may hold what many have asked for.
    pub(super) fn within(&self, entries: usize) -> impl Iterator<Item = Image> {
        let steps = self.all.iter().zip(&self.entries).skip(entries);
        steps.flat_map(|((image, _), Entry { offset, records })| {
            (1..records.len()).map(|upto| {
                let applied = image.applied(*offset, records.get(..upto).unwrap_or_default());
                applied.expect("(16) what is committed can be applied")
            })
        })
    }

    /// (16) The image of a node is that of everybody at this offset.
    pub(super) fn check(&self, broker: i32, image: &Image) {
        let at = usize::try_from(image.offset().0).unwrap_or(usize::MAX);
        let known = self.all.get(at);
        assert_eq!(
            Some(&image.snapshot()),
            known.map(|(_, records)| records),
            "(16) broker {broker} has other metadata at {at}"
        );
        let topics = known.into_iter().flat_map(|(image, _)| image.topics());
        for (topic, known) in image.topics().zip(topics) {
            assert_eq!(
                topic.partitions, known.partitions,
                "(16) broker {broker} has another {} at {at}",
                topic.name
            );
        }
    }

    fn append(&mut self, entry: &Entry) {
        let records = decode_records(&encode_records(&entry.records));
        assert_eq!(records.as_ref(), Ok(&entry.records), "(16) decoding inverts encoding");
        let applied = self.last().applied(entry.offset, &entry.records);
        let image = Arc::new(applied.expect("(16) what is committed can be applied"));
        image.check();
        let records = image.snapshot();
        self.all.push((image, records));
        self.entries.push(entry.clone());
    }
}

impl Known {
    /// Takes in what was committed since.
    pub(super) fn follow(&mut self, quorum: &SimQuorum) {
        while self.images.count() < quorum.entries() {
            let Some(entry) = quorum.entry(self.images.count()) else { return };
            let before = self.images.last().clone();
            self.images.append(&entry);
            let after = self.images.last().clone();
            self.totals.entries += 1;
            self.note(&[1, entry.offset.0, i64::try_from(entry.records.len()).unwrap_or(0)]);
            self.tell(|| format!("metadata {}: {:?}", entry.offset.0, entry.records));
            self.compare(&before, &after);
        }
    }

    fn compare(&mut self, before: &Image, after: &Image) {
        for broker in before.brokers() {
            let now = after.broker(broker.id);
            let rises = now.is_none_or(|now| now.epoch >= broker.epoch);
            assert!(rises, "(12) the epoch of broker {} falls", broker.id);
        }
        for topic in after.topics() {
            let earlier = before.topic_by_id(topic.id);
            if earlier.is_some_and(|earlier| Arc::ptr_eq(earlier, topic)) {
                continue;
            }
            for (index, state) in topic.indexed() {
                let id = PartitionId { topic: topic.id, index };
                check_shape(after, state);
                if let Some(was) = earlier.and_then(|earlier| earlier.partition(index)) {
                    check_rise(was, state);
                    self.check_departing(id, was);
                    if topic.resolved.flush_mode == FlushMode::Group {
                        self.check_leaving(id, was, state.min_in_sync(&topic.resolved));
                    }
                    let count = |one: &[BrokerId], other: &[BrokerId]| {
                        let gone = one.iter().filter(|id| !other.contains(id)).count();
                        u64::try_from(gone).unwrap_or(0)
                    };
                    self.totals.joined += count(&state.isr, &was.isr);
                    self.totals.left += count(&was.isr, &state.isr);
                }
                self.ledgers.entry(id).or_default();
                self.check_members(id, "an entry");
            }
        }
        for topic in before.topics().filter(|topic| after.topic_by_id(topic.id).is_none()) {
            self.totals.deleted += 1;
            for (index, _) in topic.indexed() {
                let id = PartitionId { topic: topic.id, index };
                if let Some(ledger) = self.ledgers.get_mut(&id) {
                    ledger.is_deleted = true;
                }
            }
        }
    }
}

/// (13, 14) The shape that the image itself does not check: who is in sync or leads is not fenced.
fn check_shape(image: &Image, state: &PartitionState) {
    let is_fenced = |id: &BrokerId| image.broker(*id).is_none_or(|broker| broker.fenced);
    assert!(!state.leader.as_ref().is_some_and(is_fenced), "(14) a fenced leader: {state:?}");
    let is_alone = state.isr.len() == 1;
    let fenced = state.isr.iter().filter(|id| is_fenced(id)).count();
    assert!(fenced == 0 || is_alone, "(13) fenced and in sync: {state:?}");
}

/// (12) Epochs rise as they must (E1).
fn check_rise(was: &PartitionState, state: &PartitionState) {
    assert!(state.partition_epoch >= was.partition_epoch, "(12) {was:?} {state:?}");
    if state.partition_epoch == was.partition_epoch {
        assert_eq!(was, state, "(12) a change without a partition epoch");
        return;
    }
    assert!(state.leader_epoch >= was.leader_epoch, "(12) {was:?} {state:?}");
    if state.leader != was.leader {
        assert!(state.leader_epoch > was.leader_epoch, "(12) {was:?} {state:?}");
    }
}
