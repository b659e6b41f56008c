//! OffsetFetch: how far groups have read.
//!
//! A group nobody knows has committed nothing: that is no error.

use std::collections::BTreeMap;
use std::sync::Arc;

use sawlog_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use sawlog_protocol::{ErrorCode, Rope, Uuid};

use super::RequestContext;
use super::groups::code;
use crate::base::TopicPartition;
use crate::coordinator::{FetchedOffset, GroupError, GroupId, OffsetFetch};
use crate::metadata::Image;

/// First version with an error for the group; before, it is each partition's.
const GROUP_ERROR: i16 = 2;
/// First version with several groups.
const SEVERAL_GROUPS: i16 = 8;
/// First version with topics by id.
const TOPIC_BY_ID: i16 = 10;

/// A topic of the answer.
struct Topic {
    name: Arc<str>,
    id: Uuid,
    partitions: Vec<(i32, Outcome)>,
}

type Outcome = Result<Option<crate::coordinator::Committed>, ErrorCode>;

/// Tells of each group on its own.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: OffsetFetchRequest<'_>) -> Rope {
    let image = ctx.node.images.load();
    if ctx.version >= SEVERAL_GROUPS {
        let mut answers = Vec::with_capacity(request.groups.len());
        for group in &request.groups {
            answers.push((group.group_id, fetch(ctx, &image, group).await));
        }
        let groups = answers.iter().map(|(id, answer)| group_response(id, answer)).collect();
        return ctx.reply(&OffsetFetchResponse { groups, ..Default::default() });
    }
    let topics = request.topics.as_ref().map(|topics| {
        let topics = topics.iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes.clone(),
            ..Default::default()
        });
        topics.collect::<Vec<_>>()
    });
    let only = OffsetFetchRequestGroup {
        group_id: request.group_id,
        member_id: None,
        member_epoch: -1,
        topics,
    };
    match fetch(ctx, &image, &only).await {
        Ok(topics) => {
            let topics = topics.iter().map(|topic| OffsetFetchResponseTopic {
                name: &topic.name,
                partitions: partitions(topic),
            });
            ctx.reply(&OffsetFetchResponse { topics: topics.collect(), ..Default::default() })
        }
        Err(error) => ctx.reply(&refusal(ctx.version, &only, code(error))),
    }
}

async fn fetch(
    ctx: &RequestContext<'_>,
    image: &Image,
    group: &OffsetFetchRequestGroup<'_>,
) -> Result<Vec<Topic>, GroupError> {
    let by_id = ctx.version >= TOPIC_BY_ID;
    let named = group.topics.as_ref().map(|topics| named(image, by_id, topics));
    let known = named.iter().flatten().filter_map(|(topic, name)| Some((topic, name.clone()?)));
    let partitions = known.flat_map(|(topic, name)| {
        let each = topic.partition_indexes.iter();
        each.map(move |partition| TopicPartition { topic: name.clone(), partition: *partition })
    });
    let id = GroupId::from(group.group_id);
    let asked = OffsetFetch {
        group: id.clone(),
        member: group.member_id.map(Into::into),
        member_epoch: group.member_epoch,
        partitions: named.as_ref().map(|_| partitions.collect()),
    };
    let fetched = ctx.node.groups.ask(&id, asked).await?;
    Ok(match named {
        Some(named) => in_order_asked(&named, fetched),
        None => everything(image, by_id, fetched),
    })
}

type Named<'r, 'a> = Vec<(&'r OffsetFetchRequestTopics<'a>, Option<Arc<str>>)>;

/// The topics asked for and their names, where they have one: an id may be unknown.
fn named<'r, 'a>(
    image: &Image,
    by_id: bool,
    topics: &'r [OffsetFetchRequestTopics<'a>],
) -> Named<'r, 'a> {
    let name = |topic: &OffsetFetchRequestTopics<'_>| {
        if by_id {
            image.topic_by_id(topic.topic_id).map(|known| known.name.clone())
        } else {
            Some(topic.name.into())
        }
    };
    topics.iter().map(|topic| (topic, name(topic))).collect()
}

fn in_order_asked(named: &Named<'_, '_>, fetched: Vec<FetchedOffset>) -> Vec<Topic> {
    let mut fetched = fetched.into_iter();
    let mut answer = |(topic, name): &(&OffsetFetchRequestTopics<'_>, Option<Arc<str>>)| {
        let partitions = topic.partition_indexes.iter().map(|partition| {
            let outcome = match name {
                None => Err(ErrorCode::UNKNOWN_TOPIC_ID),
                Some(_) => fetched.next().map_or(Ok(None), |it| it.committed.map_err(code)),
            };
            (*partition, outcome)
        });
        let partitions = partitions.collect();
        let name = name.clone().unwrap_or_else(|| topic.name.into());
        Topic { name, id: topic.topic_id, partitions }
    };
    named.iter().map(&mut answer).collect()
}

/// By id, topics that are gone have none, and are left out.
fn everything(image: &Image, by_id: bool, fetched: Vec<FetchedOffset>) -> Vec<Topic> {
    let mut topics: BTreeMap<Arc<str>, Topic> = BTreeMap::new();
    for FetchedOffset { partition, committed } in fetched {
        let id = image.topic(&partition.topic).map(|topic| topic.id);
        if by_id && id.is_none() {
            continue;
        }
        let name = partition.topic.clone();
        let topic = topics.entry(name.clone()).or_insert_with(|| Topic {
            name,
            id: id.unwrap_or(Uuid::ZERO),
            partitions: Vec::new(),
        });
        topic.partitions.push((partition.partition, committed.map_err(code)));
    }
    topics.into_values().collect()
}

fn group_response<'a>(
    id: &'a str,
    answer: &'a Result<Vec<Topic>, GroupError>,
) -> OffsetFetchResponseGroup<'a> {
    let (topics, error_code) = match answer {
        Ok(topics) => (topics.as_slice(), ErrorCode::NONE),
        Err(error) => (&[][..], code(*error)),
    };
    let topics = topics.iter().map(|topic| OffsetFetchResponseTopics {
        name: &topic.name,
        topic_id: topic.id,
        partitions: partitions(topic),
    });
    OffsetFetchResponseGroup { group_id: id, topics: topics.collect(), error_code }
}

fn partitions(topic: &Topic) -> Vec<OffsetFetchResponsePartition<'_>> {
    topic.partitions.iter().map(|(index, outcome)| partition(*index, outcome)).collect()
}

fn partition(index: i32, outcome: &Outcome) -> OffsetFetchResponsePartition<'_> {
    let nothing = OffsetFetchResponsePartition {
        partition_index: index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(""),
        ..Default::default()
    };
    match outcome {
        Ok(Some(committed)) => OffsetFetchResponsePartition {
            committed_offset: committed.offset.0,
            committed_leader_epoch: committed.leader_epoch.0,
            metadata: Some(&committed.metadata),
            ..nothing
        },
        Ok(None) => nothing,
        Err(error) => OffsetFetchResponsePartition { error_code: *error, ..nothing },
    }
}

/// The group as a whole is refused.
fn refusal<'a>(
    version: i16,
    request: &OffsetFetchRequestGroup<'a>,
    error_code: ErrorCode,
) -> OffsetFetchResponse<'a> {
    if version >= GROUP_ERROR {
        return OffsetFetchResponse { error_code, ..Default::default() };
    }
    let refused = |index: &i32| OffsetFetchResponsePartition {
        partition_index: *index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(""),
        error_code,
    };
    let topics = request.topics.iter().flatten().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partition_indexes.iter().map(refused).collect(),
    });
    OffsetFetchResponse { topics: topics.collect(), ..Default::default() }
}
