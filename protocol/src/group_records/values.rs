//! The values, as Kafka declares them. Of those in which nothing follows the fields of version 0,
//! later additions are tagged.

use bytes::Bytes;

use crate::Uuid;

wire! {
    /// How far a group has read a partition. Versions 0 to 3 are plain; 1 alone has an expiry, 3
    /// adds the leader epoch, 4 is flexible and adds the topic id.
    OffsetCommitValue<'a> {
        /// The offset to go on from.
        offset: i64,
        leader_epoch: i32 [3..] = -1,
        metadata: &'a str,
        /// Milliseconds since 1970.
        commit_timestamp: i64,
        expire_timestamp: i64 [1] = -1,
        topic_id: Uuid [4.., tag 0],
    }

    /// A classic group. Version 1 adds rebalance timeouts, 2 when the state last changed, 3 static
    /// members; 4 is flexible.
    GroupMetadataValue<'a> {
        protocol_type: &'a str,
        generation: i32,
        protocol: Option<&'a str>,
        leader: Option<&'a str>,
        /// Milliseconds since 1970; -1 if not known.
        current_state_timestamp: i64 [2..] = -1,
        members: Vec<MemberMetadata<'a>>,
    }

    /// Part of [`GroupMetadataValue`]: `members`.
    MemberMetadata<'a> {
        member_id: &'a str,
        group_instance_id: Option<&'a str> [3..],
        client_id: &'a str,
        client_host: &'a str,
        /// Milliseconds; -1 if it is the session timeout.
        rebalance_timeout: i32 [1..] = -1,
        /// Milliseconds.
        session_timeout: i32,
        /// Metadata for the protocol the group goes by.
        subscription: Bytes,
        assignment: Bytes,
    }

    /// A group of the consumer protocol (KIP-848).
    ConsumerGroupMetadataValue {
        epoch: i32,
        /// Of what the topics subscribed look like (KIP-1101); 0 if not known.
        metadata_hash: i64 [0.., tag 0],
    }

    /// Topics as they were when partitions were last assigned. Kafka has the hash of
    /// [`ConsumerGroupMetadataValue`] instead since 4.1, and deletes these.
    ConsumerGroupPartitionMetadataValue<'a> {
        topics: Vec<TopicMetadata<'a>>,
    }

    /// Part of [`ConsumerGroupPartitionMetadataValue`]: `topics`.
    TopicMetadata<'a> {
        topic_id: Uuid,
        topic_name: &'a str,
        num_partitions: i32,
        partition_metadata: Vec<PartitionMetadata<'a>>,
    }

    /// Part of [`TopicMetadata`]: `partition_metadata`.
    PartitionMetadata<'a> {
        partition: i32,
        racks: Vec<&'a str>,
    }

    /// What a member said of itself.
    ConsumerGroupMemberMetadataValue<'a> {
        instance_id: Option<&'a str>,
        rack_id: Option<&'a str>,
        client_id: &'a str,
        client_host: &'a str,
        subscribed_topic_names: Vec<&'a str>,
        subscribed_topic_regex: Option<&'a str>,
        /// Milliseconds.
        rebalance_timeout_ms: i32 = -1,
        server_assignor: Option<&'a str>,
        /// Of a member that speaks the classic protocol, while the group moves from one to the
        /// other.
        classic_member_metadata: Option<ClassicMemberMetadata<'a>> [0.., tag 0],
    }

    /// Part of [`ConsumerGroupMemberMetadataValue`]: `classic_member_metadata`.
    ClassicMemberMetadata<'a> {
        /// Milliseconds.
        session_timeout_ms: i32,
        supported_protocols: Vec<ClassicProtocol<'a>>,
    }

    /// Part of [`ClassicMemberMetadata`]: `supported_protocols`.
    ClassicProtocol<'a> {
        name: &'a str,
        metadata: Bytes,
    }

    /// Which epoch of the group the target assignment is for.
    ConsumerGroupTargetAssignmentMetadataValue {
        assignment_epoch: i32,
        /// When it was made, in milliseconds since 1970 (KIP-1263); 0 if not known.
        assignment_timestamp: i64 [0.., tag 0],
    }

    /// What a member shall have.
    ConsumerGroupTargetAssignmentMemberValue {
        topic_partitions: Vec<TargetTopicPartitions>,
    }

    /// Part of [`ConsumerGroupTargetAssignmentMemberValue`]: `topic_partitions`.
    TargetTopicPartitions {
        topic_id: Uuid,
        partitions: Vec<i32>,
    }

    /// What a member has, and must let go.
    ConsumerGroupCurrentMemberAssignmentValue {
        member_epoch: i32,
        previous_member_epoch: i32,
        /// 0 stable, 1 unrevoked partitions, 2 unreleased partitions, 127 unknown.
        state: i8,
        assigned_partitions: Vec<CurrentTopicPartitions>,
        partitions_pending_revocation: Vec<CurrentTopicPartitions>,
    }

    /// Part of [`ConsumerGroupCurrentMemberAssignmentValue`].
    CurrentTopicPartitions {
        topic_id: Uuid,
        partitions: Vec<i32>,
        /// The epoch in which each of `partitions` was assigned, to refuse late commits; `None` if
        /// not known.
        assignment_epochs: Option<Vec<i32>> [0.., tag 0],
    }

    /// The topics a regular expression matched.
    ConsumerGroupRegularExpressionValue<'a> {
        topics: Vec<&'a str>,
        /// Of the metadata they were matched in.
        version: i64,
        /// Milliseconds since 1970.
        timestamp: i64,
    }
}

versioned! {
    OffsetCommitValue<'a> 0..=4 flexible 4;
    GroupMetadataValue<'a> 0..=4 flexible 4;
    ConsumerGroupMetadataValue 0..=0 flexible 0;
    ConsumerGroupPartitionMetadataValue<'a> 0..=0 flexible 0;
    ConsumerGroupMemberMetadataValue<'a> 0..=0 flexible 0;
    ConsumerGroupTargetAssignmentMetadataValue 0..=0 flexible 0;
    ConsumerGroupTargetAssignmentMemberValue 0..=0 flexible 0;
    ConsumerGroupCurrentMemberAssignmentValue 0..=0 flexible 0;
    ConsumerGroupRegularExpressionValue<'a> 0..=0 flexible 0;
}
