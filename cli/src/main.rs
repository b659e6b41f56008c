//! `sawlog`: broker and command line in one binary.

mod cluster;
mod consume;
mod failure;
mod format;
mod jsonl;
mod log;
mod logging;
mod output;
mod position;
mod produce;
mod serve;
mod topic;
mod trim;

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand};
use sawlog_client::{Client, ClientOptions};

use crate::failure::Failure;
use crate::output::Output;

/// A log-based publish/subscribe broker that speaks the Apache Kafka protocol.
#[derive(Debug, Parser)]
#[command(name = "sawlog", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command that talks to a broker.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Global {
    /// Brokers to ask first, separated by commas
    #[arg(
        short = 'b',
        long,
        global = true,
        value_name = "HOST:PORT",
        env = "SAWLOG_BROKERS",
        default_value = "127.0.0.1:9092"
    )]
    brokers: String,
    /// Longest wait for a broker
    #[arg(long, global = true, value_name = "TIME", default_value = "30s", value_parser = position::parse_duration)]
    timeout: Duration,
}

impl Global {
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        let mut options = ClientOptions::new(&self.brokers);
        options.timeout = self.timeout;
        Ok(Client::connect(options).await?)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    #[command(subcommand)]
    Topic(topic::Topic),
    Produce(produce::Produce),
    Consume(consume::Consume),
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    #[command(subcommand)]
    Log(log::Log),
    /// Print a completion script for a shell, to be sourced
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(failure.report()),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Serve(serve) => serve.run(),
        Command::Log(log) => log.run(),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "sawlog", &mut script);
            Output::write(&script)
        }
        Command::Version { json } => version(json),
        Command::Topic(topic) => on_runtime(topic.run(&global)),
        Command::Produce(produce) => on_runtime(produce.run(&global)),
        Command::Consume(consume) => on_runtime(consume.run(&global)),
        Command::Cluster(cluster) => on_runtime(cluster.run(&global)),
    }
}

/// Runs a command that talks to a broker; Ctrl-C ends it.
fn on_runtime(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        tokio::select! {
            result = command => result,
            _ = tokio::signal::ctrl_c() => {
                Err(Failure::new(failure::Kind::Interrupted, "interrupted"))
            }
        }
    })
}

fn version(json: bool) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    if json {
        let document = serde_json::json!({ "name": "sawlog", "version": version });
        Output::write(format!("{document}\n").as_bytes())
    } else {
        Output::write(format!("sawlog {version}\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
