//! SyncGroup: the leader brings the assignment, everyone fetches its own.

use bytes::Bytes;
use sawlog_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::groups::code;
use crate::coordinator::{Generation, GroupId, SyncGroup};

/// Waits for the leader's assignment.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: SyncGroupRequest<'_>) -> Rope {
    let assignments = request.assignments.iter().map(|assigned| {
        // Kept with the group: a slice would keep the frame.
        (assigned.member_id.into(), Bytes::copy_from_slice(&assigned.assignment))
    });
    let group = GroupId::from(request.group_id);
    let asked = SyncGroup {
        group: group.clone(),
        member: request.member_id.into(),
        instance: request.group_instance_id.map(Into::into),
        generation: Generation(request.generation_id),
        protocol_type: request.protocol_type.map(Into::into),
        protocol: request.protocol_name.map(Into::into),
        assignments: assignments.collect(),
    };
    match ctx.node.groups.ask(&group, asked).await {
        Ok(synced) => ctx.reply(&SyncGroupResponse {
            error_code: ErrorCode::NONE,
            protocol_type: synced.protocol_type.as_deref(),
            protocol_name: synced.protocol.as_deref(),
            assignment: synced.assignment,
            ..Default::default()
        }),
        Err(error) => {
            ctx.reply(&SyncGroupResponse { error_code: code(error), ..Default::default() })
        }
    }
}
