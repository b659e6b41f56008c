//! `sawlog group seek`: have a group go on from elsewhere.
//!
//! Every partition's new offset is found before any is committed: what is shown is what is done. A
//! place outside of the log becomes its nearest end, and is said to.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use sawlog_client::{Client, CommittedOffset, OffsetOutcome, Position, TimeQuery};
use serde_json::json;

use super::{TopicPart, known, known_and_empty, offsets_file, parse_topic};
use crate::failure::{Failure, Kind, say};
use crate::output::{Output, Rows};
use crate::position::parse_position;
use crate::topic::confirm_to;

/// Longest file of offsets that is read.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Have a group without members go on from elsewhere
#[derive(Debug, Args)]
pub(crate) struct Seek {
    /// The group
    #[arg(add = ArgValueCandidates::new(crate::complete::groups))]
    group: String,
    /// To this place: start, end, an offset, -N (N before the end), +N (N after the start), or @TIME
    /// (the first record of that time or later; a time as for `consume -o`)
    #[arg(long, value_name = "PLACE", value_parser = parse_position, allow_hyphen_values = true, conflicts_with_all = ["by", "from_file"])]
    to: Option<Position>,
    /// By so many records from where it is, backwards if negative
    #[arg(long, value_name = "N", allow_negative_numbers = true, conflicts_with = "from_file")]
    by: Option<i64>,
    /// To the offsets in this file, - for standard input: lines of topic,partition,offset, as
    /// --export writes them
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// Only this topic, or partitions of it (TOPIC:0,3); may be given several times. Without it, all
    /// partitions the group has committed offsets of
    #[arg(short = 't', long = "topic", value_name = "TOPIC[:P,...]", value_parser = parse_topic, add = ArgValueCandidates::new(crate::complete::topics))]
    topics: Vec<TopicPart>,
    /// The group may not exist yet: it comes into being
    #[arg(long)]
    create: bool,
    /// Print the new offsets, or by itself the current ones, as topic,partition,offset and change
    /// nothing
    #[arg(long)]
    export: bool,
    /// Do not ask
    #[arg(short = 'y', long)]
    yes: bool,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
}

type Key = (String, i32);

/// Where one partition goes.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    topic: String,
    partition: i32,
    current: Option<i64>,
    new: i64,
    note: Option<String>,
}

impl Seek {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let is_placed = self.to.is_some() || self.by.is_some() || self.from_file.is_some();
        if !is_placed && !self.export {
            return Err(Failure::usage("where to? give --to PLACE, --by N or --from-file FILE"));
        }
        let only_shown = self.dry_run || self.export;
        self.check_group(client, only_shown).await?;
        let plans = self.plans(client).await?;
        if self.export {
            let lines = plans.iter().map(|plan| (plan.topic.as_str(), plan.partition, plan.new));
            return Output::write(offsets_file::write(lines).as_bytes());
        }
        if !self.dry_run && !self.yes {
            if std::io::stdin().is_terminal() {
                say(table(&plans, &[]).table().trim_end());
            }
            let what = format!("move {} offsets of group \"{}\"", plans.len(), self.group);
            confirm_to(&self.group, &what)?;
        }
        let outcomes = match self.dry_run {
            true => Vec::new(),
            false => client.alter_group_offsets(&self.group, &committed(&plans)).await?,
        };
        self.output.print(&table(&plans, &outcomes))?;
        if self.dry_run {
            say("nothing was changed: --dry-run");
        }
        conclude(&self.group, outcomes)
    }

    async fn check_group(&self, client: &Client, only_shown: bool) -> Result<(), Failure> {
        let checked = if only_shown {
            known(client, &self.group).await
        } else {
            known_and_empty(client, &self.group, "cannot seek").await
        };
        match checked {
            Err(failure) if failure.kind == Kind::NotFound && self.create => Ok(()),
            Ok(_) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    async fn plans(&self, client: &Client) -> Result<Vec<Plan>, Failure> {
        let current = client.committed_offsets(&self.group).await?;
        let current: BTreeMap<Key, i64> =
            current.into_iter().map(|one| ((one.topic, one.partition), one.offset)).collect();
        let wanted: BTreeMap<Key, Option<i64>> = match &self.from_file {
            Some(file) => self.listed(file)?,
            None => {
                self.partitions(client, &current).await?.into_iter().map(|k| (k, None)).collect()
            }
        };
        if wanted.is_empty() {
            let name = &self.group;
            return Err(Failure::new(
                Kind::Precondition,
                format!("group \"{name}\" has committed nothing there: say where with --topic"),
            ));
        }
        let ranges = ranges(client, &wanted).await?;
        let times = self.times(client, &wanted).await?;
        let mut plans = Vec::with_capacity(wanted.len());
        for (key, listed) in wanted {
            let (start, end) = *ranges.get(&key).ok_or_else(|| missing(&key))?;
            let now = current.get(&key).copied();
            let place = match (listed, self.by, self.to) {
                (Some(offset), _, _) => offset,
                (None, Some(by), _) => {
                    now.ok_or_else(|| nothing_committed(&key))?.saturating_add(by)
                }
                (None, None, Some(to)) => {
                    let time = times.get(&key).copied().flatten();
                    place(to, (start, end), time)
                }
                // An export of what is.
                (None, None, None) => now.ok_or_else(|| nothing_committed(&key))?,
            };
            plans.push(plan(key, now, place, (start, end)));
        }
        Ok(plans)
    }

    /// The partitions asked for, all of which must be there; else those with committed offsets.
    async fn partitions(
        &self,
        client: &Client,
        current: &BTreeMap<Key, i64>,
    ) -> Result<BTreeSet<Key>, Failure> {
        if self.topics.is_empty() {
            return Ok(current.keys().cloned().collect());
        }
        let mut wanted = BTreeSet::new();
        for part in &self.topics {
            let info = crate::topic::known(client, &part.topic).await?;
            let named: Vec<i32> = match part.partitions.is_empty() {
                true => info.partitions.iter().map(|partition| partition.index).collect(),
                false => part.partitions.clone(),
            };
            for index in named {
                let key = (part.topic.clone(), index);
                info.partition(index).ok_or_else(|| missing(&key))?;
                wanted.insert(key);
            }
        }
        Ok(wanted)
    }

    /// The offsets of the file that are of this group and of the topics asked for.
    fn listed(&self, file: &Path) -> Result<BTreeMap<Key, Option<i64>>, Failure> {
        let name = file.display();
        let text = read(file)?;
        let lines = offsets_file::parse(&text)
            .map_err(|error| Failure::usage(format!("{name}, {error}")))?;
        let is_wanted = |line: &offsets_file::Line| {
            line.group.as_ref().is_none_or(|group| *group == self.group)
                && (self.topics.is_empty()
                    || self.topics.iter().any(|part| part.covers(&line.topic, line.partition)))
        };
        let lines = lines.into_iter().filter(is_wanted);
        Ok(lines.map(|line| ((line.topic, line.partition), Some(line.offset))).collect())
    }

    /// For a time: the offsets that have it.
    async fn times(
        &self,
        client: &Client,
        wanted: &BTreeMap<Key, Option<i64>>,
    ) -> Result<BTreeMap<Key, Option<i64>>, Failure> {
        let Some(Position::Time(timestamp)) = self.to else { return Ok(BTreeMap::new()) };
        let queries: Vec<TimeQuery> = wanted
            .keys()
            .map(|(topic, index)| TimeQuery { topic: topic.clone(), partition: *index, timestamp })
            .collect();
        let found = client.offsets_for_times(&queries).await?;
        Ok(wanted.keys().cloned().zip(found).collect())
    }
}

async fn ranges(
    client: &Client,
    wanted: &BTreeMap<Key, Option<i64>>,
) -> Result<BTreeMap<Key, (i64, i64)>, Failure> {
    let names: BTreeSet<&str> = wanted.keys().map(|(topic, _)| topic.as_str()).collect();
    let topics = client.describe(Some(&Vec::from_iter(names))).await?.topics;
    let ranges = client.offset_ranges(&topics).await?;
    Ok(ranges.into_iter().map(|one| ((one.topic, one.partition), (one.start, one.end))).collect())
}

/// Where `to` is in a log, `time` being what was found for a time.
fn place(to: Position, (start, end): (i64, i64), time: Option<i64>) -> i64 {
    match to {
        Position::Start => start,
        Position::End => end,
        Position::Offset(offset) => offset,
        Position::AfterStart(count) => start.saturating_add(count),
        Position::BeforeEnd(count) => end.saturating_sub(count),
        // Where all records are older, all of them are behind it.
        Position::Time(_) => time.unwrap_or(end),
    }
}

fn plan((topic, partition): Key, current: Option<i64>, wanted: i64, range: (i64, i64)) -> Plan {
    let (start, end) = range;
    let note = match wanted {
        below if below < start => Some(format!("the log begins at {start}")),
        above if above > end => Some(format!("the log ends at {end}")),
        _ => None,
    };
    Plan { topic, partition, current, new: wanted.clamp(start, end.max(start)), note }
}

fn read(file: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => Kind::NotFound,
            _ => Kind::Failed,
        };
        Failure::new(kind, format!("cannot read {}: {error}", file.display()))
    };
    let mut text = String::new();
    if file.as_os_str() == "-" {
        std::io::stdin().lock().take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    } else {
        let open = std::fs::File::open(file).map_err(failed)?;
        open.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    }
    Ok(text)
}

fn missing((topic, partition): &Key) -> Failure {
    Failure::not_found(format!("topic \"{topic}\" has no partition {partition}"))
}

fn nothing_committed((topic, partition): &Key) -> Failure {
    Failure::new(
        Kind::Precondition,
        format!("nothing is committed for partition {partition} of \"{topic}\": give --to PLACE"),
    )
}

fn committed(plans: &[Plan]) -> Vec<CommittedOffset> {
    let offset = |plan: &Plan| CommittedOffset {
        topic: plan.topic.clone(),
        partition: plan.partition,
        offset: plan.new,
        leader_epoch: None,
        metadata: String::new(),
    };
    plans.iter().map(offset).collect()
}

fn table(plans: &[Plan], outcomes: &[OffsetOutcome]) -> Rows {
    let mut rows = Rows::new(&["topic", "partition", "current", "new", "moves", "note", "error"]);
    for plan in plans {
        let outcome = outcomes
            .iter()
            .find(|outcome| outcome.topic == plan.topic && outcome.partition == plan.partition);
        let error = outcome.and_then(|outcome| outcome.result.as_ref().err());
        rows.push(vec![
            json!(plan.topic),
            json!(plan.partition),
            json!(plan.current),
            json!(plan.new),
            json!(plan.current.map(|current| plan.new - current)),
            json!(plan.note),
            json!(error.map(ToString::to_string)),
        ]);
    }
    rows
}

/// All, none or some of them were changed.
pub(super) fn conclude(group: &str, outcomes: Vec<OffsetOutcome>) -> Result<(), Failure> {
    let count = outcomes.len();
    let mut failures: Vec<Failure> = outcomes
        .into_iter()
        .filter_map(|outcome| Some(Failure::from(outcome.result.err()?)))
        .collect();
    match failures.len() {
        0 => Ok(()),
        failed if failed < count => Err(Failure::new(
            Kind::Partial,
            format!("{failed} of {count} offsets of group \"{group}\" could not be changed"),
        )),
        _ => Err(failures.remove(0).while_doing(format!("cannot change offsets of \"{group}\""))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_within_the_log() {
        let range = (10, 50);
        let at = |to| place(to, range, Some(33));
        assert_eq!((at(Position::Start), at(Position::End)), (10, 50));
        assert_eq!((at(Position::AfterStart(5)), at(Position::BeforeEnd(5))), (15, 45));
        assert_eq!(at(Position::Time(1)), 33);
        assert_eq!(place(Position::Time(1), range, None), 50, "all records are older");
        let key = || ("t".to_owned(), 0);
        let inside = plan(key(), Some(20), 33, range);
        assert_eq!((inside.new, inside.note), (33, None));
        let below = plan(key(), Some(20), -4, range);
        assert_eq!((below.new, below.note.as_deref()), (10, Some("the log begins at 10")));
        let above = plan(key(), None, 99, range);
        assert_eq!((above.new, above.note.as_deref()), (50, Some("the log ends at 50")));
    }
}
