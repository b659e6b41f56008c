//! Offsets by timestamp (ListOffsets) and by leader epoch (OffsetForLeaderEpoch).

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use sawlog_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use sawlog_protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use sawlog_protocol::{DecodeError, decode_response};

use super::options::Position;
use crate::cluster::{Channel, Client};
use crate::error::{ClientError, check};
use crate::search::Search;

/// Timestamps of ListOffsets with a meaning of their own.
pub(crate) const LATEST: i64 = -1;
pub(crate) const EARLIEST: i64 = -2;
/// The record with the largest timestamp (KIP-734).
pub(crate) const MAX_TIMESTAMP: i64 = -3;

/// A partition and a timestamp in milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeQuery {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The timestamp.
    pub timestamp: i64,
}

impl Client {
    /// For each query the offset of the first record with at least its timestamp, `None` where there
    /// is none. One request for each broker.
    ///
    /// # Errors
    /// A partition does not exist, or a broker does not answer.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// use sawlog_client::TimeQuery;
    ///
    /// let query = TimeQuery { topic: "orders".to_owned(), partition: 0, timestamp: 1_767_225_600_000 };
    /// println!("from {:?} on", client.offsets_for_times(&[query]).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn offsets_for_times(
        &self,
        queries: &[TimeQuery],
    ) -> Result<Vec<Option<i64>>, ClientError> {
        let mut topics: Vec<&str> = queries.iter().map(|query| query.topic.as_str()).collect();
        topics.sort_unstable();
        topics.dedup();
        let mut search = Search::new(self);
        loop {
            match self.offsets_for_times_once(queries).await {
                Err(error) => search.after(&topics, error).await?,
                found => return found,
            }
        }
    }

    async fn offsets_for_times_once(
        &self,
        queries: &[TimeQuery],
    ) -> Result<Vec<Option<i64>>, ClientError> {
        let mut by_leader: HashMap<i32, Vec<usize>> = HashMap::new();
        for (at, query) in queries.iter().enumerate() {
            let leader = self.leader_id(&query.topic, query.partition).await?;
            by_leader.entry(leader).or_default().push(at);
        }
        let mut offsets = vec![None; queries.len()];
        for (leader, places) in by_leader {
            let asked: Vec<&TimeQuery> = places.iter().filter_map(|at| queries.get(*at)).collect();
            let found = self.list_offsets(leader, &asked).await?;
            for (at, offset) in places.into_iter().zip(found) {
                if let Some(place) = offsets.get_mut(at) {
                    *place = offset;
                }
            }
        }
        Ok(offsets)
    }

    async fn list_offsets(
        &self,
        leader: i32,
        queries: &[&TimeQuery],
    ) -> Result<Vec<Option<i64>>, ClientError> {
        let connection = self.broker(leader, Channel::GENERAL).await?;
        let part = |query: &&TimeQuery| ListOffsetsPartition {
            partition_index: query.partition,
            timestamp: query.timestamp,
            ..Default::default()
        };
        // A topic may come more than once, but no partition twice in one request.
        let mut left: Vec<(usize, &TimeQuery)> = queries.iter().copied().enumerate().collect();
        let mut offsets = vec![None; queries.len()];
        while !left.is_empty() {
            let mut round: HashMap<(&str, i32), (usize, &TimeQuery)> = HashMap::new();
            let mut later = Vec::new();
            for (at, query) in left {
                match round.entry((&query.topic, query.partition)) {
                    std::collections::hash_map::Entry::Vacant(place) => {
                        place.insert((at, query));
                    }
                    std::collections::hash_map::Entry::Occupied(_) => later.push((at, query)),
                }
            }
            left = later;
            let mut topics: HashMap<&str, Vec<ListOffsetsPartition>> = HashMap::new();
            for (_, query) in round.values() {
                topics.entry(&query.topic).or_default().push(part(query));
            }
            let request = ListOffsetsRequest {
                replica_id: -1,
                topics: topics
                    .into_iter()
                    .map(|(name, partitions)| ListOffsetsTopic { name, partitions })
                    .collect(),
                ..Default::default()
            };
            let reply = connection.call(&request).await?;
            let (_, response) =
                decode_response::<ListOffsetsRequest<'_>>(&reply.frame, reply.version)?;
            let mut answered = 0;
            for topic in &response.topics {
                for found in &topic.partitions {
                    let asked = round.get(&(topic.name, found.partition_index));
                    let Some((at, _)) = asked else { continue };
                    check(found.error_code, None)?;
                    answered += 1;
                    if let Some(place) = offsets.get_mut(*at) {
                        *place = (found.offset >= 0).then_some(found.offset);
                    }
                }
            }
            if answered < round.len() {
                return Err(ClientError::Malformed(DecodeError::Truncated));
            }
        }
        Ok(offsets)
    }

    /// The first offset with at least this timestamp; `None` if there is none. One attempt.
    async fn offset_for(
        &self,
        topic: &str,
        partition: i32,
        timestamp: i64,
    ) -> Result<Option<i64>, ClientError> {
        let query = TimeQuery { topic: topic.to_owned(), partition, timestamp };
        Ok(self.offsets_for_times_once(&[query]).await?.into_iter().next().flatten())
    }

    /// The offset a position means right now, of whoever leads the partition now or soon.
    pub(crate) async fn position_of(
        &self,
        topic: &str,
        partition: i32,
        position: Position,
    ) -> Result<i64, ClientError> {
        let mut search = Search::new(self);
        loop {
            match self.offset_of(topic, partition, position).await {
                Err(error) => search.after(&[topic], error).await?,
                found => return found,
            }
        }
    }

    /// The same with one attempt.
    pub(crate) async fn offset_of(
        &self,
        topic: &str,
        partition: i32,
        position: Position,
    ) -> Result<i64, ClientError> {
        let ask = |timestamp| self.offset_for(topic, partition, timestamp);
        Ok(match position {
            Position::Start => ask(EARLIEST).await?.unwrap_or(0),
            Position::End => ask(LATEST).await?.unwrap_or(0),
            Position::Offset(offset) => offset,
            Position::AfterStart(count) => ask(EARLIEST).await?.unwrap_or(0).saturating_add(count),
            Position::BeforeEnd(count) => {
                let start = ask(EARLIEST).await?.unwrap_or(0);
                ask(LATEST).await?.unwrap_or(0).saturating_sub(count).max(start)
            }
            Position::Time(timestamp) => match ask(timestamp).await? {
                Some(offset) => offset,
                None => ask(LATEST).await?.unwrap_or(0),
            },
        })
    }

    /// Where the leader's records of `epoch` end (exclusive), or of the largest epoch below; `None`
    /// if it does not know (KIP-320).
    pub(crate) async fn end_of_epoch(
        &self,
        topic: &str,
        partition: i32,
        (leader_epoch, epoch): (i32, i32),
    ) -> Result<Option<i64>, ClientError> {
        let request = OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: vec![OffsetForLeaderTopic {
                topic,
                partitions: vec![OffsetForLeaderPartition {
                    partition,
                    current_leader_epoch: leader_epoch,
                    leader_epoch: epoch,
                }],
            }],
        };
        let reply = self.leader(topic, partition).await?.call(&request).await?;
        let (_, response) =
            decode_response::<OffsetForLeaderEpochRequest<'_>>(&reply.frame, reply.version)?;
        let found = response.topics.first().and_then(|topic| topic.partitions.first());
        let found = found.ok_or(ClientError::Malformed(DecodeError::Truncated))?;
        check(found.error_code, None)?;
        Ok((found.end_offset >= 0).then_some(found.end_offset))
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
