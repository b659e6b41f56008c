//! What the coordinator says of a group, asked by requests of our own: what is committed, who has what.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Buf, Bytes};
use sawlog_protocol::messages::api_versions::ApiVersionsRequest;
use sawlog_protocol::messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use sawlog_protocol::messages::describe_groups::DescribeGroupsRequest;
use sawlog_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use sawlog_protocol::messages::offset_fetch::OffsetFetchRequest;
use sawlog_protocol::{ErrorCode, Request, decode_response, encode_request};

/// Partitions by member, as the coordinator has them.
pub(super) type Assignment = Vec<(String, BTreeSet<i32>)>;

/// A connection to the only broker, which coordinates every group.
#[derive(Debug)]
pub(super) struct Admin {
    stream: TcpStream,
    next_correlation: i32,
}

impl Admin {
    pub(super) fn connect(address: &str) -> io::Result<Admin> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Admin { stream, next_correlation: 0 })
    }

    /// The keys of what the broker serves.
    pub(super) fn apis(&mut self) -> io::Result<Vec<i16>> {
        let frame = self.ask(&ApiVersionsRequest::default(), 0)?;
        let reply =
            decode_response::<ApiVersionsRequest<'_>>(&frame, 0).map_err(io::Error::other)?;
        Ok(reply.1.api_keys.iter().map(|api| api.api_key).collect())
    }

    /// The committed offsets of the group; none while the coordinator loads.
    pub(super) fn committed(&mut self, group: &str) -> io::Result<Option<BTreeMap<i32, i64>>> {
        let request = OffsetFetchRequest { group_id: group, topics: None, ..Default::default() };
        let frame = self.ask(&request, 7)?;
        let reply =
            decode_response::<OffsetFetchRequest<'_>>(&frame, 7).map_err(io::Error::other)?;
        if reply.1.error_code != ErrorCode::NONE {
            return Ok(None);
        }
        let partitions = reply.1.topics.iter().flat_map(|topic| &topic.partitions);
        Ok(Some(partitions.map(|p| (p.partition_index, p.committed_offset)).collect()))
    }

    /// Who has which partitions in a stable group of the classic protocol.
    pub(super) fn classic_assignment(&mut self, group: &str) -> io::Result<Option<Assignment>> {
        let request = DescribeGroupsRequest { groups: vec![group], ..Default::default() };
        let frame = self.ask(&request, 5)?;
        let reply =
            decode_response::<DescribeGroupsRequest<'_>>(&frame, 5).map_err(io::Error::other)?;
        let described = &reply.1.groups[0];
        if described.error_code != ErrorCode::NONE || described.group_state != "Stable" {
            return Ok(None);
        }
        let members = described.members.iter();
        let assigned = members
            .map(|m| Some((m.member_id.to_owned(), partitions(m.member_assignment.clone())?)));
        Ok(assigned.collect())
    }

    /// Who has which partitions in a group of the consumer protocol, at any time.
    pub(super) fn consumer_assignment(&mut self, group: &str) -> io::Result<Option<Assignment>> {
        let request = ConsumerGroupDescribeRequest { group_ids: vec![group], ..Default::default() };
        let frame = self.ask(&request, 0)?;
        let reply = decode_response::<ConsumerGroupDescribeRequest<'_>>(&frame, 0)
            .map_err(io::Error::other)?;
        let described = &reply.1.groups[0];
        if described.error_code != ErrorCode::NONE {
            return Ok(None);
        }
        let members = described.members.iter().map(|member| {
            let topics = member.assignment.topic_partitions.iter();
            let partitions = topics.flat_map(|topic| topic.partitions.iter().copied());
            (member.member_id.to_owned(), partitions.collect())
        });
        Ok(Some(members.collect()))
    }

    /// The end of each partition.
    pub(super) fn ends(&mut self, topic: &str, partitions: i32) -> io::Result<BTreeMap<i32, i64>> {
        const LATEST: i64 = -1;
        let wanted = (0..partitions).map(|partition_index| ListOffsetsPartition {
            partition_index,
            timestamp: LATEST,
            ..Default::default()
        });
        let topics = vec![ListOffsetsTopic { name: topic, partitions: wanted.collect() }];
        let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
        let frame = self.ask(&request, 6)?;
        let reply =
            decode_response::<ListOffsetsRequest<'_>>(&frame, 6).map_err(io::Error::other)?;
        let found = reply.1.topics.iter().flat_map(|topic| &topic.partitions);
        Ok(found.map(|p| (p.partition_index, p.offset)).collect())
    }

    fn ask<'a, R: Request<'a>>(&mut self, request: &R, version: i16) -> io::Result<Bytes> {
        let correlation = self.next_correlation;
        self.next_correlation += 1;
        for part in encode_request(request, version, correlation, Some("compat")).parts() {
            self.stream.write_all(part)?;
        }
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix)?;
        let mut frame = vec![0; usize::try_from(u32::from_be_bytes(prefix)).expect("64 bits")];
        self.stream.read_exact(&mut frame)?;
        Ok(frame.into())
    }
}

/// The partitions of a consumer's assignment: version, topics with their partitions, user data.
fn partitions(mut assignment: Bytes) -> Option<BTreeSet<i32>> {
    let mut partitions = BTreeSet::new();
    if assignment.is_empty() {
        return Some(partitions);
    }
    assignment.try_get_i16().ok()?;
    for _ in 0..assignment.try_get_i32().ok()? {
        let name = usize::try_from(assignment.try_get_i16().ok()?).ok()?;
        if assignment.remaining() < name {
            return None;
        }
        assignment.advance(name);
        for _ in 0..assignment.try_get_i32().ok()? {
            partitions.insert(assignment.try_get_i32().ok()?);
        }
    }
    Some(partitions)
}
