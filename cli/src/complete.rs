//! What shells offer while a command is typed: topics and groups of the cluster it would talk to, contexts,
//! pages of the cheat sheet.
//!
//! A shell waits for this at every Tab: whatever takes longer than [`PATIENCE`] offers nothing.

use std::time::Duration;

use clap::CommandFactory as _;
use clap_complete::CompleteEnv;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;
use sawlog_client::{Client, ClientOptions, GroupFilter};

use crate::failure::Failure;
use crate::{Cli, Global, cheat, context};

/// Longest time a shell waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// Variable by which the script of [`script`] asks for candidates.
const VARIABLE: &str = "SAWLOG_COMPLETE";

/// Answers a shell that asks for candidates, and ends; returns if none does.
pub(crate) fn answer_shell() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).bin("sawlog").complete();
}

/// The script that makes a shell ask this binary.
pub(crate) fn script(shell: clap_complete::Shell) -> Result<Vec<u8>, Failure> {
    let failed = |why: String| Failure::failed(format!("cannot write the script: {why}"));
    let shells = Shells::builtins();
    let completer = shells
        .completer(&shell.to_string())
        .ok_or_else(|| failed(format!("{shell} is not supported")))?;
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, "sawlog", "sawlog", "sawlog", &mut script)
        .map_err(|error| failed(error.to_string()))?;
    Ok(script)
}

/// Contexts of this user.
pub(crate) fn contexts() -> Vec<CompletionCandidate> {
    // A file that cannot be read offers nothing.
    let contexts = context::Contexts::load().unwrap_or_default();
    contexts.names().map(CompletionCandidate::new).collect()
}

/// Pages of the cheat sheet.
pub(crate) fn cheats() -> Vec<CompletionCandidate> {
    cheat::names().map(CompletionCandidate::new).collect()
}

/// Topics of the cluster the command typed so far would talk to.
pub(crate) fn topics() -> Vec<CompletionCandidate> {
    names(async |client| {
        let topics = client.describe(None).await.ok()?.topics.into_iter();
        Some(topics.filter(|topic| !topic.internal).map(|topic| topic.name).collect())
    })
}

/// Groups of the cluster the command typed so far would talk to.
pub(crate) fn groups() -> Vec<CompletionCandidate> {
    names(async |client| {
        let groups = client.list_groups(&GroupFilter::default()).await.ok()?;
        Some(groups.into_iter().map(|group| group.group).collect())
    })
}

/// What `ask` finds out in time.
fn names(ask: impl AsyncFnOnce(Client) -> Option<Vec<String>>) -> Vec<CompletionCandidate> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return Vec::new() };
    let names = runtime.block_on(async {
        let ask = async {
            let mut options = ClientOptions::new(&typed().bootstrap().ok()?);
            options.timeout = PATIENCE;
            ask(Client::connect(options).await.ok()?).await
        };
        tokio::time::timeout(PATIENCE, ask).await.ok().flatten()
    });
    names.unwrap_or_default().into_iter().map(CompletionCandidate::new).collect()
}

/// The options for brokers in the words typed so far: they decide whose topics are offered.
fn typed() -> Global {
    let words: Vec<String> = std::env::args().collect();
    let value = |short: &str, long: &str| {
        words.iter().enumerate().find_map(|(at, word)| {
            if word == long || (!short.is_empty() && word == short) {
                return words.get(at + 1).cloned();
            }
            let joined = word.strip_prefix(long).and_then(|rest| rest.strip_prefix('='));
            joined.map(str::to_owned)
        })
    };
    Global { brokers: value("-b", "--brokers"), context: value("", "--context"), timeout: PATIENCE }
}
