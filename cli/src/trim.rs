//! `sawlog topic trim`: delete the oldest records of a topic, up to an offset, a time or the end.
//!
//! Each partition has its own place, found before anything is deleted: what is shown is what goes.
//! One that fails does not keep the others from being trimmed.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use sawlog_client::{Client, Position};
use serde_json::json;

use crate::failure::{Failure, Kind, say};
use crate::output::{Output, Rows};
use crate::position::parse_position;
use crate::topic::{confirm, has_partition, known};

/// Delete the oldest records of a topic
#[derive(Debug, Args)]
pub(crate) struct Trim {
    /// The topic
    #[arg(add = ArgValueCandidates::new(crate::complete::topics))]
    name: String,
    /// Delete what is before this place: end (all there is), an offset, -N (keep the last N), +N
    /// (the first N), or @TIME (what is older; a time as for `consume -o`)
    #[arg(long, value_name = "PLACE", value_parser = parse_position, allow_hyphen_values = true)]
    to: Position,
    /// Only this partition; may be given several times
    #[arg(short = 'p', long = "partition", value_name = "N")]
    partitions: Vec<i32>,
    /// Do not ask
    #[arg(short = 'y', long)]
    yes: bool,
    /// Only say what would be deleted
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
}

/// What is to be deleted of one partition: `[start, to)`.
#[derive(Debug)]
struct Plan {
    partition: i32,
    start: i64,
    end: i64,
    to: i64,
}

impl Trim {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let partitions = self.wanted(client).await?;
        let mut plans = Vec::with_capacity(partitions.len());
        let mut failures = Vec::new();
        for partition in partitions {
            match plan(client, &self.name, partition, self.to).await {
                Ok(plan) => plans.push(Ok(plan)),
                Err(failure) => plans.push(Err((partition, failure))),
            }
        }
        let records: i64 = plans.iter().flatten().map(Plan::records).sum();
        if !self.dry_run && !self.yes && records > 0 {
            confirm(&self.name, &format!("the {records} oldest records"))?;
        }
        let mut rows = Rows::new(&["partition", "first offset", "end offset", "deleted", "error"]);
        let count = plans.len();
        for planned in plans {
            let done = match planned {
                Ok(plan) if self.dry_run || plan.records() == 0 => Ok((plan.to, plan)),
                Ok(plan) => {
                    match client.delete_records(&self.name, plan.partition, plan.to).await {
                        Ok(start) => Ok((start, plan)),
                        Err(error) => Err((plan.partition, Failure::from(error))),
                    }
                }
                Err(failed) => Err(failed),
            };
            rows.push(match done {
                Ok((start, plan)) => vec![
                    json!(plan.partition),
                    json!(start),
                    json!(plan.end),
                    json!((start - plan.start).max(0)),
                    json!(null),
                ],
                Err((partition, failure)) => {
                    let row = vec![
                        json!(partition),
                        json!(null),
                        json!(null),
                        json!(0),
                        json!(failure.to_string()),
                    ];
                    failures.push(failure);
                    row
                }
            });
        }
        self.output.print(&rows)?;
        self.conclude(failures, count)
    }

    /// The partitions asked for, all of which must be there.
    async fn wanted(&self, client: &Client) -> Result<Vec<i32>, Failure> {
        let topic = known(client, &self.name).await?;
        if self.partitions.is_empty() {
            return Ok(topic.partitions.iter().map(|partition| partition.index).collect());
        }
        let mut wanted = self.partitions.clone();
        wanted.sort_unstable();
        wanted.dedup();
        wanted.iter().try_for_each(|index| has_partition(&topic, *index))?;
        Ok(wanted)
    }

    fn conclude(&self, mut failures: Vec<Failure>, count: usize) -> Result<(), Failure> {
        if self.dry_run && failures.is_empty() {
            say("nothing was deleted: --dry-run");
        }
        match failures.len() {
            0 => Ok(()),
            failed if failed < count => Err(Failure::new(
                Kind::Partial,
                format!("{failed} of {count} partitions of \"{}\" could not be trimmed", self.name),
            )),
            _ => Err(failures.remove(0).while_doing(format!("cannot trim \"{}\"", self.name))),
        }
    }
}

impl Plan {
    fn records(&self) -> i64 {
        (self.to - self.start).max(0)
    }
}

/// Finds the place in one partition.
async fn plan(client: &Client, topic: &str, partition: i32, to: Position) -> Result<Plan, Failure> {
    let (start, end) = client.offsets(topic, partition).await?;
    let place = match to {
        Position::Start => start,
        Position::End => end,
        Position::Offset(offset) if offset > end => {
            let what = format!("offset {offset} is beyond the end of partition {partition}, {end}");
            return Err(Failure::new(Kind::Precondition, what));
        }
        Position::Offset(offset) => offset.max(start),
        Position::AfterStart(count) => start.saturating_add(count).min(end),
        Position::BeforeEnd(count) => end.saturating_sub(count).max(start),
        // Where all records are older, all of them go.
        Position::Time(time) => client.offset_at(topic, partition, time).await?.unwrap_or(end),
    };
    Ok(Plan { partition, start, end, to: place })
}
