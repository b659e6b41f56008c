//! Produce: batches into partition logs.
//!
//! Ordered on the connection's task: validate, append, and only then is the next request read.
//! acks=1 is answered right there, acks=all once each batch is committed, acks=0 never (a failure
//! closes the connection, the only sign the client can get). Each partition succeeds or fails on
//! its own.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use sawlog_protocol::messages::produce::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceResponse,
};
use sawlog_protocol::records::{
    self, BatchError, BatchFault, BatchHeader, Compression, TimestampType,
};
use sawlog_protocol::{ErrorCode, Uuid};

use super::{CloseReason, Reply, ReplyTo, RequestContext};
use crate::base::limits::BATCH_INFLATED_BYTES_MAX;
use crate::base::{Offset, Timestamp};
use crate::config::{MessageTimestampType, TopicConfig};
use crate::replication::{
    Accepted, AckState, Acks, AppendError, AppendRefusal, LocalTopic, Partition, Signal,
};
use crate::storage::ProducerError;

/// First version that takes zstd (KIP-110).
const ZSTD_VERSION_MIN: i16 = 7;

/// First version that names topics by id (KIP-516).
const TOPIC_ID_VERSION_MIN: i16 = 13;

/// Position of the magic byte, the same in all three generations of the record format.
const MAGIC_AT: usize = 16;

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
    /// Where its outcome stands.
    topic: usize,
    slot: usize,
}

/// Handles one request: see the module's words on order.
pub(crate) fn handle(ctx: &RequestContext<'_>, request: ProduceRequest<'_>) -> Reply {
    let acks = match request.acks {
        0 => Acks::None,
        1 => Acks::Leader,
        -1 => Acks::All,
        other => return refuse_all(ctx, &request, other),
    };
    let now = ctx.node.clock.now();
    let mut outcomes = Vec::with_capacity(request.topic_data.len().min(64));
    let mut waiting = Vec::new();
    for topic in &request.topic_data {
        let local = if ctx.version >= TOPIC_ID_VERSION_MIN {
            ctx.node.partitions.topic_by_id(topic.topic_id)
        } else {
            ctx.node.partitions.topic_by_name(topic.name)
        };
        let mut partitions = Vec::with_capacity(topic.partition_data.len().min(1024));
        for data in &topic.partition_data {
            let batch = data.records.as_ref();
            let (result, log_append_time) =
                append(ctx, local.as_deref(), data.index, batch, acks, now);
            if let (Ok((accepted, Some(partition))), Acks::All) = (&result, acks) {
                waiting.push(Uncommitted {
                    partition: partition.clone(),
                    last_offset: accepted.last_offset,
                    topic: outcomes.len(),
                    slot: partitions.len(),
                });
            }
            let result = result.map(|(accepted, _)| accepted);
            partitions.push(Outcome { index: data.index, result, log_append_time });
        }
        let name = local.as_ref().map_or_else(|| Arc::from(topic.name), |t| t.name.clone());
        outcomes.push(TopicOutcome { name, id: topic.topic_id, partitions });
    }
    match acks {
        Acks::None => close_on_failure(&outcomes),
        Acks::Leader => Reply::Ready(reply(ctx.reply_to(), &outcomes)),
        Acks::All => {
            waiting.retain(|item| !settle(&mut outcomes, item));
            if waiting.is_empty() {
                return Reply::Ready(reply(ctx.reply_to(), &outcomes));
            }
            let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
            Reply::Pending(Box::pin(commit(ctx.reply_to(), outcomes, waiting, timeout)))
        }
    }
}

type AppendResult = Result<(Accepted, Option<Arc<Partition>>), Rejected>;

/// Validates and appends one partition's batch. Also returns the broker's timestamp if the topic
/// wants it in the records.
fn append(
    ctx: &RequestContext<'_>,
    topic: Option<&LocalTopic>,
    index: i32,
    batch: Option<&Bytes>,
    acks: Acks,
    now: Timestamp,
) -> (AppendResult, Timestamp) {
    let Some(topic) = topic else {
        let rejected = if ctx.version >= TOPIC_ID_VERSION_MIN {
            Rejected::new(ErrorCode::UNKNOWN_TOPIC_ID, "no topic has this id")
        } else {
            Rejected::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "no such topic")
        };
        return (Err(rejected), Timestamp::NONE);
    };
    let Some(partition) = topic.partition(index) else {
        let rejected = Rejected::new(
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            format!("topic {} has no partition {index}", topic.name),
        );
        return (Err(rejected), Timestamp::NONE);
    };
    let config = partition.config();
    let result = validate(batch, &config, ctx.version, now).and_then(|checked| {
        let Checked { header, bytes, max_timestamp } = checked;
        // The two cases in which a batch is copied: a timestamp lies under its checksum.
        let restamped = match config.message_timestamp_type {
            MessageTimestampType::LogAppendTime => {
                let mut copy = bytes.to_vec();
                let header =
                    records::set_log_append_time(&mut copy, now.0).map_err(rejected_batch)?;
                Some((header, copy))
            }
            MessageTimestampType::CreateTime if max_timestamp != header.max_timestamp => {
                let mut copy = bytes.to_vec();
                let header =
                    records::set_max_timestamp(&mut copy, max_timestamp).map_err(rejected_batch)?;
                Some((header, copy))
            }
            MessageTimestampType::CreateTime => None,
        };
        match &restamped {
            Some((header, copy)) => partition.append_as_leader(copy, header, acks, now),
            None => partition.append_as_leader(bytes, &header, acks, now),
        }
        .map_err(rejected_append)
    });
    let log_append_time = match config.message_timestamp_type {
        MessageTimestampType::LogAppendTime if result.is_ok() => now,
        MessageTimestampType::LogAppendTime | MessageTimestampType::CreateTime => Timestamp::NONE,
    };
    (result.map(|accepted| (accepted, Some(partition.clone()))), log_append_time)
}

/// A batch with nothing wrong by itself.
#[derive(Debug)]
struct Checked<'b> {
    header: BatchHeader,
    bytes: &'b Bytes,
    /// The largest timestamp of its records; some clients leave it out of the header.
    max_timestamp: i64,
}

/// Everything that can be wrong with a batch by itself.
fn validate<'b>(
    batch: Option<&'b Bytes>,
    config: &TopicConfig,
    version: i16,
    now: Timestamp,
) -> Result<Checked<'b>, Rejected> {
    let invalid = |message: String| Rejected::new(ErrorCode::INVALID_RECORD, message);
    let Some(bytes) = batch.filter(|bytes| !bytes.is_empty()) else {
        return Err(invalid("the request has no record batch for this partition".into()));
    };
    if let Some(magic) = bytes.get(MAGIC_AT).filter(|magic| **magic < 2) {
        return Err(invalid(format!(
            "message format {magic} is not accepted, only record batches (format 2): use a client \
             of Kafka 0.11 or newer"
        )));
    }
    let header = BatchHeader::parse(bytes).map_err(rejected_batch)?;
    let length = header.total_len();
    if length > bytes.len() {
        return Err(Rejected::new(
            ErrorCode::CORRUPT_MESSAGE,
            format!("batch claims {length} bytes, {} were sent", bytes.len()),
        ));
    }
    if length < bytes.len() {
        return Err(invalid("a partition takes exactly one batch per request".into()));
    }
    if length > usize::try_from(config.max_message_bytes).unwrap_or(usize::MAX) {
        return Err(Rejected::new(
            ErrorCode::MESSAGE_TOO_LARGE,
            format!(
                "batch of {length} bytes exceeds max.message.bytes={} of the topic",
                config.max_message_bytes
            ),
        ));
    }
    records::check_crc(bytes, &header).map_err(rejected_batch)?;
    check_attributes(&header, version)?;
    let inspection = if header.max_timestamp < 0 {
        records::inspect_inflated(bytes, &header, BATCH_INFLATED_BYTES_MAX)
    } else {
        records::inspect(bytes, &header)
    };
    let max_timestamp = inspection.map_err(rejected_batch)?.max_timestamp;
    check_timestamps(bytes, &header, max_timestamp, config, now)?;
    Ok(Checked { header, bytes, max_timestamp })
}

fn check_attributes(header: &BatchHeader, version: i16) -> Result<(), Rejected> {
    let invalid = |message: &str| Err(Rejected::new(ErrorCode::INVALID_RECORD, message));
    if header.base_offset != 0 {
        return invalid("the base offset of a produced batch must be 0");
    }
    if header.is_control() {
        return invalid("clients may not write control batches");
    }
    if header.is_transactional() {
        return Err(Rejected::new(
            ErrorCode::INVALID_TXN_STATE,
            "transactions are not served by this version of the broker",
        ));
    }
    if header.producer_id >= 0 && (header.base_sequence < 0 || header.producer_epoch < 0) {
        return invalid("a batch with a producer id needs a producer epoch and a sequence");
    }
    let compression = header.compression().map_err(rejected_batch)?;
    if compression == Compression::Zstd && version < ZSTD_VERSION_MIN {
        return Err(Rejected::new(
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            "zstd needs Produce version 7 or newer",
        ));
    }
    Ok(())
}

/// Timestamps within the topic's bounds. The header's maximum clears the usual case; only a batch
/// that fails, or a topic that also bounds the past, has its records looked at.
fn check_timestamps(
    bytes: &Bytes,
    header: &BatchHeader,
    max_timestamp: i64,
    config: &TopicConfig,
    now: Timestamp,
) -> Result<(), Rejected> {
    if config.message_timestamp_type == MessageTimestampType::LogAppendTime {
        return Ok(());
    }
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Err(Rejected::new(
            ErrorCode::INVALID_TIMESTAMP,
            "a producer may not claim log append time",
        ));
    }
    let latest = now.0.saturating_add_unsigned(config.message_timestamp_after_max_ms);
    let earliest = now.0.saturating_sub_unsigned(config.message_timestamp_before_max_ms);
    let past_bounded = earliest > 0;
    if max_timestamp <= latest && !past_bounded {
        return Ok(());
    }
    let batch = records::Batch::parse(bytes.clone()).map_err(rejected_batch)?;
    let records = batch.records(BATCH_INFLATED_BYTES_MAX).map_err(rejected_batch)?;
    let mut at_fault = Vec::new();
    for (index, record) in (0..).zip(records) {
        let timestamp = record.map_err(rejected_batch)?.timestamp;
        // A record without a timestamp (-1) is in nobody's past.
        let too_old = past_bounded && timestamp >= 0 && timestamp < earliest;
        if timestamp > latest || too_old {
            at_fault.push((
                index,
                format!("timestamp {timestamp} is outside the allowed [{earliest}, {latest}]"),
            ));
        }
    }
    if at_fault.is_empty() {
        return Ok(());
    }
    Err(Rejected {
        code: ErrorCode::INVALID_TIMESTAMP,
        message: "one or more records have been rejected due to invalid timestamps".into(),
        records: at_fault,
    })
}

/// The one place where a malformed batch becomes a protocol error.
fn rejected_batch(error: BatchError) -> Rejected {
    let message = error.to_string();
    let code = match error.fault() {
        BatchFault::Corrupt => ErrorCode::CORRUPT_MESSAGE,
        BatchFault::OldMessageFormat | BatchFault::Invalid => ErrorCode::INVALID_RECORD,
        BatchFault::UnsupportedCompression => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        BatchFault::TooLarge => ErrorCode::MESSAGE_TOO_LARGE,
    };
    let records = error.record_index().map(|index| (index, message.clone())).into_iter().collect();
    Rejected { code, message, records }
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
        AppendError::Storage(_) | AppendError::Offline => ErrorCode::KAFKA_STORAGE_ERROR,
    };
    Rejected::new(code, error.to_string())
}

/// Writes the outcome of a batch that is decided by now. Returns whether it is.
fn settle(outcomes: &mut [TopicOutcome], item: &Uncommitted) -> bool {
    let rejected = match item.partition.ack_state(item.last_offset) {
        AckState::Waiting => return false,
        AckState::Committed => return true,
        AckState::NotEnoughReplicas => Rejected::new(
            ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
            "written, but fewer replicas than min.insync.replicas are in sync",
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

/// Answers once every batch is committed or failed, or the client's timeout has passed.
async fn commit(
    reply_to: ReplyTo,
    mut outcomes: Vec<TopicOutcome>,
    mut waiting: Vec<Uncommitted>,
    timeout: Duration,
) -> Result<sawlog_protocol::Rope, CloseReason> {
    let signal = Signal::new();
    for item in &waiting {
        item.partition.notify_above(item.last_offset, &signal, 0);
    }
    let deadline = tokio::time::sleep(timeout);
    tokio::pin!(deadline);
    while !waiting.is_empty() {
        let expired = std::future::poll_fn(|cx| {
            if signal.poll_fired(cx.waker()).is_ready() {
                return Poll::Ready(false);
            }
            deadline.as_mut().poll(cx).map(|()| true)
        })
        .await;
        waiting.retain(|item| !settle(&mut outcomes, item));
        if expired {
            for item in waiting.drain(..) {
                item.partition.forget(&signal);
                let rejected = Rejected::new(
                    ErrorCode::REQUEST_TIMED_OUT,
                    "appended, but not committed within the request's timeout",
                );
                fail(&mut outcomes, &item, rejected);
            }
        }
    }
    Ok(reply(reply_to, &outcomes))
}

fn reply(to: ReplyTo, outcomes: &[TopicOutcome]) -> sawlog_protocol::Rope {
    let responses = outcomes
        .iter()
        .map(|topic| TopicProduceResponse {
            name: &topic.name,
            topic_id: topic.id,
            partition_responses: topic.partitions.iter().map(partition_response).collect(),
        })
        .collect();
    to.reply(&ProduceResponse { responses, ..Default::default() })
}

fn partition_response(outcome: &Outcome) -> PartitionProduceResponse<'_> {
    match &outcome.result {
        Ok(accepted) => PartitionProduceResponse {
            index: outcome.index,
            base_offset: accepted.base_offset.0,
            log_append_time_ms: outcome.log_append_time.0,
            log_start_offset: accepted.log_start.0,
            ..Default::default()
        },
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
    Reply::Ready(reply(ctx.reply_to(), &outcomes))
}
