//! OffsetCommit: how far a group has read.
//!
//! Topics that do not exist are refused one by one; the rest of the request is carried out.

use std::sync::Arc;
use std::time::Duration;

use sawlog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::groups::{code, member, outcome};
use crate::base::{LeaderEpoch, Offset, TopicPartition};
use crate::coordinator::{Generation, GroupId, OffsetCommit, OffsetToCommit};
use crate::metadata::Image;

/// First version whose clients know STALE_MEMBER_EPOCH and GROUP_ID_NOT_FOUND.
const MEMBER_EPOCHS: i16 = 9;
/// First version with topics by id.
const TOPIC_BY_ID: i16 = 10;

/// Commits.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: OffsetCommitRequest<'_>) -> Rope {
    let image = ctx.node.images.load();
    let names: Vec<Result<Arc<str>, ErrorCode>> =
        request.topics.iter().map(|topic| name_of(&image, ctx.version, topic)).collect();
    let offsets: Vec<OffsetToCommit> =
        request.topics.iter().zip(&names).flat_map(|(topic, name)| offsets(topic, name)).collect();
    let results = if offsets.is_empty() {
        Vec::new()
    } else {
        let count = offsets.len();
        let group = GroupId::from(request.group_id);
        let asked = OffsetCommit {
            group: group.clone(),
            member: member(request.member_id),
            instance: request.group_instance_id.map(Into::into),
            generation: Generation(request.generation_id_or_member_epoch),
            retention: u64::try_from(request.retention_time_ms).ok().map(Duration::from_millis),
            knows_member_epochs: ctx.version >= MEMBER_EPOCHS,
            offsets,
        };
        match ctx.node.groups.ask(&group, asked).await {
            Ok(results) => results.iter().map(outcome).collect(),
            Err(error) => vec![code(error); count],
        }
    };
    ctx.reply(&OffsetCommitResponse {
        topics: answers(&request, &names, results),
        ..Default::default()
    })
}

fn name_of(
    image: &Image,
    version: i16,
    topic: &OffsetCommitRequestTopic<'_>,
) -> Result<Arc<str>, ErrorCode> {
    if version < TOPIC_BY_ID {
        let known = image.topic(topic.name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        Ok(known.name.clone())
    } else {
        let known = image.topic_by_id(topic.topic_id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?;
        Ok(known.name.clone())
    }
}

fn offsets(
    topic: &OffsetCommitRequestTopic<'_>,
    name: &Result<Arc<str>, ErrorCode>,
) -> Vec<OffsetToCommit> {
    let Ok(name) = name else { return Vec::new() };
    let offsets = topic.partitions.iter().map(|partition| OffsetToCommit {
        partition: TopicPartition { topic: name.clone(), partition: partition.partition_index },
        offset: Offset(partition.committed_offset),
        leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
        metadata: partition.committed_metadata.unwrap_or_default().into(),
    });
    offsets.collect()
}

/// `results` has one code per partition of a known topic, in the order of the request.
fn answers<'a>(
    request: &OffsetCommitRequest<'a>,
    names: &[Result<Arc<str>, ErrorCode>],
    results: Vec<ErrorCode>,
) -> Vec<OffsetCommitResponseTopic<'a>> {
    let mut results = results.into_iter();
    let mut answer = |topic: &OffsetCommitRequestTopic<'a>, name: &Result<Arc<str>, ErrorCode>| {
        let partitions = topic.partitions.iter().map(|partition| OffsetCommitResponsePartition {
            partition_index: partition.partition_index,
            error_code: match name {
                Err(unknown) => *unknown,
                Ok(_) => results.next().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR),
            },
        });
        OffsetCommitResponseTopic {
            name: topic.name,
            topic_id: topic.topic_id,
            partitions: partitions.collect(),
        }
    };
    request.topics.iter().zip(names).map(|(topic, name)| answer(topic, name)).collect()
}
