//! Clusters of real processes on addresses of their own: three brokers of Sawlog, or three of Apache
//! Kafka, each its own controller. What still runs is killed, by process id, when they are dropped.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;
use crate::process::Process;
use crate::variant::Kind;

/// Longest wait for a process to listen, or to end.
const DEADLINE: Duration = Duration::from_secs(60);

/// How often a port is tried.
const PAUSE: Duration = Duration::from_millis(1);

const CLIENT_PORT: u16 = 9092;
const PEER_PORT: u16 = 9093;

/// Where the programs are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) sawlog: PathBuf,
    pub(crate) kafka_jars: PathBuf,
}

/// A broker of the cluster, running or not.
#[derive(Debug)]
struct Node {
    id: i32,
    host: String,
    home: PathBuf,
    process: Option<Child>,
}

/// A cluster.
#[derive(Debug)]
pub(crate) struct Nodes {
    kind: Kind,
    programs: Programs,
    nodes: Vec<Node>,
    /// Processor time of processes that have ended.
    ended_seconds: f64,
}

impl Nodes {
    /// Starts brokers 1 to `count` below `home`. The first one founds the cluster, the others join it;
    /// those of Kafka are told of each other beforehand, and start at once.
    pub(crate) fn start(
        kind: Kind,
        programs: &Programs,
        home: &Path,
        count: i32,
    ) -> Result<Self, Failure> {
        // Of this process alone: other clusters on this machine have other addresses.
        let third = std::process::id() % 200 + 20;
        let node = |id: i32| Node {
            id,
            host: format!("127.77.{third}.{id}"),
            home: home.join(id.to_string()),
            process: None,
        };
        let nodes = (1..=count).map(node).collect();
        let mut cluster = Self { kind, programs: programs.clone(), nodes, ended_seconds: 0.0 };
        for id in 1..=count {
            fs::create_dir_all(&cluster.node(id).home)?;
            cluster.spawn(id)?;
            if kind == Kind::Sawlog {
                cluster.await_listening(id)?;
            }
        }
        for id in 1..=count {
            cluster.await_listening(id)?;
        }
        Ok(cluster)
    }

    pub(crate) fn ids(&self) -> Vec<i32> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// The addresses of all brokers, as clients are told them.
    pub(crate) fn bootstrap(&self) -> String {
        self.bootstrap_but(0)
    }

    /// Of all but one.
    pub(crate) fn bootstrap_but(&self, without: i32) -> String {
        let others = self.nodes.iter().filter(|node| node.id != without);
        others.map(Node::clients).collect::<Vec<_>>().join(",")
    }

    /// Starts a broker that does not run, on the data it has; does not wait for it.
    pub(crate) fn spawn(&mut self, id: i32) -> Result<(), Failure> {
        let mut command = match self.kind {
            Kind::Sawlog => self.sawlog(id),
            Kind::Kafka => self.kafka(id)?,
        };
        let node = self.node_mut(id);
        let output = File::options().create(true).append(true).open(node.home.join("output"))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let spawned = command.spawn();
        let child = spawned
            .map_err(|error| format!("cannot run {}: {error}", command.get_program().display()))?;
        node.process = Some(child);
        Ok(())
    }

    /// Waits until clients can connect to a broker.
    pub(crate) fn await_listening(&mut self, id: i32) -> Result<(), Failure> {
        let deadline = Instant::now() + DEADLINE;
        let node = self.node_mut(id);
        let address: SocketAddr = node.clients().parse()?;
        while TcpStream::connect(address).is_err() {
            let child = node.process.as_mut().ok_or("it does not run")?;
            if let Some(status) = child.try_wait()? {
                let output = fs::read_to_string(node.home.join("output")).unwrap_or_default();
                return Err(format!("broker {id} ended ({status}):\n{output}").into());
            }
            if Instant::now() > deadline {
                return Err(format!("broker {id} does not listen").into());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// kill -9. Returns when it was sent; the process is gone afterwards.
    pub(crate) fn kill(&mut self, id: i32) -> Result<Instant, Failure> {
        let at = self.signal(id, Signal::KILL)?;
        self.await_end(id)?;
        Ok(at)
    }

    /// SIGTERM. Returns when it was sent, and how long the process took to end.
    pub(crate) fn terminate(&mut self, id: i32) -> Result<(Instant, Duration), Failure> {
        let at = self.signal(id, Signal::TERM)?;
        self.await_end(id)?;
        Ok((at, at.elapsed()))
    }

    /// Sends a signal; returns when that was.
    pub(crate) fn signal(&self, id: i32, signal: Signal) -> Result<Instant, Failure> {
        let child = self.node(id).process.as_ref().ok_or("it does not run")?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("no process id")?;
        let at = Instant::now();
        kill_process(pid, signal)?;
        Ok(at)
    }

    fn await_end(&mut self, id: i32) -> Result<(), Failure> {
        let deadline = Instant::now() + DEADLINE;
        let node = self.node_mut(id);
        let mut child = node.process.take().ok_or("it does not run")?;
        let mut seconds = 0.0;
        while child.try_wait()?.is_none() {
            // The last value before it is gone.
            seconds = Process(child.id()).cpu_seconds().unwrap_or(seconds);
            if Instant::now() > deadline {
                let _ended = child.kill();
                return Err(format!("broker {id} does not stop").into());
            }
            std::thread::sleep(PAUSE);
        }
        self.ended_seconds += seconds;
        Ok(())
    }

    /// The data of a broker that does not run is gone, as with a new disk.
    pub(crate) fn wipe(&mut self, id: i32) -> Result<(), Failure> {
        let node = self.node(id);
        if node.process.is_some() {
            return Err("a running broker keeps its data".into());
        }
        Ok(fs::remove_dir_all(node.home.join("data"))?)
    }

    /// Processor time of all brokers so far.
    pub(crate) fn cpu_seconds(&self) -> Result<f64, Failure> {
        let running = self.processes().into_iter().map(Process::cpu_seconds);
        Ok(running.sum::<Result<f64, Failure>>()? + self.ended_seconds)
    }

    /// Those that run.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let running = self.nodes.iter().filter_map(|node| node.process.as_ref());
        running.map(|child| Process(child.id())).collect()
    }

    fn node(&self, id: i32) -> &Node {
        self.nodes.iter().find(|node| node.id == id).unwrap_or(&self.nodes[0])
    }

    fn node_mut(&mut self, id: i32) -> &mut Node {
        let at = self.nodes.iter().position(|node| node.id == id).unwrap_or(0);
        &mut self.nodes[at]
    }

    fn sawlog(&self, id: i32) -> Command {
        let node = self.node(id);
        let mut command = Command::new(&self.programs.sawlog);
        command.args(["serve", "--listen", &node.clients(), "--data"]).arg(node.home.join("data"));
        let mut settings = vec![
            format!("peer.listener={}", node.peers()),
            format!("node.id={id}"),
            "http.listener=none".to_owned(),
        ];
        if id != 1 {
            let others = self.nodes.iter().filter(|other| other.id != id);
            let others: Vec<String> = others.map(Node::peers).collect();
            settings.push(format!("cluster.join={}", others.join(",")));
        }
        for setting in settings {
            command.args(["-X", &setting]);
        }
        command
    }

    /// `config/server.properties` as Kafka ships it, but for addresses, directories, and what has to
    /// be said where there are three: who votes, and copies of its internal topics.
    fn kafka(&self, id: i32) -> Result<Command, Failure> {
        let node = self.node(id);
        let class_path = format!("{}/*", self.programs.kafka_jars.display());
        let (properties, data) = (node.home.join("server.properties"), node.home.join("data"));
        let voters = self.nodes.iter().map(|one| format!("{}@{}", one.id, one.peers()));
        let voters = voters.collect::<Vec<_>>().join(",");
        let listeners = format!("PLAINTEXT://{},CONTROLLER://{}", node.clients(), node.peers());
        fs::write(
            &properties,
            format!(
                "process.roles=broker,controller\n\
                 node.id={id}\n\
                 controller.quorum.voters={voters}\n\
                 listeners={listeners}\n\
                 advertised.listeners=PLAINTEXT://{}\n\
                 inter.broker.listener.name=PLAINTEXT\n\
                 controller.listener.names=CONTROLLER\n\
                 listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
                 num.network.threads=3\n\
                 num.io.threads=8\n\
                 socket.send.buffer.bytes=102400\n\
                 socket.receive.buffer.bytes=102400\n\
                 socket.request.max.bytes=104857600\n\
                 log.dirs={}\n\
                 num.partitions=1\n\
                 num.recovery.threads.per.data.dir=2\n\
                 offsets.topic.replication.factor=3\n\
                 transaction.state.log.replication.factor=3\n\
                 transaction.state.log.min.isr=2\n\
                 log.retention.hours=168\n\
                 log.segment.bytes=1073741824\n\
                 log.retention.check.interval.ms=300000\n",
                node.clients(),
                data.display()
            ),
        )?;
        if !data.join("meta.properties").exists() {
            let formatted = Command::new("java")
                .args(["-cp", &class_path, "kafka.tools.StorageTool", "format"])
                .args(["-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"])
                .arg(&properties)
                .output()
                .map_err(|error| format!("cannot run java: {error}"))?;
            if !formatted.status.success() {
                let said = String::from_utf8_lossy(&formatted.stderr).into_owned();
                return Err(format!("Kafka's storage was not formatted: {said}").into());
            }
        }
        let mut command = Command::new("java");
        // As kafka-server-start.sh and kafka-run-class.sh set them.
        command.args(["-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]);
        command.args(["-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"]);
        command.args(["-Djava.awt.headless=true", "-cp", &class_path, "kafka.Kafka"]);
        command.arg(&properties);
        Ok(command)
    }
}

impl Node {
    fn clients(&self) -> String {
        format!("{}:{CLIENT_PORT}", self.host)
    }

    fn peers(&self) -> String {
        format!("{}:{PEER_PORT}", self.host)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.process.as_mut()) {
            // Already ended is fine.
            let _ended = child.kill();
            let _ended = child.wait();
        }
    }
}
