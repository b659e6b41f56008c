//! Produce requests: batches of many partitions in one, and what came of each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sawlog_protocol::messages::init_producer_id::InitProducerIdRequest;
use sawlog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use sawlog_protocol::{ApiKey, DecodeError, ErrorCode, decode_response};

use super::Acks;
use super::batch::Identity;
use crate::cluster::Client;
use crate::connection::{Answer, Connection};
use crate::error::{ClientError, check};

/// Newest Produce version that names topics by name.
const PRODUCE_BY_NAME: i16 = 12;

/// One partition's part of a request.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) topic: Arc<str>,
    pub(crate) index: i32,
    pub(crate) lane: usize,
}

/// Writes a request with one batch for each part; returns the version it was written in. There is no
/// reply without acks.
pub(crate) fn send(
    connection: &Connection,
    acks: Acks,
    timeout: Duration,
    batches: &[(Part, Bytes)],
    answer: Answer,
) -> Result<i16, ClientError> {
    let version = connection.version(ApiKey::Produce, PRODUCE_BY_NAME)?;
    let request = ProduceRequest {
        acks: match acks {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        },
        timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
        topic_data: by_topic(batches),
        ..Default::default()
    };
    match acks {
        Acks::None => connection.send_only(&request, version)?,
        Acks::Leader | Acks::All => connection.send(&request, version, answer)?,
    }
    Ok(version)
}

fn by_topic(batches: &[(Part, Bytes)]) -> Vec<TopicProduceData<'_>> {
    let mut topics: Vec<TopicProduceData<'_>> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (part, bytes) in batches {
        let place = *places.entry(&*part.topic).or_insert_with(|| {
            topics.push(TopicProduceData { name: &part.topic, ..Default::default() });
            topics.len() - 1
        });
        if let Some(topic) = topics.get_mut(place) {
            let records = Some(bytes.clone());
            topic.partition_data.push(PartitionProduceData { index: part.index, records });
        }
    }
    topics
}

/// What a reply says.
#[derive(Debug)]
pub(crate) struct Answers {
    /// For each part, in order: the base offset or the refusal.
    pub(crate) outcomes: Vec<Result<i64, ClientError>>,
    /// The broker wants nothing more for so long (KIP-219).
    pub(crate) throttle: Duration,
}

/// Reads a reply.
pub(crate) fn answers(frame: &Bytes, version: i16, parts: &[Part]) -> Result<Answers, ClientError> {
    let (_, response) = decode_response::<ProduceRequest<'_>>(frame, version)?;
    let mut found = HashMap::new();
    for topic in &response.responses {
        for part in &topic.partition_responses {
            found.insert((topic.name, part.index), part);
        }
    }
    let outcome = |part: &Part| {
        let found = found.get(&(&*part.topic, part.index));
        let found = found.ok_or(ClientError::Malformed(DecodeError::Truncated))?;
        if found.error_code == ErrorCode::DUPLICATE_SEQUENCE_NUMBER {
            // It has the batch and no longer knows where.
            return Ok(-1);
        }
        let message = found.record_errors.first().and_then(|one| one.batch_index_error_message);
        check(found.error_code, message.or(found.error_message))?;
        Ok(found.base_offset)
    };
    let millis = u64::try_from(response.throttle_time_ms).unwrap_or(0);
    Ok(Answers {
        outcomes: parts.iter().map(outcome).collect(),
        throttle: Duration::from_millis(millis),
    })
}

/// Asks for a new producer id.
pub(crate) async fn init_producer_id(client: &Client) -> Result<Identity, ClientError> {
    let request = InitProducerIdRequest {
        transaction_timeout_ms: i32::MAX,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let reply = client.any().await?.call(&request).await?;
    let (_, response) = decode_response::<InitProducerIdRequest<'_>>(&reply.frame, reply.version)?;
    check(response.error_code, None)?;
    Ok(Identity { id: response.producer_id, epoch: response.producer_epoch })
}
