//! One member of a classic group.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::coordinator::core::RequestId;
use crate::coordinator::record::ClassicMemberRecord;
use crate::coordinator::timers::Timer;
use crate::coordinator::types::{
    Client, DescribedMember, InstanceId, JoinGroup, JoinedMember, MemberId, Protocol,
};

/// One member of a classic group.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) id: MemberId,
    pub(super) instance: Option<InstanceId>,
    pub(super) client: Client,
    pub(super) protocols: Vec<Protocol>,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) assignment: Bytes,
    /// Its JoinGroup that waits for the others.
    pub(super) joining: Option<RequestId>,
    /// Its SyncGroup that waits for the leader's.
    pub(super) syncing: Option<RequestId>,
    /// It has not been through a rebalance yet.
    pub(super) is_new: bool,
    pub(super) session: Timer,
}

impl Member {
    /// The member that `request` makes.
    pub(super) fn new(id: MemberId, request: &JoinGroup) -> Self {
        Self {
            id,
            instance: request.instance.clone(),
            client: request.client.clone(),
            protocols: request.protocols.clone(),
            session_timeout: request.session_timeout,
            rebalance_timeout: request.rebalance_timeout,
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            is_new: true,
            session: Timer::default(),
        }
    }

    /// The member a record tells of.
    pub(super) fn from_record(record: ClassicMemberRecord, protocol: Option<&Arc<str>>) -> Self {
        let protocols = protocol
            .map(|name| Protocol { name: name.clone(), metadata: record.subscription })
            .into_iter()
            .collect();
        Self {
            id: record.member,
            instance: record.instance,
            client: record.client,
            protocols,
            session_timeout: record.session_timeout,
            rebalance_timeout: record.rebalance_timeout,
            assignment: record.assignment,
            joining: None,
            syncing: None,
            is_new: false,
            session: Timer::default(),
        }
    }

    pub(super) fn to_record(&self, protocol: Option<&str>) -> ClassicMemberRecord {
        ClassicMemberRecord {
            member: self.id.clone(),
            instance: self.instance.clone(),
            client: self.client.clone(),
            rebalance_timeout: self.rebalance_timeout,
            session_timeout: self.session_timeout,
            subscription: self.metadata(protocol),
            assignment: self.assignment.clone(),
        }
    }

    /// Its metadata for `protocol`; empty if it does not have it.
    pub(super) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        self.protocols
            .iter()
            .find(|known| Some(&*known.name) == protocol)
            .map(|known| known.metadata.clone())
            .unwrap_or_default()
    }

    /// As its leader sees it.
    pub(super) fn joined(&self, protocol: Option<&str>) -> JoinedMember {
        JoinedMember {
            member: self.id.clone(),
            instance: self.instance.clone(),
            metadata: self.metadata(protocol),
        }
    }

    /// As DescribeGroups shows it; metadata and assignment only once there is a `protocol`.
    pub(super) fn described(&self, protocol: Option<&str>) -> DescribedMember {
        DescribedMember {
            member: self.id.clone(),
            instance: self.instance.clone(),
            client: self.client.clone(),
            metadata: self.metadata(protocol),
            assignment: protocol.map(|_| self.assignment.clone()).unwrap_or_default(),
        }
    }

    /// While a request of it waits here, a member is alive without heartbeats. Not a new one: its
    /// client may have died before it ever sent any.
    pub(super) fn is_excused(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }
}
