//! A member of a classic group for tests: one request, one reply, refusals as codes.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sawlog_protocol::messages::find_coordinator::FindCoordinatorRequest;
use sawlog_protocol::messages::heartbeat::HeartbeatRequest;
use sawlog_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use sawlog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use sawlog_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use sawlog_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use sawlog_protocol::{ErrorCode, decode_response};

use super::wire::Wire;

const FIND_COORDINATOR: i16 = 4;
const JOIN: i16 = 5;
const SYNC: i16 = 3;
const HEARTBEAT: i16 = 3;
/// Versions without topic ids.
const COMMIT: i16 = 7;
const FETCH: i16 = 8;

/// Longest wait for a coordinator that has to be there soon.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a coordinator that is not ready yet says.
pub(crate) const RETRIABLE: [ErrorCode; 3] = [
    ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode::COORDINATOR_NOT_AVAILABLE,
    ErrorCode::NOT_COORDINATOR,
];

/// A member in a generation; before the first of both they are empty and 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) member: String,
    pub(crate) generation: i32,
    pub(crate) leader: String,
}

/// One connection, used for one group.
#[derive(Debug)]
pub(crate) struct GroupWire {
    pub(crate) wire: Wire,
    group: String,
}

impl GroupWire {
    pub(crate) fn connect(address: SocketAddr, group: &str) -> io::Result<Self> {
        Ok(Self { wire: Wire::connect(address)?, group: group.to_owned() })
    }

    /// Asks for the coordinator, which is who was asked.
    pub(crate) fn find_coordinator(&mut self) -> io::Result<ErrorCode> {
        let request = FindCoordinatorRequest {
            coordinator_keys: vec![self.group.as_str()],
            ..Default::default()
        };
        self.wire.send(&request, FIND_COORDINATOR)?;
        let frame = self.wire.receive()?;
        let (_, response) =
            decode_response::<FindCoordinatorRequest<'_>>(&frame, FIND_COORDINATOR).unwrap();
        Ok(response.coordinators[0].error_code)
    }

    /// Sends JoinGroup; the reply comes when the rebalance is done.
    pub(crate) fn send_join(&mut self, member: &str, metadata: &Bytes) -> io::Result<()> {
        let request = JoinGroupRequest {
            group_id: &self.group,
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 60_000,
            member_id: member,
            protocol_type: "consumer",
            protocols: vec![JoinGroupRequestProtocol { name: "range", metadata: metadata.clone() }],
            ..Default::default()
        };
        self.wire.send(&request, JOIN).map(|_| ())
    }

    pub(crate) fn receive_join(&mut self) -> io::Result<Result<Membership, (ErrorCode, String)>> {
        let frame = self.wire.receive()?;
        let (_, response) = decode_response::<JoinGroupRequest<'_>>(&frame, JOIN).unwrap();
        let member = response.member_id.to_owned();
        if response.error_code != ErrorCode::NONE {
            return Ok(Err((response.error_code, member)));
        }
        let (generation, leader) = (response.generation_id, response.leader.to_owned());
        Ok(Ok(Membership { member, generation, leader }))
    }

    /// Joins as a client does: again with the member id it is given, without one that is not known,
    /// and while the coordinator is not ready.
    pub(crate) fn join(&mut self, member: &str) -> io::Result<Membership> {
        let metadata = Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        let (mut member, deadline) = (member.to_owned(), Instant::now() + DEADLINE);
        loop {
            self.send_join(&member, &metadata)?;
            match self.receive_join()? {
                Ok(joined) => return Ok(joined),
                Err((ErrorCode::MEMBER_ID_REQUIRED, given)) => member = given,
                Err((ErrorCode::UNKNOWN_MEMBER_ID, _)) => member.clear(),
                Err((error, _)) if RETRIABLE.contains(&error) => {
                    assert!(Instant::now() < deadline, "{error:?}");
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err((error, _)) => panic!("cannot join: {error:?}"),
            }
        }
    }

    /// Fetches the assignment; a leader gives itself everything.
    pub(crate) fn sync(&mut self, membership: &Membership) -> io::Result<ErrorCode> {
        let is_leader = membership.member == membership.leader;
        let own = || SyncGroupRequestAssignment {
            member_id: &membership.member,
            assignment: Bytes::from_static(b"everything"),
        };
        let request = SyncGroupRequest {
            group_id: &self.group,
            generation_id: membership.generation,
            member_id: &membership.member,
            assignments: is_leader.then(own).into_iter().collect(),
            ..Default::default()
        };
        self.wire.send(&request, SYNC)?;
        let frame = self.wire.receive()?;
        let (_, response) = decode_response::<SyncGroupRequest<'_>>(&frame, SYNC).unwrap();
        Ok(response.error_code)
    }

    pub(crate) fn heartbeat(&mut self, membership: &Membership) -> io::Result<ErrorCode> {
        let request = HeartbeatRequest {
            group_id: &self.group,
            generation_id: membership.generation,
            member_id: &membership.member,
            ..Default::default()
        };
        self.wire.send(&request, HEARTBEAT)?;
        let frame = self.wire.receive()?;
        let (_, response) = decode_response::<HeartbeatRequest<'_>>(&frame, HEARTBEAT).unwrap();
        Ok(response.error_code)
    }

    /// Commits for partition 0 of `topic`; without membership as a consumer that assigns itself.
    pub(crate) fn commit(
        &mut self,
        membership: Option<&Membership>,
        topic: &str,
        (offset, metadata): (i64, &str),
    ) -> io::Result<ErrorCode> {
        let request = OffsetCommitRequest {
            group_id: &self.group,
            generation_id_or_member_epoch: membership.map_or(-1, |known| known.generation),
            member_id: membership.map_or("", |known| &known.member),
            retention_time_ms: -1,
            topics: vec![OffsetCommitRequestTopic {
                name: topic,
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: 0,
                    committed_offset: offset,
                    committed_leader_epoch: -1,
                    committed_metadata: Some(metadata),
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        self.wire.send(&request, COMMIT)?;
        let frame = self.wire.receive()?;
        let (_, response) = decode_response::<OffsetCommitRequest<'_>>(&frame, COMMIT).unwrap();
        Ok(response.topics[0].partitions[0].error_code)
    }

    /// What is committed for partition 0 of `topic`, -1 for nothing; waits for a coordinator that
    /// is not ready.
    pub(crate) fn committed(&mut self, topic: &str) -> io::Result<i64> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let request = OffsetFetchRequest {
                groups: vec![OffsetFetchRequestGroup {
                    group_id: &self.group,
                    topics: Some(vec![OffsetFetchRequestTopics {
                        name: topic,
                        partition_indexes: vec![0],
                        ..Default::default()
                    }]),
                    ..Default::default()
                }],
                ..Default::default()
            };
            self.wire.send(&request, FETCH)?;
            let frame = self.wire.receive()?;
            let (_, response) = decode_response::<OffsetFetchRequest<'_>>(&frame, FETCH).unwrap();
            let group = &response.groups[0];
            if RETRIABLE.contains(&group.error_code) {
                assert!(Instant::now() < deadline, "{:?}", group.error_code);
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            assert_eq!(group.error_code, ErrorCode::NONE);
            return Ok(group.topics[0].partitions[0].committed_offset);
        }
    }
}
