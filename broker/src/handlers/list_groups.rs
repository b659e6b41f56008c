//! ListGroups: the groups this broker coordinates, by state and type if asked.

use sawlog_protocol::messages::list_groups::{
    ListGroupsRequest, ListGroupsResponse, ListedGroup as Listed,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::groups::code;
use crate::coordinator::{GroupState, GroupType, ListGroups};

const STATES: [GroupState; 7] = [
    GroupState::Empty,
    GroupState::PreparingRebalance,
    GroupState::CompletingRebalance,
    GroupState::Assigning,
    GroupState::Reconciling,
    GroupState::Stable,
    GroupState::Dead,
];

/// Lists them.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: ListGroupsRequest<'_>) -> Rope {
    match ctx.node.groups.list(wanted(&request)).await {
        Ok(groups) => {
            let groups = groups.iter().map(|listed| Listed {
                group_id: listed.group.as_str(),
                protocol_type: &listed.protocol_type,
                group_state: listed.state.name(),
                group_type: listed.group_type.name(),
            });
            ctx.reply(&ListGroupsResponse {
                error_code: ErrorCode::NONE,
                groups: groups.collect(),
                ..Default::default()
            })
        }
        Err(error) => {
            ctx.reply(&ListGroupsResponse { error_code: code(error), ..Default::default() })
        }
    }
}

/// Names nobody knows match nothing; no names match everything.
fn wanted(request: &ListGroupsRequest<'_>) -> ListGroups {
    let is_named = |names: &[&str], name: &str| names.iter().any(|n| n.eq_ignore_ascii_case(name));
    let states = STATES.into_iter().filter(|it| is_named(&request.states_filter, it.name()));
    let types = [GroupType::Classic, GroupType::Consumer].into_iter();
    let types = types.filter(|it| is_named(&request.types_filter, it.name()));
    ListGroups {
        states: (!request.states_filter.is_empty()).then(|| states.collect()),
        types: (!request.types_filter.is_empty()).then(|| types.collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_names_in_any_case_and_none_is_all() {
        let of = |states: &[&'static str], types: &[&'static str]| {
            let request =
                ListGroupsRequest { states_filter: states.to_vec(), types_filter: types.to_vec() };
            let wanted = wanted(&request);
            (wanted.states, wanted.types)
        };
        assert_eq!(of(&[], &[]), (None, None));
        assert_eq!(
            of(&["stable", "EMPTY"], &["Classic"]),
            (Some(vec![GroupState::Empty, GroupState::Stable]), Some(vec![GroupType::Classic]))
        );
        assert_eq!(of(&["sleeping"], &["share"]), (Some(vec![]), Some(vec![])));
    }
}
