//! `sawlog cluster move|spread|drain|verify`: replicas that go elsewhere.

use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use sawlog_client::{Client, NewReplicas, Reassignment, TopicInfo, TopicPartition};
use serde_json::json;

use super::plan::{self, Place, Placed};
use crate::failure::{Failure, Kind, say};
use crate::output::{Output, Rows};
use crate::progress::Progress;

/// How often it is looked whether replicas have arrived.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How a plan is carried out.
#[derive(Debug, Args)]
pub(super) struct How {
    /// Partitions that move at the same time
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    at_once: u16,
    /// Begin, and do not wait until it is done; then all partitions move at the same time
    #[arg(long)]
    no_wait: bool,
    /// Only print what would move
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
}

/// Move the replicas of partitions to other brokers, or take a move back
#[derive(Debug, Args)]
pub(crate) struct Move {
    /// The topics, or single partitions as TOPIC:PARTITION
    #[arg(required = true, value_name = "TOPIC[:PARTITION]", add = ArgValueCandidates::new(crate::complete::topics))]
    of: Vec<String>,
    /// The brokers, the preferred leader first
    #[arg(long, value_name = "ID,ID", value_delimiter = ',', required_unless_present = "cancel")]
    to: Vec<i32>,
    /// Take back what is under way
    #[arg(long, conflicts_with = "to")]
    cancel: bool,
    #[command(flatten)]
    how: How,
}

/// Give topics another number of replicas, on the brokers that have the fewest
#[derive(Debug, Args)]
pub(crate) struct Spread {
    /// The topics; all if none is named
    #[arg(value_name = "TOPIC", add = ArgValueCandidates::new(crate::complete::topics))]
    topics: Vec<String>,
    /// How many copies of each partition
    #[arg(short = 'r', long, value_name = "COUNT")]
    replicas: usize,
    #[command(flatten)]
    how: How,
}

/// Move all replicas away from a broker, so that it can be stopped for good
#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// The broker
    #[arg(value_name = "ID")]
    broker: i32,
    #[command(flatten)]
    how: How,
}

/// Show the moves under way, and copies with damaged records
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Wait until there is none
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    output: Output,
}

impl Move {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let wanted = chosen(client, &self.of).await?;
        if self.cancel {
            return cancel(client, &wanted, &self.how).await;
        }
        let moved = wanted.into_iter().filter(|now| now.replicas != self.to);
        let plan = moved.map(|now| Placed { replicas: self.to.clone(), ..now }).collect();
        self.how.carry_out(client, plan).await
    }
}

impl Spread {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        for name in &self.topics {
            crate::topic::known(client, name).await?;
        }
        let (places, all) = survey(client).await?;
        let is_asked =
            |placed: &Placed| self.topics.is_empty() || self.topics.contains(&placed.topic);
        let plan = plan::with_replicas(&places, &all, is_asked, self.replicas);
        let plan = plan.map_err(|why| Failure::new(Kind::Precondition, why))?;
        self.how.carry_out(client, plan).await
    }
}

impl Drain {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let broker = self.broker;
        let (mut places, all) = survey(client).await?;
        let was_there = places.iter().any(|place| place.broker == broker);
        places.retain(|place| place.broker != broker);
        let has_any = all.iter().any(|placed| placed.replicas.contains(&broker));
        if !was_there && !has_any {
            return Err(Failure::not_found(format!(
                "no broker {broker} runs, and none has replicas; see `sawlog cluster nodes`"
            )));
        }
        let plan = plan::without(&places, &all, broker);
        let plan = plan.map_err(|why| Failure::new(Kind::Precondition, why))?;
        let is_over = !self.how.dry_run && !self.how.no_wait;
        self.how.carry_out(client, plan).await?;
        if is_over {
            say(format!(
                "broker {broker} holds no replicas any more; stop it, then `sawlog cluster remove \
                 {broker}`"
            ));
        }
        Ok(())
    }
}

impl Verify {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut under_way = client.reassignments().await?;
        if self.wait {
            let count = count_of(&under_way);
            let mut progress = Progress::new("partitions", Some(count), true);
            while !under_way.is_empty() {
                tokio::time::sleep(LOOK_EVERY).await;
                under_way = client.reassignments().await?;
                progress.update(count.saturating_sub(count_of(&under_way)));
            }
        }
        let mut rows = Rows::new(&["partition", "replicas", "adding", "removing"]);
        for one in &under_way {
            let name = format!("{}:{}", one.of.topic, one.of.partition);
            rows.push(vec![
                json!(name),
                json!(one.replicas),
                json!(one.adding),
                json!(one.removing),
            ]);
        }
        self.output.print(&rows)?;
        let (directories, _) = client.reachable_log_dirs().await?;
        for directory in directories {
            for copy in directory.copies.iter().filter(|copy| copy.quarantined > 0) {
                let name = format!("{}:{}", copy.topic, copy.partition);
                crate::topic::say_damaged(directory.broker, &name, copy.quarantined);
            }
        }
        Ok(())
    }
}

fn count_of(all: &[Reassignment]) -> u64 {
    u64::try_from(all.len()).unwrap_or(u64::MAX)
}

impl How {
    /// Whether nothing is known to have moved when the plan has been carried out.
    pub(super) fn is_only_planned(&self) -> bool {
        self.dry_run || self.no_wait
    }

    pub(super) async fn carry_out(
        &self,
        client: &Client,
        plan: Vec<Placed>,
    ) -> Result<(), Failure> {
        let mut rows = Rows::new(&["partition", "replicas"]);
        for placed in &plan {
            let name = format!("{}:{}", placed.topic, placed.partition);
            rows.push(vec![json!(name), json!(placed.replicas)]);
        }
        self.output.print(&rows)?;
        if self.dry_run {
            say("nothing was moved: --dry-run");
            return Ok(());
        }
        let count = u64::try_from(plan.len()).unwrap_or(u64::MAX);
        let mut progress = Progress::new("partitions", Some(count), !self.no_wait);
        let mut done = 0;
        let at_once = if self.no_wait { plan.len().max(1) } else { usize::from(self.at_once) };
        for part in plan.chunks(at_once) {
            begin(client, part).await?;
            if !self.no_wait {
                let moved = |count| progress.update(done + u64::try_from(count).unwrap_or(0));
                until_moved(client, part, moved).await?;
            }
            done += u64::try_from(part.len()).unwrap_or(0);
        }
        Ok(())
    }
}

async fn begin(client: &Client, part: &[Placed]) -> Result<(), Failure> {
    let wanted = part
        .iter()
        .map(|placed| NewReplicas { of: name_of(placed), replicas: Some(placed.replicas.clone()) });
    report(client.reassign(&wanted.collect::<Vec<_>>()).await?)
}

/// Waits until all of `part` are where they are to be, and tells `moved` how many are.
async fn until_moved(
    client: &Client,
    part: &[Placed],
    mut moved: impl FnMut(usize),
) -> Result<(), Failure> {
    loop {
        let left = still_moving(client, part).await?;
        moved(part.len() - left);
        if left == 0 {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How many of `part` are not where they are to be.
async fn still_moving(client: &Client, part: &[Placed]) -> Result<usize, Failure> {
    let under_way = client.reassignments().await?;
    let moves = |placed: &&Placed| under_way.iter().any(|one| one.of == name_of(placed));
    Ok(part.iter().filter(moves).count())
}

async fn cancel(client: &Client, wanted: &[Placed], how: &How) -> Result<(), Failure> {
    let under_way = client.reassignments().await?;
    let moves = |placed: &&Placed| under_way.iter().any(|one| one.of == name_of(placed));
    let back: Vec<NewReplicas> = wanted
        .iter()
        .filter(moves)
        .map(|placed| NewReplicas { of: name_of(placed), replicas: None })
        .collect();
    if back.is_empty() {
        say("none of them is moving");
        return Ok(());
    }
    if how.dry_run {
        say(format!("{} moves would be taken back", back.len()));
        return Ok(());
    }
    report(client.reassign(&back).await?)?;
    say(format!("took back {} moves", back.len()));
    Ok(())
}

/// The first refusal, and how many there are.
fn report(outcomes: Vec<sawlog_client::PartitionOutcome>) -> Result<(), Failure> {
    let count = outcomes.len();
    let mut refused: Vec<_> = outcomes.into_iter().filter(|one| one.result.is_err()).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let failed = refused.len();
    let first = refused.remove(0);
    let what = format!("cannot move {}:{}", first.of.topic, first.of.partition);
    let failure = match first.result {
        Err(error) => Failure::from(error).while_doing(what),
        Ok(()) => Failure::failed(what),
    };
    if failed == count {
        return Err(failure);
    }
    Err(Failure::new(Kind::Partial, format!("{failed} of {count} were refused; {failure}")))
}

fn name_of(placed: &Placed) -> TopicPartition {
    TopicPartition { topic: placed.topic.clone(), partition: placed.partition }
}

/// The brokers that run, and where all replicas are.
pub(crate) async fn survey(client: &Client) -> Result<(Vec<Place>, Vec<Placed>), Failure> {
    let cluster = client.describe(None).await?;
    let places = cluster.brokers.into_iter();
    let places = places.map(|broker| Place { broker: broker.id, rack: broker.rack }).collect();
    Ok((places, cluster.topics.iter().flat_map(placed).collect()))
}

fn placed(topic: &TopicInfo) -> Vec<Placed> {
    let one = |partition: &sawlog_client::PartitionInfo| Placed {
        topic: topic.name.clone(),
        partition: partition.index,
        replicas: partition.replicas.clone(),
    };
    topic.partitions.iter().map(one).collect()
}

/// The partitions named as TOPIC or TOPIC:PARTITION.
pub(super) async fn chosen(client: &Client, names: &[String]) -> Result<Vec<Placed>, Failure> {
    let mut all = Vec::new();
    for name in names {
        let (topic, index) = match name.rsplit_once(':') {
            None => (name.as_str(), None),
            Some((topic, index)) => (topic, Some(index)),
        };
        let mut found = placed(&crate::topic::known(client, topic).await?);
        if let Some(index) = index {
            found.retain(|placed| placed.partition.to_string() == index);
            if found.is_empty() {
                return Err(Failure::not_found(format!(
                    "topic \"{topic}\" has no partition {index}"
                )));
            }
        }
        all.extend(found);
    }
    Ok(all)
}
