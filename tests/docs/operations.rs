//! `docs/operations.md`: every procedure, run as it is written, with real processes and under load.
//!
//! Only what a page cannot know is filled in: addresses are this test's own, `PID` is the process of the
//! broker the procedure is about.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::guide::Guide;
use crate::root;

/// Longest wait for what a cluster does by itself. Only a broken one takes that long.
const DEADLINE: Duration = Duration::from_secs(90);

/// Between two looks at what is waited for, and between two records.
const PAUSE: Duration = Duration::from_millis(20);

/// A machine with a shell, and the brokers started on it.
struct Machine {
    directory: TempDir,
    /// What stands for `127.0.0.` of the page.
    network: String,
    /// By data directory, `d1` and so on.
    brokers: BTreeMap<String, Child>,
    run: HashSet<String>,
}

impl Machine {
    fn new() -> Self {
        let directory = TempDir::new().expect("a scratch directory");
        let [.., high, low] = std::process::id().to_be_bytes();
        let network = format!("127.{}.{low}.", high.max(1));
        Self { directory, network, brokers: BTreeMap::new(), run: HashSet::new() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A command of a shell in the scratch directory.
    fn shell(&self, line: &str) -> Command {
        let binaries = sawlog_tests::sawlog().parent().expect("a file is in a directory");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(PathBuf::from(binaries)).chain(std::env::split_paths(&path));
        let hosts: Vec<String> = (1..=5).map(|n| format!("{}{n}:9092", self.network)).collect();
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(self.path()).stdin(Stdio::null());
        command.env("PATH", std::env::join_paths(all).expect("no colon in a directory's name"));
        command.env("SAWLOG_BROKERS", hosts.join(","));
        command.env("SAWLOG_HTTP", format!("{}1:9644", self.network));
        command
    }

    /// Runs commands that have to succeed. `about` is the data directory of the broker they are about.
    fn run(&mut self, block: &[String], about: &str) {
        for line in block {
            self.run.insert(line.clone());
            self.line(line, about);
        }
    }

    fn line(&mut self, line: &str, about: &str) {
        let line = line.replace("127.0.0.", &self.network);
        if line.starts_with("sawlog serve ") {
            self.serve(&line);
        } else if line == "sawlog dev --nodes 3" {
            self.dev(&line);
        } else if line == "kill -TERM PID" {
            let mut broker = self.brokers.remove(about).expect("a broker that runs");
            let line = line.replace("PID", &broker.id().to_string());
            assert!(self.shell(&line).status().expect("a shell runs").success());
            let ended = broker.wait().expect("our child ends");
            assert!(ended.success(), "{about}: {ended}\n{}", self.said(about));
        } else {
            let output = self.shell(&line).output().expect("a shell runs");
            assert!(output.status.success(), "$ {line}\n{}", shown(&output));
        }
    }

    /// Starts a broker and waits until it has greeted.
    fn serve(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let data = words.iter().position(|word| *word == "--data").map(|at| words[at + 1]);
        let data = data.expect("a broker has a data directory");
        assert!(!self.brokers.contains_key(data), "{data} runs already");
        self.start(line, data, "  next ");
    }

    /// A cluster for a try, until Ctrl-C.
    fn dev(&mut self, line: &str) {
        self.start(line, "dev", "Ctrl-C ends it");
        let said = self.said("dev");
        assert_eq!(said.lines().filter(|line| line.starts_with("  node ")).count(), 3, "{said}");
        let mut process = self.brokers.remove("dev").expect("it was just started");
        assert!(self.shell(&format!("kill -INT {}", process.id())).status().unwrap().success());
        assert!(process.wait().expect("our child ends").success());
    }

    /// Starts a program that goes on, and waits until it has said `text`. It ends with the machine.
    fn start(&mut self, line: &str, name: &str, text: &str) {
        let log = File::create(self.path().join(format!("{name}.log"))).expect("a file");
        // Not a shell's child, but in its place: a signal is for the program itself.
        let mut command = self.shell(&format!("exec {line}"));
        let process = command.stdout(Stdio::null()).stderr(log).spawn().expect("a shell runs");
        self.brokers.insert(name.to_owned(), process);
        let deadline = Instant::now() + DEADLINE;
        // A greeting is said line by line.
        while !format!("\n{}", self.said(name)).contains(text) {
            let process = self.brokers.get_mut(name).expect("it was just started");
            let ended = process.try_wait().expect("our child can be asked");
            let over = ended.is_some() || Instant::now() > deadline;
            assert!(!over, "{name} says no {text:?} ({ended:?}):\n{}", self.said(name));
            thread::sleep(PAUSE);
        }
    }

    fn said(&self, log: &str) -> String {
        fs::read_to_string(self.path().join(format!("{log}.log"))).unwrap_or_default()
    }

    fn kill(&mut self, data: &str) {
        let mut broker = self.brokers.remove(data).expect("a broker that runs");
        broker.kill().expect("our child can be killed");
        broker.wait().expect("our child ends");
    }

    /// Waits until a command ends with this code, and prints this text.
    fn until(&self, line: &str, code: i32, text: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let output = self.shell(line).output().expect("a shell runs");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.code() == Some(code) && said.contains(text) {
                return said;
            }
            assert!(Instant::now() < deadline, "$ {line}: no {text:?}\n{}", shown(&output));
            thread::sleep(PAUSE);
        }
    }

    /// Waits until so many brokers vote on the metadata, and have all of it.
    fn until_voters(&self, count: usize) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let said = self.until("sawlog cluster quorum -o jsonl", 0, "voter");
            let all = said.lines().filter(|line| line.contains("\"voter\""));
            if all.filter(|line| line.contains("\"behind\":0")).count() == count {
                return;
            }
            assert!(Instant::now() < deadline, "{count} voters: {said}");
            thread::sleep(PAUSE);
        }
    }

    /// How many replicas a broker has, if it is known.
    fn replicas(&self, broker: &str) -> Option<usize> {
        let rows = self.until("sawlog cluster nodes", 0, "running");
        let row = rows.lines().find(|row| row.split('\t').next() == Some(broker))?;
        row.split('\t').nth(6)?.parse().ok()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for broker in self.brokers.values_mut() {
            // It may have ended by itself.
            let _gone = broker.kill();
            let _gone = broker.wait();
        }
    }
}

fn shown(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// A producer that goes on while brokers come and go.
struct Load {
    stop: Arc<AtomicBool>,
    sending: JoinHandle<(u64, Child)>,
}

impl Load {
    /// `sawlog produce`, which confirms every record or fails.
    fn start(machine: &Machine) -> Load {
        let log = File::create(machine.path().join("load.log")).expect("a file");
        let mut command = machine.shell("exec sawlog produce orders -p 0");
        let mut child = command.stdin(Stdio::piped()).stderr(log).spawn().expect("a shell runs");
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let sending = thread::spawn(move || {
            let mut input = child.stdin.take().expect("it is piped");
            let mut sent = 0;
            while !told.load(Ordering::Relaxed) && writeln!(input, "record {sent}").is_ok() {
                sent += 1;
                thread::sleep(PAUSE);
            }
            (sent, child)
        });
        Load { stop, sending }
    }

    /// All that was sent was confirmed, and is there, in order and once.
    fn check(self, machine: &Machine) {
        self.stop.store(true, Ordering::Relaxed);
        let (sent, mut child) = self.sending.join().expect("the writer does not panic");
        let ended = child.wait().expect("our child ends");
        let said = fs::read_to_string(machine.path().join("load.log")).unwrap_or_default();
        assert!(ended.success(), "{ended}: {said}");
        let mut consume = machine.shell("exec sawlog consume orders -p 0 -o start -e");
        let output = consume.output().expect("a shell runs");
        let read = String::from_utf8_lossy(&output.stdout).into_owned();
        let expected: Vec<String> = (0..sent).map(|number| format!("record {number}")).collect();
        assert_eq!(read.lines().collect::<Vec<_>>(), expected, "{}", shown(&output));
        assert!(sent > 100, "{sent} records are no load");
    }
}

#[test]
fn every_procedure_of_operations_runs_as_it_is_written() {
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let guide = Guide::parse(&page);
    let mut machine = Machine::new();
    machine.run(guide.block("Try it", 0), "");
    let load = grow(&guide, &mut machine);
    restart_each(&guide, &mut machine);
    add_and_take_out(&guide, &mut machine);
    replace_a_disk(&guide, &mut machine);
    load.check(&machine);
    lose_a_majority(&guide, &mut machine);
    elect_uncleanly(&guide, &mut machine);
    lose_a_broker(&guide, &mut machine);
    let mut ran = std::mem::take(&mut machine.run);
    drop(machine);
    ran.extend(secure(&guide));
    // Kafka's own tools are run where they are installed: `compat/tools`.
    let ours = guide.commands().filter(|line| !line.starts_with("kafka-"));
    let left: Vec<_> = ours.filter(|line| !ran.contains(*line)).collect();
    assert!(left.is_empty(), "the page has commands nobody ran: {left:#?}");
}

fn grow(guide: &Guide, machine: &mut Machine) -> Load {
    let heading = "Start one, grow to three";
    let start = guide.block(heading, 0);
    machine.run(&start[..2], "");
    let load = Load::start(machine);
    machine.run(&start[2..], "");
    machine.run(guide.block(heading, 1), "");
    machine.until_voters(3);
    machine.run(guide.block(heading, 2), "");
    assert_eq!(machine.replicas("3"), machine.replicas("1"), "each has its share");
    machine.run(guide.block("Is it well?", 0), "");
    load
}

fn restart_each(guide: &Guide, machine: &mut Machine) {
    let heading = "Stop and start brokers, one after another";
    let block = guide.block(heading, 0).to_vec();
    machine.run(&block, "d2");
    for id in ["1", "3"] {
        let of = |line: &String| {
            line.replace("d2", &format!("d{id}")).replace(".2:", &format!(".{id}:"))
        };
        let block: Vec<String> = block.iter().map(of).collect();
        machine.run(&block, &format!("d{id}"));
    }
    machine.run(guide.block(heading, 1), "");
}

fn add_and_take_out(guide: &Guide, machine: &mut Machine) {
    let heading = "Add a broker";
    (0..3).for_each(|index| machine.run(guide.block(heading, index), ""));
    assert!(machine.replicas("4") > Some(0), "it has its share");
    machine.run(guide.block("Take a broker out", 0), "d4");
    assert_eq!(machine.replicas("4"), None);
    machine.until("sawlog cluster health --wait 60s", 0, "copies\ttrue");
}

fn replace_a_disk(guide: &Guide, machine: &mut Machine) {
    machine.run(guide.block("Replace a disk", 0), "d3");
    machine.until_voters(3);
    assert!(machine.replicas("3") >= Some(6));
}

fn lose_a_majority(guide: &Guide, machine: &mut Machine) {
    let heading = "More than half of the voters are gone";
    machine.kill("d2");
    machine.kill("d3");
    let health = &guide.block(heading, 0)[0];
    machine.run.insert(health.clone());
    machine.until(health, 8, "controller\tfalse");
    let block = guide.block(heading, 1);
    machine.run(&block[..1], "");
    machine.line(&block[0].replace("d2", "d3").replace(".2:", ".3:"), "");
    machine.run(&block[1..], "");
}

/// Partition 3 is left to a broker that knows nothing of what only another one has.
fn elect_uncleanly(guide: &Guide, machine: &mut Machine) {
    machine.line("sawlog cluster move orders:3 --to 2,3", "");
    machine.kill("d3");
    let alone = "sawlog topic describe orders -o jsonl";
    let is_alone = "\"in_sync\":[2]";
    machine.until(alone, 0, is_alone);
    machine.line("echo lost | sawlog produce orders -p 3", "");
    machine.kill("d2");
    machine.line("sawlog serve --data d3 --listen 127.0.0.3:9092 --peer-listen 127.0.0.3:9093", "");
    machine.until("sawlog cluster health", 8, "leaders\tfalse\t1 of");
    machine.run(guide.block("A partition without a leader", 0), "");
    machine.until("sawlog cluster health", 8, "leaders\ttrue");
    machine.line("sawlog serve --data d2 --listen 127.0.0.2:9092 --peer-listen 127.0.0.2:9093", "");
    machine.until("sawlog cluster health --wait 60s", 0, "copies\ttrue");
}

fn lose_a_broker(guide: &Guide, machine: &mut Machine) {
    machine.kill("d3");
    let other = &guide.block("Add a broker", 1)[0];
    machine.line(&other.replace("d4", "d5").replace(".4:", ".5:").replace("id=4", "id=5"), "");
    machine.run(guide.block("A broker that does not come back", 0), "");
    assert_eq!(machine.replicas("3"), None);
    assert!(machine.replicas("5") >= Some(6));
    machine.until("sawlog cluster health --wait 60s", 0, "copies\ttrue");
}

/// A cluster of three that was begun without TLS, and whose certificates are renewed. Returns what was run.
fn secure(guide: &Guide) -> HashSet<String> {
    let mut machine = Machine::new();
    let heading = "TLS between brokers";
    let of = |line: &str, id: i32| {
        line.replace("node1", &format!("node{id}"))
            .replace("node 1", &format!("node {id}"))
            .replace("node/1", &format!("node/{id}"))
            .replace("d1", &format!("d{id}"))
            .replace(".1:", &format!(".{id}:"))
    };
    for line in guide.block("Start one, grow to three", 0) {
        machine.line(line, "");
    }
    machine.until_voters(3);
    for id in 1..=3 {
        machine.line("kill -TERM PID", &format!("d{id}"));
    }
    machine.run(guide.block(heading, 0), "");
    let [issue] = guide.block(heading, 1) else { panic!("one command for one certificate") };
    machine.run(std::slice::from_ref(issue), "");
    (2..=3).for_each(|id| machine.line(&of(issue, id), ""));
    let [serve, health] = guide.block(heading, 2) else { panic!("a start, and a look") };
    // The first one is not ready alone.
    let network = machine.network.clone();
    machine.run.insert(serve.clone());
    machine.start(&serve.replace("127.0.0.", &network), "d1", "");
    (2..=3).for_each(|id| machine.line(&of(serve, id), ""));
    machine.run(std::slice::from_ref(health), "");
    machine.line("sawlog topic describe orders", "");
    for id in 1..=3 {
        let before = certificate_end(&machine, id);
        machine.line(&of(issue, id), "");
        let deadline = Instant::now() + DEADLINE;
        while certificate_end(&machine, id) <= before {
            assert!(Instant::now() < deadline, "{}", machine.said(&format!("d{id}")));
            thread::sleep(PAUSE);
        }
    }
    std::mem::take(&mut machine.run)
}

/// When the certificate ends that a broker uses, in seconds since 1970.
fn certificate_end(machine: &Machine, id: i32) -> f64 {
    let address = format!("{}{id}:9644", machine.network);
    let page = sawlog_tests::http::get(&address, "/metrics");
    page.metric("sawlog_peer_certificate_expiry_timestamp_seconds").expect("a certificate")
}
