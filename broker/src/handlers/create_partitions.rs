//! CreatePartitions: each topic on its own; a topic only grows.

use std::collections::BTreeSet;

use sawlog_protocol::Rope;
use sawlog_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};

use super::RequestContext;
use super::admin::outcome;
use crate::base::BrokerId;
use crate::controller::CreatePartitions;

/// Adds partitions.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: CreatePartitionsRequest<'_>) -> Rope {
    let topics = request.topics.iter().map(wanted).collect();
    let results = ctx.node.controller.create_partitions(topics, request.validate_only).await;
    let outcomes: Vec<_> = results.iter().map(outcome).collect();
    // A name given twice is answered once, with the outcome of its first mention.
    let mut named = BTreeSet::new();
    let pairs = request.topics.iter().zip(&outcomes);
    let results = pairs
        .filter(|(topic, _)| named.insert(topic.name))
        .map(|(topic, (error_code, message))| CreatePartitionsTopicResult {
            name: topic.name,
            error_code: *error_code,
            error_message: message.as_deref(),
        })
        .collect();
    ctx.reply(&CreatePartitionsResponse { results, ..Default::default() })
}

fn wanted(topic: &CreatePartitionsTopic<'_>) -> CreatePartitions {
    let brokers = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
    CreatePartitions {
        name: topic.name.to_owned(),
        count: topic.count,
        assignments: topic
            .assignments
            .as_ref()
            .map(|all| all.iter().map(|assignment| brokers(&assignment.broker_ids)).collect()),
    }
}
