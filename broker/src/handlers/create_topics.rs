//! CreateTopics: each topic on its own; answered once its partitions can be written to.
//!
//! Differs from the reference: `timeout_ms` is not waited out, there is nothing to wait for.

use std::collections::BTreeSet;

use sawlog_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::admin::outcome;
use crate::base::BrokerId;
use crate::config::{Described, describe_topic};
use crate::controller::{AdminError, CreateTopic, CreatedTopic};
use crate::metadata::Image;

/// Creates topics.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: CreateTopicsRequest<'_>) -> Rope {
    let topics = request.topics.iter().map(wanted).collect();
    let results = ctx.node.controller.create_topics(topics, request.validate_only).await;
    let image = ctx.node.images.load();
    let answers = answers(&request, results, &image);
    ctx.reply(&CreateTopicsResponse {
        topics: answers.iter().map(Answer::encode).collect(),
        ..Default::default()
    })
}

/// What is asked for; -1 is "as the broker likes".
fn wanted(topic: &CreatableTopic<'_>) -> CreateTopic {
    let brokers = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
    CreateTopic {
        name: topic.name.to_owned(),
        partitions: Some(topic.num_partitions).filter(|count| *count != -1),
        replication_factor: Some(topic.replication_factor).filter(|factor| *factor != -1),
        assignments: topic
            .assignments
            .iter()
            .map(|assignment| (assignment.partition_index, brokers(&assignment.broker_ids)))
            .collect(),
        configs: topic
            .configs
            .iter()
            .map(|config| (config.name.to_owned(), config.value.map(str::to_owned)))
            .collect(),
        is_internal: false,
    }
}

/// What became of one topic, holding the text its reply borrows.
#[derive(Debug)]
struct Answer<'a> {
    name: &'a str,
    error_code: ErrorCode,
    message: Option<String>,
    created: Option<(CreatedTopic, Vec<Described>)>,
}

/// One answer per name: a name given twice is refused once.
fn answers<'a>(
    request: &CreateTopicsRequest<'a>,
    results: Vec<Result<CreatedTopic, AdminError>>,
    image: &Image,
) -> Vec<Answer<'a>> {
    let mut named = BTreeSet::new();
    let pairs = request.topics.iter().zip(results);
    pairs
        .filter(|(topic, _)| named.insert(topic.name))
        .map(|(topic, result)| {
            let (error_code, message) = outcome(&result);
            let created = result.ok().map(|created| {
                let replicas = usize::try_from(created.replication_factor).unwrap_or(1);
                let settings = describe_topic(&created.configs, image.config(), replicas);
                (created, settings)
            });
            Answer { name: topic.name, error_code, message, created }
        })
        .collect()
}

impl Answer<'_> {
    fn encode(&self) -> CreatableTopicResult<'_> {
        let refused = CreatableTopicResult {
            name: self.name,
            error_code: self.error_code,
            error_message: self.message.as_deref(),
            ..Default::default()
        };
        let Some((created, settings)) = &self.created else {
            return refused;
        };
        CreatableTopicResult {
            topic_id: created.id,
            num_partitions: created.partitions,
            replication_factor: created.replication_factor,
            configs: Some(settings.iter().map(encode_setting).collect()),
            ..refused
        }
    }
}

fn encode_setting(setting: &Described) -> CreatableTopicConfigs<'_> {
    CreatableTopicConfigs {
        name: setting.name,
        value: setting.value.as_deref(),
        read_only: setting.read_only,
        config_source: setting.source.code(),
        is_sensitive: setting.sensitive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::sample;

    #[test]
    fn minus_one_leaves_the_choice_to_the_broker() {
        let topic = CreatableTopic {
            name: "t",
            num_partitions: -1,
            replication_factor: -1,
            ..Default::default()
        };
        let asked = wanted(&topic);
        assert_eq!((asked.partitions, asked.replication_factor), (None, None));
        let topic = CreatableTopic { num_partitions: 0, replication_factor: -2, ..topic };
        let asked = wanted(&topic);
        assert_eq!(
            (asked.partitions, asked.replication_factor),
            (Some(0), Some(-2)),
            "to be refused"
        );
    }

    #[test]
    fn created_topics_answer_with_id_counts_and_settings_in_force() {
        let image = sample(1, &[], &["t"]);
        let topics = vec![
            CreatableTopic { name: "t", ..Default::default() },
            CreatableTopic { name: "u", ..Default::default() },
            CreatableTopic { name: "u", ..Default::default() },
        ];
        let request = CreateTopicsRequest { topics, ..Default::default() };
        let id = image.topic("t").unwrap().id;
        let created = CreatedTopic {
            name: "t".to_owned(),
            id,
            partitions: 3,
            replication_factor: 1,
            configs: [("retention.ms".to_owned(), "5".to_owned())].into(),
        };
        let twice = || Err(AdminError::DuplicateTopic("u".to_owned()));
        let answers = answers(&request, vec![Ok(created), twice(), twice()], &image);
        assert_eq!(answers.len(), 2, "a name given twice is answered once");
        let first = answers[0].encode();
        assert_eq!((first.topic_id, first.num_partitions, first.replication_factor), (id, 3, 1));
        let settings = first.configs.unwrap();
        let retention = settings.iter().find(|s| s.name == "retention.ms").unwrap();
        assert_eq!((retention.value, retention.config_source), (Some("5"), 1));
        let policy = settings.iter().find(|s| s.name == "cleanup.policy").unwrap();
        assert_eq!((policy.value, policy.config_source), (Some("delete"), 5));
        let second = answers[1].encode();
        assert_eq!(second.error_code, ErrorCode::INVALID_REQUEST);
        assert_eq!(
            second.error_message,
            Some("topic \"u\" is named more than once in the request")
        );
        assert_eq!(second.num_partitions, -1);
    }
}
