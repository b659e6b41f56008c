//! The quorum that agrees on the cluster's metadata.

use sawlog_protocol::messages::describe_quorum::{
    DescribeQuorumRequest, PartitionRequest, ReplicaState, TopicRequest,
};
use sawlog_protocol::{Uuid, decode_response};

use super::MISSING;
use crate::cluster::Client;
use crate::error::{ClientError, check};

/// The log the metadata is in, as the protocol calls it.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// Who agrees on the metadata, and how far each is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumInfo {
    /// The node that leads, -1 while none does.
    pub leader: i32,
    /// Counts its leaders.
    pub epoch: i32,
    /// Entries up to here are agreed on.
    pub high_watermark: i64,
    /// Voters and observers, by node.
    pub replicas: Vec<QuorumReplica>,
    /// Where the voters are for the other brokers, each as `host:port`; none where that is not told.
    pub peers: Vec<String>,
}

/// A copy of the metadata log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumReplica {
    /// The node.
    pub node: i32,
    /// The identity of its disk, zero where not told.
    pub directory: Uuid,
    /// Whether it votes; the others only listen.
    pub is_voter: bool,
    /// Where its log ends, -1 where that is not known.
    pub log_end: i64,
    /// When the leader heard of it last, in milliseconds since the Unix epoch; `None` for the leader
    /// itself, and where that is not known.
    pub heard_of_at: Option<i64>,
    /// When it last had all the leader had.
    pub caught_up_at: Option<i64>,
}

impl Client {
    /// The quorum of the cluster's metadata.
    ///
    /// # Errors
    /// It has no leader now, or no broker answers.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// let quorum = client.describe_quorum().await?;
    /// println!("{} leads {} voters", quorum.leader, quorum.replicas.iter().filter(|one| one.is_voter).count());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn describe_quorum(&self) -> Result<QuorumInfo, ClientError> {
        let request = DescribeQuorumRequest {
            topics: vec![TopicRequest {
                topic_name: METADATA_TOPIC,
                partitions: vec![PartitionRequest { partition_index: 0 }],
            }],
        };
        let reply = self.ask_controller(&request).await?;
        let (_, response) =
            decode_response::<DescribeQuorumRequest<'_>>(&reply.frame, reply.version)?;
        check(response.error_code, response.error_message)?;
        let found = response.topics.first().and_then(|topic| topic.partitions.first());
        let found = found.ok_or(MISSING)?;
        check(found.error_code, found.error_message)?;
        let voters = found.current_voters.iter().map(|state| replica(state, true));
        let observers = found.observers.iter().map(|state| replica(state, false));
        let mut replicas: Vec<QuorumReplica> = voters.chain(observers).collect();
        replicas.sort_by_key(|replica| replica.node);
        let listeners = response.nodes.iter().filter_map(|node| node.listeners.first());
        let peers = listeners.map(|at| format!("{}:{}", at.host, at.port)).collect();
        Ok(QuorumInfo {
            leader: found.leader_id,
            epoch: found.leader_epoch,
            high_watermark: found.high_watermark,
            replicas,
            peers,
        })
    }
}

fn replica(state: &ReplicaState, is_voter: bool) -> QuorumReplica {
    let time = |millis: i64| Some(millis).filter(|millis| *millis >= 0);
    QuorumReplica {
        node: state.replica_id,
        directory: state.replica_directory_id,
        is_voter,
        log_end: state.log_end_offset,
        heard_of_at: time(state.last_fetch_timestamp),
        caught_up_at: time(state.last_caught_up_timestamp),
    }
}
