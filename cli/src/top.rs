//! `sawlog top`: topics by the records they take in, again and again.
//!
//! On a terminal the screen is redrawn and given back as it was at the end; elsewhere each round
//! prints its rows. Rates are differences of end offsets and of bytes on disk between two rounds.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use clap::Args;
use sawlog_client::Client;
use serde_json::json;

use crate::Global;
use crate::failure::Failure;
use crate::output::{Output, Rows};
use crate::position::parse_duration;
use crate::progress::per_second;

/// Watch topics: records and bytes a second, most first. Ctrl-C ends it.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Time between two rounds
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    interval: Duration,
    /// End after this many rounds
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
    #[command(flatten)]
    output: Output,
}

/// Shortest time between two rounds.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// What a topic had in one round.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    partitions: u64,
    /// Sum of the end offsets: only appends change it.
    end: i64,
    records: i64,
    bytes: i64,
}

/// What all topics had, and when.
#[derive(Debug)]
struct Round {
    at: Instant,
    cluster: String,
    brokers: usize,
    topics: BTreeMap<String, Held>,
}

/// A topic between two rounds.
#[derive(Debug)]
struct Line {
    name: String,
    records_per_s: u64,
    bytes_per_s: u64,
    held: Held,
}

impl Top {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.connect().await?;
        let live = std::io::stdout().is_terminal() && !self.output.is_chosen();
        let mut before = survey(&client).await?;
        let _screen = live.then(Screen::take);
        let mut rounds = 0;
        while self.count.is_none_or(|count| rounds < count) {
            tokio::time::sleep(self.interval.max(INTERVAL_MIN)).await;
            let now = survey(&client).await?;
            let lines = compare(&before, &now);
            if live {
                draw(&now, &lines)?;
            } else {
                self.output.print(&rows(&lines))?;
            }
            before = now;
            rounds += 1;
        }
        Ok(())
    }
}

async fn survey(client: &Client) -> Result<Round, Failure> {
    let cluster = client.describe(None).await?;
    let mut topics: BTreeMap<String, Held> = BTreeMap::new();
    for range in client.offset_ranges(&cluster.topics).await? {
        let held = topics.entry(range.topic).or_default();
        held.partitions += 1;
        held.end += range.end;
        held.records += range.end - range.start;
    }
    // A broker that is gone is seen by what is missing; a line about it would break the screen.
    let (sizes, _) = client.reachable_partition_sizes().await?;
    for size in sizes {
        if let Some(held) = topics.get_mut(&size.topic) {
            held.bytes += size.bytes;
        }
    }
    let name = cluster.cluster_id.unwrap_or_default();
    Ok(Round { at: Instant::now(), cluster: name, brokers: cluster.brokers.len(), topics })
}

/// Busiest first; among equals by name.
fn compare(before: &Round, now: &Round) -> Vec<Line> {
    let elapsed = now.at.duration_since(before.at);
    let rate = |old: i64, new: i64| per_second(u64::try_from(new - old).unwrap_or(0), elapsed);
    let mut lines: Vec<Line> = now
        .topics
        .iter()
        .map(|(name, held)| {
            // A topic that is new since has no rate yet.
            let old = before.topics.get(name).unwrap_or(held);
            Line {
                name: name.clone(),
                records_per_s: rate(old.end, held.end),
                bytes_per_s: rate(old.bytes, held.bytes),
                held: *held,
            }
        })
        .collect();
    lines.sort_by(|a, b| b.records_per_s.cmp(&a.records_per_s).then(a.name.cmp(&b.name)));
    lines
}

fn rows(lines: &[Line]) -> Rows {
    let mut rows =
        Rows::new(&["name", "partitions", "records per s", "bytes per s", "records", "bytes"]);
    for line in lines {
        rows.push(vec![
            json!(line.name),
            json!(line.held.partitions),
            json!(line.records_per_s),
            json!(line.bytes_per_s),
            json!(line.held.records),
            json!(line.held.bytes),
        ]);
    }
    rows
}

/// As many lines as the terminal has.
fn draw(now: &Round, lines: &[Line]) -> Result<(), Failure> {
    let height = terminal_size::terminal_size().map_or(24, |(_, height)| usize::from(height.0));
    let records: u64 = lines.iter().map(|line| line.records_per_s).sum();
    let bytes: u64 = lines.iter().map(|line| line.bytes_per_s).sum();
    let mut text = format!(
        "\x1b[H\x1b[Jcluster {}  {} brokers  {} topics  {records} records/s  {bytes} bytes/s\n\n",
        now.cluster,
        now.brokers,
        lines.len()
    );
    let shown = lines.get(..lines.len().min(height.saturating_sub(4))).unwrap_or_default();
    text.push_str(&rows(shown).table());
    Output::write(text.trim_end().as_bytes())
}

/// The terminal's other screen, without a cursor; given back when dropped.
#[derive(Debug)]
struct Screen;

impl Screen {
    fn take() -> Self {
        // A terminal that is gone is noticed at the first drawing.
        let _gone = std::io::stdout().write_all(b"\x1b[?1049h\x1b[?25l");
        Self
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut stdout = std::io::stdout();
        let _gone = stdout.write_all(b"\x1b[?25h\x1b[?1049l").and_then(|()| stdout.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(at: Instant, topics: &[(&str, i64, i64)]) -> Round {
        let held = |end, bytes| Held { partitions: 1, end, records: end, bytes };
        let topics =
            topics.iter().map(|(name, end, bytes)| ((*name).to_owned(), held(*end, *bytes)));
        Round { at, cluster: String::new(), brokers: 1, topics: topics.collect() }
    }

    #[test]
    fn the_busiest_topic_is_first_and_rates_are_per_second() {
        let start = Instant::now();
        let before = round(start, &[("a", 10, 500), ("b", 0, 0)]);
        let now = [("a", 20, 100), ("b", 200, 4000), ("new", 1000, 1)];
        let lines = compare(&before, &round(start + Duration::from_secs(2), &now));
        let names: Vec<_> = lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["b", "a", "new"]);
        let (busiest, idle) = (&lines[0], &lines[1]);
        assert_eq!((busiest.records_per_s, busiest.bytes_per_s), (100, 2000));
        assert_eq!((idle.records_per_s, idle.bytes_per_s), (5, 0), "retention freed bytes");
    }
}
