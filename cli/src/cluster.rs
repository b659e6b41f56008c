//! `sawlog cluster`: the brokers and their settings.

mod config;

use clap::Subcommand;
use serde_json::json;

use crate::Global;
use crate::failure::Failure;
use crate::output::{Output, Rows};

/// Show the cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// The brokers
    Info {
        #[command(flatten)]
        output: Output,
    },
    Config(config::Config),
}

impl Cluster {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.connect().await?;
        let cluster = client.describe(Some(&[])).await?;
        match self {
            Self::Info { output } => {
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
            Self::Config(config) => config.run(&client, &cluster.brokers).await,
        }
    }
}
