//! `sawlog consume`: records of topics to standard output.

mod member;

use std::io::{IsTerminal as _, Write as _};

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
pub(crate) use member::Membership;
use regex::RegexSet;
use sawlog_client::{Assignment, Client, Consumer, Position, ResetPolicy, TopicInfo, Topics};

use crate::Global;
use crate::failure::Failure;
use crate::format::{Format, parse};
use crate::position::{Span, parse_span};
use crate::progress::Progress;

/// Output gathered before it is written while more is at hand.
const OUTPUT_BYTES: usize = 256 * 1024;

/// Memory a regular expression may compile to.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Print records of topics.
#[derive(Debug, Args)]
pub(crate) struct Consume {
    /// The topics
    #[arg(required = true, add = ArgValueCandidates::new(crate::complete::topics))]
    topics: Vec<String>,
    /// The topics are regular expressions: all topics that match one of them now
    #[arg(short = 'r', long)]
    regex: bool,
    /// Where to begin: start, end, N, -N (before the end), +N (after the start), @TIME; A:B for a
    /// range. A time is RFC 3339, milliseconds, or a span before now such as 2h
    #[arg(
        short = 'o',
        long,
        value_name = "WHERE",
        default_value = "start",
        allow_hyphen_values = true,
        value_parser = parse_span
    )]
    offset: Span,
    /// Partitions, separated by commas; all if not given
    #[arg(short = 'p', long, value_delimiter = ',')]
    partition: Vec<i32>,
    /// As a member of this group, which shares the partitions out and remembers how far it is. -o
    /// start or end says where it begins with what it has not read yet
    #[arg(
        short = 'g',
        long,
        value_name = "GROUP",
        conflicts_with = "partition",
        add = ArgValueCandidates::new(crate::complete::groups)
    )]
    group: Option<String>,
    /// As a static member of this id, which keeps its partitions through a restart
    #[arg(long, value_name = "ID", requires = "group")]
    instance: Option<String>,
    /// Stop after this many records
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
    /// Stop at the end there is now
    #[arg(short = 'e', long)]
    exit: bool,
    /// How to print: json, value, or verbs: %t topic, %p partition, %o offset, %k key, %v value,
    /// %K %S their lengths, %T timestamp, %h headers, %H their number, %i number of the record,
    /// %k{hex} %v{base64} %d{strftime[%F %T]}
    #[arg(short = 'f', long, default_value = "value", value_parser = parse)]
    format: Format,
    /// Leave out keys' and values' content: print JSON with their lengths
    #[arg(long, conflicts_with = "format")]
    meta_only: bool,
}

/// What to read and how to print it.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) assignments: Vec<Assignment>,
    /// Stop after this many.
    pub(crate) count_max: u64,
    pub(crate) format: Format,
}

impl Consume {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.connect().await?;
        if self.group.is_some() {
            return self.membership(&client).await?.run(&client).await;
        }
        let topics = if self.regex {
            matching(&client, &self.topics).await?
        } else {
            named(&client, &self.topics).await?
        };
        let until = self.offset.until.or(self.exit.then_some(Position::End));
        let span = Span { from: self.offset.from, until };
        let reading = Reading {
            assignments: assign(&topics, &self.partition, span)?,
            count_max: self.count.unwrap_or(u64::MAX),
            format: if self.meta_only { Format::Meta } else { self.format },
        };
        reading.run(&client).await
    }
}

impl Consume {
    /// Whether it takes part in a group, and so has to leave before it ends.
    pub(crate) fn is_member(&self) -> bool {
        self.group.is_some()
    }

    async fn membership(self, client: &Client) -> Result<Membership, Failure> {
        let reset = match self.offset {
            Span { from: Position::Start, until: None } => ResetPolicy::Earliest,
            Span { from: Position::End, until: None } => ResetPolicy::Latest,
            _ => {
                return Err(Failure::usage(
                    "a group goes on where it is: with -g, -o is start or end, for what it has not \
                     read yet; `sawlog group seek` moves it",
                ));
            }
        };
        let topics = if self.regex {
            expressions(&self.topics)?;
            // A group wants whole names to match.
            Topics::matching(&format!(".*(?:{}).*", self.topics.join("|")))
        } else {
            named(client, &self.topics).await?;
            self.topics.as_slice().into()
        };
        Ok(Membership {
            group: self.group.unwrap_or_default(),
            instance: self.instance,
            topics,
            reset,
            count_max: self.count.unwrap_or(u64::MAX),
            exit: self.exit,
            format: if self.meta_only { Format::Meta } else { self.format },
        })
    }
}

async fn named(client: &Client, names: &[String]) -> Result<Vec<TopicInfo>, Failure> {
    let mut topics = Vec::new();
    for name in names {
        topics.push(crate::topic::known(client, name).await?);
    }
    Ok(topics)
}

/// The topics that match one of the expressions; never those the cluster keeps for itself.
async fn matching(client: &Client, wanted: &[String]) -> Result<Vec<TopicInfo>, Failure> {
    let set = expressions(wanted)?;
    let is_wanted =
        |set: &RegexSet, topic: &TopicInfo| !topic.internal && set.is_match(&topic.name);
    let mut topics = client.describe(None).await?.topics;
    topics.retain(|topic| is_wanted(&set, topic));
    if topics.is_empty() {
        let wanted = wanted.join(" or ");
        return Err(Failure::not_found(format!(
            "no topic matches {wanted}; see `sawlog topic list`"
        )));
    }
    Ok(topics)
}

fn expressions(texts: &[String]) -> Result<RegexSet, Failure> {
    let mut builder = regex::RegexSetBuilder::new(texts);
    let built = builder.size_limit(REGEX_BYTES_MAX).build();
    built.map_err(|error| Failure::usage(one_line(texts, &error)))
}

/// The last line of a syntax error says what is wrong; those before it draw where.
fn one_line(texts: &[String], error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
    // The error says nothing of which it is about.
    let wrong = texts.iter().find(|text| regex::Regex::new(text).is_err());
    let wrong = wrong.map_or_else(|| texts.join(" "), Clone::clone);
    format!("\"{wrong}\" is no regular expression: {last}")
}

/// The partitions of the topics, or of them those that are wanted.
pub(crate) fn assign(
    topics: &[TopicInfo],
    wanted: &[i32],
    span: Span,
) -> Result<Vec<Assignment>, Failure> {
    let mut assignments = Vec::new();
    for topic in topics {
        let all = || topic.partitions.iter().map(|partition| partition.index).collect();
        let partitions: Vec<i32> = if wanted.is_empty() { all() } else { wanted.to_vec() };
        for partition in partitions {
            crate::topic::has_partition(topic, partition)?;
            let topic = topic.name.clone();
            assignments.push(Assignment { topic, partition, from: span.from, until: span.until });
        }
    }
    Ok(assignments)
}

impl Reading {
    /// Prints until the end, the count, or the reader of the output is gone.
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut consumer = Consumer::assign(client, &self.assignments).await?;
        // On a terminal the records themselves show that it goes on.
        let shown = !std::io::stdout().is_terminal();
        let bound = (self.count_max < u64::MAX).then_some(self.count_max);
        let mut progress = Progress::new("records", bound, shown);
        let mut printed = 0u64;
        let mut out = Vec::new();
        while printed < self.count_max {
            let Some(records) = consumer.next().await? else { break };
            for record in &records {
                if printed == self.count_max {
                    break;
                }
                printed += 1;
                self.format.write(record, printed, &mut out);
                if out.len() >= OUTPUT_BYTES {
                    flush(&mut out)?;
                }
            }
            flush(&mut out)?;
            progress.update(printed);
        }
        Ok(())
    }
}

fn flush(out: &mut Vec<u8>) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(out).and_then(|()| stdout.flush()).map_err(Failure::output)?;
    out.clear();
    Ok(())
}
