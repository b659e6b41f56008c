//! DescribeQuorum: who agrees on the metadata, and how far each is.
//!
//! Every broker answers, with what the leader knows. The one partition is `__cluster_metadata` 0, as
//! with Kafka; there is no topic of that name here. Offsets are ends: one more than the last entry.

use sawlog_protocol::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, PartitionResponse, ReplicaState,
    TopicResponse,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::admin::code;
use crate::metadata::{Image, MetadataOffset};
use crate::quorum::{QuorumReplica, QuorumStatus};

/// What Kafka calls the metadata log.
const TOPIC: &str = "__cluster_metadata";

/// Describes the quorum.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: DescribeQuorumRequest<'_>) -> Rope {
    match ctx.node.controller.describe_quorum().await {
        Ok(status) => {
            let image = ctx.node.images.load();
            let now = ctx.node.clock.now().0;
            ctx.reply(&respond(&request, &status, &image, now))
        }
        Err(error) => {
            let message = error.to_string();
            ctx.reply(&DescribeQuorumResponse {
                error_code: code(&error),
                error_message: Some(&message),
                ..Default::default()
            })
        }
    }
}

fn respond<'a>(
    request: &DescribeQuorumRequest<'a>,
    status: &QuorumStatus,
    image: &'a Image,
    now: i64,
) -> DescribeQuorumResponse<'a> {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let index = asked.partition_index;
            if topic.topic_name == TOPIC && index == 0 {
                return describe(status, now);
            }
            PartitionResponse {
                partition_index: index,
                error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                leader_id: -1,
                ..Default::default()
            }
        });
        TopicResponse { topic_name: topic.topic_name, partitions: partitions.collect() }
    });
    let is_voter = |id: i32| status.replicas.iter().any(|it| it.is_voter && it.broker.0 == id);
    let nodes = image.brokers().filter(|broker| is_voter(broker.id.0)).map(|broker| Node {
        node_id: broker.id.0,
        listeners: broker
            .peer
            .iter()
            .map(|peer| Listener { name: &peer.name, host: &peer.host, port: peer.port })
            .collect(),
    });
    DescribeQuorumResponse {
        topics: topics.collect(),
        nodes: nodes.collect(),
        ..Default::default()
    }
}

fn describe<'a>(status: &QuorumStatus, now: i64) -> PartitionResponse<'a> {
    let of = |is_voter| {
        let chosen = status.replicas.iter().filter(move |it| it.is_voter == is_voter);
        chosen.map(|replica| state(replica, status, now)).collect()
    };
    PartitionResponse {
        leader_id: status.leader.map_or(-1, |leader| leader.0),
        leader_epoch: i32::try_from(status.term).unwrap_or(i32::MAX),
        high_watermark: end(status.committed),
        current_voters: of(true),
        observers: of(false),
        ..Default::default()
    }
}

fn state(replica: &QuorumReplica, status: &QuorumStatus, now: i64) -> ReplicaState {
    let is_leader = status.leader == Some(replica.broker);
    let heard_of = replica.heard_of.map(|ago| {
        let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        now.saturating_sub(ago)
    });
    // Who has all that is agreed on has it as of when it was heard of.
    let has_all = replica.last.is_some_and(|last| last >= status.committed);
    let caught_up = if is_leader { Some(now) } else { heard_of.filter(|_| has_all) };
    ReplicaState {
        replica_id: replica.broker.0,
        replica_directory_id: replica.directory,
        log_end_offset: replica.last.map_or(-1, end),
        last_fetch_timestamp: heard_of.filter(|_| !is_leader).unwrap_or(-1),
        last_caught_up_timestamp: caught_up.unwrap_or(-1),
    }
}

fn end(last: MetadataOffset) -> i64 {
    last.next().0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sawlog_protocol::Uuid;
    use sawlog_protocol::messages::describe_quorum::{PartitionRequest, TopicRequest};

    use super::*;
    use crate::base::BrokerId;
    use crate::controller::tests::sample;

    fn replica(broker: i32, is_voter: bool, last: Option<i64>, ago: Option<u64>) -> QuorumReplica {
        QuorumReplica {
            broker: BrokerId(broker),
            directory: Uuid([1; 16]),
            is_voter,
            last: last.map(MetadataOffset),
            heard_of: ago.map(Duration::from_millis),
        }
    }

    #[test]
    fn voters_and_observers_are_as_far_as_the_leader_knows() {
        let image = sample(3, &[], &[]);
        let status = QuorumStatus {
            leader: Some(BrokerId(1)),
            term: 4,
            committed: MetadataOffset(9),
            replicas: vec![
                replica(1, true, Some(9), None),
                replica(2, true, Some(9), Some(30)),
                replica(3, false, Some(7), Some(50)),
                replica(4, false, None, None),
            ],
        };
        let partitions = [0, 1].map(|partition_index| PartitionRequest { partition_index });
        let topic = |topic_name| TopicRequest { topic_name, partitions: partitions.to_vec() };
        let request = DescribeQuorumRequest { topics: vec![topic(TOPIC), topic("other")] };
        let response = respond(&request, &status, &image, 1000);
        let codes: Vec<_> = response
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|it| it.error_code.0))
            .collect();
        assert_eq!(codes, [0, 3, 3, 3]);
        let found = &response.topics[0].partitions[0];
        assert_eq!((found.leader_id, found.leader_epoch, found.high_watermark), (1, 4, 10));
        let shown = |all: &[ReplicaState]| {
            let one = |it: &ReplicaState| {
                let times = (it.last_fetch_timestamp, it.last_caught_up_timestamp);
                (it.replica_id, it.log_end_offset, times)
            };
            all.iter().map(one).collect::<Vec<_>>()
        };
        let voters = shown(&found.current_voters);
        assert_eq!(voters, [(1, 10, (-1, 1000)), (2, 10, (970, 970))]);
        assert_eq!(shown(&found.observers), [(3, 8, (950, -1)), (4, -1, (-1, -1))]);
        assert_eq!(response.nodes.iter().map(|node| node.node_id).collect::<Vec<_>>(), [1, 2]);
    }
}
