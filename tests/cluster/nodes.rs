//! A cluster of real processes: the first one is started plainly, the others join it.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sawlog_client::{Client, ClientOptions, ClusterInfo, TopicInfo};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::load::connect;
use crate::process::{BrokerProcess, free_address};

/// Longest wait for what a cluster does by itself: elections, sessions, copies. Only a broken one
/// takes that long.
const DEADLINE: Duration = Duration::from_secs(90);

/// Between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(50);

/// A broker of the cluster, running or not.
#[derive(Debug)]
pub(crate) struct Node {
    id: i32,
    clients: SocketAddr,
    peers: SocketAddr,
    data: PathBuf,
    /// Its other data directories.
    more: Vec<PathBuf>,
    process: Option<BrokerProcess>,
}

/// A cluster. What still runs is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    /// Data directories of each of them.
    directories: usize,
    /// Settings of all of them.
    common: Vec<String>,
    directory: Option<TempDir>,
}

/// What a failed test leaves is looked at.
impl Drop for Nodes {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(directory) = self.directory.take()
        {
            eprintln!("the data of the brokers is in {}", directory.keep().display());
        }
    }
}

impl Nodes {
    /// Starts `count` brokers, with the ids 1 to `count`, one after another, and waits until each of
    /// them knows them all.
    pub(crate) async fn start(count: i32) -> Self {
        Self::start_with(count, 1, &[]).await
    }

    /// The same, each with so many data directories, and with these settings.
    pub(crate) async fn start_with(count: i32, directories: usize, common: &[&str]) -> Self {
        let directory = TempDir::new().expect("a scratch directory");
        let common = common.iter().map(|one| (*one).to_owned()).collect();
        let mut cluster =
            Self { nodes: Vec::new(), directories, common, directory: Some(directory) };
        for id in 1..=count {
            cluster.add(id);
        }
        tokio::task::block_in_place(|| (1..=count).for_each(|id| cluster.restart(id)));
        for id in 1..=count {
            let client = cluster.client_at(id).await;
            let deadline = Instant::now() + DEADLINE;
            loop {
                let seen = client.describe(Some(&[])).await;
                if seen.as_ref().is_ok_and(|info| info.brokers.len() == cluster.nodes.len()) {
                    break;
                }
                assert!(Instant::now() < deadline, "broker {id} knows all: {seen:#?}");
                sleep(PAUSE).await;
            }
        }
        let voters: Vec<i32> = (1..=count.min(3)).collect();
        vote(&cluster.client().await, &voters).await;
        cluster
    }

    /// One more broker, which is not started yet.
    pub(crate) fn add(&mut self, id: i32) {
        let directory = self.directory.as_ref().expect("it is there until the end").path();
        let data = directory.join(id.to_string());
        let more = (1..self.directories).map(|n| directory.join(format!("{id}-{n}"))).collect();
        let (clients, peers) = (free_address(), free_address());
        self.nodes.push(Node { id, clients, peers, data, more, process: None });
    }

    /// A broker that does not run is not of this cluster any more.
    pub(crate) fn take_out(&mut self, id: i32) {
        assert!(self.at(id).process.is_none(), "a running broker is not taken out");
        self.nodes.retain(|node| node.id != id);
    }

    /// Runs a command of `sawlog` against the cluster, and returns what it says if it succeeds.
    pub(crate) fn sawlog(&self, arguments: &[&str]) -> String {
        let addresses: Vec<String> =
            self.nodes.iter().map(|node| node.clients.to_string()).collect();
        let mut command = Command::new(sawlog_tests::sawlog());
        let ran = command.args(["-b", &addresses.join(",")]).args(arguments).output();
        let ran = ran.expect("the sawlog binary starts");
        let said = [ran.stdout, ran.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(ran.status.success(), "{arguments:?}: {said}");
        said
    }

    fn at(&mut self, id: i32) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id == id).expect("a node of this cluster")
    }

    /// Starts a broker that does not run, on the data it has.
    pub(crate) fn restart(&mut self, id: i32) {
        let settings = self.settings(id);
        let node = self.at(id);
        let mut flags = flags(&settings);
        for more in &node.more {
            flags.extend(["--data", more.to_str().expect("a name in UTF-8")]);
        }
        node.process = Some(BrokerProcess::start(&node.data, node.clients, &flags));
    }

    fn settings(&self, id: i32) -> Vec<String> {
        let (own, others): (Vec<&Node>, Vec<&Node>) =
            self.nodes.iter().partition(|node| node.id == id);
        let listener = own.iter().map(|node| format!("peer.listener={}", node.peers));
        let mut settings: Vec<String> = listener.collect();
        settings.extend(self.common.iter().cloned());
        settings.push(format!("node.id={id}"));
        settings.push("http.listener=none".to_owned());
        settings.push("leader.imbalance.check.interval.seconds=2".to_owned());
        // The first one founds the cluster; later it is a member like any other.
        if id != 1 {
            let others: Vec<String> = others.iter().map(|node| node.peers.to_string()).collect();
            settings.push(format!("cluster.join={}", others.join(",")));
        }
        settings
    }

    /// Starts all brokers at once: none of them is ready alone.
    pub(crate) fn restart_all(&mut self) {
        let starting: Vec<_> = self
            .nodes
            .iter()
            .map(|node| (node.data.clone(), node.clients, self.settings(node.id)))
            .collect();
        let started: Vec<BrokerProcess> = std::thread::scope(|scope| {
            let start = |(data, clients, settings): &(PathBuf, SocketAddr, Vec<String>)| {
                BrokerProcess::start(data, *clients, &flags(settings))
            };
            let threads: Vec<_> =
                starting.iter().map(|one| scope.spawn(move || start(one))).collect();
            threads.into_iter().map(|thread| thread.join().expect("it starts")).collect()
        });
        for (node, process) in self.nodes.iter_mut().zip(started) {
            node.process = Some(process);
        }
    }

    /// Sets something for all brokers that are started from now on.
    pub(crate) fn set(&mut self, setting: &str) {
        self.common.push(setting.to_owned());
    }

    /// Waits until a broker has ended by itself.
    pub(crate) fn wait_until_ended(&mut self, id: i32) {
        self.at(id).process.take().expect("a running broker").wait_until_ended();
    }

    /// The process of a running broker.
    pub(crate) fn pid(&mut self, id: i32) -> u32 {
        self.at(id).process.as_ref().expect("a running broker").pid()
    }

    /// All data directories of a broker.
    pub(crate) fn directories(&mut self, id: i32) -> Vec<PathBuf> {
        let node = self.at(id);
        let first = std::iter::once(node.data.clone());
        first.chain(node.more.iter().cloned()).collect()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self, id: i32) {
        self.at(id).process.take().expect("a running broker").kill();
    }

    /// SIGTERM. Returns whether the broker ended cleanly.
    pub(crate) fn terminate(&mut self, id: i32) -> bool {
        self.at(id).process.take().expect("a running broker").terminate()
    }

    /// SIGSTOP or SIGCONT.
    pub(crate) fn signal(&mut self, id: i32, name: &str) {
        let process = self.at(id).process.as_ref().expect("a running broker");
        let pid = process.pid().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().expect("kill runs").success());
    }

    /// The data of a broker that does not run is gone, as with a new disk.
    pub(crate) fn wipe(&mut self, id: i32) {
        let node = self.at(id);
        assert!(node.process.is_none(), "a running broker keeps its data");
        std::fs::remove_dir_all(&node.data).expect("data to remove");
    }

    /// A broker's data directory.
    pub(crate) fn data(&mut self, id: i32) -> &Path {
        &self.at(id).data
    }

    /// A client that knows where all brokers are, and does not wait long for one.
    pub(crate) async fn client(&self) -> Client {
        self.client_of(|_| true).await
    }

    /// A client that is told of one broker only.
    pub(crate) async fn client_at(&self, id: i32) -> Client {
        self.client_of(|node| node == id).await
    }

    async fn client_of(&self, which: impl Fn(i32) -> bool) -> Client {
        let told = self.nodes.iter().filter(|node| which(node.id));
        let addresses: Vec<String> = told.map(|node| node.clients.to_string()).collect();
        let mut options = ClientOptions::new(&addresses.join(","));
        options.timeout = Duration::from_secs(5);
        options.connect_timeout = Duration::from_secs(2);
        options.reconnect_backoff_max = Duration::from_millis(200);
        connect(options).await
    }
}

fn flags(settings: &[String]) -> Vec<&str> {
    settings.iter().flat_map(|one| ["-X", one.as_str()]).collect()
}

/// Waits until the cluster looks as it should.
pub(crate) async fn until(
    client: &Client,
    topic: &str,
    what: &str,
    is_so: impl Fn(&ClusterInfo, &TopicInfo) -> bool,
) -> TopicInfo {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let seen = client.describe(Some(&[topic])).await;
        if let Ok(info) = &seen
            && let Some(found) = info.topics.iter().find(|found| found.name == topic)
            && is_so(info, found)
        {
            return found.clone();
        }
        assert!(Instant::now() < deadline, "{what}: {seen:#?}");
        sleep(PAUSE).await;
    }
}

/// Waits until three brokers agree on the metadata and all of them have it: from then on one can go.
pub(crate) async fn all_vote(client: &Client) {
    vote(client, &[1, 2, 3]).await;
}

/// Waits until these brokers agree on the metadata, and all of them have it.
pub(crate) async fn vote(client: &Client, brokers: &[i32]) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let seen = client.describe_quorum().await;
        if let Ok(quorum) = &seen {
            let voters = quorum.replicas.iter().filter(|one| one.is_voter);
            let known = voters.filter(|one| one.log_end >= quorum.high_watermark);
            let mut known: Vec<i32> = known.map(|one| one.node).collect();
            known.sort_unstable();
            if known == brokers {
                return;
            }
        }
        assert!(Instant::now() < deadline, "brokers {brokers:?} vote: {seen:#?}");
        sleep(PAUSE).await;
    }
}

/// Every replica is in sync, and somebody leads.
pub(crate) fn is_whole(topic: &TopicInfo) -> bool {
    topic.partitions.iter().all(|one| one.leader >= 0 && one.isr.len() == one.replicas.len())
}
