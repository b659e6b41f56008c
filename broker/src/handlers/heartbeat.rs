//! Heartbeat: a member of a classic group lives, and hears whether it has to join again.

use sawlog_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::groups::outcome;
use crate::coordinator::{Generation, GroupError, GroupId, Heartbeat};

/// Tells the coordinator.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: HeartbeatRequest<'_>) -> Rope {
    let group = GroupId::from(request.group_id);
    let asked = Heartbeat {
        group: group.clone(),
        member: request.member_id.into(),
        instance: request.group_instance_id.map(Into::into),
        generation: Generation(request.generation_id),
    };
    let error_code = answer(ctx.node.groups.ask(&group, asked).await);
    ctx.reply(&HeartbeatResponse { error_code, ..Default::default() })
}

/// While the group is being read from its log all is well, as Kafka says then: clients (aiokafka) end with
/// any other answer.
fn answer(result: Result<(), GroupError>) -> ErrorCode {
    match result {
        Err(GroupError::LoadInProgress) => ErrorCode::NONE,
        known => outcome(&known),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_lives_on_while_its_group_is_loaded() {
        assert_eq!(answer(Err(GroupError::LoadInProgress)), ErrorCode::NONE);
        assert_eq!(answer(Ok(())), ErrorCode::NONE);
        let refusals = [
            (GroupError::NotCoordinator, ErrorCode::NOT_COORDINATOR),
            (GroupError::NotAvailable, ErrorCode::COORDINATOR_NOT_AVAILABLE),
            (GroupError::RebalanceInProgress, ErrorCode::REBALANCE_IN_PROGRESS),
            (GroupError::UnknownMember, ErrorCode::UNKNOWN_MEMBER_ID),
        ];
        for (error, code) in refusals {
            assert_eq!(answer(Err(error)), code, "{error:?}");
        }
    }
}
