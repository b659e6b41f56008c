//! `sawlog doctor cluster`: what would make the loss of the next broker hurt, and what hurts already.
//! Changes nothing.

use std::time::Duration;

use clap::Args;
use sawlog_client::{BrokerInfo, Client, ClusterInfo, ClusterNode, QuorumInfo, TopicInfo};

use super::probe::{self, Advertised};
use super::{Findings, STEP_MAX, Trouble, Verdict};
use crate::Global;
use crate::cluster::even::evened;
use crate::cluster::health::{CONTROLLER_WITHIN, Copies};
use crate::cluster::moving::survey;
use crate::failure::{Failure, Kind};
use crate::output::Output;

/// Below this share of a file system it is told that little is free, in percent.
const FREE_PERCENT_MIN: u64 = 10;

/// Brokers from which on a topic with a single copy has one by mistake.
const BROKERS_FOR_COPIES: usize = 3;

/// Names that are told of a longer list.
const NAMED_MAX: usize = 5;

/// A voter that lacks more entries than this is not just a moment behind.
const BEHIND_MAX: i64 = 1_000;

/// One in so many replicas, or leaderships, may be where it need not be.
const UNEVEN_SHARE: usize = 10;

/// Look at the cluster as a whole: quorum, brokers, copies, disks, listeners, versions. What is wrong is told
/// with its remedy; exits with 8 where something is bad
#[derive(Debug, Args)]
pub(crate) struct Cluster {
    #[command(flatten)]
    output: Output,
}

impl Cluster {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.connect().await?;
        let patience = global.timeout.min(STEP_MAX);
        let findings = examine(&client, &global.bootstrap()?, patience).await?;
        findings.print(&self.output)?;
        let bad = findings.all.iter().filter(|one| one.verdict == Verdict::Bad).count();
        if bad == 0 {
            return Ok(());
        }
        let what = format!("{bad} of {} findings are bad", findings.all.len());
        Err(Failure::new(Kind::Unhealthy, what))
    }
}

async fn examine(
    client: &Client,
    bootstrap: &str,
    patience: Duration,
) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    let nodes = client.nodes().await?;
    match tokio::time::timeout(CONTROLLER_WITHIN, client.describe_quorum()).await {
        Ok(Ok(known)) => quorum(&known, &nodes, &mut findings),
        Ok(Err(error)) => no_quorum(&error.to_string(), &mut findings),
        Err(_) => no_quorum("nobody answers", &mut findings),
    }
    brokers(&nodes, &mut findings);
    let cluster = client.describe(None).await?;
    copies(Copies::of(client, &cluster.topics).await?, &mut findings);
    let running = nodes.iter().filter(|node| node.is_running).count();
    single_copies(&cluster.topics, running, &mut findings);
    let (places, placed) = survey(client).await?;
    let uneven = evened(&places, &placed).len();
    balance(&cluster.topics, uneven, &mut findings);
    disks(client, &mut findings).await?;
    let advertised = advertised(&cluster);
    let local =
        bootstrap.split(',').all(|at| at.trim().starts_with("127.") || at.starts_with("localhost"));
    let probed = move || probe::all(&advertised, local, patience);
    let probed = tokio::task::spawn_blocking(probed).await;
    let probed = probed.map_err(|error| Failure::failed(format!("the probe failed: {error}")))?;
    findings.all.extend(probed.all);
    Ok(findings)
}

fn no_quorum(why: &str, findings: &mut Findings) {
    let what = format!("there is no controller: {why}");
    let fix = "start the brokers that vote on the metadata: more than half of them have to run, and to \
               reach each other (peer.listener)";
    findings.bad("quorum", "metadata", Trouble::new(what, fix));
}

fn quorum(quorum: &QuorumInfo, nodes: &[ClusterNode], findings: &mut Findings) {
    let voters: Vec<_> = quorum.replicas.iter().filter(|one| one.is_voter).collect();
    let runs = |id: i32| nodes.iter().any(|node| node.broker.id == id && node.is_running);
    let gone: Vec<i32> = voters.iter().map(|one| one.node).filter(|id| !runs(*id)).collect();
    let behind: Vec<i32> = voters
        .iter()
        .filter(|one| runs(one.node) && quorum.high_watermark - one.log_end > BEHIND_MAX)
        .map(|one| one.node)
        .collect();
    let count = voters.len();
    let spare = count.saturating_sub(1) / 2;
    let target = "metadata";
    if !gone.is_empty() {
        let what = format!(
            "{} of {count} voters do not run: {}; nothing is decided once more than {spare} are gone",
            gone.len(),
            list(&gone)
        );
        let fix = "start them again; one that is lost for good: start a new disk of it under the same \
                   node.id with --join";
        findings.bad("quorum", target, Trouble::new(what, fix));
    } else if !behind.is_empty() {
        let what = format!("voters far behind: {}", list(&behind));
        findings.doubtful("quorum", target, what, "see their logs and disks".to_owned());
    } else {
        let what =
            format!("broker {} leads {count} voters, {spare} of which may fail", quorum.leader);
        findings.good("quorum", target, what);
    }
    if count > 1 && count % 2 == 0 {
        let what = format!("{count} voters bear no more failures than {}", count - 1);
        let fix = "have an odd number of them: start one more broker with --join".to_owned();
        findings.doubtful("voters", target, what, fix);
    } else if count == 1 && nodes.len() > 1 {
        let what = format!("1 voter for {} brokers: nothing is decided without it", nodes.len());
        let fix = "start a third broker with --join: three vote then".to_owned();
        findings.doubtful("voters", target, what, fix);
    }
}

fn brokers(nodes: &[ClusterNode], findings: &mut Findings) {
    for node in nodes.iter().filter(|node| !node.is_running) {
        let id = node.broker.id;
        let fix = format!(
            "start it; if it will not come back: `sawlog cluster drain {id}`, then `sawlog cluster \
             remove {id}`"
        );
        let what = format!("broker {id} does not run, or is kept out until it has caught up");
        findings.bad("brokers", &node.broker.address(), Trouble::new(what, fix));
    }
    if nodes.iter().all(|node| node.is_running) {
        findings.good("brokers", "all", format!("{} run", nodes.len()));
    }
    let with_rack = nodes.iter().filter(|node| node.broker.rack.is_some()).count();
    if with_rack > 0 && with_rack < nodes.len() {
        let what = format!("{with_rack} of {} brokers say which rack they are in", nodes.len());
        let fix = "set broker.rack on all or on none".to_owned();
        findings.doubtful("racks", "all", what, fix);
    }
}

fn copies(sum: Copies, findings: &mut Findings) {
    let all = sum.all;
    let checks = [
        (
            sum.leaderless,
            "have no leader",
            "start the brokers that hold them (`sawlog topic describe`); `sawlog cluster elect \
             TOPIC:PARTITION --unclean` gives up what only those have",
        ),
        (
            sum.too_few,
            "have fewer copies in sync than acks=all demands: such writes are refused",
            "start the brokers that hold the others, or lower min.insync.replicas",
        ),
        (
            sum.missing,
            "have copies that are missing or behind",
            "wait until they have caught up (`sawlog cluster health --wait 60s`), or start the brokers \
             that hold them",
        ),
    ];
    for (count, what, fix) in checks {
        if count > 0 {
            let what = format!("{count} of {all} partitions {what}");
            findings.bad("partitions", "all", Trouble::new(what, fix));
        }
    }
    if sum.leaderless + sum.too_few + sum.missing == 0 {
        findings.good("partitions", "all", format!("{all} have a leader and all their copies"));
    }
}

fn single_copies(topics: &[TopicInfo], running: usize, findings: &mut Findings) {
    if running < BROKERS_FOR_COPIES {
        return;
    }
    let is_single = |topic: &&TopicInfo| topic.partitions.iter().any(|one| one.replicas.len() == 1);
    let names: Vec<&str> =
        topics.iter().filter(is_single).map(|topic| topic.name.as_str()).collect();
    if names.is_empty() {
        return;
    }
    let what = format!(
        "{} topics have a single copy, and are gone with their broker: {}",
        names.len(),
        list(&names)
    );
    let fix = "sawlog cluster spread TOPIC --replicas 3".to_owned();
    findings.doubtful("copies", "all", what, fix);
}

fn balance(topics: &[TopicInfo], uneven: usize, findings: &mut Findings) {
    let all: Vec<_> = topics.iter().flat_map(|topic| &topic.partitions).collect();
    let elsewhere = |one: &&&sawlog_client::PartitionInfo| {
        one.leader >= 0 && one.replicas.first() != Some(&one.leader)
    };
    let elsewhere = all.iter().filter(elsewhere).count();
    if elsewhere > all.len() / UNEVEN_SHARE {
        let what =
            format!("{elsewhere} of {} partitions are led by another than preferred", all.len());
        let fix = "sawlog cluster elect; it is done by itself after a while, too".to_owned();
        findings.doubtful("leaders", "all", what, fix);
    }
    if uneven > all.len() / UNEVEN_SHARE {
        let what = format!("{uneven} of {} partitions could be placed more evenly", all.len());
        let fix = "sawlog cluster balance --dry-run".to_owned();
        findings.doubtful("balance", "all", what, fix);
    }
}

async fn disks(client: &Client, findings: &mut Findings) -> Result<(), Failure> {
    let (directories, silent) = client.reachable_log_dirs().await?;
    for directory in &directories {
        let target = format!("broker {}: {}", directory.broker, directory.path);
        if let Some(why) = directory.failure {
            let fix = "repair or replace the disk, then start the broker again";
            findings.bad("disks", &target, Trouble::new(why.message(), fix));
            continue;
        }
        let (Some(total), Some(free)) = (directory.total_bytes, directory.usable_bytes) else {
            continue;
        };
        let percent = (u128::from(free) * 100).checked_div(u128::from(total)).unwrap_or(100);
        let what = format!("{percent} % of its file system is free");
        if percent < u128::from(FREE_PERCENT_MIN) {
            let fix = "make room, lower retention.bytes or retention.ms, or move replicas away";
            findings.doubtful("disks", &target, what, fix.to_owned());
        } else {
            findings.good("disks", &target, what);
        }
    }
    for (broker, error) in &silent {
        let trouble = Trouble::new(error.to_string(), "see the steps of its listener");
        findings.bad("disks", &format!("broker {broker}"), trouble);
    }
    Ok(())
}

fn advertised(cluster: &ClusterInfo) -> Vec<Advertised> {
    let one = |broker: &BrokerInfo| Advertised {
        id: broker.id,
        host: broker.host.clone(),
        port: broker.port,
    };
    cluster.brokers.iter().map(one).collect()
}

/// The first of them, and that there are more.
fn list<T: ToString>(all: &[T]) -> String {
    let mut text: Vec<String> = all.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    if all.len() > NAMED_MAX {
        text.push("…".to_owned());
    }
    text.join(", ")
}

#[cfg(test)]
mod tests {
    use sawlog_client::QuorumReplica;
    use sawlog_protocol::Uuid;

    use super::*;

    fn nodes(running: &[bool]) -> Vec<ClusterNode> {
        let node = |(id, is_running): (i32, &bool)| ClusterNode {
            broker: BrokerInfo { id, host: "h".to_owned(), port: 9092, rack: None },
            is_running: *is_running,
        };
        (1..).zip(running).map(node).collect()
    }

    fn voters(ends: &[i64]) -> QuorumInfo {
        let replica = |(node, log_end): (i32, &i64)| QuorumReplica {
            node,
            directory: Uuid::ZERO,
            is_voter: true,
            log_end: *log_end,
            heard_of_at: None,
            caught_up_at: None,
        };
        QuorumInfo {
            leader: 1,
            epoch: 1,
            high_watermark: 5_000,
            replicas: (1..).zip(ends).map(replica).collect(),
            peers: Vec::new(),
        }
    }

    fn said(of: &QuorumInfo, running: &[bool]) -> Vec<(Verdict, String)> {
        let mut findings = Findings::default();
        quorum(of, &nodes(running), &mut findings);
        findings.all.into_iter().map(|one| (one.verdict, one.what)).collect()
    }

    #[test]
    fn a_quorum_is_as_good_as_the_failures_it_bears() {
        let whole = said(&voters(&[5_000, 5_000, 4_999]), &[true; 3]);
        assert_eq!(whole.len(), 1);
        assert_eq!(whole[0].0, Verdict::Good);
        assert!(whole[0].1.contains("3 voters, 1 of which may fail"), "{}", whole[0].1);
        let gone = said(&voters(&[5_000, 5_000, 5_000]), &[true, true, false]);
        assert_eq!(gone[0].0, Verdict::Bad);
        assert!(gone[0].1.contains("1 of 3 voters do not run: 3"), "{}", gone[0].1);
        let behind = said(&voters(&[5_000, 5_000, 3_000]), &[true; 3]);
        assert_eq!(behind[0].0, Verdict::Doubtful);
        let even = said(&voters(&[5_000, 5_000]), &[true; 2]);
        assert_eq!((even.len(), even[1].0), (2, Verdict::Doubtful));
        let lone = said(&voters(&[5_000]), &[true; 2]);
        assert!(lone[1].1.contains("1 voter for 2 brokers"), "{}", lone[1].1);
        assert_eq!(said(&voters(&[5_000]), &[true]).len(), 1, "one alone is what it is");
    }
}
