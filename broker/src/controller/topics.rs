//! Creating, deleting and growing topics.

use std::collections::BTreeMap;

use sawlog_protocol::Uuid;

use crate::base::limits::{
    PARTITIONS_PER_REQUEST_MAX, PARTITIONS_PER_TOPIC_MAX, TOPIC_NAME_BYTES_MAX,
};
use crate::base::{BrokerId, LeaderEpoch, TopicId};
use crate::config::{Overrides, TopicConfig};
use crate::metadata::{ConfigResource, Image, PartitionRecord, Record};

use super::AdminError;
use super::decide::Scratch;
use super::placement::Candidates;
use super::request::{CreatePartitions, CreateTopic, CreatedTopic, DeleteTopic};

/// Topics the broker will create itself, with settings of its own choosing.
const RESERVED_NAMES: [&str; 3] =
    ["__consumer_offsets", "__transaction_state", "__cluster_metadata"];

/// Creates each topic on its own.
pub(super) fn create(
    scratch: &mut Scratch<'_>,
    topics: &[CreateTopic],
    validate_only: bool,
) -> Vec<Result<CreatedTopic, AdminError>> {
    let mut times = BTreeMap::<&str, u32>::new();
    for topic in topics {
        *times.entry(&topic.name).or_default() += 1;
    }
    let mut allowance = PARTITIONS_PER_REQUEST_MAX;
    topics
        .iter()
        .map(|topic| {
            if times.get(topic.name.as_str()).is_some_and(|times| *times > 1) {
                return Err(AdminError::DuplicateTopic(topic.name.clone()));
            }
            let mut plan = plan(scratch, topic)?;
            take_from(&mut allowance, plan.replicas.len())?;
            if validate_only {
                return Ok(plan.created);
            }
            plan.created.id = unused_id(scratch);
            let records = plan.records(&scratch.image);
            scratch.push(records);
            Ok(plan.created)
        })
        .collect()
}

/// An id no topic has. The system's randomness never repeats one; a seed used twice does.
fn unused_id(scratch: &mut Scratch<'_>) -> TopicId {
    loop {
        let id = scratch.random.next_uuid();
        if scratch.image.topic_by_id(id).is_none() {
            return id;
        }
    }
}

/// A topic that can be created.
struct Plan {
    created: CreatedTopic,
    replicas: Vec<Vec<BrokerId>>,
}

impl Plan {
    fn records(&self, image: &Image) -> Vec<Record> {
        let id = self.created.id;
        let mut records = vec![Record::Topic { name: self.created.name.clone(), id }];
        records.extend(self.created.configs.iter().map(|(key, value)| Record::Config {
            resource: ConfigResource::Topic(id),
            key: key.clone(),
            value: Some(value.clone()),
        }));
        records.extend(partition_records(image, id, 0, &self.replicas));
        records
    }
}

fn plan(scratch: &mut Scratch<'_>, topic: &CreateTopic) -> Result<Plan, AdminError> {
    if !(topic.is_internal && RESERVED_NAMES.contains(&&*topic.name)) {
        check_name(&topic.name)?;
    }
    check_free(&scratch.image, &topic.name)?;
    let replicas = place(scratch, topic)?;
    let mut configs = Overrides::new();
    for (name, value) in &topic.configs {
        let value = value.as_deref().ok_or_else(|| {
            AdminError::InvalidConfigChange(format!(
                "\"{name}\" has no value: leave it out to inherit"
            ))
        })?;
        configs.insert(name.clone(), TopicConfig::check(name, value)?);
    }
    TopicConfig::check_together(&configs, scratch.image.config())?;
    let factor = replicas.first().map_or(0, Vec::len);
    Ok(Plan {
        created: CreatedTopic {
            name: topic.name.clone(),
            id: TopicId::ZERO,
            partitions: i32::try_from(replicas.len()).unwrap_or(i32::MAX),
            replication_factor: i16::try_from(factor).unwrap_or(i16::MAX),
            configs,
        },
        replicas,
    })
}

/// Whether a topic may be called `name`: it becomes part of a directory's name, of metric names and
/// of shell commands.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_name(name: &str) -> Result<(), AdminError> {
    let refuse = |reason: &str| Err(AdminError::invalid_name(name, reason));
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name == "." || name == ".." {
        return refuse("it names a directory");
    }
    if name.len() > TOPIC_NAME_BYTES_MAX {
        let reason =
            format!("it has {} bytes, at most {TOPIC_NAME_BYTES_MAX} are allowed", name.len());
        return Err(AdminError::invalid_name(name, reason));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return refuse("only ASCII letters, digits, \".\", \"_\" and \"-\" are allowed");
    }
    if RESERVED_NAMES.contains(&name) {
        return refuse("it is reserved for the broker");
    }
    Ok(())
}

fn check_free(image: &Image, name: &str) -> Result<(), AdminError> {
    if image.topic(name).is_some() {
        return Err(AdminError::TopicExists(name.to_owned()));
    }
    if !name.contains(['.', '_']) {
        return Ok(());
    }
    let same = |a: u8, b: u8| a == b || (b"._".contains(&a) && b"._".contains(&b));
    let collides = |existing: &str| {
        existing.len() == name.len() && existing.bytes().zip(name.bytes()).all(|(a, b)| same(a, b))
    };
    match image.topics().find(|topic| collides(&topic.name)) {
        Some(topic) => Err(AdminError::TopicCollides {
            name: name.to_owned(),
            existing: topic.name.to_string(),
        }),
        None => Ok(()),
    }
}

/// The brokers of each partition.
fn place(scratch: &mut Scratch<'_>, topic: &CreateTopic) -> Result<Vec<Vec<BrokerId>>, AdminError> {
    if !topic.assignments.is_empty() {
        return place_by_hand(&scratch.image, topic);
    }
    let partitions = topic.partitions.unwrap_or(scratch.image.config().num_partitions);
    let count = partition_count(partitions)?;
    let default = scratch.image.config().default_replication_factor;
    let factor = topic.replication_factor.unwrap_or(default);
    place_evenly(scratch, 0, count, factor)
}

fn partition_count(asked: i32) -> Result<usize, AdminError> {
    let count = usize::try_from(asked).ok();
    count
        .filter(|_| (1..=PARTITIONS_PER_TOPIC_MAX).contains(&asked))
        .ok_or(AdminError::InvalidPartitions { asked })
}

/// Spreads partitions `first..first + count` over the brokers that run; a factor of -1 is as many
/// replicas as there should be.
fn place_evenly(
    scratch: &mut Scratch<'_>,
    first: usize,
    count: usize,
    factor: i16,
) -> Result<Vec<Vec<BrokerId>>, AdminError> {
    let start = usize::try_from(scratch.random.next_u64() % 1_000_000).unwrap_or(0);
    let candidates = Candidates::of(&scratch.image);
    let copies = match factor {
        -1 => candidates.replicas_auto(),
        factor => usize::try_from(factor).unwrap_or(0),
    };
    let brokers = candidates.copies_max();
    if copies == 0 || copies > brokers {
        return Err(AdminError::InvalidReplicationFactor { asked: factor, brokers });
    }
    let place = |partition| candidates.place(partition, start, copies);
    Ok((first..first + count).map(place).collect())
}

fn place_by_hand(image: &Image, topic: &CreateTopic) -> Result<Vec<Vec<BrokerId>>, AdminError> {
    if topic.partitions.is_some() || topic.replication_factor.is_some() {
        return Err(AdminError::InvalidRequest(
            "a replica assignment leaves partition count and replication factor at -1".to_owned(),
        ));
    }
    partition_count(i32::try_from(topic.assignments.len()).unwrap_or(i32::MAX))?;
    let mut by_index = BTreeMap::new();
    for (index, replicas) in &topic.assignments {
        if by_index.insert(*index, replicas.clone()).is_some() {
            return Err(AdminError::InvalidReplicaAssignment(format!(
                "partition {index} is named twice"
            )));
        }
    }
    if !(0..).zip(by_index.keys()).all(|(expected, index)| expected == *index) {
        return Err(AdminError::InvalidReplicaAssignment(
            "partitions must be numbered 0, 1, 2 and so on".to_owned(),
        ));
    }
    let replicas: Vec<_> = by_index.into_values().collect();
    let factor = replicas.first().map_or(0, Vec::len);
    check_by_hand(image, factor, &replicas)?;
    Ok(replicas)
}

fn check_by_hand(image: &Image, factor: usize, all: &[Vec<BrokerId>]) -> Result<(), AdminError> {
    let refuse = |reason: String| Err(AdminError::InvalidReplicaAssignment(reason));
    for replicas in all {
        if replicas.is_empty() || replicas.len() != factor {
            return refuse(format!(
                "every partition needs the same number of replicas, here {factor}, and at least 1"
            ));
        }
        for (at, id) in replicas.iter().enumerate() {
            if image.broker(*id).is_none() {
                return refuse(format!("broker {id} does not exist"));
            }
            if replicas[..at].contains(id) {
                return refuse(format!("broker {id} is named twice for one partition"));
            }
        }
        if !replicas.iter().any(|id| is_live(image, *id)) {
            return refuse("no broker of a partition is running".to_owned());
        }
    }
    Ok(())
}

fn is_live(image: &Image, id: BrokerId) -> bool {
    image.broker(id).is_some_and(|broker| !broker.fenced && !broker.shutting_down)
}

/// New partitions: live replicas are in sync, the first of them leads.
fn partition_records<'a>(
    image: &'a Image,
    topic: TopicId,
    first: i32,
    replicas: &'a [Vec<BrokerId>],
) -> impl Iterator<Item = Record> + 'a {
    (first..).zip(replicas).map(move |(index, replicas)| {
        let isr: Vec<_> = replicas.iter().copied().filter(|id| is_live(image, *id)).collect();
        Record::Partition(PartitionRecord {
            topic,
            index,
            replicas: replicas.clone(),
            leader: isr.first().copied(),
            isr,
            elr: Vec::new(),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            adding: Vec::new(),
            removing: Vec::new(),
            storage_ids: known_storage(image, replicas),
        })
    })
}

/// The data directory of each replica, where its broker has only one; others tell later.
fn known_storage(image: &Image, replicas: &[BrokerId]) -> Vec<Uuid> {
    let only = |id: &BrokerId| match image.broker(*id).map(|known| &known.storage_ids[..]) {
        Some([only]) => *only,
        Some(_) | None => Uuid::ZERO,
    };
    replicas.iter().map(only).collect()
}

/// One request must not make an entry, and an image, of unbounded size.
fn take_from(allowance: &mut usize, count: usize) -> Result<(), AdminError> {
    *allowance = allowance.checked_sub(count).ok_or(AdminError::TooManyPartitions)?;
    Ok(())
}

/// Deletes each topic on its own.
pub(super) fn delete(
    scratch: &mut Scratch<'_>,
    topics: &[DeleteTopic],
) -> Vec<Result<(String, TopicId), AdminError>> {
    topics
        .iter()
        .map(|topic| {
            let found = match topic {
                DeleteTopic::Name(name) => scratch.image.topic(name),
                DeleteTopic::Id(id) => scratch.image.topic_by_id(*id),
            };
            let found = found.ok_or_else(|| match topic {
                DeleteTopic::Name(name) => AdminError::UnknownTopic(name.clone()),
                DeleteTopic::Id(id) => AdminError::UnknownTopicId(*id),
            })?;
            if !scratch.image.config().delete_topic_enable {
                return Err(AdminError::DeletionDisabled);
            }
            let (name, id) = (found.name.to_string(), found.id);
            scratch.push(vec![Record::RemoveTopic { id }]);
            Ok((name, id))
        })
        .collect()
}

/// Gives each topic more partitions.
pub(super) fn grow(
    scratch: &mut Scratch<'_>,
    topics: &[CreatePartitions],
    validate_only: bool,
) -> Vec<Result<(), AdminError>> {
    let mut allowance = PARTITIONS_PER_REQUEST_MAX;
    topics
        .iter()
        .enumerate()
        .map(|(at, topic)| {
            if topics[..at].iter().any(|earlier| earlier.name == topic.name) {
                return Err(AdminError::DuplicateTopic(topic.name.clone()));
            }
            let (id, first, replicas) = plan_growth(scratch, topic)?;
            take_from(&mut allowance, replicas.len())?;
            if !validate_only {
                let records = partition_records(&scratch.image, id, first, &replicas).collect();
                scratch.push(records);
            }
            Ok(())
        })
        .collect()
}

fn plan_growth(
    scratch: &mut Scratch<'_>,
    topic: &CreatePartitions,
) -> Result<(TopicId, i32, Vec<Vec<BrokerId>>), AdminError> {
    let existing = scratch
        .image
        .topic(&topic.name)
        .ok_or_else(|| AdminError::UnknownTopic(topic.name.clone()))?;
    let (id, has) = (existing.id, existing.partitions.len());
    let factor = existing.partitions.first().map_or(1, |partition| partition.replicas.len());
    let growth = partition_count(topic.count)?.checked_sub(has).filter(|more| *more > 0);
    let more = growth.ok_or_else(|| AdminError::PartitionsNotGrowing {
        topic: topic.name.clone(),
        has,
        asked: topic.count,
    })?;
    let replicas = match &topic.assignments {
        None => place_evenly(scratch, has, more, i16::try_from(factor).unwrap_or(i16::MAX))?,
        Some(by_hand) if by_hand.len() != more => {
            return Err(AdminError::InvalidReplicaAssignment(format!(
                "{more} partitions are added but {} are assigned",
                by_hand.len()
            )));
        }
        Some(by_hand) => {
            check_by_hand(&scratch.image, factor, by_hand)?;
            by_hand.clone()
        }
    };
    Ok((id, i32::try_from(has).unwrap_or(i32::MAX), replicas))
}
