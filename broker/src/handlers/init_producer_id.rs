//! InitProducerId: a cluster-wide unique id for an idempotent producer.
//!
//! Ids come in blocks from the metadata log, so that two brokers, or one before and after a crash,
//! never hand out the same. What is left of a block at a restart is never used.

use std::ops::Range;

use sawlog_protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use sawlog_protocol::{ErrorCode, Rope};
use tokio::sync::Mutex;

use super::RequestContext;
use crate::controller::{Controller, ControllerError};

/// The ids at hand.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    // Held across the proposal of a new block: others wait for that block anyway.
    block: Mutex<Range<i64>>,
}

impl ProducerIds {
    async fn next(&self, controller: &Controller) -> Result<i64, ControllerError> {
        let mut block = self.block.lock().await;
        loop {
            if let Some(id) = block.next() {
                return Ok(id);
            }
            *block = controller.allocate_producer_ids().await?;
        }
    }
}

/// Hands out an id with epoch 0. Transactional producers are refused.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: InitProducerIdRequest<'_>) -> Rope {
    let refuse = |error_code| {
        ctx.reply(&InitProducerIdResponse {
            error_code,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        })
    };
    match request.transactional_id {
        Some("") => refuse(ErrorCode::INVALID_REQUEST),
        // Transactions are not served yet: there is no coordinator to find.
        Some(_) => refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        None => match ctx.node.producer_ids.next(&ctx.node.controller).await {
            Ok(producer_id) => ctx.reply(&InitProducerIdResponse {
                producer_id,
                producer_epoch: 0,
                ..Default::default()
            }),
            Err(error) => {
                tracing::error!(%error, "cannot allocate producer ids");
                refuse(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
            }
        },
    }
}
