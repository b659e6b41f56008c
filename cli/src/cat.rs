//! `sawlog cat`: kcat's command line, for fingers and scripts that know it.
//!
//! What is here means what it means to kcat. What is not here is refused, never ignored.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::Args;
use sawlog_client::{ClusterInfo, Compression, Position, ResetPolicy};

use crate::Global;
use crate::consume::{Membership, Reading, assign};
use crate::failure::{Failure, Kind};
use crate::format::{Delimiter, Format, delimiter, parse};
use crate::output::Output;
use crate::position::Span;
use crate::produce::{Input, Produce};

/// kcat's command line: -C consume, -G consume in a group, -P produce, -L list, -Q query offsets. By itself it consumes when standard input is
/// a terminal and produces otherwise.
#[derive(Debug, Args)]
pub(crate) struct Cat {
    /// Consume
    #[arg(short = 'C', conflicts_with_all = ["produce", "list"])]
    consume: bool,
    /// Produce
    #[arg(short = 'P', conflicts_with = "list")]
    produce: bool,
    /// List brokers, topics and partitions
    #[arg(short = 'L')]
    list: bool,
    /// Print the offset of the first record of a time or later: -t TOPIC:PARTITION:MILLISECONDS, where
    /// -1 is the end and -2 the beginning
    #[arg(short = 'Q', conflicts_with_all = ["produce", "list", "consume"])]
    query: bool,
    /// The topic
    #[arg(short = 't', value_name = "TOPIC", add = clap_complete::engine::ArgValueCandidates::new(crate::complete::topics))]
    topic: Option<String>,
    /// As a member of this group; the topics follow
    #[arg(short = 'G', value_name = "GROUP", conflicts_with_all = ["produce", "list", "consume", "topic"], add = clap_complete::engine::ArgValueCandidates::new(crate::complete::groups))]
    group: Option<String>,
    /// The partition; -1 for any
    #[arg(short = 'p', value_name = "PARTITION", default_value_t = -1, allow_negative_numbers = true)]
    partition: i32,
    /// Where to begin: beginning, end, N, -N, s@MS (and where to end: e@MS)
    #[arg(short = 'o', value_name = "OFFSET", allow_hyphen_values = true, value_parser = parse_offset)]
    offset: Vec<Bound>,
    /// Stop after this many records
    #[arg(short = 'c', value_name = "COUNT")]
    count: Option<u64>,
    /// Stop at the end there is now
    #[arg(short = 'e')]
    exit: bool,
    /// What separates key and value, in both directions
    #[arg(short = 'K', value_name = "DELIMITER", value_parser = delimiter)]
    key_delimiter: Option<Delimiter>,
    /// What follows each record when consuming
    #[arg(short = 'D', value_name = "DELIMITER", value_parser = delimiter)]
    delimiter: Option<Delimiter>,
    /// How to print: %t %p %o %k %s %K %S %R %T %h
    #[arg(short = 'f', value_name = "FORMAT", value_parser = parse, conflicts_with_all = ["json", "key_delimiter", "delimiter"])]
    format: Option<Format>,
    /// Print JSON: topic, partition, offset, ts, key, payload, headers
    #[arg(short = 'J')]
    json: bool,
    /// An empty value is null when producing
    #[arg(short = 'Z')]
    null: bool,
    /// The key of every record produced
    #[arg(short = 'k', value_name = "KEY")]
    key: Option<String>,
    /// A header of every record produced; may be given several times
    #[arg(short = 'H', value_name = "NAME=VALUE", value_parser = crate::produce::header)]
    header: Vec<(String, String)>,
    /// Codec: none, gzip, snappy, lz4 or zstd
    #[arg(short = 'z', value_name = "CODEC", default_value = "none", value_parser = crate::produce::codec)]
    compression: Compression,
    /// The one file has a record a line; without it each file is a record
    #[arg(short = 'l')]
    lines: bool,
    /// Say nothing but records: always so here
    #[arg(short = 'q')]
    quiet: bool,
    /// Write each record at once: always so here when nothing more is at hand
    #[arg(short = 'u')]
    unbuffered: bool,
    /// Files to produce from; the topics of -G
    files: Vec<PathBuf>,
}

/// Where to begin or to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    From(Position),
    Until(Position),
}

fn parse_offset(text: &str) -> Result<Bound, String> {
    let wrong = || {
        format!(
            "\"{text}\" is no offset: expected beginning, end, N, -N, s@MILLISECONDS or e@MILLISECONDS"
        )
    };
    let number = |digits: &str| {
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<i64>().ok().filter(|_| plain).ok_or_else(wrong)
    };
    if let Some(time) = text.strip_prefix("s@") {
        return Ok(Bound::From(Position::Time(number(time)?)));
    }
    if let Some(time) = text.strip_prefix("e@") {
        return Ok(Bound::Until(Position::Time(number(time)?)));
    }
    Ok(Bound::From(match text {
        "beginning" => Position::Start,
        "end" => Position::End,
        _ => match text.strip_prefix('-') {
            Some(count) => Position::BeforeEnd(number(count)?),
            None => Position::Offset(number(text)?),
        },
    }))
}

impl Cat {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        if self.list {
            return self.list(global).await;
        }
        if let Some(group) = self.group.clone() {
            return self.take_part(group, global).await;
        }
        let topic =
            self.topic.clone().ok_or_else(|| Failure::usage("which topic? give it with -t"))?;
        if self.query {
            return query(&topic, global).await;
        }
        if self.produce || (!self.consume && !std::io::stdin().is_terminal()) {
            self.into_produce(topic).run(global).await
        } else {
            self.read(&topic, global).await
        }
    }

    /// Whether it takes part in a group, and so has to leave before it ends.
    pub(crate) fn is_member(&self) -> bool {
        self.group.is_some()
    }

    async fn take_part(self, group: String, global: &Global) -> Result<(), Failure> {
        let topics: Vec<String> =
            self.files.iter().map(|name| name.to_string_lossy().into_owned()).collect();
        if topics.is_empty() {
            return Err(Failure::usage("which topics? name them after -G GROUP"));
        }
        let client = global.connect().await?;
        for topic in &topics {
            crate::topic::known(&client, topic).await?;
        }
        let reset = match self.offset.last() {
            Some(Bound::From(Position::Start)) => ResetPolicy::Earliest,
            None | Some(Bound::From(Position::End)) => ResetPolicy::Latest,
            Some(_) => {
                return Err(Failure::usage(
                    "with -G, -o is beginning or end, for what the group has not read yet",
                ));
            }
        };
        let membership = Membership {
            group,
            instance: None,
            topics: topics.into(),
            reset,
            count_max: self.count.unwrap_or(u64::MAX),
            exit: self.exit,
            format: self.print_format(),
        };
        membership.run(&client).await
    }

    fn into_produce(self, topic: String) -> Produce {
        let input = if self.lines || self.files.is_empty() { Input::Lines } else { Input::File };
        Produce {
            format: input,
            key_delimiter: self.key_delimiter,
            key: self.key,
            header: self.header,
            partition: (self.partition >= 0).then_some(self.partition),
            compression: self.compression,
            null: self.null,
            ..Produce::plain_lines(topic, self.files)
        }
    }

    async fn read(self, topic: &str, global: &Global) -> Result<(), Failure> {
        let client = global.connect().await?;
        let info = crate::topic::known(&client, topic).await?;
        let mut span = Span { from: Position::Start, until: self.exit.then_some(Position::End) };
        for bound in &self.offset {
            match bound {
                Bound::From(position) => span.from = *position,
                Bound::Until(position) => span.until = Some(*position),
            }
        }
        let wanted: Vec<i32> = Vec::from_iter((self.partition >= 0).then_some(self.partition));
        let reading = Reading {
            assignments: assign(&[info], &wanted, span)?,
            count_max: self.count.unwrap_or(u64::MAX),
            format: self.print_format(),
        };
        reading.run(&client).await
    }

    fn print_format(self) -> Format {
        if self.json {
            return Format::Kcat;
        }
        self.format.unwrap_or_else(|| {
            let end = self.delimiter.map_or_else(|| b"\n".to_vec(), |delimiter| delimiter.0);
            Format::key_and_value(self.key_delimiter.map(|delimiter| delimiter.0), end)
        })
    }

    async fn list(self, global: &Global) -> Result<(), Failure> {
        let client = global.connect().await?;
        let cluster = match &self.topic {
            Some(topic) => {
                crate::topic::known(&client, topic).await?;
                client.describe(Some(&[topic])).await?
            }
            None => client.describe(None).await?,
        };
        if self.json {
            return Err(Failure::new(
                Kind::Usage,
                "-L prints text alone here; for JSON see `sawlog topic list -o json`",
            ));
        }
        Output::write(listing(&cluster, self.topic.as_deref()).as_bytes())
    }
}

/// The offset for a time; -1 where all records are older, as kcat prints it.
async fn query(asked: &str, global: &Global) -> Result<(), Failure> {
    let wrong =
        || Failure::usage(format!("\"{asked}\": expected -t TOPIC:PARTITION:MILLISECONDS with -Q"));
    let mut parts = asked.rsplitn(3, ':');
    let timestamp: i64 = parts.next().and_then(|ms| ms.parse().ok()).ok_or_else(wrong)?;
    let partition: i32 = parts.next().and_then(|index| index.parse().ok()).ok_or_else(wrong)?;
    let topic = parts.next().ok_or_else(wrong)?;
    let client = global.connect().await?;
    crate::topic::has_partition(&crate::topic::known(&client, topic).await?, partition)?;
    let offset = match timestamp {
        -1 => client.offsets(topic, partition).await?.1,
        -2 => client.offsets(topic, partition).await?.0,
        time if time < 0 => return Err(wrong()),
        time => client.offset_at(topic, partition, time).await?.unwrap_or(-1),
    };
    Output::write(format!("{topic} [{partition}] offset {offset}\n").as_bytes())
}

/// As kcat prints it.
fn listing(cluster: &ClusterInfo, topic: Option<&str>) -> String {
    let joined = |ids: &[i32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let of = topic.unwrap_or("all topics");
    let mut text = format!("Metadata for {of}:\n {} brokers:\n", cluster.brokers.len());
    for broker in &cluster.brokers {
        let role = if broker.id == cluster.controller { " (controller)" } else { "" };
        text.push_str(&format!(
            "  broker {} at {}:{}{role}\n",
            broker.id, broker.host, broker.port
        ));
    }
    text.push_str(&format!(" {} topics:\n", cluster.topics.len()));
    for topic in &cluster.topics {
        let count = topic.partitions.len();
        text.push_str(&format!("  topic \"{}\" with {count} partitions:\n", topic.name));
        for partition in &topic.partitions {
            text.push_str(&format!(
                "    partition {}, leader {}, replicas: {}, isrs: {}\n",
                partition.index,
                partition.leader,
                joined(&partition.replicas),
                joined(&partition.isr)
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_kcats() {
        assert_eq!(parse_offset("beginning"), Ok(Bound::From(Position::Start)));
        assert_eq!(parse_offset("-5"), Ok(Bound::From(Position::BeforeEnd(5))));
        assert_eq!(parse_offset("12"), Ok(Bound::From(Position::Offset(12))));
        assert_eq!(parse_offset("s@7"), Ok(Bound::From(Position::Time(7))));
        assert_eq!(parse_offset("e@9"), Ok(Bound::Until(Position::Time(9))));
        for wrong in ["", "stored", "--5", "s@x", "+3"] {
            assert!(parse_offset(wrong).is_err(), "{wrong}");
        }
    }
}
