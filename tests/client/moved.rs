//! A leader that is gone: its port refuses, and after a while the other broker says that it leads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use sawlog_client::{Assignment, Client, ClientError, ClientOptions, Consumer, Position};
use sawlog_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use sawlog_protocol::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use sawlog_protocol::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use sawlog_protocol::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use sawlog_protocol::messages::produce::{
    PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use sawlog_protocol::{ApiKey, ErrorCode, Rope, Uuid, decode_request_header, encode_response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::load::{DEADLINE, connect};

/// The broker that is gone, and the one that lives.
const GONE: i32 = 1;
const LIVING: i32 = 2;
pub(crate) const TOPIC: &str = "moved";

/// Where the living broker puts what it is sent.
pub(crate) const PRODUCED_AT: i64 = 7;

/// What the living broker knows.
#[derive(Debug)]
pub(crate) struct Living {
    port: u16,
    gone: SocketAddr,
    /// Requests for metadata until it takes the other for gone.
    moves_after: usize,
    metadata_requests: AtomicUsize,
    /// It cannot use the disk with the partition it leads.
    has_failed_disk: AtomicBool,
}

/// Starts the living broker; nobody listens at the address of the other.
async fn start(moves_after: usize) -> Arc<Living> {
    start_beside(crate::process::free_address(), moves_after).await
}

/// Starts the living broker; the other is at `gone`.
pub(crate) async fn start_beside(gone: SocketAddr, moves_after: usize) -> Arc<Living> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("a bound listener has an address").port();
    let (metadata_requests, has_failed_disk) = (AtomicUsize::new(0), AtomicBool::new(false));
    let living = Living { port, gone, moves_after, metadata_requests, has_failed_disk };
    let living = Arc::new(living);
    let shared = living.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, shared.clone()));
        }
    });
    living
}

impl Living {
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    async fn client(&self) -> Client {
        let both = format!("{},127.0.0.1:{}", self.gone, self.port);
        let mut options = ClientOptions::new(&both);
        options.timeout = DEADLINE;
        connect(options).await
    }

    fn metadata(&self, host: &str, version: i16, correlation: i32) -> Rope {
        let asked = self.metadata_requests.fetch_add(1, Ordering::Relaxed);
        let has_moved = asked >= self.moves_after;
        let leader_id = if has_moved { LIVING } else { GONE };
        let broker = |node_id, host, port: u16| MetadataResponseBroker {
            node_id,
            host,
            port: i32::from(port),
            rack: None,
        };
        let mut brokers = vec![broker(LIVING, "127.0.0.1", self.port)];
        if !has_moved {
            brokers.push(broker(GONE, host, self.gone.port()));
        }
        let partition = MetadataResponsePartition {
            leader_id,
            leader_epoch: i32::from(has_moved),
            ..Default::default()
        };
        let topic = MetadataResponseTopic {
            name: Some(TOPIC),
            topic_id: Uuid([1; 16]),
            partitions: vec![partition],
            ..Default::default()
        };
        let response = MetadataResponse {
            brokers,
            controller_id: leader_id,
            topics: vec![topic],
            ..Default::default()
        };
        encode_response(&response, ApiKey::Metadata, version, correlation)
    }
}

async fn serve(mut stream: TcpStream, living: Arc<Living>) {
    while let Ok(length) = stream.read_u32().await {
        let mut frame = vec![0; usize::try_from(length).expect("a short request")];
        stream.read_exact(&mut frame).await.expect("a whole request");
        let frame = Bytes::from(frame);
        let (header, _) = decode_request_header(&frame).expect("a header");
        let key = ApiKey::from_i16(header.api_key).expect("an API we offered");
        let rope = reply(key, header.api_version, header.correlation_id, &living);
        for part in rope.into_parts() {
            if stream.write_all(&part).await.is_err() {
                return;
            }
        }
    }
}

/// What brokers here can do.
pub(crate) fn api_versions(version: i16, correlation: i32) -> Rope {
    let served = [
        ApiKey::ApiVersions,
        ApiKey::Metadata,
        ApiKey::Produce,
        ApiKey::ListOffsets,
        ApiKey::ListGroups,
        ApiKey::DescribeLogDirs,
        ApiKey::DeleteTopics,
    ];
    let api = |key: ApiKey| ApiVersion {
        api_key: key.as_i16(),
        min_version: *key.versions().start(),
        max_version: *key.versions().end(),
    };
    let response = ApiVersionsResponse { api_keys: served.map(api).to_vec(), ..Default::default() };
    encode_response(&response, ApiKey::ApiVersions, version, correlation)
}

fn reply(key: ApiKey, version: i16, correlation: i32, living: &Living) -> Rope {
    match key {
        ApiKey::ApiVersions => api_versions(version, correlation),
        ApiKey::Produce => {
            let taken = PartitionProduceResponse { base_offset: PRODUCED_AT, ..Default::default() };
            let partition_responses = vec![taken];
            // Newer versions name the topic by its id.
            let (name, topic_id) = (TOPIC, Uuid([1; 16]));
            let topic = TopicProduceResponse { name, topic_id, partition_responses };
            let response = ProduceResponse { responses: vec![topic], ..Default::default() };
            encode_response(&response, key, version, correlation)
        }
        ApiKey::Metadata => living.metadata(&living.gone.ip().to_string(), version, correlation),
        ApiKey::ListOffsets => {
            let mut found = ListOffsetsPartitionResponse { offset: 7, ..Default::default() };
            if living.has_failed_disk.load(Ordering::Relaxed) {
                found.error_code = ErrorCode::KAFKA_STORAGE_ERROR;
            }
            let topic = ListOffsetsTopicResponse { name: TOPIC, partitions: vec![found] };
            let response = ListOffsetsResponse { topics: vec![topic], ..Default::default() };
            encode_response(&response, key, version, correlation)
        }
        ApiKey::ListGroups => {
            let response = sawlog_protocol::messages::list_groups::ListGroupsResponse::default();
            encode_response(&response, key, version, correlation)
        }
        ApiKey::DeleteTopics => {
            use sawlog_protocol::messages::delete_topics::{
                DeletableTopicResult, DeleteTopicsResponse,
            };
            let deleted = DeletableTopicResult { name: Some(TOPIC), ..Default::default() };
            let response = DeleteTopicsResponse { responses: vec![deleted], ..Default::default() };
            encode_response(&response, key, version, correlation)
        }
        ApiKey::DescribeLogDirs => {
            let partition = DescribeLogDirsPartition { partition_size: 64, ..Default::default() };
            let topics = vec![DescribeLogDirsTopic { name: TOPIC, partitions: vec![partition] }];
            let directory =
                DescribeLogDirsResult { log_dir: "/data", topics, ..Default::default() };
            let mut results = vec![directory];
            if living.has_failed_disk.load(Ordering::Relaxed) {
                let (error_code, log_dir) = (ErrorCode::KAFKA_STORAGE_ERROR, "/failed");
                let failed = DescribeLogDirsResult { error_code, log_dir, ..Default::default() };
                results.insert(0, failed);
            }
            let response = DescribeLogDirsResponse { results, ..Default::default() };
            encode_response(&response, key, version, correlation)
        }
        other => panic!("{} was not offered", other.name()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_asked_of_the_next_leader_when_the_leader_is_gone() {
    let living = start(5).await;
    let client = living.client().await;
    let asking = async {
        assert_eq!(client.offsets(TOPIC, 0).await, Ok((7, 7)));
        assert_eq!(client.offset_at(TOPIC, 0, 1_000).await, Ok(Some(7)));
    };
    timeout(DEADLINE, asking).await.expect("found");
    assert!(living.metadata_requests.load(Ordering::Relaxed) > 5, "asked until it had moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_topics_described_before_come_from_their_next_leaders() {
    let living = start(4).await;
    let client = living.client().await;
    let topics = client.describe(Some(&[TOPIC])).await.expect("described").topics;
    assert_eq!(topics[0].partitions[0].leader, GONE);
    let ranges = timeout(DEADLINE, client.offset_ranges(&topics)).await.expect("found");
    let ranges = ranges.expect("told");
    assert_eq!((ranges.len(), ranges[0].start, ranges[0].end), (1, 7, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_is_assigned_partitions_whose_leader_is_gone() {
    let living = start(4).await;
    let client = living.client().await;
    let (from, until) = (Position::Start, Some(Position::End));
    let part = Assignment { topic: TOPIC.to_owned(), partition: 0, from, until };
    let assigned = timeout(DEADLINE, Consumer::assign(&client, &[part])).await.expect("assigned");
    assert_eq!(assigned.expect("assigned").position(TOPIC, 0), Some(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn administration_goes_to_the_next_controller_and_groups_to_the_brokers_that_are_left() {
    let living = start(4).await;
    let client = living.client().await;
    let deleted = timeout(DEADLINE, client.delete_topic(TOPIC)).await.expect("answered");
    assert_eq!(deleted, Ok(()));
    let living = start(4).await;
    let client = living.client().await;
    let listed = timeout(DEADLINE, client.list_groups(&Default::default())).await;
    assert_eq!(listed.expect("answered"), Ok(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_of_the_brokers_that_are_left_are_told_with_the_ones_that_are_silent() {
    let living = start(usize::MAX).await;
    let client = living.client().await;
    let (sizes, silent) = client.reachable_partition_sizes().await.expect("told");
    assert_eq!((sizes.len(), sizes[0].broker, sizes[0].bytes), (1, LIVING, 64));
    assert!(matches!(&silent[..], [(GONE, ClientError::Unreachable { .. })]), "{silent:?}");
    let error = client.partition_sizes().await.expect_err("not all are known");
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_on_other_disks_is_told_with_the_directory_that_is_offline() {
    let living = start(0).await;
    living.has_failed_disk.store(true, Ordering::Relaxed);
    let client = living.client().await;
    let (sizes, missing) = client.reachable_partition_sizes().await.expect("told");
    assert_eq!((sizes.len(), sizes[0].broker, sizes[0].bytes), (1, LIVING, 64));
    let [(LIVING, why)] = &missing[..] else { panic!("{missing:?}") };
    assert_eq!(why.code(), Some(ErrorCode::KAFKA_STORAGE_ERROR));
    assert!(why.to_string().contains("data directory /failed is offline"), "{why}");
    assert_eq!(client.partition_sizes().await.as_ref(), Err(why), "not all are known");
    let topics = client.describe(Some(&[TOPIC])).await.expect("described").topics;
    let ranges = client.offset_ranges(&topics).await.expect("told");
    assert_eq!(ranges, [], "its leader cannot tell, and that is no failure of others");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_never_moves_is_an_error_after_the_timeout() {
    let living = start(usize::MAX).await;
    let mut options = ClientOptions::new(&format!("127.0.0.1:{}", living.port));
    options.timeout = std::time::Duration::from_millis(300);
    let client = connect(options).await;
    let asked = timeout(DEADLINE, client.offsets(TOPIC, 0)).await.expect("bounded");
    let error = asked.expect_err("nobody leads");
    let gone = living.gone.to_string();
    assert!(
        matches!(&error, ClientError::Unreachable { address, .. } if *address == gone),
        "{error}"
    );
    assert!(living.metadata_requests.load(Ordering::Relaxed) > 2, "it was looked for");
}
