//! Several brokers: `sawlog dev --nodes`, and what is said of and done with them.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::{assert_fails, sawlog, stderr};

/// Longest wait for what a cluster does by itself.
const DEADLINE: Duration = Duration::from_secs(60);

/// `sawlog dev --nodes`, and where its brokers are.
struct Cluster {
    child: Child,
    scratch: tempfile::TempDir,
    brokers: String,
    /// Of each node: its id, its process, its health.
    nodes: Vec<(i32, u32, String)>,
}

impl Cluster {
    fn start(count: usize) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mut child = sawlog()
            .args(["dev", "--nodes", &count.to_string(), "-X", "offsets.topic.num.partitions=1"])
            .env("TMPDIR", scratch.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut nodes = Vec::new();
        for line in said.by_ref().map_while(Result::ok) {
            if line.starts_with("  node ") {
                nodes.push(node(&line));
            }
            if line.contains("Ctrl-C ends it") {
                break;
            }
        }
        assert_eq!(nodes.len(), count, "{:?}", child.try_wait());
        std::thread::spawn(move || said.for_each(drop));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let brokers = line.trim_end().strip_prefix("SAWLOG_BROKERS=").unwrap().to_owned();
        assert_eq!(brokers.split(',').count(), count);
        Self { child, scratch, brokers, nodes }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        sawlog().env("SAWLOG_BROKERS", &self.brokers).args(arguments).output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it until it ends so, and prints that.
    fn until(&self, arguments: &[&str], code: i32, says: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let output = self.run(arguments);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.code() == Some(code) && text.contains(says) {
                return text;
            }
            let seen = format!("{arguments:?}: {:?} {text}{}", output.status, stderr(&output));
            assert!(Instant::now() < deadline, "{seen}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn kill(&self, id: i32) {
        let (_, pid, _) = self.nodes.iter().find(|(node, ..)| *node == id).unwrap();
        assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// `  node 1   127.0.0.1:40001, pid 123, http://127.0.0.1:9644/`
fn node(line: &str) -> (i32, u32, String) {
    let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let http = words[5].trim_start_matches("http://").trim_end_matches('/');
    (words[1].parse().unwrap(), words[4].parse().unwrap(), http.to_owned())
}

fn is_running(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn three_nodes_bear_the_loss_of_one_and_all_of_it_is_told() {
    let cluster = Cluster::start(3);
    cluster.ok(&["topic", "create", "t", "-p", "6"]);
    let health = cluster.ok(&["cluster", "health", "--wait", "60s"]);
    assert!(health.contains("voters: 3"), "{health}");
    let findings = cluster.until(&["doctor", "cluster", "-o", "json"], 0, "\"versions\"");
    let findings: serde_json::Value = serde_json::from_str(&findings).unwrap();
    let of = |step: &str| {
        let found = findings.as_array().unwrap().iter().find(|one| one["step"] == step);
        found.unwrap_or_else(|| panic!("{step}: {findings}"))["result"].clone()
    };
    for step in ["quorum", "brokers", "partitions", "listeners", "versions"] {
        assert_eq!(of(step), "good", "{step}: {findings}");
    }
    // How full the disk of this machine is nobody knows.
    assert_ne!(of("disks"), "BAD", "{findings}");
    let single = cluster.ok(&["topic", "create", "lonely", "-r", "1"]);
    assert_eq!(single, "");
    let findings = cluster.ok(&["doctor", "cluster"]);
    assert!(findings.contains("have a single copy") && findings.contains("lonely"), "{findings}");

    let (_, _, http) = &cluster.nodes[2];
    let ready = cluster.run(&["health", http]);
    assert_eq!((ready.status.code(), &ready.stdout[..]), (Some(0), &b"true\tready\n"[..]));
    cluster.kill(3);
    // The lonely one may have been there: nothing else is without a leader.
    let health = cluster.until(&["cluster", "health"], 8, "not running: 3");
    let led = ["leaders\ttrue", "leaders\tfalse\t1 of 7 "];
    assert!(led.iter().any(|led| health.contains(led)), "{health}");
    let findings = cluster.until(&["doctor", "cluster"], 8, "1 of 3 voters do not run: 3");
    assert!(findings.contains("sawlog cluster drain 3"), "{findings}");
    assert_fails(&cluster.run(&["health", http]), 5, "no health at");
    let (_, _, http) = &cluster.nodes[0];
    assert_eq!(cluster.ok(&["health", http, "--live"]), "true\tok\n");
}

#[test]
fn brokers_get_their_share_and_nothing_moves_that_need_not() {
    let cluster = Cluster::start(3);
    for topic in ["a", "b", "c"] {
        cluster.ok(&["topic", "create", topic, "-p", "4", "-r", "2"]);
        cluster.ok(&["cluster", "move", topic, "--to", "1,2"]);
    }
    let planned = cluster.ok(&["cluster", "balance", "--dry-run"]);
    assert!(planned.lines().count() >= 8, "{planned}");
    assert_eq!(column(&cluster, 6), ["12", "12", "0"], "nothing was moved");
    let moved = cluster.ok(&["cluster", "balance"]);
    assert_eq!(moved, planned);
    assert_eq!(column(&cluster, 6), ["8", "8", "8"]);
    let deadline = Instant::now() + DEADLINE;
    while column(&cluster, 5) != ["4", "4", "4"] {
        assert!(Instant::now() < deadline, "leaders: {:?}", column(&cluster, 5));
        cluster.ok(&["cluster", "elect"]);
    }
    assert_eq!(cluster.ok(&["cluster", "balance"]), "");
    // A broker is added: it says how, and waits for one that does not come.
    let how = cluster.ok(&["cluster", "add"]);
    assert!(how.starts_with("sawlog serve ") && how.matches("127.0.0.1:").count() == 3, "{how}");
    let waited = cluster.run(&["cluster", "add", "7", "--wait", "0s"]);
    assert_fails(&waited, 6, "-X node.id=7 --join 127.0.0.1:");
    for topic in ["a", "b", "c"] {
        cluster.ok(&["cluster", "move", topic, "--to", "1,2"]);
    }
    let shared = cluster.ok(&["cluster", "add", "3"]);
    assert!(shared.lines().count() >= 7, "{shared}");
    assert_eq!(column(&cluster, 6), ["8", "8", "8"]);
}

/// A column of `cluster nodes`.
fn column(cluster: &Cluster, index: usize) -> Vec<String> {
    let rows = cluster.ok(&["cluster", "nodes"]);
    rows.lines().map(|row| row.split('\t').nth(index).unwrap().to_owned()).collect()
}

#[test]
fn nothing_of_several_nodes_outlives_the_command() {
    for signal in ["-INT", "-KILL"] {
        let mut cluster = Cluster::start(2);
        let pid = cluster.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let ended = cluster.child.wait().unwrap();
        assert_eq!(ended.code(), if signal == "-INT" { Some(0) } else { None });
        let deadline = Instant::now() + DEADLINE;
        while cluster.nodes.iter().any(|(_, pid, _)| is_running(*pid)) {
            assert!(Instant::now() < deadline, "brokers run on after {signal}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let left = std::fs::read_dir(cluster.scratch.path()).unwrap().count();
        assert_eq!(left, usize::from(signal == "-KILL"), "only a kill -9 leaves data");
    }
}

#[test]
fn a_command_finds_all_nodes() {
    let scratch = tempfile::tempdir().unwrap();
    let script = r#"echo "$KAFKA_BOOTSTRAP_SERVERS" | tr , '\n' | wc -l; "$0" cluster quorum -o name; exit 4"#;
    let output = sawlog()
        .args(["dev", "--nodes", "3", "--", "sh", "-c", script, env!("CARGO_BIN_EXE_sawlog")])
        .env("TMPDIR", scratch.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "3\n1\n2\n3\n");
    let refused = sawlog()
        .args(["dev", "--nodes", "3", "-X", "num.partitons=3"])
        .env("TMPDIR", scratch.path())
        .output()
        .unwrap();
    assert_fails(&refused, 2, "num.partitions");
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
}
