//! How a node becomes a member of the metadata log, and the services that other nodes call.
//!
//! A node that joins asks any member; whoever leads takes it in and says which broker of which cluster it
//! is. Asking again changes nothing: it is known by its data directory. A member that has moved asks in
//! the same way.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sawlog_protocol::Uuid;
use thiserror::Error;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::base::BrokerId;
use crate::config::Endpoint;
use crate::metadata::{DecodeError, Decoder, Encoder};
use crate::peer::{PeerAnswer, PeerError, PeerId, PeerReply, PeerService, Peers, Service};

use super::super::LogRole;
use super::client_port::peers_behind;
use super::log::Quorum;
use super::members::MemberError;
use super::types::Member;

const VERSION: u8 = 1;

/// One attempt: the leader may have to agree with others first.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(12);

/// Between rounds of attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// How often it is said that joining takes long, and how long a refusal by all is taken for something
/// that passes: a member that is itself still joining refuses, too.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });

const REFUSED: u8 = 0;
const JOINED: u8 = 1;
const ELSEWHERE: u8 = 2;
const LATER: u8 = 3;

/// A node that wants to be a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// Its id.
    pub raft_id: u64,
    /// Its data directory.
    pub storage_id: Uuid,
    /// Where it listens for its peers.
    pub endpoint: Endpoint,
    /// Which broker it is to be; `None` leaves that to the leader.
    pub wanted: Option<BrokerId>,
}

/// What it is from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The cluster.
    pub cluster_id: Uuid,
    /// The broker.
    pub broker: BrokerId,
}

/// It cannot become a member, and trying again would not help.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JoinError {
    /// The leader says why.
    #[error("the cluster refuses this node: {0}")]
    Refused(String),
    /// No address was given.
    #[error("no address of a member of the cluster is known")]
    Nobody,
}

/// What the leader, or somebody else, says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Refused(String),
    Joined(Joined),
    /// Somebody else leads, and may be there.
    Elsewhere(Option<Endpoint>),
    Later(String),
}

/// Asks the members at `addresses` to be taken in, until one does.
///
/// # Errors
/// The cluster refuses for good.
pub async fn join(
    peers: &Peers,
    joining: &Joining,
    addresses: &[Endpoint],
) -> Result<Joined, JoinError> {
    if addresses.is_empty() {
        return Err(JoinError::Nobody);
    }
    let request = encode(joining);
    let mut addresses = addresses.to_vec();
    let mut said = Instant::now();
    let mut refused_since = None;
    loop {
        let mut why = String::new();
        let mut refusals = 0;
        for address in &mut addresses {
            // One hop to the leader; whoever it names knows more next round.
            let mut at = Some(address.clone());
            for _ in 0..2 {
                let Some(to) = at.take() else { break };
                match ask(peers, &to, request.clone()).await {
                    Ok(Answer::Joined(joined)) => return Ok(joined),
                    Ok(Answer::Refused(reason)) => return Err(JoinError::Refused(reason)),
                    Ok(Answer::Elsewhere(leader)) => {
                        why = format!("{to} does not lead the cluster");
                        at = leader;
                    }
                    Ok(Answer::Later(reason)) => why = reason,
                    Err(PeerError::Refused(reason)) => {
                        why = reason;
                        refusals += 1;
                    }
                    Err(PeerError::Closed) => {
                        why = format!(
                            "{to} closes the connection: no broker listens there for peers"
                        );
                        if to == *address
                            && let Some(peer) = behind(address).await
                        {
                            *address = peer;
                        }
                    }
                    Err(error) => why = error.to_string(),
                }
            }
        }
        let all_refuse = refusals >= addresses.len();
        let since = *refused_since.get_or_insert_with(Instant::now);
        if !all_refuse {
            refused_since = None;
        } else if since.elapsed() >= PATIENCE {
            return Err(JoinError::Refused(why));
        }
        if said.elapsed() >= PATIENCE {
            warn!(reason = why, "still waiting to join the cluster");
            said = Instant::now();
        }
        sleep(PAUSE).await;
    }
}

/// Where the peers of a broker listen whose port for clients was given.
async fn behind(address: &Endpoint) -> Option<Endpoint> {
    let peer = peers_behind(address).await?.into_iter().next()?;
    info!(given = %address, instead = %peer, "what is to be joined is a port for clients: its broker tells where peers listen");
    Some(peer)
}

async fn ask(peers: &Peers, to: &Endpoint, request: Bytes) -> Result<Answer, PeerError> {
    let answer = peers.call_at(to, Service::Join, request, ATTEMPT_TIMEOUT).await?;
    decode_answer(&answer).map_err(|error| PeerError::Refused(error.to_string()))
}

fn encode(joining: &Joining) -> Bytes {
    let mut out = Encoder::default();
    out.u8(VERSION);
    out.u64(joining.raft_id);
    out.uuid(joining.storage_id);
    out.endpoint(&joining.endpoint);
    out.optional(joining.wanted, |out, broker| out.i32(broker.0));
    out.into_bytes().into()
}

fn decode(bytes: &[u8]) -> Result<Joining, DecodeError> {
    let mut input = Decoder::new(bytes);
    let version = input.u8()?;
    if version != VERSION {
        return Err(DecodeError::UnknownRecord { kind: 0, version });
    }
    let joining = Joining {
        raft_id: input.u64()?,
        storage_id: input.uuid()?,
        endpoint: input.endpoint()?,
        wanted: input.optional(|input| Ok(BrokerId(input.i32()?)))?,
    };
    input.finish()?;
    Ok(joining)
}

fn encode_answer(answer: &Answer) -> Vec<u8> {
    let mut out = Encoder::default();
    match answer {
        Answer::Refused(reason) => {
            out.u8(REFUSED);
            out.text(reason);
        }
        Answer::Joined(joined) => {
            out.u8(JOINED);
            out.uuid(joined.cluster_id);
            out.i32(joined.broker.0);
        }
        Answer::Elsewhere(leader) => {
            out.u8(ELSEWHERE);
            out.optional(leader.as_ref(), Encoder::endpoint);
        }
        Answer::Later(reason) => {
            out.u8(LATER);
            out.text(reason);
        }
    }
    out.into_bytes()
}

fn decode_answer(bytes: &[u8]) -> Result<Answer, DecodeError> {
    let mut input = Decoder::new(bytes);
    let answer = match input.u8()? {
        REFUSED => Answer::Refused(input.text()?),
        JOINED => {
            let cluster_id = input.uuid()?;
            Answer::Joined(Joined { cluster_id, broker: BrokerId(input.i32()?) })
        }
        ELSEWHERE => Answer::Elsewhere(input.optional(Decoder::endpoint)?),
        LATER => Answer::Later(input.text()?),
        kind => return Err(DecodeError::UnknownRecord { kind, version: VERSION }),
    };
    input.finish()?;
    Ok(answer)
}

/// Answers the other nodes of the metadata log.
#[derive(Clone, Debug)]
pub struct RaftService(pub Quorum);

impl PeerService for RaftService {
    fn call(&self, _: PeerId, request: Bytes) -> PeerAnswer {
        let quorum = self.0.clone();
        Box::pin(async move { PeerReply::from(quorum.answer(request).await) })
    }
}

/// The brokers that are registered, as the controller knows them.
pub trait KnownBrokers: Send + Sync {
    /// Their ids, which are in use.
    fn ids(&self) -> Vec<BrokerId>;

    /// Why nobody can join them, if so: a sentence.
    fn obstacle(&self) -> Option<String>;
}

/// Answers nodes that want to be members.
#[derive(Clone)]
pub struct JoinService {
    /// The node.
    pub quorum: Quorum,
    /// The cluster.
    pub cluster_id: Uuid,
    /// The brokers there are.
    pub known: Arc<dyn KnownBrokers>,
}

impl fmt::Debug for JoinService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinService").field("quorum", &self.quorum).finish_non_exhaustive()
    }
}

impl PeerService for JoinService {
    fn call(&self, from: PeerId, request: Bytes) -> PeerAnswer {
        let service = self.clone();
        Box::pin(
            async move { PeerReply::from(encode_answer(&service.answer(from, &request).await)) },
        )
    }
}

impl JoinService {
    async fn answer(&self, from: PeerId, request: &[u8]) -> Answer {
        let joining = match decode(request) {
            Ok(joining) => joining,
            Err(error) => return Answer::Refused(format!("the request is damaged: {error}")),
        };
        let Joining { raft_id, storage_id, endpoint, wanted } = joining;
        if endpoint.port == 0 || endpoint.host.is_empty() {
            return Answer::Refused("its address cannot be dialled".to_owned());
        }
        let member = Member { broker: BrokerId(-1), storage_id, endpoint };
        let wanted = match agreed(from.broker, wanted) {
            Ok(wanted) => wanted,
            Err(reason) => return refuse(&member, reason),
        };
        let is_new = !self.quorum.state().members.iter().any(|it| it.raft_id == raft_id);
        let leads = matches!(*self.quorum.role().borrow(), LogRole::Leader { .. });
        if let Some(obstacle) = self.known.obstacle().filter(|_| is_new && leads) {
            return refuse(&member, obstacle);
        }
        let (taken, at) = (self.known.ids(), member.clone());
        match self.quorum.admit(raft_id, member, wanted, &taken).await {
            Ok(member) => {
                let (cluster_id, broker) = (self.cluster_id, member.broker);
                info!(broker = broker.0, at = %member.endpoint, "a node is a member of the cluster");
                Answer::Joined(Joined { cluster_id, broker })
            }
            Err(MemberError::NotLeader { leader }) => {
                Answer::Elsewhere(leader.map(|leader| leader.endpoint))
            }
            Err(MemberError::Refused(reason)) => refuse(&at, reason),
            Err(error @ MemberError::Unfinished(_)) => Answer::Later(error.to_string()),
        }
    }
}

/// Which broker one is to be that is known as `known`, by its greeting or its certificate.
fn agreed(known: Option<BrokerId>, wanted: Option<BrokerId>) -> Result<Option<BrokerId>, String> {
    match (known, wanted) {
        (Some(known), Some(wanted)) if known != wanted => {
            Err(format!("it is node {known}, and wants to be broker {wanted}"))
        }
        _ => Ok(wanted.or(known)),
    }
}

fn refuse(member: &Member, reason: String) -> Answer {
    warn!(at = %member.endpoint, reason, "a node that wants to join is refused");
    Answer::Refused(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_joins_as_another_than_its_certificate_says() {
        let (one, two) = (Some(BrokerId(1)), Some(BrokerId(2)));
        assert_eq!(agreed(None, None), Ok(None));
        assert_eq!(agreed(None, one), Ok(one));
        assert_eq!(agreed(one, None), Ok(one));
        assert_eq!(agreed(one, one), Ok(one));
        assert!(agreed(one, two).unwrap_err().contains("wants to be broker 2"));
    }

    #[test]
    fn requests_and_answers_come_back_and_damage_is_an_error() {
        let endpoint = Endpoint { name: "PEER".into(), host: "node".into(), port: 9093 };
        let joining = Joining {
            raft_id: 7,
            storage_id: Uuid([3; 16]),
            endpoint: endpoint.clone(),
            wanted: Some(BrokerId(4)),
        };
        let bytes = encode(&joining);
        assert_eq!(decode(&bytes), Ok(joining));
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "{cut}");
        }
        let joined = Joined { cluster_id: Uuid([1; 16]), broker: BrokerId(2) };
        for answer in [
            Answer::Refused("no".into()),
            Answer::Later("wait".into()),
            Answer::Joined(joined),
            Answer::Elsewhere(None),
            Answer::Elsewhere(Some(endpoint)),
        ] {
            let bytes = encode_answer(&answer);
            assert_eq!(decode_answer(&bytes), Ok(answer));
            for cut in 0..bytes.len() {
                assert!(decode_answer(&bytes[..cut]).is_err(), "{cut}");
            }
        }
    }
}
