//! `sawlog group`: consumer groups, how far they have read, and what became of their members.
//!
//! A group is changed from outside only while it has no members: they would not notice, and commit
//! over it.

mod delete;
mod lag;
mod list;
mod members;
mod offsets_file;
mod seek;
pub(crate) mod timeline;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use sawlog_client::{Client, ClientError, GroupFilter, GroupInfo};
use sawlog_protocol::ErrorCode;

use crate::Global;
use crate::failure::{Failure, Kind};
use crate::output::Output;

/// List, describe, move and delete consumer groups
#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    List(list::List),
    /// Show state, assignor, coordinator and total lag of groups
    Describe(Named),
    Lag(lag::Lag),
    Seek(seek::Seek),
    Delete(delete::Delete),
    Members(members::Members),
    Timeline(timeline::Timeline),
}

/// Some groups.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The groups
    #[arg(required = true, add = ArgValueCandidates::new(crate::complete::groups))]
    groups: Vec<String>,
    #[command(flatten)]
    output: Output,
}

impl Group {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.connect().await?;
        match self {
            Self::List(list) => list.run(&client).await,
            Self::Describe(some) => list::describe(&client, &some.groups, &some.output).await,
            Self::Lag(lag) => lag.run(&client).await,
            Self::Seek(seek) => seek.run(&client).await,
            Self::Delete(delete) => delete.run(&client).await,
            Self::Members(members) => members.run(&client).await,
            Self::Timeline(timeline) => timeline.run(&client).await,
        }
    }
}

/// A topic, and some of its partitions or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicPart {
    pub(crate) topic: String,
    /// All if empty.
    pub(crate) partitions: Vec<i32>,
}

impl TopicPart {
    fn covers(&self, topic: &str, partition: i32) -> bool {
        self.topic == topic && (self.partitions.is_empty() || self.partitions.contains(&partition))
    }
}

/// `orders` or `orders:0,3`, as Kafka's tools write it.
pub(crate) fn parse_topic(text: &str) -> Result<TopicPart, String> {
    let (topic, list) = text.split_once(':').map_or((text, None), |(t, list)| (t, Some(list)));
    if topic.is_empty() {
        return Err("expected TOPIC or TOPIC:PARTITION,..., such as orders:0,3".to_owned());
    }
    let mut partitions = Vec::new();
    for part in list.into_iter().flat_map(|list| list.split(',')) {
        let index = part.trim().parse::<i32>().ok().filter(|index| *index >= 0);
        partitions.push(index.ok_or_else(|| {
            format!("\"{part}\" is no partition: expected TOPIC:PARTITION,..., such as orders:0,3")
        })?);
    }
    Ok(TopicPart { topic: topic.to_owned(), partitions })
}

/// A group that must be there; otherwise says which name may be meant.
async fn known(client: &Client, name: &str) -> Result<GroupInfo, Failure> {
    match client.describe_group(name).await {
        Ok(group) => Ok(group),
        Err(error) if is_unknown(&error) => Err(unknown(client, name).await),
        Err(error) => Err(error.into()),
    }
}

/// As [`known`], for what must not be done to a group somebody works in.
async fn known_and_empty(client: &Client, name: &str, what: &str) -> Result<GroupInfo, Failure> {
    let group = known(client, name).await?;
    match group.members.first() {
        None => Ok(group),
        Some(member) => Err(Failure::new(
            Kind::Precondition,
            format!(
                "{what}: group \"{name}\" is {} and has members: {}, such as {} at {}; stop them \
                 first, see `sawlog group members {name}`",
                group.state,
                group.members.len(),
                member.client_id,
                member.host
            ),
        )),
    }
}

fn is_unknown(error: &ClientError) -> bool {
    error.code() == Some(ErrorCode::GROUP_ID_NOT_FOUND)
}

async fn unknown(client: &Client, name: &str) -> Failure {
    // Who cannot be asked for names suggests none.
    let listed = client.list_groups(&GroupFilter::default()).await.unwrap_or_default();
    let names = listed.iter().map(|group| group.group.as_str());
    Failure::not_found(match sawlog_broker::config::suggest(name, names) {
        Some(meant) => format!("group \"{name}\" does not exist; did you mean \"{meant}\"?"),
        None => format!("group \"{name}\" does not exist; see `sawlog group list`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_may_come_with_partitions() {
        let part = |topic: &str, partitions: &[i32]| TopicPart {
            topic: topic.to_owned(),
            partitions: partitions.to_vec(),
        };
        assert_eq!(parse_topic("t"), Ok(part("t", &[])));
        assert_eq!(parse_topic("t:0,3"), Ok(part("t", &[0, 3])));
        assert!(part("t", &[]).covers("t", 9) && !part("t", &[0]).covers("t", 1));
        for wrong in ["", ":1", "t:", "t:x", "t:-1", "t:1,,2"] {
            assert!(parse_topic(wrong).is_err(), "{wrong}");
        }
    }
}
