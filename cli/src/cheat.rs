//! `sawlog cheat`: commands to copy, by subject.
//!
//! The sheet is text; a test parses every command of it with the real command line.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use crate::failure::Failure;
use crate::output::Output;

const SHEET: &str = include_str!("cheat.txt");

/// Show commands to copy.
#[derive(Debug, Args)]
pub(crate) struct Cheat {
    /// The subject; all if not given
    #[arg(add = ArgValueCandidates::new(crate::complete::cheats))]
    subject: Option<String>,
}

/// The subjects, in the order of the sheet.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    SHEET.lines().filter_map(|line| line.strip_prefix("# "))
}

impl Cheat {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let Some(subject) = &self.subject else { return Output::write(SHEET.as_bytes()) };
        match page(subject) {
            Some(page) => Output::write(page.as_bytes()),
            None => {
                let known: Vec<_> = names().collect();
                Err(Failure::not_found(format!(
                    "no cheat sheet for \"{subject}\": there are {}",
                    known.join(", ")
                )))
            }
        }
    }
}

/// From the heading of a subject up to the next one.
fn page(subject: &str) -> Option<String> {
    let mut lines = SHEET.lines().skip_while(|line| line.strip_prefix("# ") != Some(subject));
    let heading = lines.next()?;
    let body = lines.take_while(|line| !line.starts_with("# "));
    let mut text = heading.to_owned();
    for line in body {
        text.push('\n');
        text.push_str(line);
    }
    Some(format!("{}\n", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn every_command_of_the_sheet_parses() {
        let commands = SHEET.lines().filter(|line| !line.starts_with("# ") && !line.is_empty());
        let mut count = 0;
        for line in commands {
            let command = line.split("  #").next().unwrap_or_default();
            for part in command.split(" | ").filter(|part| part.starts_with("sawlog ")) {
                let words = words(part);
                let parsed = crate::Cli::try_parse_from(&words);
                assert!(parsed.is_ok(), "{part}: {}", parsed.unwrap_err());
                count += 1;
            }
        }
        assert!(count > 20, "{count} commands");
    }

    /// As a shell splits it: single quotes keep spaces.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for character in line.chars() {
            match character {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                other => words.last_mut().unwrap().push(other),
            }
        }
        // What a redirection names is the shell's.
        let own = words.iter().position(|word| word == "<" || word == ">");
        words.truncate(own.unwrap_or(words.len()));
        words.retain(|word| !word.is_empty());
        words
    }

    #[test]
    fn a_page_ends_at_the_next_heading() {
        let first = names().next().unwrap();
        let page = page(first).unwrap();
        assert!(page.starts_with(&format!("# {first}\n")));
        assert_eq!(page.lines().filter(|line| line.starts_with("# ")).count(), 1);
    }
}
