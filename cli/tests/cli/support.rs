//! A broker for each test, and the binary run against it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::net::TcpSocket;

/// A broker of this test's own; killed when dropped.
pub(crate) struct Broker {
    pub(crate) child: Child,
    pub(crate) address: String,
    pub(crate) data: tempfile::TempDir,
}

impl Broker {
    pub(crate) fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let address = free_address();
        let mut child = sawlog()
            .args(["serve", "--listen", &address, "--data"])
            .arg(data.path().join("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // What it says comes when it has started; its port is open before that.
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("is listening on"), "{line}");
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { child, address, data }
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.data.path().join("data")
    }

    pub(crate) fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = sawlog()
            .args(arguments)
            .env("SAWLOG_BROKERS", &self.address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    pub(crate) fn ok(&self, arguments: &[&str], input: &[u8]) -> String {
        let output = self.run(arguments, input);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn fails(&self, arguments: &[&str], code: i32, says: &str) {
        let output = self.run(arguments, b"");
        assert_fails(&output, code, says);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Already gone is fine.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

pub(crate) fn sawlog() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sawlog"));
    for name in ["SAWLOG_BROKERS", "SAWLOG_CONTEXT", "SAWLOG_OUTPUT", "SAWLOG_DATA"] {
        command.env_remove(name);
    }
    // Nobody's own contexts.
    command.env("XDG_CONFIG_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/no-contexts"));
    command
}

/// An address nobody else uses: every call has a loopback address of its own, so that tests which run
/// beside each other never take each other's ports.
pub(crate) fn free_address() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, high.max(1), low, NEXT.fetch_add(1, Ordering::Relaxed));
    // Bound and never listening: a process that another test is starting just then has our sockets, too,
    // and whoever waits for a broker would be let in by that one.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option every socket has");
    socket.bind(SocketAddr::from((ip, 0))).expect("a free port");
    socket.local_addr().expect("a bound socket has an address").to_string()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// One line that says so, and the code.
pub(crate) fn assert_fails(output: &Output, code: i32, says: &str) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(says), "{text:?} does not say {says:?}");
    assert!(text.starts_with("error: ") && text.trim_end().lines().count() == 1, "{text:?}");
    assert!(output.stdout.is_empty());
}

pub(crate) fn serve_fails(arguments: &[&str], code: i32, says: &str) {
    let mut child = sawlog()
        .arg("serve")
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that starts after all would never end by itself.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        if std::time::Instant::now() > deadline {
            child.kill().unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert_fails(&child.wait_with_output().unwrap(), code, says);
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
