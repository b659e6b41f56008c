//! First and end offsets of many partitions, with one request for each broker that leads some.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sawlog_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use sawlog_protocol::{ErrorCode, decode_response};

use crate::cluster::Client;
use crate::consumer::{EARLIEST, LATEST, MAX_TIMESTAMP};
use crate::error::{ClientError, check};
use crate::metadata::TopicInfo;
use crate::search::Search;

/// The offsets a partition has right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetRange {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Offset of the first record.
    pub start: i64,
    /// Offset behind the last record.
    pub end: i64,
}

/// Partitions one broker leads, by topic.
type Led<'a> = BTreeMap<&'a str, Vec<i32>>;

fn by_leader(topics: &[TopicInfo]) -> BTreeMap<i32, Led<'_>> {
    let mut by_leader: BTreeMap<i32, Led<'_>> = BTreeMap::new();
    for topic in topics {
        for partition in topic.partitions.iter().filter(|partition| partition.leader >= 0) {
            let led = by_leader.entry(partition.leader).or_default();
            led.entry(&topic.name).or_default().push(partition.index);
        }
    }
    by_leader
}

impl Client {
    /// First and end offsets of all partitions of the topics, by topic and partition. A partition
    /// without a leader, or whose leader cannot use the disk it is on, is left out.
    ///
    /// # Errors
    /// No broker answers, or one refuses for a partition.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// let topics = client.describe(None).await?.topics;
    /// for range in client.offset_ranges(&topics).await? {
    ///     println!("{}-{}: {} to {}", range.topic, range.partition, range.start, range.end);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn offset_ranges(
        &self,
        topics: &[TopicInfo],
    ) -> Result<Vec<OffsetRange>, ClientError> {
        let mut search = Search::new(self);
        let mut topics = Cow::Borrowed(topics);
        loop {
            match self.offset_ranges_once(&topics).await {
                Err(error) => topics = self.led_now(&mut search, &topics, error).await?,
                found => return found,
            }
        }
    }

    /// The same topics with the leaders they have now, after a failure at one.
    async fn led_now<'t>(
        &self,
        search: &mut Search<'_>,
        topics: &[TopicInfo],
        error: ClientError,
    ) -> Result<Cow<'t, [TopicInfo]>, ClientError> {
        let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
        search.after(&names, error).await?;
        // One that was deleted meanwhile has no offsets.
        let now = names.iter().filter_map(|name| self.cached(name).0);
        Ok(now.map(|topic| topic.as_ref().clone()).collect())
    }

    async fn offset_ranges_once(
        &self,
        topics: &[TopicInfo],
    ) -> Result<Vec<OffsetRange>, ClientError> {
        let mut ranges = Vec::new();
        for led in by_leader(topics).values() {
            let starts = self.offsets_of(led, EARLIEST).await?;
            let ends = self.offsets_of(led, LATEST).await?;
            ranges.extend(starts.into_iter().filter_map(|((topic, partition), (start, _))| {
                let (end, _) = *ends.get(&(topic.clone(), partition))?;
                let (start, end) = (start.max(0), end.max(0));
                Some(OffsetRange { topic, partition, start, end })
            }));
        }
        ranges.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok(ranges)
    }

    /// The largest timestamp in each partition of the topics, in milliseconds since the Unix epoch, by
    /// topic and partition. Partitions without records are left out, and those without a leader or
    /// whose leader cannot use the disk they are on.
    ///
    /// # Errors
    /// No broker answers, or one refuses for a partition; brokers before Kafka 3.0 do for all.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// let topics = client.describe(Some(&["orders"])).await?.topics;
    /// println!("{:?}", client.newest_timestamps(&topics).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn newest_timestamps(
        &self,
        topics: &[TopicInfo],
    ) -> Result<BTreeMap<(String, i32), i64>, ClientError> {
        let mut search = Search::new(self);
        let mut topics = Cow::Borrowed(topics);
        loop {
            match self.newest_timestamps_once(&topics).await {
                Err(error) => topics = self.led_now(&mut search, &topics, error).await?,
                found => return found,
            }
        }
    }

    async fn newest_timestamps_once(
        &self,
        topics: &[TopicInfo],
    ) -> Result<BTreeMap<(String, i32), i64>, ClientError> {
        let mut newest = BTreeMap::new();
        for led in by_leader(topics).values() {
            let found = self.offsets_of(led, MAX_TIMESTAMP).await?;
            let found = found.into_iter().filter(|(_, (offset, time))| *offset >= 0 && *time >= 0);
            newest.extend(found.map(|(partition, (_, time))| (partition, time)));
        }
        Ok(newest)
    }

    /// Asks the leader of all of them: offsets and timestamps, -1 for none.
    async fn offsets_of(
        &self,
        led: &Led<'_>,
        timestamp: i64,
    ) -> Result<BTreeMap<(String, i32), (i64, i64)>, ClientError> {
        let first = led.iter().find_map(|(topic, all)| Some((*topic, *all.first()?)));
        let Some((topic, partition)) = first else { return Ok(BTreeMap::new()) };
        let one = |index: &i32| ListOffsetsPartition {
            partition_index: *index,
            timestamp,
            ..Default::default()
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: led
                .iter()
                .map(|(name, all)| ListOffsetsTopic {
                    name,
                    partitions: all.iter().map(one).collect(),
                })
                .collect(),
            ..Default::default()
        };
        let reply = self.leader(topic, partition).await?.call(&request).await?;
        let (_, response) = decode_response::<ListOffsetsRequest<'_>>(&reply.frame, reply.version)?;
        let mut found = BTreeMap::new();
        for topic in &response.topics {
            for partition in &topic.partitions {
                // Nobody can tell while that disk is offline; all others can.
                if partition.error_code == ErrorCode::KAFKA_STORAGE_ERROR {
                    continue;
                }
                check(partition.error_code, None)?;
                let key = (topic.name.to_owned(), partition.partition_index);
                found.insert(key, (partition.offset, partition.timestamp));
            }
        }
        Ok(found)
    }
}
