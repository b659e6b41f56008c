//! `sawlog group lag`: how far groups are behind, in records and in time.
//!
//! In records: from the committed offset to the end of the partition. In time: from the timestamp of
//! the oldest record that is not committed, which is read, to the largest timestamp in the partition
//! (ListOffsets). That is how much of the stream is missing, and stays the same while nobody writes;
//! how long the oldest record has been waiting by this machine's clock stands beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use jiff::Timestamp;
use sawlog_client::{
    Assignment, Client, Consumer, ConsumerOptions, GroupFilter, GroupInfo, GroupMember, Position,
};
use serde_json::{Value, json};

use super::known;
use crate::failure::Failure;
use crate::output::{Output, Rows};
use crate::progress::Progress;

/// Longest search for the oldest records that are not committed; what is not found by then has no
/// time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Enough of a partition for its next batch: a larger one is sent all the same.
const BATCH_BYTES: usize = 64 * 1024;

/// Show how far groups are behind, in records and in seconds. Seconds are from the timestamp of the
/// oldest record that is not committed to the newest of the partition; "waiting s" is how long that
/// oldest record has been there by this machine's clock
#[derive(Debug, Args)]
pub(crate) struct Lag {
    /// The groups; all if not given
    #[arg(add = ArgValueCandidates::new(crate::complete::groups))]
    groups: Vec<String>,
    /// One row for each group: all records, and the longest times
    #[arg(short = 's', long)]
    summary: bool,
    #[command(flatten)]
    output: Output,
}

/// A partition a group reads.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) committed: Option<i64>,
    /// First and end offset; `None` if the partition is gone.
    pub(crate) range: Option<(i64, i64)>,
    /// Timestamps in milliseconds: of the oldest record that is not committed, and the newest.
    times: Option<(i64, i64)>,
    member: Option<GroupMember>,
}

impl Part {
    /// Records that are not committed.
    pub(crate) fn records(&self) -> Option<i64> {
        let (_, end) = self.range?;
        Some(end.saturating_sub(self.committed?).max(0))
    }

    /// The first record there is to read; `None` if there is none.
    fn unread(&self) -> Option<(i64, i64)> {
        let (start, end) = self.range?;
        let from = self.committed?.max(start);
        (from < end).then_some((from, end))
    }

    fn lag_ms(&self) -> Option<i64> {
        match self.times {
            Some((oldest, newest)) => Some(newest.saturating_sub(oldest).max(0)),
            None => self.is_done().then_some(0),
        }
    }

    fn waiting_ms(&self, now: i64) -> Option<i64> {
        match self.times {
            Some((oldest, _)) => Some(now.saturating_sub(oldest).max(0)),
            None => self.is_done().then_some(0),
        }
    }

    fn is_done(&self) -> bool {
        self.records() == Some(0)
    }
}

impl Lag {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let groups = match self.groups.is_empty() {
            false => self.groups,
            true => {
                let listed = client.list_groups(&GroupFilter::default()).await?;
                listed.into_iter().map(|group| group.group).collect()
            }
        };
        let mut rows = Rows::new(if self.summary { &SUMMARY } else { &COLUMNS });
        let mut progress = Progress::new("groups", u64::try_from(groups.len()).ok(), true);
        for (done, name) in (0u64..).zip(&groups) {
            let group = known(client, name).await?;
            let mut parts = parts_of(client, &group).await?;
            find_times(client, &mut parts).await?;
            let now = Timestamp::now().as_millisecond();
            if self.summary {
                rows.push(summary(&group, &parts, now));
            } else {
                parts.iter().for_each(|part| rows.push(row(name, part, now)));
            }
            progress.update(done + 1);
        }
        drop(progress);
        self.output.print(&rows)
    }
}

const COLUMNS: [&str; 11] = [
    "group",
    "topic",
    "partition",
    "committed",
    "end offset",
    "lag",
    "lag s",
    "waiting s",
    "member",
    "client",
    "host",
];

const SUMMARY: [&str; 7] = ["group", "state", "members", "partitions", "lag", "lag s", "waiting s"];

fn row(group: &str, part: &Part, now: i64) -> Vec<Value> {
    let member = part.member.as_ref();
    vec![
        json!(group),
        json!(part.topic),
        json!(part.partition),
        json!(part.committed),
        json!(part.range.map(|(_, end)| end)),
        json!(part.records()),
        seconds(part.lag_ms()),
        seconds(part.waiting_ms(now)),
        json!(member.map(|member| &member.member_id)),
        json!(member.map(|member| &member.client_id)),
        json!(member.map(|member| &member.host)),
    ]
}

fn summary(group: &GroupInfo, parts: &[Part], now: i64) -> Vec<Value> {
    vec![
        json!(group.group),
        json!(group.state),
        json!(group.members.len()),
        json!(parts.len()),
        json!(parts.iter().filter_map(Part::records).sum::<i64>()),
        seconds(parts.iter().filter_map(Part::lag_ms).max()),
        seconds(parts.iter().filter_map(|part| part.waiting_ms(now)).max()),
    ]
}

/// With one decimal.
fn seconds(ms: Option<i64>) -> Value {
    ms.map_or(Value::Null, |ms| {
        let tenths = ms.saturating_add(50) / 100;
        serde_json::from_str(&format!("{}.{}", tenths / 10, tenths % 10)).unwrap_or(Value::Null)
    })
}

/// Every partition the group has committed an offset of, or has assigned, by topic and partition.
pub(crate) async fn parts_of(client: &Client, group: &GroupInfo) -> Result<Vec<Part>, Failure> {
    let mut committed = BTreeMap::new();
    for one in client.committed_offsets(&group.group).await? {
        committed.insert((one.topic, one.partition), one.offset);
    }
    let mut owners = BTreeMap::new();
    for member in &group.members {
        owners.extend(member.partitions.iter().map(|partition| (partition.clone(), member)));
    }
    let all: BTreeSet<(String, i32)> = committed.keys().chain(owners.keys()).cloned().collect();
    let names: BTreeSet<&str> = all.iter().map(|(topic, _)| topic.as_str()).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let topics = client.describe(Some(&Vec::from_iter(names))).await?.topics;
    let ranges = client.offset_ranges(&topics).await?;
    let ranges: BTreeMap<(String, i32), (i64, i64)> = ranges
        .into_iter()
        .map(|range| ((range.topic, range.partition), (range.start, range.end)))
        .collect();
    Ok(all
        .into_iter()
        .map(|key| Part {
            committed: committed.get(&key).copied(),
            range: ranges.get(&key).copied(),
            times: None,
            member: owners.get(&key).map(|member| (*member).clone()),
            topic: key.0,
            partition: key.1,
        })
        .collect())
}

/// Finds the times of what is not committed.
async fn find_times(client: &Client, parts: &mut [Part]) -> Result<(), Failure> {
    let behind: Vec<&Part> = parts.iter().filter(|part| part.unread().is_some()).collect();
    if behind.is_empty() {
        return Ok(());
    }
    let names: BTreeSet<&str> = behind.iter().map(|part| part.topic.as_str()).collect();
    let topics = client.describe(Some(&Vec::from_iter(names))).await?.topics;
    // An old broker does not know them; then there is no time to show, and no reason to fail.
    let newest = client.newest_timestamps(&topics).await.unwrap_or_default();
    let oldest = oldest_unread(client, &behind).await?;
    for part in parts {
        let key = (part.topic.clone(), part.partition);
        part.times = oldest.get(&key).copied().zip(newest.get(&key).copied());
    }
    Ok(())
}

/// The timestamp of the first record from each committed offset on.
async fn oldest_unread(
    client: &Client,
    parts: &[&Part],
) -> Result<BTreeMap<(String, i32), i64>, Failure> {
    let options = ConsumerOptions {
        partition_bytes: BATCH_BYTES,
        prefetch_bytes: 4 * BATCH_BYTES,
        max_records: 1,
        ..ConsumerOptions::default()
    };
    let mut consumer = Consumer::new(client, options);
    let assignments: Vec<Assignment> = parts
        .iter()
        .filter_map(|part| {
            let (from, end) = part.unread()?;
            Some(Assignment {
                topic: part.topic.clone(),
                partition: part.partition,
                from: Position::Offset(from),
                until: Some(Position::Offset(end)),
            })
        })
        .collect();
    consumer.add(&assignments).await?;
    let mut found = BTreeMap::new();
    let search = async {
        while found.len() < assignments.len() {
            match consumer.next().await {
                Ok(Some(records)) => {
                    for record in records {
                        let key = (record.topic.to_string(), record.partition);
                        found.entry(key).or_insert(record.timestamp);
                        // One is enough.
                        consumer.remove(&record.topic, record.partition);
                    }
                }
                Ok(None) => return,
                Err(error) if error.is_retriable() => {}
                // A damaged or trimmed place has no time; the others may.
                Err(_) => {}
            }
        }
    };
    // What was found until then is shown.
    let _late = tokio::time::timeout(PATIENCE, search).await;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(committed: Option<i64>, range: Option<(i64, i64)>, times: Option<(i64, i64)>) -> Part {
        Part { topic: "t".to_owned(), partition: 0, committed, range, times, member: None }
    }

    #[test]
    fn lag_is_what_is_not_committed_and_time_is_between_timestamps() {
        let behind = part(Some(3), Some((0, 10)), Some((1_000, 61_049)));
        assert_eq!((behind.records(), behind.lag_ms()), (Some(7), Some(60_049)));
        assert_eq!(seconds(behind.lag_ms()), json!(60.0));
        assert_eq!(behind.waiting_ms(3_600_000), Some(3_599_000));
        let done = part(Some(10), Some((0, 10)), None);
        assert_eq!(
            (done.records(), done.lag_ms(), done.waiting_ms(9)),
            (Some(0), Some(0), Some(0))
        );
        let ahead = part(Some(12), Some((0, 10)), None);
        assert_eq!(ahead.records(), Some(0), "as after a topic was made anew");
    }

    #[test]
    fn what_is_not_known_is_left_open() {
        let never = part(None, Some((0, 10)), None);
        assert_eq!((never.records(), never.lag_ms(), never.unread()), (None, None, None));
        let gone = part(Some(3), None, None);
        assert_eq!((gone.records(), gone.lag_ms()), (None, None));
        let trimmed = part(Some(3), Some((5, 10)), None);
        assert_eq!(trimmed.unread(), Some((5, 10)), "what is gone is not looked for");
    }
}
