//! How far groups have read, seen and changed from outside of them.

use sawlog_protocol::decode_response;
use sawlog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use sawlog_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use sawlog_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse, OffsetFetchResponsePartition,
};

use super::MISSING;
use crate::cluster::Client;
use crate::coordinator::{GroupCall, Remedy};
use crate::error::{ClientError, check};

/// Newest versions of OffsetCommit and OffsetFetch that name topics; later ones have their ids.
const COMMIT_BY_NAME: i16 = 9;
const FETCH_BY_NAME: i16 = 9;

/// First version of OffsetFetch that asks for several groups (KIP-709).
const FETCH_GROUPS: i16 = 8;

/// An offset a group has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset of the record the group reads next.
    pub offset: i64,
    /// Epoch of the leader the record before it was read from, where the group said so (KIP-320).
    pub leader_epoch: Option<i32>,
    /// What the group wrote beside it.
    pub metadata: String,
}

/// What became of one partition of a request about offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetOutcome {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Why it was refused, if it was.
    pub result: Result<(), ClientError>,
}

impl Client {
    /// All offsets a group has committed, by topic and partition; none for a group there is not.
    ///
    /// # Errors
    /// No coordinator answers, or it refuses.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// for at in client.committed_offsets("billing").await? {
    ///     println!("{}-{} goes on at {}", at.topic, at.partition, at.offset);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn committed_offsets(
        &self,
        group: &str,
    ) -> Result<Vec<CommittedOffset>, ClientError> {
        let one = OffsetFetchRequestGroup { group_id: group, topics: None, ..Default::default() };
        let request = OffsetFetchRequest {
            group_id: group,
            topics: None,
            groups: vec![one],
            ..Default::default()
        };
        let call = GroupCall { newest: FETCH_BY_NAME, ..GroupCall::to(group) };
        self.ask_coordinator(call, &request, |reply| {
            let (_, response) =
                decode_response::<OffsetFetchRequest<'_>>(&reply.frame, reply.version)?;
            committed(&response, reply.version)
        })
        .await
    }

    /// Commits offsets for a group from outside, for its members to go on from: the group must have
    /// none. A group there is not comes into being. Returns what became of each partition.
    ///
    /// # Errors
    /// No coordinator answers. A refusal is the outcome of the partition: `UNKNOWN_MEMBER_ID` where
    /// the group has members.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// use sawlog_client::CommittedOffset;
    ///
    /// let again = CommittedOffset {
    ///     topic: "orders".to_owned(),
    ///     partition: 0,
    ///     offset: 1200,
    ///     leader_epoch: None,
    ///     metadata: String::new(),
    /// };
    /// for done in client.alter_group_offsets("billing", &[again]).await? {
    ///     done.result?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn alter_group_offsets(
        &self,
        group: &str,
        offsets: &[CommittedOffset],
    ) -> Result<Vec<OffsetOutcome>, ClientError> {
        let mut topics: Vec<OffsetCommitRequestTopic<'_>> = Vec::new();
        for one in offsets {
            let partition = OffsetCommitRequestPartition {
                partition_index: one.partition,
                committed_offset: one.offset,
                committed_leader_epoch: one.leader_epoch.unwrap_or(-1),
                committed_metadata: Some(&one.metadata),
            };
            match topics.iter_mut().find(|topic| topic.name == one.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(OffsetCommitRequestTopic {
                    name: &one.topic,
                    partitions: vec![partition],
                    ..Default::default()
                }),
            }
        }
        let request = OffsetCommitRequest { group_id: group, topics, ..Default::default() };
        let call = GroupCall { newest: COMMIT_BY_NAME, ..GroupCall::to(group) };
        self.ask_coordinator(call, &request, |reply| {
            let (_, response) =
                decode_response::<OffsetCommitRequest<'_>>(&reply.frame, reply.version)?;
            let outcomes = response.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|partition| OffsetOutcome {
                    topic: topic.name.to_owned(),
                    partition: partition.partition_index,
                    result: check(partition.error_code, None),
                })
            });
            all_or_again(outcomes.collect())
        })
        .await
    }

    /// Has a group forget offsets of these partitions. Returns what became of each.
    ///
    /// # Errors
    /// [`ClientError::Broker`] with `GROUP_ID_NOT_FOUND`, or no coordinator answers. For a partition
    /// of a topic that members of the group read the outcome is `GROUP_SUBSCRIBED_TO_TOPIC`.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// client.delete_group_offsets("billing", &[("orders".to_owned(), 0)]).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[(String, i32)],
    ) -> Result<Vec<OffsetOutcome>, ClientError> {
        let mut topics: Vec<OffsetDeleteRequestTopic<'_>> = Vec::new();
        for (name, partition_index) in partitions {
            let partition = OffsetDeleteRequestPartition { partition_index: *partition_index };
            match topics.iter_mut().find(|topic| topic.name == name) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(OffsetDeleteRequestTopic { name, partitions: vec![partition] }),
            }
        }
        let request = OffsetDeleteRequest { group_id: group, topics };
        self.ask_coordinator(GroupCall::to(group), &request, |reply| {
            let (_, response) =
                decode_response::<OffsetDeleteRequest<'_>>(&reply.frame, reply.version)?;
            check(response.error_code, None)?;
            let outcomes = response.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|partition| OffsetOutcome {
                    topic: topic.name.to_owned(),
                    partition: partition.partition_index,
                    result: check(partition.error_code, None),
                })
            });
            all_or_again(outcomes.collect())
        })
        .await
    }
}

/// Where the coordinator is another, every partition says so: then it is asked anew.
fn all_or_again(outcomes: Vec<OffsetOutcome>) -> Result<Vec<OffsetOutcome>, ClientError> {
    let mut refusals = outcomes.iter().filter_map(|outcome| outcome.result.as_ref().err());
    match refusals.find(|error| Remedy::of(error) != Remedy::None) {
        Some(error) => Err(error.clone()),
        None => Ok(outcomes),
    }
}

fn committed(
    response: &OffsetFetchResponse<'_>,
    version: i16,
) -> Result<Vec<CommittedOffset>, ClientError> {
    let mut found = Vec::new();
    if version >= FETCH_GROUPS {
        let group = response.groups.first().ok_or(MISSING)?;
        check(group.error_code, None)?;
        for topic in &group.topics {
            gather(topic.name, &topic.partitions, &mut found)?;
        }
    } else {
        check(response.error_code, None)?;
        for topic in &response.topics {
            gather(topic.name, &topic.partitions, &mut found)?;
        }
    }
    found.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    Ok(found)
}

fn gather(
    topic: &str,
    partitions: &[OffsetFetchResponsePartition<'_>],
    found: &mut Vec<CommittedOffset>,
) -> Result<(), ClientError> {
    for partition in partitions {
        check(partition.error_code, None)?;
        // -1: none.
        if partition.committed_offset < 0 {
            continue;
        }
        found.push(CommittedOffset {
            topic: topic.to_owned(),
            partition: partition.partition_index,
            offset: partition.committed_offset,
            leader_epoch: Some(partition.committed_leader_epoch).filter(|epoch| *epoch >= 0),
            metadata: partition.metadata.unwrap_or_default().to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sawlog_protocol::ErrorCode;
    use sawlog_protocol::messages::offset_fetch::{
        OffsetFetchResponseGroup, OffsetFetchResponseTopics,
    };

    use super::*;

    fn outcome(code: ErrorCode) -> OffsetOutcome {
        OffsetOutcome { topic: "t".to_owned(), partition: 0, result: check(code, None) }
    }

    #[test]
    fn a_coordinator_that_moved_is_no_outcome() {
        let refused = vec![outcome(ErrorCode::NOT_COORDINATOR)];
        assert_eq!(
            all_or_again(refused).map_err(|e| e.code()),
            Err(Some(ErrorCode::NOT_COORDINATOR))
        );
        let mixed = vec![outcome(ErrorCode::NONE), outcome(ErrorCode::UNKNOWN_MEMBER_ID)];
        assert_eq!(all_or_again(mixed.clone()), Ok(mixed));
    }

    #[test]
    fn partitions_without_an_offset_are_left_out() {
        let partition = |partition_index, committed_offset| OffsetFetchResponsePartition {
            partition_index,
            committed_offset,
            metadata: Some("m"),
            ..Default::default()
        };
        let topic = OffsetFetchResponseTopics {
            name: "t",
            partitions: vec![partition(1, 7), partition(0, -1)],
            ..Default::default()
        };
        let group = OffsetFetchResponseGroup { topics: vec![topic], ..Default::default() };
        let response = OffsetFetchResponse { groups: vec![group], ..Default::default() };
        let found = committed(&response, FETCH_GROUPS).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].partition, found[0].offset, found[0].leader_epoch), (1, 7, None));
        assert_eq!(committed(&OffsetFetchResponse::default(), FETCH_GROUPS), Err(MISSING));
    }
}
