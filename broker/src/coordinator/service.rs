//! The groups this broker coordinates: which partition of `__consumer_offsets` each belongs to, and
//! the shards of those partitions.
//!
//! The topic is made when the first client looks for a coordinator. A shard starts when this broker
//! comes to lead a partition that holds groups, or is first asked for one that it leads; it ends when
//! the partition does, or another broker leads it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tracing::error;

use super::core::Ask;
use super::memory::GroupMemory;
use super::options::GroupOptions;
use super::shard::Shard;
use super::types::{
    GroupError, GroupId, GroupState, GroupType, ListGroups, ListedGroup, TopicsDeleted,
};
use crate::base::limits::GROUP_MEMBERS_BYTES_MAX;
use crate::base::tasks::Owned;
use crate::base::{Clock, Offset, Tasks};
use crate::controller::{AdminErrorKind, Controller, CreateTopic, ImageSubscriber};
use crate::metadata::{Image, ImageCell};
use crate::replication::{Partition, Partitions};

/// Shards that read their logs at once: each takes a thread that others wait for, too.
const LOADS_MAX: usize = 4;

/// The topic in which groups live.
pub(crate) const GROUPS_TOPIC: &str = "__consumer_offsets";

/// How `__consumer_offsets` is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupsTopicOptions {
    /// `offsets.topic.num.partitions`.
    pub(crate) partitions: i32,
    /// `offsets.topic.segment.bytes`.
    pub(crate) segment_bytes: u32,
}

#[derive(Debug)]
struct Running {
    shard: Arc<Shard>,
    /// Ends with this.
    _keeper: Owned,
}

/// The groups this broker coordinates.
pub(crate) struct Coordinator {
    partitions: Arc<Partitions>,
    images: Arc<ImageCell>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    topic: GroupsTopicOptions,
    options: GroupOptions,
    shards: Mutex<BTreeMap<i32, Running>>,
    memory: Arc<GroupMemory>,
    loads: Arc<Semaphore>,
}

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coordinator").field("shards", &self.shards.lock().len()).finish()
    }
}

impl Coordinator {
    /// A coordinator whose tasks run on `tasks`.
    pub(crate) fn new(
        partitions: Arc<Partitions>,
        images: Arc<ImageCell>,
        clock: Arc<dyn Clock>,
        tasks: Tasks,
        (topic, options): (GroupsTopicOptions, GroupOptions),
    ) -> Self {
        let shards = Mutex::default();
        let memory = GroupMemory::new(GROUP_MEMBERS_BYTES_MAX);
        let loads = Arc::new(Semaphore::new(LOADS_MAX));
        Self { partitions, images, clock, tasks, topic, options, shards, memory, loads }
    }

    /// What subscriptions and assignments that are kept are charged to.
    pub(crate) fn memory(&self) -> &Arc<GroupMemory> {
        &self.memory
    }

    /// Makes sure the topic is there, so that every group has a coordinator.
    ///
    /// # Errors
    /// It is not, and cannot be made now.
    pub(crate) async fn ensure_topic(&self, controller: &Controller) -> Result<(), GroupError> {
        if self.images.peek().topic(GROUPS_TOPIC).is_some() {
            return Ok(());
        }
        let setting = |name: &str, value: String| (name.to_owned(), Some(value));
        let topic = CreateTopic {
            name: GROUPS_TOPIC.to_owned(),
            partitions: Some(self.topic.partitions),
            is_internal: true,
            configs: vec![
                setting("cleanup.policy", "compact".to_owned()),
                setting("flush.mode", "group".to_owned()),
                setting("segment.bytes", self.topic.segment_bytes.to_string()),
            ],
            ..CreateTopic::default()
        };
        match controller.create_topics(vec![topic], false).await.pop() {
            // Somebody else was faster.
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) if error.kind() == AdminErrorKind::TopicExists => Ok(()),
            Some(Err(error)) => {
                error!(%error, "groups: cannot create {GROUPS_TOPIC}");
                Err(GroupError::NotAvailable)
            }
            None => Err(GroupError::NotAvailable),
        }
    }

    /// The partition of `__consumer_offsets` that `group` belongs to, if the topic is there.
    pub(crate) fn partition_of(&self, group: &GroupId) -> Option<i32> {
        let count = self.images.peek().topic(GROUPS_TOPIC)?.partitions.len();
        partition_for(group.as_str(), i32::try_from(count).ok()?)
    }

    /// Whether this broker can coordinate the groups of this partition now.
    pub(crate) fn leads(&self, index: i32) -> bool {
        let partition = self.partitions.by_name(GROUPS_TOPIC, index);
        partition.is_some_and(|partition| partition.leader_epoch().is_some())
    }

    /// Asks the coordinator of `group`.
    pub(crate) async fn ask<A: Ask>(&self, group: &GroupId, ask: A) -> A::Answer {
        let shard = self.partition_of(group).and_then(|index| self.shard(index));
        match shard {
            Some(shard) => shard.ask(ask).await,
            None => A::refused(GroupError::NotCoordinator),
        }
    }

    /// All groups this broker coordinates.
    ///
    /// # Errors
    /// Some are not known yet.
    pub(crate) async fn list(&self, request: ListGroups) -> Result<Vec<ListedGroup>, GroupError> {
        let count = self.images.peek().topic(GROUPS_TOPIC).map_or(0, |it| it.partitions.len());
        let mut listed = Vec::new();
        for index in 0..i32::try_from(count).unwrap_or(0) {
            if let Some(shard) = self.shard(index) {
                listed.extend(shard.ask(request.clone()).await?);
            }
        }
        Ok(listed)
    }

    /// How many partitions of `__consumer_offsets` this broker leads without knowing yet which groups
    /// are in them. They are read from now on, if nothing has asked for them before. In one that was
    /// never written to there are none.
    pub(crate) fn loading(&self) -> usize {
        let count = self.images.peek().topic(GROUPS_TOPIC).map_or(0, |it| it.partitions.len());
        let indexes = 0..i32::try_from(count).unwrap_or(0);
        let written = indexes.filter(|index| {
            let partition = self.partitions.by_name(GROUPS_TOPIC, *index);
            partition.is_some_and(|it| it.log_end() > Offset::ZERO)
        });
        written.filter_map(|index| self.shard(index)).filter(|shard| !shard.is_serving()).count()
    }

    /// How many groups are coordinated here, by type and state. Those that are not known yet are not
    /// among them.
    pub(crate) fn counts(&self) -> BTreeMap<(GroupType, GroupState), usize> {
        let mut counts = BTreeMap::new();
        let running: Vec<_> = self.shards.lock().values().map(|it| it.shard.clone()).collect();
        running.iter().for_each(|shard| shard.count_groups(&mut counts));
        counts
    }

    /// The shard of a partition this broker leads; it is started if it is not running.
    fn shard(&self, index: i32) -> Option<Arc<Shard>> {
        let partition = self.partitions.by_name(GROUPS_TOPIC, index)?;
        partition.leader_epoch()?;
        let mut shards = self.shards.lock();
        let running = match shards.remove(&index) {
            Some(running) if running.shard.is_of(&partition) => running,
            _ => self.start(partition),
        };
        let shard = running.shard.clone();
        shards.insert(index, running);
        Some(shard)
    }

    fn start(&self, partition: Arc<Partition>) -> Running {
        let shard = Arc::new(Shard::new(
            partition,
            self.clock.clone(),
            self.images.clone(),
            self.options.clone(),
            self.loads.clone(),
        ));
        let keeper = self.tasks.spawn_owned(shard.clone().keep());
        Running { shard, _keeper: keeper }
    }

    /// Starts and ends shards as leadership has come and gone. A partition that was never written
    /// to has no deadline to keep, and waits until it is asked for.
    fn follow_leadership(&self, count: i32) {
        let mut shards = self.shards.lock();
        shards.retain(|index, running| {
            let partition = self.partitions.by_name(GROUPS_TOPIC, *index);
            let stays =
                partition.is_some_and(|it| running.shard.is_of(&it) && it.leader_epoch().is_some());
            running.shard.look_at_leadership();
            stays
        });
        for index in 0..count {
            let led = self.partitions.by_name(GROUPS_TOPIC, index);
            let led = led.filter(|it| it.leader_epoch().is_some() && it.log_end() > Offset::ZERO);
            if let Some(partition) = led {
                shards.entry(index).or_insert_with(|| self.start(partition));
            }
        }
    }

    /// Offsets in topics that are gone are forgotten. Groups of partitions that are not loaded keep
    /// theirs until they expire.
    fn forget_topics(&self, old: &Image, new: &Image) {
        let gone = old.topics().filter(|topic| new.topic_by_id(topic.id).is_none());
        let topics: Vec<Arc<str>> = gone.map(|topic| topic.name.clone()).collect();
        if topics.is_empty() {
            return;
        }
        for running in self.shards.lock().values() {
            let request = TopicsDeleted { topics: topics.clone() }.into_request();
            // A shard that is loading now has nothing to forget that it could.
            let _ = running.shard.submit(request);
        }
    }
}

impl ImageSubscriber for Coordinator {
    /// Runs after the partitions have followed the image.
    fn image_changed(&self, old: &Image, new: &Arc<Image>) {
        let (before, now) = (old.topic(GROUPS_TOPIC), new.topic(GROUPS_TOPIC));
        let is_same = match (before, now) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !is_same {
            let count = now.map_or(0, |topic| topic.partitions.len());
            self.follow_leadership(i32::try_from(count).unwrap_or(0));
        }
        self.forget_topics(old, new);
    }
}

/// `abs(String.hashCode(group)) mod partitions`, as Kafka has it: tools and other brokers look for
/// a group where it puts it.
pub(crate) fn partition_for(group: &str, partitions: i32) -> Option<i32> {
    let hash = group
        .encode_utf16()
        .fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0).checked_rem(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_where_kafka_puts_them() {
        // String.hashCode of these: 0, 97, 1439395402, -2147483648, -1019671990.
        let cases = [("", 0), ("a", 97 % 50), ("polygenelubricants", 0)];
        for (group, partition) in cases {
            assert_eq!(partition_for(group, 50), Some(partition), "{group}");
        }
        assert_eq!(partition_for("a", 0), None);
    }
}
