//! Groups as an administrator sees them: lists, states, members, and their end.
//!
//! States and types are Kafka's words, as the broker says them: a newer broker may know others.

use sawlog_protocol::messages::consumer_group_describe::{self, ConsumerGroupDescribeRequest};
use sawlog_protocol::messages::delete_groups::DeleteGroupsRequest;
use sawlog_protocol::messages::describe_groups::{self, DescribeGroupsRequest};
use sawlog_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use sawlog_protocol::messages::list_groups::ListGroupsRequest;
use sawlog_protocol::{ApiKey, ErrorCode, decode_response};

use super::MISSING;
use super::group_info::{self, GroupInfo};
use crate::backoff::Random;
use crate::cluster::{Channel, Client};
use crate::coordinator::GroupCall;
use crate::error::{ClientError, check};
use crate::search::Search;

/// First version of LeaveGroup that names several members, or instances (KIP-345).
const LEAVE_SEVERAL: i16 = 3;

/// Attempts at a broker that is still loading groups.
const LIST_ATTEMPTS_MAX: u32 = 50;

/// Which groups to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupFilter {
    /// Only groups in one of these states, in any case, such as `Stable`; all if empty. Needs a
    /// broker with KIP-518.
    pub states: Vec<String>,
    /// Only groups of one of these types: `classic`, `consumer`; all if empty. Needs a broker with
    /// KIP-848.
    pub types: Vec<String>,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its id.
    pub group: String,
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`, `Assigning`, `Reconciling` or
    /// `Dead`; empty where the broker does not tell.
    pub state: String,
    /// `classic` or `consumer`; empty where the broker does not tell.
    pub group_type: String,
    /// `consumer` for consumers; empty for a group that never had members.
    pub protocol_type: String,
    /// Id of the broker that coordinates it.
    pub coordinator: i32,
}

/// A member to remove from a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberToRemove {
    /// The member with this id.
    Member(String),
    /// Whoever carries this `group.instance.id`.
    Instance(String),
}

impl Client {
    /// The groups of all brokers, by id.
    ///
    /// # Errors
    /// A broker does not answer or refuses, or is too old for the filter.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// use sawlog_client::GroupFilter;
    ///
    /// let idle = GroupFilter { states: vec!["Empty".to_owned()], ..GroupFilter::default() };
    /// for group in client.list_groups(&idle).await? {
    ///     println!("{} has no members", group.group);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list_groups(&self, filter: &GroupFilter) -> Result<Vec<ListedGroup>, ClientError> {
        let mut search = Search::new(self);
        loop {
            match self.list_groups_once(filter).await {
                // Its groups move to others, once it is taken for gone.
                Err(error) => search.after(&[], error).await?,
                listed => return listed,
            }
        }
    }

    async fn list_groups_once(
        &self,
        filter: &GroupFilter,
    ) -> Result<Vec<ListedGroup>, ClientError> {
        let mut listed = Vec::new();
        for broker in self.describe(Some(&[])).await?.brokers {
            let mut random = Random::new();
            let mut attempt = 0;
            let groups = loop {
                attempt += 1;
                match self.groups_of(broker.id, filter).await {
                    Err(error) if is_loading(&error) && attempt < LIST_ATTEMPTS_MAX => {
                        tokio::time::sleep(self.backoff().pause(attempt, &mut random)).await;
                    }
                    answer => break answer?,
                }
            };
            listed.extend(groups);
        }
        listed.sort_by(|a, b| a.group.cmp(&b.group));
        Ok(listed)
    }

    async fn groups_of(
        &self,
        broker: i32,
        filter: &GroupFilter,
    ) -> Result<Vec<ListedGroup>, ClientError> {
        let connection = self.broker(broker, Channel::GENERAL).await?;
        let needed = match (filter.types.is_empty(), filter.states.is_empty()) {
            (false, _) => 5,
            (true, false) => 4,
            (true, true) => 0,
        };
        if connection.version(ApiKey::ListGroups, i16::MAX)? < needed {
            let address = connection.address().to_owned();
            return Err(ClientError::Unsupported { address, api: "a filter for ListGroups" });
        }
        let request = ListGroupsRequest {
            states_filter: filter.states.iter().map(String::as_str).collect(),
            types_filter: filter.types.iter().map(String::as_str).collect(),
        };
        let reply = connection.call(&request).await?;
        let (_, response) = decode_response::<ListGroupsRequest<'_>>(&reply.frame, reply.version)?;
        check(response.error_code, None)?;
        let listed = response.groups.iter().map(|group| ListedGroup {
            group: group.group_id.to_owned(),
            state: group.group_state.to_owned(),
            group_type: group.group_type.to_owned(),
            protocol_type: group.protocol_type.to_owned(),
            coordinator: broker,
        });
        Ok(listed.collect())
    }

    /// A group with its members and what each of them reads, of either protocol.
    ///
    /// # Errors
    /// [`ClientError::Broker`] with `GROUP_ID_NOT_FOUND`, or no coordinator answers.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// let group = client.describe_group("billing").await?;
    /// println!("{} is {} with {} members", group.group, group.state, group.members.len());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn describe_group(&self, group: &str) -> Result<GroupInfo, ClientError> {
        match self.describe_consumer_group(group).await {
            // Not of this type, or served by a broker that has no such type.
            Err(error) if is_not_of_this_type(&error) => self.describe_classic_group(group).await,
            answer => answer,
        }
    }

    async fn describe_consumer_group(&self, group: &str) -> Result<GroupInfo, ClientError> {
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec![group],
            include_authorized_operations: false,
        };
        let described = self
            .ask_coordinator(GroupCall::to(group), &request, |reply| {
                let (_, response) = decode_response::<ConsumerGroupDescribeRequest<'_>>(
                    &reply.frame,
                    reply.version,
                )?;
                let one: &consumer_group_describe::DescribedGroup<'_> =
                    response.groups.first().ok_or(MISSING)?;
                check(one.error_code, one.error_message)?;
                Ok(group_info::of_consumer(one))
            })
            .await?;
        self.with_coordinator(described).await
    }

    async fn describe_classic_group(&self, group: &str) -> Result<GroupInfo, ClientError> {
        let request =
            DescribeGroupsRequest { groups: vec![group], include_authorized_operations: false };
        let described = self
            .ask_coordinator(GroupCall::to(group), &request, |reply| {
                let (_, response) =
                    decode_response::<DescribeGroupsRequest<'_>>(&reply.frame, reply.version)?;
                let one: &describe_groups::DescribedGroup<'_> =
                    response.groups.first().ok_or(MISSING)?;
                check(one.error_code, one.error_message)?;
                // How versions below 6 say that there is no such group.
                if one.group_state == "Dead" {
                    return Err(ClientError::broker(ErrorCode::GROUP_ID_NOT_FOUND, None));
                }
                Ok(group_info::of_classic(one))
            })
            .await?;
        self.with_coordinator(described).await
    }

    async fn with_coordinator(&self, described: GroupInfo) -> Result<GroupInfo, ClientError> {
        let coordinator = self.coordinator_of(&described.group).await?;
        Ok(GroupInfo { coordinator, ..described })
    }

    /// Deletes a group without members, with all its offsets.
    ///
    /// # Errors
    /// [`ClientError::Broker`] with `GROUP_ID_NOT_FOUND` or `NON_EMPTY_GROUP`, or no coordinator
    /// answers.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// client.delete_group("billing").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        let request = DeleteGroupsRequest { groups_names: vec![group] };
        self.ask_coordinator(GroupCall::to(group), &request, |reply| {
            let (_, response) =
                decode_response::<DeleteGroupsRequest<'_>>(&reply.frame, reply.version)?;
            check(response.results.first().ok_or(MISSING)?.error_code, None)
        })
        .await
    }

    /// Removes members from a group; the others share out what these had. A member that still runs
    /// learns of it at its next heartbeat, and usually joins again: stop it first. Returns what became
    /// of each, in the order given; `reason` is kept in the coordinator's log of events.
    ///
    /// # Errors
    /// No coordinator answers. That a member is not there is the outcome for it,
    /// `UNKNOWN_MEMBER_ID`.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// use sawlog_client::MemberToRemove;
    ///
    /// let dead = [MemberToRemove::Instance("till-3".to_owned())];
    /// for outcome in client.remove_members("billing", &dead, "the shop is closed").await? {
    ///     outcome?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn remove_members(
        &self,
        group: &str,
        members: &[MemberToRemove],
        reason: &str,
    ) -> Result<Vec<Result<(), ClientError>>, ClientError> {
        let identity = |member: &'_ MemberToRemove| -> (String, Option<String>) {
            match member {
                MemberToRemove::Member(id) => (id.clone(), None),
                MemberToRemove::Instance(instance) => (String::new(), Some(instance.clone())),
            }
        };
        let named: Vec<_> = members.iter().map(identity).collect();
        let identities = named.iter().map(|(member_id, instance)| MemberIdentity {
            member_id,
            group_instance_id: instance.as_deref(),
            reason: Some(reason),
        });
        let request = LeaveGroupRequest {
            group_id: group,
            members: identities.collect(),
            ..Default::default()
        };
        self.ask_coordinator(GroupCall::to(group), &request, |reply| {
            let (_, response) =
                decode_response::<LeaveGroupRequest<'_>>(&reply.frame, reply.version)?;
            if reply.version < LEAVE_SEVERAL {
                // Such a request names no member at all, so nobody has left.
                let (address, api) = (group.to_owned(), ApiKey::LeaveGroup.name());
                return Err(ClientError::Unsupported { address, api });
            }
            check(response.error_code, None)?;
            if response.members.len() != named.len() {
                return Err(MISSING);
            }
            Ok(response.members.iter().map(|member| check(member.error_code, None)).collect())
        })
        .await
    }
}

/// The broker reads its groups from the log, or has no log of them yet.
fn is_loading(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS | ErrorCode::COORDINATOR_NOT_AVAILABLE)
    )
}

fn is_not_of_this_type(error: &ClientError) -> bool {
    matches!(error, ClientError::Unsupported { .. })
        || matches!(
            error.code(),
            Some(ErrorCode::GROUP_ID_NOT_FOUND | ErrorCode::UNSUPPORTED_VERSION)
        )
}
