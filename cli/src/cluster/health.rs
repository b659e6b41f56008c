//! `sawlog cluster health`: whether every partition has a leader and all its copies, as one answer for
//! scripts that stop brokers one after another.

use std::time::{Duration, Instant};

use clap::Args;
use sawlog_client::{Client, ConfigResource, TopicInfo};
use serde_json::json;

use crate::failure::{Failure, Kind};
use crate::output::{Output, Rows};

/// How often it is looked again with --wait.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long the controller may take to say that it is there: an election is over by then.
pub(crate) const CONTROLLER_WITHIN: Duration = Duration::from_secs(5);

/// Say whether the cluster is whole: brokers, leaders, copies. Exits with 8 where it is not
#[derive(Debug, Args)]
pub(crate) struct Health {
    /// Wait until it is whole, at most so long
    #[arg(long, value_name = "TIME", value_parser = crate::position::parse_duration)]
    wait: Option<Duration>,
    #[command(flatten)]
    output: Output,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    name: &'static str,
    is_well: bool,
    detail: String,
}

/// How many partitions lack what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copies {
    /// A leader.
    pub(crate) leaderless: usize,
    /// A copy in sync.
    pub(crate) missing: usize,
    /// Copies in sync, so that acks=all is refused.
    pub(crate) too_few: usize,
    /// A second copy, by design.
    pub(crate) single: usize,
    /// Nothing, or any of it.
    pub(crate) all: usize,
}

impl Copies {
    /// Of all partitions of these topics.
    pub(crate) async fn of(client: &Client, topics: &[TopicInfo]) -> Result<Self, Failure> {
        let mut sum = Self::default();
        for topic in topics {
            let least = least_in_sync(client, topic).await?;
            count(&mut sum, topic, least);
        }
        Ok(sum)
    }
}

impl Health {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let started = Instant::now();
        let checks = loop {
            let looked = look(client).await;
            let is_over = self.wait.is_none_or(|wait| started.elapsed() >= wait);
            match looked {
                Ok(checks) if is_over || checks.iter().all(|check| check.is_well) => break checks,
                Err(failure) if is_over => return Err(failure),
                Ok(_) | Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        };
        let mut rows = Rows::new(&["check", "well", "detail"]);
        for check in &checks {
            rows.push(vec![json!(check.name), json!(check.is_well), json!(check.detail)]);
        }
        self.output.print(&rows)?;
        let ill: Vec<_> = checks.iter().filter(|check| !check.is_well).map(|c| c.name).collect();
        if ill.is_empty() {
            return Ok(());
        }
        Err(Failure::new(Kind::Unhealthy, format!("the cluster is not whole: {}", ill.join(", "))))
    }
}

async fn look(client: &Client) -> Result<Vec<Check>, Failure> {
    let nodes = client.nodes().await?;
    let cluster = client.describe(None).await?;
    let gone: Vec<String> = nodes
        .iter()
        .filter(|node| !node.is_running)
        .map(|node| node.broker.id.to_string())
        .collect();
    let brokers = Check {
        name: "brokers",
        is_well: gone.is_empty(),
        detail: match gone.as_slice() {
            [] => format!("{} running", nodes.len()),
            gone => format!("{} of {} not running: {}", gone.len(), nodes.len(), gone.join(", ")),
        },
    };
    let sum = Copies::of(client, &cluster.topics).await?;
    Ok([vec![controller(client).await, brokers], of_copies(sum)].concat())
}

/// What the brokers say of themselves is what they heard last: without a controller it stays as it
/// was.
async fn controller(client: &Client) -> Check {
    let check = |is_well, detail| Check { name: "controller", is_well, detail };
    match tokio::time::timeout(CONTROLLER_WITHIN, client.describe_quorum()).await {
        Ok(Ok(quorum)) => {
            let voters = quorum.replicas.iter().filter(|node| node.is_voter).count();
            check(true, format!("broker {} leads, voters: {voters}", quorum.leader))
        }
        Ok(Err(error)) => check(false, error.to_string()),
        Err(_) => check(false, format!("no answer within {CONTROLLER_WITHIN:?}")),
    }
}

/// `min.insync.replicas`, asked for only where copies are missing: it is a request for each topic.
async fn least_in_sync(client: &Client, topic: &TopicInfo) -> Result<usize, Failure> {
    if topic.partitions.iter().all(|partition| partition.isr.len() >= partition.replicas.len()) {
        return Ok(1);
    }
    let configs = client.configs(ConfigResource::Topic(&topic.name)).await?;
    let setting = configs.iter().find(|config| config.name == "min.insync.replicas");
    let value = setting.and_then(|setting| setting.value.as_deref());
    Ok(value.and_then(|value| value.parse().ok()).unwrap_or(1))
}

fn count(sum: &mut Copies, topic: &TopicInfo, least: usize) {
    for partition in &topic.partitions {
        let (replicas, isr) = (partition.replicas.len(), partition.isr.len());
        sum.all += 1;
        sum.leaderless += usize::from(partition.leader < 0);
        sum.missing += usize::from(isr < replicas);
        sum.too_few += usize::from(isr < least.min(replicas));
        sum.single += usize::from(replicas == 1);
    }
}

fn of_copies(sum: Copies) -> Vec<Check> {
    let check = |name, count: usize, what: &str| Check {
        name,
        is_well: count == 0,
        detail: format!("{count} of {} partitions {what}", sum.all),
    };
    vec![
        check("leaders", sum.leaderless, "without a leader"),
        check("writable", sum.too_few, "with fewer copies in sync than acks=all demands"),
        Check {
            detail: format!(
                "{} of {} partitions with copies that are missing or behind, {} with a single one",
                sum.missing, sum.all, sum.single
            ),
            ..check("copies", sum.missing, "")
        },
    ]
}

#[cfg(test)]
mod tests {
    use sawlog_client::PartitionInfo;

    use super::*;

    #[test]
    fn each_partition_counts_for_what_it_lacks() {
        let partition = |index, leader, replicas: &[i32], isr: &[i32]| PartitionInfo {
            index,
            leader,
            leader_epoch: 0,
            replicas: replicas.to_vec(),
            isr: isr.to_vec(),
        };
        let topic = TopicInfo {
            name: "t".to_owned(),
            id: sawlog_protocol::Uuid::ZERO,
            internal: false,
            partitions: vec![
                partition(0, 1, &[1, 2, 3], &[1, 2, 3]),
                partition(1, 2, &[1, 2, 3], &[2, 3]),
                partition(2, 3, &[1, 2, 3], &[3]),
                partition(3, -1, &[1], &[]),
            ],
        };
        let mut sum = Copies::default();
        count(&mut sum, &topic, 2);
        assert_eq!(sum, Copies { leaderless: 1, missing: 3, too_few: 2, single: 1, all: 4 });
        let checks = of_copies(sum);
        assert!(checks.iter().all(|check| !check.is_well), "{checks:?}");
        assert!(of_copies(Copies::default()).iter().all(|check| check.is_well));
    }
}
