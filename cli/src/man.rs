//! `sawlog man`: manual pages, from the definition of the command line.

use std::path::PathBuf;

use clap::{Args, Command, CommandFactory as _};

use crate::Cli;
use crate::failure::{Failure, say};
use crate::output::Output;

/// Print a manual page, to be read with `sawlog man | man -l -`.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The command, such as `topic create`; sawlog itself if not given
    command: Vec<String>,
    /// Write the pages of all commands into this directory instead
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let mut root = Cli::command();
        root.build();
        if let Some(dir) = &self.dir {
            let failed = |error: std::io::Error| {
                Failure::failed(format!("cannot write to {}: {error}", dir.display()))
            };
            std::fs::create_dir_all(dir).map_err(failed)?;
            clap_mangen::generate_to(root, dir).map_err(failed)?;
            say(format!("wrote the manual pages to {}", dir.display()));
            return Ok(());
        }
        let mut command: &Command = &root;
        for word in &self.command {
            command = command.find_subcommand(word).ok_or_else(|| {
                Failure::not_found(format!(
                    "no command \"{}\"; see `sawlog help`",
                    self.command.join(" ")
                ))
            })?;
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone()).render(&mut page).map_err(Failure::output)?;
        Output::write(&page)
    }
}
