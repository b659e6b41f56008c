//! OffsetCommit and OffsetFetch of a member. One attempt each.

use std::sync::Arc;

use sawlog_protocol::decode_response;
use sawlog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use sawlog_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponsePartition,
};
use sawlog_protocol::{DecodeError, ErrorCode};

use super::commit::CommitOffset;
use super::membership::{Identity, Partitions};
use super::requests::Line;
use crate::cluster::Channel;
use crate::consumer::{PartitionKey, Place};
use crate::error::{ClientError, check};

/// Newest versions that name topics by name.
const COMMIT_BY_NAME: i16 = 9;
const FETCH_BY_NAME: i16 = 9;

/// First OffsetFetch version that asks for several groups.
const FETCH_GROUPS: i16 = 8;

impl Line {
    /// Commits; for each partition what became of it.
    pub(crate) async fn commit(
        &self,
        identity: &Identity,
        offsets: &[CommitOffset],
    ) -> Result<Vec<(PartitionKey, ErrorCode)>, ClientError> {
        let mut topics: Vec<OffsetCommitRequestTopic<'_>> = Vec::new();
        for one in offsets {
            if topics.last().is_none_or(|last| *last.name != *one.topic) {
                topics.push(OffsetCommitRequestTopic { name: &one.topic, ..Default::default() });
            }
            let Some(last) = topics.last_mut() else { continue };
            last.partitions.push(OffsetCommitRequestPartition {
                partition_index: one.partition,
                committed_offset: one.offset,
                committed_leader_epoch: one.leader_epoch,
                committed_metadata: Some(&one.metadata),
            });
        }
        let request = OffsetCommitRequest {
            group_id: &self.options.group,
            generation_id_or_member_epoch: identity.generation,
            member_id: &identity.member,
            group_instance_id: self.options.instance.as_deref(),
            topics,
            ..Default::default()
        };
        let connection = self.client.coordinator(&self.options.group, Channel::GENERAL).await?;
        let reply =
            connection.call_up_to(&request, COMMIT_BY_NAME, self.client.options().timeout).await?;
        let (_, response) =
            decode_response::<OffsetCommitRequest<'_>>(&reply.frame, reply.version)?;
        let mut codes = Vec::with_capacity(offsets.len());
        for topic in &response.topics {
            let name: Arc<str> = Arc::from(topic.name);
            let parts = topic.partitions.iter();
            codes.extend(parts.map(|one| ((name.clone(), one.partition_index), one.error_code)));
        }
        if codes.len() < offsets.len() {
            return Err(ClientError::Malformed(DecodeError::Truncated));
        }
        Ok(codes)
    }

    /// What is committed of partitions. Those of which nothing is are left out.
    pub(crate) async fn committed(
        &self,
        identity: &Identity,
        partitions: &Partitions,
    ) -> Result<Vec<(PartitionKey, Place)>, ClientError> {
        let mut topics: Vec<(&str, Vec<i32>)> = Vec::new();
        for (topic, partition) in partitions {
            match topics.last_mut().filter(|last| *last.0 == **topic) {
                Some(last) => last.1.push(*partition),
                None => topics.push((topic, vec![*partition])),
            }
        }
        let by_name = topics.iter().map(|(name, all)| OffsetFetchRequestTopics {
            name,
            partition_indexes: all.clone(),
            ..Default::default()
        });
        let group = OffsetFetchRequestGroup {
            group_id: &self.options.group,
            // An epoch is of the consumer protocol, and so are members here.
            member_id: Some(&*identity.member).filter(|_| identity.is_epoch),
            member_epoch: if identity.is_epoch { identity.generation } else { -1 },
            topics: Some(by_name.collect()),
        };
        let old = topics
            .iter()
            .map(|(name, all)| OffsetFetchRequestTopic { name, partition_indexes: all.clone() });
        let request = OffsetFetchRequest {
            group_id: &self.options.group,
            topics: Some(old.collect()),
            groups: vec![group],
            // An offset that is part of an open transaction is not known yet.
            require_stable: true,
        };
        let connection = self.client.coordinator(&self.options.group, Channel::GENERAL).await?;
        let reply =
            connection.call_up_to(&request, FETCH_BY_NAME, self.client.options().timeout).await?;
        let (_, response) = decode_response::<OffsetFetchRequest<'_>>(&reply.frame, reply.version)?;
        let mut found = Vec::new();
        if reply.version < FETCH_GROUPS {
            check(response.error_code, None)?;
            for topic in &response.topics {
                take(topic.name, &topic.partitions, &mut found)?;
            }
        }
        for group in &response.groups {
            check(group.error_code, None)?;
            for topic in &group.topics {
                take(topic.name, &topic.partitions, &mut found)?;
            }
        }
        Ok(found)
    }
}

fn take(
    topic: &str,
    partitions: &[OffsetFetchResponsePartition<'_>],
    found: &mut Vec<(PartitionKey, Place)>,
) -> Result<(), ClientError> {
    let topic: Arc<str> = Arc::from(topic);
    for one in partitions {
        match one.error_code {
            // Deleted meanwhile: there is nothing to go on from.
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => continue,
            code => check(code, None)?,
        }
        if one.committed_offset >= 0 {
            let place = Place { offset: one.committed_offset, epoch: one.committed_leader_epoch };
            found.push(((topic.clone(), one.partition_index), place));
        }
    }
    Ok(())
}
