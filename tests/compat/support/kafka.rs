//! One node of Apache Kafka on loopback, for what is compared with it.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{installed, program};

const START_WAIT_MAX: Duration = Duration::from_secs(120);

/// A running node. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Kafka {
    process: Child,
    address: String,
    data: PathBuf,
    /// `NAME=VALUE` lines of its properties.
    settings: String,
}

impl Kafka {
    /// Starts a node with its data in `directory`; it may not listen yet.
    pub(crate) fn start(directory: &Path) -> Kafka {
        Kafka::start_with(directory, &[])
    }

    /// As [`Kafka::start`], with these settings.
    pub(crate) fn start_with(directory: &Path, settings: &[(&str, &str)]) -> Kafka {
        let data = directory.join("kafka");
        fs::create_dir_all(&data).expect("a directory");
        let port = two_free_ports();
        let settings: String =
            settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let process = start_process(&data, port, &settings);
        Kafka { process, address: format!("127.0.0.1:{port}"), data, settings }
    }

    /// kill -9, and a new process on the same data and address.
    pub(crate) fn kill_and_restart(&mut self) {
        self.process.kill().expect("our child can be killed");
        self.process.wait().expect("a killed child ends");
        let (_, port) = self.address.split_once(':').expect("host:port");
        self.process = start_process(&self.data, port.parse().expect("a number"), &self.settings);
        self.wait_until_it_listens();
    }

    /// Waits until it takes connections.
    pub(crate) fn wait_until_it_listens(&mut self) {
        let deadline = Instant::now() + START_WAIT_MAX;
        while TcpStream::connect(&self.address).is_err() {
            let ended = self.process.try_wait().expect("our child can be waited for");
            if ended.is_some() || Instant::now() > deadline {
                let output = fs::read_to_string(self.data.join("output")).unwrap_or_default();
                panic!("Apache Kafka does not listen ({ended:?}):\n{output}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// `host:port` of its listener.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Where its logs are.
    pub(crate) fn logs(&self) -> PathBuf {
        self.data.join("logs")
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // The script's last step is an exec: its process is the broker's.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Several nodes, all of which are brokers and controllers, with the ids 1, 2, …, each on a loopback
/// address of its own.
#[derive(Debug)]
pub(crate) struct KafkaCluster {
    nodes: Vec<Kafka>,
}

impl KafkaCluster {
    /// Starts it with its data in `directory`, and waits until all nodes take connections.
    pub(crate) fn start(directory: &Path, count: i32) -> KafkaCluster {
        let ports: Vec<u16> = (0..count).map(|_| two_free_ports()).collect();
        let voter = |(id, port): (i32, &u16)| format!("{id}@127.0.0.1:{}", port + 1);
        let voters: Vec<String> = (1..).zip(&ports).map(voter).collect();
        let voters = voters.join(",");
        let node = |(id, port): (i32, &u16)| {
            let data = directory.join(format!("kafka-{id}"));
            fs::create_dir_all(&data).expect("a directory");
            let replicas = count.min(3);
            let settings = format!(
                "node.id={id}\ncontroller.quorum.voters={voters}\n\
                 offsets.topic.num.partitions=1\noffsets.topic.replication.factor={replicas}\n"
            );
            let address = format!("127.0.0.1:{port}");
            Kafka { process: start_process(&data, *port, &settings), address, data, settings }
        };
        let mut nodes: Vec<Kafka> = (1..).zip(&ports).map(node).collect();
        nodes.iter_mut().for_each(Kafka::wait_until_it_listens);
        KafkaCluster { nodes }
    }

    /// kill -9.
    pub(crate) fn kill(&mut self, id: i32) {
        let process = &mut self.nodes[index(id)].process;
        process.kill().expect("our child can be killed");
        process.wait().expect("a killed child ends");
    }

    /// A new process for a node that was killed.
    pub(crate) fn up(&mut self, id: i32) {
        let node = &mut self.nodes[index(id)];
        let (_, port) = node.address.split_once(':').expect("host:port");
        node.process = start_process(&node.data, port.parse().expect("a number"), &node.settings);
        node.wait_until_it_listens();
    }

    /// `host:port` of a node's listener.
    pub(crate) fn address(&self, id: i32) -> String {
        self.nodes[index(id)].address().to_owned()
    }

    /// Where a node's logs are.
    pub(crate) fn logs(&self, id: i32) -> PathBuf {
        self.nodes[index(id)].logs()
    }
}

fn index(id: i32) -> usize {
    usize::try_from(id - 1).expect("ids begin with 1")
}

/// All nodes of a cluster are given one id, and with several of them Kafka is as it comes.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";

fn start_process(data: &Path, port: u16, settings: &str) -> Child {
    let output = File::options().create(true).append(true).open(data.join("output"));
    let output = output.expect("a file");
    Command::new(program("kafka/broker"))
        .arg(installed("kafka"))
        .arg(data)
        .arg(port.to_string())
        .env("SETTINGS", settings)
        .envs(settings.contains("quorum.voters").then_some(("CLUSTER_ID", CLUSTER_ID)))
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a second handle"))
        .stderr(output)
        .spawn()
        .expect("the script starts")
}

/// The first of two neighbouring ports that were free a moment ago.
fn two_free_ports() -> u16 {
    for _ in 0..100 {
        let first = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = first.local_addr().expect("a bound socket has an address").port();
        let second = port.checked_add(1).map(|next| TcpListener::bind(("127.0.0.1", next)));
        if matches!(second, Some(Ok(_))) {
            return port;
        }
    }
    panic!("no two neighbouring ports are free");
}
