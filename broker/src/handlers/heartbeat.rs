//! Heartbeat: a member of a classic group lives, and hears whether it has to join again.

use sawlog_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::groups::code;
use crate::coordinator::{Generation, GroupError, GroupId, Heartbeat};

/// Tells the coordinator. While the group is being read from its log all is well, as Kafka says then:
/// clients (aiokafka) end with any other answer.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: HeartbeatRequest<'_>) -> Rope {
    let group = GroupId::from(request.group_id);
    let asked = Heartbeat {
        group: group.clone(),
        member: request.member_id.into(),
        instance: request.group_instance_id.map(Into::into),
        generation: Generation(request.generation_id),
    };
    let error_code = match ctx.node.groups.ask(&group, asked).await {
        Ok(()) | Err(GroupError::LoadInProgress) => ErrorCode::NONE,
        Err(error) => code(error),
    };
    ctx.reply(&HeartbeatResponse { error_code, ..Default::default() })
}
