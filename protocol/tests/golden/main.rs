//! The bytes of each API's messages, written by our encoder and confirmed byte for byte by the Java client's
//! classes. Spaces part what is written at once: a length and the string after it are two groups.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use bytes::Bytes;
use sawlog_protocol::messages::*;
use sawlog_protocol::wire::{Decode, Encode, Reader, Sink, Writer};
use sawlog_protocol::{ApiKey, ErrorCode, Uuid};

const ID: Uuid = Uuid([0x1d; 16]);

/// Hex digits, a space between any two writes.
#[derive(Default)]
struct Hex(String);

impl Sink for Hex {
    fn put(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        for byte in bytes {
            self.0.push_str(&format!("{byte:02x}"));
        }
    }

    fn put_shared(&mut self, bytes: &Bytes) {
        self.put(bytes);
    }
}

fn hex<M: Encode>(message: &M, key: ApiKey, version: i16) -> String {
    let mut sink = Hex::default();
    message.encode(&mut Writer::new(&mut sink, version, key.is_flexible(version)));
    sink.0
}

fn bytes_of(hex: &str) -> Bytes {
    let digits: String = hex.split_whitespace().collect();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// The message is written as these bytes, and they are read as a message that is written so.
macro_rules! golden {
    ($key:ident $version:literal $message:expr => $golden:expr) => {
        let (key, version) = (ApiKey::$key, $version);
        let mut message = $message;
        let golden = $golden.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(hex(&message, key, version), golden, "{} {version}", key.name());
        let frame = bytes_of(&golden);
        let mut reader = Reader::new(&frame, version, key.is_flexible(version));
        message = Decode::decode(&mut reader).unwrap();
        assert_eq!(reader.remaining(), 0);
        assert_eq!(hex(&message, key, version), golden, "read back, {} {version}", key.name());
    };
}

mod cluster;
mod groups;
mod structures;

#[test]
fn produce() {
    use produce::*;
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: "ab",
            topic_id: ID,
            partition_data: vec![PartitionProduceData {
                index: 1,
                records: Some(Bytes::from_static(b"\x01\x02\x03")),
            }],
        }],
    };
    golden!(Produce 3 request.clone() =>
        "ffff ffff 00007530 00000001 0002 6162 00000001 00000001 00000003 010203");
    golden!(Produce 9 request.clone() =>
        "00 ffff 00007530 02 03 6162 02 00000001 04 010203 00 00 00");
    golden!(Produce 13 request =>
        "00 ffff 00007530 02 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 02 00000001 04 010203 00 00 00");
    let response = ProduceResponse {
        responses: vec![TopicProduceResponse {
            name: "ab",
            topic_id: ID,
            partition_responses: vec![PartitionProduceResponse {
                index: 1,
                error_code: ErrorCode::NOT_LEADER_OR_FOLLOWER,
                base_offset: 7,
                record_errors: vec![BatchIndexAndErrorMessage {
                    batch_index: 2,
                    batch_index_error_message: Some("x"),
                }],
                current_leader: LeaderIdAndEpoch { leader_id: 3, leader_epoch: 4 },
                ..Default::default()
            }],
        }],
        throttle_time_ms: 5,
        node_endpoints: vec![NodeEndpoint { node_id: 3, host: "h", port: 9092, rack: None }],
    };
    golden!(Produce 3 response.clone() =>
        "00000001 0002 6162 00000001 00000001 0006 0000000000000007 ffffffffffffffff 00000005");
    golden!(Produce 8 response.clone() =>
        "00000001 0002 6162 00000001 00000001 0006 0000000000000007 ffffffffffffffff \
         ffffffffffffffff 00000001 00000002 0001 78 ffff 00000005");
    golden!(Produce 10 response.clone() =>
        "02 03 6162 02 00000001 0006 0000000000000007 ffffffffffffffff ffffffffffffffff 02 \
         00000002 02 78 00 00 01 00 09 00000003 00000004 00 00 00000005 01 00 0d 02 00000003 \
         02 68 00002384 00 00");
    golden!(Produce 13 response =>
        "02 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 02 00000001 0006 0000000000000007 \
         ffffffffffffffff ffffffffffffffff 02 00000002 02 78 00 00 01 00 09 00000003 00000004 \
         00 00 00000005 01 00 0d 02 00000003 02 68 00002384 00 00");
}

#[test]
fn fetch() {
    use fetch::*;
    let request = FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        isolation_level: 1,
        topics: vec![FetchTopic {
            topic: "ab",
            topic_id: ID,
            partitions: vec![FetchPartition {
                partition: 1,
                current_leader_epoch: 2,
                fetch_offset: 3,
                partition_max_bytes: 4096,
                high_watermark: 9,
                ..Default::default()
            }],
        }],
        forgotten_topics_data: vec![ForgottenTopic {
            topic: "cd",
            topic_id: ID,
            partitions: vec![6],
        }],
        rack_id: "r",
        replica_state: ReplicaState { replica_id: 2, replica_epoch: 8 },
        ..Default::default()
    };
    golden!(Fetch 4 request.clone() =>
        "ffffffff 000001f4 00000001 7fffffff 01 00000001 0002 6162 00000001 00000001 \
         0000000000000003 00001000");
    golden!(Fetch 11 request.clone() =>
        "ffffffff 000001f4 00000001 7fffffff 01 00000000 ffffffff 00000001 0002 6162 00000001 \
         00000001 00000002 0000000000000003 ffffffffffffffff 00001000 00000001 0002 6364 \
         00000001 00000006 0001 72");
    golden!(Fetch 12 request.clone() =>
        "ffffffff 000001f4 00000001 7fffffff 01 00000000 ffffffff 02 03 6162 02 00000001 \
         00000002 0000000000000003 ffffffff ffffffffffffffff 00001000 00 00 02 03 6364 02 \
         00000006 00 02 72 00");
    golden!(Fetch 18 request =>
        "000001f4 00000001 7fffffff 01 00000000 ffffffff 02 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d \
         02 00000001 00000002 0000000000000003 ffffffff ffffffffffffffff 00001000 01 01 08 \
         0000000000000009 00 02 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 02 00000006 00 02 72 01 01 \
         0d 00000002 0000000000000008 00");
    let response = FetchResponse {
        session_id: 12,
        responses: vec![FetchableTopicResponse {
            topic: "ab",
            topic_id: ID,
            partitions: vec![PartitionData {
                partition_index: 1,
                high_watermark: 10,
                last_stable_offset: 9,
                log_start_offset: 0,
                aborted_transactions: Some(vec![AbortedTransaction {
                    producer_id: 5,
                    first_offset: 6,
                }]),
                records: Some(Bytes::from_static(b"\x01\x02\x03")),
                current_leader: LeaderIdAndEpoch { leader_id: 3, leader_epoch: 4 },
                ..Default::default()
            }],
        }],
        node_endpoints: vec![NodeEndpoint { node_id: 3, host: "h", port: 9092, rack: Some("r") }],
        ..Default::default()
    };
    golden!(Fetch 4 response.clone() =>
        "00000000 00000001 0002 6162 00000001 00000001 0000 000000000000000a 0000000000000009 \
         00000001 0000000000000005 0000000000000006 00000003 010203");
    golden!(Fetch 11 response.clone() =>
        "00000000 0000 0000000c 00000001 0002 6162 00000001 00000001 0000 000000000000000a \
         0000000000000009 0000000000000000 00000001 0000000000000005 0000000000000006 \
         ffffffff 00000003 010203");
    golden!(Fetch 12 response.clone() =>
        "00000000 0000 0000000c 02 03 6162 02 00000001 0000 000000000000000a 0000000000000009 \
         0000000000000000 02 0000000000000005 0000000000000006 00 ffffffff 04 010203 01 01 09 \
         00000003 00000004 00 00 00");
    golden!(Fetch 18 response =>
        "00000000 0000 0000000c 02 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 02 00000001 0000 \
         000000000000000a 0000000000000009 0000000000000000 02 0000000000000005 \
         0000000000000006 00 ffffffff 04 010203 01 01 09 00000003 00000004 00 00 01 00 0e 02 \
         00000003 02 68 00002384 02 72 00");
}

#[test]
fn list_offsets() {
    use list_offsets::*;
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: 1,
        topics: vec![ListOffsetsTopic {
            name: "ab",
            partitions: vec![ListOffsetsPartition {
                partition_index: 1,
                current_leader_epoch: 2,
                timestamp: -2,
            }],
        }],
        timeout_ms: 100,
    };
    golden!(ListOffsets 1 request.clone() =>
        "ffffffff 00000001 0002 6162 00000001 00000001 fffffffffffffffe");
    golden!(ListOffsets 4 request.clone() =>
        "ffffffff 01 00000001 0002 6162 00000001 00000001 00000002 fffffffffffffffe");
    golden!(ListOffsets 11 request =>
        "ffffffff 01 02 03 6162 02 00000001 00000002 fffffffffffffffe 00 00 00000064 00");
    let response = ListOffsetsResponse {
        throttle_time_ms: 0,
        topics: vec![ListOffsetsTopicResponse {
            name: "ab",
            partitions: vec![ListOffsetsPartitionResponse {
                partition_index: 1,
                offset: 77,
                leader_epoch: 2,
                ..Default::default()
            }],
        }],
    };
    golden!(ListOffsets 1 response.clone() =>
        "00000001 0002 6162 00000001 00000001 0000 ffffffffffffffff 000000000000004d");
    golden!(ListOffsets 4 response.clone() =>
        "00000000 00000001 0002 6162 00000001 00000001 0000 ffffffffffffffff 000000000000004d \
         00000002");
    golden!(ListOffsets 11 response =>
        "00000000 02 03 6162 02 00000001 0000 ffffffffffffffff 000000000000004d 00000002 00 \
         00 00");
}

#[test]
fn metadata() {
    use metadata::*;
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { topic_id: ID, name: Some("ab") }]),
        include_cluster_authorized_operations: true,
        ..Default::default()
    };
    golden!(Metadata 0 request.clone() => "00000001 0002 6162");
    golden!(Metadata 8 request.clone() => "00000001 0002 6162 01 01 00");
    golden!(Metadata 9 request.clone() => "02 03 6162 00 01 01 00 00");
    golden!(Metadata 13 request =>
        "02 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 03 6162 00 01 00 00");
    let response = MetadataResponse {
        brokers: vec![MetadataResponseBroker { node_id: 1, host: "h", port: 9092, rack: None }],
        cluster_id: Some("c"),
        controller_id: 1,
        topics: vec![MetadataResponseTopic {
            name: Some("ab"),
            topic_id: ID,
            partitions: vec![MetadataResponsePartition {
                partition_index: 0,
                leader_id: 1,
                leader_epoch: 4,
                replica_nodes: vec![1, 2],
                isr_nodes: vec![1],
                offline_replicas: vec![2],
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    golden!(Metadata 0 response.clone() =>
        "00000001 00000001 0001 68 00002384 00000001 0000 0002 6162 00000001 0000 00000000 \
         00000001 00000002 00000001 00000002 00000001 00000001");
    golden!(Metadata 5 response.clone() =>
        "00000000 00000001 00000001 0001 68 00002384 ffff 0001 63 00000001 00000001 0000 0002 \
         6162 00 00000001 0000 00000000 00000001 00000002 00000001 00000002 00000001 00000001 \
         00000001 00000002");
    golden!(Metadata 8 response.clone() =>
        "00000000 00000001 00000001 0001 68 00002384 ffff 0001 63 00000001 00000001 0000 0002 \
         6162 00 00000001 0000 00000000 00000001 00000004 00000002 00000001 00000002 00000001 \
         00000001 00000001 00000002 80000000 80000000");
    golden!(Metadata 13 response =>
        "00000000 02 00000001 02 68 00002384 00 00 02 63 00000001 02 0000 03 6162 \
         1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 00 02 0000 00000000 00000001 00000004 03 00000001 \
         00000002 02 00000001 02 00000002 00 80000000 00 0000 00");
}

#[test]
fn find_coordinator() {
    use find_coordinator::*;
    let request =
        FindCoordinatorRequest { key: "g", key_type: 1, coordinator_keys: vec!["g", "k"] };
    golden!(FindCoordinator 0 request.clone() => "0001 67");
    golden!(FindCoordinator 3 request.clone() => "02 67 01 00");
    golden!(FindCoordinator 6 request => "01 03 02 67 02 6b 00");
    let response = FindCoordinatorResponse {
        error_code: ErrorCode::COORDINATOR_NOT_AVAILABLE,
        node_id: -1,
        port: -1,
        coordinators: vec![Coordinator {
            key: "g",
            node_id: 1,
            host: "h",
            port: 9092,
            ..Default::default()
        }],
        ..Default::default()
    };
    golden!(FindCoordinator 0 response.clone() => "000f ffffffff 0000 ffffffff");
    golden!(FindCoordinator 3 response.clone() => "00000000 000f 00 ffffffff 01 ffffffff 00");
    golden!(FindCoordinator 6 response =>
        "00000000 02 02 67 00000001 02 68 00002384 0000 00 00 00");
}

#[test]
fn api_versions() {
    use api_versions::*;
    let request = ApiVersionsRequest { client_software_name: "s", client_software_version: "1.0" };
    golden!(ApiVersions 0 request.clone() => "");
    golden!(ApiVersions 4 request => "02 73 04 312e30 00");
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        api_keys: vec![ApiVersion { api_key: 18, min_version: 0, max_version: 4 }],
        finalized_features_epoch: 3,
        supported_features: vec![SupportedFeatureKey { name: "f", min_version: 0, max_version: 2 }],
        ..Default::default()
    };
    golden!(ApiVersions 0 response.clone() => "0023 00000001 0012 0000 0004");
    golden!(ApiVersions 1 response.clone() => "0023 00000001 0012 0000 0004 00000000");
    golden!(ApiVersions 4 response =>
        "0023 02 0012 0000 0004 00 00000000 02 00 08 02 02 66 0000 0002 00 01 08 \
         0000000000000003");
}

#[test]
fn create_topics() {
    use create_topics::*;
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: "ab",
            num_partitions: -1,
            replication_factor: -1,
            assignments: vec![CreatableReplicaAssignment {
                partition_index: 0,
                broker_ids: vec![1],
            }],
            configs: vec![CreatableTopicConfig { name: "k", value: Some("v") }],
        }],
        validate_only: true,
        ..Default::default()
    };
    golden!(CreateTopics 2 request.clone() =>
        "00000001 0002 6162 ffffffff ffff 00000001 00000000 00000001 00000001 00000001 0001 \
         6b 0001 76 0000ea60 01");
    golden!(CreateTopics 7 request =>
        "02 03 6162 ffffffff ffff 02 00000000 02 00000001 00 02 02 6b 02 76 00 00 0000ea60 01 \
         00");
    let response = CreateTopicsResponse {
        throttle_time_ms: 0,
        topics: vec![CreatableTopicResult {
            name: "ab",
            topic_id: ID,
            num_partitions: 6,
            replication_factor: 1,
            configs: Some(vec![CreatableTopicConfigs {
                name: "k",
                value: None,
                config_source: 5,
                ..Default::default()
            }]),
            topic_config_error_code: ErrorCode::TOPIC_AUTHORIZATION_FAILED,
            ..Default::default()
        }],
    };
    golden!(CreateTopics 2 response.clone() => "00000000 00000001 0002 6162 0000 ffff");
    golden!(CreateTopics 5 response.clone() =>
        "00000000 02 03 6162 0000 00 00000006 0001 02 02 6b 00 00 05 00 00 01 00 02 001d 00");
    golden!(CreateTopics 7 response =>
        "00000000 02 03 6162 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 0000 00 00000006 0001 02 02 6b \
         00 00 05 00 00 01 00 02 001d 00");
}

#[test]
fn delete_topics() {
    use delete_topics::*;
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: None, topic_id: ID }],
        topic_names: vec!["ab"],
        timeout_ms: 1000,
    };
    golden!(DeleteTopics 1 request.clone() => "00000001 0002 6162 000003e8");
    golden!(DeleteTopics 4 request.clone() => "02 03 6162 000003e8 00");
    golden!(DeleteTopics 6 request =>
        "02 00 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 00 000003e8 00");
    let response = DeleteTopicsResponse {
        throttle_time_ms: 0,
        responses: vec![DeletableTopicResult {
            name: None,
            topic_id: ID,
            error_code: ErrorCode::UNKNOWN_TOPIC_ID,
            error_message: Some("m"),
        }],
    };
    golden!(DeleteTopics 1 response.clone() => "00000000 00000001 0000 0064");
    golden!(DeleteTopics 5 response.clone() => "00000000 02 01 0064 02 6d 00 00");
    golden!(DeleteTopics 6 response =>
        "00000000 02 00 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 0064 02 6d 00 00");
}

#[test]
fn delete_records() {
    use delete_records::*;
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: "ab",
            partitions: vec![DeleteRecordsPartition { partition_index: 1, offset: -1 }],
        }],
        timeout_ms: 1000,
    };
    golden!(DeleteRecords 0 request.clone() =>
        "00000001 0002 6162 00000001 00000001 ffffffffffffffff 000003e8");
    golden!(DeleteRecords 2 request =>
        "02 03 6162 02 00000001 ffffffffffffffff 00 00 000003e8 00");
    let response = DeleteRecordsResponse {
        throttle_time_ms: 0,
        topics: vec![DeleteRecordsTopicResult {
            name: "ab",
            partitions: vec![DeleteRecordsPartitionResult {
                partition_index: 1,
                low_watermark: 5,
                error_code: ErrorCode::NONE,
            }],
        }],
    };
    golden!(DeleteRecords 0 response.clone() =>
        "00000000 00000001 0002 6162 00000001 00000001 0000000000000005 0000");
    golden!(DeleteRecords 2 response =>
        "00000000 02 03 6162 02 00000001 0000000000000005 0000 00 00 00");
}

#[test]
fn init_producer_id() {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: 60_000,
        producer_id: 9,
        producer_epoch: 2,
    };
    golden!(InitProducerId 0 request.clone() => "ffff 0000ea60");
    golden!(InitProducerId 2 request.clone() => "00 0000ea60 00");
    golden!(InitProducerId 5 request => "00 0000ea60 0000000000000009 0002 00");
    let response =
        InitProducerIdResponse { producer_id: 9, producer_epoch: 3, ..Default::default() };
    golden!(InitProducerId 0 response.clone() => "00000000 0000 0000000000000009 0003");
    golden!(InitProducerId 5 response => "00000000 0000 0000000000000009 0003 00");
}

#[test]
fn offset_for_leader_epoch() {
    use offset_for_leader_epoch::*;
    let request = OffsetForLeaderEpochRequest {
        topics: vec![OffsetForLeaderTopic {
            topic: "ab",
            partitions: vec![OffsetForLeaderPartition {
                partition: 1,
                current_leader_epoch: 3,
                leader_epoch: 2,
            }],
        }],
        ..Default::default()
    };
    golden!(OffsetForLeaderEpoch 2 request.clone() =>
        "00000001 0002 6162 00000001 00000001 00000003 00000002");
    golden!(OffsetForLeaderEpoch 3 request.clone() =>
        "fffffffe 00000001 0002 6162 00000001 00000001 00000003 00000002");
    golden!(OffsetForLeaderEpoch 4 request =>
        "fffffffe 02 03 6162 02 00000001 00000003 00000002 00 00 00");
    let response = OffsetForLeaderEpochResponse {
        throttle_time_ms: 0,
        topics: vec![OffsetForLeaderTopicResult {
            topic: "ab",
            partitions: vec![EpochEndOffset {
                partition: 1,
                leader_epoch: 2,
                end_offset: 50,
                ..Default::default()
            }],
        }],
    };
    golden!(OffsetForLeaderEpoch 2 response.clone() =>
        "00000000 00000001 0002 6162 00000001 0000 00000001 00000002 0000000000000032");
    golden!(OffsetForLeaderEpoch 4 response =>
        "00000000 02 03 6162 02 0000 00000001 00000002 0000000000000032 00 00 00");
}

#[test]
fn describe_configs() {
    use describe_configs::*;
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: 2,
            resource_name: "ab",
            configuration_keys: None,
        }],
        include_synonyms: true,
        include_documentation: true,
    };
    golden!(DescribeConfigs 1 request.clone() => "00000001 02 0002 6162 ffffffff 01");
    golden!(DescribeConfigs 3 request.clone() => "00000001 02 0002 6162 ffffffff 01 01");
    golden!(DescribeConfigs 4 request => "02 02 03 6162 00 00 01 01 00");
    let response = DescribeConfigsResponse {
        throttle_time_ms: 0,
        results: vec![DescribeConfigsResult {
            resource_type: 2,
            resource_name: "ab",
            configs: vec![DescribeConfigsResourceResult {
                name: "k",
                value: Some("v"),
                config_source: 1,
                synonyms: vec![DescribeConfigsSynonym { name: "k", value: Some("v"), source: 1 }],
                config_type: 2,
                documentation: Some("d"),
                ..Default::default()
            }],
            ..Default::default()
        }],
    };
    golden!(DescribeConfigs 1 response.clone() =>
        "00000000 00000001 0000 ffff 02 0002 6162 00000001 0001 6b 0001 76 00 01 00 00000001 \
         0001 6b 0001 76 01");
    golden!(DescribeConfigs 3 response.clone() =>
        "00000000 00000001 0000 ffff 02 0002 6162 00000001 0001 6b 0001 76 00 01 00 00000001 \
         0001 6b 0001 76 01 02 0001 64");
    golden!(DescribeConfigs 4 response =>
        "00000000 02 0000 00 02 03 6162 02 02 6b 02 76 00 01 00 02 02 6b 02 76 01 00 02 02 64 \
         00 00 00");
}

#[test]
fn alter_configs() {
    use alter_configs::*;
    let request = AlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: 2,
            resource_name: "ab",
            configs: vec![AlterableConfig { name: "k", value: None }],
        }],
        validate_only: true,
    };
    golden!(AlterConfigs 0 request.clone() => "00000001 02 0002 6162 00000001 0001 6b ffff 01");
    golden!(AlterConfigs 2 request => "02 02 03 6162 02 02 6b 00 00 00 01 00");
    let response = AlterConfigsResponse {
        throttle_time_ms: 0,
        responses: vec![AlterConfigsResourceResponse {
            error_code: ErrorCode::INVALID_CONFIG,
            error_message: Some("m"),
            resource_type: 2,
            resource_name: "ab",
        }],
    };
    golden!(AlterConfigs 0 response.clone() => "00000000 00000001 0028 0001 6d 02 0002 6162");
    golden!(AlterConfigs 2 response => "00000000 02 0028 02 6d 02 03 6162 00 00");
}

#[test]
fn incremental_alter_configs() {
    use incremental_alter_configs::*;
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: 2,
            resource_name: "ab",
            configs: vec![AlterableConfig { name: "k", config_operation: 1, value: None }],
        }],
        validate_only: false,
    };
    golden!(IncrementalAlterConfigs 0 request.clone() => "00000001 02 0002 6162 00000001 0001 6b 01 ffff 00");
    golden!(IncrementalAlterConfigs 1 request => "02 02 03 6162 02 02 6b 01 00 00 00 00 00");
    let response = IncrementalAlterConfigsResponse {
        throttle_time_ms: 0,
        responses: vec![AlterConfigsResourceResponse {
            resource_type: 2,
            resource_name: "ab",
            ..Default::default()
        }],
    };
    golden!(IncrementalAlterConfigs 0 response.clone() => "00000000 00000001 0000 ffff 02 0002 6162");
    golden!(IncrementalAlterConfigs 1 response => "00000000 02 0000 00 02 03 6162 00 00");
}

#[test]
fn create_partitions() {
    use create_partitions::*;
    let request = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: "ab",
            count: 3,
            assignments: Some(vec![CreatePartitionsAssignment { broker_ids: vec![1] }]),
        }],
        timeout_ms: 1000,
        validate_only: false,
    };
    golden!(CreatePartitions 0 request.clone() =>
        "00000001 0002 6162 00000003 00000001 00000001 00000001 000003e8 00");
    golden!(CreatePartitions 3 request =>
        "02 03 6162 00000003 02 02 00000001 00 00 000003e8 00 00");
    let response = CreatePartitionsResponse {
        throttle_time_ms: 0,
        results: vec![CreatePartitionsTopicResult {
            name: "ab",
            error_code: ErrorCode::INVALID_PARTITIONS,
            error_message: None,
        }],
    };
    golden!(CreatePartitions 0 response.clone() => "00000000 00000001 0002 6162 0025 ffff");
    golden!(CreatePartitions 3 response => "00000000 02 03 6162 0025 00 00 00");
}

#[test]
fn describe_cluster() {
    use describe_cluster::*;
    let request = DescribeClusterRequest { include_fenced_brokers: true, ..Default::default() };
    golden!(DescribeCluster 0 request.clone() => "00 00");
    golden!(DescribeCluster 1 request.clone() => "00 01 00");
    golden!(DescribeCluster 2 request => "00 01 01 00");
    let response = DescribeClusterResponse {
        cluster_id: "c",
        controller_id: 1,
        brokers: vec![DescribeClusterBroker {
            broker_id: 1,
            host: "h",
            port: 9092,
            rack: Some("r"),
            is_fenced: true,
        }],
        ..Default::default()
    };
    golden!(DescribeCluster 0 response.clone() =>
        "00000000 0000 00 02 63 00000001 02 00000001 02 68 00002384 02 72 00 80000000 00");
    golden!(DescribeCluster 1 response.clone() =>
        "00000000 0000 00 01 02 63 00000001 02 00000001 02 68 00002384 02 72 00 80000000 00");
    golden!(DescribeCluster 2 response =>
        "00000000 0000 00 01 02 63 00000001 02 00000001 02 68 00002384 02 72 01 00 80000000 \
         00");
}

#[test]
fn describe_topic_partitions() {
    use describe_topic_partitions::*;
    let request = DescribeTopicPartitionsRequest {
        topics: vec![TopicRequest { name: "ab" }],
        cursor: Some(Cursor { topic_name: "cd", partition_index: 2 }),
        ..Default::default()
    };
    golden!(DescribeTopicPartitions 0 request => "02 03 6162 00 000007d0 01 03 6364 00000002 00 00");
    let response = DescribeTopicPartitionsResponse {
        topics: vec![DescribeTopicPartitionsResponseTopic {
            name: Some("ab"),
            topic_id: ID,
            partitions: vec![DescribeTopicPartitionsResponsePartition {
                leader_id: 1,
                leader_epoch: 4,
                replica_nodes: vec![1],
                isr_nodes: vec![1],
                eligible_leader_replicas: Some(vec![]),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    golden!(DescribeTopicPartitions 0 response =>
        "00000000 02 0000 03 6162 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 00 02 0000 00000000 \
         00000001 00000004 02 00000001 02 00000001 01 00 01 00 80000000 00 ff 00");
}

#[test]
fn describe_log_dirs() {
    use describe_log_dirs::*;
    let request = DescribeLogDirsRequest {
        topics: Some(vec![DescribableLogDirTopic { topic: "ab", partitions: vec![0, 1] }]),
    };
    golden!(DescribeLogDirs 1 request.clone() => "00000001 0002 6162 00000002 00000000 00000001");
    golden!(DescribeLogDirs 5 request => "02 03 6162 03 00000000 00000001 00 00");
    let response = DescribeLogDirsResponse {
        results: vec![DescribeLogDirsResult {
            log_dir: "/d",
            topics: vec![DescribeLogDirsTopic {
                name: "ab",
                partitions: vec![DescribeLogDirsPartition {
                    partition_index: 1,
                    partition_size: 4096,
                    offset_lag: 0,
                    is_future_key: false,
                    quarantined_records: 0,
                }],
            }],
            usable_bytes: 8,
            is_cordoned: true,
            ..Default::default()
        }],
        ..Default::default()
    };
    golden!(DescribeLogDirs 1 response.clone() =>
        "00000000 00000001 0000 0002 2f64 00000001 0002 6162 00000001 00000001 \
         0000000000001000 0000000000000000 00");
    golden!(DescribeLogDirs 3 response.clone() =>
        "00000000 0000 02 0000 03 2f64 02 03 6162 02 00000001 0000000000001000 \
         0000000000000000 00 00 00 00 00");
    golden!(DescribeLogDirs 5 response =>
        "00000000 0000 02 0000 03 2f64 02 03 6162 02 00000001 0000000000001000 \
         0000000000000000 00 00 00 ffffffffffffffff 0000000000000008 01 00 00");
}

#[test]
fn describe_producers() {
    use describe_producers::*;
    let request = DescribeProducersRequest {
        topics: vec![TopicRequest { name: "ab", partition_indexes: vec![1] }],
    };
    golden!(DescribeProducers 0 request => "02 03 6162 02 00000001 00 00");
    let response = DescribeProducersResponse {
        throttle_time_ms: 0,
        topics: vec![TopicResponse {
            name: "ab",
            partitions: vec![PartitionResponse {
                partition_index: 1,
                active_producers: vec![ProducerState {
                    producer_id: 9,
                    producer_epoch: 2,
                    last_sequence: 40,
                    ..Default::default()
                }],
                ..Default::default()
            }],
        }],
    };
    golden!(DescribeProducers 0 response =>
        "00000000 02 03 6162 02 00000001 0000 00 02 0000000000000009 00000002 00000028 \
         ffffffffffffffff 00000000 ffffffffffffffff 00 00 00 00");
}
