//! `sawlog topic grow`: more partitions.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use sawlog_client::Client;

use crate::failure::{Failure, Kind, say};

/// How many partitions there shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    /// This many in all.
    To(i32),
    /// This many more.
    By(i32),
}

fn parse_count(text: &str) -> Result<Count, String> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let number = digits.parse::<i32>().ok().filter(|n| *n > 0 && !digits.starts_with('+'));
    let number = number.ok_or("expected a number of partitions such as 12, or +6 for 6 more")?;
    Ok(if text.starts_with('+') { Count::By(number) } else { Count::To(number) })
}

/// Give a topic more partitions. Keys go to other partitions from then on
#[derive(Debug, Args)]
pub(crate) struct Grow {
    /// The topic
    #[arg(add = ArgValueCandidates::new(crate::complete::topics))]
    name: String,
    /// How many there shall be, or +N for N more
    #[arg(value_parser = parse_count)]
    count: Count,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
}

impl Grow {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let name = &self.name;
        let before = super::known(client, name).await?.partitions.len();
        let now = i32::try_from(before).unwrap_or(i32::MAX);
        let wanted = match self.count {
            Count::To(count) => count,
            Count::By(count) => now.saturating_add(count),
        };
        if wanted <= now {
            return Err(Failure::new(
                Kind::Precondition,
                format!(
                    "topic \"{name}\" has {now} partitions already; partitions cannot be removed"
                ),
            ));
        }
        client.create_partitions(name, wanted, self.dry_run).await.map_err(|error| {
            Failure::from(error).while_doing(format!("cannot grow topic \"{name}\""))
        })?;
        let done = if self.dry_run { "would grow" } else { "grew" };
        say(format!("topic \"{name}\" {done} from {now} to {wanted} partitions"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_absolute_or_relative() {
        assert_eq!(parse_count("12"), Ok(Count::To(12)));
        assert_eq!(parse_count("+6"), Ok(Count::By(6)));
        for wrong in ["", "+", "0", "-1", "++1", "x"] {
            assert!(parse_count(wrong).is_err(), "{wrong}");
        }
    }
}
