//! `sawlog doctor`: says what is wrong between here and a broker, and how to fix it.
//!
//! Every step is bounded in time and in bytes; nothing is changed on the cluster unless `--clock`
//! asks for it.

mod clock;
mod cluster;
mod probe;

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::Global;
use crate::failure::{Failure, Kind};
use crate::output::{Output, Rows};

/// Longest wait of one step.
const STEP_MAX: Duration = Duration::from_secs(5);

/// Find out what is wrong.
#[derive(Debug, Subcommand)]
pub(crate) enum Doctor {
    /// Try the way from here to a broker, step by step: name, connection, protocol, and the
    /// addresses it sends clients to
    Connect(Connect),
    Cluster(cluster::Cluster),
}

/// How to try it.
#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// The broker; the one other commands would talk to if not given
    #[arg(value_name = "HOST:PORT")]
    address: Option<String>,
    /// Compare clocks, too: creates a topic for a moment, writes one record and deletes it
    #[arg(long)]
    clock: bool,
    #[command(flatten)]
    output: Output,
}

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Doubtful,
    Bad,
}

/// One step.
#[derive(Debug)]
struct Finding {
    step: &'static str,
    target: String,
    verdict: Verdict,
    what: String,
    /// What to do about it; empty if nothing is to do.
    fix: String,
}

/// All steps so far.
#[derive(Debug, Default)]
struct Findings {
    all: Vec<Finding>,
    /// Whether the broker that was asked for answered.
    reached: bool,
}

impl Findings {
    /// As a table where one is asked for, else as lines for people.
    fn print(&self, output: &Output) -> Result<(), Failure> {
        if output.is_chosen() {
            let mut rows = Rows::new(&["step", "target", "result", "detail", "fix"]);
            for one in &self.all {
                let result = word(one.verdict);
                rows.push(vec![
                    json!(one.step),
                    json!(one.target),
                    json!(result),
                    json!(one.what),
                    json!(one.fix),
                ]);
            }
            return output.print(&rows);
        }
        let mut text = String::new();
        for Finding { step, target, verdict, what, fix } in &self.all {
            let word = word(*verdict);
            text.push_str(&format!("{word:<8}  {step:<9}  {target}: {what}\n"));
            if !fix.is_empty() {
                text.push_str(&format!("{:<21}  fix: {fix}\n", ""));
            }
        }
        Output::write(text.as_bytes())
    }

    fn good(&mut self, step: &'static str, target: &str, what: impl Into<String>) {
        self.add(step, target, Verdict::Good, what.into(), String::new());
    }

    fn doubtful(&mut self, step: &'static str, target: &str, what: String, fix: String) {
        self.add(step, target, Verdict::Doubtful, what, fix);
    }

    fn bad(&mut self, step: &'static str, target: &str, trouble: Trouble) {
        self.add(step, target, Verdict::Bad, trouble.what, trouble.fix);
    }

    fn add(
        &mut self,
        step: &'static str,
        target: &str,
        verdict: Verdict,
        what: String,
        fix: String,
    ) {
        self.all.push(Finding { step, target: target.to_owned(), verdict, what, fix });
    }
}

/// What is wrong, and what to do about it.
#[derive(Debug)]
struct Trouble {
    what: String,
    fix: String,
}

impl Trouble {
    fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), fix: fix.into() }
    }
}

impl Doctor {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Connect(connect) => connect.run(global).await,
            Self::Cluster(cluster) => cluster.run(global).await,
        }
    }
}

impl Connect {
    async fn run(self, global: &Global) -> Result<(), Failure> {
        let address = match &self.address {
            Some(address) => address.clone(),
            None => {
                let all = global.bootstrap()?;
                all.split(',').next().unwrap_or_default().trim().to_owned()
            }
        };
        crate::address(&address)?;
        let patience = global.timeout.min(STEP_MAX);
        let dialled = address.clone();
        // Probing blocks; nothing else runs meanwhile, but Ctrl-C shall end it.
        let probed = tokio::task::spawn_blocking(move || probe::run(&dialled, patience)).await;
        let mut findings =
            probed.map_err(|error| Failure::failed(format!("the probe failed: {error}")))?;
        if findings.reached && self.clock {
            clock::compare(&address, patience, &mut findings).await;
        }
        findings.print(&self.output)?;
        judge(&address, &findings)
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Doubtful => "doubtful",
        Verdict::Bad => "BAD",
    }
}

/// The exit code: nothing bad, not reached, or reached with something bad behind it.
fn judge(address: &str, findings: &Findings) -> Result<(), Failure> {
    let bad: Vec<_> = findings.all.iter().filter(|one| one.verdict == Verdict::Bad).collect();
    let Some(worst) = bad.first() else { return Ok(()) };
    if !findings.reached {
        return Err(Failure::new(
            Kind::Unreachable,
            format!("{address} cannot be used from here: {}; {}", worst.what, worst.fix),
        ));
    }
    Err(Failure::new(
        Kind::Unhealthy,
        format!("{address} answers, but {} of {} steps failed", bad.len(), findings.all.len()),
    ))
}
