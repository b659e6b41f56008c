//! `sawlog cluster`: the brokers, where replicas are, who leads, settings.

mod balance;
mod config;
mod electing;
pub(crate) mod even;
pub(crate) mod health;
pub(crate) mod moving;
mod nodes;
mod plan;

use clap::Subcommand;
use sawlog_client::Client;
use serde_json::json;

use crate::Global;
use crate::failure::Failure;
use crate::output::{Output, Rows};

/// Show and run the cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// The brokers clients are told of
    Info {
        #[command(flatten)]
        output: Output,
    },
    Health(health::Health),
    /// Every broker that is registered, running or not, and how many replicas it has
    Nodes {
        #[command(flatten)]
        output: Output,
    },
    /// Who agrees on the metadata, and how far each is behind
    Quorum {
        #[command(flatten)]
        output: Output,
    },
    Add(balance::Add),
    Balance(balance::Balance),
    Elect(electing::Elect),
    Move(moving::Move),
    Spread(moving::Spread),
    Drain(moving::Drain),
    Verify(moving::Verify),
    Remove(nodes::Remove),
    Config(config::Config),
}

impl Cluster {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.connect().await?;
        match self {
            Self::Info { output } => info(&client, &output).await,
            Self::Health(health) => health.run(&client).await,
            Self::Nodes { output } => nodes::nodes(&client, &output).await,
            Self::Quorum { output } => nodes::quorum(&client, &output).await,
            Self::Add(add) => add.run(&client).await,
            Self::Balance(balance) => balance.run(&client).await,
            Self::Elect(elect) => elect.run(&client).await,
            Self::Move(moving) => moving.run(&client).await,
            Self::Spread(spread) => spread.run(&client).await,
            Self::Drain(drain) => drain.run(&client).await,
            Self::Verify(verify) => verify.run(&client).await,
            Self::Remove(remove) => remove.run(&client).await,
            Self::Config(config) => {
                let cluster = client.describe(Some(&[])).await?;
                config.run(&client, &cluster.brokers).await
            }
        }
    }
}

async fn info(client: &Client, output: &Output) -> Result<(), Failure> {
    let cluster = client.describe(Some(&[])).await?;
    let mut rows = Rows::new(&["id", "host", "port", "rack", "controller", "cluster"]);
    for broker in &cluster.brokers {
        rows.push(vec![
            json!(broker.id),
            json!(broker.host),
            json!(broker.port),
            json!(broker.rack),
            json!(broker.id == cluster.controller),
            json!(cluster.cluster_id),
        ]);
    }
    output.print(&rows)
}
