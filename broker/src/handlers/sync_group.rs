//! SyncGroup: the leader brings the assignment, everyone fetches its own.

use sawlog_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::groups::code;
use crate::coordinator::{Generation, GroupError, GroupId, SyncGroup};

/// First version in which protocol type and name have to be told.
const PROTOCOL_REQUIRED: i16 = 5;

/// Waits for the leader's assignment.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: SyncGroupRequest<'_>) -> Rope {
    if !tells_protocol(ctx.version, &request) {
        return refuse(ctx, GroupError::InconsistentProtocol);
    }
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

/// Whether type and name of the protocol are there where they have to be. The coordinator compares them
/// with the group's, where they are there.
fn tells_protocol(version: i16, request: &SyncGroupRequest<'_>) -> bool {
    version < PROTOCOL_REQUIRED
        || (request.protocol_type.is_some() && request.protocol_name.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_5_has_to_tell_the_protocol() {
        let both = SyncGroupRequest {
            protocol_type: Some("consumer"),
            protocol_name: Some("range"),
            ..Default::default()
        };
        let no_name = SyncGroupRequest { protocol_name: None, ..both.clone() };
        let no_type = SyncGroupRequest { protocol_type: None, ..both.clone() };
        assert!(tells_protocol(5, &both));
        for request in [no_name, no_type, SyncGroupRequest::default()] {
            assert!(!tells_protocol(5, &request), "{request:?}");
            assert!(tells_protocol(4, &request), "{request:?}");
        }
    }
}
