//! A broker process of the test's own: started, killed, started again on the same data.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{BufRead, BufReader, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) use sawlog_tests::free_address;

/// Longest wait for a broker to accept connections; only a broken one takes that long.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// A `sawlog serve` process. Killed when dropped.
#[derive(Debug)]
pub(crate) struct BrokerProcess {
    child: Child,
    address: SocketAddr,
}

impl BrokerProcess {
    /// Starts a broker on `data` and `address` and waits until it accepts connections.
    pub(crate) fn start(data: &Path, address: SocketAddr, extra: &[&str]) -> Self {
        Self::spawn(Command::new(sawlog_tests::sawlog()), data, address, extra)
    }

    /// Starts a broker that may have no more than `descriptors` open files.
    pub(crate) fn start_limited(data: &Path, address: SocketAddr, descriptors: u32) -> Self {
        let mut command = Command::new("sh");
        let run = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        command.args(["-c", &run]).arg(sawlog_tests::sawlog());
        Self::spawn(command, data, address, &[])
    }

    fn spawn(mut command: Command, data: &Path, address: SocketAddr, extra: &[&str]) -> Self {
        let mut child = command
            .arg("serve")
            .args(["--data".as_ref(), data.as_os_str()])
            .args(["--listen", &address.to_string()])
            .args(extra)
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the sawlog binary starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        // What the broker says is kept out of the way unless it panics.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if line.contains("panicked") || std::env::var_os("SAWLOG_TEST_LOG").is_some() {
                    eprintln!("broker: {line}");
                }
            }
        });
        let mut broker = Self { child, address };
        broker.wait_ready();
        broker
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9, and waits until the process is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the broker can be killed");
        self.child.wait().expect("the broker can be waited for");
    }

    /// SIGTERM, and waits for the exit. Returns whether it was clean.
    pub(crate) fn terminate(mut self) -> bool {
        let killed =
            Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(killed.success());
        self.child.wait().expect("the broker can be waited for").success()
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait_until_ended(mut self) {
        let deadline = Instant::now() + READY_DEADLINE;
        while self.child.try_wait().expect("the broker can be asked").is_none() {
            assert!(Instant::now() < deadline, "the broker goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let mut status = String::new();
        std::fs::File::open(format!("/proc/{}/status", self.child.id()))
            .and_then(|mut file| file.read_to_string(&mut status))
            .expect("a running process has a status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has VmRSS");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("in KiB");
        kib * 1024
    }

    fn wait_ready(&mut self) {
        let deadline = Instant::now() + READY_DEADLINE;
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait().expect("the broker can be asked") {
                panic!("the broker ended at start: {status}");
            }
            assert!(Instant::now() < deadline, "the broker does not accept connections");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        // Already gone is fine.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
