//! Runs a client's program to its end, with a deadline.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Far above what any program takes, far below what a stuck one would.
const RUN_TIME_MAX: Duration = Duration::from_secs(300);

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// Runs the command; its output goes through files in `scratch`, so that no pipe can fill up.
pub(crate) fn run(mut command: Command, scratch: &Path) -> Ended {
    let (out, err) = (scratch.join("stdout"), scratch.join("stderr"));
    command.stdin(Stdio::null());
    command.stdout(File::create(&out).expect("a file")).stderr(File::create(&err).expect("a file"));
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let deadline = Instant::now() + RUN_TIME_MAX;
    let status = loop {
        if let Some(status) = child.try_wait().expect("our child can be waited for") {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().expect("our child can be killed");
            break child.wait().expect("a killed child ends");
        }
        thread::sleep(Duration::from_millis(20));
    };
    let stderr = String::from_utf8_lossy(&fs::read(&err).expect("just written")).into_owned();
    Ended { status, stdout: fs::read(&out).expect("just written"), stderr }
}

/// As [`run`], and the program must succeed.
pub(crate) fn run_ok(command: Command, scratch: &Path) -> Vec<u8> {
    let shown = format!("{command:?}");
    let ended = run(command, scratch);
    assert!(ended.status.success(), "{shown}: {}\n{}", ended.status, ended.stderr);
    ended.stdout
}
