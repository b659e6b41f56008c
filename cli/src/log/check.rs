//! `sawlog log verify` and `sawlog log repair-index`: a data directory looked at from outside.

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sawlog_broker::base::disk::{DirLock, Disk};
use sawlog_broker::base::disk_real::RealDisk;
use sawlog_broker::base::{Clock as _, SystemClock};
use sawlog_broker::storage::{InUse, log_bytes, repair_index as repair, verify_log};

use crate::failure::{Failure, Kind, say};
use crate::output::Output;

/// What takes less shows no progress.
const QUIET: Duration = Duration::from_millis(500);

/// Between two drawings of the bar.
const REDRAW: Duration = Duration::from_millis(100);

const BAR_WIDTH: usize = 30;

pub(super) fn verify(directory: &Path) -> Result<(), Failure> {
    let target = Target::find(directory)?;
    let (in_use, _lock) = match target.lock() {
        Ok(lock) => (InUse::No, lock),
        Err(error) if error.kind() == ErrorKind::WouldBlock => (InUse::Yes, None),
        // Nothing can be written there, by no broker either.
        Err(_) => (InUse::No, None),
    };
    let mut bar = Bar::new(target.bytes());
    let (mut segments, mut batches, mut bytes) = (0, 0, 0);
    let mut lines = Vec::new();
    for log in &target.logs {
        match verify_log(&target.disk, log, in_use, &mut |read| bar.add(read)) {
            Ok(found) => {
                segments += found.segments;
                batches += found.batches;
                bytes += found.bytes;
                lines.extend(found.problems.iter().map(ToString::to_string));
                bar.clear();
                found.notes.iter().for_each(|note| say(format!("note: {note}")));
            }
            Err(error) => lines.push(format!("{}: {error}", log.display())),
        }
    }
    bar.clear();
    if in_use == InUse::Yes {
        say("note: a broker runs on this directory: what it is writing was not read");
    }
    print(&lines)?;
    if !lines.is_empty() {
        return Err(Failure::failed(format!("{} found", counted(lines.len(), "problem"))));
    }
    say(format!(
        "ok: {} in {} of {}, {bytes} bytes",
        counted(batches, "batch"),
        counted(segments, "segment"),
        counted(target.logs.len(), "partition")
    ));
    Ok(())
}

pub(super) fn repair_index(directory: &Path) -> Result<(), Failure> {
    let target = Target::find(directory)?;
    let _lock = target.lock().map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => Failure::new(
            Kind::Precondition,
            format!("a broker runs on {}: stop it first", directory.display()),
        ),
        _ => Failure::failed(format!("cannot lock {}: {error}", directory.display())),
    })?;
    let now = SystemClock::new().now();
    let mut bar = Bar::new(target.bytes());
    let (mut lines, mut problems) = (Vec::new(), 0);
    for log in &target.logs {
        match repair(&target.disk, log, now, &mut |read| bar.add(read)) {
            Ok(repaired) => {
                lines
                    .extend(repaired.rebuilt.iter().map(|at| format!("rebuilt: {}", at.display())));
                lines.extend(repaired.problems.iter().map(ToString::to_string));
                problems += repaired.problems.len();
            }
            Err(error) => {
                lines.push(format!("{}: {error}", log.display()));
                problems += 1;
            }
        }
    }
    bar.clear();
    print(&lines)?;
    if problems > 0 {
        let left = counted(problems, "problem");
        return Err(Failure::new(Kind::Partial, format!("{left} could not be mended")));
    }
    if lines.is_empty() {
        say("ok: no index file needed repair");
    }
    Ok(())
}

fn counted(count: impl TryInto<u64>, what: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    let ending = match what {
        _ if count == 1 => "",
        "batch" => "es",
        _ => "s",
    };
    format!("{count} {what}{ending}")
}

fn print(lines: &[String]) -> Result<(), Failure> {
    if lines.is_empty() {
        return Ok(());
    }
    Output::write(format!("{}\n", lines.join("\n")).as_bytes())
}

/// What a command was pointed at.
struct Target {
    disk: Arc<dyn Disk>,
    /// The directories of partitions.
    logs: Vec<PathBuf>,
    /// The data directory they are in, if they are in one.
    data: Option<PathBuf>,
}

impl Target {
    fn find(directory: &Path) -> Result<Self, Failure> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new());
        let list = |at: &Path| {
            disk.list(at).map_err(|error| match error.kind() {
                ErrorKind::NotFound => {
                    Failure::not_found(format!("no file or directory {}", at.display()))
                }
                _ => Failure::failed(format!("cannot read {}: {error}", at.display())),
            })
        };
        let is_log = |name: &String| name.ends_with(".log") || name.starts_with("checkpoint-");
        let names = list(directory)?;
        let topics = directory.join("topics");
        let logs: Vec<PathBuf> = if names.iter().any(is_log) {
            vec![directory.to_owned()]
        } else if disk.exists(&topics) {
            let names = list(&topics)?.into_iter().filter(|name| !name.ends_with(".deleted"));
            names.map(|name| topics.join(name)).filter(|path| path.is_dir()).collect()
        } else {
            let what = "neither a partition's directory nor a data directory";
            return Err(Failure::not_found(format!("{} is {what}", directory.display())));
        };
        // A partition is two levels below its data directory; a copy of one is in none.
        let absolute = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
        let data = absolute.ancestors().take(3).find(|up| up.join("meta").is_file());
        let data = data.map(Path::to_owned);
        Ok(Self { disk, logs, data })
    }

    fn lock(&self) -> std::io::Result<Option<Box<dyn DirLock>>> {
        self.data.as_ref().map(|data| self.disk.lock(data)).transpose()
    }

    fn bytes(&self) -> u64 {
        self.logs.iter().filter_map(|log| log_bytes(&*self.disk, log).ok()).sum()
    }
}

/// How far a command has come, on a terminal, once it takes long.
struct Bar {
    total: u64,
    done: u64,
    drawn: bool,
    due: Instant,
    shown: bool,
}

impl Bar {
    fn new(total: u64) -> Self {
        let shown = std::io::stderr().is_terminal();
        Self { total, done: 0, drawn: false, due: Instant::now() + QUIET, shown }
    }

    fn add(&mut self, bytes: u64) {
        self.done += bytes;
        if !self.shown || Instant::now() < self.due {
            return;
        }
        self.due = Instant::now() + REDRAW;
        self.drawn = true;
        self.put(&line(self.done, self.total));
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            self.put(&format!("\r{:BAR_WIDTH$}{:40}\r", "", ""));
        }
    }

    fn put(&self, text: &str) {
        let mut out = std::io::stderr().lock();
        // With standard error gone there is nobody to tell.
        let _gone = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

fn line(done: u64, total: u64) -> String {
    let percent = (done.saturating_mul(100) / total.max(1)).min(100);
    let filled = usize::try_from(percent).unwrap_or(0) * BAR_WIDTH / 100;
    let (done, total) = (done / 1_000_000, total / 1_000_000);
    let bar = "#".repeat(filled);
    format!("\r[{bar:<BAR_WIDTH$}] {percent:3} %  {done} of {total} MB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_as_full_as_the_work_is_done() {
        assert_eq!(line(0, 0), format!("\r[{:30}]   0 %  0 of 0 MB", ""));
        let half = "#".repeat(15);
        assert_eq!(line(50_000_000, 100_000_000), format!("\r[{half:30}]  50 %  50 of 100 MB"));
        assert!(line(9, 3).contains("100 %"), "never more than all");
    }

    #[test]
    fn counts_are_told_as_people_say_them() {
        assert_eq!(counted(1_usize, "problem"), "1 problem");
        assert_eq!(counted(0_usize, "batch"), "0 batches");
        assert_eq!(counted(2_usize, "segment"), "2 segments");
    }
}
