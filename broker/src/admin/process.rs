//! What the operating system knows of this process, under the names every exporter uses.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::metrics::{Kind, Page};

/// Clock ticks of `/proc` in a second: fixed by the kernel's interface to programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Adds processor time, memory, descriptors and the time of the start; what cannot be read is left
/// out.
pub(super) fn describe(page: &mut Page) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some(stat) = Stat::parse(&stat) {
        let help = "User and system processor time.";
        page.single("process_cpu_seconds_total", Kind::Counter, help, stat.cpu_seconds);
        let help = "Memory of this process that is in RAM.";
        page.single("process_resident_memory_bytes", Kind::Gauge, help, stat.resident_bytes);
        page.single("process_threads", Kind::Gauge, "Threads.", stat.threads);
        if let Some(start) = started(stat.started_seconds) {
            let help = "When this process started, in seconds since 1970.";
            page.single("process_start_time_seconds", Kind::Gauge, help, start);
        }
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // One of them is the directory that is being read.
        let open = open.count().saturating_sub(1);
        page.single("process_open_fds", Kind::Gauge, "Open descriptors.", open);
    }
    if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        page.single("process_max_fds", Kind::Gauge, "Descriptors it may have.", most);
    }
}

/// What is used of `/proc/self/stat`.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: u64,
    /// After the machine's start.
    started_seconds: f64,
    resident_bytes: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name of the program may hold anything, but ends with the last parenthesis.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // The first of them is number 3 of proc(5).
        let field = |number: usize| fields.get(number.checked_sub(3)?);
        let ticks = |number| field(number)?.parse::<f64>().ok();
        let whole = |number| field(number)?.parse::<u64>().ok();
        let page_bytes = u64::try_from(rustix::param::page_size()).ok()?;
        Some(Self {
            cpu_seconds: (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND,
            threads: whole(20)?,
            started_seconds: ticks(22)? / TICKS_PER_SECOND,
            resident_bytes: whole(24)?.saturating_mul(page_bytes),
        })
    }
}

/// Seconds since 1970 of a moment in seconds since the machine's start.
fn started(after_boot: f64) -> Option<f64> {
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    Some((now - uptime + after_boot).round())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_be_called_anything() {
        let text =
            "7 (a) S (b) R 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 12345 1000 25 18";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.cpu_seconds, stat.threads, stat.started_seconds), (3.0, 9, 123.45));
        assert_eq!(stat.resident_bytes % 25, 0);
        for broken in ["", ")", "7 (a) S", "7 (a) S 1 2 3 x y z"] {
            assert_eq!(Stat::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn this_very_process_is_described() {
        let mut page = Page::default();
        describe(&mut page);
        let text = page.into_text();
        for name in ["process_cpu_seconds_total ", "process_open_fds ", "process_max_fds "] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name}: {text}");
        }
    }
}
