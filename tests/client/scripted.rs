//! A broker of the test's own: one partition whose leader changes and whose log was cut, which a
//! single node never shows.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use sawlog_protocol::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse,
};
use sawlog_protocol::messages::fetch::{
    FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use sawlog_protocol::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use sawlog_protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderTopicResult,
};
use sawlog_protocol::records::{Batch, BatchBuilder, Compression, patched_prefix};
use sawlog_protocol::{
    ApiKey, ErrorCode, Rope, Uuid, decode_request, decode_request_header, encode_response,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const TOPIC: &str = "scripted";

/// What the broker says.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) leader_epoch: i32,
    /// Behind the last record.
    pub(crate) end: i64,
    /// Where the records of the former epoch end now.
    pub(crate) former_end: i64,
    /// How often another leader takes over just when a consumer asks for that end.
    pub(crate) moves_when_asked: usize,
    /// Requests so far.
    pub(crate) metadata_requests: usize,
}

pub(crate) type Shared = Arc<Mutex<Script>>;

/// Starts it; it ends with the test's runtime.
pub(crate) async fn start(script: Script) -> (SocketAddr, Shared) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    let script = Arc::new(Mutex::new(script));
    let shared = script.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, address, shared.clone()));
        }
    });
    (address, script)
}

async fn serve(mut stream: TcpStream, address: SocketAddr, script: Shared) {
    while let Ok(length) = stream.read_u32().await {
        let mut frame = vec![0; usize::try_from(length).expect("a short request")];
        stream.read_exact(&mut frame).await.expect("a whole request");
        let frame = Bytes::from(frame);
        let (header, body_at) = decode_request_header(&frame).expect("a header");
        let key = ApiKey::from_i16(header.api_key).expect("an API we offered");
        let (version, correlation) = (header.api_version, header.correlation_id);
        let body = frame.slice(body_at..);
        // A long poll of nothing takes a while.
        if let Some(rope) = reply(key, version, correlation, &body, address, &script) {
            for part in rope.into_parts() {
                if stream.write_all(&part).await.is_err() {
                    return;
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

fn reply(
    key: ApiKey,
    version: i16,
    correlation: i32,
    body: &Bytes,
    address: SocketAddr,
    script: &Shared,
) -> Option<Rope> {
    let mut script = script.lock().expect("no panics");
    Some(match key {
        ApiKey::ApiVersions => {
            let _request: ApiVersionsRequest<'_> =
                decode_request(body, version).expect("a request");
            let served = [
                ApiKey::Fetch,
                ApiKey::Metadata,
                ApiKey::ApiVersions,
                ApiKey::OffsetForLeaderEpoch,
            ];
            let api = |key: ApiKey| ApiVersion {
                api_key: key.as_i16(),
                min_version: *key.versions().start(),
                max_version: *key.versions().end(),
            };
            let api_keys = served.map(api).to_vec();
            let response = ApiVersionsResponse { api_keys, ..Default::default() };
            encode_response(&response, key, version, correlation)
        }
        ApiKey::Metadata => {
            script.metadata_requests += 1;
            encode_response(&metadata(address, &script), key, version, correlation)
        }
        ApiKey::OffsetForLeaderEpoch => {
            let request: OffsetForLeaderEpochRequest<'_> =
                decode_request(body, version).expect("a request");
            let asked = &request.topics[0].partitions[0];
            assert!(asked.leader_epoch < asked.current_leader_epoch, "of what was read");
            if script.moves_when_asked > 0 {
                script.moves_when_asked -= 1;
                script.leader_epoch += 1;
            }
            let is_former = asked.current_leader_epoch < script.leader_epoch;
            let end = EpochEndOffset {
                error_code: if is_former {
                    ErrorCode::FENCED_LEADER_EPOCH
                } else {
                    ErrorCode::NONE
                },
                leader_epoch: asked.leader_epoch,
                end_offset: script.former_end,
                ..Default::default()
            };
            let topics = vec![OffsetForLeaderTopicResult { topic: TOPIC, partitions: vec![end] }];
            let response = OffsetForLeaderEpochResponse { topics, ..Default::default() };
            encode_response(&response, key, version, correlation)
        }
        ApiKey::Fetch => {
            let request: FetchRequest<'_> = decode_request(body, version).expect("a request");
            let partitions = request.topics.first().map(|topic| fetched(topic, &script));
            let topic = |partitions| FetchableTopicResponse {
                topic: TOPIC,
                partitions,
                ..Default::default()
            };
            let responses = partitions.into_iter().map(topic).collect();
            let response = FetchResponse { responses, ..Default::default() };
            encode_response(&response, key, version, correlation)
        }
        other => panic!("{} was not offered", other.name()),
    })
}

fn metadata(address: SocketAddr, script: &Script) -> MetadataResponse<'static> {
    let broker = MetadataResponseBroker {
        node_id: 1,
        host: "127.0.0.1",
        port: i32::from(address.port()),
        rack: None,
    };
    let partition = MetadataResponsePartition {
        leader_id: 1,
        leader_epoch: script.leader_epoch,
        ..Default::default()
    };
    let topic = MetadataResponseTopic {
        name: Some(TOPIC),
        topic_id: Uuid([1; 16]),
        partitions: vec![partition],
        ..Default::default()
    };
    MetadataResponse {
        brokers: vec![broker],
        controller_id: 1,
        topics: vec![topic],
        ..Default::default()
    }
}

fn fetched(
    topic: &sawlog_protocol::messages::fetch::FetchTopic<'_>,
    script: &Script,
) -> Vec<PartitionData> {
    let answer = |asked: &sawlog_protocol::messages::fetch::FetchPartition| {
        let mut data = PartitionData { high_watermark: script.end, ..Default::default() };
        if asked.current_leader_epoch < script.leader_epoch {
            data.error_code = ErrorCode::FENCED_LEADER_EPOCH;
        } else if asked.fetch_offset > script.end {
            data.error_code = ErrorCode::OFFSET_OUT_OF_RANGE;
        } else {
            data.records = Some(if asked.fetch_offset < script.end {
                records(asked.fetch_offset, script.end, script.leader_epoch)
            } else {
                Bytes::new()
            });
        }
        data
    };
    topic.partitions.iter().map(answer).collect()
}

/// One batch of the records `from..end`.
fn records(from: i64, end: i64, leader_epoch: i32) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for _ in from..end {
        builder.append(1_000, None, Some(b"value"), &[]).expect("a small record");
    }
    let bytes = builder.build();
    let header = Batch::parse(bytes.clone()).expect("a batch").header;
    let mut bytes = bytes.to_vec();
    bytes[..16].copy_from_slice(&patched_prefix(&header, from, leader_epoch));
    Bytes::from(bytes)
}
