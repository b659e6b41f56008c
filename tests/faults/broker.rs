//! A broker process of the test's own that may be told to fail: what it says is kept, how it ends is
//! known.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::process::free_address;

/// Longest wait for anything a broker must do; only a broken one takes that long.
const DEADLINE: Duration = Duration::from_secs(60);

/// How a broker is started.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Its data directories.
    pub(crate) data: Vec<PathBuf>,
    /// Settings, as for `-X`.
    pub(crate) settings: Vec<String>,
    /// Files it may have open.
    pub(crate) open_files_max: Option<u32>,
}

impl Options {
    /// One data directory, nothing set.
    pub(crate) fn on(data: &Path) -> Self {
        Self { data: vec![data.to_owned()], settings: Vec::new(), open_files_max: None }
    }

    /// The same with a setting.
    pub(crate) fn set(mut self, setting: &str) -> Self {
        self.settings.push(setting.to_owned());
        self
    }
}

/// A running broker. Killed when dropped; fails the test if it ever panicked.
#[derive(Debug)]
pub(crate) struct Broker {
    child: Child,
    address: SocketAddr,
    said: PathBuf,
    _scratch: tempfile::TempDir,
}

impl Broker {
    /// Starts a broker and waits until it takes connections.
    pub(crate) fn start(options: &Options) -> Self {
        let mut broker = Self::spawn(options);
        broker.wait_until_said("is listening on");
        broker
    }

    /// Starts a broker, which may well end at once.
    pub(crate) fn spawn(options: &Options) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let said = scratch.path().join("said");
        let address = free_address();
        let mut command = match options.open_files_max {
            Some(files) => {
                let mut command = Command::new("sh");
                let run = format!("ulimit -n {files} && exec \"$0\" \"$@\"");
                command.arg("-c").arg(run).arg(sawlog_tests::sawlog());
                command
            }
            None => Command::new(sawlog_tests::sawlog()),
        };
        command.arg("serve").args(["--listen", &address.to_string()]);
        for data in &options.data {
            command.arg("--data").arg(data);
        }
        for setting in &options.settings {
            command.args(["-X", setting]);
        }
        let child = command
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&said).unwrap())
            .spawn()
            .unwrap();
        Self { child, address, said, _scratch: scratch }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has said so far.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.said).unwrap()).into_owned()
    }

    /// Waits until it says something with `words` in it.
    pub(crate) fn wait_until_said(&mut self, words: &str) {
        let deadline = Instant::now() + DEADLINE;
        while !self.said().contains(words) {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "no \"{words}\" ({ended:?}):\n{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until it has ended by itself, or by what was done to it.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it goes on:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether it runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.wait();
    }

    /// SIGTERM; returns whether the stop was clean.
    pub(crate) fn terminate(&mut self) -> bool {
        let sent = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
        self.wait().success()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Already gone is fine.
        let _gone = self.child.kill();
        let status = self.child.wait();
        let said = self.said();
        if std::env::var_os("SAWLOG_TEST_LOG").is_some() {
            eprintln!("{said}");
        }
        if std::thread::panicking() {
            eprintln!("the broker said:\n{said}");
            return;
        }
        assert!(!said.contains("panicked"), "the broker panicked:\n{said}");
        let signal = status.ok().and_then(|status| status.signal());
        assert!(matches!(signal, None | Some(9)), "ended by signal {signal:?}:\n{said}");
    }
}
