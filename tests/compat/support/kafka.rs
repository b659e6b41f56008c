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
}

impl Kafka {
    /// Starts a node with its data in `directory`; it may not listen yet.
    pub(crate) fn start(directory: &Path) -> Kafka {
        let data = directory.join("kafka");
        let port = two_free_ports();
        fs::create_dir_all(&data).expect("a directory");
        let output = File::create(data.join("output")).expect("a file");
        let process = Command::new(program("kafka/broker"))
            .arg(installed("kafka"))
            .arg(&data)
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output)
            .spawn()
            .expect("the script starts");
        Kafka { process, address: format!("127.0.0.1:{port}"), data }
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
