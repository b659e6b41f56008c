//! JoinGroup: a member enters a group, or its next generation. The reply may take as long as a
//! rebalance does.

use sawlog_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::groups::{client, code, fresh_member, member, milliseconds, reason};
use crate::coordinator::{
    GroupError, GroupId, InstanceId, JoinGroup, JoinRefused, Joined, Protocol,
};

/// First version with a rebalance timeout of its own.
const REBALANCE_TIMEOUT: i16 = 1;
/// First version whose clients join again with the member id they are given (KIP-394).
const MEMBER_ID_REQUIRED: i16 = 4;
/// First version in which no protocol is null, not empty.
const NULL_PROTOCOL: i16 = 7;
/// First version whose leaders can be told not to assign (KIP-814).
const SKIP_ASSIGNMENT: i16 = 9;

/// Joins, and waits for the others.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: JoinGroupRequest<'_>) -> Rope {
    let group = GroupId::from(request.group_id);
    let joined = match wanted(ctx, &request) {
        Ok(asked) => ctx.node.groups.ask(&group, asked).await,
        Err(error) => Err(error.into()),
    };
    match joined {
        Ok(joined) => ctx.reply(&answer(&joined)),
        Err(refused) => ctx.reply(&refusal(ctx.version, &request, &refused)),
    }
}

/// What the frame says; what is kept is copied, or it would keep the frame, and charged.
fn wanted(
    ctx: &RequestContext<'_>,
    request: &JoinGroupRequest<'_>,
) -> Result<JoinGroup, GroupError> {
    let client = client(ctx);
    let instance = request.group_instance_id.map(InstanceId::from);
    let instance_bytes = request.group_instance_id.map_or(0, str::len);
    let session_timeout = milliseconds(request.session_timeout_ms);
    let protocols = request.protocols.iter().map(|protocol| {
        let beside = protocol.name.len() + instance_bytes;
        let metadata = ctx.node.groups.memory().keep(beside, &protocol.metadata)?;
        Ok(Protocol { name: protocol.name.into(), metadata })
    });
    Ok(JoinGroup {
        group: request.group_id.into(),
        member: member(request.member_id),
        fresh_member: fresh_member(&client, instance.as_ref(), &ctx.node.member_ids),
        instance,
        client,
        protocol_type: request.protocol_type.into(),
        protocols: protocols.collect::<Result<_, _>>()?,
        session_timeout,
        rebalance_timeout: if ctx.version < REBALANCE_TIMEOUT {
            session_timeout
        } else {
            milliseconds(request.rebalance_timeout_ms)
        },
        reason: reason(request.reason),
        knows_member_id_required: ctx.version >= MEMBER_ID_REQUIRED,
        knows_skip_assignment: ctx.version >= SKIP_ASSIGNMENT,
    })
}

fn answer(joined: &Joined) -> JoinGroupResponse<'_> {
    let members = joined.members.iter().map(|known| JoinGroupResponseMember {
        member_id: known.member.as_str(),
        group_instance_id: known.instance.as_ref().map(InstanceId::as_str),
        metadata: known.metadata.clone(),
    });
    JoinGroupResponse {
        error_code: ErrorCode::NONE,
        generation_id: joined.generation.0,
        protocol_type: joined.protocol_type.as_deref(),
        protocol_name: Some(joined.protocol.as_deref().unwrap_or_default()),
        leader: joined.leader.as_str(),
        skip_assignment: joined.skip_assignment,
        member_id: joined.member.as_str(),
        members: members.collect(),
        ..Default::default()
    }
}

fn refusal<'a>(
    version: i16,
    request: &JoinGroupRequest<'a>,
    refused: &'a JoinRefused,
) -> JoinGroupResponse<'a> {
    JoinGroupResponse {
        error_code: code(refused.error),
        generation_id: -1,
        protocol_name: (version < NULL_PROTOCOL).then_some(""),
        member_id: refused.member.as_ref().map_or(request.member_id, |id| id.as_str()),
        ..Default::default()
    }
}
