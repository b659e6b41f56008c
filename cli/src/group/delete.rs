//! `sawlog group delete`: groups with all their offsets, or offsets alone.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use sawlog_client::Client;

use super::{TopicPart, known, known_and_empty, parse_topic, seek};
use crate::failure::{Failure, say};
use crate::topic::confirm_to;

/// Delete groups without members, with all their offsets
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The groups
    #[arg(required = true, add = ArgValueCandidates::new(crate::complete::groups))]
    groups: Vec<String>,
    /// Delete only the offsets of this topic, or of partitions of it (TOPIC:0,3), and keep the
    /// group; may be given several times. Members must not read the topic
    #[arg(short = 't', long = "topic", value_name = "TOPIC[:P,...]", value_parser = parse_topic, add = ArgValueCandidates::new(crate::complete::topics))]
    topics: Vec<TopicPart>,
    /// Do not ask
    #[arg(short = 'y', long)]
    yes: bool,
    /// Only say what would be deleted
    #[arg(long)]
    dry_run: bool,
}

impl Delete {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        for name in &self.groups {
            if self.topics.is_empty() {
                self.delete(client, name).await?;
            } else {
                self.delete_offsets(client, name).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, client: &Client, name: &str) -> Result<(), Failure> {
        known_and_empty(client, name, "cannot delete").await?;
        let count = client.committed_offsets(name).await?.len();
        if self.dry_run {
            say(format!("would delete group \"{name}\" with {count} offsets"));
            return Ok(());
        }
        if !self.yes {
            confirm_to(name, &format!("delete group \"{name}\" with {count} offsets"))?;
        }
        client.delete_group(name).await.map_err(|error| {
            Failure::from(error).while_doing(format!("cannot delete group \"{name}\""))
        })?;
        say(format!("deleted group \"{name}\""));
        Ok(())
    }

    async fn delete_offsets(&self, client: &Client, name: &str) -> Result<(), Failure> {
        known(client, name).await?;
        let committed = client.committed_offsets(name).await?;
        let wanted: Vec<(String, i32)> = committed
            .into_iter()
            .filter(|one| self.topics.iter().any(|part| part.covers(&one.topic, one.partition)))
            .map(|one| (one.topic, one.partition))
            .collect();
        if wanted.is_empty() {
            return Err(Failure::not_found(format!(
                "group \"{name}\" has no offsets there; see `sawlog group lag {name}`"
            )));
        }
        let what = format!("{} offsets of group \"{name}\"", wanted.len());
        if self.dry_run {
            say(format!("would delete {what}"));
            return Ok(());
        }
        if !self.yes {
            confirm_to(name, &format!("delete {what}"))?;
        }
        let outcomes = client.delete_group_offsets(name, &wanted).await?;
        seek::conclude(name, outcomes)?;
        say(format!("deleted {what}"));
        Ok(())
    }
}
