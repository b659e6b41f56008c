//! The brokers of `sawlog dev --nodes`: processes of this very program, one cluster, everything below one
//! scratch directory.
//!
//! Always: none outlives this process, however it ends, because each stops when its standard input does;
//! a Ctrl-C of the terminal does not reach them, so that the command that uses them ends first. One that
//! is killed stays away, and the others go on: that is what several are for.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use sawlog_client::{Client, ClientOptions};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::time::{Instant, sleep};

use crate::failure::{Failure, Kind, say};

/// Longest wait for what a cluster does by itself when it is new.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// Between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Brokers that vote on the metadata, where there are so many; else the first one alone does.
const VOTERS: usize = 3;

/// Several brokers. Dropping it kills them.
pub(super) struct Nodes {
    all: Vec<Node>,
}

/// A broker that has said where it is.
struct Node {
    id: usize,
    /// For clients, for the other brokers, and of its health.
    address: String,
    peers: String,
    http: Option<String>,
    process: Child,
    /// Held as long as it is to run. Waiting for a process would close it, if it had it.
    _input: Option<ChildStdin>,
    has_ended: bool,
}

impl Nodes {
    /// Starts brokers 1 to `count` with these settings, and returns once all of them are in the cluster
    /// and as many vote as are to.
    pub(super) async fn start(
        count: usize,
        scratch: &Path,
        settings: &[String],
    ) -> Result<Self, Failure> {
        let first = Node::start(1, None, scratch, settings).await?;
        let join = first.peers.clone();
        let mut all = vec![first];
        for id in 2..=count {
            all.push(Node::start(id, Some(&join), scratch, settings).await?);
        }
        let nodes = Self { all };
        nodes.settle().await?;
        Ok(nodes)
    }

    /// The addresses of all, separated by commas.
    pub(super) fn addresses(&self) -> String {
        let all: Vec<&str> = self.all.iter().map(|node| node.address.as_str()).collect();
        all.join(",")
    }

    /// Says where each is, and which process.
    pub(super) fn introduce(&self) {
        for Node { id, address, http, process, .. } in &self.all {
            let pid = process.id().map(|pid| format!(", pid {pid}")).unwrap_or_default();
            let http = http.as_ref().map(|http| format!(", http://{http}/")).unwrap_or_default();
            say(format!("  node {id}   {address}{pid}{http}"));
        }
    }

    /// Waits until none runs any more, and says of each that ends.
    pub(super) async fn failed(&mut self) -> String {
        loop {
            let running = self.all.iter_mut().filter(|node| !node.has_ended);
            let mut ends: Vec<_> = running.map(|node| Box::pin(node.ended())).collect();
            if ends.is_empty() {
                return "no broker runs any more".to_owned();
            }
            // Dropped waits lose nothing: a process that ended stays ended.
            let (id, status) = std::future::poll_fn(|context| {
                let ready = ends.iter_mut().map(|end| end.as_mut().poll(context));
                ready
                    .into_iter()
                    .find(std::task::Poll::is_ready)
                    .unwrap_or(std::task::Poll::Pending)
            })
            .await;
            say(format!("node {id} has ended ({status}); the others go on"));
        }
    }

    /// Ends all of them. What they have is thrown away: there is nothing to hand over or to sync.
    pub(super) async fn stop(mut self) {
        for node in &mut self.all {
            // It may be gone already.
            let _gone = node.process.start_kill();
        }
        for node in &mut self.all {
            let _gone = node.process.wait().await;
        }
    }

    async fn settle(&self) -> Result<(), Failure> {
        let mut options = ClientOptions::new(&self.addresses());
        options.timeout = SETTLE_MAX;
        let client = Client::connect(options).await?;
        let deadline = Instant::now() + SETTLE_MAX;
        let wanted = if self.all.len() < VOTERS { 1 } else { VOTERS };
        loop {
            let quorum = client.describe_quorum().await?;
            let knows_all = |end: i64| end >= quorum.high_watermark;
            let known = quorum.replicas.iter().filter(|one| knows_all(one.log_end));
            let voters = known.clone().filter(|one| one.is_voter).count();
            let running = client.nodes().await?.iter().filter(|node| node.is_running).count();
            if running == self.all.len() && voters >= wanted && known.count() == running {
                return Ok(());
            }
            if Instant::now() > deadline {
                let what = format!("{running} brokers run and {voters} vote after {SETTLE_MAX:?}");
                return Err(Failure::new(Kind::Unhealthy, what));
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

impl Node {
    async fn start(
        id: usize,
        join: Option<&str>,
        scratch: &Path,
        settings: &[String],
    ) -> Result<Self, Failure> {
        let failed = |error| Failure::failed(format!("cannot start node {id}: {error}"));
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.args(["serve", "--until-input-ends", "--listen", "127.0.0.1:0"]);
        command
            .args(["--peer-listen", "127.0.0.1:0", "--data"])
            .arg(scratch.join(format!("d{id}")));
        command.args(["-X", &format!("node.id={id}"), "-X", "log.flush.mode=os"]);
        if let Some(peers) = join {
            command.args(["--join", peers]);
        }
        for setting in settings {
            command.args(["-X", setting]);
        }
        let command = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.process_group(0).kill_on_drop(true).spawn().map_err(failed)?;
        let input = process.stdin.take();
        let said = process.stderr.take().ok_or_else(|| Failure::failed("it has no output"))?;
        let mut said = BufReader::new(said).lines();
        let Some(greeting) = Greeting::read(&mut said).await else {
            let status = process.wait().await.map_err(failed)?;
            return Err(refusal(id, status));
        };
        tokio::spawn(pass_on(id, said));
        let Greeting { address, peers, http } = greeting;
        Ok(Self { id, address, peers, http, process, _input: input, has_ended: false })
    }

    async fn ended(&mut self) -> (usize, ExitStatus) {
        match self.process.wait().await {
            Ok(status) => {
                self.has_ended = true;
                (self.id, status)
            }
            // It cannot be asked: as long as nobody knows better, it runs.
            Err(_) => std::future::pending().await,
        }
    }
}

/// It has said itself why.
fn refusal(id: usize, status: ExitStatus) -> Failure {
    let kind = if status.code() == Some(2) { Kind::Usage } else { Kind::Failed };
    Failure::new(kind, format!("node {id} did not start, see above"))
}

/// What `sawlog serve` says first.
struct Greeting {
    address: String,
    peers: String,
    http: Option<String>,
}

impl Greeting {
    /// `None` if it ends before it has greeted; what it said then is passed on.
    async fn read(said: &mut Lines<BufReader<ChildStderr>>) -> Option<Self> {
        let (mut address, mut peers, mut http) = (None, None, None);
        while let Ok(Some(line)) = said.next_line().await {
            if let Some((_, at)) = line.split_once(" is listening on ") {
                address = Some(at.to_owned());
            } else if let Some(at) = line.strip_prefix("  peers    ") {
                peers = Some(at.to_owned());
            } else if let Some(at) = line.strip_prefix("  http     http://") {
                http = at.split('/').next().map(str::to_owned);
            } else if line.starts_with("  next ") {
                return Some(Self { address: address?, peers: peers?, http });
            } else if address.is_none() {
                say(line);
            }
        }
        None
    }
}

/// What a node says from then on.
async fn pass_on(id: usize, mut said: Lines<BufReader<ChildStderr>>) {
    while let Ok(Some(line)) = said.next_line().await {
        say(format!("node {id}: {line}"));
    }
}
