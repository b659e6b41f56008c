//! Requests to replies: one file per API.
//!
//! [`dispatch`] runs on the connection's own task. What it does before returning is *ordered*: the
//! next request of the connection is handled after it. What must wait (durability, new data, the
//! metadata log) is a [`Reply::Pending`] future, polled when its turn to be answered has come.
//! Wire error codes exist only here; each handler maps them in one place.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use sawlog_protocol::messages::produce::ProduceRequest;
use sawlog_protocol::{
    ApiKey, DecodeError, Encode, ErrorCode, Rope, decode_request, decode_request_header,
    encode_response,
};

use tokio::sync::Semaphore;

use crate::base::Clock;
use crate::broker::{Contact, Departing};
use crate::config::BrokerConfig;
use crate::controller::Controller;
use crate::coordinator::Coordinator;
use crate::metadata::ImageCell;
use crate::metrics::BrokerMetrics;
use crate::replication::{EpochMismatch, LocalTopic, Partitions};
use crate::telemetry::{ClientFacts, Telemetry};

mod add_raft_voter;
mod admin;
mod alter_configs;
mod alter_partition_reassignments;
mod api_versions;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod elect_leaders;
mod fetch;
mod fetch_sessions;
mod find_coordinator;
mod get_telemetry_subscriptions;
mod group_timeline;
mod groups;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leader_hints;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod push_telemetry;
mod remove_raft_voter;
mod sync_group;
mod unregister_broker;
mod update_features;

pub(crate) use fetch_sessions::FetchSessions;
pub(crate) use groups::MemberIds;
pub(crate) use init_producer_id::ProducerIds;

/// Everything a handler may use. One per broker.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) config: Arc<BrokerConfig>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) images: Arc<ImageCell>,
    pub(crate) controller: Arc<Controller>,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) groups: Arc<Coordinator>,
    pub(crate) contact: Arc<Contact>,
    pub(crate) departing: Arc<Departing>,
    pub(crate) fetch_sessions: FetchSessions,
    pub(crate) producer_ids: ProducerIds,
    /// Requests that are being handled on threads of their own because they take long.
    pub(crate) heavy_requests: Arc<Semaphore>,
    pub(crate) metrics: Arc<BrokerMetrics>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) member_ids: MemberIds,
}

/// The client at the other end of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) node: Arc<Node>,
    pub(crate) address: SocketAddr,
    /// Host told to this client: the advertised one, or the one it dialled.
    pub(crate) host: Arc<str>,
    /// Port told to this client.
    pub(crate) port: u16,
    /// The library at the other end and its version, once it has told.
    pub(crate) software: OnceLock<(Arc<str>, Arc<str>)>,
}

/// One request's surroundings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestContext<'a> {
    pub(crate) node: &'a Arc<Node>,
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    /// What the client calls itself.
    pub(crate) client_id: Option<&'a str>,
    /// Where it connects from.
    pub(crate) address: IpAddr,
    /// The connection's other end.
    pub(crate) peer: &'a Peer,
    /// Host and port under which this client reaches this broker.
    pub(crate) host: &'a str,
    pub(crate) port: u16,
}

impl RequestContext<'_> {
    /// Encodes the reply to this request.
    pub(crate) fn reply<M: Encode>(&self, response: &M) -> Rope {
        self.reply_to().reply(response)
    }

    /// Who the client is, as far as it has told.
    pub(crate) fn client_facts(&self) -> ClientFacts {
        ClientFacts {
            id: groups::short(self.client_id.unwrap_or_default()).into(),
            software: self.peer.software.get().cloned(),
            address: self.peer.address,
        }
    }

    /// What a reply needs of its request, for one that comes later.
    pub(crate) fn reply_to(&self) -> ReplyTo {
        ReplyTo { key: self.key, version: self.version, correlation_id: self.correlation_id }
    }
}

/// The request a reply belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyTo {
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
}

impl ReplyTo {
    /// Encodes the reply.
    pub(crate) fn reply<M: Encode>(self, response: &M) -> Rope {
        encode_response(response, self.key, self.version, self.correlation_id)
    }
}

/// `isolation_level` of consumers that see only what is committed in every sense.
pub(crate) const READ_COMMITTED: i8 = 1;

/// The one place where an epoch mismatch becomes a protocol error.
pub(crate) fn epoch_error(mismatch: EpochMismatch) -> ErrorCode {
    match mismatch {
        EpochMismatch::Fenced { .. } => ErrorCode::FENCED_LEADER_EPOCH,
        EpochMismatch::Unknown { .. } => ErrorCode::UNKNOWN_LEADER_EPOCH,
        EpochMismatch::NotLeader => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        EpochMismatch::Offline => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

/// Why a partition of `topic` is not here: its log could not be opened, other brokers have it, or
/// there is none.
pub(crate) fn absent_error(topic: Option<&LocalTopic>, index: i32) -> ErrorCode {
    match topic {
        Some(topic) if topic.is_offline(index) => ErrorCode::KAFKA_STORAGE_ERROR,
        Some(topic) if topic.is_elsewhere(index) => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        Some(_) | None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    }
}

/// A reply that is not there yet.
pub(crate) type PendingReply = Pin<Box<dyn Future<Output = Result<Rope, CloseReason>> + Send>>;

/// A request that is being ordered on another thread.
pub(crate) type PendingOrder = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// What becomes of a request.
pub(crate) enum Reply {
    /// Answered.
    Ready(Rope),
    /// To be answered; nothing later on this connection is answered before it.
    Pending(PendingReply),
    /// Not ordered yet: nothing later on this connection may be handled before it is.
    Unordered(PendingOrder),
    /// Done, and the protocol has no answer for it (acks=0).
    Nothing,
    /// The connection cannot go on.
    Close(CloseReason),
}

/// Why a request ends its connection: there is no reply the client would understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The request header does not parse.
    Header(DecodeError),
    /// An API this broker does not serve; ApiVersions does not list it.
    UnknownApi(i16),
    /// A version this broker does not serve; ApiVersions does not list it.
    UnsupportedVersion(ApiKey, i16),
    /// The body does not parse.
    Body(ApiKey, i16, DecodeError),
    /// Refused as a whole, in a version that has no field to say so.
    Refused(ApiKey, ErrorCode),
    /// The thread that handled it failed.
    Failed(ApiKey),
    /// A write with acks=0 failed: closing is the only way to tell the client.
    UnacknowledgedWriteFailed(String),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(error) => write!(f, "malformed request header: {error}"),
            Self::UnknownApi(key) => write!(f, "unknown API key {key}"),
            Self::UnsupportedVersion(key, version) => {
                let served = key.versions();
                write!(
                    f,
                    "{} version {version} is not served (versions {}-{} are)",
                    key.name(),
                    served.start(),
                    served.end()
                )
            }
            Self::Body(key, version, error) => {
                write!(f, "malformed {} request, version {version}: {error}", key.name())
            }
            Self::Failed(key) => write!(f, "the broker failed to handle a {} request", key.name()),
            Self::Refused(key, error) => write!(f, "{} refused: {error}", key.name()),
            Self::UnacknowledgedWriteFailed(why) => write!(f, "write with acks=0 failed: {why}"),
        }
    }
}

/// A request whose header is known to parse.
struct Call {
    peer: Arc<Peer>,
    frame: Bytes,
    body: Bytes,
    key: ApiKey,
}

impl Call {
    fn context(&self) -> Result<RequestContext<'_>, CloseReason> {
        let (header, _) = decode_request_header(&self.frame).map_err(CloseReason::Header)?;
        Ok(RequestContext {
            node: &self.peer.node,
            key: self.key,
            version: header.api_version,
            correlation_id: header.correlation_id,
            client_id: header.client_id,
            address: self.peer.address.ip(),
            peer: &self.peer,
            host: &self.peer.host,
            port: self.peer.port,
        })
    }
}

impl Call {
    /// Decodes a Produce request and hands it on.
    fn with_request<T>(
        &self,
        handle: impl FnOnce(&RequestContext<'_>, &ProduceRequest<'_>) -> T,
    ) -> Result<T, CloseReason> {
        let ctx = self.context()?;
        let request = decode_request(&self.body, ctx.version)
            .map_err(|error| CloseReason::Body(ctx.key, ctx.version, error))?;
        Ok(handle(&ctx, &request))
    }
}

/// Orders a Produce request, on the connection's task as far as that is quick.
fn order_produce(call: Call) -> Reply {
    match call.with_request(produce::handle) {
        Ok(produce::Step::Ordered(reply)) => reply,
        Ok(produce::Step::TooMuch(progress)) => {
            Reply::Unordered(Box::pin(order_elsewhere(call, progress)))
        }
        Err(reason) => Reply::Close(reason),
    }
}

/// Orders the rest of a Produce request on a thread that may take its time. Few do so at once: each
/// takes a processor, and memory for what it inflates.
async fn order_elsewhere(call: Call, progress: produce::Progress) -> Reply {
    let key = call.key;
    let permit = call.peer.node.heavy_requests.clone().acquire_owned().await;
    let order = move || {
        let _permit = permit;
        call.with_request(|ctx, request| produce::handle_rest(ctx, request, progress))
    };
    match crate::base::tasks::blocking(order).await {
        Ok(Ok(produce::Step::Ordered(reply))) => reply,
        Ok(Err(reason)) => Reply::Close(reason),
        // It panicked, or the broker stops; the allowance there has no end.
        Err(_) | Ok(Ok(produce::Step::TooMuch(_))) => Reply::Close(CloseReason::Failed(key)),
    }
}

/// Answers at once, on the connection's task.
macro_rules! answer_now {
    ($call:ident, $handler:ident) => {{
        let answer = || {
            let ctx = $call.context()?;
            let request = decode_request(&$call.body, ctx.version)
                .map_err(|error| CloseReason::Body(ctx.key, ctx.version, error))?;
            Ok($handler::handle(&ctx, request))
        };
        match answer() {
            Ok(reply) => Reply::from(reply),
            Err(reason) => Reply::Close(reason),
        }
    }};
}

/// Answers when its turn has come; the handler may wait.
macro_rules! answer_later {
    ($call:ident, $handler:ident) => {{
        Reply::Pending(Box::pin(async move {
            let ctx = $call.context()?;
            let request = decode_request(&$call.body, ctx.version)
                .map_err(|error| CloseReason::Body(ctx.key, ctx.version, error))?;
            Ok($handler::handle(&ctx, request).await)
        }))
    }};
}

impl From<Rope> for Reply {
    fn from(rope: Rope) -> Self {
        Self::Ready(rope)
    }
}

/// The API a request frame asks for, known or not; -1 where the frame is too short to say.
pub(crate) fn api_key(frame: &[u8]) -> i16 {
    frame.first_chunk().map_or(-1, |key| i16::from_be_bytes(*key))
}

/// Handles one request frame (without its length prefix).
pub(crate) fn dispatch(peer: &Arc<Peer>, frame: Bytes) -> Reply {
    let (header, body_at) = match decode_request_header(&frame) {
        Ok(parsed) => parsed,
        Err(error) => return Reply::Close(CloseReason::Header(error)),
    };
    let Some(key) = ApiKey::from_i16(header.api_key).filter(|key| key.is_served()) else {
        return Reply::Close(CloseReason::UnknownApi(header.api_key));
    };
    let version = header.api_version;
    if !key.versions().contains(&version) {
        return if key == ApiKey::ApiVersions {
            Reply::Ready(api_versions::unsupported(header.correlation_id))
        } else {
            Reply::Close(CloseReason::UnsupportedVersion(key, version))
        };
    }
    let body = frame.slice(body_at..);
    let call = Call { peer: peer.clone(), frame, body, key };
    match key {
        ApiKey::Produce => order_produce(call),
        ApiKey::Fetch => answer_now!(call, fetch),
        ApiKey::ApiVersions => answer_now!(call, api_versions),
        ApiKey::OffsetForLeaderEpoch => answer_now!(call, offset_for_leader_epoch),
        ApiKey::DescribeProducers => answer_now!(call, describe_producers),
        ApiKey::FindCoordinator => answer_later!(call, find_coordinator),
        ApiKey::JoinGroup => answer_later!(call, join_group),
        ApiKey::SyncGroup => answer_later!(call, sync_group),
        ApiKey::Heartbeat => answer_later!(call, heartbeat),
        ApiKey::LeaveGroup => answer_later!(call, leave_group),
        ApiKey::OffsetCommit => answer_later!(call, offset_commit),
        ApiKey::OffsetFetch => answer_later!(call, offset_fetch),
        ApiKey::OffsetDelete => answer_later!(call, offset_delete),
        ApiKey::DescribeGroups => answer_later!(call, describe_groups),
        ApiKey::ListConfigResources => answer_later!(call, list_config_resources),
        ApiKey::ListGroups => answer_later!(call, list_groups),
        ApiKey::DeleteGroups => answer_later!(call, delete_groups),
        ApiKey::GroupTimeline => answer_later!(call, group_timeline),
        ApiKey::ConsumerGroupHeartbeat => answer_later!(call, consumer_group_heartbeat),
        ApiKey::ConsumerGroupDescribe => answer_later!(call, consumer_group_describe),
        ApiKey::ListOffsets => answer_later!(call, list_offsets),
        ApiKey::Metadata => answer_later!(call, metadata),
        ApiKey::InitProducerId => answer_later!(call, init_producer_id),
        ApiKey::CreateTopics => answer_later!(call, create_topics),
        ApiKey::DeleteTopics => answer_later!(call, delete_topics),
        ApiKey::CreatePartitions => answer_later!(call, create_partitions),
        ApiKey::DeleteRecords => answer_later!(call, delete_records),
        ApiKey::DescribeConfigs => answer_later!(call, describe_configs),
        ApiKey::AlterConfigs => answer_later!(call, alter_configs),
        ApiKey::IncrementalAlterConfigs => answer_later!(call, incremental_alter_configs),
        ApiKey::DescribeCluster => answer_later!(call, describe_cluster),
        ApiKey::DescribeTopicPartitions => answer_later!(call, describe_topic_partitions),
        ApiKey::DescribeLogDirs => answer_later!(call, describe_log_dirs),
        ApiKey::ElectLeaders => answer_later!(call, elect_leaders),
        ApiKey::AlterPartitionReassignments => answer_later!(call, alter_partition_reassignments),
        ApiKey::ListPartitionReassignments => answer_later!(call, list_partition_reassignments),
        ApiKey::DescribeQuorum => answer_later!(call, describe_quorum),
        ApiKey::UnregisterBroker => answer_later!(call, unregister_broker),
        ApiKey::UpdateFeatures => answer_later!(call, update_features),
        ApiKey::GetTelemetrySubscriptions => answer_later!(call, get_telemetry_subscriptions),
        ApiKey::PushTelemetry => answer_later!(call, push_telemetry),
        ApiKey::AddRaftVoter => answer_later!(call, add_raft_voter),
        ApiKey::RemoveRaftVoter => answer_later!(call, remove_raft_voter),
    }
}
