//! ListConfigResources: what has settings, so that tools can describe all of it.
//!
//! Topics, brokers, groups with settings of their own, and subscriptions to metrics of clients
//! (KIP-714), which version 0 lists alone. There are no settings of broker loggers.

use sawlog_protocol::messages::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::admin::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use crate::metadata::Image;

/// First version with types other than client metrics.
const TYPES: i16 = 1;

/// The types a client may ask for.
const KNOWN: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];

/// Lists resources.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: ListConfigResourcesRequest) -> Rope {
    let image = ctx.node.images.load();
    let broker_ids: Vec<String> = image.brokers().map(|broker| broker.id.to_string()).collect();
    let types = if ctx.version < TYPES { vec![CLIENT_METRICS] } else { request.resource_types };
    ctx.reply(&match list(&image, &broker_ids, &types) {
        Ok(config_resources) => {
            ListConfigResourcesResponse { config_resources, ..Default::default() }
        }
        Err(error_code) => ListConfigResourcesResponse { error_code, ..Default::default() },
    })
}

/// No types are all types.
fn list<'a>(
    image: &'a Image,
    broker_ids: &'a [String],
    types: &[i8],
) -> Result<Vec<ConfigResource<'a>>, ErrorCode> {
    if types.iter().any(|asked| !KNOWN.contains(asked)) {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    let wants = |resource_type| types.is_empty() || types.contains(&resource_type);
    let mut found = Vec::new();
    let mut add = |resource_type, resource_name| {
        found.push(ConfigResource { resource_name, resource_type });
    };
    if wants(GROUP) {
        image.configured_groups().for_each(|group| add(GROUP, group));
    }
    if wants(CLIENT_METRICS) {
        image.client_metrics().keys().for_each(|name| add(CLIENT_METRICS, name));
    }
    if wants(BROKER) {
        broker_ids.iter().for_each(|id| add(BROKER, id));
    }
    if wants(TOPIC) {
        image.topics().for_each(|topic| add(TOPIC, &topic.name));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::sample;

    fn names(types: &[i8]) -> Result<Vec<(i8, String)>, ErrorCode> {
        let image = sample(1, &[], &["t", "a"]);
        let ids = ["1".to_owned()];
        let listed = list(&image, &ids, types)?;
        Ok(listed.iter().map(|it| (it.resource_type, it.resource_name.to_owned())).collect())
    }

    #[test]
    fn no_types_are_all_and_others_are_left_out() {
        let own = |kind: i8, name: &str| (kind, name.to_owned());
        assert_eq!(names(&[]).unwrap(), [own(4, "1"), own(2, "a"), own(2, "t")]);
        assert_eq!(names(&[TOPIC]).unwrap(), [own(2, "a"), own(2, "t")]);
        assert_eq!(names(&[CLIENT_METRICS, BROKER_LOGGER, GROUP]).unwrap(), []);
    }

    #[test]
    fn a_type_nobody_knows_is_refused() {
        assert_eq!(names(&[TOPIC, 3]), Err(ErrorCode::UNSUPPORTED_VERSION));
    }
}
