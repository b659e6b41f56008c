//! Topics as they are shared out: how many partitions each has, and where those stand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::metadata::{ClusterInfo, TopicInfo};

/// Partitions by topic; topics that do not exist are not there.
pub(crate) type PartitionCounts = BTreeMap<Arc<str>, i32>;

/// Racks with a replica, for each partition of a topic in order. Shorter or empty: nothing is known.
pub(crate) type Racks = BTreeMap<Arc<str>, Vec<BTreeSet<Arc<str>>>>;

/// Topics to share out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) counts: PartitionCounts,
    pub(crate) racks: Racks,
}

impl From<PartitionCounts> for Layout {
    /// Of brokers that do not say where they stand.
    fn from(counts: PartitionCounts) -> Self {
        Self { counts, racks: Racks::new() }
    }
}

impl Layout {
    /// Of some topics, as metadata tells of them.
    pub(crate) fn of(info: &ClusterInfo, mut wants: impl FnMut(&str) -> bool) -> Self {
        let named = |rack: &String| Arc::from(rack.as_str());
        let stands: BTreeMap<i32, Arc<str>> = info
            .brokers
            .iter()
            .filter_map(|broker| Some((broker.id, broker.rack.as_ref().map(named)?)))
            .collect();
        let mut layout = Self::default();
        for topic in info.topics.iter().filter(|topic| wants(&topic.name)) {
            let name: Arc<str> = Arc::from(topic.name.as_str());
            let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            if !stands.is_empty() {
                layout.racks.insert(name.clone(), racks(topic, &stands));
            }
            layout.counts.insert(name, count);
        }
        layout
    }

    /// Racks with a replica of each partition of a topic.
    pub(super) fn racks_of(&self, topic: &str) -> &[BTreeSet<Arc<str>>] {
        self.racks.get(topic).map(Vec::as_slice).unwrap_or_default()
    }
}

fn racks(topic: &TopicInfo, stands: &BTreeMap<i32, Arc<str>>) -> Vec<BTreeSet<Arc<str>>> {
    let of = |replicas: &[i32]| replicas.iter().filter_map(|id| stands.get(id).cloned()).collect();
    topic.partitions.iter().map(|partition| of(&partition.replicas)).collect()
}
