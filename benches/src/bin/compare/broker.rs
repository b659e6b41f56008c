//! The brokers compared: started on loopback, measured from `/proc`, killed.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;

/// Clock ticks of `/proc/PID/stat` a second; 100 on every Linux that counts.
const TICKS_PER_SECOND: f64 = 100.0;

const READY_DEADLINE: Duration = Duration::from_secs(60);

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sawlog,
    Kafka,
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) sawlog: PathBuf,
    pub(crate) kafka_jars: PathBuf,
}

/// A running broker; killed when dropped.
#[derive(Debug)]
pub(crate) struct Broker {
    child: Child,
    pub(crate) address: String,
    /// From the start of the process to the first accepted connection.
    pub(crate) ready_after: Duration,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sawlog => "Sawlog",
            Self::Kafka => "Apache Kafka",
        }
    }

    /// Starts it on `data`, which may hold an earlier run.
    pub(crate) fn start(self, programs: &Programs, data: &Path) -> Result<Broker, Failure> {
        let port = free_port()?;
        let mut command = match self {
            Self::Sawlog => {
                let mut command = Command::new(&programs.sawlog);
                command.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data"]);
                command.arg(data);
                command
            }
            Self::Kafka => kafka(programs, data, port)?,
        };
        let started = Instant::now();
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let address = format!("127.0.0.1:{port}");
        let mut broker = Broker { child, address, ready_after: Duration::ZERO };
        while TcpStream::connect(&broker.address).is_err() {
            if started.elapsed() > READY_DEADLINE || broker.child.try_wait()?.is_some() {
                return Err(format!("{} did not start", self.name()).into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        broker.ready_after = started.elapsed();
        Ok(broker)
    }
}

/// One node, its own controller, otherwise Kafka's defaults.
fn kafka(programs: &Programs, data: &Path, port: u16) -> Result<Command, Failure> {
    let controller = free_port()?;
    let properties = data.with_extension("properties");
    fs::write(
        &properties,
        format!(
            "process.roles=broker,controller\nnode.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             log.dirs={}\noffsets.topic.replication.factor=1\n",
            data.display()
        ),
    )?;
    let class_path = format!("{}/*", programs.kafka_jars.display());
    if !data.join("meta.properties").exists() {
        let formatted = Command::new("java")
            .args(["-cp", &class_path, "kafka.tools.StorageTool", "format"])
            .args(["-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"])
            .arg(&properties)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if !formatted.success() {
            return Err("kafka-storage format failed".into());
        }
    }
    let mut command = Command::new("java");
    // As kafka-server-start.sh sets them.
    command.args(["-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]);
    command.args(["-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"]);
    command.args(["-Djava.awt.headless=true", "-cp", &class_path, "kafka.Kafka"]);
    command.arg(&properties);
    Ok(command)
}

impl Broker {
    /// Processor time of all its threads so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64, Failure> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name may hold spaces; what follows its closing bracket does not.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
        let (user, system) = ticks(11).zip(ticks(12)).ok_or("no processor time in /proc")?;
        Ok((user + system) / TICKS_PER_SECOND)
    }

    /// A line of `/proc/PID/status` in MiB.
    pub(crate) fn memory_mib(&self, field: &str) -> Result<f64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with(field)).ok_or("no such field")?;
        let kib = line.split_whitespace().nth(1).and_then(|text| text.parse::<f64>().ok());
        Ok(kib.ok_or("no number")? / 1024.0)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Already gone is fine.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn free_port() -> Result<u16, Failure> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
