//! Brokers that are listened to: each says on its own what it does, and why it does not.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::process::free_address;

/// Longest wait for what a broker says; only a broken one takes that long.
const DEADLINE: Duration = Duration::from_secs(60);

/// A broker and all it says.
pub(crate) struct Broker {
    child: Child,
    said: Arc<(Mutex<String>, Condvar)>,
    pub(crate) clients: SocketAddr,
    pub(crate) peers: SocketAddr,
}

impl Broker {
    /// Starts a broker on addresses of its own.
    pub(crate) fn start(data: &Path, extra: &[&str]) -> Self {
        let (clients, peers) = (free_address(), free_address());
        Self::start_at(data, clients, peers, extra)
    }

    pub(crate) fn start_at(
        data: &Path,
        clients: SocketAddr,
        peers: SocketAddr,
        extra: &[&str],
    ) -> Self {
        let mut child = Command::new(sawlog_tests::sawlog())
            .arg("serve")
            .args(["--data".as_ref(), data.as_os_str()])
            .args(["--listen", &clients.to_string(), "--peer-listen", &peers.to_string()])
            .args(["-X", "http.listener=none"])
            .args(extra)
            .env("SAWLOG_LOG", "sawlog_broker=info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the sawlog binary starts");
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let said: Arc<(Mutex<String>, Condvar)> = Arc::default();
        let heard = said.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut said = heard.0.lock().expect("nobody panics with it");
                said.push_str(&line);
                said.push('\n');
                heard.1.notify_all();
            }
        });
        Self { child, said, clients, peers }
    }

    /// Waits until it has said all of that.
    pub(crate) fn says(&self, words: &[&str]) -> String {
        let deadline = Instant::now() + DEADLINE;
        let mut said = self.said.0.lock().expect("nobody panics with it");
        loop {
            if let Some(line) = said.lines().find(|line| words.iter().all(|it| line.contains(it))) {
                return line.to_owned();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no line with {words:?} in:\n{said}");
            said = self.said.1.wait_timeout(said, left).expect("nobody panics with it").0;
        }
    }

    /// SIGTERM ends it, whatever it is at.
    pub(crate) fn terminate(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().expect("kill runs").success());
        let status = self.child.wait().expect("it can be waited for");
        assert!(status.success(), "{status}");
        self.says(&["stopped before it was up"]);
    }

    pub(crate) fn once_ready(self) -> Self {
        self.says(&["is listening on"]);
        self
    }

    /// Waits until it has ended by itself, with an error, after it has said all of that.
    pub(crate) fn gives_up(mut self, words: &[&str]) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be asked") {
                assert!(!status.success(), "it should have failed");
                break;
            }
            let said = self.said.0.lock().expect("nobody panics with it").clone();
            assert!(Instant::now() < deadline, "it goes on:\n{said}");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.says(words);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Already gone is fine.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// A directory for the data of a test's brokers.
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a scratch directory"))
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// What has another broker join this one.
pub(crate) fn join(broker: &Broker) -> [String; 2] {
    ["--join".to_owned(), broker.peers.to_string()]
}
