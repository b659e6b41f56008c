//! AlterConfigs: what is given replaces everything set on the resource before. Kept for old
//! clients; IncrementalAlterConfigs loses nothing.

use sawlog_protocol::Rope;
use sawlog_protocol::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse,
};

use super::RequestContext;
use super::admin::{outcome, target};
use crate::controller::{AdminError, AlterConfigs, Alteration, Controller};

/// Replaces settings.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: AlterConfigsRequest<'_>) -> Rope {
    let wanted = request.resources.iter().map(wanted).collect();
    let results = alter(&ctx.node.controller, wanted, request.validate_only).await;
    let outcomes: Vec<_> = results.iter().map(outcome).collect();
    let pairs = request.resources.iter().zip(&outcomes);
    let responses = pairs
        .map(|(resource, (error_code, message))| AlterConfigsResourceResponse {
            error_code: *error_code,
            error_message: message.as_deref(),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
        })
        .collect();
    ctx.reply(&AlterConfigsResponse { responses, ..Default::default() })
}

fn wanted(resource: &AlterConfigsResource<'_>) -> Result<AlterConfigs, AdminError> {
    let target = target(resource.resource_type, resource.resource_name)?;
    let own = |text: &str| text.to_owned();
    let configs = resource.configs.iter();
    let pairs = configs.map(|config| (own(config.name), config.value.map(own))).collect();
    Ok(AlterConfigs { target, change: Alteration::Replace(pairs) })
}

/// Asks for the changes that make sense; the others keep their refusal.
pub(super) async fn alter(
    controller: &Controller,
    wanted: Vec<Result<AlterConfigs, AdminError>>,
    validate_only: bool,
) -> Vec<Result<(), AdminError>> {
    let valid = wanted.iter().filter_map(|one| one.clone().ok()).collect();
    let mut decided = controller.alter_configs(valid, validate_only).await.into_iter();
    let stopped = || Err(AdminError::Storage("the controller has stopped".to_owned()));
    let decide = |one: Result<AlterConfigs, AdminError>| {
        one.and_then(|_| decided.next().unwrap_or_else(stopped))
    };
    wanted.into_iter().map(decide).collect()
}
