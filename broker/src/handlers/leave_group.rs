//! LeaveGroup: members say goodbye, or are removed by an operator.

use sawlog_protocol::messages::leave_group::{
    LeaveGroupRequest, LeaveGroupResponse, MemberResponse,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::groups::{code, member, outcome, reason};
use crate::coordinator::{GroupId, InstanceId, LeaveGroup, LeavingMember};

/// First version with several members.
const SEVERAL_MEMBERS: i16 = 3;

/// Lets them go. Up to version 2 the only member's error is the reply's.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: LeaveGroupRequest<'_>) -> Rope {
    let group = GroupId::from(request.group_id);
    let members = if ctx.version < SEVERAL_MEMBERS {
        let member = member(request.member_id);
        vec![LeavingMember { member, instance: None, reason: None }]
    } else {
        let leaving = request.members.iter().map(|leaving| LeavingMember {
            member: member(leaving.member_id),
            instance: leaving.group_instance_id.map(InstanceId::from),
            reason: reason(leaving.reason),
        });
        leaving.collect()
    };
    let answer = ctx.node.groups.ask(&group, LeaveGroup { group: group.clone(), members }).await;
    let left = match answer {
        Ok(left) => left,
        Err(error) => {
            return ctx
                .reply(&LeaveGroupResponse { error_code: code(error), ..Default::default() });
        }
    };
    let error_code = match left.first() {
        Some(only) if ctx.version < SEVERAL_MEMBERS => outcome(&only.result),
        _ => ErrorCode::NONE,
    };
    let members = left.iter().map(|left| MemberResponse {
        member_id: left.member.as_ref().map_or("", |id| id.as_str()),
        group_instance_id: left.instance.as_ref().map(InstanceId::as_str),
        error_code: outcome(&left.result),
    });
    ctx.reply(&LeaveGroupResponse { error_code, members: members.collect(), ..Default::default() })
}
