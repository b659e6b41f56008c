//! `sawlog cluster elect`: who leads.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use sawlog_client::{Client, ElectionType, TopicPartition};
use serde_json::json;

use super::moving::chosen;
use crate::failure::{Failure, Kind, say};
use crate::output::{Output, Rows};
use crate::topic::confirm_to;

/// Have the preferred replicas lead again, or have anybody lead where nobody who has everything runs
#[derive(Debug, Args)]
pub(crate) struct Elect {
    /// The topics, or single partitions as TOPIC:PARTITION; all if none is named
    #[arg(value_name = "TOPIC[:PARTITION]", add = ArgValueCandidates::new(crate::complete::topics))]
    of: Vec<String>,
    /// Where a partition has no leader, take any replica that runs. What only the others had is lost,
    /// also if they come back
    #[arg(long, requires = "of")]
    unclean: bool,
    /// Do not ask
    #[arg(short = 'y', long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
}

impl Elect {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let election = if self.unclean { ElectionType::Unclean } else { ElectionType::Preferred };
        let partitions: Vec<TopicPartition> = chosen(client, &self.of)
            .await?
            .into_iter()
            .map(|placed| TopicPartition { topic: placed.topic, partition: placed.partition })
            .collect();
        if self.unclean && !self.yes {
            let name = self.of.join(" ");
            confirm_to(&name, "lose what the elected replicas do not have")?;
        }
        let asked = (!self.of.is_empty()).then_some(partitions.as_slice());
        let outcomes = client.elect_leaders(election, asked).await?;
        let failed = outcomes.iter().filter(|outcome| outcome.result.is_err()).count();
        let mut rows = Rows::new(&["partition", "elected", "why not"]);
        for outcome in &outcomes {
            rows.push(vec![
                json!(format!("{}:{}", outcome.of.topic, outcome.of.partition)),
                json!(outcome.result.is_ok()),
                json!(outcome.result.as_ref().err().map(ToString::to_string)),
            ]);
        }
        self.output.print(&rows)?;
        if outcomes.is_empty() {
            say("nothing to do: the right replicas lead");
        }
        match failed {
            0 => Ok(()),
            _ if failed < outcomes.len() => Err(Failure::new(
                Kind::Partial,
                format!("{failed} of {} have no other leader", outcomes.len()),
            )),
            _ => Err(Failure::new(Kind::Precondition, "no leader was elected")),
        }
    }
}
