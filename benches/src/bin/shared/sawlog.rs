//! A broker of a benchmark's own: started, stopped, killed.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;

/// Longest wait for a start or a stop.
const DEADLINE: Duration = Duration::from_secs(120);

/// A broker process; killed when dropped.
pub(crate) struct Sawlog {
    child: Child,
    pub(crate) address: String,
    /// When the process was made, and how long it took to say that it listens.
    pub(crate) begun: Instant,
    pub(crate) started: Duration,
}

impl Sawlog {
    /// Starts `program` with its data below `data`, on a free port.
    pub(crate) fn start(program: &Path, data: &Path, settings: &[String]) -> Result<Self, Failure> {
        let begun = Instant::now();
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data.join("data"));
        for setting in settings {
            command.args(["-X", setting]);
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut said = BufReader::new(child.stderr.take().ok_or("no standard error")?);
        let mut line = String::new();
        let address = loop {
            line.clear();
            if said.read_line(&mut line)? == 0 || begun.elapsed() > DEADLINE {
                return Err(format!("the broker did not start: {line}").into());
            }
            if let Some((_, address)) = line.split_once("is listening on ") {
                break address.trim().to_owned();
            }
        };
        let started = begun.elapsed();
        // What it says later is of no interest, but has to go somewhere.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Ok(Self { child, address, begun, started })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal` (`-TERM`, `-KILL`) and waits for the end.
    pub(crate) fn stop(mut self, signal: &str) -> Result<(), Failure> {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status()?;
        if !sent.success() {
            return Err("kill failed".into());
        }
        let deadline = Instant::now() + DEADLINE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err("the broker does not stop".into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Sawlog {
    fn drop(&mut self) {
        // Already gone is fine.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
