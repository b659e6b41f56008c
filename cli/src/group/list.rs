//! `sawlog group list` and `describe`.

use clap::Args;
use sawlog_client::{Client, GroupFilter};
use serde_json::json;

use super::{known, lag};
use crate::failure::Failure;
use crate::output::{Output, Rows};

/// The states of groups, in the order of a group's life.
const STATES: [&str; 7] = [
    "Empty",
    "PreparingRebalance",
    "CompletingRebalance",
    "Assigning",
    "Reconciling",
    "Stable",
    "Dead",
];

/// List groups
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only groups in these states, separated by commas: empty, preparingrebalance,
    /// completingrebalance, assigning, reconciling, stable, dead
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = parse_state)]
    state: Vec<String>,
    /// Only groups whose members speak this protocol: classic or consumer
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', value_parser = ["classic", "consumer"])]
    types: Vec<String>,
    #[command(flatten)]
    output: Output,
}

fn parse_state(text: &str) -> Result<String, String> {
    let found = STATES.iter().find(|state| state.eq_ignore_ascii_case(text));
    found.map(|state| (*state).to_owned()).ok_or_else(|| {
        format!("expected one of {}", STATES.map(str::to_ascii_lowercase).join(", "))
    })
}

impl List {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let filter = GroupFilter { states: self.state, types: self.types };
        let mut rows = Rows::new(&["group", "state", "type", "protocol", "coordinator"]);
        for group in client.list_groups(&filter).await? {
            rows.push(vec![
                json!(group.group),
                json!(group.state),
                json!(group.group_type),
                json!(group.protocol_type),
                json!(group.coordinator),
            ]);
        }
        self.output.print(&rows)
    }
}

/// One row for each group.
pub(crate) async fn describe(
    client: &Client,
    groups: &[String],
    output: &Output,
) -> Result<(), Failure> {
    let mut rows = Rows::new(&[
        "group",
        "state",
        "type",
        "protocol",
        "assignor",
        "epoch",
        "members",
        "topics",
        "partitions",
        "lag",
        "coordinator",
        "address",
    ]);
    for name in groups {
        let group = known(client, name).await?;
        let parts = lag::parts_of(client, &group).await?;
        let mut topics: Vec<&str> = parts.iter().map(|part| part.topic.as_str()).collect();
        topics.dedup();
        rows.push(vec![
            json!(group.group),
            json!(group.state),
            json!(group.group_type),
            json!(group.protocol_type),
            json!(group.assignor),
            json!(group.epoch),
            json!(group.members.len()),
            json!(topics),
            json!(parts.len()),
            json!(parts.iter().filter_map(lag::Part::records).sum::<i64>()),
            json!(group.coordinator.id),
            json!(group.coordinator.address()),
        ]);
    }
    output.print(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_named_in_any_case() {
        assert_eq!(parse_state("stable").as_deref(), Ok("Stable"));
        assert_eq!(parse_state("PREPARINGREBALANCE").as_deref(), Ok("PreparingRebalance"));
        assert!(parse_state("sleeping").is_err());
    }
}
