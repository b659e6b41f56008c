//! `sawlog topic`: create, list, describe, alter and delete topics; trimming is in [`crate::trim`].

mod grow;
mod usage;

use std::io::{BufRead as _, IsTerminal as _};

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use sawlog_client::{
    Client, ClientError, ConfigChange, ConfigResource, NewTopic, PartitionSize, TopicInfo,
};
use sawlog_protocol::ErrorCode;
use serde_json::json;

use crate::Global;
use crate::failure::{Failure, Kind, say};
use crate::output::{Output, Rows};
use crate::trim::Trim;

/// Create, list, describe, alter, trim and delete topics.
#[derive(Debug, Subcommand)]
pub(crate) enum Topic {
    /// List topics
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Create topics
    Create(Create),
    /// Show partitions, offsets, sizes and settings of a topic
    Describe {
        /// The topic
        #[arg(add = ArgValueCandidates::new(crate::complete::topics))]
        name: String,
        /// Settings only, all of them
        #[arg(long)]
        configs: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Change settings or the number of partitions of a topic
    Alter(Alter),
    Grow(grow::Grow),
    /// Show what topics use of the disk, largest first
    Usage(usage::Of),
    /// Show how evenly records lie on the partitions of topics, most uneven first
    Skew(usage::Of),
    /// Delete topics with all their records
    Delete(Delete),
    /// Delete the oldest records of a topic: up to an offset, a time or the end
    Trim(Trim),
}

/// Create topics
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Their names
    #[arg(required = true)]
    names: Vec<String>,
    /// How many partitions; the broker's default if not given
    #[arg(short = 'p', long, default_value_t = -1, hide_default_value = true)]
    partitions: i32,
    /// How many copies of each; the broker's default if not given
    #[arg(short = 'r', long, default_value_t = -1, hide_default_value = true)]
    replicas: i16,
    /// A setting; may be given several times
    #[arg(short = 'c', long, value_name = "KEY=VALUE", value_parser = setting)]
    config: Vec<(String, String)>,
    /// It is fine if a topic exists already
    #[arg(long)]
    if_missing: bool,
    /// Only say whether it would work
    #[arg(long)]
    dry_run: bool,
}

/// Change settings or the number of partitions of a topic
#[derive(Debug, Args)]
pub(crate) struct Alter {
    /// The topic
    #[arg(add = ArgValueCandidates::new(crate::complete::topics))]
    name: String,
    /// Set a setting; may be given several times
    #[arg(short = 's', long, value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
    /// Take a setting back to what it inherits; may be given several times
    #[arg(short = 'd', long, value_name = "KEY")]
    delete: Vec<String>,
    /// Grow to this many partitions. Keys go to other partitions from then on
    #[arg(short = 'p', long)]
    partitions: Option<i32>,
    /// Only say whether it would work
    #[arg(long)]
    dry_run: bool,
}

/// Delete topics with all their records
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Their names
    #[arg(required = true, add = ArgValueCandidates::new(crate::complete::topics))]
    names: Vec<String>,
    /// Do not ask
    #[arg(short = 'y', long)]
    yes: bool,
    /// Only say what would be deleted
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or("expected key=value, such as retention.ms=3600000")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// A topic that must be there; otherwise says which name may be meant.
pub(crate) async fn known(client: &Client, name: &str) -> Result<TopicInfo, Failure> {
    match client.topic(name).await {
        Ok(topic) => Ok(topic),
        Err(ClientError::UnknownTopic(_)) => Err(unknown(client, name).await),
        Err(error) => Err(error.into()),
    }
}

/// A partition that must be there.
pub(crate) fn has_partition(topic: &TopicInfo, index: i32) -> Result<(), Failure> {
    if topic.partition(index).is_some() {
        return Ok(());
    }
    let (name, count) = (&topic.name, topic.partitions.len());
    let what = format!("topic \"{name}\" has no partition {index}, it has {count}");
    let from_0 = format!("{what}: 0 to {}", count.saturating_sub(1));
    Err(Failure::not_found(if count > 1 { from_0 } else { what }))
}

async fn unknown(client: &Client, name: &str) -> Failure {
    let names = match client.describe(None).await {
        Ok(cluster) => cluster.topics.into_iter().map(|topic| topic.name).collect(),
        Err(_) => Vec::new(),
    };
    let meant = sawlog_broker::config::suggest(name, names.iter().map(String::as_str));
    Failure::not_found(match meant {
        Some(meant) => format!("topic \"{name}\" does not exist; did you mean \"{meant}\"?"),
        None => format!(
            "topic \"{name}\" does not exist; create it with `sawlog topic create {name}`, or see \
             `sawlog topic list`"
        ),
    })
}

impl Topic {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.connect().await?;
        match self {
            Self::List { output } => list(&client, &output).await,
            Self::Create(create) => create.run(&client).await,
            Self::Describe { name, configs, output } => {
                describe(&client, &name, configs, &output).await
            }
            Self::Alter(alter) => alter.run(&client).await,
            Self::Grow(grow) => grow.run(&client).await,
            Self::Usage(of) => usage::usage(&client, of).await,
            Self::Skew(of) => usage::skew(&client, of).await,
            Self::Delete(delete) => delete.run(&client).await,
            Self::Trim(trim) => trim.run(&client).await,
        }
    }
}

/// Bytes on the disks of brokers, and of which of them that is not everything: the user is told.
async fn sizes(client: &Client) -> Result<(Vec<PartitionSize>, Vec<Missing>), Failure> {
    let (sizes, missing) = client.reachable_partition_sizes().await?;
    for (broker, error) in &missing {
        say(format!("note: bytes on broker {broker} are not known: {error}"));
    }
    let missing = missing.into_iter().map(|(broker, error)| Missing {
        broker,
        has_disk_offline: error.code() == Some(ErrorCode::KAFKA_STORAGE_ERROR),
    });
    Ok((sizes, missing.collect()))
}

/// A broker that did not tell the sizes of all it has.
struct Missing {
    broker: i32,
    /// It answers, and cannot use a disk.
    has_disk_offline: bool,
}

async fn list(client: &Client, output: &Output) -> Result<(), Failure> {
    let cluster = client.describe(None).await?;
    let (sizes, _) = sizes(client).await?;
    let mut rows = Rows::new(&["name", "partitions", "replicas", "bytes", "id"]);
    for topic in &cluster.topics {
        let bytes: i64 =
            sizes.iter().filter(|size| size.topic == topic.name).map(|size| size.bytes).sum();
        let replicas = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
        rows.push(vec![
            json!(topic.name),
            json!(topic.partitions.len()),
            json!(replicas),
            json!(bytes),
            json!(topic.id.to_string()),
        ]);
    }
    output.print(&rows)
}

async fn describe(
    client: &Client,
    name: &str,
    configs: bool,
    output: &Output,
) -> Result<(), Failure> {
    let topic = known(client, name).await?;
    if configs {
        let mut rows = Rows::new(&["setting", "value", "source"]);
        for config in client.configs(ConfigResource::Topic(name)).await? {
            rows.push(vec![json!(config.name), json!(config.value), json!(config.source_name())]);
        }
        rows.sort();
        return output.print(&rows);
    }
    let ranges = client.offset_ranges(std::slice::from_ref(&topic)).await?;
    // Leaders as they are by now: one may have gone, and another was waited for.
    let topic = client.topic(name).await?;
    let (sizes, missing) = sizes(client).await?;
    let mut rows = Rows::new(&[
        "partition",
        "leader",
        "epoch",
        "replicas",
        "in sync",
        "first offset",
        "end offset",
        "records",
        "bytes",
    ]);
    for partition in &topic.partitions {
        let range = ranges.iter().find(|range| range.partition == partition.index);
        let size = size_of(&sizes, partition.leader, name, partition.index);
        let is_missing = missing.iter().any(|one| one.broker == partition.leader);
        rows.push(vec![
            json!(partition.index),
            json!(partition.leader),
            json!(partition.leader_epoch),
            json!(partition.replicas),
            json!(partition.isr),
            json!(range.map(|range| range.start)),
            json!(range.map(|range| range.end)),
            json!(range.map(|range| range.end - range.start)),
            json!(size.map(|size| size.bytes).or((!is_missing).then_some(0))),
        ]);
    }
    output.print(&rows)?;
    say_offline(&topic, &sizes, &missing);
    for size in sizes.iter().filter(|size| size.topic == name && size.quarantined > 0) {
        say_damaged(size.broker, &format!("partition {}", size.partition), size.quarantined);
    }
    let own: Vec<String> = client
        .configs(ConfigResource::Topic(name))
        .await?
        .into_iter()
        .filter(|config| config.source == 1)
        .map(|config| format!("{}={}", config.name, config.value.unwrap_or_default()))
        .collect();
    if std::io::stderr().is_terminal() && !own.is_empty() {
        say(format!("settings: {}", own.join(" ")));
    }
    Ok(())
}

fn size_of<'a>(
    sizes: &'a [PartitionSize],
    broker: i32,
    topic: &str,
    partition: i32,
) -> Option<&'a PartitionSize> {
    sizes
        .iter()
        .find(|size| (size.broker, &*size.topic, size.partition) == (broker, topic, partition))
}

/// Says which copies are on disks that cannot be used.
fn say_offline(topic: &TopicInfo, sizes: &[PartitionSize], missing: &[Missing]) {
    for Missing { broker, .. } in missing.iter().filter(|one| one.has_disk_offline) {
        let held = topic.partitions.iter().filter(|one| one.replicas.contains(broker));
        let lost = held.filter(|one| size_of(sizes, *broker, &topic.name, one.index).is_none());
        let lost: Vec<String> = lost.map(|one| one.index.to_string()).collect();
        if !lost.is_empty() {
            let lost = lost.join(", ");
            say(format!(
                "note: broker {broker} has its copy of these partitions on a disk that is offline: {lost}"
            ));
        }
    }
}

/// Says that records of a copy are damaged.
pub(crate) fn say_damaged(broker: i32, copy: &str, records: i64) {
    say(format!(
        "note: {records} records of {copy} are damaged on broker {broker} and not served from there; \
         they are repaired from another copy as soon as one that has them can be reached"
    ));
}

impl Create {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        for name in &self.names {
            let topic = NewTopic {
                name,
                partitions: self.partitions,
                replication_factor: self.replicas,
                configs: &self.config,
                validate_only: self.dry_run,
            };
            match client.create_topic(&topic).await {
                Ok(()) if self.dry_run => say(format!("topic \"{name}\" can be created")),
                Ok(()) => say(format!("created topic \"{name}\"")),
                Err(error) => {
                    let failure = Failure::from(error);
                    if self.if_missing && failure.kind == Kind::Precondition {
                        continue;
                    }
                    return Err(failure.while_doing(format!("cannot create topic \"{name}\"")));
                }
            }
        }
        Ok(())
    }
}

impl Alter {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        known(client, &self.name).await?;
        let mut changes: Vec<ConfigChange> = Vec::new();
        changes.extend(self.set.into_iter().map(|(key, value)| ConfigChange::Set(key, value)));
        changes.extend(self.delete.into_iter().map(ConfigChange::Delete));
        if changes.is_empty() && self.partitions.is_none() {
            return Err(Failure::usage(
                "nothing to change: give --set KEY=VALUE, --delete KEY or --partitions N",
            ));
        }
        let what = format!("cannot alter topic \"{}\"", self.name);
        if !changes.is_empty() {
            client
                .alter_configs(ConfigResource::Topic(&self.name), &changes, self.dry_run)
                .await
                .map_err(|error| Failure::from(error).while_doing(&what))?;
        }
        if let Some(count) = self.partitions {
            client
                .create_partitions(&self.name, count, self.dry_run)
                .await
                .map_err(|error| Failure::from(error).while_doing(&what))?;
        }
        let done = if self.dry_run { "can be altered" } else { "altered" };
        say(format!("topic \"{}\" {done}", self.name));
        Ok(())
    }
}

impl Delete {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        for name in &self.names {
            let topic = known(client, name).await?;
            if self.dry_run {
                say(format!("would delete \"{name}\" with {} partitions", topic.partitions.len()));
                continue;
            }
            if !self.yes {
                confirm(name, "all records")?;
            }
            client.delete_topic(name).await?;
            say(format!("deleted topic \"{name}\""));
        }
        Ok(())
    }
}

/// Has the name typed again before `what` of it is deleted; without a terminal the flag is needed.
pub(crate) fn confirm(name: &str, what: &str) -> Result<(), Failure> {
    confirm_to(name, &format!("delete {what} of \"{name}\""))
}

/// The same for anything that cannot be taken back, `what` being a verb and what it does it to.
pub(crate) fn confirm_to(name: &str, what: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "to {what} cannot be undone: give --yes to do it without a terminal"
        )));
    }
    say(format!("About to {what}. Type \"{name}\" to go on:"));
    let mut typed = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut typed)
        .map_err(|error| Failure::failed(format!("cannot read the answer: {error}")))?;
    if typed.trim() == name {
        Ok(())
    } else {
        Err(Failure::new(Kind::Precondition, "not the name: nothing was changed"))
    }
}
