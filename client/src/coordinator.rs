//! Which broker coordinates a group, and requests that go there.
//!
//! The answer is remembered until somebody is told that it is no longer true. A request that goes to
//! a coordinator which has moved, is starting, or cannot be reached finds the next one by itself,
//! with growing pauses, for as long as [`ClientOptions::timeout`](crate::ClientOptions::timeout)
//! allows. What the reply says beyond that is the caller's.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use sawlog_protocol::messages::find_coordinator::{
    FindCoordinatorRequest, FindCoordinatorResponse,
};
use sawlog_protocol::{ErrorCode, Request, decode_response};
use tokio::time::Instant;

use crate::backoff::Random;
use crate::cluster::{Channel, Client};
use crate::connection::{Connection, Reply};
use crate::error::{ClientError, check};
use crate::metadata::BrokerInfo;

/// Groups whose coordinators are remembered; beyond that all are asked for again.
const REMEMBERED_MAX: usize = 10_000;

/// `key_type` of groups.
const GROUP: i8 = 0;

/// First version that takes several keys (KIP-699).
const BATCHED_VERSION_MIN: i16 = 4;

/// Coordinators by group.
#[derive(Debug, Default)]
pub(crate) struct Coordinators {
    known: Mutex<HashMap<String, BrokerInfo>>,
}

impl Coordinators {
    fn known(&self) -> MutexGuard<'_, HashMap<String, BrokerInfo>> {
        // A map of values: whole after any panic.
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn remember(&self, group: &str, broker: BrokerInfo) {
        let mut known = self.known();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(group.to_owned(), broker);
    }
}

/// A request to the coordinator of a group: where it goes and how long its replies may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupCall<'a> {
    pub(crate) group: &'a str,
    /// One of its own for what the broker lets wait, such as JoinGroup.
    pub(crate) channel: Channel,
    /// Newest version of the request to use.
    pub(crate) newest: i16,
    /// Longest wait for one reply; that of the client's options if `None`.
    pub(crate) timeout: Option<Duration>,
}

impl<'a> GroupCall<'a> {
    /// A short question, in the newest common version.
    pub(crate) fn to(group: &'a str) -> Self {
        Self { group, channel: Channel::GENERAL, newest: i16::MAX, timeout: None }
    }
}

/// What a failed request to a coordinator says about where it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Another broker may coordinate the group by now.
    FindAgain,
    /// It is the right one, and soon ready.
    Wait,
    /// The answer is about the request.
    None,
}

impl Remedy {
    /// What helps against `error`.
    pub(crate) fn of(error: &ClientError) -> Self {
        match error {
            ClientError::Unreachable { .. } | ClientError::Disconnected { .. } => Self::FindAgain,
            ClientError::Broker { code, .. } => match *code {
                ErrorCode::NOT_COORDINATOR
                | ErrorCode::COORDINATOR_NOT_AVAILABLE
                | ErrorCode::BROKER_NOT_AVAILABLE => Self::FindAgain,
                ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => Self::Wait,
                _ => Self::None,
            },
            // After a timeout the time for the whole is over, too.
            _ => Self::None,
        }
    }
}

impl Client {
    /// The broker that coordinates a group, whether or not the group exists: as remembered, else
    /// asked for until there is one.
    ///
    /// # Errors
    /// No broker answers, the caller may not know, or no coordinator was found within
    /// [`ClientOptions::timeout`](crate::ClientOptions::timeout).
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// let broker = client.coordinator_of("billing").await?;
    /// println!("billing is coordinated by broker {} at {}", broker.id, broker.address());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn coordinator_of(&self, group: &str) -> Result<BrokerInfo, ClientError> {
        let mut attempts = Attempts::new(self);
        loop {
            match self.find_coordinator(group).await {
                Err(error) => attempts.after(group, error).await?,
                found => return found,
            }
        }
    }

    /// The same with one attempt.
    async fn find_coordinator(&self, group: &str) -> Result<BrokerInfo, ClientError> {
        if let Some(known) = self.coordinators().known().get(group) {
            return Ok(known.clone());
        }
        let request =
            FindCoordinatorRequest { key: group, key_type: GROUP, coordinator_keys: vec![group] };
        let reply = self.any().await?.call(&request).await?;
        let (_, response) =
            decode_response::<FindCoordinatorRequest<'_>>(&reply.frame, reply.version)?;
        let broker = found(&response, reply.version)?;
        self.coordinators().remember(group, broker.clone());
        Ok(broker)
    }

    /// A connection to the coordinator of a group, with one attempt at finding and reaching it. Who
    /// learns from the reply that it is not the coordinator calls [`Self::forget_coordinator`].
    pub(crate) async fn coordinator(
        &self,
        group: &str,
        channel: Channel,
    ) -> Result<Connection, ClientError> {
        let broker = self.find_coordinator(group).await?;
        self.connection_to(&broker.address(), channel).await
    }

    /// The next request for the group asks anew who coordinates it.
    pub(crate) fn forget_coordinator(&self, group: &str) {
        self.coordinators().known().remove(group);
    }

    /// Sends a request to the coordinator of a group and reads the reply with `read`, which returns
    /// the reply's error code as [`ClientError::Broker`]. Tried again while that, or the way there,
    /// says that the coordinator is another or not ready.
    ///
    /// A request may reach the broker twice, when the connection ends before the first reply.
    pub(crate) async fn ask_coordinator<'r, R: Request<'r>, T>(
        &self,
        call: GroupCall<'_>,
        request: &R,
        mut read: impl FnMut(&Reply) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let mut attempts = Attempts::new(self);
        loop {
            let sent = async {
                let connection = self.coordinator(call.group, call.channel).await?;
                let timeout = call.timeout.unwrap_or_else(|| connection.timeout());
                connection.call_up_to(request, call.newest, timeout).await
            };
            match sent.await.and_then(|reply| read(&reply)) {
                Err(error) => attempts.after(call.group, error).await?,
                answered => return answered,
            }
        }
    }
}

/// The one coordinator asked for.
fn found(response: &FindCoordinatorResponse<'_>, version: i16) -> Result<BrokerInfo, ClientError> {
    let (id, host, port) = if version >= BATCHED_VERSION_MIN {
        let missing = ClientError::Malformed(sawlog_protocol::DecodeError::Truncated);
        let one = response.coordinators.first().ok_or(missing)?;
        check(one.error_code, one.error_message)?;
        (one.node_id, one.host, one.port)
    } else {
        check(response.error_code, response.error_message)?;
        (response.node_id, response.host, response.port)
    };
    Ok(BrokerInfo { id, host: host.to_owned(), port, rack: None })
}

/// Attempts at one request, within the client's time for it.
struct Attempts<'a> {
    client: &'a Client,
    deadline: Instant,
    failures: u32,
    random: Random,
}

impl<'a> Attempts<'a> {
    fn new(client: &'a Client) -> Self {
        let deadline = Instant::now() + client.options().timeout;
        Self { client, deadline, failures: 0, random: Random::new() }
    }

    /// Does what helps against `error` and pauses; the error itself if nothing does, or if it is
    /// too late.
    async fn after(&mut self, group: &str, error: ClientError) -> Result<(), ClientError> {
        match Remedy::of(&error) {
            Remedy::FindAgain => self.client.forget_coordinator(group),
            Remedy::Wait => {}
            Remedy::None => return Err(error),
        }
        self.failures += 1;
        let pause = self.client.backoff().pause(self.failures, &mut self.random);
        if Instant::now() + pause >= self.deadline {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_depends_on_what_is_wrong() {
        let code = |code| Remedy::of(&ClientError::broker(code, None));
        assert_eq!(code(ErrorCode::NOT_COORDINATOR), Remedy::FindAgain);
        assert_eq!(code(ErrorCode::COORDINATOR_NOT_AVAILABLE), Remedy::FindAgain);
        assert_eq!(code(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS), Remedy::Wait);
        assert_eq!(code(ErrorCode::REBALANCE_IN_PROGRESS), Remedy::None);
        assert_eq!(code(ErrorCode::GROUP_ID_NOT_FOUND), Remedy::None);
    }

    #[test]
    fn memory_of_coordinators_is_bounded() {
        let coordinators = Coordinators::default();
        for count in 0..=REMEMBERED_MAX {
            let broker = BrokerInfo { id: 1, host: "h".to_owned(), port: 1, rack: None };
            coordinators.remember(&count.to_string(), broker);
        }
        assert_eq!(coordinators.known().len(), 1);
    }
}
