//! One running broker on a free loopback port with a data directory of its own.
//!
//! With `BOOTSTRAP=host:port` set it stands for a broker that already runs, and starts nothing.

use std::env;
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::http::address_in;
use crate::{free_address, sawlog};

const START_WAIT_MAX: Duration = Duration::from_secs(30);

/// A broker. Dropping it kills the process, if it is ours.
#[derive(Debug)]
pub struct Server {
    address: String,
    data: PathBuf,
    /// `NAME=VALUE`, as the command line takes them.
    settings: Vec<String>,
    process: Option<Child>,
    /// How often a process of ours was started.
    starts: usize,
    directory: TempDir,
}

impl Server {
    /// Starts a broker and waits until it takes connections.
    ///
    /// # Panics
    /// With the broker's output, if it exits or is not there after 30 s.
    pub fn start() -> Server {
        Server::start_with(&[])
    }

    /// Starts a broker with these settings of its own.
    ///
    /// # Panics
    /// As [`Server::start`].
    pub fn start_with(settings: &[(&str, &str)]) -> Server {
        let directory = TempDir::new().expect("a scratch directory");
        if let Ok(address) = env::var("BOOTSTRAP") {
            let data = env::var_os("BOOTSTRAP_DATA").unwrap_or_default().into();
            return Server {
                address,
                data,
                settings: Vec::new(),
                process: None,
                starts: 0,
                directory,
            };
        }
        let address = free_address().to_string();
        let data = directory.path().join("data");
        let settings = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut server = Server { address, data, settings, process: None, starts: 0, directory };
        server.start_process();
        server
    }

    /// kill -9, and a new process on the same data and address.
    ///
    /// # Panics
    /// If the broker is not ours, and as [`Server::start`].
    pub fn kill_and_restart(&mut self) {
        let mut process = self.process.take().expect("a broker that is ours");
        process.kill().expect("our child can be killed");
        process.wait().expect("a killed child ends");
        self.start_process();
    }

    fn start_process(&mut self) {
        let output = File::options().create(true).append(true).open(self.scratch().join("output"));
        let output = output.expect("a file");
        let mut command = Command::new(sawlog());
        command.args(["serve", "--listen", &self.address, "--data"]).arg(&self.data);
        for setting in &self.settings {
            command.args(["-X", setting]);
        }
        let command =
            command.stdin(Stdio::null()).stderr(output.try_clone().expect("a second handle"));
        self.process = Some(command.stdout(output).spawn().expect("sawlog starts"));
        self.starts += 1;
        self.wait_until_it_listens();
    }

    /// `host:port` of its listener.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `host:port` of its HTTP listener.
    ///
    /// # Panics
    /// If it does not say where that is within 30 s.
    pub fn http_address(&self) -> String {
        let deadline = Instant::now() + START_WAIT_MAX;
        // Said last of all, each time it starts.
        while self.output().matches("\n  next ").count() < self.starts {
            assert!(Instant::now() < deadline, "no greeting:\n{}", self.output());
            thread::sleep(Duration::from_millis(10));
        }
        address_in(&self.output()).to_owned()
    }

    /// Its data directory; empty for a broker we did not start and were not told the directory of.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A directory for the test's own files, removed with the server.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// What the broker printed so far.
    pub fn output(&self) -> String {
        fs::read_to_string(self.scratch().join("output")).unwrap_or_default()
    }

    /// A `sawlog` command that talks to this broker.
    pub fn command(&self) -> Command {
        let mut command = Command::new(sawlog());
        command.env("SAWLOG_BROKERS", &self.address).stdin(Stdio::null());
        command
    }

    fn wait_until_it_listens(&mut self) {
        let deadline = Instant::now() + START_WAIT_MAX;
        while TcpStream::connect(&self.address).is_err() {
            let process = self.process.as_mut().expect("only called for our own");
            let ended = process.try_wait().expect("our child can be waited for");
            if ended.is_some() || Instant::now() > deadline {
                panic!("sawlog serve does not listen ({ended:?}):\n{}", self.output());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended by itself: then there is nothing to kill, and wait still reaps it.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
