//! Faults at chosen system calls of a running broker, injected by strace.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// strace attached to a process. Detached when dropped.
#[derive(Debug)]
pub(crate) struct Strace {
    child: Child,
    said: PathBuf,
    _scratch: tempfile::TempDir,
}

/// Whether strace can attach to processes here, or why not.
pub(crate) fn check() -> Result<(), String> {
    let mut sleeping = Command::new("sleep").arg("60").spawn().unwrap();
    let attached = Strace::attach(sleeping.id(), "fdatasync:error=EIO");
    sleeping.kill().unwrap();
    sleeping.wait().unwrap();
    attached.map(|_| ()).map_err(|why| format!("strace cannot be used here: {why}"))
}

impl Strace {
    /// Attaches to all threads of `pid`, present and future. `inject` is as for `-e inject=`, such
    /// as `fdatasync:signal=KILL:when=3`; calls are counted from now on, for each thread.
    pub(crate) fn attach(pid: u32, inject: &str) -> Result<Self, String> {
        Self::attach_at(pid, inject, None)
    }

    /// The same, for calls on one file alone.
    pub(crate) fn attach_at(pid: u32, inject: &str, file: Option<&Path>) -> Result<Self, String> {
        let scratch = tempfile::tempdir().unwrap();
        let said = scratch.path().join("said");
        let mut strace = Command::new("strace");
        if let Some(file) = file {
            strace.arg("-P").arg(file);
        }
        let child = strace
            .args(["-f", "-p", &pid.to_string(), "-o", "/dev/null", "-e"])
            .arg(format!("trace={}", inject.split(':').next().unwrap_or_default()))
            .args(["-e", &format!("inject={inject}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&said).unwrap())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut strace = Self { child, said, _scratch: scratch };
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let words = std::fs::read_to_string(&strace.said).unwrap();
            if words.contains("attached") && !words.contains("attach:") {
                return Ok(strace);
            }
            if strace.child.try_wait().unwrap().is_some() || Instant::now() > deadline {
                return Err(words);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Interrupted, it lets the process go on; killed, it might leave it stopped.
        let told = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        if told.is_err() {
            let _gone = self.child.kill();
        }
        let _gone = self.child.wait();
    }
}
