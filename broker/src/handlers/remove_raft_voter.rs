//! RemoveRaftVoter: a broker is not to vote on the metadata any more.
//!
//! Differs from the reference: a broker that has caught up takes its place, if there is one; and one
//! that runs, whom the cluster would make a voter again at once, is refused.

use sawlog_protocol::messages::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::admin::{check_cluster, outcome};
use crate::base::BrokerId;
use crate::quorum::VoterChange;

/// Makes a broker one that is only told.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: RemoveRaftVoterRequest<'_>) -> Rope {
    let (error_code, message) = match check_cluster(ctx, request.cluster_id) {
        Err(message) => (ErrorCode::INCONSISTENT_CLUSTER_ID, Some(message)),
        Ok(()) => {
            let change = VoterChange::Remove {
                broker: BrokerId(request.voter_id),
                directory: request.voter_directory_id,
            };
            outcome(&ctx.node.controller.change_voters(change).await)
        }
    };
    let error_message = message.as_deref();
    ctx.reply(&RemoveRaftVoterResponse { error_code, error_message, ..Default::default() })
}
