//! ElectLeaders: the preferred replica is to lead again, or anybody where nobody eligible runs.
//!
//! Decided by the controller at once, so the request's timeout has no part in it. Of all partitions,
//! those are answered where something was to be done.

use sawlog_protocol::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};
use sawlog_protocol::{ErrorCode, Rope};
use tracing::{info, warn};

use super::RequestContext;
use super::admin::{code, outcome};
use crate::controller::ElectedLeader;
use crate::controller::replicas::Election;

/// Elects leaders.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: ElectLeadersRequest<'_>) -> Rope {
    let election = match request.election_type {
        0 => Election::Preferred,
        1 => Election::Unclean,
        _ => {
            let error_code = ErrorCode::INVALID_REQUEST;
            return ctx.reply(&ElectLeadersResponse { error_code, ..Default::default() });
        }
    };
    let named = request.topic_partitions.as_ref().map(|topics| {
        let of = |topic: &str, indexes: &[i32]| {
            indexes.iter().map(|index| (topic.to_owned(), *index)).collect::<Vec<_>>()
        };
        topics.iter().flat_map(|topic| of(topic.topic, &topic.partitions)).collect::<Vec<_>>()
    });
    match ctx.node.controller.elect_leaders(election, named).await {
        Ok(results) => {
            results.iter().for_each(log);
            let answers = Answers::of(results);
            ctx.reply(&respond(&answers))
        }
        Err(error) => {
            let error_code = code(&error);
            ctx.reply(&ElectLeadersResponse { error_code, ..Default::default() })
        }
    }
}

fn log(elected: &ElectedLeader) {
    let Ok(result) = &elected.result else { return };
    let (topic, partition, leader) = (&elected.topic, elected.index, result.leader.0);
    if result.is_unclean {
        warn!(topic, partition, leader, "unclean election: what only other replicas had is lost");
    } else {
        info!(topic, partition, leader, "leader elected on request");
    }
}

/// Partition, and what became of it.
type Answer = (i32, ErrorCode, Option<String>);

/// What became of each partition, by topic.
struct Answers {
    topics: Vec<(String, Vec<Answer>)>,
}

impl Answers {
    fn of(results: Vec<ElectedLeader>) -> Self {
        let mut topics: Vec<(String, Vec<Answer>)> = Vec::new();
        for elected in results {
            let (error_code, message) = outcome(&elected.result);
            let answer = (elected.index, error_code, message);
            match topics.last_mut().filter(|(topic, _)| *topic == elected.topic) {
                Some((_, partitions)) => partitions.push(answer),
                None => topics.push((elected.topic, vec![answer])),
            }
        }
        Self { topics }
    }
}

fn respond(answers: &Answers) -> ElectLeadersResponse<'_> {
    let topics = answers.topics.iter().map(|(topic, partitions)| ReplicaElectionResult {
        topic,
        partition_result: partitions
            .iter()
            .map(|(partition_id, error_code, message)| PartitionResult {
                partition_id: *partition_id,
                error_code: *error_code,
                error_message: message.as_deref(),
            })
            .collect(),
    });
    ElectLeadersResponse { replica_election_results: topics.collect(), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::BrokerId;
    use crate::controller::AdminError;
    use crate::controller::replicas::Elected;

    #[test]
    fn each_partition_is_answered_below_its_topic() {
        let won = Ok(Elected { leader: BrokerId(2), is_unclean: false });
        let lost = Err(AdminError::PreferredNotAvailable("why".to_owned()));
        let one = |topic: &str, index, result: &Result<Elected, AdminError>| ElectedLeader {
            topic: topic.to_owned(),
            index,
            result: result.clone(),
        };
        let answers = Answers::of(vec![one("a", 0, &won), one("a", 1, &lost), one("b", 0, &won)]);
        let response = respond(&answers);
        let shown: Vec<_> = response
            .replica_election_results
            .iter()
            .flat_map(|topic| {
                topic
                    .partition_result
                    .iter()
                    .map(|it| (topic.topic, it.partition_id, it.error_code, it.error_message))
            })
            .collect();
        let unavailable = ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE;
        assert_eq!(
            shown,
            [
                ("a", 0, ErrorCode::NONE, None),
                ("a", 1, unavailable, Some("why")),
                ("b", 0, ErrorCode::NONE, None),
            ]
        );
        assert_eq!(response.replica_election_results.len(), 2);
    }
}
