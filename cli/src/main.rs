//! `sawlog`: broker and command line in one binary.

mod bench;
mod cat;
mod cheat;
mod cluster;
mod complete;
mod consume;
mod context;
mod dev;
mod doctor;
mod failure;
mod format;
mod group;
mod health;
mod jsonl;
mod log;
mod logging;
mod man;
mod output;
mod position;
mod produce;
mod progress;
#[cfg(test)]
mod reference;
mod serve;
mod top;
mod topic;
mod trim;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use sawlog_client::{Client, ClientOptions};

use crate::context::Contexts;
use crate::failure::{Failure, say};
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
    /// Brokers to ask first, separated by commas [env: SAWLOG_BROKERS] [default: 127.0.0.1:9092]
    #[arg(short = 'b', long, global = true, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// The cluster of this name, see `sawlog context` [env: SAWLOG_CONTEXT]
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        conflicts_with = "brokers",
        add = ArgValueCandidates::new(complete::contexts)
    )]
    context: Option<String>,
    /// Longest wait for a broker
    #[arg(long, global = true, value_name = "TIME", default_value = "30s", value_parser = position::parse_duration)]
    timeout: Duration,
}

/// Where a broker listens that was started without a word.
const DEFAULT_BROKERS: &str = "127.0.0.1:9092";

impl Global {
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        let mut options = ClientOptions::new(&self.bootstrap()?);
        options.timeout = self.timeout;
        Ok(Client::connect(options).await?)
    }

    /// The brokers to ask: by flag, else by environment, else of the context in use.
    fn given(&self) -> Result<String, Failure> {
        let environment = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(brokers) = &self.brokers {
            return Ok(brokers.clone());
        }
        let mut context = self.context.clone();
        if context.is_none() {
            if let Some(brokers) = environment("SAWLOG_BROKERS") {
                return Ok(brokers);
            }
            context = environment("SAWLOG_CONTEXT");
        }
        let brokers = Contexts::load()?.brokers(context.as_deref())?;
        Ok(brokers.unwrap_or_else(|| DEFAULT_BROKERS.to_owned()))
    }

    /// As [`Global::given`], and all of them addresses.
    pub(crate) fn bootstrap(&self) -> Result<String, Failure> {
        let brokers = self.given()?;
        brokers.split(',').map(str::trim).filter(|one| !one.is_empty()).try_for_each(address)?;
        Ok(brokers)
    }
}

/// Says so where something is no address.
pub(crate) fn address(text: &str) -> Result<(), Failure> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(()),
        _ => Err(Failure::usage(format!(
            "\"{text}\" is no address: expected host:port, such as 127.0.0.1:9092"
        ))),
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Dev(dev::Dev),
    #[command(subcommand)]
    Topic(topic::Topic),
    #[command(subcommand)]
    Group(group::Group),
    Produce(produce::Produce),
    Consume(consume::Consume),
    Cat(cat::Cat),
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    #[command(subcommand)]
    Bench(bench::Bench),
    Top(top::Top),
    #[command(subcommand)]
    Log(log::Log),
    #[command(subcommand)]
    Doctor(doctor::Doctor),
    Health(health::Health),
    #[command(subcommand)]
    Context(context::Context),
    Cheat(cheat::Cheat),
    Man(man::Man),
    /// Print a completion script for a shell, to be sourced; it completes topics, groups and contexts, too
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
    complete::answer_shell();
    let cli = Cli::try_parse().unwrap_or_else(|error| usage(&error));
    match run(cli) {
        Ok(code) => code,
        Err(failure) => ExitCode::from(failure.report()),
    }
}

/// Says what is wrong with the command line, or what was asked for instead, and ends.
fn usage(error: &clap::Error) -> ! {
    const UNCLEAR: &str = "invalid digit found in string";
    let text = error.render().to_string();
    if text.contains(UNCLEAR) {
        say(text.replace(UNCLEAR, "expected a whole number").trim_end());
        std::process::exit(error.exit_code());
    }
    error.exit()
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Dev(dev) => return dev.run(),
        Command::Serve(serve) => serve.run(),
        Command::Log(log) => log.run(),
        Command::Context(context) => context.run(&global),
        Command::Cheat(cheat) => cheat.run(),
        Command::Man(man) => man.run(),
        Command::Completion { shell } => Output::write(&complete::script(shell)?),
        Command::Version { json } => version(json),
        Command::Topic(topic) => on_runtime(topic.run(&global)),
        Command::Group(group) => on_runtime(group.run(&global)),
        Command::Produce(produce) => on_runtime(produce.run(&global)),
        Command::Consume(consume) if consume.is_member() => leaving(consume.run(&global)),
        Command::Consume(consume) => on_runtime(consume.run(&global)),
        Command::Cat(cat) if cat.is_member() => leaving(cat.run(&global)),
        Command::Cat(cat) => on_runtime(cat.run(&global)),
        Command::Cluster(cluster) => on_runtime(cluster.run(&global)),
        // It goes on until it is told to end: that is no failure.
        Command::Top(top) => match on_runtime(top.run(&global)) {
            Err(failure) if failure.kind == failure::Kind::Interrupted => Ok(()),
            ended => ended,
        },
        Command::Bench(bench) => on_runtime(bench.run(&global)),
        Command::Doctor(doctor) => on_runtime(doctor.run(&global)),
        Command::Health(health) => on_runtime(health.run(global.timeout)),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Runs a command that talks to a broker and ends by itself when it is told to.
fn leaving(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    runtime()?.block_on(command)
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))
}

/// Runs a command that talks to a broker; Ctrl-C ends it.
fn on_runtime(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    runtime()?.block_on(async {
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
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn command_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");
        let page = reference::command_page(Cli::command());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            stored == page,
            "docs/cli.md is stale: UPDATE_DOCS=1 cargo test -p sawlog-cli command_page"
        );
    }
}
