//! SyncGroup: the leader brings the assignment, everyone fetches its own.

use sawlog_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::groups::code;
use crate::coordinator::{Generation, GroupError, GroupId, SyncGroup};

/// Waits for the leader's assignment.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: SyncGroupRequest<'_>) -> Rope {
    let memory = ctx.node.groups.memory();
    let assignments = request.assignments.iter().map(|assigned| {
        // Kept with the group: a slice would keep the frame.
        Ok((
            assigned.member_id.into(),
            memory.keep(assigned.member_id.len(), &assigned.assignment)?,
        ))
    });
    let assignments = match assignments.collect::<Result<_, GroupError>>() {
        Ok(assignments) => assignments,
        Err(error) => return refuse(ctx, error),
    };
    let group = GroupId::from(request.group_id);
    let asked = SyncGroup {
        group: group.clone(),
        member: request.member_id.into(),
        instance: request.group_instance_id.map(Into::into),
        generation: Generation(request.generation_id),
        protocol_type: request.protocol_type.map(Into::into),
        protocol: request.protocol_name.map(Into::into),
        assignments,
    };
    match ctx.node.groups.ask(&group, asked).await {
        Ok(synced) => ctx.reply(&SyncGroupResponse {
            error_code: ErrorCode::NONE,
            protocol_type: synced.protocol_type.as_deref(),
            protocol_name: synced.protocol.as_deref(),
            assignment: synced.assignment,
            ..Default::default()
        }),
        Err(error) => refuse(ctx, error),
    }
}

fn refuse(ctx: &RequestContext<'_>, error: GroupError) -> Rope {
    ctx.reply(&SyncGroupResponse { error_code: code(error), ..Default::default() })
}
