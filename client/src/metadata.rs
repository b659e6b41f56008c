//! Brokers, topics and leaders: as described to callers, and as remembered.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use sawlog_protocol::messages::metadata::{MetadataResponse, MetadataResponseTopic};
use sawlog_protocol::{ErrorCode, Uuid};

/// A broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerInfo {
    /// Its id.
    pub id: i32,
    /// Host it is reached at.
    pub host: String,
    /// Port it is reached at.
    pub port: i32,
    /// Where it stands, if it says so.
    pub rack: Option<String>,
}

impl BrokerInfo {
    /// `host:port`, an IPv6 address in brackets.
    #[must_use]
    pub fn address(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Index within the topic, from 0.
    pub index: i32,
    /// Broker that leads it, -1 for none.
    pub leader: i32,
    /// Counts its leaders, -1 where not told.
    pub leader_epoch: i32,
    /// Brokers that hold a copy.
    pub replicas: Vec<i32>,
    /// Those that hold everything acknowledged.
    pub isr: Vec<i32>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its id, zero where not told.
    pub id: Uuid,
    /// Whether the cluster keeps it for itself.
    pub internal: bool,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionInfo>,
}

impl TopicInfo {
    /// The partition of this index.
    #[must_use]
    pub fn partition(&self, index: i32) -> Option<&PartitionInfo> {
        let guess = usize::try_from(index).ok().and_then(|at| self.partitions.get(at));
        guess
            .filter(|found| found.index == index)
            .or_else(|| self.partitions.iter().find(|known| known.index == index))
    }
}

/// Brokers and topics at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterInfo {
    /// The cluster's id, where told.
    pub cluster_id: Option<String>,
    /// The broker to send administration to.
    pub controller: i32,
    /// All brokers, by id.
    pub brokers: Vec<BrokerInfo>,
    /// The topics asked for that exist, by name.
    pub topics: Vec<TopicInfo>,
    /// Topics asked for that cannot be told of, and why.
    pub missing: Vec<(String, ErrorCode)>,
}

impl ClusterInfo {
    pub(crate) fn from_wire(response: &MetadataResponse<'_>) -> Self {
        let mut info = Self {
            cluster_id: response.cluster_id.map(str::to_owned),
            controller: response.controller_id,
            ..Self::default()
        };
        for broker in &response.brokers {
            info.brokers.push(BrokerInfo {
                id: broker.node_id,
                host: broker.host.to_owned(),
                port: broker.port,
                rack: broker.rack.map(str::to_owned),
            });
        }
        for topic in &response.topics {
            if topic.error_code.is_error() && topic.partitions.is_empty() {
                let name = topic.name.unwrap_or_default().to_owned();
                info.missing.push((name, topic.error_code));
            } else {
                info.topics.push(topic_from_wire(topic));
            }
        }
        info.brokers.sort_by_key(|broker| broker.id);
        info.topics.sort_by(|a, b| a.name.cmp(&b.name));
        info
    }
}

fn topic_from_wire(topic: &MetadataResponseTopic<'_>) -> TopicInfo {
    let parts = topic.partitions.iter().map(|partition| PartitionInfo {
        index: partition.partition_index,
        leader: partition.leader_id,
        leader_epoch: partition.leader_epoch,
        replicas: partition.replica_nodes.clone(),
        isr: partition.isr_nodes.clone(),
    });
    let mut partitions: Vec<PartitionInfo> = parts.collect();
    partitions.sort_by_key(|partition| partition.index);
    TopicInfo {
        name: topic.name.unwrap_or_default().to_owned(),
        id: topic.topic_id,
        internal: topic.is_internal,
        partitions,
    }
}

/// A topic in the cache.
#[derive(Clone, Debug)]
pub(crate) struct CachedTopic {
    pub(crate) info: Arc<TopicInfo>,
    /// The refresh it came with.
    pub(crate) generation: u64,
    pub(crate) fetched_at: Instant,
}

/// What a client remembers of its cluster.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    pub(crate) brokers: HashMap<i32, BrokerInfo>,
    pub(crate) controller: i32,
    topics: HashMap<String, CachedTopic>,
    /// Counts refreshes.
    generation: u64,
}

impl Cache {
    pub(crate) fn topic(&self, name: &str) -> Option<&CachedTopic> {
        self.topics.get(name)
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Takes in a reply. A leader of an older epoch than the one known is a stale broker's word and
    /// left out, as long as the topic is the same.
    pub(crate) fn remember(&mut self, info: &ClusterInfo, now: Instant) {
        self.generation += 1;
        self.controller = info.controller;
        if !info.brokers.is_empty() {
            self.brokers = info.brokers.iter().map(|one| (one.id, one.clone())).collect();
        }
        for topic in &info.topics {
            let mut topic = topic.clone();
            if let Some(known) = self.topics.get(&topic.name).filter(|one| one.info.id == topic.id)
            {
                keep_newer_leaders(&mut topic, &known.info);
            }
            let name = topic.name.clone();
            let (info, generation) = (Arc::new(topic), self.generation);
            self.topics.insert(name, CachedTopic { info, generation, fetched_at: now });
        }
        for (name, _) in &info.missing {
            self.topics.remove(name);
        }
    }
}

fn keep_newer_leaders(topic: &mut TopicInfo, known: &TopicInfo) {
    for partition in &mut topic.partitions {
        let before = known.partition(partition.index);
        if let Some(before) = before.filter(|one| one.leader_epoch > partition.leader_epoch) {
            *partition = before.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(leader: i32, leader_epoch: i32, id: Uuid) -> ClusterInfo {
        let partition =
            PartitionInfo { index: 0, leader, leader_epoch, replicas: vec![], isr: vec![] };
        let topic =
            TopicInfo { name: "t".into(), id, internal: false, partitions: vec![partition] };
        ClusterInfo { topics: vec![topic], ..ClusterInfo::default() }
    }

    fn leader(cache: &Cache) -> Option<i32> {
        Some(cache.topic("t")?.info.partition(0)?.leader)
    }

    #[test]
    fn a_leader_of_an_older_epoch_is_not_believed() {
        let mut cache = Cache::default();
        let (now, id) = (Instant::now(), Uuid([1; 16]));
        cache.remember(&told(1, 5, id), now);
        cache.remember(&told(2, 4, id), now);
        assert_eq!(leader(&cache), Some(1));
        cache.remember(&told(3, 6, id), now);
        assert_eq!(leader(&cache), Some(3));
        // Deleted and created again: its epochs begin anew.
        cache.remember(&told(4, 0, Uuid([2; 16])), now);
        assert_eq!(leader(&cache), Some(4));
    }

    #[test]
    fn a_topic_that_is_gone_is_forgotten() {
        let mut cache = Cache::default();
        cache.remember(&told(1, 0, Uuid([1; 16])), Instant::now());
        let missing = vec![("t".to_owned(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)];
        cache.remember(&ClusterInfo { missing, ..ClusterInfo::default() }, Instant::now());
        assert!(cache.topic("t").is_none());
        assert_eq!(cache.generation(), 2);
    }
}
