//! `sawlog consume`: records of topics to standard output.

use std::io::Write as _;

use clap::Args;
use sawlog_client::{Assignment, Consumer, Position};

use crate::Global;
use crate::failure::Failure;
use crate::format::{Format, parse};
use crate::position::{Span, parse_span};

/// Output gathered before it is written while more is at hand.
const OUTPUT_BYTES: usize = 256 * 1024;

/// Print records of topics.
#[derive(Debug, Args)]
pub(crate) struct Consume {
    /// The topics
    #[arg(required = true)]
    topics: Vec<String>,
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
    /// Stop after this many records
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
    /// Stop at the end there is now
    #[arg(short = 'e', long)]
    exit: bool,
    /// How to print: json, value, or verbs: %t topic, %p partition, %o offset, %k key, %v value,
    /// %K %S lengths, %T timestamp, %h headers
    #[arg(short = 'f', long, default_value = "value", value_parser = parse)]
    format: Format,
}

impl Consume {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.connect().await?;
        let mut assignments = Vec::new();
        for topic in &self.topics {
            let info = crate::topic::known(&client, topic).await?;
            let all = info.partitions.iter().map(|partition| partition.index);
            let wanted: Vec<i32> =
                if self.partition.is_empty() { all.collect() } else { self.partition.clone() };
            for partition in wanted {
                if !info.partitions.iter().any(|known| known.index == partition) {
                    return Err(Failure::not_found(format!(
                        "topic \"{topic}\" has no partition {partition}, it has {}",
                        info.partitions.len()
                    )));
                }
                let until = self.offset.until.or(self.exit.then_some(Position::End));
                assignments.push(Assignment {
                    topic: topic.clone(),
                    partition,
                    from: self.offset.from,
                    until,
                });
            }
        }
        let mut consumer = Consumer::assign(&client, &assignments).await?;
        let mut left = self.count.unwrap_or(u64::MAX);
        let mut out = Vec::new();
        while left > 0 {
            let Some(records) = consumer.next().await? else { break };
            for record in &records {
                if left == 0 {
                    break;
                }
                left -= 1;
                self.format.write(record, &mut out);
                if out.len() >= OUTPUT_BYTES {
                    flush(&mut out)?;
                }
            }
            flush(&mut out)?;
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
