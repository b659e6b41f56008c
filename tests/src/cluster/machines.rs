//! A network for each broker, and a disk for one of them: what machines of their own would have.
//!
//! A process that only sleeps holds the namespaces of each broker, so that nothing is left behind when it
//! is gone, whatever becomes of the test: the networks' ends go with it, and so does the mounted disk. The
//! bridge between them is removed when this is dropped, or by the next test that comes here.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::sawlog;

/// A test that was killed leaves nothing for longer than this.
const HOLD_SECONDS_MAX: &str = "14400";

/// What is waited for here takes milliseconds.
const WAIT_MAX: Duration = Duration::from_secs(10);

const DISK_BYTES: u64 = 12 << 30;

/// Which packets a broker does not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What `from` sends to `to`.
    OneWay,
    /// What either of them sends to the other.
    Both,
}

/// The machines of brokers 1 to their number.
#[derive(Debug)]
pub struct Machines {
    bridge: String,
    subnet: u8,
    holders: Vec<Child>,
    disk: Option<TempDir>,
}

impl Machines {
    /// Machines for `count` brokers, of which the last has a disk of its own.
    ///
    /// # Errors
    /// If this machine does not have or does not allow what it takes; says what.
    pub fn make(count: i32) -> Result<Machines, String> {
        remove_leftovers();
        let (bridge, subnet) = make_bridge()?;
        let mut machines = Machines { bridge, subnet, holders: Vec::new(), disk: None };
        for id in 1..=count {
            machines.add(id)?;
        }
        machines.mount(count)?;
        Ok(machines)
    }

    fn add(&mut self, id: i32) -> Result<(), String> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--mount", "--", "sleep", HOLD_SECONDS_MAX]);
        let holder =
            unshare.stdin(Stdio::null()).spawn().map_err(|why| format!("unshare: {why}"))?;
        let pid = holder.id();
        self.holders.push(holder);
        let is_apart = || {
            let network = |of: &str| fs::read_link(format!("/proc/{of}/ns/net")).ok();
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim() == "sleep" && network(&pid.to_string()) != network("self")
        };
        let deadline = Instant::now() + WAIT_MAX;
        while !is_apart() {
            if Instant::now() > deadline {
                return Err("unshare --net --mount gives no namespace".to_owned());
            }
            thread::sleep(Duration::from_millis(2));
        }
        let (bridge, end, pid) = (&self.bridge, format!("{}-{id}", self.bridge), pid.to_string());
        run(ip(&["link", "add", &end, "type", "veth", "peer", "name", "eth0", "netns", &pid]))?;
        run(ip(&["link", "set", &end, "master", bridge, "up"]))?;
        let address = format!("{}/24", self.address(id));
        run(self.inside(id, "ip").args(["addr", "add", &address, "dev", "eth0"]))?;
        run(self.inside(id, "ip").args(["link", "set", "eth0", "up"]))?;
        run(self.inside(id, "ip").args(["link", "set", "lo", "up"]))?;
        // Whether there is such a thing at all.
        run(self.inside(id, "iptables").args(["-w", "-F", "INPUT"]))
    }

    /// A disk that is not the machine's: a file with a file system in it.
    fn mount(&mut self, id: i32) -> Result<(), String> {
        let directory = TempDir::new().map_err(|why| why.to_string())?;
        let (image, mounted) = (directory.path().join("image"), directory.path().join("mounted"));
        let made = File::create(&image).and_then(|file| file.set_len(DISK_BYTES));
        made.and_then(|()| fs::create_dir(&mounted)).map_err(|why| why.to_string())?;
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image))?;
        run(self.inside(id, "mount").args(["-o", "loop"]).args([&image, &mounted]))?;
        self.disk = Some(directory);
        Ok(())
    }

    /// The broker with a disk of its own.
    pub fn with_disk(&self) -> i32 {
        i32::try_from(self.holders.len()).expect("few")
    }

    /// Where the disk of a broker is for that broker, if it has one.
    pub(super) fn own_disk(&self, id: i32) -> Option<PathBuf> {
        let disk = self.disk.as_ref().filter(|_| id == self.with_disk())?;
        Some(disk.path().join("mounted"))
    }

    /// Where it is for everybody else.
    pub(super) fn disk_of(&self, id: i32) -> Option<PathBuf> {
        let inside = self.own_disk(id)?;
        let root = PathBuf::from(format!("/proc/{}/root", self.pid(id)));
        Some(root.join(inside.strip_prefix("/").unwrap_or(&inside)))
    }

    /// The address of a broker.
    pub fn address(&self, id: i32) -> IpAddr {
        let host = u8::try_from(10 + id).expect("few");
        // For benchmarks of networks (RFC 2544): nobody has it.
        IpAddr::V4(Ipv4Addr::new(198, 18, self.subnet, host))
    }

    /// The broker's program, on the broker's machine.
    pub(super) fn command(&self, id: i32) -> Command {
        let mut command = self.enter(id);
        command.arg(sawlog());
        command
    }

    fn pid(&self, id: i32) -> u32 {
        self.holders[usize::try_from(id - 1).expect("from 1")].id()
    }

    fn enter(&self, id: i32) -> Command {
        let mut command = Command::new("nsenter");
        let namespace = |kind: &str| format!("/proc/{}/ns/{kind}", self.pid(id));
        command.arg(format!("--net={}", namespace("net")));
        command.arg(format!("--mount={}", namespace("mnt"))).arg("--");
        command
    }

    fn inside(&self, id: i32, program: &str) -> Command {
        let mut command = self.enter(id);
        command.arg(program);
        command
    }

    /// Packets from one broker to another are lost, without a word. Clients are not concerned.
    pub fn cut(&self, from: i32, to: i32, direction: Direction) {
        self.drop_from(from, to);
        if direction == Direction::Both {
            self.drop_from(to, from);
        }
    }

    fn drop_from(&self, from: i32, to: i32) {
        let from = self.address(from).to_string();
        must(self.inside(to, "iptables").args(["-w", "-A", "INPUT", "-s", &from, "-j", "DROP"]));
    }

    /// This share of all packets to a broker is lost.
    pub fn lose(&self, id: i32, share: f64) {
        let mut iptables = self.inside(id, "iptables");
        iptables.args(["-w", "-A", "INPUT", "-m", "statistic", "--mode", "random"]);
        must(iptables.args(["--probability", &share.to_string(), "-j", "DROP"]));
    }

    /// A broker sends no more than this.
    pub fn narrow(&self, id: i32, kilobits: u32) {
        let rate = format!("{kilobits}kbit");
        let mut tc = self.inside(id, "tc");
        tc.args(["qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", &rate]);
        must(tc.args(["burst", "16kb", "latency", "500ms"]));
    }

    /// All connections of a broker are reset.
    pub fn reset_connections(&self, id: i32) {
        // It says that it cannot for those that are closed already.
        let _some = run(self.inside(id, "ss").args(["-K", "-t"]));
    }

    /// Takes back what was done to a broker's network.
    pub fn mend(&self, id: i32) {
        must(self.inside(id, "iptables").args(["-w", "-F", "INPUT"]));
        // Fails where nothing was narrowed.
        let _some = run(self.inside(id, "tc").args(["qdisc", "del", "dev", "eth0", "root"]));
    }

    /// The disk has no room any more.
    pub fn fill_disk(&self) -> Result<(), String> {
        let id = self.with_disk();
        let disk = self.own_disk(id).ok_or("no disk of its own")?;
        let output = self.inside(id, "df").args(["-B1", "--output=avail"]).arg(&disk).output();
        let output = output.map_err(|why| why.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let free = text.split_whitespace().last().unwrap_or_default();
        let filler = disk.join("filler");
        // The broker takes some of it meanwhile: what is left then is filled below.
        let _most = run(self.inside(id, "fallocate").args(["-l", free]).arg(&filler));
        let more = File::options().create(true).append(true).open(self.seen_from_here(&filler));
        let mut more = more.map_err(|why| why.to_string())?;
        while more.write_all(&[1; 4096]).is_ok() {}
        Ok(())
    }

    /// It has room again.
    pub fn empty_disk(&self) {
        if let Some(disk) = self.own_disk(self.with_disk()) {
            // Not there is fine.
            let _gone = fs::remove_file(self.seen_from_here(&disk.join("filler")));
        }
    }

    fn seen_from_here(&self, inside: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.pid(self.with_disk())));
        root.join(inside.strip_prefix("/").unwrap_or(inside))
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for holder in &mut self.holders {
            let _gone = holder.kill();
            let _gone = holder.wait();
        }
        let _gone = run(ip(&["link", "del", &self.bridge]));
    }
}

/// The bridges of tests that did not end by themselves.
fn remove_leftovers() {
    let Ok(links) = fs::read_dir("/sys/class/net") else { return };
    for link in links.flatten() {
        let Ok(name) = link.file_name().into_string() else { continue };
        if !name.starts_with(NAME) || name.contains('-') {
            continue;
        }
        let alias = fs::read_to_string(link.path().join("ifalias")).unwrap_or_default();
        let owner: Option<u32> = alias.trim().parse().ok();
        // One that is being made has no owner yet: it is left alone.
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _gone = run(ip(&["link", "del", &name]));
        }
    }
}

const NAME: &str = "sawlog";

/// Whoever makes the bridge has the subnet.
fn make_bridge() -> Result<(String, u8), String> {
    let start = u8::try_from(std::process::id() % 200).expect("below 256");
    let mut why = String::new();
    for subnet in start..=start + 50 {
        let name = format!("{NAME}{subnet}");
        match run(ip(&["link", "add", &name, "type", "bridge"])) {
            Ok(()) => {
                run(ip(&["link", "set", &name, "alias", &std::process::id().to_string()]))?;
                run(ip(&["addr", "add", &format!("198.18.{subnet}.1/24"), "dev", &name]))?;
                run(ip(&["link", "set", &name, "up"]))?;
                return Ok((name, subnet));
            }
            Err(error) => why = error,
        }
    }
    Err(why)
}

fn ip(arguments: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(arguments);
    command
}

fn must(command: &mut Command) {
    if let Err(why) = run(command) {
        panic!("{why}");
    }
}

fn run(mut command: impl std::borrow::BorrowMut<Command>) -> Result<(), String> {
    let command = command.borrow_mut();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {said}")) }
}
