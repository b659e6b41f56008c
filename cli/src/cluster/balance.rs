//! `sawlog cluster balance|add`: every broker gets its share.

use std::time::Duration;

use clap::Args;
use sawlog_client::{Client, ElectionType, QuorumInfo};
use tokio::time::{Instant, sleep};

use super::even;
use super::moving::{How, LOOK_EVERY, survey};
use super::plan::Placed;
use crate::failure::{Failure, Kind, say};
use crate::output::Output;

/// Spread replicas and leaderships evenly over the brokers that run, no two of a partition in one rack
/// if there are several
#[derive(Debug, Args)]
pub(crate) struct Balance {
    #[command(flatten)]
    how: How,
}

/// Print what to type to start a new broker; or, with its id, wait until it has joined and move its share
/// to it
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// The new broker
    #[arg(value_name = "ID")]
    broker: Option<i32>,
    /// How long to wait until it has joined
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = crate::position::parse_duration)]
    wait: Duration,
    /// Move nothing to it
    #[arg(long)]
    empty: bool,
    #[command(flatten)]
    how: How,
}

impl Balance {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let (places, all) = survey(client).await?;
        carry_out(client, &self.how, even::evened(&places, &all)).await
    }
}

impl Add {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let Some(broker) = self.broker else {
            let text = invitation(&client.describe_quorum().await?, "ID");
            return Output::write(text.as_bytes());
        };
        self.until_joined(client, broker).await?;
        say(format!("broker {broker} has joined"));
        if self.empty {
            return Ok(());
        }
        let (places, all) = survey(client).await?;
        carry_out(client, &self.how, even::shared_with(&places, &all, broker)).await
    }

    async fn until_joined(&self, client: &Client, broker: i32) -> Result<(), Failure> {
        let deadline = Instant::now() + self.wait;
        loop {
            let nodes = client.nodes().await?;
            let known = nodes.iter().find(|node| node.broker.id == broker);
            if known.is_some_and(|node| node.is_running) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let quorum = client.describe_quorum().await?;
                let how = invitation(&quorum, &broker.to_string());
                let line = how.lines().next().unwrap_or_default();
                let state = if known.is_some() { "does not run" } else { "has not joined" };
                return Err(Failure::new(
                    Kind::Precondition,
                    format!("broker {broker} {state} after {:?}; start it with: {line}", self.wait),
                ));
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// What starts a new broker, and what to do then.
fn invitation(quorum: &QuorumInfo, id: &str) -> String {
    let peers: Vec<&str> = quorum.peers.iter().map(String::as_str).collect();
    let is_local = |peer: &&str| peer.starts_with("127.") || peer.starts_with("localhost:");
    let open = if peers.iter().all(is_local) { "" } else { " --insecure" };
    format!(
        "sawlog serve --data DIR --listen HOST:9092 --peer-listen HOST:9093 -X node.id={id} --join \
         {}{open}\n",
        peers.join(",")
    )
}

/// Moves, and has those lead who are preferred to.
async fn carry_out(client: &Client, how: &How, plan: Vec<Placed>) -> Result<(), Failure> {
    if plan.is_empty() {
        say("nothing to move: every broker has its share");
    }
    let is_only_planned = how.is_only_planned();
    how.carry_out(client, plan).await?;
    if !is_only_planned {
        // Where nothing is to be done nothing is said; who cannot lead yet is left to the controller.
        client.elect_leaders(ElectionType::Preferred, None).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_type_names_all_peers_and_what_other_machines_need() {
        let quorum = |peers: &[&str]| QuorumInfo {
            leader: 1,
            epoch: 1,
            high_watermark: 1,
            replicas: Vec::new(),
            peers: peers.iter().map(|peer| (*peer).to_owned()).collect(),
        };
        let here = invitation(&quorum(&["127.0.0.1:9093", "127.0.0.2:9093"]), "4");
        assert!(here.ends_with("-X node.id=4 --join 127.0.0.1:9093,127.0.0.2:9093\n"), "{here}");
        let there = invitation(&quorum(&["10.0.0.1:9093"]), "4");
        assert!(there.ends_with("--join 10.0.0.1:9093 --insecure\n"), "{there}");
    }
}
