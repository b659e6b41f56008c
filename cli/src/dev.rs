//! `sawlog dev`: a broker, or several, gone when it ends, and a command that runs against it.
//!
//! The data directory is a new one below the temporary directory, readable by its owner alone, and
//! removed however this ends; only a kill -9 leaves it behind. Nothing is synced: what is thrown
//! away at the end need not survive a power cut.

mod nodes;

use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};

use clap::Args;
use sawlog_broker::config::{BrokerConfig, Sources};
use sawlog_broker::{Broker, StartErrorKind};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::nodes::Nodes;
use crate::failure::{Failure, Kind, say};
use crate::output::Output;

/// Run a throw-away broker on a free port, alone or for the time of a command.
///
/// With --nodes it is a cluster: several processes of this program. The command finds the broker in SAWLOG_BROKERS and KAFKA_BOOTSTRAP_SERVERS; its exit code is
/// passed on.
#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// How many brokers
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// A setting of the broker, as key=value; see docs/configuration.md for all of them
    #[arg(short = 'X', value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The command and its arguments; without it the broker runs until Ctrl-C
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// How the time with the broker ended.
enum Ended {
    /// By the user; the broker ran alone.
    Asked,
    /// The command ended.
    Command(ExitStatus),
    /// The broker cannot go on.
    Broker(String),
}

impl Ended {
    fn code(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Asked => Ok(ExitCode::SUCCESS),
            Self::Command(status) => Ok(ExitCode::from(code(status))),
            Self::Broker(why) => Err(Failure::new(Kind::Unhealthy, why)),
        }
    }
}

impl Dev {
    pub(crate) fn run(&self) -> Result<ExitCode, Failure> {
        crate::logging::start();
        let cannot_start = |error| Failure::failed(format!("cannot start: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(cannot_start)?;
        // Signals are caught before anything is on disk that would be left there.
        let mut signals = {
            let _entered = runtime.enter();
            Signals::catch().map_err(cannot_start)?
        };
        let scratch = Scratch::create()?;
        if self.nodes > 1 {
            return runtime.block_on(self.with_several(&scratch.0, &mut signals));
        }
        let broker = Broker::start(self.settings(&scratch.0)?).map_err(|error| {
            let kind = match error.kind() {
                StartErrorKind::Config => Kind::Usage,
                StartErrorKind::AddressInUse
                | StartErrorKind::DataDirectory
                | StartErrorKind::Other => Kind::Failed,
            };
            Failure::new(kind, error.to_string())
        })?;
        let address = broker.addresses().first().map(ToString::to_string).unwrap_or_default();
        let ended = runtime.block_on(self.attend(broker.failed(), &address, &mut signals));
        broker.stop();
        ended?.code()
    }

    /// A cluster of processes.
    async fn with_several(
        &self,
        scratch: &Path,
        signals: &mut Signals,
    ) -> Result<ExitCode, Failure> {
        // They all get the same settings: whether these make sense is seen before any is started.
        drop(self.settings(scratch)?);
        // Dropping a start kills what was started.
        let mut nodes = tokio::select! {
            nodes = Nodes::start(usize::from(self.nodes), scratch, &self.set) => nodes?,
            _ = signals.next() => return Ended::Asked.code(),
        };
        nodes.introduce();
        let addresses = nodes.addresses();
        let ended = self.attend(nodes.failed(), &addresses, signals).await;
        nodes.stop().await;
        ended?.code()
    }

    fn settings(&self, scratch: &Path) -> Result<BrokerConfig, Failure> {
        let data = scratch.join("data");
        let mut sources = Sources::new()
            .environment(std::env::vars())
            .flag("dev", "log.dirs", &data.to_string_lossy())
            .flag("dev", "listeners", "127.0.0.1:0")
            .flag("dev", "log.flush.mode", "os");
        for setting in &self.set {
            let (key, value) = setting.split_once('=').ok_or_else(|| {
                Failure::usage(format!(
                    "-X {setting}: expected key=value, such as num.partitions=6"
                ))
            })?;
            sources = sources.flag("-X", key.trim(), value.trim());
        }
        sources.load().map_err(|error| Failure::usage(error.to_string()))
    }

    /// Runs the command, or waits for a signal; `failed` comes to an end when the brokers are of no use
    /// any more.
    async fn attend(
        &self,
        failed: impl Future<Output = String>,
        address: &str,
        signals: &mut Signals,
    ) -> Result<Ended, Failure> {
        let mut failed = std::pin::pin!(failed);
        let environment = ["SAWLOG_BROKERS", "KAFKA_BOOTSTRAP_SERVERS"];
        let Some((program, arguments)) = self.command.split_first() else {
            say(format!(
                "sawlog dev is listening on {address}; Ctrl-C ends it and removes its data"
            ));
            let lines: Vec<_> =
                environment.iter().map(|name| format!("{name}={address}")).collect();
            Output::write(format!("{}\n", lines.join("\n")).as_bytes())?;
            // Nothing is lost by dropping either wait: both only watch.
            return tokio::select! {
                _ = signals.next() => Ok(Ended::Asked),
                why = &mut failed => Ok(Ended::Broker(why)),
            };
        };
        let mut child = Command::new(program)
            .args(arguments)
            .envs(environment.map(|name| (name, address)))
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| cannot_run(program, &error))?;
        loop {
            // Dropped waits lose nothing: a child that ended stays ended, a signal stays pending.
            tokio::select! {
                status = child.wait() => {
                    let unknown = |error| Failure::failed(format!("cannot wait: {error}"));
                    return status.map(Ended::Command).map_err(unknown);
                }
                signal = signals.next() => pass_on(&child, signal),
                why = &mut failed => {
                    // It is of no use any more; whether it is gone already does not matter.
                    let _gone = child.kill().await;
                    return Ok(Ended::Broker(why));
                }
            }
        }
    }
}

fn cannot_run(program: &OsString, error: &std::io::Error) -> Failure {
    let program = program.to_string_lossy();
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::not_found(format!("cannot run {program}: no such program; is it in PATH?"))
        }
        _ => Failure::failed(format!("cannot run {program}: {error}")),
    }
}

/// As shells have it: 128 and the signal's number for a command that a signal ended.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// A terminal sends its Ctrl-C to the command by itself; everything else is passed on.
fn pass_on(child: &Child, signal: SignalKind) {
    use std::io::IsTerminal as _;
    let from_terminal = signal == SignalKind::interrupt() && std::io::stdin().is_terminal();
    let pid = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
    let number = rustix::process::Signal::from_named_raw(signal.as_raw_value());
    if let (Some(pid), Some(number), false) = (pid, number, from_terminal) {
        // It may have ended by itself just now.
        let _gone = rustix::process::kill_process(pid, number);
    }
}

/// The signals that end a program.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> SignalKind {
        // Whichever is first; the others stay pending.
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.hangup.recv() => SignalKind::hangup(),
        }
    }
}

/// A directory of our own below the temporary one, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn create() -> Result<Self, Failure> {
        let base = std::env::temp_dir();
        let failed = |error: std::io::Error| {
            Failure::failed(format!(
                "cannot make a directory in {}: {error}; set TMPDIR to one that can be written",
                base.display()
            ))
        };
        for attempt in 0..100 {
            let path = base.join(format!("sawlog-dev-{}-{attempt}", std::process::id()));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(std::io::ErrorKind::AlreadyExists.into()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            say(format!("warning: cannot remove {}: {error}", self.0.display()));
        }
    }
}
