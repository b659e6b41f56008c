//! DescribeGroups: classic groups, their members and what these read.

use sawlog_protocol::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup as Described,
    DescribedGroupMember,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::groups::{OPERATIONS, code};
use crate::coordinator::{DescribeGroup, DescribedGroup, GroupError, GroupId, GroupState};

/// First version that says GROUP_ID_NOT_FOUND instead of "Dead" (KIP-1043).
const NOT_FOUND: i16 = 6;

/// Describes each on its own.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: DescribeGroupsRequest<'_>) -> Rope {
    let mut described = Vec::with_capacity(request.groups.len());
    for name in &request.groups {
        let group = GroupId::from(*name);
        let asked = DescribeGroup { group: group.clone() };
        let answer = if name.is_empty() {
            Err(GroupError::InvalidGroupId)
        } else {
            ctx.node.groups.ask(&group, asked).await
        };
        let (answer, message) = match answer {
            Err(GroupError::OtherProtocol) => {
                (Ok(None), format!("Group {name} is not a classic group."))
            }
            answer => (answer, format!("Group {name} not found.")),
        };
        described.push((*name, answer, message));
    }
    let operations = if request.include_authorized_operations { OPERATIONS } else { i32::MIN };
    let groups = described
        .iter()
        .map(|(name, answer, message)| Described {
            authorized_operations: operations,
            ..describe(ctx.version, name, answer, message)
        })
        .collect();
    ctx.reply(&DescribeGroupsResponse { groups, ..Default::default() })
}

fn describe<'a>(
    version: i16,
    name: &'a str,
    answer: &'a Result<Option<DescribedGroup>, GroupError>,
    message: &'a str,
) -> Described<'a> {
    let nothing = Described { group_id: name, ..Default::default() };
    let group = match answer {
        Ok(Some(group)) => group,
        Ok(None) if version < NOT_FOUND => {
            return Described { group_state: GroupState::Dead.name(), ..nothing };
        }
        Ok(None) => {
            return Described {
                error_code: ErrorCode::GROUP_ID_NOT_FOUND,
                error_message: Some(message),
                group_state: GroupState::Dead.name(),
                ..nothing
            };
        }
        Err(error) => return Described { error_code: code(*error), ..nothing },
    };
    let members = group.members.iter().map(|member| DescribedGroupMember {
        member_id: member.member.as_str(),
        group_instance_id: member.instance.as_ref().map(|instance| instance.as_str()),
        client_id: &member.client.id,
        client_host: &member.client.host,
        member_metadata: member.metadata.clone(),
        member_assignment: member.assignment.clone(),
    });
    Described {
        group_state: group.state.name(),
        protocol_type: &group.protocol_type,
        protocol_data: &group.protocol,
        members: members.collect(),
        ..nothing
    }
}
