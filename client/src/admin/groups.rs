//! Groups as an administrator sees them: lists, states, members, and their end.

use sawlog_protocol::decode_response;
use sawlog_protocol::messages::delete_groups::DeleteGroupsRequest;

use super::MISSING;
use crate::cluster::Client;
use crate::coordinator::GroupCall;
use crate::error::{ClientError, check};

impl Client {
    /// Deletes a group without members, with all its offsets.
    ///
    /// # Errors
    /// [`ClientError::Broker`] with `GROUP_ID_NOT_FOUND` or `NON_EMPTY_GROUP`, or no coordinator
    /// answers.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        let request = DeleteGroupsRequest { groups_names: vec![group] };
        self.ask_coordinator(GroupCall::to(group), &request, |reply| {
            let (_, response) =
                decode_response::<DeleteGroupsRequest<'_>>(&reply.frame, reply.version)?;
            check(response.results.first().ok_or(MISSING)?.error_code, None)
        })
        .await
    }
}
