//! The command line of `sawlog-compare`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::Failure;
use crate::variant::{Kind, VARIANTS, Variant};

/// Sawlog and Apache Kafka on this machine, one after the other, under the same clients.
#[derive(Clone, Debug, Parser)]
#[command(name = "sawlog-compare", args_override_self = true)]
pub(crate) struct Options {
    /// A quarter of the records, a third of the time, one repetition: to see that it works
    #[arg(long)]
    pub(crate) quick: bool,
    /// How often everything is measured; the figures are medians [default: 3, with --quick 1]
    #[arg(long, visible_alias = "reps", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=25))]
    repetitions: Option<u32>,
    /// Only what has one of these texts in its name, as --list prints it
    #[arg(long, value_name = "TEXT", value_delimiter = ';')]
    only: Vec<String>,
    /// Prints the names of what can be measured and stops
    #[arg(long)]
    pub(crate) list: bool,
    /// Which brokers
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = Brokers::Both)]
    broker: Brokers,
    /// Sawlog's flush.mode: synced before the answer, or left to the operating system as Kafka does
    #[arg(long, value_name = "MODE", value_enum, default_value_t = Flush::Both)]
    flush: Flush,
    /// Drives the broker that already runs there, instead of starting any; --broker says what it is
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) address: Option<String>,
    /// With --address: the broker's process, for its processor time and memory
    #[arg(long, requires = "address")]
    pub(crate) pid: Option<u32>,
    /// Writes every single value, too, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// The sawlog program
    #[arg(long, value_name = "FILE", default_value = "target/release/sawlog")]
    pub(crate) sawlog: PathBuf,
    /// Directory of Apache Kafka's jars
    #[arg(long, value_name = "DIR", default_value = "target/compare/kafka")]
    pub(crate) kafka_jars: PathBuf,
    /// Where the brokers' data is, until the end of the run [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Brokers {
    Sawlog,
    Kafka,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Flush {
    Group,
    Os,
    Both,
}

impl Options {
    pub(crate) fn repetitions(&self) -> u32 {
        self.repetitions.unwrap_or(if self.quick { 1 } else { 3 })
    }

    pub(crate) fn wants(&self, scenario: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|text| scenario.contains(text.as_str()))
    }

    /// What is compared, in the order of the table's columns.
    pub(crate) fn variants(&self) -> Result<Vec<Variant>, Failure> {
        if self.address.is_some() && self.broker == Brokers::Both {
            return Err("--address needs --broker sawlog or --broker kafka".into());
        }
        let wanted = |variant: &Variant| match (variant.kind, variant.flush_mode) {
            (Kind::Kafka, _) => self.broker != Brokers::Sawlog,
            (Kind::Sawlog, Some("os")) => {
                self.broker != Brokers::Kafka && self.flush != Flush::Group
            }
            (Kind::Sawlog, _) => self.broker != Brokers::Kafka && self.flush != Flush::Os,
        };
        Ok(VARIANTS.into_iter().filter(wanted).collect())
    }
}
