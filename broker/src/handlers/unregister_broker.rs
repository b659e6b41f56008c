//! UnregisterBroker: a broker that will not come back is forgotten.
//!
//! Differs from the reference: one that runs is refused, it would only register again.

use sawlog_protocol::Rope;
use sawlog_protocol::messages::unregister_broker::{
    UnregisterBrokerRequest, UnregisterBrokerResponse,
};

use super::RequestContext;
use super::admin::outcome;
use crate::base::BrokerId;

/// Forgets a broker.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: UnregisterBrokerRequest) -> Rope {
    let broker = BrokerId(request.broker_id);
    let result = ctx.node.controller.unregister_broker(broker).await;
    if result.is_ok() {
        tracing::info!(broker = broker.0, "broker forgotten on request");
    }
    let (error_code, message) = outcome(&result);
    let error_message = message.as_deref();
    ctx.reply(&UnregisterBrokerResponse { error_code, error_message, ..Default::default() })
}
