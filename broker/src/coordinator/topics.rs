//! The cluster's topics, as groups of the consumer protocol look at them.
//!
//! A new image comes with every change of the cluster; few of them matter to groups. `version` tells
//! those apart: it rises when topics come or go, grow, move, or when a broker's rack changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::assignor::TopicSpec;
use super::topic_pattern::TopicPattern;
use crate::base::{BrokerId, TopicId};
use crate::config::GroupConfig;
use crate::metadata::{Image, Topic};

/// Topics nobody means with a pattern: reading them makes more to read. By name they can be had.
const INTERNAL: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

/// The cluster's topics.
#[derive(Debug)]
pub(super) struct Topics {
    image: Arc<Image>,
    version: u64,
}

impl Topics {
    pub(super) fn new(image: Arc<Image>) -> Self {
        Self { image, version: 1 }
    }

    /// Looks at `image` from now on.
    pub(super) fn see(&mut self, image: &Arc<Image>) {
        if Arc::ptr_eq(&self.image, image) {
            return;
        }
        if differ(&self.image, image) {
            self.version += 1;
        }
        self.image = image.clone();
    }

    /// Rises with every change that may matter. Starts anew with the coordinator.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The settings in force for a group.
    pub(super) fn settings(&self, group: &str) -> &GroupConfig {
        self.image.group_config(group)
    }

    pub(super) fn id_of(&self, name: &str) -> Option<TopicId> {
        self.image.topic(name).map(|topic| topic.id)
    }

    pub(super) fn name_of(&self, id: TopicId) -> Option<&Arc<str>> {
        self.image.topic_by_id(id).map(|topic| &topic.name)
    }

    /// The topics a pattern stands for.
    pub(super) fn matching(&self, pattern: &TopicPattern) -> BTreeSet<Arc<str>> {
        let names = self.image.topics().map(|topic| &topic.name);
        names
            .filter(|name| !INTERNAL.contains(&&***name) && pattern.matches(name))
            .cloned()
            .collect()
    }

    /// Those of `names` that exist, for an assignor.
    pub(super) fn specs<'n>(
        &self,
        names: impl Iterator<Item = &'n Arc<str>>,
    ) -> BTreeMap<TopicId, TopicSpec> {
        let racks = self.racks();
        let known = names.filter_map(|name| self.image.topic(name));
        known.map(|topic| (topic.id, spec(topic, &racks))).collect()
    }

    /// Differs where what is assigned to a group with these topics may have to: FNV-1a of what they
    /// are. It is kept in records, so it stays what it is. Never 0.
    pub(super) fn hash<'n>(&self, names: impl Iterator<Item = &'n Arc<str>>) -> i64 {
        let racks = self.racks();
        let mut hash = Fnv::default();
        for topic in names.filter_map(|name| self.image.topic(name)) {
            hash.add(&topic.id.0);
            hash.add(&topic.partitions.len().to_be_bytes());
            if racks.is_empty() {
                continue;
            }
            for rack in topic.partitions.iter().flat_map(|partition| near(partition, &racks)) {
                hash.add(rack.as_bytes());
                hash.add(&[0]);
            }
        }
        match i64::from_be_bytes(hash.0.to_be_bytes()) {
            0 => 1,
            hash => hash,
        }
    }

    fn racks(&self) -> Racks {
        let rack = |broker: &crate::metadata::Broker| {
            Some((broker.id, Arc::from(broker.rack.as_deref()?)))
        };
        self.image.brokers().filter_map(rack).collect()
    }
}

type Racks = BTreeMap<BrokerId, Arc<str>>;

fn spec(topic: &Topic, racks: &Racks) -> TopicSpec {
    let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let racks = if racks.is_empty() {
        Vec::new()
    } else {
        topic.partitions.iter().map(|partition| near(partition, racks).collect()).collect()
    };
    TopicSpec { partitions, racks }
}

fn near(
    partition: &crate::metadata::PartitionState,
    racks: &Racks,
) -> impl Iterator<Item = Arc<str>> {
    partition.replicas.iter().filter_map(|broker| racks.get(broker).cloned())
}

/// Whether groups may have to know.
fn differ(old: &Image, new: &Image) -> bool {
    let same = |(old, new): (&Arc<Topic>, &Arc<Topic>)| {
        Arc::ptr_eq(old, new)
            || (old.id == new.id
                && old.partitions.len() == new.partitions.len()
                && old
                    .partitions
                    .iter()
                    .zip(&new.partitions)
                    .all(|(a, b)| a.replicas == b.replicas))
    };
    let place = |broker: &crate::metadata::Broker| (broker.id, broker.rack.clone());
    old.topic_count() != new.topic_count()
        || !old.topics().zip(new.topics()).all(same)
        || !old.brokers().map(place).eq(new.brokers().map(place))
}

struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
