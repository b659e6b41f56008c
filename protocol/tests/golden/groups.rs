//! Messages of groups, of their offsets, and of the tools around them.

use super::*;

#[test]
fn join_group() {
    use join_group::*;
    let request = JoinGroupRequest {
        group_id: "g",
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        member_id: "m",
        group_instance_id: Some("i"),
        protocol_type: "consumer",
        protocols: vec![JoinGroupRequestProtocol {
            name: "range",
            metadata: Bytes::from_static(b"\x00\x01"),
        }],
        reason: Some("r"),
    };
    golden!(JoinGroup 0 request.clone() =>
        "0001 67 0000afc8 0001 6d 0008 636f6e73756d6572 00000001 0005 72616e6765 00000002 0001");
    golden!(JoinGroup 1 request.clone() =>
        "0001 67 0000afc8 000493e0 0001 6d 0008 636f6e73756d6572 00000001 0005 72616e6765 \
         00000002 0001");
    golden!(JoinGroup 5 request.clone() =>
        "0001 67 0000afc8 000493e0 0001 6d 0001 69 0008 636f6e73756d6572 00000001 0005 \
         72616e6765 00000002 0001");
    golden!(JoinGroup 6 request.clone() =>
        "02 67 0000afc8 000493e0 02 6d 02 69 09 636f6e73756d6572 02 06 72616e6765 03 0001 00 00");
    golden!(JoinGroup 9 request =>
        "02 67 0000afc8 000493e0 02 6d 02 69 09 636f6e73756d6572 02 06 72616e6765 03 0001 00 02 \
         72 00");
    let response = JoinGroupResponse {
        throttle_time_ms: 5,
        generation_id: 7,
        protocol_type: Some("consumer"),
        protocol_name: Some("range"),
        leader: "m",
        skip_assignment: true,
        member_id: "m",
        members: vec![JoinGroupResponseMember {
            member_id: "m",
            group_instance_id: Some("i"),
            metadata: Bytes::from_static(b"\x00\x01"),
        }],
        ..Default::default()
    };
    golden!(JoinGroup 0 response.clone() =>
        "0000 00000007 0005 72616e6765 0001 6d 0001 6d 00000001 0001 6d 00000002 0001");
    golden!(JoinGroup 2 response.clone() =>
        "00000005 0000 00000007 0005 72616e6765 0001 6d 0001 6d 00000001 0001 6d 00000002 0001");
    golden!(JoinGroup 5 response.clone() =>
        "00000005 0000 00000007 0005 72616e6765 0001 6d 0001 6d 00000001 0001 6d 0001 69 \
         00000002 0001");
    golden!(JoinGroup 7 response.clone() =>
        "00000005 0000 00000007 09 636f6e73756d6572 06 72616e6765 02 6d 02 6d 02 02 6d 02 69 03 \
         0001 00 00");
    golden!(JoinGroup 9 response =>
        "00000005 0000 00000007 09 636f6e73756d6572 06 72616e6765 02 6d 01 02 6d 02 02 6d 02 69 \
         03 0001 00 00");
    let refused =
        JoinGroupResponse { error_code: ErrorCode::MEMBER_ID_REQUIRED, ..Default::default() };
    golden!(JoinGroup 4 refused.clone() => "00000000 004f ffffffff 0000 0000 0000 00000000");
    golden!(JoinGroup 7 refused => "00000000 004f ffffffff 00 00 01 01 01 00");
}

#[test]
fn sync_group() {
    use sync_group::*;
    let request = SyncGroupRequest {
        group_id: "g",
        generation_id: 7,
        member_id: "m",
        group_instance_id: None,
        protocol_type: Some("consumer"),
        protocol_name: Some("range"),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: "m",
            assignment: Bytes::from_static(b"\x09"),
        }],
    };
    golden!(SyncGroup 0 request.clone() => "0001 67 00000007 0001 6d 00000001 0001 6d 00000001 09");
    golden!(SyncGroup 3 request.clone() =>
        "0001 67 00000007 0001 6d ffff 00000001 0001 6d 00000001 09");
    golden!(SyncGroup 5 request =>
        "02 67 00000007 02 6d 00 09 636f6e73756d6572 06 72616e6765 02 02 6d 02 09 00 00");
    let response = SyncGroupResponse {
        throttle_time_ms: 5,
        error_code: ErrorCode::REBALANCE_IN_PROGRESS,
        protocol_type: Some("consumer"),
        protocol_name: None,
        assignment: Bytes::from_static(b"\x09"),
    };
    golden!(SyncGroup 0 response.clone() => "001b 00000001 09");
    golden!(SyncGroup 4 response.clone() => "00000005 001b 02 09 00");
    golden!(SyncGroup 5 response => "00000005 001b 09 636f6e73756d6572 00 02 09 00");
}

#[test]
fn heartbeat() {
    use heartbeat::*;
    let request = HeartbeatRequest {
        group_id: "g",
        generation_id: 7,
        member_id: "m",
        group_instance_id: Some("i"),
    };
    golden!(Heartbeat 0 request.clone() => "0001 67 00000007 0001 6d");
    golden!(Heartbeat 3 request.clone() => "0001 67 00000007 0001 6d 0001 69");
    golden!(Heartbeat 4 request => "02 67 00000007 02 6d 02 69 00");
    let response =
        HeartbeatResponse { throttle_time_ms: 5, error_code: ErrorCode::UNKNOWN_MEMBER_ID };
    golden!(Heartbeat 0 response.clone() => "0019");
    golden!(Heartbeat 1 response.clone() => "00000005 0019");
    golden!(Heartbeat 4 response => "00000005 0019 00");
}

#[test]
fn leave_group() {
    use leave_group::*;
    let request = LeaveGroupRequest {
        group_id: "g",
        member_id: "m",
        members: vec![MemberIdentity {
            member_id: "m",
            group_instance_id: Some("i"),
            reason: Some("r"),
        }],
    };
    golden!(LeaveGroup 0 request.clone() => "0001 67 0001 6d");
    golden!(LeaveGroup 3 request.clone() => "0001 67 00000001 0001 6d 0001 69");
    golden!(LeaveGroup 4 request.clone() => "02 67 02 02 6d 02 69 00 00");
    golden!(LeaveGroup 5 request => "02 67 02 02 6d 02 69 02 72 00 00");
    let response = LeaveGroupResponse {
        throttle_time_ms: 5,
        error_code: ErrorCode::NONE,
        members: vec![MemberResponse {
            member_id: "m",
            group_instance_id: None,
            error_code: ErrorCode::UNKNOWN_MEMBER_ID,
        }],
    };
    golden!(LeaveGroup 0 response.clone() => "0000");
    golden!(LeaveGroup 3 response.clone() => "00000005 0000 00000001 0001 6d ffff 0019");
    golden!(LeaveGroup 5 response => "00000005 0000 02 02 6d 00 0019 00 00");
}

#[test]
fn offset_commit() {
    use offset_commit::*;
    let request = OffsetCommitRequest {
        group_id: "g",
        generation_id_or_member_epoch: 7,
        member_id: "m",
        group_instance_id: Some("i"),
        retention_time_ms: 86_400_000,
        topics: vec![OffsetCommitRequestTopic {
            name: "ab",
            topic_id: ID,
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 1,
                committed_offset: 40,
                committed_leader_epoch: 2,
                committed_metadata: Some("x"),
            }],
        }],
    };
    golden!(OffsetCommit 2 request.clone() =>
        "0001 67 00000007 0001 6d 0000000005265c00 00000001 0002 6162 00000001 00000001 \
         0000000000000028 0001 78");
    golden!(OffsetCommit 5 request.clone() =>
        "0001 67 00000007 0001 6d 00000001 0002 6162 00000001 00000001 0000000000000028 0001 78");
    golden!(OffsetCommit 7 request.clone() =>
        "0001 67 00000007 0001 6d 0001 69 00000001 0002 6162 00000001 00000001 0000000000000028 \
         00000002 0001 78");
    golden!(OffsetCommit 9 request.clone() =>
        "02 67 00000007 02 6d 02 69 02 03 6162 02 00000001 0000000000000028 00000002 02 78 00 \
         00 00");
    golden!(OffsetCommit 10 request =>
        "02 67 00000007 02 6d 02 69 02 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 02 00000001 \
         0000000000000028 00000002 02 78 00 00 00");
    let response = OffsetCommitResponse {
        throttle_time_ms: 5,
        topics: vec![OffsetCommitResponseTopic {
            name: "ab",
            topic_id: ID,
            partitions: vec![OffsetCommitResponsePartition {
                partition_index: 1,
                error_code: ErrorCode::ILLEGAL_GENERATION,
            }],
        }],
    };
    golden!(OffsetCommit 2 response.clone() => "00000001 0002 6162 00000001 00000001 0016");
    golden!(OffsetCommit 3 response.clone() =>
        "00000005 00000001 0002 6162 00000001 00000001 0016");
    golden!(OffsetCommit 8 response.clone() => "00000005 02 03 6162 02 00000001 0016 00 00 00");
    golden!(OffsetCommit 10 response =>
        "00000005 02 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 02 00000001 0016 00 00 00");
}

#[test]
fn offset_fetch() {
    use offset_fetch::*;
    let request = OffsetFetchRequest {
        group_id: "g",
        topics: Some(vec![OffsetFetchRequestTopic { name: "ab", partition_indexes: vec![1, 2] }]),
        groups: vec![OffsetFetchRequestGroup {
            group_id: "g",
            member_id: Some("m"),
            member_epoch: 3,
            topics: Some(vec![OffsetFetchRequestTopics {
                name: "ab",
                topic_id: ID,
                partition_indexes: vec![1],
            }]),
        }],
        require_stable: true,
    };
    golden!(OffsetFetch 1 request.clone() =>
        "0001 67 00000001 0002 6162 00000002 00000001 00000002");
    golden!(OffsetFetch 6 request.clone() => "02 67 02 03 6162 03 00000001 00000002 00 00");
    golden!(OffsetFetch 7 request.clone() => "02 67 02 03 6162 03 00000001 00000002 00 01 00");
    golden!(OffsetFetch 8 request.clone() => "02 02 67 02 03 6162 02 00000001 00 00 01 00");
    golden!(OffsetFetch 9 request.clone() =>
        "02 02 67 02 6d 00000003 02 03 6162 02 00000001 00 00 01 00");
    golden!(OffsetFetch 10 request =>
        "02 02 67 02 6d 00000003 02 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 02 00000001 00 00 01 00");
    let everything = OffsetFetchRequest { group_id: "g", ..Default::default() };
    golden!(OffsetFetch 2 everything => "0001 67 ffffffff");
    let partition = OffsetFetchResponsePartition {
        partition_index: 1,
        committed_offset: 40,
        committed_leader_epoch: 2,
        metadata: Some("x"),
        error_code: ErrorCode::NONE,
    };
    let response = OffsetFetchResponse {
        throttle_time_ms: 5,
        topics: vec![OffsetFetchResponseTopic { name: "ab", partitions: vec![partition.clone()] }],
        error_code: ErrorCode::NOT_COORDINATOR,
        groups: vec![OffsetFetchResponseGroup {
            group_id: "g",
            topics: vec![OffsetFetchResponseTopics {
                name: "ab",
                topic_id: ID,
                partitions: vec![partition],
            }],
            error_code: ErrorCode::NOT_COORDINATOR,
        }],
    };
    golden!(OffsetFetch 1 response.clone() =>
        "00000001 0002 6162 00000001 00000001 0000000000000028 0001 78 0000");
    golden!(OffsetFetch 3 response.clone() =>
        "00000005 00000001 0002 6162 00000001 00000001 0000000000000028 0001 78 0000 0010");
    golden!(OffsetFetch 7 response.clone() =>
        "00000005 02 03 6162 02 00000001 0000000000000028 00000002 02 78 0000 00 00 0010 00");
    golden!(OffsetFetch 8 response.clone() =>
        "00000005 02 02 67 02 03 6162 02 00000001 0000000000000028 00000002 02 78 0000 00 00 \
         0010 00 00");
    golden!(OffsetFetch 10 response =>
        "00000005 02 02 67 02 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 02 00000001 0000000000000028 \
         00000002 02 78 0000 00 00 0010 00 00");
}

#[test]
fn offset_delete() {
    use offset_delete::*;
    let request = OffsetDeleteRequest {
        group_id: "g",
        topics: vec![OffsetDeleteRequestTopic {
            name: "ab",
            partitions: vec![OffsetDeleteRequestPartition { partition_index: 1 }],
        }],
    };
    golden!(OffsetDelete 0 request => "0001 67 00000001 0002 6162 00000001 00000001");
    let response = OffsetDeleteResponse {
        error_code: ErrorCode::NONE,
        throttle_time_ms: 5,
        topics: vec![OffsetDeleteResponseTopic {
            name: "ab",
            partitions: vec![OffsetDeleteResponsePartition {
                partition_index: 1,
                error_code: ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
            }],
        }],
    };
    golden!(OffsetDelete 0 response => "0000 00000005 00000001 0002 6162 00000001 00000001 0056");
}

#[test]
fn describe_groups() {
    use describe_groups::*;
    let request =
        DescribeGroupsRequest { groups: vec!["g", "h"], include_authorized_operations: true };
    golden!(DescribeGroups 0 request.clone() => "00000002 0001 67 0001 68");
    golden!(DescribeGroups 3 request.clone() => "00000002 0001 67 0001 68 01");
    golden!(DescribeGroups 6 request => "03 02 67 02 68 01 00");
    let response = DescribeGroupsResponse {
        throttle_time_ms: 5,
        groups: vec![DescribedGroup {
            error_code: ErrorCode::NONE,
            error_message: Some("e"),
            group_id: "g",
            group_state: "Stable",
            protocol_type: "consumer",
            protocol_data: "range",
            members: vec![DescribedGroupMember {
                member_id: "m",
                group_instance_id: Some("i"),
                client_id: "c",
                client_host: "/127.0.0.1",
                member_metadata: Bytes::from_static(b"\x01"),
                member_assignment: Bytes::from_static(b"\x02"),
            }],
            ..Default::default()
        }],
    };
    golden!(DescribeGroups 0 response.clone() =>
        "00000001 0000 0001 67 0006 537461626c65 0008 636f6e73756d6572 0005 72616e6765 00000001 \
         0001 6d 0001 63 000a 2f3132372e302e302e31 00000001 01 00000001 02");
    golden!(DescribeGroups 4 response.clone() =>
        "00000005 00000001 0000 0001 67 0006 537461626c65 0008 636f6e73756d6572 0005 72616e6765 \
         00000001 0001 6d 0001 69 0001 63 000a 2f3132372e302e302e31 00000001 01 00000001 02 \
         80000000");
    golden!(DescribeGroups 5 response.clone() =>
        "00000005 02 0000 02 67 07 537461626c65 09 636f6e73756d6572 06 72616e6765 02 02 6d 02 \
         69 02 63 0b 2f3132372e302e302e31 02 01 02 02 00 80000000 00 00");
    golden!(DescribeGroups 6 response =>
        "00000005 02 0000 02 65 02 67 07 537461626c65 09 636f6e73756d6572 06 72616e6765 02 02 \
         6d 02 69 02 63 0b 2f3132372e302e302e31 02 01 02 02 00 80000000 00 00");
}

#[test]
fn list_groups() {
    use list_groups::*;
    let request =
        ListGroupsRequest { states_filter: vec!["Stable"], types_filter: vec!["classic"] };
    golden!(ListGroups 0 request.clone() => "");
    golden!(ListGroups 3 request.clone() => "00");
    golden!(ListGroups 4 request.clone() => "02 07 537461626c65 00");
    golden!(ListGroups 5 request => "02 07 537461626c65 02 08 636c6173736963 00");
    let response = ListGroupsResponse {
        throttle_time_ms: 5,
        error_code: ErrorCode::NONE,
        groups: vec![ListedGroup {
            group_id: "g",
            protocol_type: "consumer",
            group_state: "Stable",
            group_type: "classic",
        }],
    };
    golden!(ListGroups 0 response.clone() => "0000 00000001 0001 67 0008 636f6e73756d6572");
    golden!(ListGroups 1 response.clone() =>
        "00000005 0000 00000001 0001 67 0008 636f6e73756d6572");
    golden!(ListGroups 4 response.clone() =>
        "00000005 0000 02 02 67 09 636f6e73756d6572 07 537461626c65 00 00");
    golden!(ListGroups 5 response =>
        "00000005 0000 02 02 67 09 636f6e73756d6572 07 537461626c65 08 636c6173736963 00 00");
}

#[test]
fn delete_groups() {
    use delete_groups::*;
    let request = DeleteGroupsRequest { groups_names: vec!["g"] };
    golden!(DeleteGroups 0 request.clone() => "00000001 0001 67");
    golden!(DeleteGroups 2 request => "02 02 67 00");
    let response = DeleteGroupsResponse {
        throttle_time_ms: 5,
        results: vec![DeletableGroupResult {
            group_id: "g",
            error_code: ErrorCode::NON_EMPTY_GROUP,
        }],
    };
    golden!(DeleteGroups 0 response.clone() => "00000005 00000001 0001 67 0044");
    golden!(DeleteGroups 2 response => "00000005 02 02 67 0044 00 00");
}

#[test]
fn consumer_group_heartbeat() {
    use consumer_group_heartbeat::*;
    let owned = TopicPartitions { topic_id: ID, partitions: vec![1, 2] };
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "g",
        member_id: "m",
        member_epoch: 3,
        instance_id: Some("i"),
        rack_id: Some("r"),
        rebalance_timeout_ms: 300_000,
        subscribed_topic_names: Some(vec!["ab"]),
        subscribed_topic_regex: Some("a.*"),
        server_assignor: Some("uniform"),
        topic_partitions: Some(vec![owned.clone()]),
    };
    golden!(ConsumerGroupHeartbeat 0 request.clone() =>
        "02 67 02 6d 00000003 02 69 02 72 000493e0 02 03 6162 08 756e69666f726d 02 \
         1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 03 00000001 00000002 00 00");
    golden!(ConsumerGroupHeartbeat 1 request =>
        "02 67 02 6d 00000003 02 69 02 72 000493e0 02 03 6162 04 612e2a 08 756e69666f726d 02 \
         1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 03 00000001 00000002 00 00");
    let lives = ConsumerGroupHeartbeatRequest {
        group_id: "g",
        member_id: "m",
        member_epoch: 3,
        ..Default::default()
    };
    golden!(ConsumerGroupHeartbeat 1 lives => "02 67 02 6d 00000003 00 00 ffffffff 00 00 00 00 00");
    let response = ConsumerGroupHeartbeatResponse {
        member_id: Some("m"),
        member_epoch: 4,
        heartbeat_interval_ms: 5000,
        assignment: Some(Assignment { topic_partitions: vec![owned] }),
        ..Default::default()
    };
    golden!(ConsumerGroupHeartbeat 0 response.clone() =>
        "00000000 0000 00 02 6d 00000004 00001388 01 02 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 03 \
         00000001 00000002 00 00 00");
    let same = ConsumerGroupHeartbeatResponse { assignment: None, ..response };
    golden!(ConsumerGroupHeartbeat 1 same => "00000000 0000 00 02 6d 00000004 00001388 ff 00");
}

#[test]
fn consumer_group_describe() {
    use consumer_group_describe::*;
    let request =
        ConsumerGroupDescribeRequest { group_ids: vec!["g"], include_authorized_operations: true };
    golden!(ConsumerGroupDescribe 0 request => "02 02 67 01 00");
    let assignment = Assignment {
        topic_partitions: vec![TopicPartitions {
            topic_id: ID,
            topic_name: "ab",
            partitions: vec![1],
        }],
    };
    let response = ConsumerGroupDescribeResponse {
        throttle_time_ms: 5,
        groups: vec![DescribedGroup {
            group_id: "g",
            group_state: "Stable",
            group_epoch: 3,
            assignment_epoch: 2,
            assignor_name: "uniform",
            members: vec![Member {
                member_id: "m",
                rack_id: Some("r"),
                member_epoch: 2,
                client_id: "c",
                client_host: "/127.0.0.1",
                subscribed_topic_names: vec!["ab"],
                assignment,
                member_type: 1,
                ..Default::default()
            }],
            ..Default::default()
        }],
    };
    golden!(ConsumerGroupDescribe 0 response.clone() =>
        "00000005 02 0000 00 02 67 07 537461626c65 00000003 00000002 08 756e69666f726d 02 02 6d \
         00 02 72 00000002 02 63 0b 2f3132372e302e302e31 02 03 6162 00 02 \
         1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 03 6162 02 00000001 00 00 01 00 00 80000000 00 00");
    golden!(ConsumerGroupDescribe 1 response =>
        "00000005 02 0000 00 02 67 07 537461626c65 00000003 00000002 08 756e69666f726d 02 02 6d \
         00 02 72 00000002 02 63 0b 2f3132372e302e302e31 02 03 6162 00 02 \
         1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 03 6162 02 00000001 00 00 01 00 01 00 80000000 00 00");
}

#[test]
fn list_config_resources() {
    use list_config_resources::*;
    let request = ListConfigResourcesRequest { resource_types: vec![2, 4] };
    golden!(ListConfigResources 0 request.clone() => "00");
    golden!(ListConfigResources 1 request => "03 02 04 00");
    let response = ListConfigResourcesResponse {
        config_resources: vec![ConfigResource { resource_name: "ab", resource_type: 2 }],
        ..Default::default()
    };
    golden!(ListConfigResources 0 response.clone() => "00000000 0000 02 03 6162 00 00");
    golden!(ListConfigResources 1 response => "00000000 0000 02 03 6162 02 00 00");
}

#[test]
fn telemetry() {
    use get_telemetry_subscriptions::*;
    use push_telemetry::*;
    let request = GetTelemetrySubscriptionsRequest { client_instance_id: ID };
    golden!(GetTelemetrySubscriptions 0 request => "1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 00");
    let response = GetTelemetrySubscriptionsResponse {
        client_instance_id: ID,
        subscription_id: 9,
        accepted_compression_types: vec![4, 1],
        push_interval_ms: 300_000,
        telemetry_max_bytes: 1 << 20,
        delta_temporality: true,
        requested_metrics: vec![""],
        ..Default::default()
    };
    golden!(GetTelemetrySubscriptions 0 response =>
        "00000000 0000 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 00000009 03 04 01 000493e0 00100000 01 \
         02 01 00");
    let push = PushTelemetryRequest {
        client_instance_id: ID,
        subscription_id: 9,
        terminating: true,
        compression_type: 4,
        metrics: Bytes::from_static(b"\x0a\x00"),
    };
    golden!(PushTelemetry 0 push => "1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d 00000009 01 04 03 0a00 00");
    golden!(PushTelemetry 0 PushTelemetryResponse::default() => "00000000 0000 00");
}

/// Sawlog's own: confirmed by hand from `docs/formats/group-timeline.md`, there is no other code for it.
#[test]
fn group_timeline() {
    use group_timeline::*;
    golden!(GroupTimeline 0 GroupTimelineRequest { group_id: "g" } => "02 67 00");
    let response = GroupTimelineResponse {
        events: vec![
            TimelineEvent {
                timestamp_ms: 5,
                kind: kind::SESSION_TIMED_OUT,
                member_id: Some("m"),
                client_id: Some("c"),
                client_host: Some("/h"),
                timeout_ms: 45_000,
                ..Default::default()
            },
            TimelineEvent {
                timestamp_ms: 6,
                kind: kind::GENERATION_STARTED,
                generation: 3,
                count: 2,
                protocol_name: Some("range"),
                ..Default::default()
            },
        ],
        ..Default::default()
    };
    golden!(GroupTimeline 0 response =>
        "00000000 0000 00 03 \
         0000000000000005 04 02 6d 00 02 63 03 2f68 00 00 000000000000afc8 ffffffff ffffffff 00 00 \
         0000000000000006 09 00 00 00 00 00 00 ffffffffffffffff 00000003 00000002 06 72616e6765 00 \
         00");
}
