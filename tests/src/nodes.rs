//! A cluster of `sawlog serve` processes, each on a loopback address of its own. The first one is started
//! plainly, the others join it.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::sawlog;

/// Longest wait for what a cluster does by itself. Only a broken one takes that long.
const DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(50);

/// Brokers that vote on the metadata, where there are so many; else the first one alone does.
const VOTERS: usize = 3;

/// A cluster. What still runs is killed when it is dropped.
#[derive(Debug)]
pub struct Nodes {
    nodes: Vec<Node>,
    settings: Vec<String>,
    directory: TempDir,
}

/// A broker of it, running or not.
#[derive(Debug)]
struct Node {
    id: usize,
    ip: String,
    process: Option<Child>,
}

impl Nodes {
    /// Starts brokers with the ids 1 to `count` and these settings, and waits until all of them run. The
    /// first three vote, or the first one alone.
    ///
    /// # Panics
    /// With their output, if that takes a minute.
    pub fn start(count: usize, settings: &[(&str, &str)]) -> Nodes {
        let settings = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let directory = TempDir::new().expect("a scratch directory");
        let mut nodes = Nodes { nodes: Vec::new(), settings, directory };
        for id in 1..=count {
            nodes.nodes.push(Node { id, ip: own_ip(), process: None });
            nodes.up(id);
            // It is these that vote, and not some that come after them.
            if id == VOTERS {
                nodes.wait_until_they_vote(VOTERS);
            }
        }
        if count < VOTERS {
            nodes.wait_until_they_vote(1);
        }
        nodes
    }

    /// Starts a broker that does not run, on the data it has, and waits until it takes connections.
    ///
    /// # Panics
    /// With its output, if it ends or does not listen.
    pub fn up(&mut self, id: usize) {
        let mut command = Command::new(sawlog());
        command.args(["serve", "--listen", &self.address(id), "--peer-listen", &self.peers(id)]);
        command.args(["--http", &self.http(id), "-X", &format!("node.id={id}"), "--data"]);
        command.arg(self.data(id));
        if id != 1 {
            command.args(["--join", &self.peers(1)]);
        }
        for setting in &self.settings {
            command.args(["-X", setting]);
        }
        let output = File::options().create(true).append(true).open(self.output_file(id));
        let output = output.expect("a file");
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let mut child = command.spawn().expect("sawlog starts");
        let deadline = Instant::now() + DEADLINE;
        while TcpStream::connect(self.address(id)).is_err() {
            let ended = child.try_wait().expect("our child can be waited for");
            if ended.is_some() || Instant::now() > deadline {
                panic!("broker {id} does not listen ({ended:?}):\n{}", self.output(id));
            }
            thread::sleep(PAUSE);
        }
        self.at(id).process = Some(child);
    }

    /// kill -9.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self, id: usize) {
        let mut process = self.at(id).process.take().expect("a running broker");
        process.kill().expect("our child can be killed");
        process.wait().expect("a killed child ends");
    }

    /// SIGTERM, and waits for the end. Returns whether it was clean.
    ///
    /// # Panics
    /// If it does not run.
    pub fn terminate(&mut self, id: usize) -> bool {
        let mut process = self.at(id).process.take().expect("a running broker");
        let told = Command::new("kill").arg(process.id().to_string()).status();
        assert!(told.expect("kill runs").success());
        process.wait().expect("our child ends").success()
    }

    /// The process of a broker that runs.
    ///
    /// # Panics
    /// If it does not.
    pub fn pid(&self, id: usize) -> u32 {
        self.node(id).process.as_ref().expect("a running broker").id()
    }

    /// `host:port` for clients.
    pub fn address(&self, id: usize) -> String {
        format!("{}:9092", self.node(id).ip)
    }

    /// `host:port` for the other brokers.
    pub fn peers(&self, id: usize) -> String {
        format!("{}:9093", self.node(id).ip)
    }

    /// `host:port` of its health and metrics.
    pub fn http(&self, id: usize) -> String {
        format!("{}:9644", self.node(id).ip)
    }

    /// Its data directory.
    pub fn data(&self, id: usize) -> PathBuf {
        self.directory.path().join(format!("d{id}"))
    }

    /// The addresses of all brokers, separated by commas.
    pub fn bootstrap(&self) -> String {
        let all: Vec<String> = self.nodes.iter().map(|node| self.address(node.id)).collect();
        all.join(",")
    }

    /// What a broker has said.
    pub fn output(&self, id: usize) -> String {
        fs::read_to_string(self.output_file(id)).unwrap_or_default()
    }

    /// A `sawlog` command that talks to this cluster.
    pub fn command(&self) -> Command {
        let mut command = Command::new(sawlog());
        command.env("SAWLOG_BROKERS", self.bootstrap()).stdin(Stdio::null());
        command
    }

    /// What a `sawlog` command prints, which must succeed.
    ///
    /// # Panics
    /// If it fails.
    pub fn sawlog(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output().expect("sawlog runs");
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "sawlog {}: {err}", arguments.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn wait_until_they_vote(&self, wanted: usize) {
        let deadline = Instant::now() + DEADLINE;
        let arguments = ["--timeout", "5s", "cluster", "quorum", "-o", "jsonl"];
        loop {
            let answer = self.command().args(arguments).output().expect("sawlog runs");
            let text = String::from_utf8_lossy(&answer.stdout).into_owned();
            let settled = |line: &&str| line.contains("\"voter\"") && line.contains("\"behind\":0");
            if text.lines().filter(settled).count() >= wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{wanted} vote: {text}\n{}", self.output(1));
            thread::sleep(PAUSE);
        }
    }

    fn node(&self, id: usize) -> &Node {
        self.nodes.iter().find(|node| node.id == id).expect("a broker of this cluster")
    }

    fn at(&mut self, id: usize) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id == id).expect("a broker of this cluster")
    }

    fn output_file(&self, id: usize) -> PathBuf {
        self.directory.path().join(format!("output-{id}"))
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for process in self.nodes.iter_mut().filter_map(|node| node.process.as_mut()) {
            // It may have ended by itself: then there is nothing to kill, and wait still reaps it.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A loopback address nobody else uses, so that tests beside each other never take each other's ports.
fn own_ip() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(101);
    let [.., high, low] = std::process::id().to_be_bytes();
    format!("127.{}.{low}.{}", high.max(1), NEXT.fetch_add(1, Ordering::Relaxed))
}
