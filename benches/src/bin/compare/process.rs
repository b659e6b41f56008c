//! Processor time and memory of processes and of the machine, from `/proc`.

use std::fs;
use std::time::{Duration, Instant};

use crate::Failure;

/// Clock ticks a second in `/proc`; 100 on every Linux a user meets (`getconf CLK_TCK`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Below this share of a core a broker counts as settled.
const SETTLED_SHARE: f64 = 0.05;
const SETTLE_STEP: Duration = Duration::from_millis(400);
const SETTLE_DEADLINE: Duration = Duration::from_secs(6);

/// A process to look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

/// Memory of a process in MiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Resident, with the pages of mapped files.
    pub(crate) resident: f64,
    /// Resident without the pages of files: what the process itself holds.
    pub(crate) anonymous: f64,
    /// The most that was ever resident.
    pub(crate) peak: f64,
}

/// Processor time of the whole machine so far, in seconds over all cores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub(crate) busy: f64,
    pub(crate) stolen: f64,
    pub(crate) total: f64,
}

impl Process {
    pub(crate) fn this() -> Self {
        Self(std::process::id())
    }

    /// User and system time of all its threads, ended ones included, in seconds.
    pub(crate) fn cpu_seconds(self) -> Result<f64, Failure> {
        Ok(self.stat_seconds(11)? + self.stat_seconds(12)?)
    }

    /// The same of its children that were waited for.
    pub(crate) fn children_cpu_seconds(self) -> Result<f64, Failure> {
        Ok(self.stat_seconds(13)? + self.stat_seconds(14)?)
    }

    /// Field `at` of `/proc/PID/stat`, counted from behind the name, in seconds.
    fn stat_seconds(self, at: usize) -> Result<f64, Failure> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        // The name may hold spaces and brackets; what follows its last bracket does not.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = fields.split_whitespace().nth(at).and_then(|text| text.parse::<f64>().ok());
        Ok(ticks.ok_or("no processor time in /proc")? / TICKS_PER_SECOND)
    }

    pub(crate) fn memory(self) -> Result<Memory, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let mib = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
            kib.map(|kib| kib / 1024.0).ok_or(format!("no {field} in /proc/PID/status"))
        };
        Ok(Memory { resident: mib("VmRSS:")?, anonymous: mib("RssAnon:")?, peak: mib("VmHWM:")? })
    }

    /// Waits until the background work of the last load is over, within a bound.
    pub(crate) fn settle(self) -> Result<(), Failure> {
        let deadline = Instant::now() + SETTLE_DEADLINE;
        let mut before = self.cpu_seconds()?;
        while Instant::now() < deadline {
            std::thread::sleep(SETTLE_STEP);
            let now = self.cpu_seconds()?;
            if now - before <= SETTLED_SHARE * SETTLE_STEP.as_secs_f64() {
                return Ok(());
            }
            before = now;
        }
        Ok(())
    }
}

impl Machine {
    pub(crate) fn now() -> Result<Self, Failure> {
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu "));
        let ticks: Vec<f64> = line
            .unwrap_or("")
            .split_whitespace()
            .map_while(|text| text.parse::<f64>().ok())
            .map(|ticks| ticks / TICKS_PER_SECOND)
            .collect();
        // user nice system idle iowait irq softirq steal; guest times are part of user already.
        let [user, nice, system, idle, iowait, irq, softirq, stolen, ..] = ticks[..] else {
            return Err("no processor times in /proc/stat".into());
        };
        let busy = user + nice + system + irq + softirq;
        Ok(Self { busy, stolen, total: busy + idle + iowait + stolen })
    }
}

/// The load averages of the last 1, 5 and 15 minutes.
pub(crate) fn load_averages() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Kernel, processor and core count, in one line.
pub(crate) fn machine_name() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}
