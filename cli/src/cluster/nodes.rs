//! `sawlog cluster nodes|quorum|remove`: who takes part.

use clap::Args;
use sawlog_client::{Client, QuorumInfo};
use serde_json::json;

use crate::failure::{Failure, say};
use crate::output::{Output, Rows};

/// Have a broker forgotten that is stopped and will not come back
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The broker
    #[arg(value_name = "ID")]
    broker: i32,
    /// Also if it still has replicas: they stay missing until they are moved
    #[arg(long)]
    force: bool,
}

impl Remove {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let broker = self.broker;
        if !self.force {
            let cluster = client.describe(None).await?;
            let all = cluster.topics.iter().flat_map(|topic| &topic.partitions);
            let has = all.filter(|partition| partition.replicas.contains(&broker)).count();
            if has > 0 {
                return Err(Failure::new(
                    crate::failure::Kind::Precondition,
                    format!(
                        "broker {broker} has replicas of {has} partitions: move them away with \
                         `sawlog cluster drain {broker}`, or give --force"
                    ),
                ));
            }
        }
        client.unregister_broker(broker).await.map_err(|error| {
            Failure::from(error).while_doing(format!("cannot remove broker {broker}"))
        })?;
        say(format!("broker {broker} is forgotten"));
        Ok(())
    }
}

/// Every broker that is registered, and what it holds.
pub(super) async fn nodes(client: &Client, output: &Output) -> Result<(), Failure> {
    let nodes = client.nodes().await?;
    let cluster = client.describe(None).await?;
    let partitions: Vec<_> =
        cluster.topics.iter().flat_map(|topic| topic.partitions.iter()).collect();
    let mut rows =
        Rows::new(&["id", "host", "port", "rack", "state", "leads", "replicas", "in sync"]);
    for node in &nodes {
        let id = node.broker.id;
        let count = |has: &dyn Fn(&sawlog_client::PartitionInfo) -> bool| {
            partitions.iter().filter(|partition| has(partition)).count()
        };
        rows.push(vec![
            json!(id),
            json!(node.broker.host),
            json!(node.broker.port),
            json!(node.broker.rack),
            json!(if node.is_running { "running" } else { "not running" }),
            json!(count(&|partition| partition.leader == id)),
            json!(count(&|partition| partition.replicas.contains(&id))),
            json!(count(&|partition| partition.isr.contains(&id))),
        ]);
    }
    output.print(&rows)
}

/// Who agrees on the metadata, and how far each is behind.
pub(super) async fn quorum(client: &Client, output: &Output) -> Result<(), Failure> {
    let quorum = client.describe_quorum().await?;
    let mut rows = Rows::new(&[
        "node",
        "role",
        "leader",
        "epoch",
        "log end",
        "behind",
        "heard of",
        "directory",
    ]);
    let end = leader_end(&quorum);
    for replica in &quorum.replicas {
        let is_leader = replica.node == quorum.leader;
        rows.push(vec![
            json!(replica.node),
            json!(if replica.is_voter { "voter" } else { "observer" }),
            json!(is_leader),
            json!(is_leader.then_some(quorum.epoch)),
            json!(Some(replica.log_end).filter(|end| *end >= 0)),
            json!((replica.log_end >= 0).then(|| (end - replica.log_end).max(0))),
            json!(replica.heard_of_at.map(crate::group::timeline::time)),
            json!(Some(replica.directory).filter(|id| !id.is_zero()).map(|id| id.to_string())),
        ]);
    }
    output.print(&rows)
}

/// Where the leader's log ends; what is agreed on, if that is not told.
fn leader_end(quorum: &QuorumInfo) -> i64 {
    let leader = quorum.replicas.iter().find(|replica| replica.node == quorum.leader);
    leader.map_or(quorum.high_watermark, |leader| leader.log_end).max(quorum.high_watermark)
}
