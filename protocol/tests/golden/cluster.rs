//! APIs about brokers, replicas and voters.

use super::*;

#[test]
fn elect_leaders() {
    use elect_leaders::*;
    let topic = TopicPartitions { topic: "ab", partitions: vec![1, 2] };
    let request = ElectLeadersRequest {
        election_type: 1,
        topic_partitions: Some(vec![topic]),
        timeout_ms: 5,
    };
    golden!(ElectLeaders 0 request.clone() =>
        "00000001 0002 6162 00000002 00000001 00000002 00000005");
    golden!(ElectLeaders 1 request.clone() =>
        "01 00000001 0002 6162 00000002 00000001 00000002 00000005");
    golden!(ElectLeaders 2 request =>
        "01 02 03 6162 03 00000001 00000002 00 00000005 00");
    let all = ElectLeadersRequest::default();
    golden!(ElectLeaders 1 all.clone() => "00 ffffffff 0000ea60");
    golden!(ElectLeaders 2 all => "00 00 0000ea60 00");
    let response = ElectLeadersResponse {
        error_code: ErrorCode::NOT_CONTROLLER,
        replica_election_results: vec![ReplicaElectionResult {
            topic: "ab",
            partition_result: vec![PartitionResult {
                partition_id: 1,
                error_code: ErrorCode::ELECTION_NOT_NEEDED,
                error_message: Some("x"),
            }],
        }],
        ..Default::default()
    };
    golden!(ElectLeaders 0 response.clone() =>
        "00000000 00000001 0002 6162 00000001 00000001 0054 0001 78");
    golden!(ElectLeaders 1 response.clone() =>
        "00000000 0029 00000001 0002 6162 00000001 00000001 0054 0001 78");
    golden!(ElectLeaders 2 response =>
        "00000000 0029 02 03 6162 02 00000001 0054 02 78 00 00 00");
}

#[test]
fn alter_partition_reassignments() {
    use alter_partition_reassignments::*;
    let request = AlterPartitionReassignmentsRequest {
        allow_replication_factor_change: false,
        topics: vec![ReassignableTopic {
            name: "ab",
            partitions: vec![
                ReassignablePartition { partition_index: 0, replicas: Some(vec![3, 1]) },
                ReassignablePartition { partition_index: 1, replicas: None },
            ],
        }],
        ..Default::default()
    };
    golden!(AlterPartitionReassignments 0 request.clone() =>
        "0000ea60 02 03 6162 03 00000000 03 00000003 00000001 00 00000001 00 00 00 00");
    golden!(AlterPartitionReassignments 1 request =>
        "0000ea60 00 02 03 6162 03 00000000 03 00000003 00000001 00 00000001 00 00 00 00");
    let response = AlterPartitionReassignmentsResponse {
        responses: vec![ReassignableTopicResponse {
            name: "ab",
            partitions: vec![ReassignablePartitionResponse {
                partition_index: 1,
                error_code: ErrorCode::NO_REASSIGNMENT_IN_PROGRESS,
                error_message: None,
            }],
        }],
        ..Default::default()
    };
    golden!(AlterPartitionReassignments 0 response.clone() =>
        "00000000 0000 00 02 03 6162 02 00000001 0055 00 00 00 00");
    golden!(AlterPartitionReassignments 1 response =>
        "00000000 01 0000 00 02 03 6162 02 00000001 0055 00 00 00 00");
}

#[test]
fn list_partition_reassignments() {
    use list_partition_reassignments::*;
    let all = ListPartitionReassignmentsRequest::default();
    golden!(ListPartitionReassignments 0 all => "0000ea60 00 00");
    let topic = ListPartitionReassignmentsTopics { name: "ab", partition_indexes: vec![1] };
    let some = ListPartitionReassignmentsRequest { timeout_ms: 5, topics: Some(vec![topic]) };
    golden!(ListPartitionReassignments 0 some => "00000005 02 03 6162 02 00000001 00 00");
    let response = ListPartitionReassignmentsResponse {
        topics: vec![OngoingTopicReassignment {
            name: "ab",
            partitions: vec![OngoingPartitionReassignment {
                partition_index: 1,
                replicas: vec![3, 2],
                adding_replicas: vec![3],
                removing_replicas: vec![2],
            }],
        }],
        ..Default::default()
    };
    golden!(ListPartitionReassignments 0 response =>
        "00000000 0000 00 02 03 6162 02 00000001 03 00000003 00000002 02 00000003 02 00000002 \
         00 00 00");
}

#[test]
fn describe_quorum() {
    use describe_quorum::*;
    let request = DescribeQuorumRequest {
        topics: vec![TopicRequest {
            topic_name: "ab",
            partitions: vec![PartitionRequest { partition_index: 0 }],
        }],
    };
    golden!(DescribeQuorum 0 request => "02 03 6162 02 00000000 00 00 00");
    let replica = |replica_id| ReplicaState {
        replica_id,
        replica_directory_id: ID,
        log_end_offset: 9,
        last_fetch_timestamp: 7,
        last_caught_up_timestamp: 8,
    };
    let response = DescribeQuorumResponse {
        topics: vec![TopicResponse {
            topic_name: "ab",
            partitions: vec![PartitionResponse {
                leader_id: 1,
                leader_epoch: 4,
                high_watermark: 9,
                current_voters: vec![replica(1)],
                observers: vec![replica(2)],
                ..Default::default()
            }],
        }],
        nodes: vec![Node {
            node_id: 1,
            listeners: vec![Listener { name: "N", host: "h", port: 9093 }],
        }],
        ..Default::default()
    };
    golden!(DescribeQuorum 0 response.clone() =>
        "0000 02 03 6162 02 00000000 0000 00000001 00000004 0000000000000009 \
         02 00000001 0000000000000009 00 02 00000002 0000000000000009 00 00 00 00");
    golden!(DescribeQuorum 1 response.clone() =>
        "0000 02 03 6162 02 00000000 0000 00000001 00000004 0000000000000009 \
         02 00000001 0000000000000009 0000000000000007 0000000000000008 00 \
         02 00000002 0000000000000009 0000000000000007 0000000000000008 00 00 00 00");
    golden!(DescribeQuorum 2 response =>
        "0000 00 02 03 6162 02 00000000 0000 00 00000001 00000004 0000000000000009 \
         02 00000001 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 0000000000000009 0000000000000007 \
         0000000000000008 00 \
         02 00000002 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 0000000000000009 0000000000000007 \
         0000000000000008 00 00 00 02 00000001 02 02 4e 02 68 2385 00 00 00");
}

#[test]
fn update_features() {
    use update_features::*;
    let request = UpdateFeaturesRequest {
        feature_updates: vec![FeatureUpdateKey {
            feature: "ab",
            max_version_level: 3,
            allow_downgrade: true,
            upgrade_type: 2,
        }],
        validate_only: true,
        ..Default::default()
    };
    golden!(UpdateFeatures 0 request.clone() => "0000ea60 02 03 6162 0003 01 00 00");
    golden!(UpdateFeatures 1 request.clone() => "0000ea60 02 03 6162 0003 02 00 01 00");
    golden!(UpdateFeatures 2 request => "0000ea60 02 03 6162 0003 02 00 01 00");
    let response = UpdateFeaturesResponse {
        results: vec![UpdatableFeatureResult {
            feature: "ab",
            error_code: ErrorCode::INVALID_REQUEST,
            error_message: Some("x"),
        }],
        ..Default::default()
    };
    golden!(UpdateFeatures 1 response.clone() => "00000000 0000 00 02 03 6162 002a 02 78 00 00");
    golden!(UpdateFeatures 2 response => "00000000 0000 00 00");
}

#[test]
fn unregister_broker() {
    use unregister_broker::*;
    golden!(UnregisterBroker 0 UnregisterBrokerRequest { broker_id: 3 } => "00000003 00");
    let response = UnregisterBrokerResponse {
        error_code: ErrorCode::BROKER_ID_NOT_REGISTERED,
        error_message: Some("x"),
        ..Default::default()
    };
    golden!(UnregisterBroker 0 response => "00000000 0066 02 78 00");
}

#[test]
fn add_raft_voter() {
    use add_raft_voter::*;
    let request = AddRaftVoterRequest {
        cluster_id: Some("c"),
        timeout_ms: 5,
        voter_id: 3,
        voter_directory_id: ID,
        listeners: vec![Listener { name: "N", host: "h", port: 9093 }],
        ack_when_committed: false,
    };
    golden!(AddRaftVoter 0 request.clone() =>
        "02 63 00000005 00000003 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 02 02 4e 02 68 2385 00 00");
    golden!(AddRaftVoter 1 request =>
        "02 63 00000005 00000003 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 02 02 4e 02 68 2385 00 00 00");
    let response =
        AddRaftVoterResponse { error_code: ErrorCode::DUPLICATE_VOTER, ..Default::default() };
    golden!(AddRaftVoter 1 response => "00000000 007e 00 00");
}

#[test]
fn remove_raft_voter() {
    use remove_raft_voter::*;
    let request = RemoveRaftVoterRequest { cluster_id: None, voter_id: 3, voter_directory_id: ID };
    golden!(RemoveRaftVoter 0 request => "00 00000003 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 00");
    let response =
        RemoveRaftVoterResponse { error_code: ErrorCode::VOTER_NOT_FOUND, ..Default::default() };
    golden!(RemoveRaftVoter 0 response => "00000000 007f 00 00");
}
