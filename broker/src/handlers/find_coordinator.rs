//! FindCoordinator: consumer groups and transactions are not served yet.
//!
//! Every key is answered with COORDINATOR_NOT_AVAILABLE and a sentence. Clients that look a
//! coordinator up on the side (librdkafka with a `group.id` it does not use) take it as "not now"
//! and go on.

use sawlog_protocol::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;

/// First version that takes several keys (KIP-699).
const BATCHED_VERSION_MIN: i16 = 4;

const MESSAGE: &str = "consumer groups and transactions are not served by this version of Sawlog; \
                       assign partitions instead";

/// Answers every key alike.
pub(crate) fn handle(ctx: &RequestContext<'_>, request: FindCoordinatorRequest<'_>) -> Rope {
    let known_type = matches!(request.key_type, 0 | 1);
    let error_code =
        if known_type { ErrorCode::COORDINATOR_NOT_AVAILABLE } else { ErrorCode::INVALID_REQUEST };
    if ctx.version < BATCHED_VERSION_MIN {
        return ctx.reply(&FindCoordinatorResponse {
            error_code,
            error_message: Some(MESSAGE),
            node_id: -1,
            port: -1,
            ..Default::default()
        });
    }
    let coordinators = request
        .coordinator_keys
        .iter()
        .map(|key| Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code,
            error_message: Some(MESSAGE),
            ..Default::default()
        })
        .collect();
    ctx.reply(&FindCoordinatorResponse { coordinators, ..Default::default() })
}
