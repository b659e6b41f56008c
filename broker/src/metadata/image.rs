//! The cluster as of one metadata offset.
//!
//! An [`Image`] never changes; [`Image::applied`] gives the next one and shares what did not change.
//! What it holds is a function of the records applied, the same on every node, with one exception:
//! `config` and the resolved topic settings also depend on what was written down at this node's
//! start, and are not part of a snapshot.
//!
//! Always: names and ids of topics are one to one; `isr ⊆ replicas`, `elr ⊆ replicas`,
//! `isr ∩ elr = ∅`; the leader is in the ISR, or there is none; `adding` and `removing` are among the
//! replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sawlog_protocol::Uuid;
use thiserror::Error;

use crate::base::{BrokerId, LeaderEpoch, TopicId};
use crate::config::{BrokerConfig, GroupConfig, Overrides, TopicConfig};

use super::MetadataOffset;
use super::record::{
    BrokerChange, ConfigResource, PartitionChange, PartitionRecord, Record, RegisterBroker,
};

/// A registered broker.
pub type Broker = RegisterBroker;

/// A topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id.
    pub id: TopicId,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionState>,
    /// What is set on the topic itself.
    pub configs: Overrides,
    /// The settings in force.
    pub resolved: Arc<TopicConfig>,
}

impl Topic {
    /// The partition at `index`, if the topic has it.
    #[must_use]
    pub fn partition(&self, index: i32) -> Option<&PartitionState> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    /// The partitions with their indexes.
    pub fn indexed(&self) -> impl Iterator<Item = (i32, &PartitionState)> {
        (0..).zip(&self.partitions)
    }

    /// Whether one of these brokers leads a partition of it.
    #[must_use]
    pub fn is_led_by(&self, brokers: &BTreeSet<BrokerId>) -> bool {
        let mut leaders = self.partitions.iter().filter_map(|partition| partition.leader);
        leaders.any(|leader| brokers.contains(&leader))
    }
}

/// A partition, as the controller sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionState {
    /// Who leads, if anyone.
    pub leader: Option<BrokerId>,
    /// Rises with every leader.
    pub leader_epoch: LeaderEpoch,
    /// Rises with every change.
    pub partition_epoch: i32,
    /// Brokers that hold a replica, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Replicas that hold everything acknowledged.
    pub isr: Vec<BrokerId>,
    /// Replicas outside the ISR that still hold everything acknowledged.
    pub elr: Vec<BrokerId>,
    /// Replicas a reassignment adds, those included that it does not want any more.
    pub adding: Vec<BrokerId>,
    /// Replicas that go when the reassignment is complete.
    pub removing: Vec<BrokerId>,
    /// The data directory of each replica, zero where it is not known; empty if none is.
    pub storage_ids: Vec<Uuid>,
}

impl PartitionState {
    /// The data directory of a replica, if it is known.
    #[must_use]
    pub fn storage_of(&self, broker: BrokerId) -> Option<Uuid> {
        let at = self.replicas.iter().position(|replica| *replica == broker)?;
        self.storage_ids.get(at).copied().filter(|id| !id.is_zero())
    }

    /// How many replicas have to be in sync for an acks=all write, of a topic with these settings.
    /// While a reassignment is under way it is the fewer of those it leads to and those it began with
    /// that count: a partition that gets more copies takes writes while they are made.
    #[must_use]
    pub fn min_in_sync(&self, settings: &TopicConfig) -> usize {
        let without = |gone: &[BrokerId]| {
            let left = self.replicas.iter().filter(|id| !gone.contains(id)).count();
            if left == 0 { self.replicas.len() } else { left }
        };
        settings.min_in_sync(without(&self.removing).min(without(&self.adding)))
    }

    /// Takes other replicas; those that stay keep their data directories.
    fn set_replicas(&mut self, replicas: &[BrokerId]) {
        if !self.storage_ids.is_empty() {
            let kept = replicas.iter().map(|id| self.storage_of(*id).unwrap_or_default());
            self.storage_ids = kept.collect();
        }
        self.replicas = replicas.to_vec();
    }

    fn into_record(self, topic: TopicId, index: i32) -> PartitionRecord {
        let Self {
            leader,
            leader_epoch,
            partition_epoch,
            replicas,
            isr,
            elr,
            adding,
            removing,
            storage_ids,
        } = self;
        PartitionRecord {
            topic,
            index,
            replicas,
            isr,
            elr,
            leader,
            leader_epoch,
            partition_epoch,
            adding,
            removing,
            storage_ids,
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        let in_replicas = |set: &[BrokerId]| set.iter().all(|id| self.replicas.contains(id));
        if !in_replicas(&self.isr) {
            return Err("the ISR names a broker without a replica");
        }
        if !in_replicas(&self.elr) {
            return Err("the ELR names a broker without a replica");
        }
        if self.isr.iter().any(|id| self.elr.contains(id)) {
            return Err("a broker is in both the ISR and the ELR");
        }
        if self.leader.is_some_and(|leader| !self.isr.contains(&leader)) {
            return Err("the leader is not in the ISR");
        }
        if !in_replicas(&self.adding) || !in_replicas(&self.removing) {
            return Err("a reassignment names a broker without a replica");
        }
        if !self.storage_ids.is_empty() && self.storage_ids.len() != self.replicas.len() {
            return Err("there are not as many data directories as replicas");
        }
        Ok(())
    }
}

/// A record does not fit what came before it: the log is not one this code wrote.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("metadata entry {offset}: {reason}")]
pub struct ApplyError {
    /// The entry.
    pub offset: MetadataOffset,
    /// What does not fit.
    pub reason: String,
}

/// The cluster as of one metadata offset.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    offset: MetadataOffset,
    cluster_id: Uuid,
    cluster_id_text: Arc<str>,
    brokers: Arc<BTreeMap<BrokerId, Broker>>,
    topics: Arc<BTreeMap<TopicId, Arc<Topic>>>,
    names: Arc<BTreeMap<Arc<str>, TopicId>>,
    cluster_overrides: Arc<Overrides>,
    broker_overrides: Arc<BTreeMap<BrokerId, Overrides>>,
    /// Groups with settings of their own; by themselves they are the coordinator's.
    groups: Arc<BTreeMap<Arc<str>, GroupSettings>>,
    /// Subscriptions to metrics of clients. Shared by images as long as it does not change: who works it
    /// out again can tell.
    client_metrics: Arc<BTreeMap<Arc<str>, Overrides>>,
    producer_id_next: i64,
    /// What the cluster as a whole does in another version than at its beginning.
    features: Arc<BTreeMap<Arc<str>, u16>>,
    /// As written down at this node's start.
    base: Arc<BrokerConfig>,
    /// `base` with the dynamic settings on top.
    config: Arc<BrokerConfig>,
    /// What a topic without settings of its own gets from `config`; shared by all such topics.
    topic_defaults: Arc<TopicConfig>,
    /// What a group without settings of its own gets from `config`.
    group_defaults: Arc<GroupConfig>,
}

/// What is set on a group.
#[derive(Clone, Debug, PartialEq)]
struct GroupSettings {
    configs: Overrides,
    resolved: GroupConfig,
}

impl Image {
    /// The empty cluster, as seen by the node configured by `base`.
    #[must_use]
    pub fn empty(cluster_id: Uuid, base: Arc<BrokerConfig>) -> Self {
        Self {
            offset: MetadataOffset::NONE,
            cluster_id,
            cluster_id_text: cluster_id.to_string().into(),
            brokers: Arc::default(),
            topics: Arc::default(),
            names: Arc::default(),
            cluster_overrides: Arc::default(),
            broker_overrides: Arc::default(),
            groups: Arc::default(),
            client_metrics: Arc::default(),
            producer_id_next: 0,
            features: Arc::default(),
            topic_defaults: Arc::new(base.topic_defaults()),
            group_defaults: Arc::new(GroupConfig::inherited(&base)),
            config: Arc::clone(&base),
            base,
        }
    }

    /// The last entry applied.
    #[must_use]
    pub fn offset(&self) -> MetadataOffset {
        self.offset
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster_id(&self) -> Uuid {
        self.cluster_id
    }

    /// The cluster's id as clients see it.
    #[must_use]
    pub fn cluster_id_text(&self) -> &str {
        &self.cluster_id_text
    }

    /// The settings in force on this broker, dynamic ones included.
    #[must_use]
    pub fn config(&self) -> &Arc<BrokerConfig> {
        &self.config
    }

    /// A broker, if it ever registered.
    #[must_use]
    pub fn broker(&self, id: BrokerId) -> Option<&Broker> {
        self.brokers.get(&id)
    }

    /// Every broker, by id.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &Broker> {
        self.brokers.values()
    }

    /// Whether both know the same of brokers. Cheap, and never wrong if it says so.
    #[must_use]
    pub fn same_brokers(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.brokers, &other.brokers)
    }

    /// Brokers that may hold leadership, by id.
    pub fn live_brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values().filter(|broker| !broker.fenced)
    }

    /// The topic with this name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(self.names.get(name)?)
    }

    /// The topic with this id.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    /// Every topic, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.names.values().filter_map(|id| self.topics.get(id))
    }

    /// Every topic whose name is at or after `name`, by name.
    pub fn topics_from<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Arc<Topic>> {
        let bounds = (std::ops::Bound::Included(name), std::ops::Bound::Unbounded);
        self.names.range::<str, _>(bounds).filter_map(|(_, id)| self.topics.get(id))
    }

    /// How many topics there are.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Dynamic settings of all brokers.
    #[must_use]
    pub fn cluster_overrides(&self) -> &Overrides {
        &self.cluster_overrides
    }

    /// Dynamic settings of one broker.
    #[must_use]
    pub fn broker_overrides(&self, id: BrokerId) -> Option<&Overrides> {
        self.broker_overrides.get(&id)
    }

    /// What is set on a group, if anything is.
    #[must_use]
    pub fn group_overrides(&self, group: &str) -> Option<&Overrides> {
        self.groups.get(group).map(|settings| &settings.configs)
    }

    /// The settings in force for a group.
    #[must_use]
    pub fn group_config(&self, group: &str) -> &GroupConfig {
        self.groups.get(group).map_or(&self.group_defaults, |settings| &settings.resolved)
    }

    /// The groups with settings of their own, by name.
    pub fn configured_groups(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.groups.keys()
    }

    /// The subscriptions to metrics of clients, by name.
    #[must_use]
    pub fn client_metrics(&self) -> &Arc<BTreeMap<Arc<str>, Overrides>> {
        &self.client_metrics
    }

    /// The first producer id not given away.
    #[must_use]
    pub fn producer_id_next(&self) -> i64 {
        self.producer_id_next
    }

    /// The version in which the cluster does `feature`, if one was ever chosen.
    #[must_use]
    pub fn feature_level(&self, feature: &str) -> Option<u16> {
        self.features.get(feature).copied()
    }

    /// The image after the entry at `offset`.
    ///
    /// # Errors
    /// The entry does not fit; this image is as it was.
    pub fn applied(&self, offset: MetadataOffset, records: &[Record]) -> Result<Self, ApplyError> {
        let failed = |reason: String| ApplyError { offset, reason };
        if offset <= self.offset {
            return Err(failed(format!("it comes after entry {}", self.offset)));
        }
        let mut next = self.clone();
        for record in records {
            next.apply(record).map_err(failed)?;
        }
        next.offset = offset;
        Ok(next)
    }

    /// The image a snapshot holds.
    ///
    /// # Errors
    /// The records do not fit each other.
    pub fn from_snapshot(
        cluster_id: Uuid,
        base: Arc<BrokerConfig>,
        offset: MetadataOffset,
        records: &[Record],
    ) -> Result<Self, ApplyError> {
        if offset == MetadataOffset::NONE && records.is_empty() {
            return Ok(Self::empty(cluster_id, base));
        }
        Self::empty(cluster_id, base).applied(offset, records)
    }

    /// Records that make this image from an empty one.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Record> {
        let mut records: Vec<_> =
            self.brokers.values().cloned().map(Record::RegisterBroker).collect();
        records.extend(
            self.features.iter().map(|(name, level)| Record::FeatureLevel {
                name: name.to_string(),
                level: *level,
            }),
        );
        push_configs(&mut records, &ConfigResource::Cluster, &self.cluster_overrides);
        for (id, overrides) in self.broker_overrides.iter() {
            push_configs(&mut records, &ConfigResource::Broker(*id), overrides);
        }
        for (group, settings) in self.groups.iter() {
            let resource = ConfigResource::Group(Arc::clone(group));
            push_configs(&mut records, &resource, &settings.configs);
        }
        for (name, overrides) in self.client_metrics.iter() {
            let resource = ConfigResource::ClientMetrics(Arc::clone(name));
            push_configs(&mut records, &resource, overrides);
        }
        for topic in self.topics.values() {
            records.push(Record::Topic { name: topic.name.to_string(), id: topic.id });
            push_configs(&mut records, &ConfigResource::Topic(topic.id), &topic.configs);
            records.extend(topic.indexed().map(|(index, partition)| {
                let mut partition = partition.clone();
                if planted!(ForgetEligible) {
                    partition.elr.clear();
                }
                Record::Partition(partition.into_record(topic.id, index))
            }));
        }
        if self.producer_id_next != 0 {
            let next = self.producer_id_next;
            records.push(Record::ProducerIds { broker: BrokerId(-1), epoch: -1, next });
        }
        records
    }

    /// Applies one record. Epochs are derived here, by the same rule on all nodes.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::RegisterBroker(broker) => {
                Arc::make_mut(&mut self.brokers).insert(broker.id, broker.clone());
            }
            Record::BrokerChange(change) => self.change_broker(change)?,
            Record::UnregisterBroker { id, epoch } => self.remove_broker(*id, *epoch)?,
            Record::FeatureLevel { name, level } => {
                Arc::make_mut(&mut self.features).insert(name.as_str().into(), *level);
            }
            Record::Topic { name, id } => self.add_topic(name, *id)?,
            Record::Partition(partition) => self.add_partition(partition)?,
            Record::PartitionChange(change) => self.change_partition(change)?,
            Record::RemoveTopic { id } => {
                let topic = Arc::make_mut(&mut self.topics)
                    .remove(id)
                    .ok_or_else(|| format!("unknown topic {id} is removed"))?;
                Arc::make_mut(&mut self.names).remove(&topic.name);
            }
            Record::Config { resource, key, value } => {
                self.set_config(resource, key, value.as_deref())?;
            }
            Record::ProducerIds { next, .. } => {
                if *next < self.producer_id_next {
                    return Err(format!(
                        "producer ids go back from {} to {next}",
                        self.producer_id_next
                    ));
                }
                self.producer_id_next = *next;
            }
            Record::NoOp => {}
        }
        Ok(())
    }

    fn change_broker(&mut self, change: &BrokerChange) -> Result<(), String> {
        let broker = Arc::make_mut(&mut self.brokers)
            .get_mut(&change.id)
            .filter(|broker| broker.epoch == change.epoch)
            .ok_or_else(|| format!("unknown broker {} in epoch {}", change.id, change.epoch))?;
        if let Some(fenced) = change.fenced {
            broker.fenced = fenced;
        }
        if let Some(shutting_down) = change.shutting_down {
            broker.shutting_down = shutting_down;
        }
        if let Some(storage_ids) = &change.storage_ids {
            broker.storage_ids.clone_from(storage_ids);
        }
        Ok(())
    }

    fn remove_broker(&mut self, id: BrokerId, epoch: i64) -> Result<(), String> {
        let brokers = Arc::make_mut(&mut self.brokers);
        if brokers.get(&id).is_none_or(|broker| broker.epoch != epoch) {
            return Err(format!("unknown broker {id} in epoch {epoch} is forgotten"));
        }
        brokers.remove(&id);
        Ok(())
    }

    fn add_topic(&mut self, name: &str, id: TopicId) -> Result<(), String> {
        if self.names.contains_key(name) || self.topics.contains_key(&id) || id.is_zero() {
            return Err(format!("topic {name} with id {id} exists already or has no id"));
        }
        let name: Arc<str> = name.into();
        let topic = Topic {
            name: Arc::clone(&name),
            id,
            partitions: Vec::new(),
            configs: Overrides::new(),
            resolved: Arc::clone(&self.topic_defaults),
        };
        Arc::make_mut(&mut self.names).insert(name, id);
        Arc::make_mut(&mut self.topics).insert(id, Arc::new(topic));
        Ok(())
    }

    fn topic_mut(&mut self, id: TopicId) -> Result<&mut Topic, String> {
        let topics = Arc::make_mut(&mut self.topics);
        topics.get_mut(&id).map(Arc::make_mut).ok_or_else(|| format!("unknown topic {id}"))
    }

    fn add_partition(&mut self, record: &PartitionRecord) -> Result<(), String> {
        let topic = self.topic_mut(record.topic)?;
        if usize::try_from(record.index) != Ok(topic.partitions.len()) {
            return Err(format!(
                "partition {} of {} is added out of order: there are {}",
                record.index,
                topic.name,
                topic.partitions.len()
            ));
        }
        let state = PartitionState {
            leader: record.leader,
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
            replicas: record.replicas.clone(),
            isr: record.isr.clone(),
            elr: record.elr.clone(),
            adding: record.adding.clone(),
            removing: record.removing.clone(),
            storage_ids: record.storage_ids.clone(),
        };
        state.check().map_err(|e| format!("partition {} of {}: {e}", record.index, topic.name))?;
        topic.partitions.push(state);
        Ok(())
    }

    fn change_partition(&mut self, change: &PartitionChange) -> Result<(), String> {
        let topic = self.topic_mut(change.topic)?;
        let named = format!("partition {} of {}", change.index, topic.name);
        let state = usize::try_from(change.index)
            .ok()
            .and_then(|index| topic.partitions.get_mut(index))
            .ok_or_else(|| format!("unknown {named}"))?;
        if let Some(replicas) = &change.replicas {
            state.set_replicas(replicas);
        }
        if let Some(adding) = &change.adding {
            state.adding.clone_from(adding);
        }
        if let Some(removing) = &change.removing {
            state.removing.clone_from(removing);
        }
        if let Some(storage_ids) = &change.storage_ids {
            state.storage_ids.clone_from(storage_ids);
        }
        if let Some(isr) = &change.isr {
            state.isr.clone_from(isr);
        }
        if let Some(elr) = &change.elr {
            state.elr.clone_from(elr);
        }
        if let Some(leader) = change.leader {
            state.leader = leader;
            state.leader_epoch = LeaderEpoch(state.leader_epoch.0.saturating_add(1));
        }
        state.partition_epoch = state.partition_epoch.saturating_add(1);
        state.check().map_err(|e| format!("{named}: {e}"))
    }

    fn set_config(
        &mut self,
        resource: &ConfigResource,
        key: &str,
        value: Option<&str>,
    ) -> Result<(), String> {
        match resource {
            ConfigResource::Topic(id) => {
                let config = Arc::clone(&self.config);
                let topic = self.topic_mut(*id)?;
                set(&mut topic.configs, key, value);
                topic.resolved = Arc::new(TopicConfig::resolve(&topic.configs, &config));
            }
            ConfigResource::Broker(id) => {
                let all = Arc::make_mut(&mut self.broker_overrides);
                let overrides = all.entry(*id).or_default();
                set(overrides, key, value);
                if overrides.is_empty() {
                    all.remove(id);
                }
                self.resolve_all();
            }
            ConfigResource::Cluster => {
                set(Arc::make_mut(&mut self.cluster_overrides), key, value);
                self.resolve_all();
            }
            ConfigResource::Group(group) => self.set_group_config(group, key, value),
            ConfigResource::ClientMetrics(name) => {
                let all = Arc::make_mut(&mut self.client_metrics);
                let overrides = all.entry(Arc::clone(name)).or_default();
                set(overrides, key, value);
                if overrides.is_empty() {
                    all.remove(name);
                }
            }
        }
        Ok(())
    }

    fn set_group_config(&mut self, group: &Arc<str>, key: &str, value: Option<&str>) {
        let groups = Arc::make_mut(&mut self.groups);
        let mut configs = groups.remove(group).map(|known| known.configs).unwrap_or_default();
        set(&mut configs, key, value);
        if !configs.is_empty() {
            let resolved = GroupConfig::resolve(&configs, &self.config);
            groups.insert(Arc::clone(group), GroupSettings { configs, resolved });
        }
    }

    /// A broker setting changed: so may every topic and group that inherits it.
    fn resolve_all(&mut self) {
        let none = Overrides::new();
        let own = self.broker_overrides.get(&BrokerId(self.base.node_id)).unwrap_or(&none);
        let config = self.base.with_dynamic(&self.cluster_overrides, own);
        if config == *self.config {
            return;
        }
        self.config = Arc::new(config);
        self.resolve_groups();
        let defaults = self.config.topic_defaults();
        if defaults == *self.topic_defaults {
            return;
        }
        self.topic_defaults = Arc::new(defaults);
        for topic in Arc::make_mut(&mut self.topics).values_mut() {
            let resolved = TopicConfig::resolve(&topic.configs, &self.config);
            if resolved != *topic.resolved {
                Arc::make_mut(topic).resolved = Arc::new(resolved);
            }
        }
    }

    fn resolve_groups(&mut self) {
        let defaults = GroupConfig::inherited(&self.config);
        if defaults == *self.group_defaults {
            return;
        }
        self.group_defaults = Arc::new(defaults);
        for settings in Arc::make_mut(&mut self.groups).values_mut() {
            settings.resolved = GroupConfig::resolve(&settings.configs, &self.config);
        }
    }

    /// Asserts what always holds; see the head of this file.
    pub fn check(&self) {
        assert_eq!(self.names.len(), self.topics.len(), "names and ids of topics are one to one");
        for (name, id) in self.names.iter() {
            let topic = self.topics.get(id);
            assert_eq!(
                topic.map(|t| &t.name),
                Some(name),
                "topic {id} has the name it is found by"
            );
        }
        for topic in self.topics.values() {
            for (index, partition) in topic.indexed() {
                assert_eq!(partition.check(), Ok(()), "partition {index} of {}", topic.name);
            }
        }
    }
}

fn set(overrides: &mut Overrides, key: &str, value: Option<&str>) {
    match value {
        Some(value) => {
            overrides.insert(key.to_owned(), value.to_owned());
        }
        None => {
            overrides.remove(key);
        }
    }
}

fn push_configs(records: &mut Vec<Record>, resource: &ConfigResource, overrides: &Overrides) {
    records.extend(overrides.iter().map(|(key, value)| Record::Config {
        resource: resource.clone(),
        key: key.clone(),
        value: Some(value.clone()),
    }));
}
