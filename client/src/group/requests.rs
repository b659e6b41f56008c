//! Requests of a member, and their replies in the words of [`membership`](super::membership). One
//! attempt each: what to do about a failure is decided there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sawlog_protocol::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, StickyUserData, TopicPartition,
};
use sawlog_protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, TopicPartitions,
};
use sawlog_protocol::messages::heartbeat::HeartbeatRequest;
use sawlog_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use sawlog_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use sawlog_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use sawlog_protocol::{ApiKey, DecodeError, ErrorCode, Request, Uuid, decode_response};

use super::assignor::{Assignor, Layout, Subscriber};
use super::membership::{
    Claims, Heartbeat, Identity, JoinFailure, Joined, Leaving, Partitions, Told,
};
use super::options::{GroupOptions, GroupProtocol};
use crate::cluster::{Channel, Client};
use crate::connection::Reply;
use crate::error::{ClientError, check};

/// Version of what members tell each other through the broker.
const SUBSCRIPTION_VERSION: i16 = 3;

/// Version of assignments: every reader takes it, and no later one adds anything.
const ASSIGNMENT_VERSION: i16 = 0;

/// First ConsumerGroupHeartbeat version in which the broker finds topics by pattern.
const FINDS_TOPICS: i16 = 1;

/// A broker that asks for more heartbeats than this is not believed.
const INTERVAL_MIN: Duration = Duration::from_millis(50);

/// `protocol_type` of consumers.
const PROTOCOL_TYPE: &str = "consumer";

/// What a coordinator speaks, as far as its member goes by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Classic,
    /// KIP-848.
    Consumer {
        /// Finds topics by pattern itself.
        finds_topics: bool,
    },
}

/// How requests of one group reach their coordinator.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) client: Client,
    pub(crate) options: Arc<GroupOptions>,
    /// Requests that the broker lets wait have a connection of their own.
    pub(crate) channel: Channel,
}

impl Line {
    async fn call<'r, R: Request<'r>>(
        &self,
        channel: Channel,
        request: &R,
        timeout: Duration,
    ) -> Result<Reply, ClientError> {
        let connection = self.client.coordinator(&self.options.group, channel).await?;
        connection.call_up_to(request, i16::MAX, timeout).await
    }

    fn timeout(&self) -> Duration {
        self.client.options().timeout
    }

    fn instance(&self) -> Option<&str> {
        self.options.instance.as_deref()
    }

    /// JoinGroup. The broker answers when everybody is there.
    pub(crate) async fn join(
        &self,
        member: &str,
        topics: &BTreeSet<Arc<str>>,
        claims: &Claims,
        reason: &str,
    ) -> Result<Joined, JoinFailure> {
        let rack = self.client.options().rack.as_deref();
        let options = &self.options;
        let protocols = options.assignors.iter().map(|assignor| JoinGroupRequestProtocol {
            name: assignor.name(),
            metadata: subscription(*assignor, topics, claims, rack),
        });
        let request = JoinGroupRequest {
            group_id: &options.group,
            session_timeout_ms: millis(options.session_timeout),
            rebalance_timeout_ms: millis(options.rebalance_timeout()),
            member_id: member,
            group_instance_id: self.instance(),
            protocol_type: PROTOCOL_TYPE,
            protocols: protocols.collect(),
            reason: Some(reason),
        };
        let timeout = options.rebalance_timeout().saturating_add(self.timeout());
        let failed = |error| JoinFailure { error, member: None };
        let reply = self.call(self.channel, &request, timeout).await.map_err(failed)?;
        let (_, response) = decode_response::<JoinGroupRequest<'_>>(&reply.frame, reply.version)
            .map_err(|error| failed(error.into()))?;
        joined(&response)
    }

    /// SyncGroup: the leader's with all shares, the others' with none.
    pub(crate) async fn sync(
        &self,
        identity: &Identity,
        protocol: &str,
        shares: &[(Arc<str>, Partitions)],
    ) -> Result<Partitions, ClientError> {
        let assignments = shares.iter().map(|(member, share)| SyncGroupRequestAssignment {
            member_id: member,
            assignment: assignment(share),
        });
        let request = SyncGroupRequest {
            group_id: &self.options.group,
            generation_id: identity.generation,
            member_id: &identity.member,
            group_instance_id: self.instance(),
            assignments: assignments.collect(),
            // Both must be there from version 5 on (KIP-559).
            protocol_type: Some(PROTOCOL_TYPE),
            protocol_name: Some(protocol),
        };
        let timeout = self.options.rebalance_timeout().saturating_add(self.timeout());
        let reply = self.call(self.channel, &request, timeout).await?;
        let (_, response) = decode_response::<SyncGroupRequest<'_>>(&reply.frame, reply.version)?;
        check(response.error_code, None)?;
        let malformed = |_| ClientError::Malformed(DecodeError::Truncated);
        let assigned =
            ConsumerProtocolAssignment::from_bytes(&response.assignment).map_err(malformed)?;
        Ok(partitions(&assigned.assigned_partitions))
    }

    pub(crate) async fn heartbeat(&self, identity: &Identity) -> Result<(), ClientError> {
        let request = HeartbeatRequest {
            group_id: &self.options.group,
            generation_id: identity.generation,
            member_id: &identity.member,
            group_instance_id: self.instance(),
        };
        let timeout = self.timeout().min(self.options.session_timeout);
        let reply = self.call(self.channel, &request, timeout).await?;
        let (_, response) = decode_response::<HeartbeatRequest<'_>>(&reply.frame, reply.version)?;
        check(response.error_code, None)
    }

    /// Leaves a classic group. Not on the channel of the others: a Join may wait there.
    pub(crate) async fn leave(&self, member: &str, reason: &str) -> Result<(), ClientError> {
        let group_instance_id = self.instance();
        let request = LeaveGroupRequest {
            group_id: &self.options.group,
            member_id: member,
            members: vec![MemberIdentity {
                member_id: member,
                group_instance_id,
                reason: Some(reason),
            }],
        };
        let reply = self.call(Channel::GENERAL, &request, self.timeout()).await?;
        let (_, response) = decode_response::<LeaveGroupRequest<'_>>(&reply.frame, reply.version)?;
        check(response.error_code, None)?;
        response.members.iter().try_for_each(|member| check(member.error_code, None))
    }

    /// What the coordinator of the group speaks.
    pub(crate) async fn spoken(&self) -> Result<Spoken, ClientError> {
        let connection = self.client.coordinator(&self.options.group, self.channel).await?;
        match connection.version(ApiKey::ConsumerGroupHeartbeat, i16::MAX) {
            Ok(version) => Ok(Spoken::Consumer { finds_topics: version >= FINDS_TOPICS }),
            Err(_) if self.options.protocol == GroupProtocol::Auto => Ok(Spoken::Classic),
            Err(error) => Err(error),
        }
    }

    /// ConsumerGroupHeartbeat.
    pub(crate) async fn tell(&self, heartbeat: &Heartbeat) -> Result<Told, ClientError> {
        let options = &self.options;
        let wanted = heartbeat.wanted.as_ref();
        let names = wanted.map(|one| one.topics.iter().map(|topic| &**topic).collect());
        let joins = wanted.is_some();
        let request = ConsumerGroupHeartbeatRequest {
            group_id: &options.group,
            member_id: &heartbeat.member,
            member_epoch: heartbeat.epoch,
            instance_id: self.instance(),
            rack_id: self.client.options().rack.as_deref().filter(|_| joins),
            rebalance_timeout_ms: if joins { millis(options.rebalance_timeout()) } else { -1 },
            subscribed_topic_names: names,
            // Empty takes back a pattern of before.
            subscribed_topic_regex: wanted.map(|one| one.pattern.as_deref().unwrap_or_default()),
            server_assignor: options.server_assignor.as_deref().filter(|_| joins),
            topic_partitions: heartbeat.owned.as_ref().map(|owned| {
                let parts = owned.iter();
                parts
                    .map(|(id, all)| TopicPartitions {
                        topic_id: *id,
                        partitions: all.iter().copied().collect(),
                    })
                    .collect()
            }),
        };
        let reply = self.call(self.channel, &request, self.timeout()).await?;
        let (_, response) =
            decode_response::<ConsumerGroupHeartbeatRequest<'_>>(&reply.frame, reply.version)?;
        check(response.error_code, response.error_message)?;
        let interval = u64::try_from(response.heartbeat_interval_ms).unwrap_or(0);
        Ok(Told {
            member: response.member_id.map(Arc::from),
            epoch: response.member_epoch,
            interval: Duration::from_millis(interval).max(INTERVAL_MIN),
            assignment: response.assignment.map(|assignment| {
                let parts = assignment.topic_partitions.into_iter();
                parts.map(|one| (one.topic_id, one.partitions.into_iter().collect())).collect()
            }),
        })
    }

    /// Leaves a group of the consumer protocol.
    pub(crate) async fn leave_epochs(
        &self,
        member: &str,
        leaving: Leaving,
    ) -> Result<(), ClientError> {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: &self.options.group,
            member_id: member,
            member_epoch: match leaving {
                Leaving::ForGood => -1,
                Leaving::ToComeBack => -2,
            },
            instance_id: self.instance(),
            ..Default::default()
        };
        // Behind a heartbeat that may be on its way.
        let reply = self.call(self.channel, &request, self.timeout()).await?;
        let (_, response) =
            decode_response::<ConsumerGroupHeartbeatRequest<'_>>(&reply.frame, reply.version)?;
        check(response.error_code, response.error_message)
    }

    /// Names of topics. Those that do not exist are left out.
    pub(crate) async fn names(
        &self,
        ids: &BTreeSet<Uuid>,
    ) -> Result<BTreeMap<Uuid, Arc<str>>, ClientError> {
        let info = self.client.describe_ids(ids).await?;
        let named = info.topics.iter().filter(|topic| ids.contains(&topic.id));
        Ok(named.map(|topic| (topic.id, Arc::from(topic.name.as_str()))).collect())
    }

    /// Which partitions topics have. Those that do not exist are left out.
    pub(crate) async fn count(&self, topics: &BTreeSet<Arc<str>>) -> Result<Layout, ClientError> {
        let names: Vec<&str> = topics.iter().map(|name| &**name).collect();
        let info = self.client.refresh_many(&names).await?;
        Ok(Layout::of(&info, |_| true))
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// What a member tells the leader.
fn subscription(
    assignor: Assignor,
    topics: &BTreeSet<Arc<str>>,
    claims: &Claims,
    rack_id: Option<&str>,
) -> Bytes {
    let generation_id = claims.owned_generation;
    // Members of this assignor go by their own bytes alone: there is nothing that they still own.
    let user_data = (assignor == Assignor::Sticky && !claims.previous.is_empty()).then(|| {
        let previous_assignment = by_topic(&claims.previous);
        StickyUserData { previous_assignment, generation: generation_id }.to_bytes()
    });
    let subscription = ConsumerProtocolSubscription {
        topics: topics.iter().map(|topic| &**topic).collect(),
        user_data,
        owned_partitions: by_topic(&claims.owned),
        generation_id,
        rack_id,
    };
    subscription.to_bytes(SUBSCRIPTION_VERSION)
}

/// What the leader gives a member.
fn assignment(share: &Partitions) -> Bytes {
    let assignment =
        ConsumerProtocolAssignment { assigned_partitions: by_topic(share), user_data: None };
    assignment.to_bytes(ASSIGNMENT_VERSION)
}

fn by_topic(partitions: &Partitions) -> Vec<TopicPartition<'_>> {
    let mut topics: Vec<TopicPartition<'_>> = Vec::new();
    for (topic, partition) in partitions {
        match topics.last_mut().filter(|last| *last.topic == **topic) {
            Some(last) => last.partitions.push(*partition),
            None => topics.push(TopicPartition { topic, partitions: vec![*partition] }),
        }
    }
    topics
}

fn partitions(topics: &[TopicPartition<'_>]) -> Partitions {
    let mut all = Partitions::new();
    for topic in topics {
        let name: Arc<str> = Arc::from(topic.topic);
        all.extend(topic.partitions.iter().map(|partition| (name.clone(), *partition)));
    }
    all
}

fn joined(response: &JoinGroupResponse<'_>) -> Result<Joined, JoinFailure> {
    let member: Arc<str> = Arc::from(response.member_id);
    if response.error_code.is_error() {
        let error = ClientError::broker(response.error_code, None);
        let is_given = response.error_code == ErrorCode::MEMBER_ID_REQUIRED;
        return Err(JoinFailure { error, member: Some(member).filter(|_| is_given) });
    }
    let is_leader = response.leader == response.member_id;
    let members = response.members.iter().map(|one| {
        let instance = one.group_instance_id.map(Arc::from);
        let who = (Arc::from(one.member_id), instance);
        subscriber(response.protocol_name.and_then(Assignor::named), who, &one.metadata)
    });
    Ok(Joined {
        generation: response.generation_id,
        member,
        protocol: response.protocol_name.unwrap_or_default().to_owned(),
        members: members.collect(),
        is_leader,
        skip_assignment: response.skip_assignment,
    })
}

/// A member as it describes itself; one that cannot be understood gets nothing.
fn subscriber(
    assignor: Option<Assignor>,
    (member, instance): (Arc<str>, Option<Arc<str>>),
    metadata: &Bytes,
) -> Subscriber {
    let nothing = Subscriber {
        member: member.clone(),
        instance: instance.clone(),
        generation: -1,
        ..Subscriber::default()
    };
    let Ok(said) = ConsumerProtocolSubscription::from_bytes(metadata) else { return nothing };
    let topics = said.topics.iter().map(|topic| Arc::from(*topic)).collect();
    let rack = said.rack_id.filter(|rack| !rack.is_empty()).map(Arc::from);
    let (owned, generation) =
        if assignor == Some(Assignor::Sticky) { previous(&said) } else { owned(&said) };
    Subscriber { member, instance, topics, owned, generation, rack }
}

/// What a member owns, and since which generation.
fn owned(said: &ConsumerProtocolSubscription<'_>) -> (Partitions, i32) {
    // Before KIP-792 the cooperative assignor of Java told the generation in its own bytes.
    let own = said.user_data.as_ref().and_then(|bytes| bytes.first_chunk::<4>());
    let generation = match (said.generation_id, own) {
        (-1, Some(bytes)) => i32::from_be_bytes(*bytes),
        (generation, _) => generation,
    };
    (partitions(&said.owned_partitions), generation)
}

/// What a member had before it let go of everything, by its own bytes; bytes that make no sense say
/// nothing.
fn previous(said: &ConsumerProtocolSubscription<'_>) -> (Partitions, i32) {
    let told = said.user_data.as_ref().map(StickyUserData::from_bytes);
    match told {
        Some(Ok(told)) => (partitions(&told.previous_assignment), told.generation),
        Some(Err(_)) | None => (Partitions::new(), -1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(topic: &str, index: i32) -> (Arc<str>, i32) {
        (Arc::from(topic), index)
    }

    fn who() -> (Arc<str>, Option<Arc<str>>) {
        (Arc::from("m"), Some(Arc::from("i")))
    }

    #[test]
    fn what_members_say_of_themselves_arrives() {
        let topics = BTreeSet::from([Arc::from("a"), Arc::from("b")]);
        let owned = Partitions::from([partition("a", 0), partition("a", 3), partition("b", 1)]);
        let previous = Partitions::from([partition("a", 0), partition("b", 2)]);
        let claims =
            Claims { owned: owned.clone(), owned_generation: 7, previous: previous.clone() };
        for (assignor, owned) in [(Assignor::Range, owned), (Assignor::Sticky, previous)] {
            let bytes = subscription(assignor, &topics, &claims, Some("here"));
            let read = subscriber(Some(assignor), who(), &bytes);
            let (member, instance) = who();
            let (topics, rack) = (topics.clone(), Some(Arc::from("here")));
            let expected = Subscriber { member, instance, topics, owned, generation: 7, rack };
            assert_eq!(read, expected, "{assignor:?}");
        }
    }

    #[test]
    fn a_share_arrives_and_a_member_that_makes_no_sense_wants_nothing() {
        let share = Partitions::from([partition("a", 2), partition("b", 0), partition("b", 1)]);
        let bytes = assignment(&share);
        let read = ConsumerProtocolAssignment::from_bytes(&bytes).expect("an assignment");
        assert_eq!(partitions(&read.assigned_partitions), share);
        let odd = subscriber(None, who(), &Bytes::from_static(&[0, 1, 0]));
        assert!(odd.topics.is_empty() && odd.generation == -1);
        let odd = ConsumerProtocolSubscription {
            topics: vec!["a"],
            user_data: Some(Bytes::from_static(&[0, 0, 0, 9])),
            ..Default::default()
        };
        let read = subscriber(Some(Assignor::Sticky), who(), &odd.to_bytes(1));
        assert!(read.topics.len() == 1 && read.owned.is_empty() && read.generation == -1);
    }

    #[test]
    fn the_generation_is_read_from_the_bytes_of_the_cooperative_assignor_of_old() {
        let old = ConsumerProtocolSubscription {
            topics: vec!["a"],
            user_data: Some(Bytes::from_static(&[0, 0, 0, 9])),
            ..Default::default()
        };
        let cooperative = Some(Assignor::CooperativeSticky);
        let read = subscriber(cooperative, who(), &old.to_bytes(1));
        assert_eq!(read.generation, 9);
    }
}
