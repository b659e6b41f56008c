//! What nodes of the metadata log say to each other, and how it gets there.
//!
//! Each message names the node it is for: at an address there may be another one by now, with an empty
//! disk, and that must neither vote nor take entries in its place.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{EntryPayload, OptionalSend};

use crate::config::Endpoint;
use crate::metadata::{DecodeError, Decoder, Encoder};
use crate::peer::{PeerError, Peers, Service};

use super::codec::{
    self, Kind, put_log_id, put_vote, take_log_id, take_stored_membership, take_vote,
};
use super::storage::Shared;
use super::types::{Entry, Member, Raft, SnapshotData, SnapshotMeta, Types, Vote, log_id, term_of};

/// How long a node that could not be reached is left alone.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(100);

/// The answer to a call, when it comes.
pub type CallFuture = Pin<Box<dyn Future<Output = Result<Bytes, PeerError>> + Send>>;

/// How a message gets to another node. The peers do it; tests have networks of their own.
pub trait Transport: Send + Sync {
    /// Asks the node of `raft_id`, which is at `at`.
    fn call(&self, raft_id: u64, at: &Endpoint, request: Bytes, timeout: Duration) -> CallFuture;
}

impl Transport for Peers {
    fn call(&self, _: u64, at: &Endpoint, request: Bytes, timeout: Duration) -> CallFuture {
        let (peers, at) = (self.clone(), at.clone());
        Box::pin(async move { peers.call_at(&at, Service::Raft, request, timeout).await })
    }
}

/// A message of the log.
#[derive(Debug)]
pub(super) enum Message {
    Vote(VoteRequest<u64>),
    Append(AppendEntriesRequest<Types>),
    Snapshot { vote: Vote, meta: SnapshotMeta, bytes: Bytes },
    Probe,
}

const VOTE: u8 = 1;
const APPEND: u8 = 2;
const SNAPSHOT: u8 = 3;
const PROBE: u8 = 4;

/// The version of these messages; a higher one is refused.
const VERSION: u8 = 1;

/// The bytes of a message for `target`.
pub(super) fn encode(target: u64, message: &Message) -> Bytes {
    let mut out = Encoder::default();
    out.u8(VERSION);
    out.u64(target);
    match message {
        Message::Vote(request) => {
            out.u8(VOTE);
            put_vote(&mut out, &request.vote);
            put_log_id(&mut out, request.last_log_id.as_ref());
        }
        Message::Append(request) => {
            out.u8(APPEND);
            put_vote(&mut out, &request.vote);
            put_log_id(&mut out, request.prev_log_id.as_ref());
            put_log_id(&mut out, request.leader_commit.as_ref());
            out.list(&request.entries, put_entry);
        }
        Message::Snapshot { vote, meta, bytes } => {
            out.u8(SNAPSHOT);
            put_vote(&mut out, vote);
            put_log_id(&mut out, meta.last_log_id.as_ref());
            codec::put_stored_membership(&mut out, &meta.last_membership);
            out.text(&meta.snapshot_id);
            out.bytes(bytes);
        }
        Message::Probe => {
            out.u8(PROBE);
            put_vote(&mut out, &Vote::default());
        }
    }
    out.into_bytes().into()
}

fn put_entry(out: &mut Encoder, entry: &Entry) {
    let (kind, body) = codec::payload_bytes(&entry.payload);
    out.u8(kind.byte());
    out.u64(term_of(&entry.log_id));
    out.u64(entry.log_id.index);
    out.bytes(&body);
}

/// A message and whom it is for.
///
/// # Errors
/// The bytes are none, or of a newer version.
pub(super) fn decode(bytes: &Bytes) -> Result<(u64, Message), DecodeError> {
    let mut input = Decoder::new(bytes);
    let version = input.u8()?;
    let target = input.u64()?;
    let kind = input.u8()?;
    if version != VERSION {
        return Err(DecodeError::UnknownRecord { kind, version });
    }
    let vote = take_vote(&mut input)?;
    let message = match kind {
        VOTE => Message::Vote(VoteRequest { vote, last_log_id: take_log_id(&mut input)? }),
        APPEND => Message::Append(AppendEntriesRequest {
            vote,
            prev_log_id: take_log_id(&mut input)?,
            leader_commit: take_log_id(&mut input)?,
            entries: input.list(|input| take_entry(input, bytes))?,
        }),
        SNAPSHOT => {
            let last_log_id = take_log_id(&mut input)?;
            let last_membership = take_stored_membership(&mut input)?;
            let snapshot_id = input.text()?;
            let meta = SnapshotMeta { last_log_id, last_membership, snapshot_id };
            Message::Snapshot { vote, meta, bytes: bytes.slice_ref(input.bytes()?) }
        }
        PROBE => Message::Probe,
        _ => return Err(DecodeError::UnknownRecord { kind, version }),
    };
    input.finish()?;
    Ok((target, message))
}

fn take_entry(input: &mut Decoder<'_>, whole: &Bytes) -> Result<Entry, DecodeError> {
    let kind = input.u8()?;
    let kind =
        Kind::from_byte(kind).ok_or(DecodeError::UnknownRecord { kind, version: VERSION })?;
    let term = input.u64()?;
    let id = log_id(term, input.u64()?);
    let body = input.bytes()?;
    // Entries are kept after the message is gone: those that are a small part of it are copied.
    let body = if body.len() * 2 > whole.len() {
        whole.slice_ref(body)
    } else {
        Bytes::copy_from_slice(body)
    };
    codec::entry(id, kind, body)
}

/// A message that asks a node for nothing but a sign of life.
pub(super) fn probe(target: u64) -> Bytes {
    encode(target, &Message::Probe)
}

/// Whether an answer to a probe is that node's.
pub(super) fn is_alive(answer: &[u8]) -> bool {
    matches!(decode_answer(answer), Ok(Answer::Append(AppendEntriesResponse::Success)))
}

/// What is answered.
#[derive(Debug)]
pub(super) enum Answer {
    Vote(VoteResponse<u64>),
    Append(AppendEntriesResponse<u64>),
    Snapshot(SnapshotResponse<u64>),
    /// The node is another one, is stopping, or has no room: nothing was done.
    Not(String),
}

pub(super) fn encode_answer(answer: &Answer) -> Bytes {
    let mut out = Encoder::default();
    match answer {
        Answer::Not(reason) => {
            out.u8(0);
            out.text(reason);
        }
        Answer::Vote(response) => {
            out.u8(VOTE);
            put_vote(&mut out, &response.vote);
            out.bool(response.vote_granted);
            put_log_id(&mut out, response.last_log_id.as_ref());
        }
        Answer::Append(response) => {
            out.u8(APPEND);
            match response {
                AppendEntriesResponse::Success => out.u8(0),
                AppendEntriesResponse::PartialSuccess(upto) => {
                    out.u8(1);
                    put_log_id(&mut out, upto.as_ref());
                }
                AppendEntriesResponse::Conflict => out.u8(2),
                AppendEntriesResponse::HigherVote(vote) => {
                    out.u8(3);
                    put_vote(&mut out, vote);
                }
            }
        }
        Answer::Snapshot(response) => {
            out.u8(SNAPSHOT);
            put_vote(&mut out, &response.vote);
        }
    }
    out.into_bytes().into()
}

pub(super) fn decode_answer(bytes: &[u8]) -> Result<Answer, DecodeError> {
    let mut input = Decoder::new(bytes);
    let answer = match input.u8()? {
        0 => Answer::Not(input.text()?),
        VOTE => {
            let vote = take_vote(&mut input)?;
            let vote_granted = input.bool()?;
            let last_log_id = take_log_id(&mut input)?;
            Answer::Vote(VoteResponse { vote, vote_granted, last_log_id })
        }
        APPEND => Answer::Append(match input.u8()? {
            0 => AppendEntriesResponse::Success,
            1 => AppendEntriesResponse::PartialSuccess(take_log_id(&mut input)?),
            2 => AppendEntriesResponse::Conflict,
            3 => AppendEntriesResponse::HigherVote(take_vote(&mut input)?),
            kind => return Err(DecodeError::UnknownRecord { kind, version: VERSION }),
        }),
        SNAPSHOT => Answer::Snapshot(SnapshotResponse { vote: take_vote(&mut input)? }),
        kind => return Err(DecodeError::UnknownRecord { kind, version: VERSION }),
    };
    input.finish()?;
    Ok(answer)
}

/// Carries out a message of another node.
pub(super) async fn serve(own: u64, raft: &Raft, shared: &Shared, request: Bytes) -> Answer {
    let (target, message) = match decode(&request) {
        Ok(decoded) => decoded,
        Err(error) => return Answer::Not(format!("the message is damaged: {error}")),
    };
    if target != own {
        return Answer::Not(format!("this is node {own}, and {target} was meant"));
    }
    let answer = match message {
        Message::Probe => Ok(Answer::Append(AppendEntriesResponse::Success)),
        Message::Vote(request) => raft.vote(request).await.map(Answer::Vote).map_err(text),
        Message::Append(request) => match reserve(shared, &request) {
            Ok(()) => {
                let answer = raft.append_entries(request).await;
                let is_told = answer.as_ref().is_ok_and(|it| it.is_success() || it.is_conflict());
                shared.is_told.fetch_or(is_told, Ordering::Relaxed);
                answer.map(Answer::Append).map_err(text)
            }
            Err(reason) => Err(reason),
        },
        Message::Snapshot { vote, meta, bytes } => {
            let snapshot = Box::new(SnapshotData::Received(bytes));
            let snapshot = openraft::Snapshot { meta, snapshot };
            raft.install_full_snapshot(vote, snapshot).await.map(Answer::Snapshot).map_err(text)
        }
    };
    answer.unwrap_or_else(Answer::Not)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// What the library takes it must be able to write: a full disk refuses before.
fn reserve(shared: &Shared, request: &AppendEntriesRequest<Types>) -> Result<(), String> {
    let bytes = request.entries.iter().map(|entry| match &entry.payload {
        EntryPayload::Blank => 0,
        EntryPayload::Normal(records) => records.len(),
        EntryPayload::Membership(membership) => 512 * membership.nodes().count().max(1),
    });
    if request.entries.is_empty() {
        return Ok(());
    }
    let reserved = shared.store.lock().reserve(request.entries.len(), bytes.sum());
    reserved.map_err(text)
}

/// Makes the library's clients.
#[derive(Clone)]
pub(super) struct Network {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) shared: Arc<Shared>,
}

/// The library's way to one node.
pub(super) struct Client {
    network: Network,
    target: u64,
    at: Endpoint,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, member: &Member) -> Client {
        Client { network: self.clone(), target, at: member.endpoint.clone() }
    }
}

type Failure<E = openraft::error::Infallible> = RPCError<u64, Member, RaftError<u64, E>>;

impl Client {
    async fn ask(&self, message: &Message, limit: Duration) -> Result<Answer, PeerError> {
        let request = encode(self.target, message);
        let answer = self.network.transport.call(self.target, &self.at, request, limit).await?;
        match decode_answer(&answer) {
            Ok(Answer::Not(reason)) => Err(PeerError::Refused(reason)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(PeerError::Refused(error.to_string())),
        }
    }
}

/// Whether it makes sense to try again at once.
fn failure(error: &PeerError) -> Failure {
    match error {
        PeerError::TimedOut => RPCError::Network(NetworkError::new(error)),
        PeerError::Closed
        | PeerError::Unreachable(_)
        | PeerError::NoRoute(_)
        | PeerError::Refused(_) => RPCError::Unreachable(Unreachable::new(error)),
    }
}

fn unexpected() -> Failure {
    failure(&PeerError::Refused("the answer is to something else".to_owned()))
}

impl RaftNetwork<Types> for Client {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failure> {
        match self.ask(&Message::Append(rpc), option.hard_ttl()).await {
            Ok(Answer::Append(response)) => Ok(response),
            Ok(_) => Err(unexpected()),
            Err(error) => Err(failure(&error)),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, Failure> {
        match self.ask(&Message::Vote(rpc), option.hard_ttl()).await {
            Ok(Answer::Vote(response)) => Ok(response),
            Ok(_) => Err(unexpected()),
            Err(error) => Err(failure(&error)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Types, Fatal<u64>>> {
        let unreachable = |error: &PeerError| StreamingError::Unreachable(Unreachable::new(error));
        let bytes = match *snapshot.snapshot {
            SnapshotData::Received(bytes) => bytes,
            SnapshotData::Stored(offset) => {
                let read = self.network.shared.store.lock().snapshot_bytes(offset);
                read.map_err(|error| unreachable(&PeerError::NoRoute(error.to_string())))?.into()
            }
        };
        let message = Message::Snapshot { vote, meta: snapshot.meta, bytes };
        // Dropping the call is safe: the other node installs it, or not, as a whole.
        let answered = tokio::select! {
            answered = self.ask(&message, option.hard_ttl()) => answered,
            closed = cancel => return Err(StreamingError::Closed(closed)),
        };
        match answered {
            Ok(Answer::Snapshot(response)) => Ok(response),
            Ok(_) => {
                Err(unreachable(&PeerError::Refused("the answer is to something else".to_owned())))
            }
            Err(error) => Err(unreachable(&error)),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(UNREACHABLE_PAUSE))
    }
}
