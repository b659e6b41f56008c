//! Produce: batches into partition logs.
//!
//! Ordered on the connection's task: validate, append, and only then is the next request read. What
//! takes long, looking into large compressed batches, is handed to a thread of its own first; the
//! connection reads nothing meanwhile, so that the order stays.
//!
//! acks=1 is answered right there, acks=all once each batch is committed, acks=0 never (a failure
//! closes the connection, the only sign the client can get). Each partition succeeds or fails on
//! its own.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use sawlog_protocol::messages::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use sawlog_protocol::{ErrorCode, Uuid};
use tokio::time::Instant;

use self::check::{Allowance, Refusal, Rules, TooMuch, check};
use super::admin::is_internal;
use super::leader_hints::{HintedBroker, LeaderHints};
use super::{CloseReason, Node, Reply, ReplyTo, RequestContext};
use crate::base::{LeaderEpoch, Offset, Timestamp};
use crate::config::MessageTimestampType;
use crate::replication::{
    Accepted, AckState, Acks, AppendError, AppendRefusal, LocalTopic, Partition, Signal,
};
use crate::storage::ProducerError;

mod check;

/// First version that names topics by id (KIP-516).
const TOPIC_ID_VERSION_MIN: i16 = 13;

/// First version that says where leaders are (KIP-951).
const LEADER_HINTS_VERSION_MIN: i16 = 10;

/// Who calls itself this may write to internal topics, as with Kafka: tools that repair them do.
const ADMIN_CLIENT: &str = "__admin_client";

/// Why a batch is refused, in the words the client gets.
#[derive(Debug, PartialEq, Eq)]
struct Rejected {
    code: ErrorCode,
    message: String,
    /// Index within the batch and reason, for the records at fault (KIP-467).
    records: Vec<(i32, String)>,
}

impl Rejected {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), records: Vec::new() }
    }
}

/// What became of one partition's batch.
#[derive(Debug)]
struct Outcome {
    index: i32,
    result: Result<Accepted, Rejected>,
    log_append_time: Timestamp,
}

/// What became of one topic's batches.
#[derive(Debug)]
struct TopicOutcome {
    name: Arc<str>,
    id: Uuid,
    partitions: Vec<Outcome>,
}

/// A batch in the log that waits to be committed.
#[derive(Debug)]
struct Uncommitted {
    partition: Arc<Partition>,
    last_offset: Offset,
    /// The leadership that took it.
    leader_epoch: LeaderEpoch,
    /// Where its outcome stands.
    topic: usize,
    slot: usize,
}

/// How far a request has come: what the batches looked at so far led to.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    outcomes: Vec<TopicOutcome>,
    waiting: Vec<Uncommitted>,
}

/// Where a request stands.
pub(crate) enum Step {
    /// Ordered: see the module's words.
    Ordered(Reply),
    /// Going on takes too long for a thread that serves connections.
    TooMuch(Progress),
}

/// Handles one request on the thread of its connection, which serves others too.
pub(crate) fn handle(ctx: &RequestContext<'_>, request: &ProduceRequest<'_>) -> Step {
    go_on(ctx, request, Progress::default(), Allowance::of_connections())
}

/// Handles the rest of a request on a thread that may take its time.
pub(crate) fn handle_rest(
    ctx: &RequestContext<'_>,
    request: &ProduceRequest<'_>,
    progress: Progress,
) -> Step {
    go_on(ctx, request, progress, Allowance::unlimited())
}

fn go_on(
    ctx: &RequestContext<'_>,
    request: &ProduceRequest<'_>,
    mut progress: Progress,
    mut allowance: Allowance,
) -> Step {
    let acks = match request.acks {
        0 => Acks::None,
        1 => Acks::Leader,
        -1 => Acks::All,
        other => return Step::Ordered(refuse_all(ctx, request, other)),
    };
    let now = ctx.node.clock.now();
    for (at, topic) in request.topic_data.iter().enumerate() {
        let local = if ctx.version >= TOPIC_ID_VERSION_MIN {
            ctx.node.partitions.topic_by_id(topic.topic_id)
        } else {
            ctx.node.partitions.topic_by_name(topic.name)
        };
        if progress.outcomes.len() == at {
            progress.outcomes.push(TopicOutcome {
                name: local.as_ref().map_or_else(|| Arc::from(topic.name), |t| t.name.clone()),
                id: topic.topic_id,
                partitions: Vec::with_capacity(topic.partition_data.len().min(1024)),
            });
        }
        let Progress { outcomes, waiting } = &mut progress;
        let Some(TopicOutcome { partitions, .. }) = outcomes.get_mut(at) else { break };
        for data in topic.partition_data.iter().skip(partitions.len()) {
            let batch = data.records.as_ref();
            let place = Place { topic: local.as_deref(), index: data.index };
            let Ok((result, log_append_time)) =
                append(ctx, place, batch, (acks, now), &mut allowance)
            else {
                return Step::TooMuch(progress);
            };
            if let (Ok((accepted, Some(partition))), Acks::All) = (&result, acks) {
                waiting.push(Uncommitted {
                    partition: partition.clone(),
                    last_offset: accepted.last_offset,
                    leader_epoch: accepted.leader_epoch,
                    topic: at,
                    slot: partitions.len(),
                });
            }
            let result = result.map(|(accepted, _)| accepted);
            partitions.push(Outcome { index: data.index, result, log_append_time });
        }
    }
    Step::Ordered(answer(ctx, request, acks, progress))
}

/// What becomes of a request whose batches are all appended or refused.
fn answer(
    ctx: &RequestContext<'_>,
    request: &ProduceRequest<'_>,
    acks: Acks,
    progress: Progress,
) -> Reply {
    let Progress { mut outcomes, mut waiting } = progress;
    match acks {
        Acks::None => close_on_failure(&outcomes),
        Acks::Leader => Reply::Ready(reply(ctx.node, ctx.reply_to(), &outcomes)),
        Acks::All => {
            waiting.retain(|item| !settle(&mut outcomes, item));
            if waiting.is_empty() {
                return Reply::Ready(reply(ctx.node, ctx.reply_to(), &outcomes));
            }
            let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
            let to = (ctx.node.clone(), ctx.reply_to());
            Reply::Pending(Box::pin(commit(to, outcomes, waiting, timeout)))
        }
    }
}

/// Where a batch goes.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    topic: Option<&'a LocalTopic>,
    index: i32,
}

type AppendResult = Result<(Accepted, Option<Arc<Partition>>), Rejected>;

/// Validates and appends one partition's batch. Also returns the broker's timestamp if the topic
/// wants it in the records. Does nothing if the allowance does not suffice.
fn append(
    ctx: &RequestContext<'_>,
    Place { topic, index }: Place<'_>,
    batch: Option<&Bytes>,
    (acks, now): (Acks, Timestamp),
    allowance: &mut Allowance,
) -> Result<(AppendResult, Timestamp), TooMuch> {
    let Some(topic) = topic else {
        let rejected = if ctx.version >= TOPIC_ID_VERSION_MIN {
            Rejected::new(ErrorCode::UNKNOWN_TOPIC_ID, "no topic has this id")
        } else {
            Rejected::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "no such topic")
        };
        return Ok((Err(rejected), Timestamp::NONE));
    };
    if is_internal(&topic.name) && ctx.client_id != Some(ADMIN_CLIENT) {
        let message = format!("topic {} is written by the broker only", topic.name);
        return Ok((
            Err(Rejected::new(ErrorCode::INVALID_TOPIC_EXCEPTION, message)),
            Timestamp::NONE,
        ));
    }
    let Some(partition) = topic.partition(index) else {
        if topic.is_offline(index) {
            let message = "the partition's log could not be opened";
            let rejected = Rejected::new(ErrorCode::KAFKA_STORAGE_ERROR, message);
            return Ok((Err(rejected), Timestamp::NONE));
        }
        let rejected = if topic.is_elsewhere(index) {
            let message = "other brokers have the partition";
            Rejected::new(ErrorCode::NOT_LEADER_OR_FOLLOWER, message)
        } else {
            let message = format!("topic {} has no partition {index}", topic.name);
            Rejected::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message)
        };
        return Ok((Err(rejected), Timestamp::NONE));
    };
    if acks == Acks::All && is_forlorn(ctx.node, partition) {
        return Ok((Err(forlorn()), Timestamp::NONE));
    }
    let config = partition.config();
    let rules = Rules { config: &config, version: ctx.version, now };
    let checked = match check(batch, &rules, allowance) {
        Ok(checked) => checked,
        Err(Refusal::Rejected(rejected)) => return Ok((Err(rejected), Timestamp::NONE)),
        Err(Refusal::TooMuch) => return Err(TooMuch),
    };
    let result = partition
        .append_as_leader(&checked.bytes, &checked.header, acks, now)
        .map_err(rejected_append);
    let log_append_time = match config.message_timestamp_type {
        MessageTimestampType::LogAppendTime if result.is_ok() => now,
        MessageTimestampType::LogAppendTime | MessageTimestampType::CreateTime => Timestamp::NONE,
    };
    Ok((result.map(|accepted| (accepted, Some(partition.clone()))), log_append_time))
}

/// The one place where a refused append becomes a protocol error.
fn rejected_append(error: AppendError) -> Rejected {
    let code = match &error {
        AppendError::Refused(AppendRefusal::NotLeader) => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        AppendError::Refused(AppendRefusal::NotEnoughReplicas { .. }) => {
            ErrorCode::NOT_ENOUGH_REPLICAS
        }
        AppendError::Refused(AppendRefusal::Producer(refusal)) => match refusal {
            ProducerError::OutOfOrderSequence { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
            ProducerError::InvalidProducerEpoch { .. } => ErrorCode::INVALID_PRODUCER_EPOCH,
        },
        AppendError::Storage(_) | AppendError::Offline | AppendError::Full => {
            ErrorCode::KAFKA_STORAGE_ERROR
        }
    };
    Rejected::new(code, error.to_string())
}

/// Writes the outcome of a batch that is decided by now. Returns whether it is.
fn settle(outcomes: &mut [TopicOutcome], item: &Uncommitted) -> bool {
    let rejected = match item.partition.ack_state_of(item.leader_epoch, item.last_offset) {
        AckState::Waiting if planted!(AcknowledgeAtAppend) => return true,
        AckState::Waiting => return false,
        AckState::Committed => return true,
        AckState::NotEnoughReplicas => Rejected::new(
            ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
            "written, but fewer replicas than min.insync.replicas are in sync",
        ),
        AckState::Offline => Rejected::new(
            ErrorCode::KAFKA_STORAGE_ERROR,
            "written, but the partition's log failed before it was safe on disk",
        ),
        AckState::NotLeader => Rejected::new(
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            "the partition is no longer served by this broker",
        ),
    };
    fail(outcomes, item, rejected);
    true
}

fn fail(outcomes: &mut [TopicOutcome], item: &Uncommitted, rejected: Rejected) {
    if let Some(outcome) =
        outcomes.get_mut(item.topic).and_then(|topic| topic.partitions.get_mut(item.slot))
    {
        outcome.result = Err(rejected);
    }
}

/// How long nothing is heard of a replica before it is not waited for, where the controller is silent,
/// too. Leaders look twice as often.
const FORLORN_AFTER: Duration = Duration::from_secs(1);

/// Whether a leader waits in vain: cut off from its replicas and from the controller, which has another
/// lead by now if it can. Clients look for that one once they are told; nobody else tells them.
fn is_forlorn(node: &Node, partition: &Partition) -> bool {
    node.contact.is_lost(Instant::now) && !partition.is_heard(FORLORN_AFTER)
}

/// When a request that waits may have begun to wait in vain.
fn next_look(node: &Node, now: Instant) -> Instant {
    now + node.contact.lost_in(now).max(FORLORN_AFTER)
}

fn forlorn() -> Rejected {
    Rejected::new(
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        "this broker hears neither from its replicas nor from the controller: another may lead by now",
    )
}

fn timed_out() -> Rejected {
    Rejected::new(
        ErrorCode::REQUEST_TIMED_OUT,
        "appended, but not committed within the request's timeout",
    )
}

/// Answers once every batch is committed or failed, waits in vain, or the client's timeout has passed.
async fn commit(
    (node, reply_to): (Arc<Node>, ReplyTo),
    mut outcomes: Vec<TopicOutcome>,
    mut waiting: Vec<Uncommitted>,
    timeout: Duration,
) -> Result<sawlog_protocol::Rope, CloseReason> {
    let signal = Signal::new();
    for item in &waiting {
        item.partition.notify_above(item.last_offset, &signal, 0);
    }
    let now = Instant::now();
    let deadline = now + timeout;
    let alarm = tokio::time::sleep_until(next_look(&node, now).min(deadline));
    tokio::pin!(alarm);
    while !waiting.is_empty() {
        let rang = std::future::poll_fn(|cx| {
            if signal.poll_fired(cx.waker()).is_ready() {
                return Poll::Ready(false);
            }
            alarm.as_mut().poll(cx).map(|()| true)
        })
        .await;
        waiting.retain(|item| !settle(&mut outcomes, item));
        if !rang {
            continue;
        }
        let now = Instant::now();
        let given_up =
            waiting.extract_if(.., |item| now >= deadline || is_forlorn(&node, &item.partition));
        for item in given_up {
            item.partition.forget(&signal);
            let rejected = if now >= deadline { timed_out() } else { forlorn() };
            fail(&mut outcomes, &item, rejected);
        }
        alarm.as_mut().reset(next_look(&node, now).min(deadline));
    }
    Ok(reply(&node, reply_to, &outcomes))
}

fn reply(node: &Node, to: ReplyTo, outcomes: &[TopicOutcome]) -> sawlog_protocol::Rope {
    let is_moved = |outcome: &Outcome| matches!(&outcome.result, Err(rejected) if rejected.code == ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let any_moved = to.version >= LEADER_HINTS_VERSION_MIN
        && outcomes.iter().any(|topic| topic.partitions.iter().any(is_moved));
    let mut hints = any_moved.then(|| LeaderHints::new(node));
    let responses = outcomes
        .iter()
        .map(|topic| TopicProduceResponse {
            name: &topic.name,
            topic_id: topic.id,
            partition_responses: topic
                .partitions
                .iter()
                .map(|outcome| {
                    let mut response = partition_response(outcome);
                    if let Some(hints) = hints.as_mut().filter(|_| is_moved(outcome)) {
                        let (leader_id, leader_epoch) =
                            hints.leader(&topic.name, topic.id, outcome.index);
                        response.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch };
                    }
                    response
                })
                .collect(),
        })
        .collect();
    let node_endpoints = hints.iter().flat_map(|hints| hints.brokers().map(endpoint)).collect();
    to.reply(&ProduceResponse { responses, node_endpoints, ..Default::default() })
}

fn endpoint(broker: HintedBroker<'_>) -> NodeEndpoint<'_> {
    let HintedBroker { id, host, port, rack } = broker;
    NodeEndpoint { node_id: id, host, port: port.into(), rack }
}

fn partition_response(outcome: &Outcome) -> PartitionProduceResponse<'_> {
    match &outcome.result {
        // Clients take this for success without an offset.
        Ok(Accepted { base_offset: None, .. }) => PartitionProduceResponse {
            index: outcome.index,
            error_code: ErrorCode::DUPLICATE_SEQUENCE_NUMBER,
            base_offset: -1,
            error_message: Some("the batch is in the log, and it is not remembered where"),
            ..Default::default()
        },
        Ok(Accepted { base_offset: Some(base_offset), log_start, .. }) => {
            PartitionProduceResponse {
                index: outcome.index,
                base_offset: base_offset.0,
                log_append_time_ms: outcome.log_append_time.0,
                log_start_offset: log_start.0,
                ..Default::default()
            }
        }
        Err(rejected) => PartitionProduceResponse {
            index: outcome.index,
            error_code: rejected.code,
            base_offset: -1,
            record_errors: rejected
                .records
                .iter()
                .map(|(index, message)| BatchIndexAndErrorMessage {
                    batch_index: *index,
                    batch_index_error_message: Some(message),
                })
                .collect(),
            error_message: Some(&rejected.message),
            ..Default::default()
        },
    }
}

/// acks=0 has no reply: a failure closes the connection, so that the client looks again.
fn close_on_failure(outcomes: &[TopicOutcome]) -> Reply {
    let failed = outcomes
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(move |outcome| (topic, outcome)))
        .find_map(|(topic, outcome)| Some((topic, outcome, outcome.result.as_ref().err()?)));
    match failed {
        None => Reply::Nothing,
        Some((topic, outcome, rejected)) => Reply::Close(CloseReason::UnacknowledgedWriteFailed(
            format!("{}-{}: {}: {}", topic.name, outcome.index, rejected.code, rejected.message),
        )),
    }
}

/// An acks value the protocol does not know: nothing is appended.
fn refuse_all(ctx: &RequestContext<'_>, request: &ProduceRequest<'_>, acks: i16) -> Reply {
    let outcomes: Vec<TopicOutcome> = request
        .topic_data
        .iter()
        .map(|topic| TopicOutcome {
            name: Arc::from(topic.name),
            id: topic.topic_id,
            partitions: topic
                .partition_data
                .iter()
                .map(|data| Outcome {
                    index: data.index,
                    result: Err(Rejected::new(
                        ErrorCode::INVALID_REQUIRED_ACKS,
                        format!("acks must be 0, 1 or -1 (all), not {acks}"),
                    )),
                    log_append_time: Timestamp::NONE,
                })
                .collect(),
        })
        .collect();
    Reply::Ready(reply(ctx.node, ctx.reply_to(), &outcomes))
}
