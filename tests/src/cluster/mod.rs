//! A cluster of real broker processes that can be hurt: killed, stopped, wiped, cut off, slowed, filled up.
//!
//! Where the machine lets us ([`Machines::make`]), each broker has a network of its own and one of them a disk of
//! its own, so that connections can be cut by direction and a disk can be full; elsewhere brokers have
//! loopback addresses and only processes can be hurt. But for its start, nothing waits here for what a
//! cluster does by itself: that is the test's part. What still runs is killed when the cluster is dropped.

mod machines;

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::sawlog;
pub use machines::{Direction, Machines};

/// Longest wait for a broker that founds or joins a cluster to take connections, and to vote.
const START_WAIT_MAX: Duration = Duration::from_secs(60);

/// Longest wait for a broker that was asked to end.
const STOP_WAIT_MAX: Duration = Duration::from_secs(90);

const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Brokers that vote on the metadata, where there are so many; else the first one alone does.
const VOTERS: i32 = 3;

#[derive(Debug)]
struct Node {
    id: i32,
    clients: SocketAddr,
    peers: SocketAddr,
    process: Option<Child>,
    /// A tracer that slows its disk.
    tracer: Option<Child>,
}

/// A cluster of brokers with the ids 1 to their number.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    settings: Vec<String>,
    /// Dropped after the brokers, and before the directory.
    machines: Option<Machines>,
    directory: TempDir,
}

impl Cluster {
    /// Starts `count` brokers with these settings, one after another: the first founds the cluster, the
    /// others join it. Returns when all take connections, and the first three vote, or the first one alone.
    ///
    /// # Panics
    /// With what they printed, if that takes a minute.
    pub fn start(count: i32, settings: &[(&str, &str)], machines: Option<Machines>) -> Cluster {
        let node = |id: i32| {
            let ip = machines.as_ref().map_or_else(own_ip, |machines| machines.address(id));
            let address = |port| SocketAddr::new(ip, port);
            Node { id, clients: address(9092), peers: address(9093), process: None, tracer: None }
        };
        let nodes = (1..=count).map(node).collect();
        let settings = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let directory = TempDir::new().expect("a scratch directory");
        let mut cluster = Cluster { nodes, settings, machines, directory };
        for id in 1..=count {
            cluster.run(id);
            cluster.wait_until_it_listens(id);
            // It is these that vote, and not some that come after them.
            if id == VOTERS {
                cluster.wait_until_they_vote(3);
            }
        }
        if count < VOTERS {
            cluster.wait_until_they_vote(1);
        }
        // A broker takes connections before the controller knows that it runs.
        cluster.wait_until_told(cluster.nodes.len(), "nodes", &["\"running\""]);
        cluster
    }

    fn wait_until_they_vote(&self, wanted: usize) {
        self.wait_until_told(wanted, "quorum", &["\"voter\"", "\"behind\":0"]);
    }

    /// Waits until `sawlog cluster` tells so many lines that contain all of this.
    fn wait_until_told(&self, wanted: usize, of: &str, parts: &[&str]) {
        let deadline = Instant::now() + START_WAIT_MAX;
        let arguments = ["--timeout", "5s", "cluster", of, "-o", "jsonl"];
        loop {
            let answer = self.command().args(arguments).output().expect("sawlog runs");
            let text = String::from_utf8_lossy(&answer.stdout).into_owned();
            let is_one = |line: &&str| parts.iter().all(|part| line.contains(part));
            if text.lines().filter(is_one).count() >= wanted {
                return;
            }
            let output = self.output(1);
            assert!(Instant::now() < deadline, "{of} is not told {wanted} times: {text}\n{output}");
            thread::sleep(LOOK_AGAIN);
        }
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

    fn node(&self, id: i32) -> &Node {
        self.nodes.iter().find(|node| node.id == id).expect("a node of this cluster")
    }

    fn node_mut(&mut self, id: i32) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id == id).expect("a node of this cluster")
    }

    /// The ids of all brokers.
    pub fn ids(&self) -> Vec<i32> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// The ids of brokers that have a process, stopped or not.
    pub fn running(&self) -> Vec<i32> {
        self.nodes.iter().filter(|node| node.process.is_some()).map(|node| node.id).collect()
    }

    /// Addresses for clients, of all brokers.
    pub fn bootstrap(&self) -> String {
        let all: Vec<String> = self.nodes.iter().map(|node| node.clients.to_string()).collect();
        all.join(",")
    }

    /// The address for clients of one broker.
    pub fn address(&self, id: i32) -> String {
        self.node(id).clients.to_string()
    }

    /// Where brokers are kept apart, if they are.
    pub fn machines(&self) -> Option<&Machines> {
        self.machines.as_ref()
    }

    /// A directory for the test's own files.
    pub fn scratch(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// A broker's data directory, as this process reaches it.
    pub fn data(&self, id: i32) -> PathBuf {
        let disk = self.machines.as_ref().and_then(|machines| machines.disk_of(id));
        disk.unwrap_or_else(|| self.directory.path().to_owned()).join(format!("data-{id}"))
    }

    /// What a broker printed since it was first started.
    pub fn output(&self, id: i32) -> String {
        let bytes = fs::read(self.output_file(id)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn output_file(&self, id: i32) -> PathBuf {
        self.directory.path().join(format!("output-{id}"))
    }

    /// Starts a broker that does not run, on the data it has. It is not ready yet.
    ///
    /// # Panics
    /// If it runs, or there is no such program.
    pub fn run(&mut self, id: i32) {
        let output = File::options().create(true).append(true).open(self.output_file(id));
        let output = output.expect("a file for what it prints");
        let data = match self.machines.as_ref().and_then(|machines| machines.own_disk(id)) {
            Some(disk) => disk.join(format!("data-{id}")),
            None => self.data(id),
        };
        let mut command = match &self.machines {
            Some(machines) => machines.command(id),
            None => Command::new(sawlog()),
        };
        let node = self.node(id);
        assert!(node.process.is_none(), "broker {id} runs");
        command.args(["serve", "--listen", &node.clients.to_string(), "--data"]).arg(data);
        for setting in self.all_settings(id) {
            command.args(["-X", &setting]);
        }
        let again = output.try_clone().expect("a second handle");
        command.stdin(Stdio::null()).stdout(output).stderr(again).env("RUST_BACKTRACE", "1");
        self.node_mut(id).process = Some(command.spawn().expect("sawlog starts"));
    }

    fn all_settings(&self, id: i32) -> Vec<String> {
        let mut settings = self.settings.clone();
        settings.push(format!("peer.listener={}", self.node(id).peers));
        settings.push(format!("node.id={id}"));
        settings.push("http.listener=none".to_owned());
        if self.machines.is_some() {
            settings.push("insecure.listeners.allowed=true".to_owned());
        }
        // The first one founds the cluster, and never a second time: a new disk of it joins.
        let founds = id == 1 && !self.directory.path().join("founded").exists();
        if founds {
            File::create(self.directory.path().join("founded")).expect("a file");
        } else {
            let others = self.nodes.iter().filter(|node| node.id != id);
            let others: Vec<String> = others.map(|node| node.peers.to_string()).collect();
            settings.push(format!("cluster.join={}", others.join(",")));
        }
        settings
    }

    /// Waits until a broker takes connections.
    ///
    /// # Panics
    /// With what it printed, if it does not, or ends.
    pub fn wait_until_it_listens(&mut self, id: i32) {
        let deadline = Instant::now() + START_WAIT_MAX;
        let address = self.node(id).clients;
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            let process = self.node_mut(id).process.as_mut().expect("it was started");
            let ended = process.try_wait().expect("our child can be waited for");
            if ended.is_some() || Instant::now() > deadline {
                panic!("broker {id} does not listen ({ended:?}):\n{}", self.output(id));
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// A broker that ended although nobody asked it to, and how.
    pub fn ended(&mut self) -> Option<(i32, ExitStatus)> {
        self.nodes.iter_mut().find_map(|node| {
            let ended = node.process.as_mut()?.try_wait().expect("our child can be waited for")?;
            Some((node.id, ended))
        })
    }

    /// kill -9.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self, id: i32) {
        let mut process = self.node_mut(id).process.take().expect("a running broker");
        process.kill().expect("our child can be killed");
        process.wait().expect("a killed child ends");
    }

    /// SIGTERM, and waits. Returns whether it ended cleanly.
    ///
    /// # Panics
    /// If it does not run, or does not end.
    pub fn terminate(&mut self, id: i32) -> bool {
        self.signal(id, "TERM");
        self.wait_for_end(id)
    }

    /// Waits for the end of a broker that was asked to. Returns whether it ended cleanly.
    ///
    /// # Panics
    /// If it does not run, or does not end.
    pub fn wait_for_end(&mut self, id: i32) -> bool {
        let deadline = Instant::now() + STOP_WAIT_MAX;
        let mut process = self.node_mut(id).process.take().expect("a running broker");
        loop {
            if let Some(status) = process.try_wait().expect("our child can be waited for") {
                return status.success();
            }
            if Instant::now() > deadline {
                let _gone = process.kill();
                let _gone = process.wait();
                panic!("broker {id} does not end:\n{}", self.output(id));
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Sends a signal by its name.
    ///
    /// # Panics
    /// If it does not run.
    pub fn signal(&self, id: i32, name: &str) {
        let pid = self.pid(id).to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name} {pid}");
    }

    fn pid(&self, id: i32) -> u32 {
        self.node(id).process.as_ref().expect("a running broker").id()
    }

    /// The data of a broker that does not run is gone, as with a new disk.
    ///
    /// # Errors
    /// If it cannot be removed.
    ///
    /// # Panics
    /// If the broker runs.
    pub fn wipe(&self, id: i32) -> io::Result<()> {
        assert!(self.node(id).process.is_none(), "a running broker keeps its data");
        fs::remove_dir_all(self.data(id))
    }

    /// From now on each sync of a broker's disk takes this long, and all its calls some time.
    ///
    /// # Errors
    /// If there is no tracer.
    ///
    /// # Panics
    /// If it does not run.
    pub fn slow_disk(&mut self, id: i32, by: Duration) -> io::Result<()> {
        let calls = "fdatasync,fsync,syncfs";
        let delay = format!("inject={calls}:delay_enter={}", by.as_micros());
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", &format!("trace={calls}"), "-e", &delay, "-p"]);
        strace.arg(self.pid(id).to_string()).stdin(Stdio::null());
        let tracer = strace.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        self.node_mut(id).tracer = Some(tracer);
        Ok(())
    }

    /// Takes back [`Cluster::slow_disk`].
    pub fn fast_disk(&mut self, id: i32) {
        if let Some(mut tracer) = self.node_mut(id).tracer.take() {
            // It lets go of what it traces only if it is asked.
            let pid = tracer.id().to_string();
            let _asked = Command::new("kill").args(["-INT", &pid]).status();
            let _gone = tracer.wait();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            for mut child in node.process.take().into_iter().chain(node.tracer.take()) {
                // Already gone is fine.
                let _gone = child.kill();
                let _gone = child.wait();
            }
        }
    }
}

/// A loopback address nobody else uses, so that tests beside each other never take each other's ports.
fn own_ip() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(101);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high.max(1), low, NEXT.fetch_add(1, Ordering::Relaxed)).into()
}
