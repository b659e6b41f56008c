//! DeleteGroups: groups without members, with what they have committed.

use sawlog_protocol::Rope;
use sawlog_protocol::messages::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};

use super::RequestContext;
use super::groups::outcome;
use crate::coordinator::{DeleteGroup, GroupId};

/// Deletes each on its own.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: DeleteGroupsRequest<'_>) -> Rope {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for name in &request.groups_names {
        let group = GroupId::from(*name);
        let result = ctx.node.groups.ask(&group, DeleteGroup { group: group.clone() }).await;
        results.push(DeletableGroupResult { group_id: name, error_code: outcome(&result) });
    }
    ctx.reply(&DeleteGroupsResponse { results, ..Default::default() })
}
