//! IncrementalAlterConfigs: what is named changes, the rest stays.

use sawlog_protocol::Rope;
use sawlog_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

use super::RequestContext;
use super::admin::{outcome, target};
use super::alter_configs::alter;
use crate::controller::{AdminError, AlterConfigs, Alteration, ConfigChange, ConfigOperation};

/// Changes settings.
pub(crate) async fn handle(
    ctx: &RequestContext<'_>,
    request: IncrementalAlterConfigsRequest<'_>,
) -> Rope {
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
    ctx.reply(&IncrementalAlterConfigsResponse { responses, ..Default::default() })
}

fn wanted(resource: &AlterConfigsResource<'_>) -> Result<AlterConfigs, AdminError> {
    let target = target(resource.resource_type, resource.resource_name)?;
    let changes: Result<_, _> = resource.configs.iter().map(change).collect();
    Ok(AlterConfigs { target, change: Alteration::Incremental(changes?) })
}

fn change(config: &AlterableConfig<'_>) -> Result<ConfigChange, AdminError> {
    let operation = match config.config_operation {
        0 => ConfigOperation::Set,
        1 => ConfigOperation::Delete,
        2 => ConfigOperation::Append,
        3 => ConfigOperation::Subtract,
        other => {
            return Err(AdminError::InvalidRequest(format!(
                "operation {other} is not one: 0 sets, 1 deletes, 2 appends, 3 subtracts"
            )));
        }
    };
    let value = config.value.map(str::to_owned);
    Ok(ConfigChange { name: config.name.to_owned(), operation, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_numbered_as_in_kafka() {
        let of = |config_operation| {
            change(&AlterableConfig { name: "n", config_operation, value: None })
                .map(|c| c.operation)
        };
        assert_eq!(of(0), Ok(ConfigOperation::Set));
        assert_eq!(of(1), Ok(ConfigOperation::Delete));
        assert_eq!(of(2), Ok(ConfigOperation::Append));
        assert_eq!(of(3), Ok(ConfigOperation::Subtract));
        assert!(of(4).is_err() && of(-1).is_err());
    }
}
