//! Heartbeat: a member of a classic group lives, and hears whether it has to join again.

use sawlog_protocol::Rope;
use sawlog_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use super::RequestContext;
use super::groups::outcome;
use crate::coordinator::{Generation, GroupId, Heartbeat};

/// Tells the coordinator.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: HeartbeatRequest<'_>) -> Rope {
    let group = GroupId::from(request.group_id);
    let asked = Heartbeat {
        group: group.clone(),
        member: request.member_id.into(),
        instance: request.group_instance_id.map(Into::into),
        generation: Generation(request.generation_id),
    };
    let error_code = outcome(&ctx.node.groups.ask(&group, asked).await);
    ctx.reply(&HeartbeatResponse { error_code, ..Default::default() })
}
