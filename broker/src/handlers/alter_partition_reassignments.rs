//! AlterPartitionReassignments: replicas are to move, or a move is taken back.
//!
//! Answered once the move has begun; ListPartitionReassignments says whether it is done.

use sawlog_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use sawlog_protocol::{ErrorCode, Rope};
use tracing::info;

use super::RequestContext;
use super::admin::outcome;
use crate::base::BrokerId;
use crate::controller::Reassignment;

/// Moves replicas.
pub(crate) async fn handle(
    ctx: &RequestContext<'_>,
    request: AlterPartitionReassignmentsRequest<'_>,
) -> Rope {
    let partitions = wanted(&request);
    let may_change_factor = request.allow_replication_factor_change;
    let results =
        ctx.node.controller.alter_reassignments(partitions.clone(), may_change_factor).await;
    for (asked, result) in partitions.iter().zip(&results) {
        let replicas: Option<Vec<i32>> =
            asked.replicas.as_ref().map(|ids| ids.iter().map(|id| id.0).collect());
        if result.is_ok() {
            info!(topic = asked.topic, partition = asked.index, ?replicas, "reassignment");
        }
    }
    let outcomes: Vec<_> = results.iter().map(outcome).collect();
    ctx.reply(&respond(&request, &outcomes))
}

fn wanted(request: &AlterPartitionReassignmentsRequest<'_>) -> Vec<Reassignment> {
    let mut partitions = Vec::new();
    for topic in &request.topics {
        partitions.extend(topic.partitions.iter().map(|partition| Reassignment {
            topic: topic.name.to_owned(),
            index: partition.partition_index,
            replicas:
                partition.replicas.as_ref().map(|ids| ids.iter().copied().map(BrokerId).collect()),
        }));
    }
    partitions
}

fn respond<'a>(
    request: &AlterPartitionReassignmentsRequest<'a>,
    outcomes: &'a [(ErrorCode, Option<String>)],
) -> AlterPartitionReassignmentsResponse<'a> {
    let mut outcomes = outcomes.iter();
    let mut responses = Vec::new();
    for topic in &request.topics {
        let answers = topic.partitions.iter().zip(outcomes.by_ref());
        let partitions =
            answers.map(|(asked, (error_code, message))| ReassignablePartitionResponse {
                partition_index: asked.partition_index,
                error_code: *error_code,
                error_message: message.as_deref(),
            });
        let partitions = partitions.collect();
        responses.push(ReassignableTopicResponse { name: topic.name, partitions });
    }
    AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        responses,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use sawlog_protocol::messages::alter_partition_reassignments::{
        ReassignablePartition, ReassignableTopic,
    };

    use super::*;

    #[test]
    fn answers_stand_where_the_partitions_stood() {
        let topic = |name, indexes: &[i32]| ReassignableTopic {
            name,
            partitions: indexes
                .iter()
                .map(|index| ReassignablePartition {
                    partition_index: *index,
                    replicas: (*index > 0).then(|| vec![*index, 9]),
                })
                .collect(),
        };
        let request = AlterPartitionReassignmentsRequest {
            topics: vec![topic("a", &[0, 1]), topic("b", &[2])],
            ..Default::default()
        };
        let asked = wanted(&request);
        assert_eq!(asked[0].replicas, None, "taken back");
        assert_eq!((&*asked[2].topic, asked[2].index), ("b", 2));
        assert_eq!(asked[2].replicas, Some(vec![BrokerId(2), BrokerId(9)]));
        let outcomes = [
            (ErrorCode::NO_REASSIGNMENT_IN_PROGRESS, Some("none".to_owned())),
            (ErrorCode::NONE, None),
            (ErrorCode::INVALID_REPLICA_ASSIGNMENT, Some("no".to_owned())),
        ];
        let response = respond(&request, &outcomes);
        let codes: Vec<_> = response
            .responses
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|it| (topic.name, it.error_code)))
            .collect();
        let expected = [("a", outcomes[0].0), ("a", outcomes[1].0), ("b", outcomes[2].0)];
        assert_eq!(codes, expected);
    }
}
