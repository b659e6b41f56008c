//! `sawlog topic usage` and `sawlog topic skew`: where the records and bytes are.
//!
//! Records are counted as the span between first and end offset: after compaction, or with
//! transactions, there are fewer.

use std::collections::BTreeMap;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use sawlog_client::{Client, TopicInfo};
use serde_json::json;

use crate::failure::Failure;
use crate::output::{Output, Rows};

/// Which topics, and how to print them.
#[derive(Debug, Args)]
pub(crate) struct Of {
    /// The topics; all if not given
    #[arg(add = ArgValueCandidates::new(crate::complete::topics))]
    topics: Vec<String>,
    #[command(flatten)]
    output: Output,
}

/// What one partition holds.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    partition: i32,
    records: i64,
    bytes: i64,
}

/// Prints topics by the bytes they use, largest first.
pub(crate) async fn usage(client: &Client, of: Of) -> Result<(), Failure> {
    let mut topics: Vec<(String, Held, usize)> = Vec::new();
    for (topic, held) in survey(client, &of.topics).await? {
        topics.push((topic, total(&held), held.len()));
    }
    topics.sort_by(|(a, left, _), (b, right, _)| right.bytes.cmp(&left.bytes).then(a.cmp(b)));
    let all: i64 = topics.iter().map(|(_, held, _)| held.bytes).sum();
    let mut rows =
        Rows::new(&["name", "partitions", "records", "bytes", "bytes per record", "percent"]);
    for (topic, held, partitions) in topics {
        rows.push(vec![
            json!(topic),
            json!(partitions),
            json!(held.records),
            json!(held.bytes),
            json!(held.bytes.checked_div(held.records).unwrap_or(0)),
            json!(tenths(held.bytes.saturating_mul(100), all)),
        ]);
    }
    of.output.print(&rows)
}

/// Prints how evenly records and bytes lie on the partitions, most uneven topic first.
pub(crate) async fn skew(client: &Client, of: Of) -> Result<(), Failure> {
    let mut lines = Vec::new();
    for (topic, held) in survey(client, &of.topics).await? {
        let all = total(&held);
        let count = i64::try_from(held.len()).unwrap_or(i64::MAX);
        let Some(most) = held.iter().max_by_key(|one| (one.records, -one.partition)) else {
            continue;
        };
        let fattest = held.iter().map(|one| one.bytes).max().unwrap_or(0);
        let records_ratio = tenths(most.records.saturating_mul(count), all.records);
        lines.push((
            records_ratio,
            vec![
                json!(topic),
                json!(count),
                json!(all.records),
                json!(most.partition),
                json!(most.records),
                json!(records_ratio),
                json!(tenths(fattest.saturating_mul(count), all.bytes)),
                json!(held.iter().filter(|one| one.records == 0).count()),
            ],
        ));
    }
    // Rows come by name; the sort keeps that order among equals.
    lines.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let mut rows = Rows::new(&[
        "name",
        "partitions",
        "records",
        "largest",
        "its records",
        "times mean records",
        "times mean bytes",
        "empty",
    ]);
    for (_, line) in lines {
        rows.push(line);
    }
    of.output.print(&rows)
}

/// What every partition of the topics holds, by topic.
async fn survey(client: &Client, names: &[String]) -> Result<BTreeMap<String, Vec<Held>>, Failure> {
    let topics: Vec<TopicInfo> = if names.is_empty() {
        client.describe(None).await?.topics
    } else {
        let mut topics = Vec::new();
        for name in names {
            topics.push(super::known(client, name).await?);
        }
        topics
    };
    let (sizes, _) = super::sizes(client).await?;
    let mut bytes = BTreeMap::new();
    for size in &sizes {
        *bytes.entry((size.topic.as_str(), size.partition)).or_insert(0) += size.bytes;
    }
    let mut held: BTreeMap<String, Vec<Held>> = BTreeMap::new();
    for range in client.offset_ranges(&topics).await? {
        let bytes = bytes.get(&(range.topic.as_str(), range.partition)).copied().unwrap_or(0);
        let one = Held { partition: range.partition, records: range.end - range.start, bytes };
        held.entry(range.topic).or_default().push(one);
    }
    Ok(held)
}

fn total(held: &[Held]) -> Held {
    held.iter().fold(Held::default(), |sum, one| Held {
        partition: -1,
        records: sum.records.saturating_add(one.records),
        bytes: sum.bytes.saturating_add(one.bytes),
    })
}

/// The quotient to one decimal; 0 for nothing of nothing.
fn tenths(part: i64, whole: i64) -> f64 {
    let tenths = part.saturating_mul(10).checked_div(whole).unwrap_or(0);
    // Both counts are far below what an f64 holds exactly.
    i32::try_from(tenths).map_or(f64::INFINITY, |tenths| f64::from(tenths) / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_have_one_decimal() {
        assert_eq!(tenths(2, 3).to_string(), "0.6");
        assert_eq!(tenths(300, 100).to_string(), "3");
        assert_eq!(tenths(0, 0).to_string(), "0");
    }
}
