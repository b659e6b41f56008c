//! AddRaftVoter: a broker is to vote on the metadata.
//!
//! Differs from the reference: brokers vote by themselves until there are `metadata.voters` of them, so
//! that this is for one more. A broker says itself where it listens for its peers: the addresses of
//! the request are not looked at. It is answered when it is done, in every version.

use std::time::Duration;

use sawlog_protocol::messages::{AddRaftVoterRequest, AddRaftVoterResponse};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::admin::{check_cluster, outcome};
use crate::base::BrokerId;
use crate::quorum::VoterChange;

/// Longest wait for a broker to catch up, whatever the request says.
const PATIENCE_MAX: Duration = Duration::from_secs(10);

/// Makes a broker a voter.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: AddRaftVoterRequest<'_>) -> Rope {
    let (error_code, message) = match check_cluster(ctx, request.cluster_id) {
        Err(message) => (ErrorCode::INCONSISTENT_CLUSTER_ID, Some(message)),
        Ok(()) => {
            let patience = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
            let change = VoterChange::Add {
                broker: BrokerId(request.voter_id),
                directory: request.voter_directory_id,
                patience: patience.min(PATIENCE_MAX),
            };
            outcome(&ctx.node.controller.change_voters(change).await)
        }
    };
    let error_message = message.as_deref();
    ctx.reply(&AddRaftVoterResponse { error_code, error_message, ..Default::default() })
}
