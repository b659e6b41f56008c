//! FindCoordinator: which broker coordinates a group.
//!
//! The leader of the partition of `__consumer_offsets` a group's id hashes to does. The topic is made
//! when the first group is asked for. Transactions are not served yet: their keys are answered with
//! COORDINATOR_NOT_AVAILABLE and a sentence.

use std::collections::BTreeSet;

use sawlog_protocol::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::admin::View;
use super::groups::code;
use crate::base::BrokerId;
use crate::coordinator::{GROUPS_TOPIC, GroupId};
use crate::metadata::Image;

/// First version that takes several keys (KIP-699).
const BATCHED_VERSION_MIN: i16 = 4;

/// `key_type` of groups.
const GROUP: i8 = 0;
/// `key_type` of transactions.
const TRANSACTION: i8 = 1;

const NO_TRANSACTIONS: &str = "transactions are not served by this version of Sawlog";
const NOT_YET: &str = "the group's coordinator is not available yet";

/// Answers each key on its own.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: FindCoordinatorRequest<'_>) -> Rope {
    let made = match request.key_type {
        GROUP => ctx.node.groups.ensure_topic(&ctx.node.controller).await.map_err(code),
        TRANSACTION => Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        _ => Err(ErrorCode::INVALID_REQUEST),
    };
    let node = ctx.node;
    let is_led_by = |image: &Image, brokers: &BTreeSet<BrokerId>| {
        // Any of them will do: it is rare, and over soon.
        image.topic(GROUPS_TOPIC).is_some_and(|topic| topic.is_led_by(brokers))
    };
    let image =
        node.departing.settled(|| node.controller.watch(), node.images.load(), is_led_by).await;
    let find = |key| find(ctx, &image, request.key_type, made, key);
    if ctx.version >= BATCHED_VERSION_MIN {
        let coordinators = request.coordinator_keys.iter().map(|key| find(key)).collect();
        return ctx.reply(&FindCoordinatorResponse { coordinators, ..Default::default() });
    }
    let found = find(request.key);
    ctx.reply(&FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..Default::default()
    })
}

fn find<'a>(
    ctx: &RequestContext<'a>,
    image: &'a Image,
    key_type: i8,
    made: Result<(), ErrorCode>,
    key: &'a str,
) -> Coordinator<'a> {
    let refused = |error_code, message| Coordinator {
        key,
        node_id: -1,
        port: -1,
        error_code,
        error_message: Some(message),
        ..Default::default()
    };
    let message = if key_type == TRANSACTION { NO_TRANSACTIONS } else { NOT_YET };
    if let Err(error_code) = made {
        return refused(error_code, message);
    }
    let groups = &ctx.node.groups;
    let leader = groups
        .partition_of(&GroupId::from(key))
        .and_then(|index| Some((index, image.topic(GROUPS_TOPIC)?.partition(index)?.leader?)))
        // This broker may lead a partition whose directory is offline.
        .filter(|(index, leader)| leader.0 != image.config().node_id || groups.leads(*index))
        .and_then(|(_, leader)| image.broker(leader));
    let Some(broker) = leader else {
        return refused(ErrorCode::COORDINATOR_NOT_AVAILABLE, message);
    };
    let view = View { image, host: ctx.host, port: ctx.port };
    let (host, port) = view.address(broker);
    Coordinator { key, node_id: broker.id.0, host, port, ..Default::default() }
}
