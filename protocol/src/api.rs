//! The table of APIs: what the code speaks, in which versions, and which of it the broker serves.
//!
//! ApiVersions replies, header versions, dispatch and `docs/api-support.md` are made from it.

use crate::messages::{
    add_raft_voter, alter_configs, alter_partition_reassignments, api_versions,
    consumer_group_describe, consumer_group_heartbeat, create_partitions, create_topics,
    delete_groups, delete_records, delete_topics, describe_cluster, describe_configs,
    describe_groups, describe_log_dirs, describe_producers, describe_quorum,
    describe_topic_partitions, elect_leaders, fetch, find_coordinator, get_telemetry_subscriptions,
    group_timeline, heartbeat, incremental_alter_configs, init_producer_id, join_group,
    leave_group, list_config_resources, list_groups, list_offsets, list_partition_reassignments,
    metadata, offset_commit, offset_delete, offset_fetch, offset_for_leader_epoch, produce,
    push_telemetry, remove_raft_voter, sync_group, unregister_broker, update_features,
};

apis! {
    /// Record batches into partitions. Advertised from 0: librdkafka before 2.11.1 sends
    /// uncompressed otherwise (KAFKA-18659).
    0 Produce produce 3..=13 advertised 0 flexible 9: ProduceRequest<'a> => ProduceResponse<'r>;
    /// Record batches out of partitions.
    1 Fetch fetch 4..=18 flexible 12: FetchRequest<'a> => FetchResponse<'r>;
    /// Offsets by timestamp.
    2 ListOffsets list_offsets 1..=11 flexible 6: ListOffsetsRequest<'a> => ListOffsetsResponse<'r>;
    /// Brokers, topics, partitions, leaders.
    3 Metadata metadata 0..=13 flexible 9: MetadataRequest<'a> => MetadataResponse<'r>;
    /// How far a group has read.
    8 OffsetCommit offset_commit 2..=10 flexible 8:
        OffsetCommitRequest<'a> => OffsetCommitResponse<'r>;
    /// How far groups have read, asked.
    9 OffsetFetch offset_fetch 1..=10 flexible 6:
        OffsetFetchRequest<'a> => OffsetFetchResponse<'r>;
    /// Who coordinates a group or a transaction.
    10 FindCoordinator find_coordinator 0..=6 flexible 3:
        FindCoordinatorRequest<'a> => FindCoordinatorResponse<'r>;
    /// A member enters a group, or a new generation of it.
    11 JoinGroup join_group 0..=9 flexible 6:
        JoinGroupRequest<'a> => JoinGroupResponse<'r>;
    /// A member lives.
    12 Heartbeat heartbeat 0..=4 flexible 4: HeartbeatRequest<'a> => HeartbeatResponse;
    /// Members leave a group.
    13 LeaveGroup leave_group 0..=5 flexible 4:
        LeaveGroupRequest<'a> => LeaveGroupResponse<'r>;
    /// Assignments, from the leader to the members.
    14 SyncGroup sync_group 0..=5 flexible 4:
        SyncGroupRequest<'a> => SyncGroupResponse<'r>;
    /// State and members of groups.
    15 DescribeGroups describe_groups 0..=6 flexible 5:
        DescribeGroupsRequest<'a> => DescribeGroupsResponse<'r>;
    /// The groups of a broker.
    16 ListGroups list_groups 0..=5 flexible 3:
        ListGroupsRequest<'a> => ListGroupsResponse<'r>;
    /// What a broker serves.
    18 ApiVersions api_versions 0..=4 flexible 3: ApiVersionsRequest<'a> => ApiVersionsResponse<'r>;
    /// New topics.
    19 CreateTopics create_topics 2..=7 flexible 5: CreateTopicsRequest<'a> => CreateTopicsResponse<'r>;
    /// Topics to delete.
    20 DeleteTopics delete_topics 1..=6 flexible 4: DeleteTopicsRequest<'a> => DeleteTopicsResponse<'r>;
    /// Moves the start of logs.
    21 DeleteRecords delete_records 0..=2 flexible 2:
        DeleteRecordsRequest<'a> => DeleteRecordsResponse<'r>;
    /// An id for a producer.
    22 InitProducerId init_producer_id 0..=5 flexible 2:
        InitProducerIdRequest<'a> => InitProducerIdResponse;
    /// Where a leader epoch ended.
    23 OffsetForLeaderEpoch offset_for_leader_epoch 2..=4 flexible 4:
        OffsetForLeaderEpochRequest<'a> => OffsetForLeaderEpochResponse<'r>;
    /// Settings in force.
    32 DescribeConfigs describe_configs 1..=4 flexible 4:
        DescribeConfigsRequest<'a> => DescribeConfigsResponse<'r>;
    /// Replaces the settings of a resource.
    33 AlterConfigs alter_configs 0..=2 flexible 2: AlterConfigsRequest<'a> => AlterConfigsResponse<'r>;
    /// Sizes on disk.
    35 DescribeLogDirs describe_log_dirs 1..=5 flexible 2:
        DescribeLogDirsRequest<'a> => DescribeLogDirsResponse<'r>;
    /// More partitions for a topic.
    37 CreatePartitions create_partitions 0..=3 flexible 2:
        CreatePartitionsRequest<'a> => CreatePartitionsResponse<'r>;
    /// Groups to delete.
    42 DeleteGroups delete_groups 0..=2 flexible 2:
        DeleteGroupsRequest<'a> => DeleteGroupsResponse<'r>;
    /// Other leaders.
    43 ElectLeaders elect_leaders 0..=2 flexible 2:
        ElectLeadersRequest<'a> => ElectLeadersResponse<'r>;
    /// Changes single settings of a resource.
    44 IncrementalAlterConfigs incremental_alter_configs 0..=1 flexible 1:
        IncrementalAlterConfigsRequest<'a> => IncrementalAlterConfigsResponse<'r>;
    /// Replicas that are to move.
    45 AlterPartitionReassignments alter_partition_reassignments 0..=1 flexible 0:
        AlterPartitionReassignmentsRequest<'a> => AlterPartitionReassignmentsResponse<'r>;
    /// Replicas that are moving.
    46 ListPartitionReassignments list_partition_reassignments 0..=0 flexible 0:
        ListPartitionReassignmentsRequest<'a> => ListPartitionReassignmentsResponse<'r>;
    /// Offsets a group is to forget.
    47 OffsetDelete offset_delete 0..=0:
        OffsetDeleteRequest<'a> => OffsetDeleteResponse<'r>;
    /// Who votes about the metadata, and how far each is.
    55 DescribeQuorum describe_quorum 0..=2 flexible 0:
        DescribeQuorumRequest<'a> => DescribeQuorumResponse<'r>;
    /// Levels of what the cluster as a whole can do.
    57 UpdateFeatures update_features 0..=2 flexible 0:
        UpdateFeaturesRequest<'a> => UpdateFeaturesResponse<'r>;
    /// The brokers of the cluster.
    60 DescribeCluster describe_cluster 0..=2 flexible 0:
        DescribeClusterRequest => DescribeClusterResponse<'r>;
    /// The producers a partition remembers.
    61 DescribeProducers describe_producers 0..=0 flexible 0:
        DescribeProducersRequest<'a> => DescribeProducersResponse<'r>;
    /// A broker that will not come back.
    64 UnregisterBroker unregister_broker 0..=0 flexible 0:
        UnregisterBrokerRequest => UnregisterBrokerResponse<'r>;
    /// A member of a group of the consumer protocol lives, joins, leaves and learns what is its.
    68 ConsumerGroupHeartbeat consumer_group_heartbeat 0..=1 flexible 0:
        ConsumerGroupHeartbeatRequest<'a> => ConsumerGroupHeartbeatResponse<'r>;
    /// State and members of groups of the consumer protocol.
    69 ConsumerGroupDescribe consumer_group_describe 0..=1 flexible 0:
        ConsumerGroupDescribeRequest<'a> => ConsumerGroupDescribeResponse<'r>;
    /// Which metrics a client is to send.
    71 GetTelemetrySubscriptions get_telemetry_subscriptions 0..=0 flexible 0:
        GetTelemetrySubscriptionsRequest => GetTelemetrySubscriptionsResponse<'r>;
    /// Metrics of a client.
    72 PushTelemetry push_telemetry 0..=0 flexible 0:
        PushTelemetryRequest => PushTelemetryResponse;
    /// What has settings.
    74 ListConfigResources list_config_resources 0..=1 flexible 0:
        ListConfigResourcesRequest => ListConfigResourcesResponse<'r>;
    /// Topics in pages.
    75 DescribeTopicPartitions describe_topic_partitions 0..=0 flexible 0:
        DescribeTopicPartitionsRequest<'a> => DescribeTopicPartitionsResponse<'r>;
    /// One more voter.
    80 AddRaftVoter add_raft_voter 0..=1 flexible 0:
        AddRaftVoterRequest<'a> => AddRaftVoterResponse<'r>;
    /// One voter less.
    81 RemoveRaftVoter remove_raft_voter 0..=0 flexible 0:
        RemoveRaftVoterRequest<'a> => RemoveRaftVoterResponse<'r>;
    /// What happened to a group lately. The first of Sawlog's own keys, far from Kafka's, which count
    /// up from 0.
    20000 GroupTimeline group_timeline 0..=0 flexible 0 [own]:
        GroupTimelineRequest<'a> => GroupTimelineResponse<'r>;
}
