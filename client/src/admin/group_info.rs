//! A group and its members as described by its coordinator, whichever protocol they speak.

use bytes::Bytes;
use sawlog_protocol::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription,
};
use sawlog_protocol::messages::{consumer_group_describe, describe_groups};

use crate::metadata::BrokerInfo;

/// A group and its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// Its id.
    pub group: String,
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`, `Assigning` or `Reconciling`.
    pub state: String,
    /// `classic` or `consumer`: the protocol its members speak.
    pub group_type: String,
    /// What its members are: `consumer`, or what else uses groups; empty if it never had members.
    pub protocol_type: String,
    /// The assignor in use; empty without members.
    pub assignor: String,
    /// Counts the changes of a group of the consumer protocol; `None` for a classic one, which does
    /// not tell its generation.
    pub epoch: Option<i32>,
    /// The broker that coordinates it.
    pub coordinator: BrokerInfo,
    /// Its members, by id.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// The id the coordinator knows it by.
    pub member_id: String,
    /// Its `group.instance.id`, if it is a static member.
    pub instance_id: Option<String>,
    /// The `client.id` of its program.
    pub client_id: String,
    /// Where it connects from, without the slash Kafka writes before it.
    pub host: String,
    /// Where it stands, if it says so.
    pub rack: Option<String>,
    /// The epoch it has come to, in a group of the consumer protocol.
    pub epoch: Option<i32>,
    /// Topics it wants; empty where they are not told, as for protocols other than consumers'.
    pub topics: Vec<String>,
    /// A regular expression for topics it wants.
    pub topic_regex: Option<String>,
    /// The partitions it has, by topic and partition.
    pub partitions: Vec<(String, i32)>,
}

/// The coordinator is filled in by the caller.
fn unknown_broker() -> BrokerInfo {
    BrokerInfo { id: -1, host: String::new(), port: -1, rack: None }
}

fn host(text: &str) -> String {
    text.strip_prefix('/').unwrap_or(text).to_owned()
}

fn by_id(mut members: Vec<GroupMember>) -> Vec<GroupMember> {
    members.sort_by(|a, b| a.member_id.cmp(&b.member_id));
    members
}

pub(super) fn of_classic(group: &describe_groups::DescribedGroup<'_>) -> GroupInfo {
    let member = |member: &describe_groups::DescribedGroupMember<'_>| {
        let subscription = ConsumerProtocolSubscription::from_bytes(&member.member_metadata);
        // Members of other protocols have bytes of their own here.
        let subscription = subscription.ok().filter(|_| group.protocol_type == "consumer");
        let topics = subscription.as_ref().map(|wanted| &wanted.topics);
        GroupMember {
            member_id: member.member_id.to_owned(),
            instance_id: member.group_instance_id.map(str::to_owned),
            client_id: member.client_id.to_owned(),
            host: host(member.client_host),
            rack: subscription.as_ref().and_then(|wanted| wanted.rack_id).map(str::to_owned),
            epoch: None,
            topics: topics.into_iter().flatten().map(|topic| (*topic).to_owned()).collect(),
            topic_regex: None,
            partitions: if group.protocol_type == "consumer" {
                assigned(&member.member_assignment)
            } else {
                Vec::new()
            },
        }
    };
    GroupInfo {
        group: group.group_id.to_owned(),
        state: group.group_state.to_owned(),
        group_type: "classic".to_owned(),
        protocol_type: group.protocol_type.to_owned(),
        assignor: group.protocol_data.to_owned(),
        epoch: None,
        coordinator: unknown_broker(),
        members: by_id(group.members.iter().map(member).collect()),
    }
}

/// What a leader wrote for a member; nothing if it does not read.
fn assigned(bytes: &Bytes) -> Vec<(String, i32)> {
    let Ok(assignment) = ConsumerProtocolAssignment::from_bytes(bytes) else { return Vec::new() };
    let mut partitions: Vec<(String, i32)> = assignment
        .assigned_partitions
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|index| (topic.topic.to_owned(), *index)))
        .collect();
    partitions.sort();
    partitions
}

pub(super) fn of_consumer(group: &consumer_group_describe::DescribedGroup<'_>) -> GroupInfo {
    let member = |member: &consumer_group_describe::Member<'_>| {
        let topics = &member.assignment.topic_partitions;
        let mut partitions: Vec<(String, i32)> = topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|at| (topic.topic_name.to_owned(), *at)))
            .collect();
        partitions.sort();
        let regex = member.subscribed_topic_regex.filter(|regex| !regex.is_empty());
        GroupMember {
            member_id: member.member_id.to_owned(),
            instance_id: member.instance_id.map(str::to_owned),
            client_id: member.client_id.to_owned(),
            host: host(member.client_host),
            rack: member.rack_id.map(str::to_owned),
            epoch: Some(member.member_epoch),
            topics: member.subscribed_topic_names.iter().map(|topic| (*topic).to_owned()).collect(),
            topic_regex: regex.map(str::to_owned),
            partitions,
        }
    };
    GroupInfo {
        group: group.group_id.to_owned(),
        state: group.group_state.to_owned(),
        group_type: "consumer".to_owned(),
        protocol_type: "consumer".to_owned(),
        assignor: group.assignor_name.to_owned(),
        epoch: Some(group.group_epoch),
        coordinator: unknown_broker(),
        members: by_id(group.members.iter().map(member).collect()),
    }
}

#[cfg(test)]
mod tests {
    use sawlog_protocol::consumer_protocol::TopicPartition;

    use super::*;

    #[test]
    fn what_members_of_other_protocols_carry_is_not_read_as_topics() {
        let wanted = ConsumerProtocolSubscription { topics: vec!["t"], ..Default::default() };
        let had = ConsumerProtocolAssignment {
            assigned_partitions: vec![TopicPartition { topic: "t", partitions: vec![1, 0] }],
            user_data: None,
        };
        let member = describe_groups::DescribedGroupMember {
            member_id: "m",
            client_host: "/10.0.0.1",
            member_metadata: wanted.to_bytes(1),
            member_assignment: had.to_bytes(1),
            ..Default::default()
        };
        let group = |protocol_type| describe_groups::DescribedGroup {
            protocol_type,
            members: vec![member.clone()],
            ..Default::default()
        };
        let consumers = of_classic(&group("consumer"));
        let read = &consumers.members[0];
        assert_eq!(
            (read.topics.as_slice(), read.host.as_str()),
            (&["t".to_owned()][..], "10.0.0.1")
        );
        assert_eq!(read.partitions, [("t".to_owned(), 0), ("t".to_owned(), 1)]);
        let connect = of_classic(&group("connect"));
        assert!(connect.members[0].topics.is_empty() && connect.members[0].partitions.is_empty());
    }

    #[test]
    fn bytes_that_are_no_assignment_assign_nothing() {
        assert!(assigned(&Bytes::from_static(&[0, 1, 255, 255])).is_empty());
        assert!(assigned(&Bytes::new()).is_empty());
    }
}
