//! Requests whose broker is gone, or is no longer the one to ask: the others are asked who is, and
//! the request is made again.
//!
//! The first repeat comes at once, later ones after growing pauses, for as long as
//! [`ClientOptions::timeout`](crate::ClientOptions::timeout) allows. Where no broker at all can be
//! reached there is nobody to ask: the request fails with what it failed with. Requests of
//! coordinators have rules of their own, see `coordinator`.

use sawlog_protocol::ErrorCode;
use tokio::time::{Instant, sleep, timeout_at};

use crate::backoff::Random;
use crate::cluster::Client;
use crate::error::ClientError;

/// The attempts at one request.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    client: &'a Client,
    deadline: Instant,
    failures: u32,
    random: Random,
}

impl<'a> Search<'a> {
    pub(crate) fn new(client: &'a Client) -> Self {
        let deadline = Instant::now() + client.options().timeout;
        Self { client, deadline, failures: 0, random: Random::new() }
    }

    /// After a failure of a request that does no harm if it is made twice: returns once it may be
    /// made again, with fresh metadata of `topics`.
    ///
    /// # Errors
    /// `error` itself, if nothing helps against it or it is too late.
    pub(crate) async fn after(
        &mut self,
        topics: &[&str],
        error: ClientError,
    ) -> Result<(), ClientError> {
        if is_elsewhere(&error) { self.again(topics, error).await } else { Err(error) }
    }

    /// The same for a failure to reach the broker at all: the request was not made.
    pub(crate) async fn after_unreached(
        &mut self,
        topics: &[&str],
        error: ClientError,
    ) -> Result<(), ClientError> {
        if is_unreached(&error) { self.again(topics, error).await } else { Err(error) }
    }

    async fn again(&mut self, topics: &[&str], error: ClientError) -> Result<(), ClientError> {
        if self.failures > 0 {
            let pause = self.client.backoff().pause(self.failures, &mut self.random);
            if Instant::now() + pause >= self.deadline {
                return Err(error);
            }
            sleep(pause).await;
        }
        self.failures += 1;
        match timeout_at(self.deadline, self.client.refresh_many(topics)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(error),
        }
    }
}

/// Whether the broker could not be connected to, or went away meanwhile.
pub(crate) fn is_unreached(error: &ClientError) -> bool {
    matches!(error, ClientError::Unreachable { .. } | ClientError::Disconnected { .. })
}

/// Whether another broker may answer, or the same one soon.
fn is_elsewhere(error: &ClientError) -> bool {
    let is_moving = |code: ErrorCode| {
        matches!(
            code,
            ErrorCode::NOT_LEADER_OR_FOLLOWER
                | ErrorCode::LEADER_NOT_AVAILABLE
                | ErrorCode::BROKER_NOT_AVAILABLE
                | ErrorCode::FENCED_LEADER_EPOCH
                | ErrorCode::UNKNOWN_LEADER_EPOCH
                | ErrorCode::OFFSET_NOT_AVAILABLE
        )
    };
    is_unreached(error) || error.code().is_some_and(is_moving)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_broker_is_looked_for_when_this_one_is_gone_or_not_the_one() {
        let code = |code| is_elsewhere(&ClientError::broker(code, None));
        assert!(code(ErrorCode::NOT_LEADER_OR_FOLLOWER) && code(ErrorCode::OFFSET_NOT_AVAILABLE));
        assert!(!code(ErrorCode::OFFSET_OUT_OF_RANGE) && !code(ErrorCode::KAFKA_STORAGE_ERROR));
        assert!(!is_elsewhere(&ClientError::UnknownTopic("t".to_owned())));
        let (address, reason) = ("h:1".to_owned(), "connection refused".to_owned());
        assert!(is_elsewhere(&ClientError::Unreachable { address, reason }));
    }
}
