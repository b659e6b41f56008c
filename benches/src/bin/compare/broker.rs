//! The brokers: started on loopback, stopped, and killed by process id when dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;
use crate::process::Process;
use crate::variant::Kind;

const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// Where the programs are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) sawlog: PathBuf,
    pub(crate) kafka_jars: PathBuf,
}

/// A broker process.
#[derive(Debug)]
pub(crate) struct Broker {
    child: Child,
    pub(crate) address: String,
    /// Just before its process was made.
    pub(crate) spawned: Instant,
    log: PathBuf,
}

impl Broker {
    /// Starts it on `home`, which may hold the data of an earlier start. Does not wait for it.
    pub(crate) fn spawn(kind: Kind, programs: &Programs, home: &Path) -> Result<Self, Failure> {
        let port = free_port()?;
        let mut command = match kind {
            Kind::Sawlog => {
                let mut command = Command::new(&programs.sawlog);
                command.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data"]);
                command.arg(home.join("data"));
                command
            }
            Kind::Kafka => kafka(programs, home, port)?,
        };
        let log = home.join("broker.log");
        let output = File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let spawned = Instant::now();
        let child = command
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", command.get_program().display()))?;
        Ok(Self { child, address: format!("127.0.0.1:{port}"), spawned, log })
    }

    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// An error with the end of its output, if it has ended.
    pub(crate) fn check_runs(&mut self) -> Result<(), Failure> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let output = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = output.lines().collect();
        let last = lines[lines.len().saturating_sub(10)..].join("\n");
        Err(format!("the broker ended ({status}):\n{last}").into())
    }

    /// Stops it in the clean way.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.ok_or("no process id")?, Signal::TERM)?;
        let deadline = Instant::now() + STOP_DEADLINE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err("the broker does not stop".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Already ended is fine.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// One node, its own controller: `config/server.properties` as Kafka ships it, but for addresses,
/// directory, and the reports to standard output.
fn kafka(programs: &Programs, home: &Path, port: u16) -> Result<Command, Failure> {
    let class_path = format!("{}/*", programs.kafka_jars.display());
    let properties = home.join("server.properties");
    let data = home.join("data");
    let mut controller = free_port()?;
    if let Ok(earlier) = fs::read_to_string(home.join("controller.port")) {
        // The quorum's only voter is written into the data with its address.
        controller = earlier.trim().parse()?;
    }
    fs::write(home.join("controller.port"), controller.to_string())?;
    fs::write(
        &properties,
        format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             inter.broker.listener.name=PLAINTEXT\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
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
             offsets.topic.replication.factor=1\n\
             share.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             log.retention.hours=168\n\
             log.segment.bytes=1073741824\n\
             log.retention.check.interval.ms=300000\n",
            data.display()
        ),
    )?;
    if !data.join("meta.properties").exists() {
        let formatted = Command::new("java")
            .args(["-cp", &class_path, "kafka.tools.StorageTool", "format", "--standalone"])
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

/// A port that is free now. Another program may take it before the broker does; then the run fails
/// and says so.
fn free_port() -> Result<u16, Failure> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
