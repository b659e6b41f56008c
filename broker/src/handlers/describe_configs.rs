//! DescribeConfigs: settings of topics, of groups, of client metrics and of this broker, with where they come from.

use sawlog_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::admin::{code, target};
use crate::config::{
    Described, Overrides, describe_broker, describe_client_metrics, describe_cluster_defaults,
    describe_group, describe_topic,
};
use crate::controller::{
    AdminError, ConfigTarget, check_group_name, check_name, check_subscription_name,
};
use crate::metadata::Image;

/// Describes settings.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: DescribeConfigsRequest<'_>) -> Rope {
    let image = ctx.node.images.load();
    let found: Vec<_> = request.resources.iter().map(|resource| find(resource, &image)).collect();
    let answers: Vec<_> =
        found.into_iter().map(|found| found.map_err(|e| (code(&e), e.to_string()))).collect();
    let pairs = request.resources.iter().zip(&answers);
    let results = pairs.map(|(resource, answer)| encode(&request, resource, answer)).collect();
    ctx.reply(&DescribeConfigsResponse { results, ..Default::default() })
}

/// The settings of one resource that were asked for; no names is all of them.
fn find(
    resource: &DescribeConfigsResource<'_>,
    image: &Image,
) -> Result<Vec<Described>, AdminError> {
    let mut all = match target(resource.resource_type, resource.resource_name)? {
        ConfigTarget::Topic(name) => {
            check_name(&name).or_else(|error| image.topic(&name).map(|_| ()).ok_or(error))?;
            let topic = image.topic(&name).ok_or(AdminError::UnknownTopic(name))?;
            let replicas = topic.partitions.first().map_or(1, |one| one.replicas.len());
            describe_topic(&topic.configs, image.config(), replicas)
        }
        ConfigTarget::Cluster => describe_cluster_defaults(image.config()),
        ConfigTarget::Group(group) => {
            check_group_name(&group)?;
            let none = Overrides::new();
            describe_group(image.group_overrides(&group).unwrap_or(&none), image.config())
        }
        ConfigTarget::ClientMetrics(name) => {
            check_subscription_name(&name)?;
            let none = Overrides::new();
            describe_client_metrics(image.client_metrics().get(name.as_str()).unwrap_or(&none))
        }
        ConfigTarget::Broker(id) if id.0 == image.config().node_id => {
            describe_broker(image.config())
        }
        ConfigTarget::Broker(id) => {
            return Err(AdminError::InvalidRequest(format!(
                "broker {id} must be asked itself; this is broker {}",
                image.config().node_id
            )));
        }
    };
    if let Some(keys) = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty()) {
        all.retain(|setting| keys.contains(&setting.name));
    }
    Ok(all)
}

fn encode<'a>(
    request: &DescribeConfigsRequest<'_>,
    resource: &DescribeConfigsResource<'a>,
    answer: &'a Result<Vec<Described>, (ErrorCode, String)>,
) -> DescribeConfigsResult<'a> {
    let (error_code, error_message, settings) = match answer {
        Ok(settings) => (ErrorCode::NONE, None, settings.as_slice()),
        Err((error_code, message)) => (*error_code, Some(message.as_str()), [].as_slice()),
    };
    DescribeConfigsResult {
        error_code,
        error_message,
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        configs: settings.iter().map(|setting| encode_setting(request, setting)).collect(),
    }
}

fn encode_setting<'a>(
    request: &DescribeConfigsRequest<'_>,
    setting: &'a Described,
) -> DescribeConfigsResourceResult<'a> {
    let synonyms = setting.synonyms.iter().filter(|_| request.include_synonyms);
    DescribeConfigsResourceResult {
        name: setting.name,
        value: setting.value.as_deref(),
        read_only: setting.read_only,
        config_source: setting.source.code(),
        is_sensitive: setting.sensitive,
        synonyms: synonyms
            .map(|synonym| DescribeConfigsSynonym {
                name: synonym.name,
                value: synonym.value.as_deref(),
                source: synonym.source.code(),
            })
            .collect(),
        config_type: setting.kind.code(),
        documentation: Some(setting.documentation).filter(|_| request.include_documentation),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::sample;

    fn resource<'a>(
        resource_type: i8,
        name: &'a str,
        keys: Option<Vec<&'a str>>,
    ) -> DescribeConfigsResource<'a> {
        DescribeConfigsResource { resource_type, resource_name: name, configuration_keys: keys }
    }

    fn names(
        resource: &DescribeConfigsResource<'_>,
        image: &Image,
    ) -> Result<Vec<&'static str>, ErrorCode> {
        let found = find(resource, image).map_err(|error| code(&error))?;
        Ok(found.iter().map(|setting| setting.name).collect())
    }

    #[test]
    fn no_names_is_all_settings_and_unknown_names_are_passed_over() {
        let image = sample(1, &[], &["t"]);
        let all = names(&resource(2, "t", None), &image).unwrap();
        assert!(all.len() > 10);
        assert_eq!(names(&resource(2, "t", Some(vec![])), &image).unwrap(), all);
        let some = resource(2, "t", Some(vec!["retention.ms", "no.such.setting"]));
        assert_eq!(names(&some, &image), Ok(vec!["retention.ms"]));
        assert!(names(&resource(4, "1", None), &image).unwrap().contains(&"node.id"));
        assert_eq!(names(&resource(4, "", None), &image), Ok(vec![]));
    }

    #[test]
    fn what_cannot_be_described_says_why() {
        let image = sample(1, &[], &["t"]);
        let of = |kind, name| names(&resource(kind, name, None), &image).unwrap_err();
        assert_eq!(of(2, "unknown"), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(of(2, "not a name"), ErrorCode::INVALID_TOPIC_EXCEPTION);
        assert_eq!(of(32, ""), ErrorCode::INVALID_REQUEST);
        assert_eq!(of(4, "2"), ErrorCode::INVALID_REQUEST);
        assert_eq!(of(4, "one"), ErrorCode::INVALID_REQUEST);
        assert_eq!(of(8, "1"), ErrorCode::INVALID_REQUEST);
    }

    #[test]
    fn synonyms_and_documentation_come_only_when_asked_for() {
        let image = sample(1, &[], &["t"]);
        let resource = resource(2, "t", Some(vec!["segment.bytes"]));
        let answer = Ok(find(&resource, &image).unwrap());
        let bare = encode(&DescribeConfigsRequest::default(), &resource, &answer);
        assert!(bare.configs[0].synonyms.is_empty());
        assert_eq!(bare.configs[0].documentation, None);
        let asking = DescribeConfigsRequest {
            include_synonyms: true,
            include_documentation: true,
            ..Default::default()
        };
        let full = encode(&asking, &resource, &answer);
        let setting = &full.configs[0];
        assert_eq!(
            (setting.value, setting.config_source, setting.config_type),
            (Some("1073741824"), 5, 3)
        );
        assert_eq!(setting.synonyms[0].name, "log.segment.bytes");
        assert!(setting.documentation.is_some());
    }
}
